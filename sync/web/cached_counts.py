"""Cached counts, because counting may take longer than a page should.

Counting a million products takes a tenth of a second, more during writes. So a page shows the last count and,
if that is old, starts a new count in a thread. Counting uses at most a fiftieth of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from threading import Event, Lock, Thread
from time import monotonic

import sqlalchemy as sa

from sync.db import overview
from sync.db.dialects import utc_now
from sync.db.engine import reading
from sync.db.rejected import ALTERED, NOT_COPIED, count_open
from sync.db.storage import Storage, storage
from sync.errors import SyncError

KEPT_S = 5.0
REST = 50  # pause between counts, as a multiple of the last count's duration
FIRST_S = 0.07  # how long a page waits for the very first count


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts and their time by the database's clock."""

    at: datetime
    store_views: list[overview.StoreViewState]
    feeds: list[overview.FeedState]
    open_rejections: int
    altered: int
    storage: Storage


class CachedCounts:
    """The last counts of one copy; `last` never takes longer than FIRST_S seconds."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._last: Counts | None = None
        self._due = 0.0
        self._lock = Lock()
        self._counted = Event()

    def last(self) -> Counts | None:
        """The last counts; None before the first count."""
        with self._lock:
            if monotonic() >= self._due:
                self._due = float("inf")
                Thread(target=self._count, name="counters", daemon=True).start()
        self._counted.wait(FIRST_S)
        return self._last

    def _count(self) -> None:
        began = monotonic()
        try:
            self._last = reading(self._engine, _count)
            self._counted.set()
        except SyncError:
            pass  # the page reports the error itself
        finally:
            self._due = monotonic() + max(KEPT_S, REST * (monotonic() - began))


def _count(connection: sa.Connection) -> Counts:
    return Counts(
        at=utc_now(connection),
        store_views=overview.store_views(connection),
        feeds=overview.feeds(connection),
        open_rejections=sum(count_open(connection, NOT_COPIED).values()),
        altered=sum(count_open(connection, ALTERED).values()),
        storage=storage(connection),
    )
