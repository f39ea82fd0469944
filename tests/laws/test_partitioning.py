"""Pieces cover a range without gap or overlap, and there are few enough of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sync.model import Interval
from sync.passes.partitioning import RANGES, cut, even, share

after = st.integers(0, 1_000_000)
readers = st.integers(1, 32)
page_sizes = st.integers(1, 300)


@given(after, st.integers(0, 1_000_000), st.integers(0, 1_000_000), page_sizes, readers, st.booleans())
def test_pieces_cover_the_range_without_gap_or_overlap(
    after: int, ids: int, total: int, page_size: int, readers: int, open_end: bool
) -> None:
    highest = after + ids
    whole = Interval(after, None if open_end else highest)

    pieces = cut(whole, highest, total, page_size, readers)

    assert pieces[0].after == whole.after
    assert pieces[-1].last == whole.last
    assert all(left.last == right.after for left, right in pairwise(pieces))
    assert not any(piece.is_empty for piece in pieces[:-1])


@given(after, st.integers(1, 1_000_000), page_sizes, readers)
def test_there_are_few_pieces_and_enough_for_every_reader(
    after: int, total: int, page_size: int, readers: int
) -> None:
    """Without gaps: a few per reader and doubling of the catalogue, and one each where there are pages."""
    pieces = cut(Interval(after, None), after + total, total, page_size, readers)
    pages = -(-total // page_size)

    assert len(pieces) <= max(1, min(pages, 2 * readers * (2 + max(1, pages).bit_length()))) + 1
    assert len(pieces) >= min(readers, pages) // 2


@given(after, st.integers(1, 1_000))
def test_one_reader_has_one_piece(after: int, total: int) -> None:
    assert cut(Interval(after, None), after + total, total, 10, 1) == [Interval(after, None)]


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
