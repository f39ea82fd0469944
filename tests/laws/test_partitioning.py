"""Pieces cover a range without gap or overlap, and there are few enough of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sync.model import Interval, KnownPage
from sync.passes.partitioning import (
    MOST_SHORT,
    RANGES,
    WORTH_PAGES,
    CountedIds,
    as_before,
    even,
    middle,
    share,
)

after = st.integers(0, 1_000_000)
page_sizes = st.integers(1, 300)


@given(after, st.integers(0, 1_000_000), st.integers(0, 1_000_000), page_sizes)
def test_a_range_is_divided_behind_the_page_that_is_being_read(
    after: int, ids: int, left: int, page_size: int
) -> None:
    """By what is left, whole pages to the first part, and only where both parts are worth a request."""
    rest = Interval(after, after + ids)

    cut = middle(rest, left, page_size)

    if cut is None:
        assert left < (1 + WORTH_PAGES) * page_size or ids <= page_size or left > ids
        return
    end, products = cut
    assert after < end < after + ids
    assert page_size < products < left


@given(st.integers(3, 40), st.integers(1, 300))
def test_known_pages_are_divided_where_they_begin(pages: int, page_size: int) -> None:
    starts = [page * page_size for page in range(1, pages)]
    last = pages * page_size

    end, products = middle(Interval(0, last), last, page_size, starts) or (0, 0)

    assert end in starts
    assert products == end
    assert abs(end - (page_size + last) / 2) <= page_size


def known(pages: list[tuple[int, int]]) -> list[KnownPage]:
    """Pages by width and products, one after the other."""
    found, after = [], 0
    for width, products in pages:
        found.append(KnownPage(Interval(after, after + width), products, "", ""))
        after += width
    return found


@given(
    st.lists(st.tuples(st.integers(10, 99), st.integers(0, 10)), max_size=60),
    st.integers(0, 900),
    st.integers(0, 50),
)
def test_ranges_as_before_cover_everything(pages: list[tuple[int, int]], total: int, more: int) -> None:
    before = known(pages)
    whole = Interval(0, (before[-1].interval.last or 0) + more if before else 1)

    found = as_before(whole, total, 10, before)

    pieces = [it.interval for it in found]
    assert (pieces[0].after, pieces[-1].last) == (0, whole.last)
    assert all(left.last == right.after for left, right in pairwise(pieces))
    assert not any(piece.is_empty for piece in pieces)
    assert len(pieces) <= 1 + MOST_SHORT + total // 100


def test_ranges_end_where_they_ended_before() -> None:
    """Two ranges of 25 and 13 products, in pages of 10."""
    before = known([(30, 10), (30, 10), (30, 5), (30, 10), (30, 3)])

    found = as_before(Interval(0, 150), 38, 10, before)

    assert found == [CountedIds(Interval(0, 90), 25), CountedIds(Interval(90, 150), 13)]


# --- for workers -----------------------------------------------------------------------------


def stretches() -> st.SearchStrategy[list[tuple[int, int]]]:
    """A catalogue's id space: how many ids are unused, then how many products follow each other."""
    return st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 20_000)), min_size=1, max_size=8)


class Catalogue:
    """Products in stretches of ids, and how often they were counted."""

    def __init__(self, stretches: list[tuple[int, int]]) -> None:
        self.runs: list[tuple[int, int]] = []
        last = 0
        for unused, used in stretches:
            self.runs.append((last + unused, last + unused + used))
            last = self.runs[-1][1]
        self.highest, self.total, self.counts = last, sum(used for _, used in stretches), 0

    def count(self, intervals: Sequence[Interval]) -> list[int]:
        self.counts += len(intervals)
        return [self.within(it) for it in intervals]

    def within(self, interval: Interval) -> int:
        assert interval.last is not None
        return sum(max(0, min(last, interval.last) - max(after, interval.after)) for after, last in self.runs)


@given(stretches(), st.integers(1, 3_000), st.integers(0, 100))
def test_ranges_for_workers_cover_everything_and_cost_few_counts(
    found: list[tuple[int, int]], share: int, beyond: int
) -> None:
    there = Catalogue(found)
    whole = Interval(0, there.highest + beyond)

    pieces = even(whole, there.highest, there.total, share, there.count)

    assert pieces[0].after == 0
    assert pieces[-1].last == whole.last
    assert all(left.last == right.after for left, right in pairwise(pieces))
    assert not any(piece.is_empty for piece in pieces)
    assert there.counts <= RANGES


@given(stretches(), st.integers(4, 300))
def test_ranges_for_workers_are_even_in_products(found: list[tuple[int, int]], page_size: int) -> None:
    """Wherever counting has come to its end: no range holds more than half as much again as its share."""
    there = Catalogue(found)
    each = share(there.total, page_size)

    pieces = even(Interval(0, there.highest), there.highest, there.total, each, there.count)

    if there.counts < RANGES:
        assert max(map(there.within, pieces)) <= 1.75 * each


def test_a_catalogue_without_gaps_is_cut_without_counting() -> None:
    there = Catalogue([(0, 64_000)])

    pieces = even(Interval(0, 64_000), 64_000, 64_000, 1_000, there.count)

    assert [there.within(piece) for piece in pieces] == [1_000] * 64
    assert there.counts == 0


def test_a_catalogue_in_two_far_places_is_cut_by_what_is_there() -> None:
    """By ids alone, two workers of 64 would get everything."""
    there = Catalogue([(0, 3_200), (10_000_000, 3_200)])

    pieces = even(Interval(0, there.highest), there.highest, 6_400, 100, there.count)

    assert len(pieces) >= 60
    assert max(map(there.within, pieces)) <= 175
