"""Several readers fetch while one writer writes, with a bounded number of pages between them.

Each reader takes one partition after the other and may be two items ahead of the writer: one
being fetched, one waiting. So a crash costs at most two pages per reader, and memory
does not grow with the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Semaphore, Thread
from time import monotonic
from typing import Generic, NamedTuple, TypeVar

from sync.model import Page, Unreadable

Item = Page | Unreadable
P = TypeVar("P")  # what a reader takes: a partition, an interval of SKUs, a source of stock
T = TypeVar("T")  # what it makes of that, one after the other
AHEAD = 2
LET_GO_S = 0.5


class _Read(NamedTuple, Generic[P, T]):
    """What a reader hands over: an item, or why it had to stop."""

    partition: P
    item: T | BaseException
    credit: Semaphore


def read_ahead(
    partitions: Sequence[P], read: Callable[[P], Iterator[T]], readers: int
) -> Iterator[tuple[P, T]]:
    """Yield (partition, item) as they arrive; items of one partition keep their order.

    An item counts as written when the caller asks for the next one. The first reader's error is
    raised here, after what was read before it.
    """
    for group in read_ahead_in_groups(partitions, read, readers, lambda item: False):
        yield from group


def read_ahead_in_groups(
    partitions: Sequence[P], read: Callable[[P], Iterator[T]], readers: int, is_light: Callable[[T], bool]
) -> Iterator[list[tuple[P, T]]]:
    """As `read_ahead`, with light items that wait already handed over together; others come alone.

    is_light    of an item that takes less to write than a transaction does
    """
    todo: SimpleQueue[P] = SimpleQueue()
    for partition in partitions:
        todo.put(partition)
    done: SimpleQueue[_Read[P, T] | None] = SimpleQueue()
    closed = Event()
    turns = [Semaphore(AHEAD) for _ in range(min(readers, len(partitions)))]
    threads = [
        Thread(target=_reader, args=(todo, read, done, credit, closed), name=f"reader-{n}", daemon=True)
        for n, credit in enumerate(turns)
    ]
    for thread in threads:
        thread.start()
    try:
        yield from _arrivals(done, len(turns), is_light)
    finally:
        closed.set()
        for credit in turns:
            credit.release()  # a reader that waits for its turn sees `closed` instead
        _let_end(threads)


def _let_end(threads: Sequence[Thread]) -> None:
    """Wait a moment: a thread that still computes while the interpreter goes away can crash it.

    One that waits for the tenant cannot; it gets its answer, or not, and hands it to nobody.
    """
    until = monotonic() + LET_GO_S
    for thread in threads:
        thread.join(max(0.0, until - monotonic()))


def _arrivals(
    done: SimpleQueue[_Read[P, T] | None], running: int, is_light: Callable[[T], bool]
) -> Iterator[list[tuple[P, T]]]:
    group: list[_Read[P, T]] = []
    while running or group:
        try:
            arrived = done.get(block=not group)
        except Empty:
            yield from _handed_over(group)
            continue
        if arrived is None:
            running -= 1
            continue
        joins = not isinstance(arrived.item, BaseException) and is_light(arrived.item)
        if group and not joins:
            yield from _handed_over(group)
        if isinstance(arrived.item, BaseException):
            raise arrived.item
        group.append(arrived)
        if not joins:
            yield from _handed_over(group)


def _handed_over(group: list[_Read[P, T]]) -> Iterator[list[tuple[P, T]]]:
    """The group, once; then its readers may go on, and it is empty."""
    yield [(read.partition, read.item) for read in group if not isinstance(read.item, BaseException)]
    for read in group:
        read.credit.release()
    group.clear()


def _reader(
    todo: SimpleQueue[P],
    read: Callable[[P], Iterator[T]],
    done: SimpleQueue[_Read[P, T] | None],
    credit: Semaphore,
    closed: Event,
) -> None:
    with suppress(Empty):
        while not closed.is_set():
            partition = todo.get_nowait()
            try:
                for item in _in_turn(read(partition), credit, closed):
                    done.put(_Read(partition, item, credit))
            except BaseException as error:  # noqa: BLE001 - raised again in the writer's thread
                done.put(_Read(partition, error, credit))
                return
    done.put(None)


def _in_turn(items: Iterator[T], credit: Semaphore, closed: Event) -> Iterator[T]:
    """The items, each fetched only once the reader is not too far ahead of the writer."""
    while True:
        credit.acquire()
        item = None if closed.is_set() else next(items, None)
        if item is None:
            credit.release()
            return
        yield item
