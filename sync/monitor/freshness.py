"""How fresh a copy is, decided for the page, `/api`, `/readyz`, `status`, metrics and alerts. Pure.

store view    fresh while its watermark is not older than SYNC_MAX_LAG, or two intervals if that is longer;
              never while the tenant does not have it
feed          fresh while its last run succeeded within that time; a feed on a cron schedule, while it is
              running, or until SYNC_MAX_LAG after its scheduled time

`_assess_view` and `_assess_feed` decide. Every reader asks them, for one state or for all problems.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from sync.db.health import Freshness
from sync.model import PassKind, duration

FreshnessState = Literal["fresh", "stale", "never"]
LOST: Final = "take it out of STORE_VIEWS and run `product-sync forget`, or correct its code."


class Problem(NamedTuple):
    """One reason why a copy is not fresh, as a sentence; `key` identifies it for as long as it lasts.

    feed       the store view or the kind of pass
    is_first   True while nothing was ever read, which is normal during a first load
    tenant     the tenant's name; "" if the process serves only one
    fix        what to do; "" if unknown
    """

    key: str
    feed: str
    reason: str
    is_first: bool = False
    tenant: str = ""
    fix: str = ""

    def as_json(self) -> dict[str, object]:
        """The problem as `/readyz` shows it."""
        return {name: value for name, value in self._asdict().items() if value != ""}


@dataclass(frozen=True, slots=True)
class FeedPolicy:
    """How often one kind of pass must succeed.

    kinds       kinds of pass that include this one's work
    deadline    the latest time for the next success, given when the last run began and ended
    by_cron     whether that is a time of the wall clock
    """

    kind: PassKind
    kinds: tuple[PassKind, ...]
    deadline: Callable[[datetime, datetime], datetime]
    by_cron: bool = False


@dataclass(frozen=True, slots=True)
class FreshnessPolicy:
    """How fresh the settings require a copy to be: `max_lag` for store views, and a policy for each feed."""

    store_views: tuple[str, ...]
    max_lag: timedelta
    feeds: tuple[FeedPolicy, ...] = ()


class Assessment(NamedTuple):
    """How fresh one store view or feed is.

    state      `never`: it was not loaded completely yet
    problem    what is wrong; None while it is fresh
    """

    state: FreshnessState
    problem: Problem | None = None


def problems(policy: FreshnessPolicy, observed: Freshness) -> list[Problem]:
    """Everything that is staler than the policy allows, store views first."""
    views = [_assess_view(policy.max_lag, view, observed) for view in policy.store_views]
    feeds = [_assess_feed(feed, observed) for feed in policy.feeds]
    return [it.problem for it in (*views, *feeds) if it.problem is not None]


def view_state(policy: FreshnessPolicy, observed: Freshness, view: str) -> FreshnessState:
    """The state of one store view, also of one that the policy does not name."""
    return _assess_view(policy.max_lag, view, observed).state


def feed_state(policy: FreshnessPolicy, observed: Freshness, kind: PassKind) -> FreshnessState | None:
    """The state of one feed; None for a kind of pass without a policy."""
    feed = next((feed for feed in policy.feeds if feed.kind == kind), None)
    return None if feed is None else _assess_feed(feed, observed).state


def _assess_view(max_lag: timedelta, view: str, observed: Freshness) -> Assessment:
    key, lag = f"stale:store_view:{view}", observed.lags.get(view)
    if view in observed.lost:
        words = f"Store view {view} is not on the tenant any more."
        return Assessment("stale", Problem(key, view, words, fix=LOST))
    if lag is None:
        words = f"Store view {view} was never loaded completely."
        return Assessment("never", Problem(key, view, words, is_first=True))
    if lag <= max_lag:
        return Assessment("fresh")
    words = f"Store view {view} is {duration(lag)} behind; {duration(max_lag)} are allowed."
    return Assessment("stale", Problem(key, view, words))


def _assess_feed(feed: FeedPolicy, observed: Freshness) -> Assessment:
    key, kind = f"stale:feed:{feed.kind}", feed.kind
    ended = [(observed.successes[it], observed.starts[it]) for it in feed.kinds if it in observed.successes]
    if not ended:
        words = f"The feed {kind} was never read completely."
        return Assessment("never", Problem(key, kind, words, is_first=True))
    finished, began = max(ended)
    now = (observed.scheduled_now if feed.by_cron else None) or observed.now
    if kind in observed.running or now <= feed.deadline(began, finished):
        return Assessment("fresh")
    words = (
        f"The feed {kind} last succeeded {duration(observed.now - finished)} ago: its next run is overdue."
    )
    return Assessment("stale", Problem(key, kind, words))


def sentence(problems: Sequence[Problem]) -> str:
    """All reasons in one text, each with its tenant if there are many."""
    return " ".join(f"{it.tenant}: {it.reason}" if it.tenant else it.reason for it in problems)
