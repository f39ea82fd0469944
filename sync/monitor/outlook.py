"""What else every reader reports of a copy besides its freshness: failures, waits and next runs. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from sync.db.health import Freshness
from sync.model import PassKind, duration

GRACE: Final = timedelta(minutes=1)  # a daemon may begin a run so late without being missed


def outlook(found: Freshness) -> dict[str, Any]:
    """The same facts for the page, `/api`, `/readyz` and `status`.

    failing      by kind of pass whose last run failed: how many did, since when, why, what to do
    waiting      what the run in progress waits for; None while Commerce answers
    next_runs    by kind of pass, soonest first, as the daemon announced it
    resting_price_feeds    those that the next scheduled run of prices leaves out: they found nothing lately
    """
    return {
        "failing": [
            {
                "kind": kind,
                "runs": streak.runs,
                "since": streak.since,
                "reason": streak.reason,
                "fix": streak.fix or None,
            }
            for kind, streak in found.failing.items()
        ],
        "waiting": None if found.waiting is None else found.waiting._asdict(),
        "next_runs": dict(found.next_runs),
        "resting_price_feeds": list(found.resting),
    }


def public_outlook(found: Freshness | None) -> dict[str, Any]:
    """The part that anybody may read, as JSON: no reason, since it may name a host."""
    if found is None:
        return {"failing": [], "waiting": None, "next_runs": {}, "resting_price_feeds": []}
    wait = found.waiting
    return {
        "failing": [
            {"kind": kind, "runs": it.runs, "since": it.since.isoformat()}
            for kind, it in found.failing.items()
        ],
        "waiting": None if wait is None else {"tries": wait.tries, "next_at": wait.next_at.isoformat()},
        "next_runs": {kind: at.isoformat() for kind, at in found.next_runs.items()},
        "resting_price_feeds": list(found.resting),
    }


def failing_words(found: Freshness) -> list[str]:
    """A sentence for each kind of pass whose last run failed."""
    return [
        f"{failing_title(kind, it.runs)} {moment} UTC, {duration(found.now - it.since)} ago: {it.error}"
        for kind, it in found.failing.items()
        for moment in [f"{it.since:%Y-%m-%d %H:%M:%S}"]
    ]


def failing_title(kind: PassKind, runs: int) -> str:
    """How often it failed, to be followed by the time of the first failure.

    >>> failing_title("stock", 1), failing_title("incremental", 4)
    ('The last stock run failed,', 'The last 4 incremental runs failed, since')
    """
    return f"The last {kind} run failed," if runs == 1 else f"The last {runs} {kind} runs failed, since"


def waiting_words(found: Freshness) -> str | None:
    """What the run in progress waits for, as a sentence; None if for nothing."""
    wait = found.waiting
    if wait is None:
        return None
    left = wait.next_at - found.now
    then = f"Next try in {duration(left)}" if left > timedelta() else f"Try {wait.tries + 1} is in progress"
    return f"Try {wait.tries} failed: {wait.reason} {then}."


def status_words(found: Freshness) -> list[str]:
    """What `product-sync status` prints of failures, waits and next runs."""
    wait = waiting_words(found)
    next_runs = ", ".join(f"{kind} {next_words(found, kind)}" for kind in found.next_runs)
    return [
        *(f"Failing: {words}" for words in failing_words(found)),
        *([f"Waiting: {wait}"] if wait else []),
        f"Next runs: {next_runs or 'none announced by a daemon'}",
    ]


def next_words(found: Freshness, kind: PassKind) -> str:
    """When a kind of pass runs next, in words, and what it leaves out; the time itself is in `next_runs`."""
    resting = " and ".join(found.resting) if kind == "prices" else ""
    without = f" (without {resting}: no change found lately)" if resting else ""
    return _when(found, kind) + without


def _when(found: Freshness, kind: PassKind) -> str:
    left = found.next_runs[kind] - found.now
    if left > timedelta():
        return f"in {duration(left)}"
    if found.running:
        return "after the run in progress"
    return "now" if -left <= GRACE else f"overdue by {duration(-left)}: no daemon has begun it"
