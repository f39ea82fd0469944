"""An alert: one message for an outage, one when it is over, whatever restarts meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync.commerce.retry import RetryPolicy
from sync.commerce.transport import open_session
from sync.db import health, state
from sync.db.dialects import utc_now
from sync.db.engine import reading
from sync.errors import AccessDenied
from sync.feed.webhook import Webhook
from sync.monitor.alerts import Alert, Alerts, chat_text
from sync.monitor.freshness import FeedPolicy, FreshnessPolicy, problems, sentence
from sync.passes.stock import stock
from sync.sandbox import Sandbox
from tests.kit import Bench
from tests.receiver import Receiver

STOCK = FeedPolicy("stock", ("stock",), lambda began, ended: ended + timedelta(hours=1))
PROMISE = FreshnessPolicy(("all",), timedelta(hours=1))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def alerts(
    db: sa.Engine,
    receiver: Receiver,
    promise: FreshnessPolicy = PROMISE,
    held_back: dict[str, str] | None = None,
    max_retry_time: float = 0.0,
    failures: dict[str, str] | None = None,
) -> Alerts:
    """As a daemon makes them when it starts."""
    stop = threading.Event()
    webhook = Webhook(
        f"{receiver.url}/s3cret-path",
        None,
        session=open_session("product-sync/test", pool_size=1),
        retry_policy=RetryPolicy(lambda seconds: False, max_retry_time),
        stop=stop,
        on_retry=lambda *told: None,
    )
    return Alerts(db, promise, webhook, held_back or {}, "shop.example", failures=failures)


def told(receiver: Receiver) -> list[tuple[str, str]]:
    return [(got.batch["event"], got.batch["alert"]) for got in receiver.received if got.action == "take"]


def age(db: sa.Engine, hours: int, kind: str = "") -> None:
    """Let so much time pass since the last pass over products, or of a kind, as far as the database knows."""
    moved = sa.text("UPDATE sync_watermarks SET watermark = :at")
    if kind:
        moved = sa.text(f"UPDATE sync_runs SET finished_at = :at WHERE kind = '{kind}'")
    with db.begin() as tx:
        now = utc_now(tx)
        tx.execute(
            moved, {"at": (now - timedelta(hours=hours, seconds=2 if hours else 0)).replace(tzinfo=None)}
        )


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
    assert "2 h 0 min" in receiver.received[0].batch["text"]


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

    assert [got.action for got in receiver.received] == ["500", "take", "take"]


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


def test_an_outage_is_one_message_whatever_breaks_by_it_and_one_when_all_is_well(
    bench: Bench, tenant: Sandbox, receiver: Receiver
) -> None:
    """It fails three times, is overdue later, and stock is too; the daemon is started anew each time."""
    bench.backfill()
    stock(bench.sync())
    both = FreshnessPolicy(("all",), timedelta(hours=1), (STOCK,))
    for _ in range(3):
        fail(bench, tenant)
        alerts(bench.db, receiver, both).look()
    age(bench.db, 2)
    alerts(bench.db, receiver, both).look()
    age(bench.db, 2, "stock")
    alerts(bench.db, receiver, both).look()
    bench.run()
    alerts(bench.db, receiver, both).look()
    assert told(receiver) == [("problem", "failing:incremental")]

    stock(bench.sync())
    alerts(bench.db, receiver, both).look()
    alerts(bench.db, receiver, both).look()

    assert told(receiver) == [("problem", "failing:incremental"), ("recovered", "failing:incremental")]


def test_what_worked_since_an_outage_began_is_another_one(
    bench: Bench, tenant: Sandbox, receiver: Receiver
) -> None:
    """Stock is broken for good; products are read, and break later."""
    bench.backfill()
    stock(bench.sync())
    age(bench.db, 2, "stock")
    both = FreshnessPolicy(("all",), timedelta(hours=1), (STOCK,))
    alerts(bench.db, receiver, both).look()
    bench.run()
    for _ in range(3):
        fail(bench, tenant)
    alerts(bench.db, receiver, both).look()
    bench.run()
    alerts(bench.db, receiver, both).look()

    assert told(receiver) == [
        ("problem", "stale:feed:stock"),
        ("problem", "failing:incremental"),
        ("recovered", "failing:incremental"),
    ]


def test_a_feed_that_is_overdue_is_not_well_because_it_is_tried(bench: Bench, receiver: Receiver) -> None:
    bench.backfill()
    stock(bench.sync())
    age(bench.db, 2, "stock")
    both = FreshnessPolicy(("all",), timedelta(hours=1), (STOCK,))
    alerts(bench.db, receiver, both).look()
    with bench.db.begin() as tx:
        tx.execute(
            sa.text("UPDATE sync_runs SET status = 'running', finished_at = NULL WHERE kind = 'stock'")
        )
    alerts(bench.db, receiver, both).look()

    assert told(receiver) == [("problem", "stale:feed:stock")]


def test_a_database_that_was_away_is_one_message_with_what_it_broke(
    bench: Bench, receiver: Receiver, tmp_path: Path
) -> None:
    bench.backfill()
    watching, path = alerts(bench.db, receiver), Path(str(bench.db.url.database))
    bench.db.dispose()
    path.rename(tmp_path / "away")
    path.mkdir()
    for _ in range(5):
        watching.look()
    path.rmdir()
    (tmp_path / "away").rename(path)
    age(bench.db, 2)
    watching.look()
    assert told(receiver) == [("problem", "database")]

    bench.run()
    watching.look()

    assert told(receiver) == [("problem", "database"), ("recovered", "database")]


def test_what_an_older_version_noted_is_not_told_again(bench: Bench, receiver: Receiver) -> None:
    bench.backfill()
    age(bench.db, 2)
    former = {"feed": "all", "reason": "", "since": "2026", "told": True, "is_over": False, "claimed": ""}
    with bench.db.begin() as tx:
        state.save(tx, "alerts", {"stale:store_view:all": former})
    alerts(bench.db, receiver).look()
    bench.run()
    alerts(bench.db, receiver).look()

    assert told(receiver) == [("recovered", "stale:store_view:all")]


def test_a_message_says_whom_it_is_about_then_what_to_do(
    bench: Bench, tenant: Sandbox, receiver: Receiver
) -> None:
    bench.backfill()
    age(bench.db, 2)
    alerts(bench.db, receiver).look()
    bench.run()
    alerts(bench.db, receiver).look()
    for _ in range(3):
        fail(bench, tenant)
    alerts(bench.db, receiver, failures={"run": "Refused. To do: check the token."}).look()

    stale, well, failing = (got.batch["text"] for got in receiver.received)
    assert stale.startswith("shop.example: Store view all is 2 h 0 min")
    assert stale.endswith(" To do: run `product-sync check`, which names the cause.")
    assert well.startswith("shop.example: well again. It was: Store view all is")
    assert failing.endswith("in a row or more: Refused. To do: check the token.")


def test_a_chat_obeys_nothing_that_a_server_wrote() -> None:
    """The mark-up of Slack, the mentions and links of Mattermost and Teams; texts as long as they like."""
    reason = "<!channel> & <https://x|y> @all [log in](https://evil.example)\n# \x1b[31m" + "x" * 50_000

    text = chat_text("eu", Alert("all", reason, ""))

    assert text.startswith("eu: &lt;!channel&gt; &amp; &lt;https://x|y&gt; @")
    for obeyed in ("<", ">", "@all", "](", "\n", "\x1b"):
        assert obeyed not in text
    assert len(text) < 4_000


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

    assert sentence(problems(PROMISE, found)) == "Store view all was never loaded completely."
    assert told(receiver) == []


def test_a_feed_is_overdue_when_its_time_is_over(bench: Bench) -> None:
    bench.backfill()
    found = reading(bench.db, health.freshness)

    def with_feed(seconds: float) -> FreshnessPolicy:
        feed = FeedPolicy("backfill", ("backfill",), lambda began, ended: ended + timedelta(seconds=seconds))
        return FreshnessPolicy(("all",), timedelta(hours=1), (feed,))

    assert problems(with_feed(60), found) == []
    assert [problem.key for problem in problems(with_feed(-60), found)] == ["stale:feed:backfill"]


def test_the_url_of_the_receiver_is_in_no_message(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.backfill()
    age(bench.db, 2)
    with Receiver(["404"] * 9) as receiver:
        alerts(bench.db, receiver, max_retry_time=5).look()

    assert "s3cret-path" not in caplog.text
    assert receiver.received[0].path.endswith("/s3cret-path")
