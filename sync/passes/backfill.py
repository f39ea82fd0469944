"""backfill: every product that the tenant had at its start is here.

What is edited or added meanwhile is stamped later than the pass's first answer, whose time
becomes the watermark: the next incremental pass reads it. One count at the end says whether the
tenant listed all that it has; an outage can look like an end.

A load that continues an interrupted one holds to its own start: what was stamped since the first answer of
the interrupted one is read too, as it may lie in the part that was read before.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from sync.db import products, runs
from sync.model import Interval
from sync.passes import alike
from sync.passes.deletions import settle_all
from sync.passes.reference import fetch_on_sight
from sync.passes.run import Run, Summary, Sync, start
from sync.passes.sweep import read_all, retry_rejected, sweep, window

EVERYTHING = Interval()


def backfill(
    sync: Sync, *, restart: bool = False, interval: Interval = EVERYTHING, catch_up: bool = True
) -> Summary:
    """Load the whole catalogue, or an id range of it; continue a load that did not end.

    restart     begin again, also when an earlier load could be continued
    catch_up    a continued load also reads what changed in the part that the earlier one had read
    """
    scope = f"{','.join(sync.store_views)} {interval}"
    with start(sync, "backfill", scope, restart=restart) as run:
        read_all(run, interval)
        if run.resumed is not None and catch_up:
            _catch_up(run, interval)
        if interval == EVERYTHING:
            for view in run.sync.store_views:
                with run.apart(view):
                    settle_all(run, view)
            prove(run, run.sync.store_views)
            alike.note(run)
        fetch_on_sight(run)
    return run.summary()


def _catch_up(run: Run, interval: Interval) -> None:
    """Read what was stamped since the interrupted load's first answer, and what that one could not copy."""
    if run.clocks is None:
        return
    begin = dict.fromkeys(run.sync.store_views, run.clocks.there - run.sync.overlap)
    todo, since = window(run, interval, begin, [run.clocks])
    sweep(run, todo, since)
    for view in run.sync.store_views:
        with run.apart(view):
            retry_rejected(run, view)


def prove(run: Run, store_views: Iterable[str]) -> None:
    """Everything stamped before the pass's first answer is here: say so in the watermark.

    A store view that has shown no product at all proves nothing: it may be an outage, or a
    credential that sees none. Then the next pass loads it from nothing again. A continued pass began
    long ago: what was proven since then holds.
    """
    clocks = run.clocks
    if clocks is None or run.held_back:
        return

    def save(tx: sa.Connection) -> None:
        for view in store_views:
            mark = runs.watermark(tx, view) if run.resumed is not None else None
            if products.highest_live(tx, view) and (mark is None or mark < clocks.there):
                runs.set_watermark(tx, view, clocks.there, run.run_id)

    run.transact(save)
