"""backfill: every product that the tenant had at its start is here.

What is edited or added meanwhile is stamped later than the pass's first answer, whose time
becomes the watermark: the next incremental pass reads it. One count at the end says whether the
tenant listed all that it has; an outage can look like an end.
"""

from __future__ import annotations

import sqlalchemy as sa

from sync.db import products, runs
from sync.model import Interval
from sync.passes.deletions import settle_all
from sync.passes.reference import fetch_on_sight
from sync.passes.run import Run, Summary, Sync, start
from sync.passes.workers import read_all

EVERYTHING = Interval()


def backfill(sync: Sync, *, restart: bool = False, interval: Interval = EVERYTHING) -> Summary:
    """Load the whole catalogue, or an id range of it; continue a load that did not end.

    restart    begin again, also when an earlier load could be continued
    """
    scope = f"{','.join(sync.store_views)} {interval}"
    with start(sync, "backfill", scope, restart=restart) as run:
        read_all(run, interval)
        if interval == EVERYTHING:
            for view in run.sync.store_views:
                with run.apart(view):
                    settle_all(run, view)
            prove(run)
        fetch_on_sight(run)
    return run.summary()


def prove(run: Run) -> None:
    """Everything stamped before the pass's first answer is here: say so in the watermark.

    A store view that has shown no product at all proves nothing: it may be an outage, or a
    credential that sees none. Then the next pass loads it from nothing again.
    """
    clocks = run.clocks
    if clocks is None or run.held_back:
        return

    def save(tx: sa.Connection) -> None:
        for view in run.sync.store_views:
            if products.highest_live(tx, view):
                runs.set_watermark(tx, view, clocks.there, run.run_id)

    run.transact(save)
