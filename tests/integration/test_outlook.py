"""In every state of a copy, all reports agree on freshness, problems, failures, waits and next runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families as parse

from sync.commerce.client import NoHook
from sync.db import leases
from sync.db.announcements import Wait, announce_next_runs, announce_wait
from sync.db.dialects import utc_now
from sync.db.engine import reading
from sync.db.health import freshness
from sync.db.prices import PATIENCE
from sync.errors import SyncError
from sync.hooks.metrics import MetricsHook
from sync.hooks.waits import WaitAnnouncer
from sync.metrics import Metrics
from sync.monitor.outlook import public_outlook
from sync.passes.prices import prices
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

SETTINGS = {
    "store_views": "all",
    "sync_stock_interval": "10m",
    "sync_prices_interval": "off",
    "sync_reference_cron": "off",
    "sync_reconcile_cron": "off",
}
REFUSED = "shop.example cannot be reached: Connection refused."
State = Callable[[Bench], object]


def empty(_bench: Bench) -> None: ...


def fresh(bench: Bench) -> None:
    bench.backfill()
    stock(bench.sync())
    announce_next_runs(bench.db, {"stock": 500.0, "incremental": 90.0})


def resting(bench: Bench) -> None:
    """Costs and tier prices have not changed for long."""
    fresh(bench)
    for _ in range(PATIENCE + 1):
        prices(bench.sync())
    announce_next_runs(bench.db, {"prices": 90.0})


def partial(bench: Bench) -> None:
    bench.sandbox.faults.poison(bench.sandbox.catalogue.ids()[3])
    fresh(bench)


def failing(bench: Bench) -> None:
    fresh(bench)
    for _ in range(2):
        bench.sandbox.faults.deny(403, kind="count", times=2)
        with suppress(SyncError):
            bench.run()
    bench.sandbox.faults.clear()


def stale(bench: Bench) -> None:
    """And its daemon stopped: no run began when it should have."""
    failing(bench)
    announce_next_runs(bench.db, {"incremental": -3630.0})
    with bench.db.begin() as tx:
        then: Any = (utc_now(tx) - timedelta(hours=2, seconds=30)).replace(tzinfo=None)
        tx.execute(sa.text("UPDATE sync_watermarks SET watermark = :then"), {"then": then})


def waiting(bench: Bench) -> None:
    """In its first load: asked while the run is in progress."""
    bench.watch.at_page = stop_at(2)
    with suppress(Stopped):
        bench.backfill()
    with bench.db.begin() as tx:  # as it was before it stopped
        tx.execute(sa.text("UPDATE sync_runs SET status = 'running', finished_at = NULL"))
    leases.acquire(bench.db, "this test", lambda _owner: True)
    announce_wait(bench.db, 5, REFUSED, 11.9)


# By state: the word for it, whether it is ready, kinds that fail, tries of the wait, kinds that run next.
STATES: list[tuple[State, str, bool, list[str], int, list[str]]] = [
    (empty, "empty", False, [], 0, []),
    (waiting, "loading", False, [], 5, []),
    (fresh, "fresh", True, [], 0, ["incremental", "stock"]),
    (resting, "fresh", True, [], 0, ["prices"]),
    (partial, "fresh", True, [], 0, ["incremental", "stock"]),
    (failing, "failing", True, ["incremental"], 0, ["incremental", "stock"]),
    (stale, "stale", False, ["incremental"], 0, ["incremental"]),
]


@pytest.fixture
def app(bench: Bench) -> Any:
    settings = CopySettings(**SETTINGS)  # type: ignore[arg-type] # texts, as from the environment
    monitor = CopyMonitor("", settings, bench.db)
    metrics = MetricsHook(Metrics("1.2.3"))
    metrics.show_copy(lambda: monitor.look().found, monitor.policy)  # type: ignore[arg-type,return-value]
    routes = health_routes(
        lambda: None,
        lambda: monitor.look().problems(monitor.policy, timedelta()),
        metrics.metrics.exposition,
        lambda: public_outlook(monitor.snapshot),
    )
    return application(bench.db, settings, extra_routes=routes)


@pytest.fixture
def shell(tenant: Sandbox, tmp_path: Path) -> Shell:
    environment = {name.upper(): text for name, text in SETTINGS.items()}
    return Shell(tenant, tmp_path, environment | {"DATABASE_URL": f"sqlite:///{tmp_path / 'copy.db'}"})


@pytest.mark.parametrize(("state", "word", "ready", "fails", "tries", "next_kinds"), STATES)
def test_all_reports_agree(
    bench: Bench,
    app: Any,
    shell: Shell,
    state: State,
    word: str,
    ready: bool,
    fails: list[str],
    tries: int,
    next_kinds: list[str],
) -> None:
    state(bench)

    with serving(app, Address("127.0.0.1", 0)) as url:
        facts, probe = (requests.get(url + path, timeout=9) for path in ("api/overview", "readyz"))
        page, metrics = (requests.get(url + path, timeout=9).text for path in ("", "metrics"))
    api, readyz = facts.json(), probe.json()
    status, words = json.loads(shell.run("status", "--json").out), shell.run("status").out
    samples = {(it.name, *it.labels.values()): it.value for family in parse(metrics) for it in family.samples}

    assert (api["state"], f'<span class="badge is-{word}">{word}</span></h1>' in page) == (word, True)
    assert (probe.status_code, samples["product_sync_copy_fresh",]) == ((200, 1) if ready else (503, 0))
    assert [it["reason"] for it in readyz["problems"]] == api["problems"] == status["problems"]
    assert bool(api["problems"]) == ("Not fresh" in page) == ("Not fresh" in words) == (not ready)

    assert [it["kind"] for it in api["failing"]] == [it["kind"] for it in status["failing"]] == fails
    assert [(it["kind"], it["runs"]) for it in readyz["failing"]] == [(kind, 2) for kind in fails]
    assert _of(samples, "failed_runs") == dict.fromkeys(fails, 2)
    for kind in fails:
        assert f"The last 2 {kind} runs failed, since" in page
        assert f"Failing: The last 2 {kind} runs failed, since" in words

    assert [(it or {}).get("tries", 0) for it in (api["waiting"], status["waiting"], readyz["waiting"])] == [
        tries
    ] * 3
    said = re.compile(rf"Try 5 failed: {re.escape(REFUSED)} Next try in 1[01] s")
    assert [bool(said.search(text)) for text in (page, words)] == [tries > 0] * 2

    assert list(api["next_runs"]) == list(status["next_runs"]) == list(readyz["next_runs"]) == next_kinds
    rest = ["cost", "tier"] if state is resting else []
    assert [it["resting_price_feeds"] for it in (api, status, readyz)] == [rest] * 3
    without = "(without cost and tier: no change found lately)"
    assert [without in text for text in (page, words)] == [bool(rest)] * 2
    assert sorted(_of(samples, "next_run_timestamp_seconds")) == sorted(next_kinds)
    for kind in next_kinds:
        late = "overdue by 1 h 0 min: no daemon has begun it" if word == "stale" else "in "
        assert f"{kind} {late}" in page
        assert f"{kind} {late}" in words


def _of(samples: dict[Any, float], name: str) -> dict[str, float]:
    """The samples of one of our metrics, by the value of its label."""
    return {key[1]: value for key, value in samples.items() if key[0] == f"product_sync_{name}"}


def test_a_wait_is_announced_by_the_requests_of_a_run_and_over_with_the_first_answer(bench: Bench) -> None:
    """Short waits are not worth a write; the next run does not inherit a wait that nobody took back."""
    found: list[Wait | None] = []

    def look(page: int) -> None:
        if page == 1:
            _announced(bench.db, lambda it: it.request_retried("/V1/products", REFUSED, 0.9, 1))
            found.append(_waiting(bench.db))
            _announced(bench.db, lambda it: it.request_retried("/V1/products", REFUSED, 30.0, 4))
            found.append(_waiting(bench.db))
            _announced(bench.db, _retry_and_succeed)
            found.append(_waiting(bench.db))
            _announced(bench.db, lambda it: it.request_retried("/V1/products", REFUSED, 30.0, 7))

    bench.watch.at_page = look
    bench.backfill()
    bench.watch.at_page = lambda _page: found.append(_waiting(bench.db))
    bench.reconcile()

    assert [it and (it.tries, it.reason) for it in found[:3]] == [None, (4, REFUSED), None]
    assert found[3] is None


def _announced(db: sa.Engine, happens: Callable[[WaitAnnouncer], None]) -> None:
    """Let something happen, and wait until it is written."""
    announcer = WaitAnnouncer(db, NoHook())
    happens(announcer)
    announcer.close()


def _retry_and_succeed(announcer: WaitAnnouncer) -> None:
    announcer.request_retried("/V1/products", REFUSED, 30.0, 5)
    announcer.request_finished("/V1/products", "all", 200, 0.1, 100, 6)


def _waiting(db: sa.Engine) -> Wait | None:
    return reading(db, freshness).waiting
