"""Id ranges that readers of one process read together: a free one takes half of what is left of the largest.

Each answer says how many products its range still holds; where half of them end is estimated from that, and
the next answers of both parts correct it. A request under way was sent for the whole range: what it brings
from beyond the new end is dropped, because the other reader reads it.

    take ──> read ──> answered ──> … ──> take          readers' threads
    divisions ──> stored before any page of either part writer's thread
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Condition
from typing import NamedTuple

from sync.db.partitions import Partition
from sync.model import Interval, Page, Unreadable
from sync.passes.partitioning import middle
from sync.passes.prefetch import Item

Walk = Callable[["Range", Interval], Iterator[Item]]


@dataclass(slots=True, eq=False)
class Range:
    """A range that one reader reads.

    planned    the range of the run that it is a part of
    left       how many products it still holds, about; None when that is not known
    """

    planned: Partition
    partition: Partition
    cursor: int
    left: int | None

    @property
    def rest(self) -> Interval:
        return Interval(self.cursor, self.partition.last)


class Division(NamedTuple):
    """A range as it is now, and the one that its end was given to."""

    shorter: Partition
    taken: Partition


class Ranges:
    """The ranges still to be read. All methods may be called from any thread.

    page_size    products of a page, as of now
    starts       by store view, ids at which pages began that may come again: ranges are divided there
    readers      how many there are; a single one divides nothing
    """

    def __init__(
        self,
        todo: Sequence[Partition],
        page_size: Callable[[], int],
        readers: int,
        starts: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        ranges = [Range(it, it, it.cursor, it.products) for it in todo]
        largest_first = readers > 1 and all(it.left is not None for it in ranges)
        self._pending = sorted(ranges, key=lambda it: -(it.left or 0)) if largest_first else ranges
        self._active: set[Range] = set()
        self._divisions: list[Division] = []
        self._page_size = page_size
        self._divides = readers > 1
        self._starts = starts or {}
        self._changed = Condition()
        self._closed = False

    # --- for readers -------------------------------------------------------------------------

    def take(self) -> Range | None:
        """A range to read; waits while others may yet be divided. None when nothing is left."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._pending or self._divide() or not self._active
            )
            if self._closed or not self._pending:
                return None
            taken = self._pending.pop(0)
            self._active.add(taken)
            return taken

    def read(self, taken: Range, walk: Walk) -> Iterator[tuple[Partition, Item]]:
        """Every page of a range, with the range as it is after each; it may become shorter meanwhile."""
        try:
            while not taken.rest.is_empty:
                asked = taken.rest
                for item in walk(taken, asked):
                    yield self._answered(taken, asked, item)
                    if taken.partition.last != asked.last or taken.cursor == asked.last:
                        break
                else:
                    return
        finally:
            with self._changed:
                self._active.discard(taken)
                self._changed.notify_all()

    def _answered(self, taken: Range, asked: Interval, item: Item) -> tuple[Partition, Item]:
        with self._changed:
            last = taken.partition.last
            if item.interval.last is None:
                return taken.partition, item
            if last is not None and item.interval.last > last:
                item = _up_to(item, last)
            taken.cursor = item.interval.last or 0
            self._count(taken, asked, item)
            self._changed.notify_all()
            return taken.partition, item

    @staticmethod
    def _count(taken: Range, asked: Interval, item: Item) -> None:
        read = len(item.products) if isinstance(item, Page) else 1
        if isinstance(item, Page) and taken.partition.last == asked.last:
            taken.left = item.total_count - read
        elif taken.left is not None:
            taken.left = max(0, taken.left - read)

    def _divide(self) -> bool:
        """Make a pending range of the end of the one with the most left; False where that is too little."""
        known = [it for it in self._active if it.left is not None] if self._divides else []
        largest = max(known, key=lambda it: it.left or 0, default=None)
        if largest is None or largest.partition.last is None or largest.left is None:
            return False
        size, whole = self._page_size(), largest.partition
        cut = middle(largest.rest, largest.left, size, self._between(whole.store_view, largest.rest))
        if cut is None:
            return False
        view, (end, products) = whole.store_view, cut
        taken = Partition(view, end + 1, end, whole.last, largest.left - products)
        largest.partition, largest.left = replace(whole, last=end), products
        self._divisions.append(Division(largest.partition, taken))
        self._pending.append(Range(largest.planned, taken, end, taken.products))
        return True

    def _between(self, store_view: str, rest: Interval) -> Sequence[int]:
        starts = self._starts.get(store_view, ())
        return starts[bisect_right(starts, rest.after) : bisect_left(starts, rest.last or 0)]

    # --- for the writer ----------------------------------------------------------------------

    def divisions(self) -> list[Division]:
        """What was divided since the last call, in that order."""
        with self._changed:
            found, self._divisions = self._divisions, []
            return found

    def close(self) -> None:
        """Let readers that wait for a range end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _up_to(item: Item, last: int) -> Item:
    """What an answer says of the ids up to `last`."""
    interval = Interval(item.interval.after, last)
    if isinstance(item, Unreadable):
        if item.product_id is not None and item.product_id <= last:
            return replace(item, interval=interval)
        return Page(item.store_view, interval, (), 0, None)
    kept = tuple(product for product in item.products if product.product_id <= last)
    return Page(item.store_view, interval, kept, len(kept), item.server_time)
