"""What the pacer reads from an answer, and how its threads wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from time import monotonic
from zoneinfo import ZoneInfo

import pytest

from sync.commerce.pacing import Learned, Outcome, Pacer, QuietHours
from sync.commerce.rate_headers import read_rate_headers
from sync.errors import Interrupted

DATE = "Mon, 23 Nov 2026 12:00:00 GMT"
NOON = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())
LONGER_THAN_ANY_TEST = 3600.0


# --- rate-limit headers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "remaining", "seconds"),
    [
        ({"RateLimit-Limit": "5", "RateLimit-Remaining": "3", "RateLimit-Reset": "2"}, 3, 2),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "2.5"}, 3, 2.5),
        ({"RateLimit": "limit=5, remaining=3, reset=2"}, 3, 2),
        ({"RateLimit": '"default";r=3;t=2', "RateLimit-Policy": '"default";q=5;w=2'}, 3, 2),
        ({"RateLimit-Remaining": "3, 3;w=60", "RateLimit-Reset": "2"}, 3, 2),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": f"{NOON + 2}", "Date": DATE}, 3, 2),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": f"{NOON + 2}500", "Date": DATE}, 3, 2.5),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": f"{NOON - 2}", "Date": DATE}, 3, 0),
    ],
)
def test_every_way_to_say_what_is_left_is_understood(
    headers: Mapping[str, str], remaining: int, seconds: float
) -> None:
    assert read_rate_headers(headers) == (remaining, seconds)


def test_a_number_beyond_any_use_is_plenty() -> None:
    assert read_rate_headers({"RateLimit-Remaining": "9" * 400, "RateLimit-Reset": "60"}) == (10**15, 60)


def test_of_several_limits_the_tightest_counts() -> None:
    """900 an hour are one in four seconds; two a second are more."""
    assert read_rate_headers({"RateLimit": '"second";r=2;t=1, "hour";r=900;t=3600'}) == (900, 3600)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"RateLimit-Remaining": "3"},
        {"RateLimit-Reset": "3"},
        {"RateLimit-Remaining": "plenty", "RateLimit-Reset": "soon"},
        {"RateLimit": '"default";r=3'},
        {"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": f"{NOON}"},
        {"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": f"{NOON}", "Date": "today"},
        {
            "X-RateLimit-Remaining": "3",
            "X-RateLimit-Reset": f"{NOON}",
            "Date": "Tue, 24 Nov 99999999999 10:00:00 GMT",
        },
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9" * 400, "Date": DATE},
    ],
)
def test_headers_that_do_not_say_it_say_nothing(headers: Mapping[str, str]) -> None:
    """A point in time without the server's own clock is none: ours may be wrong."""
    assert read_rate_headers(headers) is None


# --- quiet hours ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "end", "clock", "ceiling"),
    [
        (time(8), time(20), time(7, 59), None),
        (time(8), time(20), time(8), 0.5),
        (time(8), time(20), time(20), None),
        (time(22), time(6), time(23), 0.5),
        (time(22), time(6), time(5, 59), 0.5),
        (time(22), time(6), time(12), None),
        (time(0), time(0), time(12), 0.5),
    ],
)
def test_quiet_hours_have_their_own_ceiling(
    begin: time, end: time, clock: time, ceiling: float | None
) -> None:
    """By day, over midnight, and around the clock."""
    hours = QuietHours(begin, end, 0.5, UTC)

    assert hours.ceiling_at(datetime(2026, 11, 23, clock.hour, clock.minute, tzinfo=UTC)) == ceiling


def test_quiet_hours_follow_the_clock_of_their_zone() -> None:
    """07:30 UTC is 08:30 in Berlin in winter and 09:30 in summer."""
    hours = QuietHours(time(8), time(9), 0.5, ZoneInfo("Europe/Berlin"))

    assert hours.ceiling_at(datetime(2026, 1, 15, 7, 30, tzinfo=UTC)) == 0.5
    assert hours.ceiling_at(datetime(2026, 7, 15, 7, 30, tzinfo=UTC)) is None


# --- threads -------------------------------------------------------------------------------------


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Waiting:
    """A thread that acquires."""

    def __init__(self, pacer: Pacer) -> None:
        self.stop = threading.Event()
        self.interrupted = False
        self._pacer = pacer
        self._thread = threading.Thread(target=self._acquire, daemon=True)
        self._thread.start()

    def _acquire(self) -> None:
        try:
            self._pacer.acquire(self.stop)
        except Interrupted:
            self.interrupted = True

    def may_start(self, within: float = 10.0) -> bool:
        self._thread.join(within)
        return not self._thread.is_alive() and not self.interrupted

    def is_told_to_stop(self) -> bool:
        self.stop.set()
        self._thread.join(10.0)
        return self.interrupted


NOT_YET = 0.02


def test_an_answer_lets_the_next_thread_start() -> None:
    pacer = Pacer(max_in_flight=1)
    begun = pacer.acquire(threading.Event())
    waiting = Waiting(pacer)
    assert not waiting.may_start(within=NOT_YET)

    pacer.release(begun, Outcome(200, 0.01))
    assert waiting.may_start()


def test_a_turn_is_handed_on_at_once() -> None:
    """30 threads, one request at a time: none waits until it happens to look again."""
    pacer = Pacer(max_in_flight=1, learned=Learned(10_000.0, 1))

    def request() -> None:
        begun = pacer.acquire(threading.Event())
        pacer.release(begun, Outcome(200, 0.0))

    began = monotonic()
    threads = [threading.Thread(target=request, daemon=True) for _ in range(30)]
    begun = pacer.acquire(threading.Event())
    for thread in threads:
        thread.start()
    pacer.release(begun, Outcome(200, 0.0))
    for thread in threads:
        thread.join(1.0)
    assert monotonic() - began < 3


def test_one_refusal_holds_up_all_threads() -> None:
    """And each of them still hears that it is to stop."""
    clock = Clock()
    pacer = Pacer(max_in_flight=4, clock=clock)
    begun = pacer.acquire(threading.Event())
    pacer.release(begun, Outcome(429, 0.01, retry_after=LONGER_THAN_ANY_TEST))

    waiting = [Waiting(pacer) for _ in range(4)]
    clock.now = LONGER_THAN_ANY_TEST - 1
    assert not any(thread.may_start(within=NOT_YET) for thread in waiting)
    assert all(thread.is_told_to_stop() for thread in waiting)


def test_after_the_pause_one_thread_goes_first() -> None:
    clock = Clock()
    pacer = Pacer(max_in_flight=4, learned=Learned(1000.0, 4), clock=clock)
    begun = pacer.acquire(threading.Event())
    clock.now = 1.0
    pacer.release(begun, Outcome(503, 1.0, retry_after=LONGER_THAN_ANY_TEST))
    clock.now += LONGER_THAN_ANY_TEST

    begun = pacer.acquire(threading.Event())
    clock.now += 1.0
    other = Waiting(pacer)
    assert not other.may_start(within=NOT_YET)
    pacer.release(begun, Outcome(200, 1.0))
    assert other.may_start()


def test_a_thread_that_is_to_stop_does_not_start() -> None:
    stop = threading.Event()
    stop.set()

    with pytest.raises(Interrupted):
        Pacer(max_in_flight=1).acquire(stop)


@pytest.mark.parametrize(("hour", "gap"), [(12, 2.0), (23, 0.1)])
def test_quiet_hours_and_the_highest_rate_are_ceilings(hour: int, gap: float) -> None:
    """10 requests a second at most, by day one in two seconds."""
    clock = Clock()
    pacer = Pacer(
        max_in_flight=2,
        max_rps=10,
        quiet=QuietHours(time(8), time(20), 0.5, UTC),
        clock=clock,
        wall=lambda: datetime(2026, 11, 23, hour, tzinfo=UTC),
    )
    begun = pacer.acquire(threading.Event())
    pacer.release(begun, Outcome(200, 0.0))

    clock.now = gap - 0.01
    too_early = Waiting(pacer)
    assert not too_early.may_start(within=NOT_YET)
    assert too_early.is_told_to_stop()
    clock.now = gap
    pacer.acquire(threading.Event())


def test_what_was_learned_is_given_back_whole() -> None:
    """Also under a ceiling that is lower by now."""
    whole = Learned(4.9, 3, page_s=0.8)
    assert Pacer(max_in_flight=8, learned=whole).learned == whole
    assert Pacer(max_in_flight=2, learned=whole).learned == Learned(4.9, 2, page_s=0.8)
    assert Pacer(max_in_flight=8).learned == Learned(None, 1)
