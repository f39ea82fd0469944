"""The copy's freshness and its last runs, in queries whose cost does not depend on the number of products."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from sync.db import prices
from sync.db.announcements import Wait, next_runs, waiting
from sync.db.current_views import left
from sync.db.dialects import utc_now
from sync.db.leases import holder_of
from sync.db.overview import SUCCEEDED, watermarks
from sync.db.rejected import ALTERED, NOT_COPIED, count_open
from sync.db.schema import sync_runs
from sync.model import PassKind

RUNS_READ: Final = 200  # in search of consecutive failures
TO_DO: Final = " To do: "  # between an error and its remedy, in sync_runs.error


class FailureStreak(NamedTuple):
    """Runs of one kind that failed one after the other, up to its last run.

    error    of the last one, with its remedy
    since    when the first one ended
    """

    runs: int
    error: str
    since: datetime

    @property
    def reason(self) -> str:
        return self.error.partition(TO_DO)[0]

    @property
    def fix(self) -> str:
        return self.error.partition(TO_DO)[2]


@dataclass(frozen=True, slots=True)
class Freshness:
    """A snapshot of the copy, by the database's clock.

    now          time of the snapshot
    marks        when the tenant's clock showed each store view's watermark
    successes    when each kind of pass last succeeded
    starts       when that run started
    running      kinds of pass in progress, or marked so by a process that died
    rejected     products that were not copied, by store view
    altered      products copied with a value replaced, by store view
    lost         store views that the tenant no longer has
    scheduled_now    what cron schedules are judged by; None: `now`
    failing      kinds of pass whose last run failed
    next_runs    when each kind of pass runs next, soonest first, as the daemon announced it
    waiting      what the run in progress waits for; None while Commerce answers
    resting      price feeds that the next scheduled run of prices leaves out
    """

    now: datetime
    marks: Mapping[str, datetime]
    successes: Mapping[PassKind, datetime]
    starts: Mapping[PassKind, datetime]
    running: frozenset[PassKind]
    rejected: Mapping[str, int]
    altered: Mapping[str, int] = field(default_factory=dict)
    lost: Collection[str] = ()
    scheduled_now: datetime | None = None
    failing: Mapping[PassKind, FailureStreak] = field(default_factory=dict)
    next_runs: Mapping[PassKind, datetime] = field(default_factory=dict)
    waiting: Wait | None = None
    resting: Collection[str] = ()

    @property
    def lags(self) -> dict[str, timedelta]:
        """Age of each store view's watermark."""
        return {view: max(self.now - mark, timedelta()) for view, mark in self.marks.items()}

    def later(self, span: timedelta) -> Freshness:
        """The snapshot aged by `span`."""
        return replace(self, now=self.now + span)


def freshness(connection: sa.Connection) -> Freshness:
    """Take a snapshot, in a few small queries."""
    now = utc_now(connection)
    gone = left(connection)
    runs = _last_runs(connection)
    ended = [row for row in runs if row.finished_at is not None]
    began = [row.started_at for row in runs if row.finished_at is None]
    return Freshness(
        now=now,
        marks={view: mark for view, (_, mark) in watermarks(connection).items() if view not in gone},
        successes={row.kind: row.finished_at for row in ended},
        starts={row.kind: row.started_at for row in ended},
        running=frozenset(row.kind for row in runs if row.finished_at is None),
        rejected=count_open(connection, NOT_COPIED),
        altered=count_open(connection, ALTERED),
        failing=failures(connection),
        next_runs=next_runs(connection),
        waiting=waiting(connection, max(began)) if began and holder_of(connection) else None,
        resting=prices.resting(connection, now),
        lost=frozenset(view for view, reason in gone.items() if reason == "tenant"),
    )


def _last_runs(connection: sa.Connection) -> list[sa.Row[Any]]:
    """The last successful run of each kind, and those in progress."""
    run = sync_runs.c
    last = sa.select(sa.func.max(run.run_id)).where(run.status.in_(SUCCEEDED)).group_by(run.kind)
    wanted = sa.or_(run.run_id.in_(last), run.status == "running")
    return list(connection.execute(sa.select(run.kind, run.started_at, run.finished_at).where(wanted)))


def failures(connection: sa.Connection) -> dict[PassKind, FailureStreak]:
    """The failures of each kind whose last run failed. Interrupted runs and runs in progress are ignored."""
    run = sync_runs.c
    columns = sa.select(run.kind, run.status, run.error, run.finished_at)
    ended = columns.where(run.status.in_((*SUCCEEDED, "failed")), run.finished_at.is_not(None))
    found: dict[PassKind, FailureStreak] = {}
    done: set[PassKind] = set()
    for kind, status, error, at in connection.execute(ended.order_by(run.run_id.desc()).limit(RUNS_READ)):
        if status != "failed":
            done.add(kind)
        elif kind not in done:
            last = found.get(kind, FailureStreak(0, error or "", at))
            found[kind] = last._replace(runs=last.runs + 1, since=at)
    return found
