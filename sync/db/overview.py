"""The state of the copy for `status` and the page: product counts, watermarks, last runs. Reads only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from sync.db.current_views import left
from sync.db.dialects import utc_now
from sync.db.schema import TOMBSTONED, product_changes, products, sync_feed, sync_runs, sync_watermarks
from sync.model import PassKind, RunStatus

SUCCEEDED: Final = ("succeeded", "partial")


@dataclass(frozen=True, slots=True)
class StoreViewState:
    """One store view of the copy.

    live, deleted    products; the deleted ones are kept as tombstones
    watermark        all changes before it are copied; None until the first load is complete
    lag              age of the watermark, by the database's clock
    left             `settings` or `tenant`: no longer in STORE_VIEWS, or no longer on the tenant
    """

    store_view: str
    live: int
    deleted: int
    watermark: datetime | None
    lag: timedelta | None
    left: str | None = None


@dataclass(frozen=True, slots=True)
class ChangesKept:
    """The change feed: its oldest entry, None while it has none, and the last change_id assigned."""

    oldest_id: int | None
    oldest_at: datetime | None
    last_id: int


def changes_kept(connection: sa.Connection) -> ChangesKept:
    """What is kept of the change feed."""
    entry = product_changes.c
    first = sa.select(entry.change_id, entry.changed_at).order_by(entry.change_id).limit(1)
    oldest = connection.execute(first).one_or_none()
    last = connection.execute(sa.select(sync_feed.c.last_change_id)).scalar_one()
    if oldest is None:
        return ChangesKept(None, None, last)
    return ChangesKept(oldest.change_id, oldest.changed_at, last)


def store_views(connection: sa.Connection) -> list[StoreViewState]:
    """Every store view that has or had data in the copy, by code."""
    now = utc_now(connection)
    counts = _counts(connection)
    marks = watermarks(connection)
    gone = left(connection)
    return [
        StoreViewState(
            view, *counts.get(view, (0, 0)), mark, None if here is None else now - here, gone.get(view)
        )
        for view in sorted(counts.keys() | marks.keys())
        for mark, here in [marks.get(view, (None, None))]
    ]


def _counts(connection: sa.Connection) -> dict[str, tuple[int, int]]:
    """Live and deleted products by store view.

    Counts all rows and the tombstones, each from an index: the table holds the large documents.
    """
    view = products.c.store_view
    counts = sa.select(view, sa.func.count()).group_by(view)
    total = {code: int(count) for code, count in connection.execute(counts)}
    deleted = {code: int(count) for code, count in connection.execute(counts.where(TOMBSTONED))}
    return {code: (count - deleted.get(code, 0), deleted.get(code, 0)) for code, count in total.items()}


def watermarks(connection: sa.Connection) -> dict[str, tuple[datetime, datetime]]:
    """By store view: the watermark, by the tenant's clock, and what the database's clock showed then."""
    run, mark = sync_runs.c, sync_watermarks.c
    rows = connection.execute(
        sa.select(mark.store_view, mark.watermark, run.server_time, run.heard_at).outerjoin(
            sync_runs, run.run_id == mark.updated_by_run
        )
    )
    found = {}
    for row in rows:
        is_known = row.server_time is not None and row.heard_at is not None
        ahead = row.heard_at - row.server_time if is_known else timedelta()
        found[row.store_view] = row.watermark, row.watermark + ahead
    return found


@dataclass(frozen=True, slots=True)
class FeedState:
    """The last successful run of a kind, with its end and age.

    status    `partial` when some of it was rejected, refused or held back
    """

    kind: PassKind
    status: RunStatus
    run_id: int
    finished_at: datetime
    age: timedelta


def feeds(connection: sa.Connection) -> list[FeedState]:
    """The last successful run of each kind of pass; kinds without one are missing."""
    now, run = utc_now(connection), sync_runs.c
    last = (
        sa.select(sa.func.max(run.run_id))
        .where(run.status.in_(SUCCEEDED), run.kind != "verify")
        .group_by(run.kind)
    )
    rows = connection.execute(
        sa.select(run.kind, run.status, run.run_id, run.finished_at)
        .where(run.run_id.in_(last))
        .order_by(run.finished_at.desc())
    )
    return [FeedState(*row, now - row.finished_at) for row in rows]


def has_come_through(connection: sa.Connection, kinds: Collection[PassKind], since: datetime) -> bool:
    """Whether a run of one of these kinds, by any process, succeeded after `since`."""
    found = connection.execute(
        sa.select(sync_runs.c.run_id)
        .where(
            sync_runs.c.kind.in_(kinds),
            sync_runs.c.status.in_(SUCCEEDED),
            sync_runs.c.finished_at >= since,
        )
        .limit(1)
    )
    return found.first() is not None
