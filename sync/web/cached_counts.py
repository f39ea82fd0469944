"""Figures that take longer to count than a page may: counted beside the pages, shown as they were last.

A million products are counted in a tenth of a second, more while they are being written. So a page shows the
last count and, where that is old, has it made anew in a thread; counting takes a fiftieth of the time.
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
from sync.errors import SyncError

KEPT_S = 5.0
REST = 50  # times as long as the last count took
FIRST_S = 0.07  # a page waits so long for the very first count


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted, and when by the database's clock."""

    at: datetime
    store_views: list[overview.StoreViewState]
    feeds: list[overview.FeedState]
    open_rejections: int
    altered: int


class CachedCounts:
    """The last count; asking for it never takes longer than FIRST_S seconds."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._last: Counts | None = None
        self._due = 0.0
        self._lock = Lock()
        self._counted = Event()

    def last(self) -> Counts | None:
        """What was counted last; None while nothing was yet."""
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
            pass  # the page that asked says so itself
        finally:
            self._due = monotonic() + max(KEPT_S, REST * (monotonic() - began))


def _count(connection: sa.Connection) -> Counts:
    return Counts(
        at=utc_now(connection),
        store_views=overview.store_views(connection),
        feeds=overview.feeds(connection),
        open_rejections=sum(count_open(connection, NOT_COPIED).values()),
        altered=sum(count_open(connection, ALTERED).values()),
    )
