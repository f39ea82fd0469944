"""Events are hints, never data: read the products that they name, like any page, and note the position.

The position is stored once everything that was read is committed, so a killed run reads the same products
again, which changes nothing. Watermarks do not move: a pass still finds what events did not announce.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, Self

import sqlalchemy as sa

from sync.db import state
from sync.db.engine import in_transaction, reading
from sync.errors import Interrupted, LeaseHeld
from sync.events.hints import Hints
from sync.events.journal import PositionExpired
from sync.events.reader import Reader
from sync.passes.incremental import incremental, unloaded
from sync.passes.named import read_named
from sync.passes.reference import fetch_on_sight
from sync.passes.run import Summary, Sync, start

EVENTS: Final = "events"  # key in sync_state
BUSY_S: Final = 2.0  # until the next try while another run writes
State = Literal["following", "gap", "refused"]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a journal has been applied.

    journal    its EVENTS_JOURNAL_URL: a position means nothing in another one
    link       URL of the batch to read next
    state      `gap` until a pass has found what expired events would have named; `refused` with a reason
    at         when the newest event applied had happened, as ISO text
    """

    journal: str
    link: str
    state: State = "following"
    reason: str = ""
    at: str = ""

    @classmethod
    def load(cls, connection: sa.Connection, journal: str) -> Self | None:
        """The stored position in this journal; None if there is none."""
        kept: dict[str, Any] = state.load(connection, EVENTS) or {}
        return cls(**kept) if kept.get("journal") == journal else None

    def save(self, tx: sa.Connection) -> None:
        state.save(tx, EVENTS, asdict(self))


def apply(sync: Sync, hints: Hints, position: Position) -> Summary:
    """Read the products named, tombstone those proven gone, and store the position."""
    with start(sync, "incremental") as run:
        for view in run.sync.store_views:
            with run.apart(view):
                read_named(run, view, hints.ids, hints.skus, allow_mass_delete=False)
        fetch_on_sight(run)
        run.transact(position.save)
    return run.summary()


# --- following -------------------------------------------------------------------------------


def begin(sync: Sync, reader: Reader) -> Position:
    """The stored position; else the journal's end, stored before anything is loaded.

    A copy that is not loaded yet is loaded then, so nothing between the two is missed.
    """
    url = reader.journal.url
    position = reading(sync.db, lambda c: Position.load(c, url), stop=sync.stop)
    if position is None:
        position = _store(sync, Position(url, reader.journal.end()))
    if unloaded(sync):
        incremental(sync)
    return position


def step(sync: Sync, reader: Reader, position: Position) -> tuple[Position, float | None]:
    """Read and apply what comes next; returns the new position, and how long to wait before the next step."""
    try:
        batches = reader.read(position.link)
    except PositionExpired as error:
        return _catch_up(sync, reader, position, str(error)), None
    reached = replace(position, link=batches.link, at=batches.hints.newest or position.at)
    if batches.hints.found:
        apply(sync, batches.hints, reached)
    elif reached != position:
        _store(sync, reached)
    return reached, batches.wait_s


def _catch_up(sync: Sync, reader: Reader, position: Position, reason: str) -> Position:
    """Begin at the journal's end, and have a pass find what the expired events would have named."""
    gap = _store(sync, replace(position, link=reader.journal.end(), state="gap", reason=reason))
    summary = incremental(sync)
    return _store(sync, replace(gap, state="following", reason=f"gap, caught up by run {summary.run_id}"))


def _store(sync: Sync, position: Position) -> Position:
    in_transaction(sync.db, position.save, stop=sync.stop)
    return position


def follow(sync: Sync, reader: Reader, *, once: bool) -> None:
    """Follow the journal until `sync.stop` is set, or once to its end.

    While another run writes, following waits for it. Raises Interrupted, and with `once` LeaseHeld.
    """
    position = begin(sync, reader)
    while True:
        try:
            position, wait_s = step(sync, reader, position)
        except LeaseHeld:
            if once:
                raise
            wait_s = BUSY_S
        if wait_s is not None and once:
            return
        if wait_s is not None and sync.stop.wait(wait_s):
            raise Interrupted("Stopped following the journal.", "start it again: it continues there.")
