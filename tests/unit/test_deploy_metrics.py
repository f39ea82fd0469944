"""Dashboard and alert rules ask for metrics that exist, with labels that these have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from sync.metrics import CopyFigures, Metrics, PaceFigures

DEPLOY = Path(__file__).parents[2] / "deploy"
LABELS = {"instance", "job", "le"}  # what Prometheus and histograms add


def expressions() -> list[str]:
    rules = yaml.safe_load((DEPLOY / "prometheus/product-sync.rules.yml").read_text())
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    dashboard = json.loads((DEPLOY / "grafana/product-sync.json").read_text())
    return asked + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def known() -> dict[str, set[str]]:
    """Every name that can be asked for, and its labels."""
    metrics = Metrics("0")
    metrics.watch_pace(lambda: PaceFigures(1, 1, 1))
    metrics.watch_copy(lambda: CopyFigures({"all": 1}, {"run": 1}, {"all": 1}))
    names: dict[str, set[str]] = {"product_sync_command_exit_code": {"command"}, "up": set()}
    names |= {"product_sync_settings_ok": {"tenant"}}  # of many tenants
    for family in metrics.registry.collect():
        labels = set(getattr(family, "_labelnames", ()))
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(
            family.type, ("",)
        )
        names |= {f"{family.name}{suffix}": labels for suffix in suffixes}
    for collector in vars(metrics).values():
        if hasattr(collector, "_labelnames"):
            for name in [name for name in names if name.startswith(collector._name)]:
                names[name] = set(collector._labelnames)
    return names


@pytest.mark.parametrize("expression", expressions())
def test_what_is_asked_for_exists(expression: str) -> None:
    asked = re.findall(r"\b((?:product_sync|process)_\w+|up)\b(?:\{([^}]*)\})?", expression)
    names = known()

    assert asked
    for name, selector in asked:
        assert name in names
        assert set(re.findall(r"(\w+)\s*=~?", selector)) <= names[name] | LABELS


def test_the_dashboard_shows_every_metric_of_ours() -> None:
    shown = " ".join(expressions())
    missing = {name for name in known() if name.startswith("product_sync_") and name not in shown}

    assert {name for name in missing if not name.endswith(("_sum", "_count", "_bucket"))} <= {
        "product_sync_run_finished_timestamp_seconds"
    }
