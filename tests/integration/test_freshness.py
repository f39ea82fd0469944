"""The page, `/api`, `/readyz`, `status`, the list of tenants, metrics and alerts agree on freshness."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families as parse

from sync.commerce.retry import RetryPolicy
from sync.commerce.transport import open_session
from sync.db.current_views import note_lost, save_list
from sync.db.dialects import utc_now
from sync.errors import AccessDenied
from sync.feed.webhook import Webhook
from sync.hooks.metrics import MetricsHook
from sync.metrics import Metrics
from sync.monitor.alerts import Alerts
from sync.monitor.freshness import Problem
from sync.passes.stock import stock
from sync.sandbox import Sandbox
from sync.service.copy_monitor import CopyMonitor
from sync.settings import CopySettings
from sync.settings.parsers import Address
from sync.web.app import application
from sync.web.health import health_routes
from sync.web.server import serving
from tests.command import Shell
from tests.kit import Bench, Stopped, stop_at
from tests.receiver import Receiver

SETTINGS = {
    "store_views": "all",
    "sync_max_lag": "1h",
    "sync_stock_interval": "10m",
    "sync_prices_interval": "off",
    "sync_reference_cron": "off",
    "sync_reconcile_cron": "0 3 * * *",
}
NO_VIEW = "Store view all was never loaded completely."
NO_FEEDS = (
    "The feed stock was never read completely.",
    "The feed reconcile was never read completely.",
)
OLD_VIEW = "Store view all is SPAN behind; SPAN are allowed."
LOST_VIEW = "Store view all is not on the tenant any more."
OLD_STOCK = "The feed stock last succeeded SPAN ago: its next run is overdue."


class Reports:
    """Everything that reports how fresh one copy is, asked by real HTTP and the real command."""

    def __init__(self, bench: Bench, shell: Shell, receiver: Receiver) -> None:
        settings = CopySettings(**SETTINGS)  # type: ignore[arg-type] # texts, as from the environment
        webhook = Webhook(
            receiver.url,
            None,
            session=open_session("product-sync/test", pool_size=1),
            retry_policy=RetryPolicy(lambda seconds: False, 0.0),
            stop=threading.Event(),
            on_retry=lambda *retry: None,
        )
        self._shell, self._receiver = shell, receiver
        self._monitor = CopyMonitor("", settings, bench.db)
        self.held_back: dict[str, str] = {}
        self._alerts = Alerts(bench.db, self._monitor.policy, webhook, self.held_back)
        metrics = MetricsHook(Metrics("1.2.3"))
        metrics.show_copy(self._monitor.freshness, self._monitor.policy)
        routes = health_routes(lambda: None, self._problems, metrics.metrics.exposition)
        self._app = application(bench.db, settings, extra_routes=routes)

    def _problems(self) -> Sequence[Problem]:
        return self._monitor.look().problems(self._monitor.policy, timedelta())

    def check(self, *problems: str, alerts: Sequence[str] = (), **states: str) -> None:
        """All of them report these problems, these alerts (since the start), and these states."""
        self._alerts.look()
        with serving(self._app, Address("127.0.0.1", 0)) as url:
            facts = next(
                facts for _ in range(100) if (facts := _get(f"{url}api/overview").json())["counted_at"]
            )
            page, ready, metrics = (_get(f"{url}{path}") for path in ("", "readyz", "metrics"))
        samples = {sample.name: sample.value for family in parse(metrics.text) for sample in family.samples}
        status = json.loads(self._shell.run("status", "--json").out)
        listed = [it.reason for it in self._monitor.tenant_status().problems if it.key.startswith("stale:")]
        rows = {row.get("store_view", row.get("kind")): row for row in facts["store_views"] + facts["feeds"]}

        reported = {
            "page": re.findall("Not fresh: ([^<]*)<", page.text),
            "/api": facts["problems"],
            "/readyz": [problem["reason"] for problem in ready.json()["problems"]],
            "status": status["problems"],
            "tenants": listed,
        }
        assert {name: _without_spans(it) for name, it in reported.items()} == {
            name: [*problems] for name in reported
        }
        assert (ready.status_code, samples["product_sync_copy_fresh"]) == ((503, 0) if problems else (200, 1))
        sent = [got.batch["alert"] for got in self._receiver.received if got.batch["event"] == "problem"]
        assert sent == [*alerts]
        assert {name: rows[name]["state"] for name in states} == states


def _get(url: str) -> requests.Response:
    return requests.get(url, timeout=10)


def _without_spans(reasons: Sequence[str]) -> list[str]:
    """The same sentences whatever second they were written in."""
    return [re.sub(r"\d+ (d|h|min|s)( \d+ (h|min))?", "SPAN", reason) for reason in reasons]


@pytest.fixture
def reports(bench: Bench, tenant: Sandbox, tmp_path: Path) -> Iterator[Reports]:
    environment = {name.upper(): text for name, text in SETTINGS.items()}
    shell = Shell(tenant, tmp_path, environment | {"DATABASE_URL": f"sqlite:///{tmp_path / 'copy.db'}"})
    with Receiver() as receiver:
        yield Reports(bench, shell, receiver)


def load(bench: Bench) -> None:
    bench.backfill()
    stock(bench.sync())


def age(db: sa.Engine, statement: str, hours: int = 2) -> None:
    """Let so much time pass, as far as the database knows, for what the statement sets."""
    with db.begin() as tx:
        then: Any = (utc_now(tx) - timedelta(hours=hours)).replace(tzinfo=None)
        tx.execute(sa.text(statement), {"then": then})


def test_an_empty_copy(reports: Reports) -> None:
    """Not fresh, and no alert yet: a first load may be about to begin."""
    reports.check(NO_VIEW, *NO_FEEDS)


def test_a_first_load_that_was_begun(reports: Reports, bench: Bench) -> None:
    bench.watch.at_page = stop_at(2)
    with pytest.raises(Stopped):
        bench.backfill()

    reports.check(NO_VIEW, *NO_FEEDS, all="never")


def test_a_fresh_copy(reports: Reports, bench: Bench) -> None:
    load(bench)

    reports.check(all="fresh", backfill="succeeded", stock="succeeded")


def test_a_stale_store_view(reports: Reports, bench: Bench) -> None:
    load(bench)
    age(bench.db, "UPDATE sync_watermarks SET watermark = :then")

    reports.check(OLD_VIEW, alerts=["stale:store_view:all"], all="stale", stock="succeeded")


def test_a_store_view_that_the_tenant_lost(reports: Reports, bench: Bench) -> None:
    """It was loaded, so nothing says that it was not."""
    load(bench)
    with bench.db.begin() as tx:
        save_list(tx, ["all"])
        note_lost(tx, "all")

    reports.check(LOST_VIEW, alerts=["stale:store_view:all"], all="left", stock="succeeded")


def test_an_overdue_feed(reports: Reports, bench: Bench) -> None:
    load(bench)
    age(bench.db, "UPDATE sync_runs SET started_at = :then, finished_at = :then WHERE kind = 'stock'")

    reports.check(OLD_STOCK, alerts=["stale:feed:stock"], all="fresh", stock="stale")


def test_an_overdue_feed_on_a_cron_schedule(reports: Reports, bench: Bench) -> None:
    """Three days without the nightly reconcile: the page must not report that all is well."""
    load(bench)
    bench.reconcile()
    for kind in ("backfill", "reconcile"):
        age(
            bench.db,
            f"UPDATE sync_runs SET started_at = :then, finished_at = :then WHERE kind = '{kind}'",
            72,
        )

    overdue = "The feed reconcile last succeeded SPAN ago: its next run is overdue."
    reports.check(overdue, alerts=["stale:feed:reconcile"], all="fresh", reconcile="stale")


def test_an_overdue_feed_that_is_being_read(reports: Reports, bench: Bench) -> None:
    """Waiting for its run to end, it is not overdue."""
    load(bench)
    age(bench.db, "UPDATE sync_runs SET started_at = :then, finished_at = :then WHERE kind = 'stock'")
    with bench.db.begin() as tx:
        columns = [name for name in sa.inspect(tx).get_columns("sync_runs") if name["name"] != "run_id"]
        names = ", ".join(column["name"] for column in columns)
        tx.execute(
            sa.text(f"INSERT INTO sync_runs ({names}) SELECT {names} FROM sync_runs WHERE kind = 'stock'")
        )
        tx.execute(
            sa.text(
                "UPDATE sync_runs SET status = 'running', finished_at = NULL"
                " WHERE run_id = (SELECT max(run_id) FROM sync_runs)"
            )
        )

    reports.check(all="fresh", stock="succeeded")


def test_a_pass_that_fails_while_the_copy_is_fresh(reports: Reports, bench: Bench, tenant: Sandbox) -> None:
    load(bench)
    for _ in range(3):
        tenant.faults.deny(403, kind="count", times=2)
        with pytest.raises(AccessDenied):
            bench.run()
        tenant.faults.clear()

    reports.check(alerts=["failing:incremental"], all="fresh", stock="succeeded")


def test_deletions_held_back(reports: Reports, bench: Bench) -> None:
    """The copy is as fresh as before; only an alert asks for a decision."""
    load(bench)
    reports.held_back["incremental"] = "30 of 60 products would be deleted."

    reports.check(alerts=["held_back:incremental"], all="fresh")
