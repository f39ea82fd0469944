"""How an id range is cut up so that several readers finish together, with few requests.

`cut` is for the readers of one process, which can take small pieces at the end; `even` for workers that
get a range each, and must be sent for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import sqrt
from typing import NamedTuple

from sync.model import Interval

RANGES = 64  # of a store view: enough for a few dozen workers, and a few seconds of counting
MOST_PAGES, FEWEST_PAGES = 100, 4  # of a range: minutes of work, and more than it costs to hand it over
UNEVEN = 0.25  # of a range's share: how many products more or less are no matter


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


# --- for workers -----------------------------------------------------------------------------


class CountedIds(NamedTuple):
    """Ids and how many products they hold."""

    interval: Interval
    total: int


def share(total: int, page_size: int) -> int:
    """How many of `total` products a worker is to get at a time."""
    return max(FEWEST_PAGES * page_size, min(total // RANGES, MOST_PAGES * page_size), 1)


def even(
    interval: Interval,
    highest: int,
    total: int,
    share: int,
    count: Callable[[Sequence[Interval]], Sequence[int]],
) -> list[Interval]:
    """Intervals of about `share` products each that cover `interval` without gap or overlap, ascending.

    highest    the highest id known to exist in it
    total      how many products it holds
    count      asks the tenant how many products each of some intervals holds

    Where no ids are unused, as many ids are as many products. Elsewhere stretches are halved, by counting,
    until each is a share, or until so few ids are unused that it does not matter where they are. Gaps that
    are spread evenly cost a count for each range, at most RANGES in all.
    """
    if highest <= interval.after or total <= share:
        return [interval]
    stretches, counted = [CountedIds(Interval(interval.after, highest), total)], 0
    while (uneven := [it for it in stretches if _is_uneven(it, share)]) and counted < RANGES:
        uneven = uneven[: RANGES - counted]
        counted += len(uneven)
        lefts = dict(zip(uneven, count([_halves(it)[0] for it in uneven]), strict=True))
        stretches = [part for it in stretches for part in _halved(it, lefts.get(it))]
    bounds = {end for it in _joined(stretches, share) for end in _ends(it, share)}
    inner = sorted(bound for bound in bounds if bound < highest)
    starts = [interval.after, *inner]
    return [Interval(a, b) for a, b in zip(starts, [*inner, interval.last], strict=True)]


def _is_uneven(stretch: CountedIds, share: int) -> bool:
    """Whether it holds more than a share, and enough unused ids for its halves to be worth counting."""
    ids = _width(stretch.interval)
    return stretch.total > share * (1 + UNEVEN) and ids > 1 and ids - stretch.total > share * UNEVEN


def _halves(stretch: CountedIds) -> tuple[Interval, Interval]:
    after, last = stretch.interval.after, stretch.interval.last or 0
    middle = (after + last) // 2
    return Interval(after, middle), Interval(middle, last)


def _halved(stretch: CountedIds, left: int | None) -> list[CountedIds]:
    """Its halves, the first with `left` products; the catalogue may have moved since it was counted whole."""
    if left is None:
        return [stretch]
    first, second = _halves(stretch)
    return [CountedIds(first, left), CountedIds(second, max(0, stretch.total - left))]


def _joined(stretches: Iterable[CountedIds], share: int) -> list[CountedIds]:
    """Neighbours that together are no more than a share, as one."""
    joined: list[CountedIds] = []
    for it in stretches:
        if joined and joined[-1].total + it.total <= share:
            last = joined.pop()
            it = CountedIds(Interval(last.interval.after, it.interval.last), last.total + it.total)
        joined.append(it)
    return joined


def _ends(stretch: CountedIds, share: int) -> Iterator[int]:
    """The last ids of the ranges that a stretch is cut into, by ids alone."""
    parts = max(1, round(stretch.total / share))
    ids = _width(stretch.interval)
    return (stretch.interval.after + ids * part // parts for part in range(1, parts + 1))


def _width(interval: Interval) -> int:
    return (interval.last or 0) - interval.after
