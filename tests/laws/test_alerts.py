"""Whatever fails, goes stale, recovers or flaps: one message when an outage begins, one when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync.db.dialects import utc_now
from sync.db.engine import in_memory
from sync.db.schema import sync_runs, sync_state
from sync.errors import CommerceUnavailable
from sync.feed.webhook import Webhook
from sync.model import PassKind
from sync.monitor.alerts import FAILURES, Alerts
from sync.monitor.freshness import FeedPolicy, FreshnessPolicy

KINDS: tuple[PassKind, ...] = ("incremental", "prices", "stock")
HOUR = timedelta(hours=1)
POLICY = FreshnessPolicy(
    (), HOUR, tuple(FeedPolicy(kind, (kind,), lambda _began, ended: ended + HOUR) for kind in KINDS)
)
ACTS = ("succeeds", "fails", "fails", "fails", "goes stale")
EVENTS = st.one_of(
    st.tuples(st.sampled_from(ACTS), st.sampled_from(KINDS)),
    st.tuples(
        st.sampled_from(["look", "look", "look", "restart", "receiver away", "receiver back"]), st.none()
    ),
)


class Chat:
    """A receiver that may be away."""

    def __init__(self) -> None:
        self.is_away = False
        self.received: list[dict[str, Any]] = []

    def post(self, body: bytes, _once: str) -> None:
        if self.is_away:
            raise CommerceUnavailable("The receiver is away.", "wait.")
        self.received.append(msgspec.json.decode(body))


class Copy:
    """The runs of a copy, and its alerts."""

    def __init__(self, db: sa.Engine) -> None:
        self.db, self.chat = db, Chat()
        self.failed = dict.fromkeys(KINDS, 0)
        self.stale: set[str] = set()
        self.worked: dict[str, int] = {}  # by feed, the number of messages when it last worked
        with db.begin() as tx:
            tx.execute(sa.delete(sync_runs))
            tx.execute(sa.delete(sync_state))
        for kind in KINDS:
            self.succeeds(kind)
        self.restart()

    def restart(self) -> None:
        self.alerts = Alerts(self.db, POLICY, cast("Webhook", self.chat), {})

    def succeeds(self, kind: PassKind) -> None:
        self._ends(kind, "succeeded")
        self.failed[kind] = 0
        self.stale.discard(kind)
        self.worked[kind] = len(self.chat.received)

    def fails(self, kind: PassKind) -> None:
        self._ends(kind, "failed")
        self.failed[kind] += 1

    def goes_stale(self, kind: PassKind) -> None:
        with self.db.begin() as tx:
            moved = {"finished_at": utc_now(tx) - 2 * HOUR}
            tx.execute(sa.update(sync_runs).where(sync_runs.c.kind == kind).values(moved))
        self.stale.add(kind)

    def _ends(self, kind: PassKind, status: str) -> None:
        with self.db.begin() as tx:
            now = utc_now(tx)
            run = {"kind": kind, "status": status, "started_at": now, "finished_at": now}
            tx.execute(sa.insert(sync_runs).values(**run, store_views="all", scope="", error=status))

    @property
    def wrong(self) -> set[str]:
        """Problems, each by its kind and feed."""
        failing = {f"failing {kind}" for kind, count in self.failed.items() if count >= FAILURES}
        return failing | {f"stale {kind}" for kind in self.stale}

    @property
    def unfinished(self) -> set[tuple[str, str]]:
        """Incidents of which only the beginning was reported; each message comes once."""
        seen: set[tuple[str, str, str]] = set()
        opened: set[tuple[str, str]] = set()
        for message in self.chat.received:
            incident, event = (message["alert"], message["since"]), message["event"]
            assert (*incident, event) not in seen, "a message came twice"
            seen.add((*incident, event))
            if event == "problem":
                opened.add(incident)
            else:
                assert incident in opened, "the end of what never began"
                opened.remove(incident)
        return opened


@pytest.fixture(scope="module")
def db() -> Iterator[sa.Engine]:
    engine = in_memory()
    yield engine
    engine.dispose()


def problems_in(messages: list[dict[str, Any]]) -> int:
    return sum(message["event"] == "problem" for message in messages)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(events=st.lists(EVENTS, max_size=25))
def test_one_message_for_each_outage_and_one_when_it_is_over(db: sa.Engine, events: list[Any]) -> None:
    """A look after each event that the receiver can hear, with restarts and lost messages between."""
    copy = Copy(db)
    reported: set[str] = set()  # what was wrong at the last look that could be sent
    for what, kind in [*events, ("receiver back", None), ("look", None)]:
        if what == "restart":
            copy.restart()
        elif what.startswith("receiver"):
            copy.chat.is_away = what.endswith("away")
        elif kind is not None:
            {"succeeds": copy.succeeds, "fails": copy.fails, "goes stale": copy.goes_stale}[what](kind)
        before, is_open = len(copy.chat.received), bool(copy.unfinished)
        if what == "look":
            copy.alerts.look()
        news = copy.chat.received[before:]
        if what != "look" or copy.chat.is_away:
            assert news == []
            continue

        assert bool(copy.unfinished) == bool(copy.wrong), "an outage without a message, or none with one"
        assert problems_in(news) <= 1, "two messages for one outage"
        if problems_in(news):
            causes = copy.wrong - reported
            assert causes, "a message without a new cause"
            assert not is_open or any(copy.worked[cause.split()[1]] for cause in causes), "a cause that joins"
        reported = copy.wrong


def test_a_feed_that_flaps_is_reported_each_time_it_breaks(db: sa.Engine) -> None:
    copy = Copy(db)
    for _ in range(3):
        for step in (copy.goes_stale, copy.succeeds):
            step("stock")
            for _ in range(3):
                copy.alerts.look()

    assert [message["event"] for message in copy.chat.received] == ["problem", "recovered"] * 3
