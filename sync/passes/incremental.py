"""run: everything stamped since the watermark is here, and what was deleted is gone.

The watermark is the tenant's clock at the pass's first answer, read back with an overlap: a long
import becomes visible minutes after the time it is stamped with (observed on Magento 2.4.7: 7 s).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import astuple, replace
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa

from sync.collation import collated
from sync.db import products, rejected, runs
from sync.db.dialects import utc_now
from sync.db.engine import reading
from sync.db.partitions import Partition
from sync.errors import RequestBlocked, RequestRefused, SettingsError
from sync.model import Interval, Page, RawProduct, RunStatus, Traffic, Unreadable
from sync.passes.backfill import backfill, prove
from sync.passes.deletions import bury_missing, settle_deletions
from sync.passes.reference import fetch_on_sight
from sync.passes.run import Run, Summary, Sync, start
from sync.passes.sweep import Since, ranges, sweep
from sync.pipeline import reject_unreadable, sku_of, sync_page

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


def read_named(run: Run, view: str, ids: Collection[int], skus: Collection[str] = ()) -> set[str]:
    """Read these products of a store view; returns the names that are unknown in it."""
    source = run.sync.source
    here = run.read(lambda c: products.named(c, view, ids, skus))
    by_sku, blocked = _by_skus(run, view, sorted(skus))
    blocked_ids = [i for i, sku in here.items() if _is_among(sku, blocked)]
    read = [*source.by_ids(view, {*ids, *blocked_ids}), *by_sku]
    found = {item.product_id: item for item in read if isinstance(item, RawProduct)}
    _write_named(run, Page(view, Interval(), tuple(found[i] for i in sorted(found)), len(found), None))
    broken = [item for item in read if isinstance(item, Unreadable)]
    for item in broken:
        _reject_named(run, item)
    failed = {item.product_id for item in broken}
    bury_missing(run, view, [i for i in here if i not in found and i not in failed], allow_mass_delete=True)
    unknown_ids = set(ids) - found.keys() - here.keys() - failed
    named = [*here.values(), *(sku_of(item) for item in found.values())]
    unknown = [sku for sku in skus if not _is_among(sku, named) and sku not in blocked]
    if len(by_sku) and unknown:  # found under a name that Commerce alone takes for the same
        unknown = [sku for sku in unknown if not any(True for _ in source.by_skus(view, [sku]))]
    return {*map(str, unknown_ids), *unknown}


def _is_among(sku: str, others: Collection[str]) -> bool:
    return collated(sku) in map(collated, others)


def _by_skus(run: Run, view: str, skus: Sequence[str]) -> tuple[list[RawProduct | Unreadable], list[str]]:
    """The products with these SKUs, and the SKUs that something in between does not let us ask for."""
    try:
        return list(run.sync.source.by_skus(view, skus)), []
    except (RequestBlocked, RequestRefused, SettingsError) as error:
        run.sync.source.count(view, Interval(0, 0))  # raises when it is no matter of SKUs
        if len(skus) == 1:
            run.do_without(f"Product {skus[0]} cannot be asked for by its SKU: {error} To do: {error.fix}")
            return [], list(skus)
    half = len(skus) // 2
    (some, blocked), (others, more) = _by_skus(run, view, skus[:half]), _by_skus(run, view, skus[half:])
    return some + others, blocked + more


def _write_named(run: Run, page: Page) -> None:
    reading = run.reading(page.store_view, filtered=True)
    tally = run.commit(lambda tx: sync_page(tx, page, reading).tally)
    run.sync.watch.page_written(page.store_view, page, tally)


def _reject_named(run: Run, item: Unreadable) -> None:
    reading = run.reading(item.store_view, filtered=True)
    run.commit(lambda tx: reject_unreadable(tx, item, reading))
    run.sync.watch.product_rejected(item)
