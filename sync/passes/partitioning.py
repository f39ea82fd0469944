"""How an id range is cut up so that several readers finish together, with few requests.

`middle` is for the readers of one process, which take from each other what is left; `even` for workers that
get a range each, and must be sent for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import sqrt
from typing import NamedTuple

from sync.model import Interval, KnownPage

RANGES = 64  # of a store view: enough for a few dozen workers, and a few seconds of counting
MOST_PAGES, FEWEST_PAGES = 100, 4  # of a range: minutes of work, and more than it costs to hand it over
UNEVEN = 0.25  # of a range's share: how many products more or less are no matter
MOST_SHORT = 16  # pages with fewer products than fit, and a tenth of all: what ranges may cost
WORTH_PAGES = 2  # that are left besides the next page, for a range to be divided


def middle(rest: Interval, left: int, page_size: int, starts: Sequence[int] = ()) -> tuple[int, int] | None:
    """The id after which another reader takes over, and about how many products it leaves.

    rest      what is left of a range, its first page being read perhaps
    left      how many products it holds
    starts    ids in it at which known pages begin

    None where too little is left. The first part gets whole pages, less two standard deviations of how many
    products so many ids may hold: a page more for the last few is rare.
    """
    ids = _width(rest)
    others = left - page_size
    if others < WORTH_PAGES * page_size or ids <= page_size:
        return None
    if len(starts) * page_size >= others:  # known pages: these come again as they were
        place = (len(starts) + 1) // 2
        return starts[place], (place + 1) * page_size
    pages = round(others / 2 / page_size)
    spread = 2 * sqrt(pages * page_size * max(0.0, 1 - left / ids))
    products = int((1 + pages) * page_size - min(spread, page_size / 2))
    end = rest.after + max(1, ids * products // left)
    return (end, products) if end < rest.after + ids else None


def as_before(interval: Interval, total: int, page_size: int, known: Iterable[KnownPage]) -> list[CountedIds]:
    """An interval, cut where ranges ended when its pages were read before: then the same requests are sent.

    total    how many products it holds
    known    its pages, ascending. One with fewer products than fit was the last of its range

    Not cut where there are too many of these: each costs part of a page.
    """
    ends, counts, count = list[int](), list[int](), 0
    for page in known:
        count += page.products
        last = page.interval.last
        if page.products < page_size and last is not None and interval.after < last < (interval.last or 0):
            ends.append(last)
            counts.append(count)
            count = 0
    if len(ends) > MOST_SHORT + total // page_size // 10:
        return [CountedIds(interval, total)]
    starts = [interval.after, *ends]
    cuts = [Interval(a, b) for a, b in zip(starts, [*ends, interval.last], strict=True)]
    return [CountedIds(*it) for it in zip(cuts, [*counts, max(0, total - sum(counts))], strict=True)]


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
