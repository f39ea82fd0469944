"""Runs and watermarks: every attempt, its outcome, and the time up to which the copy is complete.

A run's counters grow in each page's transaction, so they are correct after a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta

import sqlalchemy as sa

from sync.db.dialects import utc_now
from sync.db.schema import sync_partitions, sync_runs, sync_watermarks
from sync.model import PassKind, RunStatus, Tally, Traffic


@dataclass(frozen=True, slots=True)
class Clocks:
    """The tenant's and the database's clock at the pass's first answer."""

    there: datetime
    here: datetime

    def set_back_since(self, then: Clocks) -> timedelta:
        """How far the tenant's clock was set back since the earlier reading `then`."""
        return (self.here - then.here) - (self.there - then.there)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One attempt at one pass.

    scope     description of what it reads: equal scopes mean equal work
    clocks    None until the tenant answered
    """

    run_id: int
    scope: str
    started_at: datetime
    clocks: Clocks | None


def begin(connection: sa.Connection, kind: PassKind, store_views: Sequence[str], scope: str) -> int:
    """Start a run, and end those still marked `running`: we hold the lease, so their processes are dead."""
    now = utc_now(connection)
    connection.execute(
        sync_runs.update()
        .where(sync_runs.c.status == "running")
        .values(status="interrupted", finished_at=now, error="the process ended without finishing")
    )
    values = {
        "kind": kind,
        "status": "running",
        "store_views": ",".join(store_views),
        "scope": scope,
        "started_at": now,
    }
    key = connection.execute(sync_runs.insert().values(values)).inserted_primary_key
    assert key is not None  # noqa: S101 - every supported database returns it
    return int(key[0])


def unfinished(connection: sa.Connection, kind: PassKind) -> list[RunRow]:
    """Runs of this kind with unread partitions, newest first: they ended early."""
    rows = connection.execute(
        sa.select(sync_runs)
        .where(sync_runs.c.kind == kind, sync_runs.c.run_id.in_(sa.select(sync_partitions.c.run_id)))
        .order_by(sync_runs.c.run_id.desc())
    )
    return [
        RunRow(row.run_id, row.scope, row.started_at, _clocks(row.server_time, row.heard_at)) for row in rows
    ]


def _clocks(there: datetime | None, here: datetime | None) -> Clocks | None:
    return None if there is None or here is None else Clocks(there, here)


def note_clocks(connection: sa.Connection, run_id: int, clocks: Clocks) -> None:
    """Store the clocks of the pass's first answer; the tenant's becomes the watermark of a complete pass."""
    connection.execute(
        sync_runs.update()
        .where(sync_runs.c.run_id == run_id)
        .values(server_time=clocks.there, heard_at=clocks.here)
    )


def expect(connection: sa.Connection, run_id: int, products: int) -> None:
    """Add to the number of products that this run is expected to read, for its progress."""
    so_far = sa.func.coalesce(sync_runs.c.expected, 0)
    connection.execute(
        sync_runs.update().where(sync_runs.c.run_id == run_id).values(expected=so_far + products)
    )


def expect_the_rest(connection: sa.Connection, run_id: int, earlier_run: int) -> None:
    """Expect this run to read the products that `earlier_run`, which it continues, did not read."""
    left = connection.execute(
        sa.select(sync_runs.c.expected - sync_runs.c.fetched).where(sync_runs.c.run_id == earlier_run)
    ).scalar_one()
    if left is not None:
        expect(connection, run_id, max(0, left))


def add(connection: sa.Connection, run_id: int, tally: Tally) -> None:
    """Add a page's tally to the run."""
    connection.execute(_ADD, {"run": run_id, **{f"more_{name}": n for name, n in asdict(tally).items()}})


_ADD = (
    sync_runs.update()
    .where(sync_runs.c.run_id == sa.bindparam("run"))
    .values({it.name: sync_runs.c[it.name] + sa.bindparam(f"more_{it.name}") for it in fields(Tally)})
)


def add_traffic(connection: sa.Connection, run_id: int, traffic: Traffic) -> None:
    """Add a worker's requests to the run."""
    more = {name: sync_runs.c[name] + value for name, value in asdict(traffic).items()}
    connection.execute(sync_runs.update().where(sync_runs.c.run_id == run_id).values(more))


def counters(connection: sa.Connection, run_id: int) -> tuple[Tally, Traffic]:
    """A run's counters, and the requests of its workers."""
    row = connection.execute(sa.select(sync_runs).where(sync_runs.c.run_id == run_id)).one()
    tally, traffic = ({f.name: getattr(row, f.name) for f in fields(it)} for it in (Tally, Traffic))
    return Tally(**tally), Traffic(**traffic)


def finish(
    connection: sa.Connection,
    run_id: int,
    status: RunStatus,
    traffic: Traffic,
    seconds: float,
    error: str | None,
) -> None:
    """End a run; `seconds` is its wall-clock time."""
    connection.execute(
        sync_runs.update()
        .where(sync_runs.c.run_id == run_id)
        .values(
            status=status, finished_at=utc_now(connection), error=error, seconds=seconds, **asdict(traffic)
        )
    )


def watermark(connection: sa.Connection, store_view: str) -> datetime | None:
    """The watermark of `store_view`: the end of the last window that was fully written."""
    return connection.execute(
        sa.select(sync_watermarks.c.watermark).where(sync_watermarks.c.store_view == store_view)
    ).scalar_one_or_none()


def set_watermark(connection: sa.Connection, store_view: str, to: datetime, run_id: int) -> None:
    """Set the watermark: all changes before `to` are copied. It moves back when the tenant's clock does."""
    values = {"watermark": to, "updated_by_run": run_id}
    moved = connection.execute(
        sync_watermarks.update().where(sync_watermarks.c.store_view == store_view).values(values)
    )
    if moved.rowcount == 0:
        connection.execute(sync_watermarks.insert().values(store_view=store_view, **values))


def watermark_clocks(connection: sa.Connection, store_view: str) -> Clocks | None:
    """The clocks of the run that set the watermark."""
    row = connection.execute(
        sa.select(sync_runs.c.server_time, sync_runs.c.heard_at)
        .join(sync_watermarks, sync_watermarks.c.updated_by_run == sync_runs.c.run_id)
        .where(sync_watermarks.c.store_view == store_view)
    ).one_or_none()
    return None if row is None else _clocks(row.server_time, row.heard_at)


def recent(connection: sa.Connection, limit: int) -> list[sa.Row[tuple[object, ...]]]:
    """The last runs, newest first."""
    return list(connection.execute(sa.select(sync_runs).order_by(sync_runs.c.run_id.desc()).limit(limit)))
