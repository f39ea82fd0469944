"""Add the metrics of a command to a file for node-exporter's textfile collector.

    existing file ──> its counters, added to ours ──┐
                      the series of other commands ─┼──> the new file
    this command's metrics ─────────────────────────┘

Counters and histograms are sums over all commands, so that `increase()` sees each of them. Gauges are this
command's; those of other kinds of pass, other commands and other tenants are kept. A file that is absent,
unreadable as metrics, or written by another version counts as empty: Prometheus takes that for a restart.

Source: node-exporter, "Textfile Collector" (it reads `*.prom`; they must be replaced atomically).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from sync.atomic_write import atomic_write

READABLE: Final = 0o644  # node-exporter runs as another user
VERSION: Final = "product_sync_build_info"
SUMS: Final = ("counter", "histogram")
PER_COMMAND_LABELS: Final = frozenset({"command", "kind"})  # gauges with one of them are kept

Series = dict[tuple[str, frozenset[tuple[str, str]]], Sample]


def write(path: str, metrics: Collector) -> None:
    """Add `metrics` to those that earlier commands wrote to `path`. Raises OSError."""
    target = Path(path)
    with _lock_folder(target.parent), atomic_write(target, READABLE) as file:
        file.write(generate_latest(_Merged(_read(target), [*metrics.collect()])))


class _Merged(NamedTuple):
    """A Collector: the metrics of this command, added to those of an existing file."""

    existing: list[Metric]
    ours: list[Metric]

    def collect(self) -> Iterator[Metric]:
        existing = self.existing if _version(self.existing) == _version(self.ours) else []
        series_by_family = {family.name: _series(family) for family in existing}
        tenants = {sample.labels.get("tenant") for family in self.ours for sample in family.samples}
        for family in self.ours:
            series = series_by_family.get(family.name, {})
            ours = [_added(sample, series.pop(_key(sample), None), family.type) for sample in family.samples]
            kept = [it for it in series.values() if family.type in SUMS or _is_of_another(it, tenants)]
            merged = Metric(family.name, family.documentation, family.type)
            merged.samples = ours + kept
            yield merged


def _added(sample: Sample, existing: Sample | None, kind: str) -> Sample:
    if existing is None or kind not in SUMS:
        return sample
    return sample._replace(value=sample.value + existing.value)


def _is_of_another(gauge: Sample, tenants: set[str | None]) -> bool:
    """Whether a gauge belongs to another tenant, command or kind of pass."""
    return gauge.labels.get("tenant") not in tenants or not PER_COMMAND_LABELS.isdisjoint(gauge.labels)


def _key(sample: Sample) -> tuple[str, frozenset[tuple[str, str]]]:
    return sample.name, frozenset(sample.labels.items())


def _series(family: Metric) -> Series:
    return {_key(it): it for it in family.samples if isfinite(it.value) and it.value >= 0}


def _version(families: Iterable[Metric]) -> str | None:
    return next(
        (f.samples[0].labels.get("version") for f in families if f.name == VERSION and f.samples), None
    )


def _read(target: Path) -> list[Metric]:
    try:
        return [*parse(target.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, LookupError):  # UnicodeDecodeError is a ValueError
        return []


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder from reading its file to replacing it: commands that end together each add theirs."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
