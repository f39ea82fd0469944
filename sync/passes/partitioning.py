"""How an id range is cut up so that several readers finish together, with few requests."""

from __future__ import annotations

from collections.abc import Iterator

from sync.model import Interval


def cut(interval: Interval, highest: int, total: int, page_size: int, readers: int) -> list[Interval]:
    """Intervals that cover `interval` without gap or overlap, ascending.

    highest      the highest id known to exist in it
    total        how many products it holds

    Each cut takes its share of what remains, 1/(2·readers), in whole pages: large pieces first,
    single pages at the end, so nobody waits long for the last reader (guided self-scheduling,
    Polychronopoulos and Kuck, 1987). In a catalogue without gaps every piece ends with a
    full page; with gaps, a piece costs one short page more.
    """
    ids = highest - interval.after
    if readers == 1 or total <= page_size or ids <= 0:
        return [interval]
    page_ids = max(1, -(-ids * page_size // total))  # ids that one page spans, on average
    bounds = list(_bounds(interval.after, highest, page_ids, readers))
    starts = [interval.after, *bounds]
    return [Interval(a, b) for a, b in zip(starts, [*bounds, interval.last], strict=True)]


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
