"""Every id is read exactly once, whatever the gaps and whatever is edited meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from threading import Lock

from hypothesis import given, settings
from hypothesis import strategies as st

from sync.db.partitions import Partition
from sync.model import Interval, Page, RawProduct
from sync.passes.partitioning import cut
from sync.passes.prefetch import Item, read_ahead

# What happens while pages are read: delete one that is there, or add one anywhere.
Edit = tuple[str, int]
edits = st.lists(st.tuples(st.sampled_from(["add", "delete"]), st.integers(1, 400)), max_size=30)


class Tenant:
    """Products by id, of which one is added or deleted before each page is sent."""

    def __init__(self, ids: set[int], edits: list[Edit]) -> None:
        self.at_start = frozenset(ids)
        self.ids = set(ids)
        self.always = set(ids)
        self.ever = set(ids)
        self._edits = iter(edits)
        self._lock = Lock()

    def walk(self, interval: Interval, page_size: int) -> Iterator[Page]:
        """Pages by key, as the extractor reads them: the cursor is the last id, the end is an empty page."""
        while not interval.is_empty:
            page = self._page(interval, page_size)
            yield page
            if page.interval.last is None:
                return
            interval = Interval(page.interval.last, interval.last)

    def _page(self, interval: Interval, page_size: int) -> Page:
        with self._lock:
            self._edit()
            last = interval.last or 10**9
            matching = sorted(i for i in self.ids if interval.after < i <= last)
        found = matching[:page_size]
        spoken_for = Interval(interval.after, found[-1]) if found else interval
        return Page("all", spoken_for, tuple(RawProduct(i, b"{}") for i in found), len(matching), None)

    def _edit(self) -> None:
        kind, number = next(self._edits, ("none", 0))
        if kind == "add":
            self.ids.add(number)
            self.ever.add(number)
        elif kind == "delete":
            self.ids.discard(number)
            self.always.discard(number)


@settings(deadline=None)
@given(st.sets(st.integers(1, 400), max_size=120), edits, st.integers(1, 40), st.integers(1, 5))
def test_every_id_is_read_exactly_once(
    ids: set[int], edits: list[Edit], page_size: int, readers: int
) -> None:
    """Several readers at once; what was there all the time is read once, what never was is not read."""
    tenant = Tenant(ids, edits)
    highest = max(ids, default=0)
    pieces = cut(Interval(), highest, len(ids), page_size, readers)

    def read(partition: Partition) -> Iterator[Item]:
        return tenant.walk(partition.rest, page_size)

    arrived = [
        item for _, item in read_ahead([Partition.of("all", piece) for piece in pieces], read, readers)
    ]

    found = [product.product_id for item in arrived if isinstance(item, Page) for product in item.products]
    assert len(found) == len(set(found))
    assert tenant.always <= set(found) <= tenant.ever


@settings(deadline=None)
@given(st.sets(st.integers(1, 400), max_size=120), edits, st.integers(1, 40), st.integers(1, 5))
def test_pages_speak_for_every_id_once(
    ids: set[int], edits: list[Edit], page_size: int, readers: int
) -> None:
    """The intervals of all pages together are the range, without gap or overlap."""
    tenant = Tenant(ids, edits)
    pieces = cut(Interval(), max(ids, default=0), len(ids), page_size, readers)
    todo = [Partition.of("all", piece) for piece in pieces]

    arrived = read_ahead(todo, lambda partition: tenant.walk(partition.rest, page_size), readers)

    spans = sorted((item.interval for _, item in arrived), key=lambda span: span.after)
    assert spans[0].after == 0
    assert spans[-1].last is None
    assert all(left.last == right.after for left, right in pairwise(spans))


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 4), st.integers(0, 40))
def test_a_reader_is_never_more_than_two_pages_ahead(total: int, readers: int, stop_after: int) -> None:
    """What a crash costs: pages that were sent and are not yet written."""
    tenant = Tenant(set(range(1, total + 1)), [])
    sent = [0]

    def read(partition: Partition) -> Iterator[Item]:
        for page in tenant.walk(partition.rest, 5):
            sent[0] += 1
            yield page

    pieces = cut(Interval(), total, total, 5, readers)
    arriving = read_ahead([Partition.of("all", piece) for piece in pieces], read, readers)
    written = sum(1 for _ in zip(range(stop_after), arriving, strict=False))
    arriving.close()  # type: ignore[attr-defined]

    assert sent[0] - written <= 2 * readers
