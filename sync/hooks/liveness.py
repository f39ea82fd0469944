"""Liveness of a worker: each event is a heartbeat, an announced wait extends the deadline.

A worker may wait for an hour when the tenant asks for it, and an idle one has nothing to do. A busy worker
without a heartbeat for STILL_S, beyond any announced wait, is stuck.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

STILL_S: Final = 600.0  # longer than any request, transaction or retry lasts without an event


class Liveness:
    """Heartbeats of one worker; called from every thread.

    clock    seconds that never go backwards
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._busy = ""
        self._expected_by = clock() + STILL_S
        self._heard_at = clock()

    def begin(self, work: str) -> None:
        """The worker starts `work`; "" when it is idle."""
        self.heard()
        self._busy = work

    def heard(self) -> None:
        """The tenant or the database answered."""
        self.beat()
        self._heard_at = self._clock()

    def beat(self, wait_s: float = 0.0) -> None:
        """A heartbeat; the next one may come `wait_s` seconds later than usual."""
        self._expected_by = self._clock() + wait_s + STILL_S

    @property
    def silent_s(self) -> float:
        """Seconds since the last answer, at most since the work began."""
        return self._clock() - self._heard_at

    @property
    def busy_with(self) -> str:
        return self._busy

    @property
    def is_stuck(self) -> bool:
        return bool(self._busy) and self._clock() > self._expected_by
