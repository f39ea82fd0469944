"""run: everything stamped since the watermark is here, and what was deleted is gone.

The watermark is the tenant's clock at the pass's first answer, read back with an overlap: a long
import becomes visible minutes after the time it is stamped with (observed on Magento 2.4.7: 7 s).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import astuple, replace
from datetime import datetime

from sync.db import partitions, runs
from sync.db.engine import reading
from sync.db.partitions import Partition
from sync.db.runs import Clocks
from sync.model import Interval, RunStatus, Traffic
from sync.passes import alike
from sync.passes.alike import AlikeViews
from sync.passes.backfill import backfill, prove
from sync.passes.deletions import settle_deletions
from sync.passes.named import read_named
from sync.passes.reference import fetch_on_sight
from sync.passes.run import Run, Summary, Sync, start
from sync.passes.sweep import Since, retry_rejected, sweep, widened, window


def incremental(sync: Sync) -> Summary:
    """Read what changed since the watermark, retry what was rejected, count what is gone.

    A store view that was never loaded is loaded instead. An interrupted pass is continued to its end, which
    moves the watermark to its first answer; then another one reads what changed since.
    """
    marks = {view: _watermark(sync, view) for view in sync.store_views}
    since = {view: mark - sync.overlap for view, mark in marks.items() if mark is not None}
    fresh = tuple(view for view in marks if view not in since)
    unknown = [view for view in fresh if not sync.source.knows(view)] if since else []
    fresh = tuple(view for view in fresh if view not in unknown)
    if not fresh:
        return _read_windows(replace(sync, store_views=(*since, *unknown)), since, unknown)
    loaded = backfill(replace(sync, store_views=fresh), catch_up=False)
    caught = [view for view in fresh if loaded.resumed and _watermark(sync, view) is not None]
    left = (*since, *unknown, *caught)
    if left and not any(sync.source.knows(view) for view in left):  # one that answers shows which are lost
        left = (*left, *(view for view in fresh if _watermark(sync, view) is not None))
    return _together(sync, loaded, incremental(replace(sync, store_views=left))) if left else loaded


def unloaded(sync: Sync) -> list[str]:
    """The store views of which no load has finished."""
    return [view for view in sync.store_views if _watermark(sync, view) is None]


def _watermark(sync: Sync, store_view: str) -> datetime | None:
    return reading(sync.db, lambda connection: runs.watermark(connection, store_view), stop=sync.stop)


def _read_windows(sync: Sync, since: Since, unknown: Collection[str] = ()) -> Summary:
    """Read what changed; `unknown` are store views that were never loaded and that the tenant refuses."""
    scope = ",".join(f"{view}>{begin:%Y-%m-%dT%H:%M:%S}" for view, begin in since.items())
    with start(sync, "incremental", scope) as run:
        for view in unknown:
            run.leave_out(view)
        if run.resumed is None:
            _read(run, since)
        else:
            _finish(run, run.resumed, since)
    summary = run.summary()
    return _together(run.sync, summary, incremental(run.sync)) if summary.resumed else summary


def _finish(run: Run, left: Sequence[Partition], since: Since) -> None:
    """Read what an interrupted run left. With what it had read, that is all that was stamped before its
    first answer: in the store views in which it found something; an empty answer proves nothing.
    """
    sweep(run, left, widened(since, run.clocks, _clocks_then(run)))
    found = run.read(lambda connection: partitions.store_views(connection, run.run_id))
    prove(run, [view for view in run.sync.store_views if view in found])


def _read(run: Run, since: Since) -> None:
    same = _alike(run, since)
    todo, since = window(run, Interval(), since, _clocks_then(run), same)
    sweep(run, run.plan(todo), since)
    for view in run.sync.store_views:
        with run.apart(view):
            retry_rejected(run, view)
    top, suspects = same.ask(run.sync.source.highest), set[int]()
    for view in run.sync.store_views:
        with run.apart(view):
            suspects |= settle_deletions(run, view, suspects, top if view in same else None)
    read = {partition.store_view for partition in todo}
    if not run.held_back and _is_quiet(run, since, read, same):
        prove(run, run.sync.store_views)
    fetch_on_sight(run)


def _alike(run: Run, since: Since) -> AlikeViews:
    """Store views of which one is asked for all: they are alike, and read since the same time."""
    found = alike.known(run)
    return AlikeViews(run, found if len({since[view] for view in found}) == 1 else ())


def _is_quiet(run: Run, since: Since, read: Collection[str], same: AlikeViews) -> bool:
    """Whether the store views in which there was nothing to read say so again, after the counts.

    Otherwise something was edited just now, or that first answer came from an outage: the watermark
    stays where it is, and the next run reads what this one did not.
    """

    def moved(view: str) -> bool:
        return run.sync.source.count(view, updated_from=since[view]).total > 0

    unread = [view for view in run.sync.store_views if view not in read]
    alone = [view for view in unread if view not in same]
    together = len(alone) < len(unread)
    return not (together and same.ask(moved)) and not any(map(moved, alone))


def _clocks_then(run: Run) -> list[Clocks]:
    """What the clocks showed at the answers that the watermarks are from."""
    found = [
        run.read(lambda c, view=view: runs.watermark_clocks(c, view))  # type: ignore[misc]
        for view in run.sync.store_views
    ]
    return [clocks for clocks in found if clocks is not None]


def _together(sync: Sync, loaded: Summary, read: Summary) -> Summary:
    """One summary for a command that needed two runs."""
    status: RunStatus = "partial" if "partial" in (loaded.status, read.status) else "succeeded"
    traffic = Traffic(*(a + b for a, b in zip(astuple(loaded.traffic), astuple(read.traffic), strict=True)))
    return replace(
        read,
        status=status,
        store_views=sync.store_views,
        tally=loaded.tally + read.tally,
        traffic=traffic,
        seconds=loaded.seconds + read.seconds,
        held_back=" ".join(filter(None, (loaded.held_back, read.held_back))) or None,
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
