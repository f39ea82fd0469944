"""How a tenant is, by what was seen of its copy, and when that was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sync.db.health import FailureStreak, Freshness
from sync.errors import SettingsError
from sync.model import PassKind
from sync.monitor.freshness import FreshnessPolicy, Problem, sentence
from sync.monitor.snapshot import EMPTY, UNSEEN, Snapshot, TenantStatus, refused, tenant_status

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PROMISE = FreshnessPolicy(("de", "fr"), timedelta(hours=1))
AWAY = Problem("database", "database", "the database cannot do this: gone")


def seen(lags: dict[str, int], failing: dict[PassKind, str] | None = None) -> Snapshot:
    """Store views that were so many minutes behind."""
    marks = {view: NOW - timedelta(minutes=lag) for view, lag in lags.items()}
    streaks = {kind: FailureStreak(3, error, NOW) for kind, error in (failing or {}).items()}
    return Snapshot(Freshness(NOW, marks, {}, {}, frozenset(), {"de": 2, "fr": 1}, failing=streaks))


def stands(
    snapshot: Snapshot, minutes: int = 0, busy: str = "", failures: dict[str, str] | None = None
) -> TenantStatus:
    return tenant_status("eu", snapshot, PROMISE, timedelta(minutes=minutes), busy=busy, failures=failures)


def test_a_fresh_copy_has_no_problems_and_the_lag_of_its_oldest_store_view() -> None:
    it = stands(seen({"de": 3, "fr": 20}), minutes=5)

    assert (it.state, it.problems, it.lag, it.rejected) == ("fresh", [], timedelta(minutes=25), 3)


def test_a_copy_grows_old_although_nobody_looks_again() -> None:
    snapshot = seen({"de": 3, "fr": 20})

    assert stands(snapshot, minutes=40).state == "fresh"
    assert stands(snapshot, minutes=41).state == "stale"
    assert sentence(stands(snapshot, minutes=41).problems).startswith("eu: Store view fr is 1 h 1 min behind")


def test_what_failed_lately_is_told_and_matters_once_the_copy_is_old() -> None:
    snapshot = seen({"de": 3, "fr": 3}, {"incremental": "the tenant answered 503"})
    young, old = stands(snapshot), stands(snapshot, minutes=90)

    assert (young.state, young.problems, young.failing) == (
        "failing",
        [],
        {"incremental": "the tenant answered 503"},
    )
    assert old.state == "stale"
    assert old.problems[-1].reason == "The last incremental failed: the tenant answered 503"


def test_what_the_daemon_knows_of_a_failure_goes_before_what_the_copy_tells() -> None:
    it = stands(seen({}, {"backfill": "401"}), failures={"run": "401 To do: check the secret."})

    assert it.failing == {"run": "401 To do: check the secret."}
    assert it.problems[-1].key == "failing:run"


@pytest.mark.parametrize(
    ("snapshot", "busy", "failures", "state"),
    [
        (Snapshot(), "", {}, "unseen"),
        (Snapshot(why_not=EMPTY), "", {}, "empty"),
        (seen({}), "", {}, "empty"),
        (Snapshot(why_not=EMPTY), "run", {}, "loading"),
        (Snapshot(why_not=EMPTY), "", {"run": "no room on the disk"}, "unreachable"),
        (Snapshot(why_not=AWAY), "run", {}, "unreachable"),
        (seen({"de": 3}), "", {}, "loading"),
        (seen({"de": 3}), "", {"run": "403"}, "stale"),
    ],
)
def test_a_copy_that_was_not_loaded_yet(
    snapshot: Snapshot, busy: str, failures: dict[str, str], state: str
) -> None:
    it = stands(snapshot, busy=busy, failures=failures)

    assert (it.state, it.lag, bool(it.problems)) == (state, None, True)


def test_settings_that_cannot_be_used_are_a_problem_with_its_remedy() -> None:
    it = refused("eu", SettingsError("STORE_VIEWS: is wrong", "correct [eu]."))

    assert it.state == "refused"
    assert sentence(it.problems) == "eu: STORE_VIEWS: is wrong To do: correct [eu]."


def test_nobody_is_named_where_there_is_one_tenant() -> None:
    assert sentence([UNSEEN]) == "The copy was not checked yet."
    assert "tenant" not in UNSEEN.as_json()
