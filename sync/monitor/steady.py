"""Ages of a copy that do not jump when a clock is set. Pure.

The copy's times are wall-clock times of the database. If that clock is set forward by an hour, everything
looks an hour old; if it is set back, everything looks new. So `SteadyAges` counts the age of what it has seen
before on a monotonic clock, and moves the times of each snapshot accordingly.

A time that is new in a snapshot may be from before a step that was seen earlier: it is, if it is older than
the step or in the future.

Schedules follow the wall clock. A step over the time of a pass makes it due, not overdue: for `settle` after
a step, they are judged by the time just before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Final, NamedTuple, TypeVar

from sync.db.health import Freshness

K = TypeVar("K", bound=str)

CLOCK_STEP: Final = timedelta(seconds=2)  # smaller ones are corrections, or the time that a query took
STEPS: Final = 10  # remembered


def uptime() -> float:
    """Seconds on a clock that is never set. On Linux it includes the time that the machine was suspended."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class _Step(NamedTuple):
    """The clock was set by `by` between the looks at `earliest` and `at`, seconds of the monotonic clock.

    before    what it would have shown at `at`
    """

    at: float
    earliest: float
    by: timedelta
    before: datetime


class _Seen(NamedTuple):
    """A time of the copy as stored, and its age when it was first seen at `at`."""

    stored: datetime
    age: timedelta
    at: float


class SteadyAges:
    """Remembers the times of one copy from look to look; for any thread.

    settle    how long schedules are not judged by a clock that was just set
    clock     seconds of a monotonic clock
    """

    def __init__(self, settle: timedelta, clock: Callable[[], float] = uptime) -> None:
        self._settle, self._clock = settle, clock
        self._seen: dict[str, _Seen] = {}
        self._steps: list[_Step] = []  # newest first
        self._last: tuple[datetime, float] | None = None
        self._lock = Lock()

    def of(self, found: Freshness) -> Freshness:
        """A snapshot just taken, with the times that give steady ages."""
        with self._lock:
            at = self._clock()
            self._notice_step(found.now, at)
            return replace(
                found,
                marks=self._steady("mark", found.marks, found.now, at),
                successes=self._steady("success", found.successes, found.now, at),
                scheduled_now=self._scheduled_now(at),
            )

    def _notice_step(self, now: datetime, at: float) -> None:
        last, self._last = self._last, (now, at)
        if last is None:
            return
        before = last[0] + timedelta(seconds=at - last[1])
        if abs(now - before) > CLOCK_STEP:
            self._steps = [_Step(at, last[1], now - before, before), *self._steps[: STEPS - 1]]

    def _scheduled_now(self, at: float) -> datetime | None:
        settling = [it for it in self._steps if timedelta(seconds=at - it.at) <= self._settle]
        return settling[-1].before if settling else None

    def _steady(self, what: str, stored: Mapping[K, datetime], now: datetime, at: float) -> dict[K, datetime]:
        return {name: now - self._age(f"{what} {name}", time, now, at) for name, time in stored.items()}

    def _age(self, name: str, stored: datetime, now: datetime, at: float) -> timedelta:
        seen = self._seen.get(name)
        if seen is None or seen.stored != stored:
            seen = self._seen[name] = _Seen(stored, self._first_age(now - stored, at), at)
        return seen.age + timedelta(seconds=at - seen.at)

    def _first_age(self, age: timedelta, at: float) -> timedelta:
        """The true age of a time that looks so old, going back through the steps after it."""
        for step in self._steps:
            if timedelta() <= age <= timedelta(seconds=at - step.earliest):
                break
            age -= step.by
        return max(age, timedelta())
