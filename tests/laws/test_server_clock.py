"""The tenant's clock is known ever better from whole seconds; nobody comes back before the time it named."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from sync.commerce.server_clock import ServerClock

START = 1_900_000_000.0
offsets = st.floats(-86_400, 86_400)
exchanges = st.lists(st.tuples(st.floats(0.001, 60), st.floats(0, 2)), min_size=1, max_size=30)


def date_of(moment: float) -> datetime:
    """As `Date` tells it: whole seconds, rounded down."""
    return datetime.fromtimestamp(math.floor(moment), UTC)


def listen(ahead: float, heard: list[tuple[float, float]]) -> tuple[ServerClock, float]:
    """Answers by a clock that is `ahead` of ours: (seconds since the last one, seconds that it took)."""
    clock, now = ServerClock(), START
    for pause, took in heard:
        begun = now + pause
        now = begun + took
        clock = clock.heard(date_of(begun + took / 2 + ahead), begun, now)
    return clock, now


@given(offsets, exchanges, st.floats(0, 100))
def test_who_waits_as_told_is_not_early(ahead: float, heard: list[tuple[float, float]], wait: float) -> None:
    clock, now = listen(ahead, heard)
    moment = date_of(now + ahead + wait)

    assert now + clock.wait_until(moment, now) + ahead >= moment.timestamp() - 1e-5


@given(offsets)
def test_answers_at_any_time_of_a_second_leave_a_few_hundredths(ahead: float) -> None:
    clock, now = listen(ahead, [(0.97, 0.01)] * 60)
    moment = date_of(now + ahead + 10)

    late = now + clock.wait_until(moment, now) + ahead - moment.timestamp()
    assert late < 0.07


def test_a_clock_that_was_set_is_learned_anew() -> None:
    clock, now = listen(0.0, [(0.97, 0.01)] * 60)

    clock = clock.heard(date_of(now + 3600), now, now + 0.01)

    assert abs(clock.wait_until(date_of(now + 3600 + 10), now) - 10) < 1.1
