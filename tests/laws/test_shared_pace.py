"""Several processes that share a pace use one allowance whole, as one would, and overstep it as rarely.

The same simulation as for one process (test_pacing.py), with a pace for each process and the shared part of
it as text, as it goes through the database.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import replace
from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.commerce.pacing import (
    SHARED,
    Outcome,
    Pace,
    answered,
    as_shared,
    new_pace,
    next_start,
    started,
    to_share,
)
from tests.laws.test_pacing import (
    LIMITERS,
    MINUTES,
    Changing,
    Exchange,
    FixedWindow,
    Quota,
    Run,
    Server,
    Workers,
)

pytestmark = pytest.mark.slow


def simulate(
    server: Server,
    processes: int,
    seconds: float,
    *,
    late: float = 0.003,
    queue: float = 0.006,
    dies_at: float = math.inf,
    seed: int = 1,
) -> Run:
    """So many processes with 4 requests each, for so long; the first falls silent at `dies_at`.

    queue    an answer waits so long for its turn at the database, on average: meanwhile others start
    """
    rng = random.Random(seed)
    paces = [new_pace(4, is_shared=True) for _ in range(processes)]
    now, run = 0.0, Run()
    under_way: list[tuple[float, int, int, Exchange]] = []
    while now < seconds:
        alive = range(int(now >= dies_at), processes)
        dues = {p: next_start(paces[p], now) for p in alive}
        first = min(dues, key=lambda p: (dues[p], rng.random()))
        due = dues[first]
        due = due + rng.expovariate(1 / late) if now < due < math.inf else max(due, now)
        if under_way and under_way[0][0] <= due:
            now, _, process, exchange = heapq.heappop(under_way)
            run.exchanges.append(exchange)
            run.let_in += exchange.outcome.status == 200
            if process in alive:
                paces[process] = answered(paces[process], now, exchange.began, exchange.outcome)
                tell(paces, process)
            continue
        now = due
        paces[first] = started(paces[first], now)
        tell(paces, first)
        outcome = server.serve(now + rng.uniform(0, 0.004))
        exchange = Exchange(now, now + outcome.seconds, outcome, paces[first].in_flight)
        heard = exchange.ended + rng.expovariate(1 / queue)
        heapq.heappush(under_way, (heard, len(run.exchanges) + len(under_way), first, exchange))
    return replace(run, seconds=now)


def tell(paces: list[Pace], teller: int) -> None:
    """What is news at one process, all others know when they look the next time."""
    common = as_shared(new_pace(4), to_share(paces[teller]))
    told = {name: getattr(common, name) for name in SHARED}
    paces[:] = [replace(pace, **told) for pace in paces]


@LIMITERS
@pytest.mark.parametrize("latency", [0.05, 0.4])
def test_four_processes_use_one_quota_whole(limiter: type[Quota], latency: float) -> None:
    run = simulate(limiter(10, latency=latency, phase=0.3), 4, 5 * MINUTES)

    assert run.let_in >= 0.95 * 10 * run.seconds
    assert run.refused_share < 0.01


@LIMITERS
def test_a_minute_is_enough_to_pay_for_finding_the_limit_together(limiter: type[Quota]) -> None:
    """600 requests from a cold start, wherever in its window the server stands: on average of 12 runs."""
    runs = [
        simulate(limiter(10, latency=latency, phase=phase / 4 + 0.05), 4, MINUTES)
        for latency in (0.01, 0.05, 0.2)
        for phase in range(4)
    ]

    assert mean(run.let_in / (10 * run.seconds) for run in runs) >= 0.95
    assert mean(run.refused_share for run in runs) < 0.01
    assert min(run.let_in / (10 * run.seconds) for run in runs) >= 0.9


def test_the_first_requests_of_all_keep_their_distance() -> None:
    """4 processes, answers at once: no request starts because its own process has none in flight."""
    starts = sorted(it.began for it in simulate(FixedWindow(math.inf), 4, 2.0).exchanges)

    assert min(later - earlier for earlier, later in pairwise(starts[:8])) >= 0.4 / 12


def test_a_refusal_that_is_heard_late_teaches_the_same() -> None:
    """It waits 40 ms for the database while another process starts a request: that one was not let in yet."""

    def refused_at(late: float) -> Pace:
        pace = new_pace(4, is_shared=True)
        for n in range(10):
            pace = answered(started(pace, n / 10), n / 10 + 0.05, n / 10, Outcome(200, 0.05))
        pace = started(pace, 1.0)
        if late:
            pace = started(pace, 1.03)
        return answered(pace, 1.01 + late, 1.0, Outcome(429, 0.01, retry_after=1.0))

    assert refused_at(0.04).rate.base == refused_at(0.0).rate.base


@LIMITERS
def test_a_limit_that_halves_is_found_by_all_of_them(limiter: type[Quota]) -> None:
    run = simulate(Changing(limiter(10, phase=0.3), 3 * MINUTES, 10, 2.0), 4, 6 * MINUTES)

    assert run.let_in >= 0.95 * (10 * 3 * MINUTES + 5 * 3 * MINUTES)
    assert run.refused_share < 0.01


@LIMITERS
def test_the_share_of_a_process_that_died_is_used_by_the_others(limiter: type[Quota]) -> None:
    run = simulate(limiter(10, latency=0.1, phase=0.3), 4, 4 * MINUTES, dies_at=2 * MINUTES)

    after = run.between(2 * MINUTES, 4 * MINUTES)
    assert len(after) >= 0.95 * 10 * 2 * MINUTES


@pytest.mark.parametrize("page_s", [0.05, 0.25, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_two_processes_send_a_server_with_room_for_two_at_most_three(page_s: float, seed: int) -> None:
    """The queue that the other one built is not taken for a slow server; and nothing is lost by that."""
    run = simulate(Workers(2, page_s, spread=0.1), 2, 400 * page_s, seed=seed)

    settled = run.between(run.seconds / 3, run.seconds)
    assert sum(it.outcome.seconds for it in settled) / (run.seconds * 2 / 3) <= 3
    turn = page_s + 0.01  # the network and the database take 10 ms
    assert len(settled) >= 0.95 * 2 / turn * run.seconds * 2 / 3


@pytest.mark.parametrize("seed", range(5))
def test_processes_notice_that_a_slow_hour_is_not_their_own(seed: int) -> None:
    """Every page takes three times as long from then on: fewer at once do not help, so there are as many."""
    run = simulate(Workers(8, lambda now: 1.0 if now < MINUTES else 3.0), 2, 5 * MINUTES, seed=seed)

    assert len(run.between(2 * MINUTES, 5 * MINUTES)) >= 0.9 * 8 / 3 * 3 * MINUTES


@given(st.lists(st.sampled_from([200, 429, 503, None]), max_size=30), st.integers(0, 40))
def test_what_is_shared_comes_back_as_it_was(statuses: list[int | None], retry_after: int) -> None:
    pace, now = new_pace(4), 1_900_000_000.0
    for status in statuses:
        pace, now = started(pace, now), now + 0.5
        told = retry_after if status in (429, 503) else None
        headers = {"RateLimit": f"limit=9, remaining={retry_after}, reset=3"}
        pace = answered(pace, now, now - 0.5, Outcome(status, 0.25, told, headers=headers))

    again = as_shared(new_pace(4), to_share(pace))

    assert {name: getattr(again, name) for name in SHARED} == {name: getattr(pace, name) for name in SHARED}


@pytest.mark.parametrize("text", ["{}", '{"rate": 5}', '{"another": 1}', "?"])
def test_what_another_version_shared_is_left_alone(text: str) -> None:
    assert as_shared(new_pace(4), text) == new_pace(4)
