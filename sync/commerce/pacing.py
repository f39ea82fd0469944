"""Pacing: when the next request may start, so that the tenant's limit is found, used and rarely exceeded.

The limit of a tenant is not published, so it is learned from the answers. One pacer serves all threads of a
tenant. Its values change only when a request starts or ends; the clock is passed in. A request starts when
all of them allow it:

    Rate               requests a second, for a quota          rate.py: slow start, hold, probe
    ConcurrencyLimit   requests in flight                      concurrency.py: latency against its floor
    RateHeaders        what rate-limit headers report as left  rate_headers.py: spent evenly
    Pace               all of them, and the pause after a refusal

A refusal (429, or 503 with a Retry-After) pauses all requests for the time it names; then a single request
probes. Other 502, 503, 504, time-outs and broken connections lower the concurrency limit; two in a row lower
the rate too, and further ones pause 1, 2, 4 … seconds, so that a tenant that is down receives one request a
minute. Any other failure (500) concerns one item while other requests are answered; more than MOST_ERRORS
in a row count like those. `max_rps`, `max_in_flight` and the quiet hours are ceilings over all of it.

Sources: RFC 9110, 10.2.3 (Retry-After); RFC 6585, 4 (429); those of the three parts in their files.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, tzinfo
from time import monotonic
from typing import Final, Literal, get_type_hints

import msgspec

from sync.commerce.concurrency import ConcurrencyLimit
from sync.commerce.rate import FIRST_RATE, FIRST_SHARED_RATE, JITTER_S, Rate
from sync.commerce.rate_headers import RateHeaders, read_rate_headers
from sync.commerce.server_clock import ServerClock
from sync.commerce.shared_state import SharedState
from sync.errors import Interrupted, SyncError

Kind = Literal["page", "light"]
Reason = Literal["pacing", "quota", "in_flight", "pause"]

LONGEST_PAUSE_S: Final = 60.0  # without a Retry-After, which is always waited for in full
MOST_ERRORS: Final = 9  # in a row: three sizes of a page, three tries each, then a small request is sent
OVERLOADED: Final = frozenset({None, 502, 503, 504})
POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended.

    status         None for a time-out or a broken connection
    seconds        from its start to its end
    retry_after    seconds to wait, from `Retry-After` in either form
    retry_at       the date in it, if it holds one: exact by the tenant's clock
    answered_at    `Date` of the answer
    headers        of the answer; only the rate-limit ones and Date are read
    kind           `page` is heavy, `light` anything else: their latencies have separate floors
    is_failure     the tenant did not do the work, whatever the status: a 500, or a 400 that stands for one
    """

    status: int | None
    seconds: float
    retry_after: float | None = None
    retry_at: datetime | None = None
    answered_at: datetime | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: Kind = "page"
    is_failure: bool = False

    @property
    def is_throttled(self) -> bool:
        """The answer names a limit: by its status or by a Retry-After."""
        return self.status == 429 or (self.is_overload and self.retry_after is not None)

    @property
    def is_overload(self) -> bool:
        return self.status in OVERLOADED


@dataclass(frozen=True, slots=True)
class Learned:
    """What a pacer has learned, kept over a restart.

    rate         requests a second, None when no limit was met
    in_flight    requests at once
    reached      requests a second sent without a refusal, where no limit was met
    page_s       seconds a page took alone, None when none was read
    """

    rate: float | None
    in_flight: int
    reached: float = FIRST_RATE
    page_s: float | None = None


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hours of the day in a time zone with a lower ceiling; `end` before `start` spans midnight."""

    start: time
    end: time
    max_rps: float
    zone: tzinfo

    def ceiling_at(self, moment: datetime) -> float | None:
        """The ceiling in requests a second, None outside the hours."""
        clock = moment.astimezone(self.zone).time()
        inside = self.start <= clock < self.end
        if self.end <= self.start:
            inside = clock >= self.start or clock < self.end
        return self.max_rps if inside else None


@dataclass(frozen=True, slots=True)
class Pace:
    """Everything that decides about the next start; times are by the caller's clock.

    resume_at     no request starts before it
    refused_at    when the last refusal arrived: requests that started earlier belong to the same event
    failures      refusals since the last accepted request
    errors        failures in a row that show no overload
    probe_at      after a pause one request probes: inf while it is due, then its start, None once accepted
    probe_wait    seconds it probes alone: a limiter that takes 20 ms to refuse needs longer to accept
    clock         the tenant's clock relative to the caller's
    is_shared     other processes send requests too, and may have some in flight when we have none
    """

    rate: Rate
    room: ConcurrencyLimit
    in_flight: int = 0
    allowance: RateHeaders | None = None
    resume_at: float = -math.inf
    refused_at: float = -math.inf
    failures: int = 0
    errors: int = 0
    probe_at: float | None = None
    probe_wait: float = 0.0
    clock: ServerClock = field(default_factory=ServerClock)
    is_shared: bool = False

    @property
    def learned(self) -> Learned:
        """What to keep; a rate lowered by overload is not kept, because overload passes."""
        named = self.rate.probing not in (None, "recovering")
        in_flight = self.room.remembered[0] if self.room.remembered else self.room.limit
        return Learned(self.rate.base if named else None, in_flight, self.rate.reached, self.room.page_floor)


def new_pace(max_in_flight: int, learned: Learned | None = None, *, is_shared: bool = False) -> Pace:
    """The initial pace: slow start, and what an earlier run learned, which the first answers confirm."""
    if learned is None:
        rate = Rate(base=FIRST_SHARED_RATE) if is_shared else Rate()
        return Pace(rate, ConcurrencyLimit(max_in_flight, in_company=is_shared), is_shared=is_shared)
    rate = Rate.beginning_at(learned.reached) if learned.rate is None else Rate.going_on_at(learned.rate)
    limit = max(1, min(max_in_flight, learned.in_flight))
    remembered = None if learned.page_s is None else (limit, learned.page_s)
    room = ConcurrencyLimit(max_in_flight, remembered=remembered, in_company=is_shared)
    return Pace(rate, room, is_shared=is_shared)


def next_start(pace: Pace, now: float, ceiling: float | None = None) -> float:
    """When the next request may start: a time that may be past, inf when an answer must come first.

    ceiling    most requests a second, None for no ceiling
    """
    if pace.in_flight >= pace.room.limit:
        return math.inf
    idle = pace.in_flight == 0 and not pace.is_shared
    due = [pace.resume_at, pace.rate.next_slot(idle, ceiling)]
    if pace.probe_at is not None and pace.probe_at < math.inf:
        due.append(pace.probe_at + pace.probe_wait)
    if pace.allowance is not None:
        due.append(pace.allowance.next_slot(pace.rate.starts[-1], now))
    return max(due)


def reason_to_wait(pace: Pace, now: float) -> Reason:
    """What a request waits for."""
    if pace.in_flight >= pace.room.limit:
        return "in_flight"
    if pace.resume_at > now or pace.probe_at is not None:
        return "pause"
    if pace.allowance is not None and pace.allowance.next_slot(pace.rate.starts[-1], now) > now:
        return "quota"
    return "pacing"


def try_start(pace: Pace, now: float, ceiling: float | None = None) -> tuple[Pace, float]:
    """The pace with one more request started, or unchanged with the seconds until the next attempt."""
    wait = next_start(pace, now, ceiling) - now
    return (started(pace, now, ceiling) if wait <= 0 else pace), wait


def started(pace: Pace, now: float, ceiling: float | None = None) -> Pace:
    """The pace once a request has started; `ceiling` as for next_start."""
    in_flight = pace.in_flight + 1
    return replace(
        pace,
        in_flight=in_flight,
        rate=pace.rate.started(now, ceiling),
        room=pace.room.started(in_flight),
        allowance=pace.allowance and pace.allowance.started(),
        probe_at=now if pace.probe_at == math.inf else None,
    )


def answered(pace: Pace, now: float, begun: float, outcome: Outcome) -> Pace:
    """The pace once the request that started at `begun` has ended."""
    allowance = _allowance(pace, now, begun, outcome.headers)
    clock = pace.clock
    if outcome.answered_at is not None:
        clock = clock.heard(outcome.answered_at, now - outcome.seconds, now)
    pace = replace(pace, in_flight=pace.in_flight - 1, allowance=allowance, clock=clock)
    if outcome.is_throttled or outcome.is_overload:
        return _refused(pace, now, begun, outcome)
    pace = replace(pace, errors=pace.errors + 1 if outcome.is_failure else 0)
    if pace.errors > MOST_ERRORS:
        return _refused(pace, now, begun, outcome)
    if begun >= pace.refused_at:
        pace = _let_in(pace, begun)
    if outcome.status is not None and outcome.status >= 400:
        return pace  # shows neither overload nor a comparable latency
    return replace(
        pace, rate=pace.rate.answered(), room=pace.room.answered(now, outcome.kind, outcome.seconds)
    )


def _let_in(pace: Pace, begun: float) -> Pace:
    rate = pace.rate.resumed(begun) if pace.failures else pace.rate
    return replace(pace, rate=rate, failures=0, probe_at=None)


def _refused(pace: Pace, now: float, begun: float, outcome: Outcome) -> Pace:
    """Pause, and send less: once for all requests that were in flight together."""
    wait = _wait(pace, now, outcome)
    resume_at = max(pace.resume_at, now + wait)
    probe_at = math.inf if wait else pace.probe_at
    if begun < pace.refused_at:
        return replace(pace, resume_at=resume_at, probe_at=probe_at)
    rate, room = pace.rate, pace.room
    if outcome.is_throttled:
        rate = rate.refused(begun, wait, resume_at, dated=outcome.retry_at is not None)
    elif pace.failures == 1:
        rate = rate.slowed(now)
    if outcome.is_overload or pace.failures:  # a quota alone shows nothing about the workers
        room = room.overloaded(now)
    return replace(
        pace,
        rate=rate,
        room=room,
        resume_at=resume_at,
        refused_at=now,
        failures=pace.failures + 1,
        probe_at=probe_at,
        probe_wait=2 * outcome.seconds + JITTER_S,
    )


def _wait(pace: Pace, now: float, outcome: Outcome) -> float:
    """Seconds to pause: the Retry-After; else 1, 2, 4 …, but 0 for a first sign of overload."""
    if outcome.retry_after is not None and outcome.retry_at is not None and outcome.answered_at is not None:
        return min(outcome.retry_after, max(0.0, pace.clock.wait_until(outcome.retry_at, now)))
    if outcome.retry_after is not None:
        return outcome.retry_after
    if outcome.is_overload and not pace.failures:
        return 0.0
    doublings = pace.failures - 1 if outcome.is_overload else pace.failures
    return min(LONGEST_PAUSE_S, 2.0 ** min(doublings, 10))


def _allowance(pace: Pace, now: float, begun: float, headers: Mapping[str, str]) -> RateHeaders | None:
    headers_now, old = read_rate_headers(headers), pace.allowance
    if headers_now is None or (old is not None and old.is_newer(begun, now)):
        return old
    remaining, reset = headers_now
    left = max(0, remaining - sum(start > begun for start in pace.rate.starts))
    until = begun + reset  # counts from when it was served, which is nearer to its start than to its end
    if old is not None and now < old.until and left <= old.left:
        until = min(until, old.until)  # same window: resets are whole seconds, rounded up
    return RateHeaders(left, until, gap=max(0.0, until - pace.rate.starts[-1]) / (left + 1), as_of=begun)


# --- one pace for several processes ----------------------------------------------------------


# A quota counts all requests of a tenant, so its values are shared. Each process finds its own concurrency
# limit from latencies, as TCP flows that share a link do (Vegas).
SHARED: Final = ("rate", "allowance", "resume_at", "refused_at", "failures", "probe_at", "probe_wait")


def to_share(pace: Pace) -> str:
    """The shared values as JSON, with infinities as Python writes them."""
    return json.dumps({name: msgspec.to_builtins(getattr(pace, name)) for name in SHARED})


def is_news(pace: Pace, before: Pace) -> bool:
    """Whether a shared value has changed."""
    return any(getattr(pace, name) != getattr(before, name) for name in SHARED)


def as_shared(pace: Pace, text: str | None) -> Pace:
    """The pace with the shared values from `text`; unchanged when another version wrote it."""
    if text is None:
        return pace
    try:
        shared = {name: msgspec.convert(it, _SHARED_AS[name]) for name, it in json.loads(text).items()}
    except (KeyError, ValueError):
        return pace
    return replace(pace, **shared)


_SHARED_AS = {name: kind for name, kind in get_type_hints(Pace).items() if name in SHARED}
for _kind in _SHARED_AS.values():
    msgspec.json.Decoder(_kind)  # builds it before threads start, see `mapping`


class Pacer:
    """One tenant's pace, shared by all threads: `acquire` before every request, `release` after it.

    max_in_flight, max_rps    ceilings, never exceeded
    learned                   by an earlier pacer, to continue with
    clock, wall               seconds that only grow; the time of day, aware, for the quiet hours
    on_wait                   receives the reason of a wait and its seconds
    shared_state              the pace of all processes of the tenant; a process that dies holds nothing back
    """

    def __init__(
        self,
        max_in_flight: int,
        max_rps: float | None = None,
        quiet: QuietHours | None = None,
        learned: Learned | None = None,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_wait: Callable[[str, float], None] = lambda reason, seconds: None,
        shared_state: SharedState | None = None,
    ) -> None:
        self._pace = new_pace(max_in_flight, learned, is_shared=shared_state is not None)
        self._max_rps = max_rps
        self._quiet = quiet
        self._clock = clock
        self._wall = wall
        self._on_wait = on_wait
        self._changed = threading.Condition()
        self._shared_state = shared_state
        self._ahead = 0.0  # seconds that the clock of the shared state is ahead of ours
        self._turn = threading.Lock()

    def acquire(self, stop: threading.Event) -> float:
        """Wait until a request may start, and count it as started; returns its start by the pace's clock.

        Raises Interrupted once `stop` is set.
        """
        with self._queued(stop), self._changed:
            while (wait := self._start_or_wait(stop)) > 0:
                began, reason = self._clock(), reason_to_wait(self._pace, self._now())
                self._changed.wait(min(wait, POLL_S))
                self._on_wait(reason, self._clock() - began)
            return self._pace.rate.starts[-1]

    def release(self, begun: float, outcome: Outcome) -> None:
        """Count the request that started at `begun` as ended: exactly once for each, whatever its outcome."""
        with self._changed:
            pace = answered(self._pace, self._now(), begun, outcome)
            if self._shared_state is not None and is_news(pace, self._pace):
                with suppress(SyncError):  # the database is out of reach: the next acquire waits for it
                    pace = self._shared(lambda pace, now: answered(pace, now, begun, outcome))
            self._pace = pace
            self._changed.notify_all()

    @property
    def learned(self) -> Learned:
        with self._changed:
            return self._pace.learned

    @property
    def now(self) -> tuple[float, int, int]:
        """Requests a second, requests in flight, and the limit of requests in flight."""
        with self._changed:
            pace = self._pace
        rates = [rate for rate in (self._ceiling(), pace.rate.per_second) if rate is not None]
        return min(rates), pace.in_flight, pace.room.limit

    @contextmanager
    def _queued(self, stop: threading.Event) -> Iterator[None]:
        """Let one thread of a process use the shared state at a time."""
        if self._shared_state is None:
            yield
            return
        while not self._turn.acquire(timeout=POLL_S):
            _raise_if(stop)
        try:
            yield
        finally:
            self._turn.release()

    def _start_or_wait(self, stop: threading.Event) -> float:
        _raise_if(stop)
        ceiling, wait = self._ceiling(), math.inf
        if self._shared_state is None:
            self._pace, wait = try_start(self._pace, self._clock(), ceiling)
        elif self._pace.in_flight < self._pace.room.limit:

            def start(pace: Pace, now: float) -> Pace:
                nonlocal wait
                pace, wait = try_start(pace, now, ceiling)
                return pace

            self._pace = self._shared(start)
        return wait

    def _shared(self, change: Callable[[Pace, float], Pace]) -> Pace:
        """Change our pace together with the shared values, and store them if they changed."""
        assert self._shared_state is not None  # noqa: S101 - every caller checks

        def step(text: str | None, now: float) -> tuple[str | None, tuple[Pace, float]]:
            before = as_shared(self._pace, text)
            pace = change(before, now)
            return to_share(pace) if is_news(pace, before) else None, (pace, now)

        pace, now = self._shared_state.update(step)
        self._ahead = now - self._clock()
        return pace

    def _now(self) -> float:
        return self._clock() + self._ahead

    def _ceiling(self) -> float | None:
        quiet = self._quiet.ceiling_at(self._wall()) if self._quiet else None
        ceilings = [ceiling for ceiling in (self._max_rps, quiet) if ceiling is not None]
        return min(ceilings, default=None)


def _raise_if(stop: threading.Event) -> None:
    if stop.is_set():
        raise Interrupted("Stopped while waiting to start a request.")
