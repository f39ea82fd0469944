"""run: everything stamped since the watermark is here, and what was deleted is gone.

The watermark is the tenant's clock at the pass's first answer, read back with an overlap: a long
import becomes visible minutes after the time it is stamped with (observed on Magento 2.4.7: 7 s).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple, replace
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa

from sync.db import rejected, runs
from sync.db.dialects import utc_now
from sync.db.engine import reading
from sync.db.partitions import Partition
from sync.model import Interval, RunStatus, Traffic
from sync.passes.backfill import backfill, prove
from sync.passes.deletions import settle_deletions
from sync.passes.named import read_named
from sync.passes.reference import fetch_on_sight
from sync.passes.run import Run, Summary, Sync, start
from sync.passes.sweep import Since, ranges, sweep

TOLERANCE = timedelta(minutes=2)  # `Date` has whole seconds, and first answers may have taken their time


def incremental(sync: Sync) -> Summary:
    """Read what changed since the watermark, retry what was rejected, count what is gone.

    A store view that was never loaded is loaded instead.
    """
    marks = {view: _watermark(sync, view) for view in sync.store_views}
    since = {view: mark - sync.overlap for view, mark in marks.items() if mark is not None}
    fresh = tuple(view for view in marks if view not in since)
    if not since:
        return backfill(sync)
    unknown = [view for view in fresh if not sync.source.knows(view)]
    fresh = tuple(view for view in fresh if view not in unknown)
    windows = partial(_read_windows, replace(sync, store_views=(*since, *unknown)), since, unknown)
    return _together(sync, backfill(replace(sync, store_views=fresh)), windows()) if fresh else windows()


def _watermark(sync: Sync, store_view: str) -> datetime | None:
    return reading(sync.db, lambda connection: runs.watermark(connection, store_view), stop=sync.stop)


def _read_windows(sync: Sync, since: Since, unknown: Collection[str] = ()) -> Summary:
    """Read what changed; `unknown` are store views that were never loaded and that the tenant refuses."""
    scope = ",".join(f"{view}>{begin:%Y-%m-%dT%H:%M:%S}" for view, begin in since.items())
    with start(sync, "incremental", scope) as run:
        for view in unknown:
            run.leave_out(view)
        todo, since = _todo(run, since)
        sweep(run, todo, since)
        suspects: set[int] = set()
        for view in run.sync.store_views:
            with run.apart(view):
                _retry_rejected(run, view)
                suspects |= settle_deletions(run, view, suspects)
        if not run.held_back and _is_quiet(run, since, read={partition.store_view for partition in todo}):
            prove(run)
        fetch_on_sight(run)
    return run.summary()


def _is_quiet(run: Run, since: Since, read: Collection[str]) -> bool:
    """Whether the store views in which there was nothing to read say so again, after the counts.

    Otherwise something was edited just now, or that first answer came from an outage: the watermark
    stays where it is, and the next run reads what this one did not.
    """
    if run.resumed is not None:
        return True
    return not any(
        run.sync.source.count(view, updated_from=begin).total
        for view, begin in since.items()
        if view in run.sync.store_views and view not in read
    )


def _todo(run: Run, since: Since) -> tuple[list[Partition], Since]:
    """The ranges to read, and from which stamp on."""
    todo = run.resumed if run.resumed is not None else ranges(run, Interval(), since)
    lost = max(run.read(lambda c, view=view: _clock_lost(c, run, view)) for view in since)  # type: ignore[misc]
    if lost > TOLERANCE:
        since = {view: begin - lost for view, begin in since.items()}
        todo = todo if run.resumed is not None else ranges(run, Interval(), since)
    return todo if run.resumed is not None else run.plan(todo), since


def _clock_lost(connection: sa.Connection, run: Run, store_view: str) -> timedelta:
    """How far the tenant's clock was set back since the watermark.

    What was stamped after that lies before the watermark, and would never be read.
    """
    then, now = runs.watermark_clocks(connection, store_view), run.clocks
    if then is None or now is None:
        return timedelta()
    return (now.here - then.here) - (now.there - then.there)


def _retry_rejected(run: Run, store_view: str) -> None:
    """Ask again for each product that could not be copied; resolve those that now can, or are gone.

    Not for those that this very run has just rejected.
    """
    owed = run.read(lambda connection: rejected.to_retry(connection, store_view, run.run_id))
    if owed:
        sweep(run, [Partition.of(store_view, interval) for interval in owed], complete=True)
        run.transact(lambda tx: rejected.resolve_others(tx, store_view, run.run_id, utc_now(tx)))


def _together(sync: Sync, loaded: Summary, read: Summary) -> Summary:
    """One summary for a command that loaded some store views and brought others up to date."""
    status: RunStatus = "partial" if "partial" in (loaded.status, read.status) else "succeeded"
    traffic = Traffic(*(a + b for a, b in zip(astuple(loaded.traffic), astuple(read.traffic), strict=True)))
    return replace(
        read,
        status=status,
        store_views=sync.store_views,
        tally=loaded.tally + read.tally,
        traffic=traffic,
        seconds=loaded.seconds + read.seconds,
    )


# --- products by name ------------------------------------------------------------------------


def targeted(sync: Sync, ids: Collection[int] = (), skus: Collection[str] = ()) -> tuple[Summary, list[str]]:
    """Read just these products, whatever their stamps; tombstone those proven gone.

    Returns the summary, and those of the names that were found neither in Commerce nor in the database.
    """
    skus = {sku.strip() for sku in skus}
    unknown: set[str] = {*map(str, ids), *skus}
    with start(sync, "incremental") as run:
        for view in run.sync.store_views:
            with run.apart(view):
                unknown &= read_named(run, view, ids, skus)
        fetch_on_sight(run)
    return run.summary(), sorted(unknown)
