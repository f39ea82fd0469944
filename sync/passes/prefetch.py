"""Several readers fetch while one writer writes, with a bounded number of pages between them.

Each reader takes one partition after the other and may be two items ahead of the writer: one
being fetched, one waiting. So a crash costs at most two pages per reader, and memory
does not grow with the catalogue. While items of AHEAD_BYTES wait, none is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Condition, Event, Semaphore, Thread
from time import monotonic
from typing import Generic, NamedTuple, Protocol, TypeVar

from sync.model import Page, Unreadable

Item = Page | Unreadable
P_co = TypeVar("P_co", covariant=True)
P = TypeVar("P")  # what a reader takes: a partition, an interval of SKUs, a source of stock
T = TypeVar("T")  # what it makes of that, one after the other
AHEAD = 2
AHEAD_BYTES = 4 << 20
LET_GO_S = 0.5


class Work(Protocol[P_co]):
    """What readers take, one after the other."""

    def take(self) -> P_co | None:
        """The next one; None when there is none. May wait for it until `close`."""

    def close(self) -> None:
        """From now on there is none."""


class _Listed(Generic[P]):
    """Partitions that are known from the beginning."""

    def __init__(self, partitions: Sequence[P]) -> None:
        self._todo: SimpleQueue[P] = SimpleQueue()
        for partition in partitions:
            self._todo.put(partition)

    def take(self) -> P | None:
        with suppress(Empty):
            return self._todo.get_nowait()
        return None

    def close(self) -> None: ...


class _Read(NamedTuple, Generic[P, T]):
    """What a reader hands over: an item, or why it had to stop."""

    partition: P
    item: T | BaseException
    credit: Semaphore
    size: int = 0


class _Waiting:
    """How many bytes were fetched and are not yet written, of all readers."""

    def __init__(self) -> None:
        self._size = 0
        self._changed = Condition()

    def add(self, size: int) -> None:
        with self._changed:
            self._size += size
            self._changed.notify_all()

    def wait_for_room(self, size: int, closed: Event) -> None:
        """Wait until `size` more bytes have room, and count them; at once when no item waits."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._size or self._size + size <= AHEAD_BYTES or closed.is_set()
            )
            self._size += size


def read_ahead(
    partitions: Sequence[P], read: Callable[[P], Iterator[T]], readers: int
) -> Iterator[tuple[P, T]]:
    """Yield (partition, item) as they arrive; items of one partition keep their order.

    An item counts as written when the caller asks for the next one. The first reader's error is
    raised here, after what was read before it.
    """
    work, readers = _Listed(partitions), min(readers, len(partitions))
    for group in read_ahead_in_groups(work, read, readers, lambda item: False, lambda item: 0):
        yield from group


def read_ahead_in_groups(
    work: Work[P],
    read: Callable[[P], Iterator[T]],
    readers: int,
    is_light: Callable[[T], bool],
    size_of: Callable[[T], int],
) -> Iterator[list[tuple[P, T]]]:
    """As `read_ahead`, with light items that wait already handed over together; others come alone.

    is_light    of an item that takes less to write than a transaction does
    size_of     bytes that an item holds
    """
    done: SimpleQueue[_Read[P, T] | None] = SimpleQueue()
    closed, waiting = Event(), _Waiting()
    turns = [Semaphore(AHEAD) for _ in range(readers)]
    threads = [
        Thread(
            target=_reader,
            args=(work, read, done, credit, closed, waiting, size_of),
            name=f"reader-{n}",
            daemon=True,
        )
        for n, credit in enumerate(turns)
    ]
    for thread in threads:
        thread.start()
    try:
        yield from _arrivals(done, len(turns), is_light, waiting)
    finally:
        closed.set()
        work.close()
        for credit in turns:
            credit.release()  # a reader that waits for its turn sees `closed` instead
        waiting.add(0)
        _let_end(threads)


def _let_end(threads: Sequence[Thread]) -> None:
    """Wait a moment: a thread that still computes while the interpreter goes away can crash it.

    One that waits for the tenant cannot; it gets its answer, or not, and hands it to nobody.
    """
    until = monotonic() + LET_GO_S
    for thread in threads:
        thread.join(max(0.0, until - monotonic()))


def _arrivals(
    done: SimpleQueue[_Read[P, T] | None], running: int, is_light: Callable[[T], bool], waiting: _Waiting
) -> Iterator[list[tuple[P, T]]]:
    group: list[_Read[P, T]] = []
    while running or group:
        try:
            arrived = done.get(block=not group)
        except Empty:
            yield from _handed_over(group, waiting)
            continue
        if arrived is None:
            running -= 1
            continue
        joins = not isinstance(arrived.item, BaseException) and is_light(arrived.item)
        if group and not joins:
            yield from _handed_over(group, waiting)
        if isinstance(arrived.item, BaseException):
            raise arrived.item
        group.append(arrived)
        if not joins:
            yield from _handed_over(group, waiting)


def _handed_over(group: list[_Read[P, T]], waiting: _Waiting) -> Iterator[list[tuple[P, T]]]:
    """The group, once; then its readers may go on, and it is empty."""
    yield [(read.partition, read.item) for read in group if not isinstance(read.item, BaseException)]
    for read in group:
        read.credit.release()
    waiting.add(-sum(read.size for read in group))
    group.clear()


def _reader(
    work: Work[P],
    read: Callable[[P], Iterator[T]],
    done: SimpleQueue[_Read[P, T] | None],
    credit: Semaphore,
    closed: Event,
    waiting: _Waiting,
    size_of: Callable[[T], int],
) -> None:
    size = 0  # of the last item: the next is expected to be as large
    while not closed.is_set() and (partition := work.take()) is not None:
        try:
            items = read(partition)
            while (item := _next(items, credit, closed, waiting, size)) is not None:
                expected, size = size, size_of(item)
                waiting.add(size - expected)
                done.put(_Read(partition, item, credit, size))
                del item
        except BaseException as error:  # noqa: BLE001 - raised again in the writer's thread
            done.put(_Read(partition, error, credit))
            return
    done.put(None)


def _next(items: Iterator[T], credit: Semaphore, closed: Event, waiting: _Waiting, expected: int) -> T | None:
    """The next item, fetched once the reader is not too far ahead of the writer; None at the end.

    expected    its bytes, which are counted as waiting
    """
    credit.acquire()
    waiting.wait_for_room(expected, closed)
    item = None if closed.is_set() else next(items, None)
    if item is None:
        credit.release()
        waiting.add(-expected)
    return item
