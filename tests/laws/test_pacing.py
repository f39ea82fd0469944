"""The pacer uses the whole allowance of a tenant that has a limit, and hardly ever oversteps it.

Proved by simulation: servers in a few lines, time that jumps from event to event, delays drawn from a seed.
Threads that wait wake up as late as real ones, the network adds a little, pages do not all take as long.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.commerce.pacing import Learned, Outcome, answered, new_pace, next_start, started

MINUTES = 60.0


# --- the simulation ------------------------------------------------------------------------------


class Server(Protocol):
    def serve(self, now: float) -> Outcome:
        """What becomes of a request that arrives `now`."""


@dataclass
class Exchange:
    began: float
    ended: float
    outcome: Outcome
    in_flight: int


@dataclass
class Run:
    exchanges: list[Exchange] = field(default_factory=list)
    let_in: int = 0
    seconds: float = 0.0
    learned: Learned = field(default_factory=lambda: Learned(None, 1))

    @property
    def refused(self) -> list[float]:
        return [exchange.ended for exchange in self.exchanges if exchange.outcome.status != 200]

    @property
    def refused_share(self) -> float:
        return len(self.refused) / len(self.exchanges)

    def between(self, begin: float, end: float) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if begin <= exchange.began < end]

    def settled(self) -> list[Exchange]:
        """The last half."""
        return self.exchanges[len(self.exchanges) // 2 :]


def simulate(
    server: Server,
    *,
    requests: float = math.inf,
    seconds: float = math.inf,
    max_in_flight: int = 4,
    learned: Learned | None = None,
    ceiling: float | None = None,
    late: float = 0.003,
    seed: int = 1,
    frozen: tuple[float, float] = (math.inf, math.inf),
) -> Run:
    """Send until so many were let in, or so long.

    late      a thread that waits for its turn wakes up so much too late, on average
    frozen    from and until: this process does not run
    """
    rng = random.Random(seed)
    pace, now, run = new_pace(max_in_flight, learned), 0.0, Run()
    under_way: list[tuple[float, int, Exchange]] = []
    while run.let_in < requests and now < seconds:
        due = next_start(pace, now, ceiling) if run.let_in + len(under_way) < requests else math.inf
        due = due + rng.expovariate(1 / late) if now < due < math.inf else max(due, now)
        due = frozen[1] if frozen[0] <= due < frozen[1] else due
        if under_way and under_way[0][0] <= due:
            now, _, exchange = heapq.heappop(under_way)
            pace = answered(pace, now, exchange.began, exchange.outcome)
            run.exchanges.append(exchange)
            run.let_in += exchange.outcome.status == 200
            continue
        assert due < math.inf, "nothing under way, and nothing may start"
        now = due
        pace = started(pace, now, ceiling)
        on_the_way = rng.uniform(0, 0.004)
        outcome = server.serve(now + on_the_way)
        outcome = replace(outcome, seconds=outcome.seconds + on_the_way)
        exchange = Exchange(now, now + outcome.seconds, outcome, pace.in_flight)
        heapq.heappush(under_way, (exchange.ended, len(run.exchanges) + len(under_way), exchange))
    run.exchanges.sort(key=lambda exchange: exchange.began)
    return replace(run, seconds=now, learned=pace.learned)


def several(server: Callable[[], Server], **how: float) -> Run:
    """Five runs, each with chances of its own, as one: a single one may be lucky."""
    runs = [simulate(server(), seed=seed, **how) for seed in range(5)]  # type: ignore[arg-type]
    return Run(
        [it for run in runs for it in run.exchanges],
        sum(run.let_in for run in runs),
        sum(run.seconds for run in runs),
    )


# --- servers with a quota ------------------------------------------------------------------------


@dataclass
class Quota:
    """`quota` requests every `span` seconds; refusals come at once, with a Retry-After in whole seconds."""

    quota: float = 5
    span: float = 1.0
    latency: float = 0.05
    phase: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    def serve(self, now: float) -> Outcome:
        wait = self.wait(now)
        if wait is None:
            return Outcome(200, self.latency * self.rng.uniform(0.7, 1.3))
        return Outcome(429, 0.005, retry_after=math.ceil(wait))

    def wait(self, now: float) -> float | None:
        """None: let in."""
        raise NotImplementedError


@dataclass
class FixedWindow(Quota):
    window: int = -1
    used: int = 0

    def wait(self, now: float) -> float | None:
        window = math.floor((now + self.phase) / self.span)
        if window != self.window:
            self.window, self.used = window, 0
        self.used += 1
        return None if self.used <= self.quota else (window + 1) * self.span - (now + self.phase)


@dataclass
class SlidingWindow(Quota):
    recent: list[float] = field(default_factory=list)

    def wait(self, now: float) -> float | None:
        self.recent = [then for then in self.recent if then > now - self.span]
        if len(self.recent) >= self.quota:
            return self.recent[0] + self.span - now
        self.recent.append(now)
        return None


@dataclass
class TokenBucket(Quota):
    tokens: float = math.inf
    filled_at: float = 0.0

    def wait(self, now: float) -> float | None:
        per_second = self.quota / self.span
        self.tokens = min(self.quota, self.tokens + (now - self.filled_at) * per_second)
        self.filled_at = now
        if self.tokens < 1:
            return (1 - self.tokens) / per_second
        self.tokens -= 1
        return None


LIMITERS = pytest.mark.parametrize("limiter", [FixedWindow, SlidingWindow, TokenBucket])


@LIMITERS
@pytest.mark.parametrize("latency", [0.02, 0.2])
def test_a_quota_is_used_whole_and_hardly_overstepped(limiter: type[Quota], latency: float) -> None:
    """5 requests a second for 10 minutes."""
    run = simulate(limiter(5, latency=latency, phase=0.3), seconds=10 * MINUTES)

    assert run.let_in >= 0.95 * 5 * run.seconds
    assert run.refused_share < 0.01


@LIMITERS
@pytest.mark.parametrize("phase", [0.0, 0.4, 0.8])
def test_two_minutes_are_enough_to_pay_for_finding_the_limit(limiter: type[Quota], phase: float) -> None:
    """600 requests, wherever in its window the server stands when they begin."""
    run = simulate(limiter(5, latency=0.03, phase=phase), requests=600)

    assert run.let_in >= 0.95 * 5 * run.seconds
    assert run.refused_share < 0.01


@dataclass
class Dated:
    """A limiter that names the second in which to come back; its clock reads `phase` when ours reads 0."""

    limiter: Quota
    phase: float

    def serve(self, now: float) -> Outcome:
        there = now + self.phase
        date = datetime.fromtimestamp(math.floor(there), UTC)
        if (wait := self.limiter.wait(now)) is None:
            return Outcome(200, self.limiter.latency, answered_at=date)
        back = datetime.fromtimestamp(math.ceil(there + wait), UTC)
        told = (back - date).total_seconds()
        return Outcome(429, 0.005, retry_after=told, retry_at=back, answered_at=date)


@pytest.mark.parametrize("phase", [0.0, 0.2, 0.4, 0.6, 0.8])
@pytest.mark.parametrize("quota", [5, 8, 15])
def test_a_bucket_that_tells_the_second_to_come_back_in_is_used_whole(quota: int, phase: float) -> None:
    """It may be back at once, and refuse again a few requests later: these are no limit."""
    run = several(lambda: Dated(TokenBucket(quota, latency=0.05), phase), seconds=2 * MINUTES)

    assert run.let_in >= 0.94 * quota * run.seconds
    assert run.refused_share < 0.01


@LIMITERS
def test_the_limit_is_found_within_seconds(limiter: type[Quota]) -> None:
    """Requests as quick as can be: one refusal or two, then none for a minute."""
    run = simulate(limiter(5, latency=0.02, phase=0.5), seconds=MINUTES)

    assert len(run.refused) <= 2
    assert max(run.refused) < 10


@LIMITERS
def test_a_first_guess_far_off_is_corrected_in_few_refusals(limiter: type[Quota]) -> None:
    """Pages so slow that several are under way, and two windows touched, when the first one is refused."""
    run = simulate(limiter(5, latency=0.3, phase=0.6), seconds=MINUTES)

    assert len(run.refused) <= 4


@LIMITERS
@pytest.mark.parametrize(("quota", "span"), [(20, 1), (50, 10), (300, 60)])
def test_other_quotas_are_used_whole_too(limiter: type[Quota], quota: int, span: float) -> None:
    """Large, and of long windows, whose refusals ask to wait for long."""
    run = simulate(limiter(quota, span, phase=0.3 * span), seconds=10 * MINUTES)

    assert run.let_in >= 0.94 * quota / span * run.seconds
    assert run.refused_share < 0.01


@LIMITERS
@pytest.mark.parametrize("quota", [1, 2, 3])
def test_small_quotas_are_used_whole_too(limiter: type[Quota], quota: int) -> None:
    """So few requests in whole seconds do not tell 2.5 a second from 3: the most that a second held does."""
    run = several(lambda: limiter(quota, phase=0.3), seconds=10 * MINUTES)

    assert run.let_in >= 0.94 * quota * run.seconds
    assert run.refused_share < 0.01


@dataclass
class RefusesAt:
    """A quota that also refuses the first request after each of these times."""

    quota: Quota
    times: list[float]

    def serve(self, now: float) -> Outcome:
        if self.times and now > self.times[0]:
            del self.times[0]
            return Outcome(429, 0.005, retry_after=1)
        return self.quota.serve(now)


@pytest.mark.parametrize("kind", [FixedWindow, SlidingWindow, TokenBucket])
def test_time_in_which_the_process_was_frozen_is_no_use_of_the_quota(kind: type[Quota]) -> None:
    """A laptop sleeps, a machine is moved, a container is paused: between two refusals, the worst moment.

    Taken for use, two minutes made of 22 requests a rate of 0.2 a second, for a quarter of an hour.
    """
    for seed in range(5):
        server = RefusesAt(kind(quota=5), [109, 239])

        run = simulate(server, seconds=600, seed=seed, frozen=(111.5, 230))

        sent = [it for it in run.between(260, 600) if it.outcome.status == 200]
        assert len(sent) > 0.9 * 5 * 340


@dataclass
class Changing:
    """A quota that changes at some moment."""

    limiter: Quota
    at: float
    quota: int
    span: float

    def serve(self, now: float) -> Outcome:
        if now >= self.at:
            self.limiter.quota, self.limiter.span = self.quota, self.span
        return self.limiter.serve(now)


@LIMITERS
def test_a_limit_that_halves_is_used_whole_too(limiter: type[Quota]) -> None:
    """5 a second for 5 minutes, then 5 in two seconds."""
    run = simulate(Changing(limiter(5, latency=0.05, phase=0.3), 5 * MINUTES, 5, 2.0), seconds=10 * MINUTES)

    assert run.let_in >= 0.95 * (5 * 5 * MINUTES + 2.5 * (run.seconds - 5 * MINUTES))
    assert run.refused_share < 0.01


@LIMITERS
@pytest.mark.parametrize("phase", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("latency", [0.05, 0.1, 0.2])
def test_six_hundred_requests_pay_for_a_limit_that_halves(
    limiter: type[Quota], latency: float, phase: float
) -> None:
    """5 a second for a minute, then 5 in two seconds, wherever in its window the server stands."""
    run = several(lambda: Changing(limiter(5, latency=latency, phase=phase), MINUTES, 5, 2.0), requests=600)

    assert run.let_in >= 0.95 * (5 * 5 * MINUTES + 2.5 * (run.seconds - 5 * MINUTES))
    assert run.refused_share < 0.01


@LIMITERS
def test_a_limit_that_is_raised_is_found_again(limiter: type[Quota]) -> None:
    """5 a second for 2 minutes, then 10: three minutes later they are in use."""
    run = simulate(Changing(limiter(5, latency=0.05), 2 * MINUTES, 10, 1.0), seconds=7 * MINUTES)

    assert len(run.between(5 * MINUTES, 7 * MINUTES)) >= 0.95 * 10 * 2 * MINUTES
    assert run.refused_share < 0.01


@LIMITERS
def test_what_was_learned_spares_a_restart_the_refusals(limiter: type[Quota]) -> None:
    """The second process begins with what the first one learned."""
    first = simulate(limiter(5), seconds=MINUTES)

    second = simulate(limiter(5, phase=0.7), seconds=MINUTES, learned=first.learned)
    assert (first.refused != [], second.refused) == (True, [])
    assert second.let_in >= 0.95 * 5 * second.seconds


def test_a_quota_that_was_spent_before_we_came_teaches_nothing() -> None:
    """The first request is refused for 20 seconds; there is no limit behind them."""

    class SpentAtFirst:
        def serve(self, now: float) -> Outcome:
            return Outcome(200, 0.5) if now >= 20 else Outcome(429, 0.01, retry_after=20)

    run = simulate(SpentAtFirst(), requests=200)

    assert len(run.refused) == 1
    assert run.seconds < 20.1 + 1.1 * 200 * 0.5 / 4


@dataclass
class Differently:
    """A quota whose refusals read otherwise."""

    limiter: Quota
    status: int = 429
    retry_after: float | None = None

    def serve(self, now: float) -> Outcome:
        outcome = self.limiter.serve(now)
        if outcome.status == 200:
            return outcome
        return replace(outcome, status=self.status, retry_after=self.retry_after)


@LIMITERS
@pytest.mark.parametrize(
    ("quota", "span", "status", "retry_after"), [(5, 1, 429, None), (5, 1, 503, 1.0), (50, 10, 429, 1.0)]
)
def test_refusals_that_tell_less_are_learned_from_as_well(
    limiter: type[Quota], quota: int, span: float, status: int, retry_after: float | None
) -> None:
    """429 alone; 503 with a time; a window longer than the time the server gives."""
    run = simulate(
        Differently(limiter(quota, span, phase=0.3 * span), status, retry_after), seconds=10 * MINUTES
    )

    assert run.let_in >= 0.95 * quota / span * run.seconds
    assert run.refused_share < 0.01


@LIMITERS
def test_a_503_alone_is_understood_as_a_limit_of_some_kind(limiter: type[Quota]) -> None:
    """It may as well be an accident, so the allowance is overstepped more often; but not by far."""
    run = simulate(Differently(limiter(5, latency=0.05), status=503), seconds=5 * MINUTES)

    assert run.refused_share < 0.35


def test_a_quota_is_no_reason_for_fewer_in_flight() -> None:
    """Slow pages: to use 5 a second, 4 must be under way; so also just after the first refusal."""
    run = simulate(FixedWindow(5, latency=0.6), seconds=3)

    assert len(run.refused) == 1
    assert run.learned.in_flight == 4


# --- servers that say what is left ---------------------------------------------------------------


@dataclass
class Telling:
    """A fixed window that names what is left of it, in whole seconds, and no other sign."""

    limiter: FixedWindow
    headers: Callable[[int, int], Mapping[str, str]]

    def serve(self, now: float) -> Outcome:
        outcome = self.limiter.serve(now)
        until = (self.limiter.window + 1) * self.limiter.span - self.limiter.phase - now
        left = max(0, int(self.limiter.quota) - self.limiter.used)
        return replace(outcome, headers=self.headers(left, math.ceil(until)))


HEADERS = {
    "three fields": lambda left, reset: {"RateLimit-Remaining": f"{left}", "RateLimit-Reset": f"{reset}"},
    "of gateways": lambda left, reset: {"X-RateLimit-Remaining": f"{left}", "X-RateLimit-Reset": f"{reset}"},
    "one field": lambda left, reset: {"RateLimit": f"limit=5, remaining={left}, reset={reset}"},
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())
@pytest.mark.parametrize(("quota", "span", "latency"), [(5, 1.0, 0.05), (5, 1.0, 0.3), (60, 60.0, 0.3)])
def test_what_headers_leave_is_spent_evenly(
    headers: Callable[[int, int], Mapping[str, str]], quota: int, span: float, latency: float
) -> None:
    """Nothing is refused, ever; from the second window on nothing is left over either."""
    run = simulate(Telling(FixedWindow(quota, span, latency=latency), headers), seconds=5 * MINUTES)

    spent = run.between(2 * span, 4 * MINUTES)
    assert len(spent) >= 0.95 * quota / span * (4 * MINUTES - 2 * span)
    assert run.refused == []
    gaps = [later.began - earlier.began for earlier, later in pairwise(spent)]
    assert median(gaps) == pytest.approx(span / quota, rel=0.1)


# --- servers with workers ------------------------------------------------------------------------


@dataclass
class Workers:
    """So many requests at once, each for `seconds`; others queue."""

    count: int
    seconds: Callable[[float], float] | float
    spread: float = 0.0
    free_at: list[float] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    def serve(self, now: float) -> Outcome:
        self.free_at = self.free_at or [0.0] * self.count
        seconds = self.seconds(now) if callable(self.seconds) else self.seconds
        seconds *= self.rng.uniform(1 - self.spread, 1 + self.spread)
        ended = max(now, min(self.free_at)) + seconds
        heapq.heapreplace(self.free_at, ended)
        return Outcome(200, ended - now)


def test_room_for_eight_is_found_within_four_pages_time() -> None:
    """200 pages of 1 s: two alone, then two, four, and eight at once."""
    run = simulate(Workers(8, 1.0), requests=200, max_in_flight=8)

    assert [max(it.in_flight for it in run.between(t, t + 1)) for t in range(4)] == [1, 1, 2, 4]
    assert run.seconds <= 4 + 1.05 * 200 / 8


def test_room_that_an_earlier_run_found_is_used_after_the_first_page() -> None:
    earlier = simulate(Workers(8, 1.0), requests=200, max_in_flight=8)

    run = simulate(Workers(8, 1.0), requests=200, max_in_flight=8, learned=earlier.learned)

    assert [max(it.in_flight for it in run.between(t, t + 1)) for t in range(2)] == [1, 8]
    assert run.seconds <= 1 + 1.05 * 200 / 8


def test_what_was_learned_is_doubted_where_a_page_takes_longer_by_now() -> None:
    """It had room for eight; now each page takes twice as long alone, and there are two workers."""
    earlier = simulate(Workers(8, 1.0), requests=200, max_in_flight=8)

    run = simulate(Workers(2, 2.0), requests=100, max_in_flight=8, learned=earlier.learned)

    assert max(it.in_flight for it in run.exchanges) <= 4


@dataclass
class Shop:
    """4 workers on 2 cores: a page takes 0.7 s alone, and as much longer as there are more of them.

    A shopper's page takes 0.15 s beside one of ours, and as much longer. Measured on Magento 2.4.7.
    """

    rng: random.Random
    ends: list[float] = field(default_factory=list)

    def serve(self, now: float) -> Outcome:
        self.ends = [end for end in self.ends if end > now]
        self.ends.append(now + 0.72 * (len(self.ends) + 1) * self.rng.uniform(0.9, 1.1))
        return Outcome(200, self.ends[-1] - now)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("minutes", "most"), [(0.5, 2), (3, 1), (10, 1)])
def test_a_shopper_hardly_notices_a_cold_backfill(seed: int, minutes: float, most: int) -> None:
    """From the first second: 19 of 20 of the shopper's pages load beside one request, at first beside two.

    Beside two, three share two cores: 1.5 times as long as alone.
    """
    run = simulate(Shop(random.Random(seed)), seconds=minutes * MINUTES, seed=seed)
    visits = [0.2 + n * 0.1 for n in range(int(run.seconds * 10) - 2)]

    beside = [sum(it.began <= visit < it.ended for it in run.exchanges) for visit in visits]
    assert sorted(beside)[int(len(beside) * 0.95)] <= most
    assert run.let_in >= 0.93 * run.seconds / 0.72


@pytest.mark.parametrize("spread", [0.1, 0.3])
def test_uneven_pages_are_not_mistaken_for_a_queue(spread: float) -> None:
    run = simulate(Workers(8, 1.0, spread), requests=600, max_in_flight=8)

    assert run.seconds <= 1.1 * 600 / 8


@pytest.mark.parametrize("seconds", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("max_in_flight", [4, 8])
@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_two_workers_get_no_more_than_three_requests(
    seconds: float, max_in_flight: int, spread: float
) -> None:
    """More in flight would only wait; and it is no slower than two at a time."""
    run = simulate(Workers(2, seconds, spread), requests=400, max_in_flight=max_in_flight)

    assert max(exchange.in_flight for exchange in run.settled()) <= 3
    began, ended = run.exchanges[100].began, run.exchanges[-1].ended
    assert ended - began <= 1.05 * 300 * seconds / 2


@pytest.mark.parametrize("seed", range(5))
def test_chance_delays_do_not_hide_a_queue(seed: int) -> None:
    """Two workers, pages and ways that differ by chance: the queue is not taken for a slow server."""

    class Far(Workers):
        def serve(self, now: float) -> Outcome:
            outcome = super().serve(now)
            return replace(outcome, seconds=outcome.seconds + self.rng.expovariate(1 / 0.01))

    run = simulate(Far(2, 0.25, 0.1, rng=random.Random(seed)), requests=160, max_in_flight=8, seed=seed)

    settled = run.between(run.seconds / 3, run.seconds)
    assert sum(it.outcome.seconds for it in settled) / (run.seconds * 2 / 3) <= 3.05
    assert run.seconds <= 1.1 * 160 * 0.25 / 2


def test_more_workers_are_noticed() -> None:
    """Two at first, eight after a minute."""

    class Growing(Workers):
        def serve(self, now: float) -> Outcome:
            if now > MINUTES and self.count == 2:
                self.count, self.free_at = 8, [*self.free_at, *[now] * 6]
            return super().serve(now)

    run = simulate(Growing(2, 0.5), requests=3000, max_in_flight=8)

    assert max(exchange.in_flight for exchange in run.between(30, MINUTES)) <= 3
    assert run.learned.in_flight >= 6


def test_one_worker_gets_no_more_than_two_requests() -> None:
    run = simulate(Workers(1, 0.7), requests=300)

    assert max(exchange.in_flight for exchange in run.settled()) <= 2
    assert run.seconds <= 1.02 * 300 * 0.7


def test_a_server_that_degrades_is_kept_where_it_works_best() -> None:
    """Each beyond three at once slows all: eight would take 19 times as long, three take 100 s."""

    @dataclass
    class Thrashing:
        ends: list[float] = field(default_factory=list)

        def serve(self, now: float) -> Outcome:
            self.ends = [end for end in self.ends if end > now]
            at_once = len(self.ends) + 1
            self.ends.append(now + 0.5 * max(1.0, at_once / 3) ** 3)
            return Outcome(200, self.ends[-1] - now)

    run = simulate(Thrashing(), requests=600, max_in_flight=8)

    assert max(exchange.in_flight for exchange in run.settled()) <= 4
    assert run.seconds <= 150


def test_a_slow_hour_is_no_reason_to_send_less() -> None:
    """Every page takes three times as long for a minute: fewer at once do not help, so there are no fewer."""
    run = simulate(Workers(4, lambda now: 3.0 if 30 <= now < 90 else 1.0), requests=300)

    assert run.seconds <= 1.1 * (300 / 4 + 60 * 2 / 3)


# --- servers in trouble --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, 500])
def test_a_tenant_that_is_down_is_asked_once_a_minute(status: int | None) -> None:
    """Down for ten minutes, or its database is; at work again within a minute."""

    class Down:
        def serve(self, now: float) -> Outcome:
            is_down = 30 <= now < 10.5 * MINUTES
            return Outcome(status if is_down else 200, 0.5, is_failure=is_down)

    run = simulate(Down(), seconds=15 * MINUTES)

    assert len(run.between(5 * MINUTES, 10.5 * MINUTES)) <= 6
    assert len(run.between(12.5 * MINUTES, 14.5 * MINUTES)) >= 0.95 * 4 / 0.5 * 2 * MINUTES


def test_a_broken_item_does_not_slow_down_the_others() -> None:
    """Each of its pages fails three times; one request of ten is for it."""

    class Broken:
        requests = 0

        def serve(self, now: float) -> Outcome:
            self.requests += 1
            fails = self.requests % 30 in (0, 1, 2)
            return Outcome(500 if fails else 200, 0.5, is_failure=fails)

    assert simulate(Broken(), requests=600).seconds <= 1.15 * 600 / 4 * 0.5 + 10


@pytest.mark.parametrize(("share", "cost"), [(0.01, 1.1), (0.05, 1.6)])
@pytest.mark.parametrize("status", [503, None])
def test_accidents_cost_little(share: float, cost: float, status: int | None) -> None:
    """Some answers are failures that mean nothing."""

    @dataclass
    class Clumsy:
        rng: random.Random = field(default_factory=lambda: random.Random(1))

        def serve(self, now: float) -> Outcome:
            return Outcome(status if self.rng.random() < share else 200, 0.5)

    run = simulate(Clumsy(), requests=600)

    assert run.seconds <= cost * 600 * 0.5 / 4


def test_a_second_failure_in_a_row_slows_the_rate() -> None:
    """To 0.7 of what was sent: 8 in the last second."""
    pace = new_pace(8, Learned(20.0, 8))
    for n in range(8):
        pace = answered(started(pace, n / 8), n / 8 + 0.1, n / 8, Outcome(200, 0.1))

    for now in (1.0, 1.2):
        pace = answered(started(pace, now), now + 0.1, now, Outcome(503, 0.1))
    assert 4 < pace.rate.per_second < 0.7 * 8


# --- whatever happens ----------------------------------------------------------------------------


OUTCOMES = st.builds(
    Outcome,
    status=st.sampled_from([200, 200, 200, 200, 400, 401, 429, 500, 502, 503, 504, None]),
    seconds=st.floats(0, 30) | st.just(0.0),
    retry_after=st.none() | st.floats(0, 100),
    headers=st.sampled_from(
        [
            {},
            {},
            {"RateLimit-Remaining": "0", "RateLimit-Reset": "3"},
            {"RateLimit": '"a";r=7;t=2'},
            {"X-RateLimit-Remaining": "many", "X-RateLimit-Reset": ""},
        ]
    ),
    kind=st.sampled_from(["page", "light"]),
)


@dataclass
class Scripted:
    outcomes: list[Outcome]

    def serve(self, now: float) -> Outcome:
        return self.outcomes.pop() if self.outcomes else Outcome(200, 0.1)


@given(
    script=st.lists(OUTCOMES, max_size=60),
    max_in_flight=st.integers(1, 8),
    ceiling=st.none() | st.floats(0.5, 100),
    seed=st.integers(0, 9),
)
def test_whatever_the_answers_the_ceilings_and_the_pauses_hold(
    script: list[Outcome], max_in_flight: int, ceiling: float | None, seed: int
) -> None:
    """And it always goes on: `simulate` fails when nothing is under way and nothing may start."""
    run = simulate(Scripted(script), requests=80, max_in_flight=max_in_flight, ceiling=ceiling, seed=seed)

    assert all(1 <= it.in_flight <= max_in_flight for it in run.exchanges)
    for refused in run.exchanges:
        told = refused.outcome.retry_after
        if told is not None and refused.outcome.status in (429, 502, 503, 504, None):
            assert not run.between(refused.ended + 1e-9, refused.ended + told - 1e-6)
    if ceiling is not None:
        starts = [it.began for it in run.exchanges]
        for first, sixth in zip(starts, starts[5:], strict=False):
            assert sixth - first >= 5 / ceiling - 0.008 - 1e-6


@given(in_flight=st.integers(2, 8), retry_after=st.floats(1, 60))
def test_after_a_pause_one_request_goes_first(in_flight: int, retry_after: float) -> None:
    """Many were under way, all are refused; the next ones wait for what becomes of the first."""
    pace = started(new_pace(8, Learned(100.0, 8, page_s=1.0)), 0.0)
    pace, now = answered(pace, 1.0, 0.0, Outcome(200, 1.0)), 1.0
    for _ in range(in_flight):
        now = max(now, next_start(pace, now))
        pace = started(pace, now)
    for begun in pace.rate.starts[1:]:
        now += 0.001
        pace = answered(pace, now, begun, Outcome(429, 1.0, retry_after=retry_after))

    first = next_start(pace, now)
    assert first >= now + retry_after - 1e-9
    pace = started(pace, first)
    assert next_start(pace, first) >= first + 2.0
    pace = answered(pace, first + 0.5, first, Outcome(200, 0.5))
    assert next_start(pace, first + 0.5) < first + 2.0
