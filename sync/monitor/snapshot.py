"""A snapshot of a copy's health, aged on read, and the tenant's status derived from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, NamedTuple

import sqlalchemy as sa

from sync.db.engine import reading
from sync.db.health import Freshness, freshness
from sync.db.opening import ensure_current, revision_of
from sync.errors import SyncError
from sync.monitor.freshness import FreshnessPolicy, Problem, problems
from sync.monitor.steady import SteadyAges

TenantState = Literal["fresh", "failing", "loading", "empty", "stale", "unreachable", "refused", "unseen"]
EMPTY = Problem("empty", "database", "There is no copy yet.", is_first=True)
UNSEEN = Problem("unseen", "database", "The copy was not checked yet.", is_first=True)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The health of a copy at one moment.

    found      None if the copy could not be read or does not exist yet
    why_not    why `found` is None
    """

    found: Freshness | None = None
    why_not: Problem = UNSEEN

    def problems(self, promise: FreshnessPolicy, elapsed: timedelta) -> list[Problem]:
        """Why the copy is not fresh, `elapsed` after the snapshot."""
        return [self.why_not] if self.found is None else problems(promise, self.found.later(elapsed))


def look(copy: sa.Engine, ages: SteadyAges | None = None) -> Snapshot:
    """Take a snapshot of a copy. An unreadable copy gives a snapshot with the reason.

    ages    of this copy, from earlier looks
    """
    try:
        if revision_of(copy) is None:
            return Snapshot(why_not=EMPTY)
        ensure_current(copy)
        found = reading(copy, freshness)
        return Snapshot(found if ages is None else ages.of(found))
    except SyncError as error:
        return Snapshot(why_not=Problem("database", "database", error.advice))


class TenantStatus(NamedTuple):
    """The status of one tenant.

    problems    why its copy is not fresh, and which passes failed
    failing     by pass, the error of its last run if that failed, also while the copy is fresh
    lag         the largest lag of its store views; None until all were loaded
    rejected    products that were not copied
    busy        the pass in progress; "" for none
    """

    name: str
    state: TenantState
    problems: list[Problem]
    failing: Mapping[str, str]
    lag: timedelta | None = None
    rejected: int | None = None
    busy: str = ""


def tenant_status(
    name: str,
    snapshot: Snapshot,
    promise: FreshnessPolicy,
    elapsed: timedelta,
    *,
    busy: str = "",
    failures: Mapping[str, str] | None = None,
) -> TenantStatus:
    """The status of a tenant, `elapsed` after the snapshot of its copy.

    failures    errors by pass that the daemon knows; they replace those in the copy
    """
    known = {} if snapshot.found is None else snapshot.found.failing
    failing = failures or {kind: streak.error for kind, streak in known.items()}
    problems = snapshot.problems(promise, elapsed)
    causes = [Problem(f"failing:{it}", it, f"The last {it} failed: {why}") for it, why in failing.items()]
    reported = [problem._replace(tenant=name) for problem in (*problems, *(causes if problems else ()))]
    lags = [None if snapshot.found is None else snapshot.found.lags.get(view) for view in promise.store_views]
    there = [lag for lag in lags if lag is not None]
    return TenantStatus(
        name,
        _state(snapshot, problems, bool(failing), bool(busy)),
        reported,
        failing,
        max(there) + elapsed if len(there) == len(lags) else None,
        None if snapshot.found is None else sum(snapshot.found.rejected.values()),
        busy,
    )


def _state(snapshot: Snapshot, problems: list[Problem], is_failing: bool, is_busy: bool) -> TenantState:
    if not problems:
        return "failing" if is_failing else "fresh"
    if is_failing or not all(problem.is_first for problem in problems):
        return "stale" if snapshot.found is not None else "unreachable"
    if snapshot.found is None and not is_busy:
        return "empty" if snapshot.why_not is EMPTY else "unseen"
    has_begun = is_busy or (snapshot.found is not None and (snapshot.found.running or snapshot.found.marks))
    return "loading" if has_begun else "empty"


def refused(name: str, error: SyncError) -> TenantStatus:
    """The status of a tenant whose settings cannot be used."""
    problem = Problem("settings", "settings", error.advice, tenant=name)
    return TenantStatus(name, "refused", [problem], {})
