"""When the next request may start: the tenant's limit is found, used whole, and hardly ever overstepped.

Nobody publishes what a tenant bears, so it is learned from the answers. One pacer serves all threads of a tenant:
three values, each changed by nothing but a start or an answer, with the clock passed in. A request starts when
all of them let it.

    Rate        requests a second, for a quota         Room        requests in flight, for the server's workers
    Allowance   what rate-limit headers say is left    and no start at all before a Retry-After is over

            refused: so much was let in           refused again: about the same
     rate      /|                                     _.|
      |       / |  pause                           _-´  |  pause
      |    _-´  |         .--------held----------´      |         .-----
      |_.-´     |_________|     (just under it)   probe |_________|
      +----------------------------------------------------------------> time

Rate. It doubles until the first 429 (slow start). Every window, bucket or gateway that refuses has told two
things: at least `average`, what it let in over the whole stretch and the pause behind it, can be had for good; at
most `recent`, what it let in during the last second or so, is its limit. A quota is a whole number for a span, so
`recent`, counted and not averaged, is mostly the quota itself. Held 1.5 % below it, drift and jitter trip nothing;
after a while of being used it creeps up, then faster (the two halves of CUBIC), so a raised limit is found too.

Room. More in flight than the server has workers for only raises latency. Latency of a round of answers against
its floor says how long the queue is that we built: above 1.6 fewer, below 1.35 one more, so c workers get at most
1.5 c requests. A floor can be wrong (bigger pages, a slower hour), so it is forgotten in two ways: when fewer in
flight did not help, the slowness was not our queue and becomes the floor; and now and then a round runs at half
the room to measure afresh.

Sources: Netflix concurrency-limits, Gradient2 (latency gradient, tolerance 1.5, at most halved, no growth while
unused) and Vegas (floor); RFC 9438, CUBIC (beta 0.7; plateau, then convex probing); draft-ietf-ccwg-bbr, ProbeRTT
(draining to measure the floor); Chiu and Jain 1989 (additive increase, multiplicative decrease); RFC 9110, 10.2.3
(Retry-After); draft-ietf-httpapi-ratelimit-headers 06 to 10.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, tzinfo
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Final, Literal, NamedTuple, Self

from sync.errors import Interrupted

Kind = Literal["page", "light"]

# Rate. At 8 starts a second, 8 slow requests are under way within a second, and a small quota is overstepped once.
FIRST_RATE: Final = 8.0
DOUBLES_AFTER: Final = 8  # answers
FASTEST: Final = 10_000.0
SLOWEST: Final = 0.2
MARGIN: Final = 0.985  # a second holds no sixth start of a quota of 5 unless one came 15 ms late
CATCH_UP_S: Final = 0.008  # a start this late does not delay the ones behind it
JITTER_S: Final = 0.01
REMEMBERED: Final = 64  # starts
CUBIC_S: Final = 40.0

# Room.
TOLERANCE: Final = 1.5
SHRINK_ABOVE: Final = 1.6
GROW_BELOW: Final = 1.35
DRAIN_EVERY: Final = 64  # rounds
DOUBTED: Final = 56  # rounds counted as run when a floor was raised: its drain comes sooner

BACK_OFF: Final = 0.7
LONGEST_PAUSE_S: Final = 60.0  # of our own; a Retry-After is kept to the end
OVERLOADED: Final = frozenset({None, 502, 503, 504})
POLL_S: Final = 0.2

_REMAINING = re.compile(r"\b(?:remaining|r)=(\d+)")
_RESET = re.compile(r"\b(?:reset|t)=(\d+)")
_A_YEAR_S: Final = 366 * 86_400


class Probing(NamedTuple):
    """How a learned rate is tried upwards: after `hold` seconds of use, by `slope` of itself each second."""

    hold: float
    slope: float


SURE: Final = Probing(hold=60.0, slope=0.005)
UNSURE: Final = Probing(hold=2.0, slope=0.05)
RECOVERING: Final = Probing(hold=0.0, slope=0.3)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended.

    status         None for a time-out or a broken connection
    seconds        from its start to its end
    retry_after    seconds to wait, from `Retry-After` in either form
    headers        of the answer; only the rate-limit ones and Date are read
    kind           `page` is heavy, `light` anything else: their latencies have floors of their own
    """

    status: int | None
    seconds: float
    retry_after: float | None = None
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
    """What a restart need not find out again: requests a second (None: no limit met) and requests in flight."""

    rate: float | None
    in_flight: int


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hours of the day, by a zone's clock, with a lower ceiling; `end` before `start` means over midnight."""

    start: time
    end: time
    max_rps: float
    zone: tzinfo

    @classmethod
    def parse(cls, text: str, zone: tzinfo) -> Self:
        """Read `08:00-20:00@0.5`. Raises ValueError with what is wrong.

        >>> QuietHours.parse("22:00-06:30@0.5", UTC).end
        datetime.time(6, 30)
        """
        match = re.fullmatch(r"(\d\d:\d\d)-(\d\d:\d\d)@(\d+(?:\.\d+)?)", text.strip())
        if match is None or float(match[3]) <= 0:
            raise ValueError(
                "quiet hours read HH:MM-HH:MM@RATE with a rate above 0, for example 08:00-20:00@0.5"
            )
        return cls(time.fromisoformat(match[1]), time.fromisoformat(match[2]), float(match[3]), zone)

    def ceiling_at(self, moment: datetime) -> float | None:
        """The ceiling in requests a second, None outside the hours."""
        clock = moment.astimezone(self.zone).time()
        inside = self.start <= clock < self.end
        if self.end <= self.start:
            inside = clock >= self.start or clock < self.end
        return self.max_rps if inside else None


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a second: slow start, then just under what was let in, then probed upwards.

    base          the rate when `busy_s` was 0
    probing       None until the first refusal
    busy_s        seconds of use since `base` was set: a rate that lies idle proves nothing
    slot          when the last start was due
    starts        of the last requests, the latest last
    resumed_at    start of the first request that was let in after the last refusal
    let_in        requests started since, the refused ones left out
    """

    base: float = FIRST_RATE
    probing: Probing | None = None
    busy_s: float = 0.0
    slot: float = -math.inf
    starts: tuple[float, ...] = ()
    resumed_at: float = math.inf
    let_in: int = 0

    @property
    def per_second(self) -> float:
        if self.probing is None:
            return self.base
        x = max(0.0, self.busy_s - self.probing.hold)
        return min(FASTEST, self.base * (1 + self.probing.slope * x + (x / CUBIC_S) ** 3))

    def gap(self, ceiling: float | None) -> float:
        return 1 / min(self.per_second, ceiling or math.inf)

    def next_slot(self, idle: bool, ceiling: float | None) -> float:
        """When the next request is due. In slow start one alone need not wait: it is as gentle as can be."""
        if idle and self.probing is None:
            return self.slot + 1 / ceiling if ceiling else -math.inf
        return self.slot + self.gap(ceiling)

    def started(self, now: float, ceiling: float | None) -> Self:
        gap = self.gap(ceiling)
        due = self.slot + gap
        last = self.starts[-1] if self.starts else now
        return replace(
            self,
            slot=due if due <= now <= due + CATCH_UP_S else now,
            busy_s=self.busy_s + min(now - last, 2 * gap),
            starts=(*self.starts[1 - REMEMBERED :], now),
            resumed_at=min(self.resumed_at, now),
            let_in=self.let_in + 1,
        )

    def answered(self) -> Self:
        if self.probing is not None:
            return self
        return replace(self, base=min(FASTEST, self.base * 2 ** (1 / DOUBLES_AFTER)))

    def resumed(self, at: float) -> Self:
        """Count anew from the request that started `at`, the first to be let in again."""
        return replace(self, resumed_at=at, let_in=sum(start >= at for start in self.starts))

    def refused(self, at: float, wait: float, resume_at: float, again: bool) -> Self:
        """Learn from the refusal of the request that started `at`.

        wait         seconds the tenant asked for, or ours
        resume_at    when the next request may start
        again        the one before was refused too: the pause in between was too short

        A long wait, or several, belong to a long window: then only the average tells its limit. One that
        failed soon after it was set was far off: then the truth is somewhere between.
        """
        let_in = self.let_in - sum(start >= at for start in self.starts)
        average = let_in / max(resume_at - self.resumed_at, JITTER_S)
        recent = self._recent(at)
        if again or wait > max(1.0, (at - self.resumed_at) / 4):
            learned = self._learned(average, UNSURE)
        elif self.probing and recent > 1.5 * average:
            learned = self._learned((average + recent) / 2, UNSURE)
        else:
            limit = max(average, recent, self._proven)
            learned = self._learned(min(limit, self.per_second) if self.probing else limit, SURE)
        return replace(learned, let_in=let_in)

    def slowed(self, now: float) -> Self:
        """Multiplicative decrease from what was really sent: overload names no number."""
        latest = self.starts[-8:]
        sent = len(latest) / max(now - latest[0], JITTER_S)
        return self._learned(BACK_OFF * min(self.per_second, sent), RECOVERING)

    @property
    def _proven(self) -> float:
        """A limit that was held below for the whole of its time, and only failed when probed."""
        return self.base / MARGIN if self.probing is SURE and self.busy_s > SURE.hold else 0.0

    def _learned(self, limit: float, probing: Probing) -> Self:
        return replace(self, base=max(SLOWEST, limit * MARGIN), probing=probing, busy_s=0.0)

    def _recent(self, at: float) -> float:
        """Requests a second let in before `at`, over the fewest whole seconds that hold five of them."""
        before = [start for start in self.starts if self.resumed_at <= start < at]
        if len(before) >= REMEMBERED - 1 and at - before[0] < 1:
            return len(before) / (at - before[0])
        count, seconds = 0, 0
        while count < 5 and seconds < max(1, min(60, int(at - self.resumed_at))):
            seconds += 1
            count = sum(start > at - seconds - JITTER_S for start in before)
        return count / seconds


@dataclass(frozen=True, slots=True)
class Room:
    """How many requests may be in flight, by how their latency compares with its floor.

    floors       seconds an answer takes with no queue of ours, by kind
    round        kind and seconds of the answers since the last verdict
    since        when `limit` last moved: requests started before it saw another queue
    skip         answers after a move to leave out, until the queue has settled
    peak         most in flight this round: room that is not used is not enlarged
    before       limit and latency ratio before it was made smaller
    drained      limit to go back to when the floor is measured
    """

    most: int
    limit: int
    floors: Mapping[Kind, float] = field(default_factory=dict)
    round: tuple[tuple[Kind, float], ...] = ()
    rounds: int = 0
    since: float = -math.inf
    skip: int = 0
    peak: int = 0
    before: tuple[int, float] | None = None
    drained: int | None = None

    def started(self, in_flight: int) -> Self:
        return replace(self, peak=max(self.peak, in_flight))

    def answered(self, now: float, kind: Kind, seconds: float) -> Self:
        if now - seconds < self.since:
            return self
        if self.skip:
            return replace(self, skip=self.skip - 1)
        room = replace(self, round=(*self.round, (kind, seconds)))
        return room._judged(now) if len(room.round) >= max(6, 2 * self.limit) else room

    def overloaded(self, now: float) -> Self:
        return self._moved(now, max(1, round(self.limit * BACK_OFF)))

    def _judged(self, now: float) -> Self:
        means = {kind: sum(times) / len(times) for kind, times in self._times().items()}
        if not means.keys() <= self.floors.keys():
            return self._first_floors()
        ratio = sum(s for _, s in self.round) / sum(self.floors[kind] for kind, _ in self.round)
        at_most = {kind: min(mean, self.floors[kind]) for kind, mean in means.items()}
        room = replace(self, rounds=self.rounds + 1, floors={**self.floors, **at_most}, round=(), peak=0)
        if self.drained is not None:
            return replace(room._moved(now, self.drained), floors={**self.floors, **means}, rounds=0)
        if self.before and ratio > _hoped(self.before, self.limit):
            back = room._moved(now, self.before[0])
            return replace(back, floors={**self.floors, **means}, rounds=DOUBTED)
        return room._adjusted(now, ratio, self.peak)

    def _adjusted(self, now: float, ratio: float, peak: int) -> Self:
        if ratio > SHRINK_ABOVE and self.limit > 1:
            fewer = max(self.limit // 2, min(self.limit - 1, int(self.limit * TOLERANCE / ratio)))
            return replace(self._moved(now, fewer), before=(self.limit, ratio))
        if self.rounds > DRAIN_EVERY and self.limit > 1:
            return replace(self._moved(now, math.ceil(self.limit / 2)), drained=self.limit)
        if ratio < GROW_BELOW and peak >= self.limit < self.most:
            return self._moved(now, self.limit + 1)
        return replace(self, before=None)

    def _moved(self, now: float, limit: int) -> Self:
        return replace(self, limit=limit, since=now, skip=limit, round=(), peak=0, before=None, drained=None)

    def _first_floors(self) -> Self:
        """The two quickest answers of a kind's first round: the first one of all also paid for cold caches."""
        quickest = {kind: sorted(times)[:2] for kind, times in self._times().items()}
        found = {kind: sum(times) / len(times) for kind, times in quickest.items()}
        return replace(self, floors={**found, **self.floors}, round=(), peak=0)

    def _times(self) -> dict[Kind, list[float]]:
        return {kind: [s for other, s in self.round if other == kind] for kind, _ in self.round}


def _hoped(before: tuple[int, float], limit: int) -> float:
    """The ratio above which a smaller limit was no use: half the gain a queue of ours would have given."""
    old, ratio = before
    return ratio * (1 + limit / old) / 2


@dataclass(frozen=True, slots=True)
class Allowance:
    """What rate-limit headers promise: `left` more starts before `until`, one every `gap` seconds."""

    left: int
    until: float
    gap: float

    def next_slot(self, last: float, now: float) -> float:
        """Behind `until` the gap still holds: a full house must not fall on the new window all at once."""
        return self.until if self.left <= 0 and now < self.until else last + self.gap

    def started(self) -> Self:
        return replace(self, left=self.left - 1)


def read_allowance(headers: Mapping[str, str]) -> tuple[int, float] | None:
    """Requests remaining and seconds until more are given, the tightest pair named; None when nothing says so.

    Understands `RateLimit: limit=…, remaining=…, reset=…`, `RateLimit: "name";r=…;t=…` and the three-header forms
    `RateLimit-*` and `X-RateLimit-*`. A reset that is a point in time counts from the answer's own Date.

    >>> read_allowance({"RateLimit": '"day";r=900;t=3600, "second";r=2;t=1'})
    (900, 3600.0)
    """
    named = {name.lower(): value for name, value in headers.items()}
    for prefix in ("ratelimit", "x-ratelimit"):
        text = named.get(prefix, "")
        remaining = _REMAINING.findall(text) or _number(named.get(f"{prefix}-remaining"))
        resets = _RESET.findall(text) or _number(named.get(f"{prefix}-reset"))
        pairs = [(int(float(r)), _from_now(float(t), named)) for r, t in zip(remaining, resets, strict=False)]
        known = [(r, t) for r, t in pairs if t is not None]
        if known and len(remaining) == len(resets):
            return min(known, key=lambda pair: pair[0] / max(pair[1], 1.0))
    return None


def _number(text: str | None) -> list[str]:
    return re.findall(r"^\s*(\d+(?:\.\d+)?)", text or "")


def _from_now(reset: float, headers: Mapping[str, str]) -> float | None:
    """Seconds until `reset`; a unix time is told by its size, in seconds or in milliseconds."""
    if reset < _A_YEAR_S:
        return reset
    try:
        answered_at = parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None
    return max(0.0, (reset / 1000 if reset > 1e11 else reset) - answered_at)


@dataclass(frozen=True, slots=True)
class Pace:
    """All that the next start depends on; times are the caller's clock.

    resume_at     nobody starts before it
    refused_at    when the last refusal arrived: what started before it belongs to the same event
    failures      refusals since the last request that was let in
    probe_at      after a pause one request goes first: inf while it is due, then its start, None when let in
    probe_wait    how long it goes alone: a limiter that took 20 ms to refuse has let in what it keeps longer
    """

    rate: Rate
    room: Room
    in_flight: int = 0
    allowance: Allowance | None = None
    resume_at: float = -math.inf
    refused_at: float = -math.inf
    failures: int = 0
    probe_at: float | None = None
    probe_wait: float = 0.0


def new_pace(max_in_flight: int, learned: Learned | None = None) -> Pace:
    """The pace to begin with: slow start, or where an earlier run left off."""
    if learned is None:
        return Pace(Rate(), Room(max_in_flight, max_in_flight))
    rate = Rate() if learned.rate is None else Rate(base=learned.rate, probing=SURE)
    return Pace(rate, Room(max_in_flight, max(1, min(max_in_flight, learned.in_flight))))


def next_start(pace: Pace, now: float, ceiling: float | None = None) -> float:
    """When the next request may start: a time that may be past, inf when an answer has to come first.

    ceiling    requests a second never to exceed, None for no such ceiling
    """
    if pace.in_flight >= pace.room.limit:
        return math.inf
    due = [pace.resume_at, pace.rate.next_slot(pace.in_flight == 0, ceiling)]
    if pace.probe_at is not None and pace.probe_at < math.inf:
        due.append(pace.probe_at + pace.probe_wait)
    if pace.allowance is not None:
        due.append(pace.allowance.next_slot(pace.rate.starts[-1], now))
    return max(due)


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


def answered(pace: Pace, now: float, outcome: Outcome) -> Pace:
    """The pace once a request has ended."""
    begun = now - outcome.seconds
    allowance = _allowance(pace, now, begun, outcome.headers)
    pace = replace(pace, in_flight=pace.in_flight - 1, allowance=allowance)
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
    wait = _wait(pace, outcome)
    resume_at = max(pace.resume_at, now + wait)
    probe_at = math.inf if wait else pace.probe_at
    if begun < pace.refused_at:
        return replace(pace, resume_at=resume_at, probe_at=probe_at)
    rate, room = pace.rate, pace.room
    if outcome.is_throttled:
        rate = rate.refused(begun, wait, resume_at, again=pace.failures > 0)
    elif pace.failures == 1:
        rate = rate.slowed(now)
    if (
        outcome.is_overload or pace.failures
    ):  # a quota says nothing of workers: its rate bounds what is in flight
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


def _wait(pace: Pace, outcome: Outcome) -> float:
    """As told; else 1, 2, 4 … seconds, but nothing for a failure that came out of the blue."""
    if outcome.retry_after is not None:
        return outcome.retry_after
    if outcome.is_overload and not pace.failures:
        return 0.0
    doublings = pace.failures - 1 if outcome.is_overload else pace.failures
    return min(LONGEST_PAUSE_S, 2.0 ** min(doublings, 10))


def _allowance(pace: Pace, now: float, begun: float, headers: Mapping[str, str]) -> Allowance | None:
    told = read_allowance(headers)
    if told is None:
        return pace.allowance
    remaining, reset = told
    left = max(0, remaining - sum(start > begun for start in pace.rate.starts))
    until = now + reset
    old = pace.allowance
    if old is not None and now < old.until and left <= old.left:
        until = min(until, old.until)  # same window: resets are whole seconds, rounded up
    return Allowance(left, until, gap=(until - pace.rate.starts[-1]) / (left + 1))


class Pacer:
    """One tenant's pace, shared by all threads: `acquire` before every request, `release` behind it.

    max_in_flight, max_rps    ceilings, never exceeded
    learned                   of an earlier pacer, to go on where it stood
    clock, wall               seconds that only grow; the time of day, aware, for the quiet hours
    """

    def __init__(
        self,
        max_in_flight: int,
        max_rps: float | None = None,
        quiet: QuietHours | None = None,
        learned: Learned | None = None,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pace = new_pace(max_in_flight, learned)
        self._max_rps = max_rps
        self._quiet = quiet
        self._clock = clock
        self._wall = wall
        self._changed = threading.Condition()

    def acquire(self, stop: threading.Event) -> None:
        """Wait until a request may start, and count it as started. Raises Interrupted once `stop` is set."""
        with self._changed:
            while (wait := self._start_or_wait(stop)) > 0:
                self._changed.wait(min(wait, POLL_S))

    def release(self, outcome: Outcome) -> None:
        """Count a request as ended. Every `acquire` needs one, whatever became of the request."""
        with self._changed:
            self._pace = answered(self._pace, self._clock(), outcome)
            self._changed.notify_all()

    @property
    def learned(self) -> Learned:
        with self._changed:
            rate = self._pace.rate
            return Learned(rate.base if rate.probing else None, self._pace.room.limit)

    def _start_or_wait(self, stop: threading.Event) -> float:
        if stop.is_set():
            raise Interrupted("Stopped while waiting for the next request's turn.")
        now, ceiling = self._clock(), self._ceiling()
        wait = next_start(self._pace, now, ceiling) - now
        if wait <= 0:
            self._pace = started(self._pace, now, ceiling)
        return wait

    def _ceiling(self) -> float | None:
        quiet = self._quiet.ceiling_at(self._wall()) if self._quiet else None
        ceilings = [ceiling for ceiling in (self._max_rps, quiet) if ceiling is not None]
        return min(ceilings, default=None)
