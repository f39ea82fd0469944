"""An alert: one message when something goes wrong, one when it is well again, whatever restarts meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sync.alerts import Alerts
from sync.commerce.retry import Patience
from sync.commerce.transport import open_session
from sync.db import health
from sync.db.dialects import utc_now
from sync.db.engine import reading
from sync.errors import AccessDenied
from sync.health import Feed, Promise, judge, sentence
from sync.sandbox import Sandbox
from sync.webhook import Webhook
from tests.kit import Bench
from tests.receiver import Receiver

PROMISE = Promise(("all",), timedelta(hours=1))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def alerts(
    db: sa.Engine,
    receiver: Receiver,
    promise: Promise = PROMISE,
    held_back: dict[str, str] | None = None,
    max_retry_time: float = 0.0,
) -> Alerts:
    """As a daemon makes them when it starts."""
    stop = threading.Event()
    webhook = Webhook(
        f"{receiver.url}/s3cret-path",
        None,
        session=open_session("product-sync/test", pool_size=1),
        patience=Patience(lambda seconds: False, max_retry_time),
        stop=stop,
        on_retry=lambda *told: None,
    )
    return Alerts(db, promise, webhook, held_back if held_back is not None else {})


def told(receiver: Receiver) -> list[tuple[str, str]]:
    return [(got.batch["event"], got.batch["alert"]) for got in receiver.received if got.action == "take"]


def age(db: sa.Engine, hours: int) -> None:
    """Let so much time pass since the last pass, as far as the database knows."""
    moved = sa.text("UPDATE sync_watermarks SET watermark = :at")
    with db.begin() as tx:
        now = utc_now(tx)
        tx.execute(moved, {"at": (now - timedelta(hours=hours)).replace(tzinfo=None)})


def test_a_stale_store_view_is_told_once_and_once_when_it_is_fresh(bench: Bench, receiver: Receiver) -> None:
    """With a restart after every look."""
    bench.backfill()
    alerts(bench.db, receiver).look()
    age(bench.db, 2)
    for _ in range(3):
        alerts(bench.db, receiver).look()
    bench.run()
    for _ in range(3):
        alerts(bench.db, receiver).look()

    assert told(receiver) == [("problem", "stale:store_view:all"), ("recovered", "stale:store_view:all")]
    assert "2:00:0" in receiver.received[0].batch["text"]


def test_several_daemons_tell_it_once(tenant: Sandbox, db: sa.Engine, receiver: Receiver) -> None:
    """On each of the three servers."""
    bench = Bench(tenant, db)
    bench.backfill()
    age(bench.db, 2)
    alerts(bench.db, receiver).look()
    age(bench.db, 0)
    alerts(bench.db, receiver).look()
    age(bench.db, 2)
    threads = [threading.Thread(target=alerts(bench.db, receiver).look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [event for event, _ in told(receiver)] == ["problem", "recovered", "problem"]


def test_what_could_not_be_told_is_told_at_the_next_look(bench: Bench) -> None:
    bench.backfill()
    age(bench.db, 2)
    with Receiver(["500", "lose"]) as receiver:
        alerts(bench.db, receiver).look()
        alerts(bench.db, receiver).look()
        alerts(bench.db, receiver).look()
        alerts(bench.db, receiver).look()

    assert [got.action for got in receiver.received] == ["500", "lose", "take"]
    assert len({got.headers["Idempotency-Key"] for got in receiver.received}) == 1


def test_messages_behind_one_that_could_not_be_told_wait_no_longer_than_that(bench: Bench) -> None:
    bench.backfill()
    age(bench.db, 2)
    held_back = {"incremental": "too many", "reconcile": "too many"}
    with Receiver(["500"]) as receiver:
        alerts(bench.db, receiver, held_back=held_back).look()
        alerts(bench.db, receiver, held_back=held_back).look()

    assert [got.action for got in receiver.received] == ["500", "take", "take", "take"]


def test_three_failures_in_a_row_are_told_two_are_not(
    bench: Bench, tenant: Sandbox, receiver: Receiver
) -> None:
    bench.backfill()
    for _ in range(2):
        fail(bench, tenant)
        alerts(bench.db, receiver).look()
    assert told(receiver) == []

    for _ in range(3):
        fail(bench, tenant)
        alerts(bench.db, receiver).look()
    bench.run()
    alerts(bench.db, receiver).look()

    assert told(receiver) == [("problem", "failing:incremental"), ("recovered", "failing:incremental")]
    assert "answered 403" in receiver.received[0].batch["reason"]


def fail(bench: Bench, tenant: Sandbox) -> None:
    tenant.faults.deny(403, kind="count", times=2)
    with pytest.raises(AccessDenied):
        bench.run()
    tenant.faults.clear()


def test_deletions_held_back_are_told_until_a_pass_believes_again(bench: Bench, receiver: Receiver) -> None:
    """A daemon that starts anew knows nothing of them, and does not take that for well."""
    bench.backfill()
    held_back = {"incremental": "30 of 60 products would be deleted."}
    alerts(bench.db, receiver, held_back=held_back).look()
    alerts(bench.db, receiver, held_back={}).look()
    alerts(bench.db, receiver, held_back=held_back).look()
    alerts(bench.db, receiver, held_back={"incremental": ""}).look()

    assert told(receiver) == [("problem", "held_back:incremental"), ("recovered", "held_back:incremental")]


def test_a_first_load_that_has_just_begun_is_no_alert_but_not_ready(bench: Bench, receiver: Receiver) -> None:
    found = reading(bench.db, health.freshness)

    alerts(bench.db, receiver).look()

    assert sentence(judge(PROMISE, found)) == "Store view all was never loaded completely."
    assert told(receiver) == []


def test_a_feed_is_overdue_when_its_time_is_over(bench: Bench) -> None:
    bench.backfill()
    found = reading(bench.db, health.freshness)

    def with_feed(seconds: float) -> Promise:
        feed = Feed("backfill", ("backfill",), lambda began, ended: ended + timedelta(seconds=seconds))
        return Promise(("all",), timedelta(hours=1), (feed,))

    assert judge(with_feed(60), found) == []
    assert [problem.key for problem in judge(with_feed(-60), found)] == ["stale:feed:backfill"]


def test_the_url_of_the_receiver_is_in_no_message(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.backfill()
    age(bench.db, 2)
    with Receiver(["404"] * 9) as receiver:
        alerts(bench.db, receiver, max_retry_time=5).look()

    assert "s3cret-path" not in caplog.text
    assert receiver.received[0].path.endswith("/s3cret-path")
