"""Ages do not jump when the database's clock is set, and nothing is overdue because of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from sync.db.health import Freshness
from sync.monitor.freshness import FeedPolicy, FreshnessPolicy, problems
from sync.monitor.steady import SteadyAges

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
STOCK = FeedPolicy("stock", ("stock",), lambda began, ended: ended + HOUR)
RECONCILE = FeedPolicy(
    "reconcile", ("reconcile",), lambda began, ended: began.replace(hour=13) + HOUR, by_cron=True
)
PROMISE = FreshnessPolicy(("all",), HOUR, (STOCK, RECONCILE))


@dataclass
class Copy:
    """A copy whose clock is set; minutes pass."""

    now: datetime = NOON
    uptime: float = 500.0

    def __post_init__(self) -> None:
        self.ages = SteadyAges(HOUR, lambda: self.uptime)
        self.heard = self.stocked = self.reconciled = self.now

    def passes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)
        self.uptime += 60 * minutes

    def is_set_by(self, hours: float) -> None:
        self.now += timedelta(hours=hours)

    def look(self) -> tuple[float, list[str]]:
        """The age of the watermark in minutes, and the keys of the problems."""
        found = Freshness(
            self.now,
            {"all": self.heard},
            {"stock": self.stocked, "reconcile": self.reconciled},
            {"stock": self.stocked, "reconcile": self.reconciled},
            frozenset(),
            {},
        )
        steady = self.ages.of(found)
        keys = [problem.key for problem in problems(PROMISE, steady)]
        return steady.lags["all"] / timedelta(minutes=1), keys


@pytest.mark.parametrize("hours", [1, -1, 2.5, -2.5])
def test_a_clock_that_is_set_makes_nothing_older_or_newer(hours: float) -> None:
    """Set between two looks; the next pass comes later."""
    copy = Copy()
    assert copy.look() == (0, [])

    copy.passes(10)
    copy.is_set_by(hours)
    copy.passes(1)
    assert copy.look() == (11, [])
    copy.passes(9)
    copy.heard = copy.now
    assert copy.look() == (0, [])


@pytest.mark.parametrize("hours", [1, -1])
def test_what_is_stale_stays_stale_until_it_is_read(hours: float) -> None:
    copy = Copy()
    copy.passes(125)
    assert copy.look() == (125, ["stale:store_view:all", "stale:feed:stock", "stale:feed:reconcile"])

    copy.is_set_by(hours)
    copy.passes(1)
    assert copy.look() == (126, ["stale:store_view:all", "stale:feed:stock", "stale:feed:reconcile"])
    copy.heard = copy.stocked = copy.reconciled = copy.now
    assert copy.look() == (0, [])


@pytest.mark.parametrize("hours", [1, -1])
def test_a_copy_that_is_not_read_again_is_stale_when_it_would_have_been(hours: float) -> None:
    copy = Copy()
    copy.look()
    copy.is_set_by(hours)
    copy.passes(59)
    assert copy.look() == (59, [])

    copy.passes(2)
    assert copy.look()[1][:2] == ["stale:store_view:all", "stale:feed:stock"]


@pytest.mark.parametrize("hours", [1, -1])
def test_a_long_pass_that_began_before_the_clock_was_set_is_as_old_as_it_is(hours: float) -> None:
    """What it read is stored after the step, with the time of its first answer."""
    copy = Copy()
    heard = copy.now + timedelta(minutes=1)
    copy.look()
    copy.passes(2)
    copy.is_set_by(hours)
    copy.look()
    copy.passes(20)
    copy.heard = heard

    assert copy.look()[0] == 21


def test_a_schedule_is_not_overdue_because_its_time_was_skipped() -> None:
    """The reconcile of 13:00 begins at once; until then it is not an hour late."""
    copy = Copy()
    copy.look()
    copy.passes(30)
    copy.is_set_by(2)
    assert copy.look()[1] == []

    copy.passes(61)
    copy.heard = copy.stocked = copy.now
    assert copy.look()[1] == ["stale:feed:reconcile"]


def test_a_clock_that_is_corrected_little_by_little_changes_no_age() -> None:
    copy = Copy()
    copy.look()
    for _ in range(60):
        copy.passes(1)
        copy.is_set_by(1 / 3600)
        age = copy.look()[0]

    assert age == 60
