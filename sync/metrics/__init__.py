"""Every Prometheus metric, with its name, help and labels.

    counters, histograms     updated on each event by `hooks/metrics.py`
    pace                     read from the pacer on each scrape
    copy                     read from the database on a scrape, at most every CACHE_S seconds

Labels have few values: endpoints of a fixed list, three-digit statuses, store views of the settings. No label
holds a text from a product or a server.

Sources: Prometheus, "Metric and label naming" and "Instrumentation" (base units, `_total`, no ratios).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sync.metrics import textfile

disable_created_metrics()  # type: ignore[no-untyped-call]  # one unused series per counter

CACHE_S: Final = 5.0
ENDPOINTS: Final = frozenset(
    {
        "token",
        "/V1/products",
        "/V1/products/attributes",
        "/V1/products/attribute-sets/sets/list",
        "/V1/products/base-prices-information",
        "/V1/products/special-price-information",
        "/V1/products/tier-prices-information",
        "/V1/products/cost-information",
        "/V1/categories/list",
        "/V1/customerGroups/search",
        "/V1/inventory/source-items",
        "/V1/inventory/sources",
        "/V1/store/storeGroups",
        "/V1/store/storeViews",
        "/V1/store/websites",
    }
)
_REQUEST_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)
_RUN_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600)


class PaceFigures(NamedTuple):
    """The pacer's current rate limit (requests a second), requests in flight, and their limit."""

    rate: float
    in_flight: int
    in_flight_limit: int


@dataclass(frozen=True, slots=True)
class CopyFigures:
    """The state of the copy, from the database.

    watermark_age    seconds, by store view
    last_success     unix time, by kind of pass
    rejected         products that were not copied, by store view
    altered          products copied with a value replaced, by store view
    failed_runs      runs in a row that failed, by kind of pass whose last run did
    next_runs        unix time, by kind of pass, as the daemon announced it
    is_fresh         whether it is as fresh as the settings require; None: unknown
    """

    watermark_age: Mapping[str, float] = field(default_factory=dict)
    last_success: Mapping[str, float] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    altered: Mapping[str, int] = field(default_factory=dict)
    failed_runs: Mapping[str, float] = field(default_factory=dict)
    next_runs: Mapping[str, float] = field(default_factory=dict)
    is_fresh: bool | None = None


def endpoint_of(path: str) -> str:
    """The label of a path: "other" for paths that hold a code or an id.

    >>> endpoint_of("/V1/products/attributes/color/options")
    'other'
    """
    return path if path in ENDPOINTS else "other"


class Metrics:
    """The metrics of one process, or of one of its tenants.

    version    "" where `TenantsMetrics` reports it
    process    include those of the process itself; a textfile omits them, since node-exporter has its own
    """

    def __init__(self, version: str, *, process: bool = True) -> None:
        self.registry = _registry(version, process)
        self._of_requests()
        self._of_runs()
        self._pace: _PaceCollector | None = None
        self._copy: _CopyCollector | None = None

    def _of_requests(self) -> None:
        self.requests = self._counter(
            "requests",
            "Requests to the tenant, counting every try; code none: no whole answer.",
            "endpoint",
            "code",
        )
        self.request_duration = Histogram(
            "product_sync_request_duration_seconds",
            "Time from sending a request to the last byte of its answer.",
            ["endpoint"],
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.response_bytes = self._counter("response_bytes", "Bytes of answers, as received.", "endpoint")
        self.retries = self._counter("retries", "Requests that failed and were sent again.", "endpoint")
        self.waits = self._counter(
            "wait_seconds",
            "Time that requests waited, summed over threads: pacing (learned rate or ceiling), quota "
            "(rate-limit headers), in_flight (limit of concurrent requests), pause (after a refusal), "
            "retry_after and backoff (before a retry).",
            "reason",
        )
        self.token_refreshes = self._counter("token_refreshes", "Access tokens issued by IMS.")

    def _of_runs(self) -> None:
        self.runs = self._counter("runs", "Runs that ended.", "kind", "status")
        self.run_duration = Histogram(
            "product_sync_run_duration_seconds",
            "Time from the start of a run to its end.",
            ["kind"],
            buckets=_RUN_BUCKETS,
            registry=self.registry,
        )
        self.run_finished = self._gauge(
            "run_finished_timestamp_seconds", "When this process last finished such a run.", "kind", "status"
        )
        self.running = self._gauge("run_in_progress", "1 while this process runs such a pass.", "kind")
        self.products = self._counter(
            "products",
            "Products that passes read, by outcome; rows for stock and reference.",
            "kind",
            "outcome",
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"product_sync_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return _gauge(self.registry, name, text, *labels)

    # --- read on a scrape --------------------------------------------------------------------

    def watch_pace(self, read: Callable[[], PaceFigures]) -> None:
        """Show the pace that `read` returns, in place of the previous one."""
        if self._pace is None:
            self._pace = _PaceCollector()
            self.registry.register(self._pace)
        self._pace.read = read

    def watch_copy(self, read: Callable[[], CopyFigures]) -> None:
        """Show what `read` returns in place of the previous copy; `database_up` is 0 when it fails."""
        if self._copy is None:
            self._copy = _CopyCollector()
            self.registry.register(self._copy)
        self._copy.watch(read)

    def freeze_copy(self) -> None:
        """Read the copy for the last time: its engine is about to be closed."""
        if self._copy is not None:
            self._copy.freeze()

    # --- output ------------------------------------------------------------------------------

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, and the content type, in the format that `accept` prefers."""
        return _exposition(self.registry, accept)

    def write(self, path: str) -> None:
        """Add the metrics to a textfile for node-exporter. Call it once. Raises OSError."""
        textfile.write(path, self.registry)

    def command_ended(self, command: str, exit_code: int) -> None:
        """Report the exit code. Call it once."""
        code = self._gauge("command_exit_code", "How the command ended.", "command")
        code.labels(command).set(exit_code)


class TenantsMetrics(Collector):
    """The metrics of all tenants of one process, with the label `tenant`.

    tenants    returns the metrics by tenant name
    process    as in `Metrics`
    """

    def __init__(
        self, version: str, tenants: Callable[[], Mapping[str, Metrics]], *, process: bool = True
    ) -> None:
        self._tenants = tenants
        self._registry = _registry(version, process)
        self._registry.register(self)
        text = "1 while a tenant's settings are valid; at 0 it has none, or continues with earlier ones."
        self.settings_ok = _gauge(self._registry, "settings_ok", text, "tenant")

    def describe(self) -> Iterator[Metric]:
        """Nothing: the names are those of the tenants' metrics, known on `collect`."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for tenant, metrics in self._tenants().items():
            for family in metrics.registry.collect():
                merged = families.setdefault(family.name, _without_samples(family))
                merged.samples += [
                    it._replace(labels={"tenant": tenant, **it.labels}) for it in family.samples
                ]
        yield from families.values()

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, and the content type, in the format that `accept` prefers."""
        return _exposition(self._registry, accept)

    def write(self, path: str) -> None:
        """Add the metrics to a textfile for node-exporter. Call it once. Raises OSError."""
        textfile.write(path, self._registry)


def _registry(version: str, process: bool) -> CollectorRegistry:
    registry = CollectorRegistry()
    if process:
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
    if version:
        _gauge(registry, "build_info", "The version; always 1.", "version").labels(version).set(1)
    return registry


def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"product_sync_{name}", text, labels, registry=registry)


def _exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _without_samples(family: Metric) -> Metric:
    return Metric(family.name, family.documentation, family.type, family.unit)


class _PaceCollector(Collector):
    read: Callable[[], PaceFigures]

    def describe(self) -> Iterator[Metric]:
        yield from _pace_families(None)

    def collect(self) -> Iterator[Metric]:
        yield from _pace_families(self.read())


def _pace_families(figures: PaceFigures | None) -> Iterator[Metric]:
    rate = _family("request_rate_limit_per_second", "Current rate limit of the pacing, requests a second.")
    in_flight = _family("requests_in_flight", "Requests in flight.")
    limit = _family("requests_in_flight_limit", "Current limit of requests in flight.")
    if figures is not None:
        rate.add_metric([], figures.rate)
        in_flight.add_metric([], figures.in_flight)
        limit.add_metric([], figures.in_flight_limit)
    yield from (rate, in_flight, limit)


class _CopyCollector(Collector):
    """Reads the database at most every CACHE_S seconds, and once for concurrent scrapes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def watch(self, read: Callable[[], CopyFigures]) -> None:
        with self._lock:
            self._read, self._figures, self._read_at = read, CopyFigures(), float("-inf")
            self._up = False

    def describe(self) -> Iterator[Metric]:
        yield from _copy_families(CopyFigures(), up=False)

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if monotonic() - self._read_at >= CACHE_S:
                self._refresh()
            figures, up = self._figures, self._up
        yield from _copy_families(figures, up)

    def freeze(self) -> None:
        with self._lock:
            self._refresh()
            self._read_at = float("inf")

    def _refresh(self) -> None:
        try:
            self._figures, self._up = self._read(), True
        except Exception:  # noqa: BLE001 - any failure is reported as `database_up 0`
            self._figures, self._up = CopyFigures(), False
        self._read_at = monotonic()


def _copy_families(figures: CopyFigures, up: bool) -> Iterator[Metric]:
    yield _family("database_up", "1 while the database answers.", {(): float(up)})
    words = "1 while the copy is as fresh as the settings require, as `/readyz` reports it."
    yield _family("copy_fresh", words, {} if figures.is_fresh is None else {(): float(figures.is_fresh)})
    shown = (
        (
            "watermark_age_seconds",
            "Age of the watermark.",
            "store_view",
            figures.watermark_age,
        ),
        ("last_success_timestamp_seconds", "When a pass last succeeded.", "kind", figures.last_success),
        ("failed_runs", "Runs in a row that failed, up to the last one.", "kind", figures.failed_runs),
        ("next_run_timestamp_seconds", "When the daemon runs a pass next.", "kind", figures.next_runs),
        ("rejected_items", "Products that could not be copied.", "store_view", figures.rejected),
        ("altered_items", "Products copied with a value replaced.", "store_view", figures.altered),
    )
    for name, text, label, values in shown:
        yield _family(name, text, {(key,): value for key, value in values.items()}, label)


def _family(
    name: str, text: str, values: Mapping[tuple[str, ...], float] | None = None, *labels: str
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"product_sync_{name}", text, labels=labels)
    for key, value in (values or {}).items():
        family.add_metric(list(key), value)
    return family
