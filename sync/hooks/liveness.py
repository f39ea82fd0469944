"""Whether the worker still moves: each thing that happens is a beat, an announced wait buys time.

A worker may wait for an hour because the tenant said so, and an idle one has nothing to do. One that is
busy and has not been heard of for STILL_S, beyond any wait it announced, is stuck.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

STILL_S: Final = 600.0  # longer than any request, transaction or retry of one goes without a word


class Liveness:
    """Signs of life of one worker; called from every thread.

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
        """The tenant answered, or its database did."""
        self.beat()
        self._heard_at = self._clock()

    def beat(self, wait_s: float = 0.0) -> None:
        """Something happened; the next sign of life may be so many seconds later than usual."""
        self._expected_by = self._clock() + wait_s + STILL_S

    @property
    def silent_s(self) -> float:
        """Seconds since anything was heard, from the beginning of the work at most."""
        return self._clock() - self._heard_at

    @property
    def busy_with(self) -> str:
        return self._busy

    @property
    def is_stuck(self) -> bool:
        return bool(self._busy) and self._clock() > self._expected_by
