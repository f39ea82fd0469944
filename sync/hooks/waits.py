"""Announces in the copy what a run waits for, from a thread of its own: a slow database delays no request."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Final

import sqlalchemy as sa

from sync.commerce.client import Hook
from sync.db.announcements import announce_answer, announce_wait

SHORTEST_S: Final = 1.0  # shorter waits are over before anybody has read of them


class WaitAnnouncer:
    """A client's Hook, from the start of its thread until `close`; forwards to `then`."""

    def __init__(self, db: sa.Engine, then: Hook) -> None:
        self._db, self._then = db, then
        self._is_waiting, self._is_closed = False, False
        self._news: Callable[[], None] | None = None
        self._lock, self._wake = Lock(), Event()
        self._thread = Thread(target=self._announce, name="waits", daemon=True)

    def request_finished(
        self, path: str, store_view: str, status: int | None, seconds: float, size: int, attempt: int
    ) -> None:
        if self._is_waiting and status is not None and status < 400:
            self._is_waiting = False
            self._tell(lambda: announce_answer(self._db))
        self._then.request_finished(path, store_view, status, seconds, size, attempt)

    def request_retried(self, path: str, reason: str, wait_s: float, attempt: int) -> None:
        if wait_s >= SHORTEST_S:
            self._is_waiting = True
            self._tell(lambda: announce_wait(self._db, attempt, reason, wait_s))
        self._then.request_retried(path, reason, wait_s, attempt)

    def throttled(self, wait_s: float) -> None:
        self._then.throttled(wait_s)

    def close(self) -> None:
        """Write the last news, and announce nothing more; a database that hangs is not waited for."""
        self._is_closed = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def _tell(self, news: Callable[[], None]) -> None:
        """Have the newest news written; older ones that are not written yet are dropped."""
        with self._lock:
            self._news = news
            if self._thread.ident is None:
                self._thread.start()
        self._wake.set()

    def _announce(self) -> None:
        while not self._is_closed or self._news is not None:
            self._wake.wait()
            self._wake.clear()
            news, self._news = self._news, None
            if news is not None:
                news()
