"""How an id range is cut up so that several readers finish together, with few requests."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

from sync.model import Interval


def cut(interval: Interval, highest: int, total: int, page_size: int, readers: int) -> list[Interval]:
    """Intervals that cover `interval` without gap or overlap, ascending.

    highest      the highest id known to exist in it
    total        how many products it holds

    Each cut takes its share of what remains, 1/(2·readers), in whole pages: large pieces first,
    single pages at the end, so nobody waits long for the last reader (guided self-scheduling,
    Polychronopoulos and Kuck, 1987).
    """
    ids = highest - interval.after
    if readers == 1 or total <= page_size or ids <= 0:
        return [interval]
    bounds = list(_bounds(interval.after, highest, _page_ids(ids, total, page_size), readers))
    starts = [interval.after, *bounds]
    return [Interval(a, b) for a, b in zip(starts, [*bounds, interval.last], strict=True)]


def _page_ids(ids: int, total: int, page_size: int) -> int:
    """How many ids to give a page: as many as it will hold, in nearly every case.

    Where ids are unused, the products among so many ids vary; two standard deviations below a
    full page, a second request for the last few is rare.
    """
    share = min(1.0, total / ids)
    spread = 2 * sqrt(page_size * (1 - share))
    return max(1, int((page_size - min(spread, page_size / 2)) / share))


def _bounds(after: int, highest: int, page_ids: int, readers: int) -> Iterator[int]:
    """Where one piece ends and the next begins, the last end not included."""
    pages = -(-(highest - after) // page_ids)
    while True:
        share = max(1, pages // (2 * readers))
        pages -= share
        after += share * page_ids
        if pages <= 0 or after >= highest:
            return
        yield after
