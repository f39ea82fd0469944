"""Pieces cover a range without gap or overlap, and there are few enough of them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sync.model import Interval
from sync.passes.partitioning import cut

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
