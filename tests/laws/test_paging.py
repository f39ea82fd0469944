"""Every id is read exactly once, whatever the gaps and whatever is edited meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, pairwise
from threading import Lock

from hypothesis import given
from hypothesis import strategies as st

from sync.db.partitions import Partition
from sync.model import Interval, Page, RawProduct
from sync.passes.prefetch import Item, read_ahead_in_groups
from sync.passes.ranges import Ranges

# What happens while pages are read: delete one that is there, or add one anywhere.
Edit = tuple[str, int]
edits = st.lists(st.tuples(st.sampled_from(["add", "delete"]), st.integers(1, 400)), max_size=30)


class Tenant:
    """Products by id, of which one is added or deleted before each page is sent.

    lies    added to each count in turn: those of a tenant may be wrong
    """

    def __init__(self, ids: set[int], edits: list[Edit], lies: Sequence[int] = ()) -> None:
        self._lies = cycle(lies or [0])
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
            count = max(0, len(matching) + next(self._lies))
        found = matching[:page_size]
        spoken_for = Interval(interval.after, found[-1]) if found else interval
        return Page("all", spoken_for, tuple(RawProduct(i, b"{}") for i in found), count, None)

    def _edit(self) -> None:
        kind, number = next(self._edits, ("none", 0))
        if kind == "add":
            self.ids.add(number)
            self.ever.add(number)
        elif kind == "delete":
            self.ids.discard(number)
            self.always.discard(number)


gaps = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 40)), min_size=1, max_size=8)
lies = st.lists(st.integers(-50, 50), max_size=5)
page_sizes, reader_counts = st.integers(1, 40), st.integers(1, 5)


def clustered(gaps: list[tuple[int, int]]) -> set[int]:
    """Ids in clusters: how many are unused, then how many follow each other."""
    ids, last = set[int](), 0
    for unused, used in gaps:
        ids |= set(range(last + unused + 1, last + unused + used + 1))
        last += unused + used
    return ids


catalogues = st.one_of(st.sets(st.integers(1, 400), max_size=200), gaps.map(clustered))


def read_all(tenant: Tenant, page_size: int, readers: int, total: int | None = None) -> Iterator[Item]:
    """As a pass reads a catalogue, with several readers that divide it; every division is checked."""
    whole = Partition.of("all", Interval(0, max(tenant.at_start, default=1)), total)
    ranges = Ranges([whole], lambda: page_size, readers)
    stored = {whole.name: whole}

    groups = read_ahead_in_groups(
        ranges,
        lambda taken: ranges.read(taken, lambda _, rest: tenant.walk(rest, page_size)),
        readers,
        lambda found: False,
        lambda found: 0,
    )
    for group in groups:
        for shorter, taken in ranges.divisions():
            assert stored[shorter.name].last == taken.last
            assert shorter.last == taken.cursor
            stored[shorter.name] = replace(stored[shorter.name], last=shorter.last)
            stored[taken.name] = taken
        for _, (partition, item) in group:
            assert stored[partition.name].cursor == item.interval.after
            stored[partition.name] = replace(stored[partition.name], cursor=item.interval.last or 0)
            yield item
    assert all(it.rest.is_empty for it in stored.values())


@given(catalogues, edits, lies, page_sizes, reader_counts)
def test_every_id_is_read_exactly_once(
    ids: set[int], edits: list[Edit], lies: list[int], page_size: int, readers: int
) -> None:
    """Several readers at once; what was there all the time is read once, what never was is not read.

    Wherever the counts say that ranges are to be divided. What the database knows covers what is unread: a
    range's new end is stored before any page of either part, each page begins where the one before ended.
    """
    tenant = Tenant(ids, edits, lies)

    arrived = list(read_all(tenant, page_size, readers, len(ids)))

    found = [product.product_id for item in arrived if isinstance(item, Page) for product in item.products]
    assert len(found) == len(set(found))
    assert {i for i in tenant.always if i <= max(ids)} <= set(found) <= tenant.ever


@given(catalogues, edits, lies, page_sizes, reader_counts)
def test_pages_speak_for_every_id_once(
    ids: set[int], edits: list[Edit], lies: list[int], page_size: int, readers: int
) -> None:
    """The intervals of all pages together are the range, without gap or overlap."""
    arrived = read_all(Tenant(ids, edits, lies), page_size, readers, len(ids))

    spans = sorted((item.interval for item in arrived), key=lambda span: span.after)
    assert spans[0].after == 0
    assert spans[-1].last == max(ids, default=1)
    assert all(left.last == right.after for left, right in pairwise(spans))


@given(st.integers(1, 200), st.integers(1, 4), st.integers(0, 40))
def test_a_reader_is_never_more_than_two_pages_ahead(total: int, readers: int, stop_after: int) -> None:
    """What a crash costs: pages that were sent and are not yet written."""
    tenant, sent = Tenant(set(range(1, total + 1)), []), [0]

    def page(interval: Interval, page_size: int) -> Page:
        sent[0] += 1
        return Tenant._page(tenant, interval, page_size)

    tenant._page = page  # type: ignore[method-assign]
    arriving = read_all(tenant, 5, readers, total)
    written = sum(1 for _ in zip(range(stop_after), arriving, strict=False))
    arriving.close()  # type: ignore[attr-defined]

    assert sent[0] - written <= 2 * readers


@given(st.integers(600, 3_000), st.integers(1, 12), st.integers(2, 8))
def test_ranges_are_divided_by_what_they_hold(total: int, gap: int, readers: int) -> None:
    """Few pages more than the catalogue fills, and few that are empty."""
    tenant = Tenant({gap * i for i in range(1, total + 1)}, [])

    pages = list(read_all(tenant, 20, readers, total))

    assert len(pages) <= -(-total // 20) + 4 * readers
