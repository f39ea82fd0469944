"""When the next request may start: the tenant's limit is found, used whole, and hardly ever overstepped.

Nobody publishes what a tenant bears, so it is learned from the answers. One pacer serves all threads of a
tenant. It holds values that only a start or an answer changes, the clock passed in; a request starts when all
of them let it:

    Rate         requests a second, for a quota                rate.py: slow start, hold, probe
    Room         requests in flight, for the server's workers  room.py: latency against its floor
    Allowance    what rate-limit headers say is left           allowance.py: spent evenly
    Pace         all of them, and the pause after a refusal

A refusal (429, or 503 with a Retry-After) pauses everybody, as long as told; then one request goes first.
Other 502, 503, 504, time-outs and broken connections make the room smaller; two in a row slow the rate too,
and further ones pause 1, 2, 4 … seconds, so that a tenant that is down gets one request a minute. `max_rps`,
`max_in_flight` and the quiet hours are ceilings over all of it.

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
from sync.commerce.rate_headers import RateHeaders, read_allowance
from sync.commerce.server_clock import ServerClock
from sync.commerce.shared_state import SharedState
from sync.errors import Interrupted, SyncError

Kind = Literal["page", "light"]
Reason = Literal["pacing", "quota", "in_flight", "pause"]

LONGEST_PAUSE_S: Final = 60.0  # of our own; a Retry-After is kept to the end
OVERLOADED: Final = frozenset({None, 502, 503, 504})
POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended.

    status         None for a time-out or a broken connection
    seconds        from its start to its end
    retry_after    seconds to wait, from `Retry-After` in either form
    retry_at       what it said, where that was a date: by the tenant's clock, so known better than in seconds
    answered_at    `Date` of the answer
    headers        of the answer; only the rate-limit ones and Date are read
    kind           `page` is heavy, `light` anything else: their latencies have floors of their own
    """

    status: int | None
    seconds: float
    retry_after: float | None = None
    retry_at: datetime | None = None
    answered_at: datetime | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: Kind = "page"

    @property
    def is_throttled(self) -> bool:
        """A limit was named: by the status or by a time to come back."""
        return self.status == 429 or (self.is_overload and self.retry_after is not None)

    @property
    def is_overload(self) -> bool:
        return self.status in OVERLOADED


@dataclass(frozen=True, slots=True)
class Learned:
    """What a restart need not find out again.

    rate         requests a second, None when no limit was met
    in_flight    requests at once
    reached      requests a second sent without a refusal, where no limit was met
    """

    rate: float | None
    in_flight: int
    reached: float = FIRST_RATE


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hours of the day, by a zone's clock, with a lower ceiling; `end` before `start` means over midnight."""

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
    """All that the next start depends on; times are the caller's clock.

    resume_at     nobody starts before it
    refused_at    when the last refusal arrived: what started before it belongs to the same event
    failures      refusals since the last request that was let in
    probe_at      after a pause one request goes first: inf while it is due, then its start, None when let in
    probe_wait    how long it goes alone: a limiter that took 20 ms to refuse has let in what it keeps longer
    clock         the tenant's, next to the caller's
    is_shared     other processes start requests too, and may have some in flight when we have none
    """

    rate: Rate
    room: ConcurrencyLimit
    in_flight: int = 0
    allowance: RateHeaders | None = None
    resume_at: float = -math.inf
    refused_at: float = -math.inf
    failures: int = 0
    probe_at: float | None = None
    probe_wait: float = 0.0
    clock: ServerClock = field(default_factory=ServerClock)
    is_shared: bool = False

    @property
    def learned(self) -> Learned:
        """Overload passes, so the rate it left behind is no limit to remember."""
        named = self.rate.probing not in (None, "recovering")
        return Learned(self.rate.base if named else None, self.room.limit, self.rate.reached)


def new_pace(max_in_flight: int, learned: Learned | None = None, *, is_shared: bool = False) -> Pace:
    """The pace to begin with: slow start, or where an earlier run left off."""
    if learned is None:
        rate = Rate(base=FIRST_SHARED_RATE) if is_shared else Rate()
        return Pace(rate, ConcurrencyLimit(max_in_flight, max_in_flight), is_shared=is_shared)
    rate = Rate.beginning_at(learned.reached) if learned.rate is None else Rate.going_on_at(learned.rate)
    room = ConcurrencyLimit(max_in_flight, max(1, min(max_in_flight, learned.in_flight)))
    return Pace(rate, room, is_shared=is_shared)


def next_start(pace: Pace, now: float, ceiling: float | None = None) -> float:
    """When the next request may start: a time that may be past, inf when an answer has to come first.

    ceiling    requests a second never to exceed, None for no such ceiling
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
    """What a request waits for: the last of its reasons to go away."""
    if pace.in_flight >= pace.room.limit:
        return "in_flight"
    if pace.resume_at > now or pace.probe_at is not None:
        return "pause"
    if pace.allowance is not None and pace.allowance.next_slot(pace.rate.starts[-1], now) > now:
        return "quota"
    return "pacing"


def try_start(pace: Pace, now: float, ceiling: float | None = None) -> tuple[Pace, float]:
    """The pace with one more request started, or as it is and the seconds until that may be tried again."""
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
    if begun >= pace.refused_at:
        pace = _let_in(pace, begun)
    if outcome.status is not None and outcome.status >= 400:
        return pace  # neither a sign of overload nor a latency to compare
    return replace(
        pace, rate=pace.rate.answered(), room=pace.room.answered(now, outcome.kind, outcome.seconds)
    )


def _let_in(pace: Pace, begun: float) -> Pace:
    rate = pace.rate.resumed(begun) if pace.failures else pace.rate
    return replace(pace, rate=rate, failures=0, probe_at=None)


def _refused(pace: Pace, now: float, begun: float, outcome: Outcome) -> Pace:
    """Wait, and send less: once for all the requests that were under way together."""
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
    if outcome.is_overload or pace.failures:  # a quota alone says nothing of workers
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
    """As told; else 1, 2, 4 … seconds, but nothing for a failure that came out of the blue."""
    if outcome.retry_after is not None and outcome.retry_at is not None and outcome.answered_at is not None:
        return min(outcome.retry_after, max(0.0, pace.clock.wait_until(outcome.retry_at, now)))
    if outcome.retry_after is not None:
        return outcome.retry_after
    if outcome.is_overload and not pace.failures:
        return 0.0
    doublings = pace.failures - 1 if outcome.is_overload else pace.failures
    return min(LONGEST_PAUSE_S, 2.0 ** min(doublings, 10))


def _allowance(pace: Pace, now: float, begun: float, headers: Mapping[str, str]) -> RateHeaders | None:
    told, old = read_allowance(headers), pace.allowance
    if told is None or (old is not None and old.is_newer(begun, now)):
        return old
    remaining, reset = told
    left = max(0, remaining - sum(start > begun for start in pace.rate.starts))
    until = begun + reset  # seconds from when it was served, which is nearer to its start than to its end
    if old is not None and now < old.until and left <= old.left:
        until = min(until, old.until)  # same window: resets are whole seconds, rounded up
    return RateHeaders(left, until, gap=max(0.0, until - pace.rate.starts[-1]) / (left + 1), as_of=begun)


# --- one pace for several processes ----------------------------------------------------------


# What a quota is about, which counts all requests of a tenant. Room is about how long answers take: each
# process finds its own, as TCP flows that share a link do (Vegas).
SHARED: Final = ("rate", "allowance", "resume_at", "refused_at", "failures", "probe_at", "probe_wait")


def to_share(pace: Pace) -> str:
    """The part that processes share, as text; infinities are spelled as Python's JSON does."""
    return json.dumps({name: msgspec.to_builtins(getattr(pace, name)) for name in SHARED})


def is_news(pace: Pace, before: Pace) -> bool:
    """Whether there is anything in a pace that other processes have to know."""
    return any(getattr(pace, name) != getattr(before, name) for name in SHARED)


def as_shared(pace: Pace, text: str | None) -> Pace:
    """The pace with the part that processes share as `text` has it; ours where another version wrote it."""
    if text is None:
        return pace
    try:
        told = {name: msgspec.convert(it, _SHARED_AS[name]) for name, it in json.loads(text).items()}
    except (KeyError, ValueError):
        return pace
    return replace(pace, **told)


_SHARED_AS = {name: kind for name, kind in get_type_hints(Pace).items() if name in SHARED}
for _kind in _SHARED_AS.values():
    msgspec.json.Decoder(_kind)  # works it out before there are threads, see `mapping`


class Pacer:
    """One tenant's pace, shared by all threads: `acquire` before every request, `release` behind it.

    max_in_flight, max_rps    ceilings, never exceeded
    learned                   of an earlier pacer, to go on where it stood
    clock, wall               seconds that only grow; the time of day, aware, for the quiet hours
    on_wait                   told why a request waited, and how many seconds
    shelf                     what other processes of the tenant share with us: no start, and no refusal, is
                              any process's own, so one that dies holds nothing back
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
        shelf: SharedState | None = None,
    ) -> None:
        self._pace = new_pace(max_in_flight, learned, is_shared=shelf is not None)
        self._max_rps = max_rps
        self._quiet = quiet
        self._clock = clock
        self._wall = wall
        self._on_wait = on_wait
        self._changed = threading.Condition()
        self._shelf = shelf
        self._ahead = 0.0  # of our clock is the shelf's
        self._turn = threading.Lock()

    def acquire(self, stop: threading.Event) -> float:
        """Wait until a request may start, and count it as started: returns when, by the pace's clock.

        Raises Interrupted once `stop` is set.
        """
        with self._queued(stop), self._changed:
            while (wait := self._start_or_wait(stop)) > 0:
                began, reason = self._clock(), reason_to_wait(self._pace, self._now())
                self._changed.wait(min(wait, POLL_S))
                self._on_wait(reason, self._clock() - began)
            return self._pace.rate.starts[-1]

    def release(self, begun: float, outcome: Outcome) -> None:
        """Count the request that started at `begun` as ended: each one once, whatever became of it."""
        with self._changed:
            pace = answered(self._pace, self._now(), begun, outcome)
            if self._shelf is not None and is_news(pace, self._pace):
                with suppress(SyncError):  # a database that is away: who asks next will wait for it
                    pace = self._shared(lambda pace, now: answered(pace, now, begun, outcome))
            self._pace = pace
            self._changed.notify_all()

    @property
    def learned(self) -> Learned:
        with self._changed:
            return self._pace.learned

    @property
    def now(self) -> tuple[float, int, int]:
        """Requests a second let through, requests in flight, and how many of these may be."""
        with self._changed:
            pace = self._pace
        rates = [rate for rate in (self._ceiling(), pace.rate.per_second) if rate is not None]
        return min(rates), pace.in_flight, pace.room.limit

    @contextmanager
    def _queued(self, stop: threading.Event) -> Iterator[None]:
        """One thread of a process looks at the shelf, the others wait behind it."""
        if self._shelf is None:
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
        if self._shelf is None:
            self._pace, wait = try_start(self._pace, self._clock(), ceiling)
        elif self._pace.in_flight < self._pace.room.limit:

            def start(pace: Pace, now: float) -> Pace:
                nonlocal wait
                pace, wait = try_start(pace, now, ceiling)
                return pace

            self._pace = self._shared(start)
        return wait

    def _shared(self, change: Callable[[Pace, float], Pace]) -> Pace:
        """Our pace with what the shelf has, changed; what that makes news goes back to the shelf."""
        assert self._shelf is not None  # noqa: S101 - whoever calls has looked

        def step(text: str | None, now: float) -> tuple[str | None, tuple[Pace, float]]:
            before = as_shared(self._pace, text)
            pace = change(before, now)
            return to_share(pace) if is_news(pace, before) else None, (pace, now)

        pace, now = self._shelf.update(step)
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
        raise Interrupted("Stopped while waiting for the next request's turn.")
