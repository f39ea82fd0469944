"""Triggers for APScheduler: at the times of a cron expression, or after an interval.

APScheduler compares wall-clock times. A wall clock can be set, but an interval must keep its length. So
`After` uses a monotonic clock, and `follow_wall_clock` adjusts the wall-clock times to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta, tzinfo
from random import uniform
from typing import Final

from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.triggers.base import BaseTrigger

from sync.monitor.steady import uptime
from sync.settings.cron import next_time

# cron(8) repeats no job after a smaller step back: the end of daylight saving time, or a correction.
CRON_REPEATS_NOT: Final = timedelta(hours=3)
TIMER_S: Final = 1.0  # a firing so early is on time: two clocks are compared, and timers are not exact


class AtCrontab(BaseTrigger):  # type: ignore[misc] # apscheduler has no types
    """Fires at the times of a validated cron expression, in a time zone."""

    def __init__(self, crontab: str, zone: tzinfo) -> None:
        self._crontab, self._zone = crontab, zone

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        return next_time(self._crontab, self._zone, now if previous is None else max(previous, now))


class After(BaseTrigger):  # type: ignore[misc]
    """Fires after `first_s` seconds, then every `every_s`; only once if that is None.

    When the wall clock is set forward, APScheduler may fire before `follow_wall_clock` has adjusted the time.
    Such a firing is one more: the next one keeps its time.

    jitter_s    each time is early or late by at most this many seconds
    clock       seconds of a monotonic clock
    """

    def __init__(
        self,
        first_s: float,
        every_s: float | None = None,
        jitter_s: float = 0.0,
        clock: Callable[[], float] = uptime,
    ) -> None:
        self._every_s, self._jitter_s, self._clock = every_s, jitter_s, clock
        self._due = clock() + first_s
        self._last_fired: datetime | None = None

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        if previous is not None and self._every_s is None:
            return None
        if previous != self._last_fired and self._every_s is not None:  # called twice per firing
            self._last_fired = previous
            late_s = self._clock() - self._due
            if late_s >= -self._jitter_s - TIMER_S:
                self._due += (max(0.0, late_s) // self._every_s + 1) * self._every_s
        jitter_s = uniform(-self._jitter_s, self._jitter_s)  # noqa: S311 -- no secret
        return self.by_wall_clock(now) + timedelta(seconds=jitter_s)

    def by_wall_clock(self, now: datetime) -> datetime:
        """The next time without jitter, on a wall clock that shows `now`."""
        return now + timedelta(seconds=self._due - self._clock())


class WallClock:
    """Detects that the wall clock was set, by comparison with a monotonic clock."""

    def __init__(self, clock: Callable[[], float] = uptime) -> None:
        self._clock = clock
        self._began: datetime | None = None
        self._at = 0.0

    def set_by(self, now: datetime) -> timedelta:
        """By how much it was set since the last call; it shows `now`."""
        began, at = self._began, self._at
        self._began, self._at = now, self._clock()
        return timedelta() if began is None else now - began - timedelta(seconds=self._at - at)


def follow_wall_clock(jobs: Iterable[Job], now: datetime, set_by: timedelta) -> None:
    """Adjust the next times of jobs to a wall clock that was set by `set_by` and shows `now`."""
    for job in jobs:
        with suppress(JobLookupError):  # it fired for the last time meanwhile
            if isinstance(job.trigger, After):
                job.modify(next_run_time=job.trigger.by_wall_clock(now))
            elif set_by < -CRON_REPEATS_NOT:
                job.modify(next_run_time=job.trigger.get_next_fire_time(None, now))
