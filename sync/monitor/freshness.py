"""Whether the copy is as fresh as it was promised: what `/readyz` answers and what an alert is about. Pure.

store view    its watermark is not older than SYNC_MAX_LAG, or two intervals where that is longer
feed          came through within that time; one on a cron schedule, within SYNC_MAX_LAG of its hour
              or still under way
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sync.db.health import Freshness
from sync.model import PassKind


class Problem(NamedTuple):
    """What is wrong, in words; `key` names it for as long as it lasts.

    feed       the store view or the kind of pass
    is_first   True while nothing was ever read, which a load that has just begun explains
    tenant     whose problem it is, where there are many
    fix        what to do, where that is known
    """

    key: str
    feed: str
    reason: str
    is_first: bool = False
    tenant: str = ""
    fix: str = ""

    def as_json(self) -> dict[str, object]:
        """What `/readyz` shows of it."""
        return {name: value for name, value in self._asdict().items() if value != ""}


@dataclass(frozen=True, slots=True)
class Feed:
    """A pass that is due again and again.

    kinds      whose runs do at least the same
    overdue    when it is too late for the next run, told when the last one began and ended
    """

    kind: PassKind
    kinds: tuple[PassKind, ...]
    overdue: Callable[[datetime, datetime], datetime]


@dataclass(frozen=True, slots=True)
class FreshnessPolicy:
    """What the settings promise: `max_lag` for each store view, and the feeds that are read."""

    store_views: tuple[str, ...]
    max_lag: timedelta
    feeds: tuple[Feed, ...] = ()


def judge(promise: FreshnessPolicy, found: Freshness) -> list[Problem]:
    """Everything that is staler than promised, store views first."""
    views = [problem for view in promise.store_views if (problem := _view(promise, found, view))]
    return views + [problem for feed in promise.feeds if (problem := _feed(feed, found))]


def _view(promise: FreshnessPolicy, found: Freshness, view: str) -> Problem | None:
    lag, key = found.lags.get(view), f"stale:store_view:{view}"
    if lag is None:
        return Problem(key, view, f"Store view {view} was never loaded completely.", is_first=True)
    if lag <= promise.max_lag:
        return None
    return Problem(
        key, view, f"Store view {view} is {_span(lag)} behind; {_span(promise.max_lag)} are allowed."
    )


def _feed(feed: Feed, found: Freshness) -> Problem | None:
    key, kind = f"stale:feed:{feed.kind}", feed.kind
    ended = [(found.successes[it], found.starts[it]) for it in feed.kinds if it in found.successes]
    if not ended:
        return Problem(key, kind, f"The feed {kind} was never read completely.", is_first=True)
    finished, began = max(ended)
    if kind in found.running or found.now <= feed.overdue(began, finished):
        return None
    age = _span(found.now - finished)
    return Problem(key, kind, f"The feed {kind} last came through {age} ago: its next run is overdue.")


def _span(span: timedelta) -> str:
    """To the second, without what is below."""
    return str(timedelta(seconds=max(0, int(span.total_seconds()))))


def sentence(problems: Sequence[Problem]) -> str:
    return " ".join(f"{it.tenant}: {it.reason}" if it.tenant else it.reason for it in problems)
