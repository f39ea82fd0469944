"""Metrics: valid by the official parser, named by the rules, and every one of them moves."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from sync.app import App, freshness_policy, opened
from sync.db.engine import reading
from sync.db.health import Freshness, freshness
from sync.db.schema import sync_watermarks
from sync.errors import SyncError
from sync.hooks.metrics import MetricsHook
from sync.hooks.run_log import RunLog
from sync.metrics import Metrics, TenantsMetrics
from sync.monitor.freshness import FreshnessPolicy
from sync.passes.backfill import backfill
from sync.passes.incremental import incremental
from sync.passes.prices import prices
from sync.sandbox import Sandbox
from sync.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def tenant() -> Iterator[Sandbox]:
    with Sandbox(products=20) as sandbox:
        yield sandbox


@pytest.fixture
def metrics_hook() -> MetricsHook:
    return MetricsHook(Metrics("1.2.3"))


@pytest.fixture
def app(tenant: Sandbox, metrics_hook: MetricsHook, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    environment = tenant.environment() | {"SYNC_PAGE_SIZE": "5", "SYNC_MAX_RETRY_TIME": "2s"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with opened(Settings.load(), threading.Event(), metrics_hook=metrics_hook) as live:
        metrics_hook.show_copy(lambda: reading(live.db, freshness), freshness_policy(live.settings))
        yield live


def samples(metrics_hook: MetricsHook) -> Samples:
    text = metrics_hook.metrics.exposition()[0].decode()
    families = [*parse(text)]
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics_hook: MetricsHook, name: str, **labels: str) -> float:
    return samples(metrics_hook).get((f"product_sync_{name}", frozenset(labels.items())), 0.0)


@pytest.mark.slow
def test_every_metric_moves(app: App, tenant: Sandbox, metrics_hook: MetricsHook) -> None:
    """A quota, a refusal with Retry-After, an error, an unusable SKU, an old date, a price that moved."""
    before = {name for name, _ in samples(metrics_hook)}
    tenant.faults.fail(429, headers={"Retry-After": "0.5"}, times=1)
    tenant.faults.fail(500, times=1)
    tenant.catalogue.edit_raw(7, {"sku": ["no", "text"]})
    tenant.catalogue.edit(9, created_at="0000-00-00 00:00:00")
    backfill(app.sync("backfill"))
    tenant.catalogue.edit(3, name="Another name")
    tenant.catalogue.delete(5)
    incremental(app.sync("run"))
    prices(app.sync("prices"))
    tenant.faults.deny(403, kind="count", times=2)
    with pytest.raises(SyncError):
        incremental(app.sync("run"))

    seen = samples(metrics_hook)
    still = {name for (name, labels), number in seen.items() if not number and not labels}
    assert still <= {"product_sync_requests_in_flight", "product_sync_copy_fresh"}, (
        still
    )  # stock was not read
    assert {name for name, _ in seen} > before
    for outcome, count in {"inserted": 19, "rejected": 1, "altered": 1}.items():
        assert value(metrics_hook, "products_total", kind="backfill", outcome=outcome) == count
    assert value(metrics_hook, "products_total", kind="incremental", outcome="updated") >= 1
    assert value(metrics_hook, "products_total", kind="incremental", outcome="deleted") == 1
    assert value(metrics_hook, "requests_total", endpoint="/V1/products", code="429") == 1
    assert value(metrics_hook, "requests_total", endpoint="/V1/products", code="200") > 4
    assert value(metrics_hook, "retries_total", endpoint="/V1/products") >= 2
    assert value(metrics_hook, "request_duration_seconds_count", endpoint="/V1/products") > 4
    assert value(metrics_hook, "response_bytes_total", endpoint="/V1/products") > 1_000
    for reason in ("retry_after", "backoff", "pacing"):
        assert value(metrics_hook, "wait_seconds_total", reason=reason) > 0, reason
    assert value(metrics_hook, "token_refreshes_total") >= 1
    assert value(metrics_hook, "runs_total", kind="backfill", status="partial") == 1
    assert value(metrics_hook, "runs_total", kind="incremental", status="failed") == 1
    assert value(metrics_hook, "run_duration_seconds_count", kind="backfill") == 1
    assert value(metrics_hook, "run_finished_timestamp_seconds", kind="incremental", status="failed") > 1e9
    assert value(metrics_hook, "run_in_progress", kind="backfill") == 0
    assert 0 <= value(metrics_hook, "watermark_age_seconds", store_view="all") < 60
    assert value(metrics_hook, "last_success_timestamp_seconds", kind="backfill") > 1e9
    assert value(metrics_hook, "rejected_items", store_view="all") == 1
    assert value(metrics_hook, "altered_items", store_view="all") == 1
    assert value(metrics_hook, "request_rate_limit_per_second") > 0
    assert value(metrics_hook, "requests_in_flight_limit") >= 1
    assert value(metrics_hook, "database_up") == 1
    assert value(metrics_hook, "build_info", version="1.2.3") == 1


def test_both_forms_are_valid_and_names_follow_the_rules(metrics_hook: MetricsHook) -> None:
    metrics_hook.metrics.token_refreshes.inc()
    text, content_type = metrics_hook.metrics.exposition("application/openmetrics-text; version=1.0.0")

    families = [*parse_openmetrics(text.decode())]  # type: ignore[no-untyped-call]
    assert content_type.startswith("application/openmetrics-text")
    ours = [family for family in families if family.name.startswith("product_sync_")]
    assert len(ours) > 10
    assert all(family.documentation for family in ours)
    plain = metrics_hook.metrics.exposition()[0].decode()
    assert "_created" not in plain
    assert {"process_cpu_seconds_total", "python_info"} <= {name for name, _ in samples(metrics_hook)}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, which is part of Prometheus")
def test_promtool_finds_nothing_to_say(metrics_hook: MetricsHook) -> None:
    plain = metrics_hook.metrics.exposition()[0]

    checked = subprocess.run(["promtool", "check", "metrics"], input=plain, capture_output=True, check=False)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_what_a_tenant_sends_is_no_label(app: App, tenant: Sandbox, metrics_hook: MetricsHook) -> None:
    """Paths with a code in them count as one, whatever the code is."""
    hook = metrics_hook.hook(app.run_log)
    for code in range(100):
        hook.request_finished(f"/V1/products/attributes/code-{code}/options", "all", 200, 0.1, 10, 1)

    assert value(metrics_hook, "requests_total", endpoint="other", code="200") == 100
    assert (
        len({labels for name, labels in samples(metrics_hook) if name == "product_sync_requests_total"}) == 1
    )


def test_a_database_that_is_away_shows_and_breaks_no_scrape(metrics_hook: MetricsHook) -> None:
    def away() -> None:
        raise OSError

    metrics_hook.metrics.watch_copy(away)  # type: ignore[arg-type]

    assert value(metrics_hook, "database_up") == 0
    assert value(metrics_hook, "build_info", version="1.2.3") == 1


# --- many tenants ------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_metrics_of_many_are_those_of_each_with_its_name(accept: str) -> None:
    """Valid in both forms; what is the process's own has no tenant."""
    copy = Freshness(NOW, {"all": NOW - timedelta(60)}, {}, {}, frozenset(), {})
    measured = {name: MetricsHook(Metrics("", process=False)) for name in ("eu", "us")}
    for count, metrics_hook in enumerate(measured.values(), 1):
        metrics_hook.hook(RunLog()).request_finished("/V1/products", "all", 200, 0.1, 10 * count, 1)
        metrics_hook.show_pace(lambda: (2.0, 1, 4))
        metrics_hook.show_copy(lambda: copy, FreshnessPolicy(("all",), timedelta(hours=1)))
    all_ = TenantsMetrics("1.2.3", lambda: {name: it.metrics for name, it in measured.items()})
    all_.settings_ok.labels("fr").set(0)

    text = all_.exposition(accept)[0].decode()
    families = [*(parse_openmetrics if accept else parse)(text)]

    found = {(it.name, it.labels.get("tenant")): it for family in families for it in family.samples}
    assert len({family.name for family in families}) == len(families)
    assert found["product_sync_response_bytes_total", "eu"].value == 10
    assert found["product_sync_response_bytes_total", "us"].value == 20
    assert found["product_sync_request_duration_seconds_count", "us"].labels["endpoint"] == "/V1/products"
    assert found["product_sync_watermark_age_seconds", "eu"].labels["store_view"] == "all"
    assert found["product_sync_settings_ok", "fr"].value == 0
    assert found["product_sync_build_info", None].labels == {"version": "1.2.3"}
    assert ("process_cpu_seconds_total", None) in found


def test_a_watermark_ahead_of_our_clock_has_no_negative_age(db: sa.Engine) -> None:
    """The tenant's clock is ahead, or ours was set back by an hour."""
    ahead = datetime.now(UTC) + timedelta(hours=1)
    with db.begin() as tx:
        tx.execute(sa.insert(sync_watermarks).values(store_view="all", watermark=ahead, updated_by_run=1))

    assert reading(db, freshness).lags == {"all": timedelta()}
