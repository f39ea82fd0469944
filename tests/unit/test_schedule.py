"""Schedules mean what cron means, and an interval is as long as it says, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from hypothesis import given
from hypothesis import strategies as st

from sync.service.triggers import After, AtCrontab, WallClock, follow_wall_clock
from sync.settings.cron import next_time, parse_crontab

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)


def fires(crontab: str, start: datetime, until: datetime, zone: tzinfo = UTC) -> list[datetime]:
    crontab, found, moment = parse_crontab(crontab), [], start
    while (moment := next_time(crontab, zone, moment)) < until:
        found.append(moment)
    return found


@pytest.mark.parametrize(
    ("crontab", "days"),
    [
        ("0 3 * * 0", [1, 8, 15, 22]),  # 1 February 2026 is a Sunday
        ("0 3 * * 7", [1, 8, 15, 22]),
        ("0 3 1 * 1", [1, 2, 9, 16, 23]),  # the first, and every Monday
        ("0 3 * * mon#1", [2]),
        ("0 3 * * mon-fri/2", [2, 4, 6, 9, 11, 13, 16, 18, 20, 23, 25, 27]),
        ("0 3 * * 1-5/2", [2, 4, 6, 9, 11, 13, 16, 18, 20, 23, 25, 27]),
        ("0 3 * * */2", [1, 3, 5, 7, 8, 10, 12, 14, 15, 17, 19, 21, 22, 24, 26, 28]),
        ("0 3 L * *", [28]),
        ("0 3 * * 5L", [27]),
        ("0 3 31 * *", []),
        ("0 3 */10 FEB *", [1, 11, 21]),
        ("@monthly", [1]),
    ],
)
def test_a_schedule_means_what_cron_means(crontab: str, days: list[int]) -> None:
    february = datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)

    assert [moment.day for moment in fires(crontab, *february)] == days


@pytest.mark.parametrize(
    "crontab",
    [
        "",
        "0 3 * *",
        "0 0 3 * * *",
        "0 3 * jan#x *",
        "0 3 * * mon#6",
        "0 3 * * 8",
        "0 3 30 2 *",
        "60 * * * *",
        "a b c d e",
        "@reboot",
        "0 3 * * mon-",
        "*/0 * * * *",
        "0 3 ٣ * *",
        "0 3 * * " + "1," * 200 + "1",
    ],
)
def test_what_is_no_schedule_is_refused(crontab: str) -> None:
    with pytest.raises(ValueError, match="cron expression"):
        parse_crontab(crontab)


@pytest.mark.parametrize("crontab", ["30 2 * * *", "0 3 * * *", "0 2,14 * * *", "59 1-2 * * *"])
@pytest.mark.parametrize("day", [datetime(2026, 3, 29, tzinfo=BERLIN), datetime(2026, 10, 25, tzinfo=BERLIN)])
def test_a_nightly_pass_comes_as_often_on_a_night_when_the_clocks_change(crontab: str, day: datetime) -> None:
    """On 29 March 2026 there is no 02:30 in Berlin, on 25 October there are two."""
    ordinary = len(fires(crontab, day - 6 * 24 * HOUR, day - 5 * 24 * HOUR, BERLIN))

    night = fires(crontab, day, (day + timedelta(days=1)).astimezone(UTC), BERLIN)

    assert len(night) == ordinary


def test_a_daemon_started_in_the_repeated_hour_does_not_repeat_the_nightly_pass() -> None:
    """02:10 comes for the second time in Berlin; the pass of 02:30 came within the first."""
    second_time = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)

    assert next_time("30 2 * * *", BERLIN, second_time) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@given(st.integers(1_577_836_800, 2_051_222_400).map(lambda at: datetime.fromtimestamp(at, UTC)))
def test_the_next_time_is_later_and_nothing_fires_between(moment: datetime) -> None:
    upcoming = next_time("30 2 * * *", BERLIN, moment)

    assert moment < upcoming <= moment + 25 * HOUR
    assert next_time("30 2 * * *", BERLIN, upcoming - timedelta(seconds=1)) == upcoming


class Clocks:
    """A clock that is never set, and a wall clock that is."""

    def __init__(self) -> None:
        self.uptime, self.wall = 1000.0, datetime(2026, 2, 2, 12, tzinfo=UTC)

    def pass_by(self, seconds: float) -> None:
        self.uptime += seconds
        self.wall += timedelta(seconds=seconds)


@pytest.mark.parametrize("step", [HOUR, -HOUR, 365 * 24 * HOUR, -365 * 24 * HOUR])
def test_an_interval_does_not_change_when_the_clock_is_set(step: timedelta) -> None:
    """A pass every 15 minutes; five minutes after one, the wall clock is set."""
    clocks = Clocks()
    trigger, wall_clock = After(900, 900, clock=lambda: clocks.uptime), WallClock(lambda: clocks.uptime)
    scheduler = BackgroundScheduler(timezone=UTC)
    job = scheduler.add_job(print, trigger, next_run_time=trigger.get_next_fire_time(None, clocks.wall))
    scheduler.start(paused=True)
    wall_clock.set_by(clocks.wall)

    clocks.pass_by(300)
    clocks.wall += step
    set_by = wall_clock.set_by(clocks.wall)
    follow_wall_clock([job], clocks.wall, set_by)

    assert set_by == step
    assert job.next_run_time == clocks.wall + timedelta(seconds=600)
    scheduler.shutdown()


def test_a_pass_that_a_clock_set_forward_fires_early_does_not_take_the_turn_of_the_next() -> None:
    """Prices every hour; 20 minutes after a pass the clock goes forward by two hours."""
    clocks = Clocks()
    trigger = After(3600, 3600, clock=lambda: clocks.uptime)
    due = trigger.get_next_fire_time(None, clocks.wall)

    clocks.pass_by(1200)
    clocks.wall += 2 * HOUR

    assert due is not None
    assert due < clocks.wall  # APScheduler fires
    assert trigger.get_next_fire_time(due, clocks.wall) == clocks.wall + timedelta(seconds=2400)


Steps = st.lists(st.tuples(st.integers(1, 400), st.integers(-20_000, 20_000)), max_size=12)


@given(steps=Steps, every=st.integers(60, 900), notices_after=st.integers(0, 3))
def test_passes_are_never_further_apart_than_their_interval(
    steps: list[tuple[int, int]], every: int, notices_after: int
) -> None:
    """However the wall clock is set; each step is noticed within 3 s, and APScheduler looks every second."""
    clocks, longest = Clocks(), 0.0
    trigger = After(every, every, clock=lambda: clocks.uptime)
    due = trigger.get_next_fire_time(None, clocks.wall)
    last = clocks.uptime

    for seconds, step in [*steps, (2 * every, 0)]:
        clocks.wall += timedelta(seconds=step)
        for second in range(seconds):
            if second == notices_after:
                due = trigger.by_wall_clock(clocks.wall)
            if due is not None and due <= clocks.wall:
                due = trigger.get_next_fire_time(due, clocks.wall)
                longest, last = max(longest, clocks.uptime - last), clocks.uptime
            clocks.pass_by(1)

    assert longest <= every + 4


def test_a_job_that_fired_for_the_last_time_is_not_adjusted() -> None:
    scheduler = BackgroundScheduler(timezone=UTC)
    job = scheduler.add_job(print, After(60), id="once")
    scheduler.start(paused=True)
    job.remove()

    follow_wall_clock([job], datetime(2026, 2, 2, 12, tzinfo=UTC), HOUR)

    scheduler.shutdown()


def test_missed_times_of_an_interval_are_not_made_up_for() -> None:
    clocks = Clocks()
    trigger = After(900, 900, clock=lambda: clocks.uptime)

    clocks.pass_by(4000)  # busy, or suspended, over four of its times

    assert trigger.get_next_fire_time(clocks.wall, clocks.wall) == clocks.wall + timedelta(seconds=500)


def test_a_nightly_pass_comes_once_though_the_clock_is_set_back_a_little() -> None:
    """At 03:10, after the pass of 03:00, the clock is set to 02:40."""
    trigger = AtCrontab("0 3 * * *", UTC)

    upcoming = trigger.get_next_fire_time(
        datetime(2026, 2, 2, 3, tzinfo=UTC), datetime(2026, 2, 2, 2, 40, tzinfo=UTC)
    )

    assert upcoming == datetime(2026, 2, 3, 3, tzinfo=UTC)


def test_a_nightly_pass_does_not_wait_a_year_for_a_clock_that_was_wrong_by_one() -> None:
    scheduler = BackgroundScheduler(timezone=UTC)
    job = scheduler.add_job(
        print, AtCrontab("0 3 * * *", UTC), next_run_time=datetime(2027, 2, 2, 3, tzinfo=UTC)
    )
    scheduler.start(paused=True)

    follow_wall_clock([job], datetime(2026, 2, 2, 12, tzinfo=UTC), -365 * 24 * HOUR)

    assert job.next_run_time == datetime(2026, 2, 3, 3, tzinfo=UTC)
    scheduler.shutdown()
