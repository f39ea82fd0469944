"""Metrics of commands in a file for node-exporter: what they count goes on from one command to the next.

    former file ──> its counters, added to ours ──┐
                    series that are not ours ─────┼──> a draft that takes the file's place
    this command's metrics ───────────────────────┘

Counters and histograms are sums of all commands, so that `increase()` sees each of them. Gauges are ours,
besides those of other kinds of pass, other commands and other tenants. A former file that is absent, no
metrics, or another version's counts as empty: Prometheus takes that for a restart.

Source: node-exporter, "Textfile Collector" (it reads `*.prom`, and wants them replaced as a whole).
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

from sync import drafts

READABLE: Final = 0o644  # node-exporter is another user
VERSION: Final = "product_sync_build_info"
SUMS: Final = ("counter", "histogram")
OF_ONE_COMMAND: Final = frozenset({"command", "kind"})  # labels of gauges that other commands leave alone

Series = dict[tuple[str, frozenset[tuple[str, str]]], Sample]


def write(path: str, metrics: Collector) -> None:
    """Write `metrics` to `path`, in addition to what commands wrote there before. Raises OSError."""
    target = Path(path)
    with _in_turn(target.parent):
        drafts.remove_leftovers(target)
        with drafts.replacing(target, READABLE) as file:
            file.write(generate_latest(_Continued(_former(target), [*metrics.collect()])))


class _Continued(NamedTuple):
    """A Collector: the metrics of a command, going on from a former file's."""

    former: list[Metric]
    now: list[Metric]

    def collect(self) -> Iterator[Metric]:
        before = self.former if _version(self.former) == _version(self.now) else []
        series: dict[str, Series] = {family.name: _series(family) for family in before}
        tenants = {sample.labels.get("tenant") for family in self.now for sample in family.samples}
        for family in self.now:
            found = series.get(family.name, {})
            ours = [_added(sample, found.pop(_key(sample), None), family.type) for sample in family.samples]
            kept = [it for it in found.values() if family.type in SUMS or _is_of_others(it, tenants)]
            continued = Metric(family.name, family.documentation, family.type)
            continued.samples = ours + kept
            yield continued


def _added(sample: Sample, before: Sample | None, kind: str) -> Sample:
    if before is None or kind not in SUMS:
        return sample
    return sample._replace(value=sample.value + before.value)


def _is_of_others(gauge: Sample, tenants: set[str | None]) -> bool:
    return gauge.labels.get("tenant") not in tenants or not OF_ONE_COMMAND.isdisjoint(gauge.labels)


def _key(sample: Sample) -> tuple[str, frozenset[tuple[str, str]]]:
    return sample.name, frozenset(sample.labels.items())


def _series(family: Metric) -> Series:
    return {_key(it): it for it in family.samples if isfinite(it.value) and it.value >= 0}


def _version(families: Iterable[Metric]) -> str | None:
    return next(
        (f.samples[0].labels.get("version") for f in families if f.name == VERSION and f.samples), None
    )


def _former(target: Path) -> list[Metric]:
    try:
        return [*parse(target.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, LookupError):  # UnicodeDecodeError is a ValueError
        return []


@contextmanager
def _in_turn(folder: Path) -> Iterator[None]:
    """Keep other commands from the files of a folder: what they add would be lost."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
