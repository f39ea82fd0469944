"""What running processes announce in the copy: the daemon's next runs, and what a run waits for.

Times are by the database's clock. What nobody takes back grows old: a time that has passed is one that no
daemon kept, and a wait noted before the run in progress began is another run's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Event
from typing import Final, NamedTuple

import sqlalchemy as sa

from sync.db import state
from sync.db.dialects import utc_now
from sync.db.engine import in_transaction
from sync.errors import SyncError
from sync.model import PassKind

NEXT_RUNS: Final = "next_runs"  # in sync_state
WAITING: Final = "waiting"


class Wait(NamedTuple):
    """A run's wait for Commerce.

    tries      that failed so far
    reason     why the last one failed
    next_at    when the next one begins, or began
    """

    tries: int
    reason: str
    noted_at: datetime
    next_at: datetime


def announce_wait(db: sa.Engine, tries: int, reason: str, wait_s: float) -> None:
    """Note that the run in progress waits so many seconds; not at all if the database is busy."""

    def note(tx: sa.Connection) -> None:
        now = utc_now(tx)
        next_at = now + timedelta(seconds=wait_s)
        times = {"noted_at": now.isoformat(), "next_at": next_at.isoformat()}
        state.save(tx, WAITING, {"tries": tries, "reason": reason, **times})

    _at_once(db, note)


def announce_answer(db: sa.Engine) -> None:
    """Note that Commerce answers again."""
    _at_once(db, lambda tx: state.save(tx, WAITING, {}))


def announce_next_runs(db: sa.Engine, in_s: Mapping[PassKind, float]) -> None:
    """Note in how many seconds each kind of pass runs next, in place of what was noted before."""

    def note(tx: sa.Connection) -> None:
        now = utc_now(tx)
        times = {kind: (now + timedelta(seconds=s)).isoformat() for kind, s in in_s.items()}
        state.save(tx, NEXT_RUNS, times)

    _at_once(db, note)


def _at_once(db: sa.Engine, note: state.Work) -> None:
    stop = Event()
    stop.set()
    with suppress(SyncError):
        in_transaction(db, note, stop=stop, receipt=False)


def next_runs(connection: sa.Connection) -> dict[PassKind, datetime]:
    """When each kind of pass runs next, soonest first, by the last announcement."""
    kept = state.load(connection, NEXT_RUNS) or {}
    times = {kind: datetime.fromisoformat(at) for kind, at in kept.items()}
    return dict(sorted(times.items(), key=lambda item: item[1]))


def waiting(connection: sa.Connection, since: datetime) -> Wait | None:
    """What the run that began at `since` waits for; None while Commerce answers."""
    kept = state.load(connection, WAITING)
    if not kept:
        return None
    times = {name: datetime.fromisoformat(kept[name]) for name in ("noted_at", "next_at")}
    found = Wait(kept["tries"], kept["reason"], **times)
    return found if found.noted_at >= since else None
