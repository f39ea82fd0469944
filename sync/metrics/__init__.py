"""What Prometheus is told: every metric with its name, its help and its labels; nothing else here.

    counters, histograms     moved as things happen, by `hooks/meter.py`
    pace                     asked of the pacer when somebody scrapes
    copy                     asked of the database when somebody scrapes, at most every CACHE_S seconds

Labels have few values: endpoints are those of a list, statuses are numbers of three digits, store views
those of the settings. No text of a product or of a server is among them.

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

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nobody asks for

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
    """What the pacer does now: requests a second it lets through, in flight, and how many of these may be."""

    rate: float
    in_flight: int
    room: int


@dataclass(frozen=True, slots=True)
class CopyFigures:
    """What the database says of the copy.

    watermark_age    seconds, by store view
    last_success     unix time, by kind of pass
    rejected         products that were not copied, by store view
    altered          products copied with a value replaced, by store view
    is_fresh         whether it is as fresh as the settings require; None: unknown
    """

    watermark_age: Mapping[str, float] = field(default_factory=dict)
    last_success: Mapping[str, float] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    altered: Mapping[str, int] = field(default_factory=dict)
    is_fresh: bool | None = None


def endpoint_of(path: str) -> str:
    """The label of a path: those that hold a code or an id are one.

    >>> endpoint_of("/V1/products/attributes/color/options")
    'other'
    """
    return path if path in ENDPOINTS else "other"


class Metrics:
    """The metrics of one process, or of one tenant among those of a process.

    version    "" where `TenantsMetrics` tells it
    process    with those of the process itself; a textfile leaves them out, since node-exporter has its own
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
            "Requests to the tenant, each try one; code none: no whole answer.",
            "endpoint",
            "code",
        )
        self.request_duration = Histogram(
            "product_sync_request_duration_seconds",
            "From sending a request to the last byte of its answer.",
            ["endpoint"],
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.response_bytes = self._counter("response_bytes", "Bodies of answers, as received.", "endpoint")
        self.retries = self._counter("retries", "Requests that failed and were sent again.", "endpoint")
        self.waits = self._counter(
            "wait_seconds",
            "What requests waited, all threads together: pacing (the rate found, or a ceiling), quota "
            "(rate-limit headers), in_flight (as many as the tenant bears), pause (behind a refusal), "
            "retry_after and backoff (before a repeat).",
            "reason",
        )
        self.token_refreshes = self._counter("token_refreshes", "Access tokens that IMS gave out.")

    def _of_runs(self) -> None:
        self.runs = self._counter("runs", "Runs that ended.", "kind", "status")
        self.run_duration = Histogram(
            "product_sync_run_duration_seconds",
            "From the start of a run to its end.",
            ["kind"],
            buckets=_RUN_BUCKETS,
            registry=self.registry,
        )
        self.run_finished = self._gauge(
            "run_finished_timestamp_seconds", "When this process last ended such a run.", "kind", "status"
        )
        self.running = self._gauge("run_in_progress", "1 while this process runs such a pass.", "kind")
        self.products = self._counter(
            "products",
            "Products that passes read, and what became of them; of stock and reference, rows.",
            "kind",
            "outcome",
        )

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"product_sync_{name}", words, labels, registry=self.registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return _gauge(self.registry, name, words, *labels)

    # --- what is asked when somebody scrapes -------------------------------------------------

    def watch_pace(self, ask: Callable[[], PaceFigures]) -> None:
        """Show the pace that `ask` tells, in place of the one before."""
        if self._pace is None:
            self._pace = _PaceCollector()
            self.registry.register(self._pace)
        self._pace.ask = ask

    def watch_copy(self, ask: Callable[[], CopyFigures]) -> None:
        """Show what `ask` tells of the copy, in place of what was shown before; a failure as a 0 of `up`."""
        if self._copy is None:
            self._copy = _CopyCollector()
            self.registry.register(self._copy)
        self._copy.ask_of(ask)

    def settle(self) -> None:
        """Ask the copy once more, and never again: it is about to be closed."""
        if self._copy is not None:
            self._copy.settle()

    # --- handing it out ----------------------------------------------------------------------

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All of it as text, and its content type: what `accept` prefers."""
        return _exposition(self.registry, accept)

    def write(self, path: str) -> None:
        """Add all of it to a file for node-exporter, once. Raises OSError."""
        textfile.write(path, self.registry)

    def command_ended(self, command: str, exit_code: int) -> None:
        """Tell how; once."""
        code = self._gauge("command_exit_code", "How the command ended.", "command")
        code.labels(command).set(exit_code)


class TenantsMetrics(Collector):
    """The metrics of many tenants of one process: those of each, with the label `tenant`.

    ask        the metrics by name
    process    as in `Metrics`
    """

    def __init__(
        self, version: str, ask: Callable[[], Mapping[str, Metrics]], *, process: bool = True
    ) -> None:
        self._ask = ask
        self._registry = _registry(version, process)
        self._registry.register(self)
        words = "1 while the settings of a tenant can be used; at 0 it has none, or goes on with former ones."
        self.settings_ok = _gauge(self._registry, "settings_ok", words, "tenant")

    def describe(self) -> Iterator[Metric]:
        """Nothing: what is collected tells the names, and asks the tenants for it."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for tenant, metrics in self._ask().items():
            for family in metrics.registry.collect():
                all_ = families.setdefault(family.name, _without_samples(family))
                all_.samples += [it._replace(labels={"tenant": tenant, **it.labels}) for it in family.samples]
        yield from families.values()

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All of it as text, and its content type: what `accept` prefers."""
        return _exposition(self._registry, accept)

    def write(self, path: str) -> None:
        """Add all of it to a file for node-exporter, once. Raises OSError."""
        textfile.write(path, self._registry)


def _registry(version: str, process: bool) -> CollectorRegistry:
    made = CollectorRegistry()
    if process:
        ProcessCollector(registry=made)
        PlatformCollector(registry=made)
    if version:
        _gauge(made, "build_info", "The program; always 1.", "version").labels(version).set(1)
    return made


def _gauge(registry: CollectorRegistry, name: str, words: str, *labels: str) -> Gauge:
    return Gauge(f"product_sync_{name}", words, labels, registry=registry)


def _exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _without_samples(family: Metric) -> Metric:
    return Metric(family.name, family.documentation, family.type, family.unit)


class _PaceCollector(Collector):
    ask: Callable[[], PaceFigures]

    def describe(self) -> Iterator[Metric]:
        yield from _pace_families(None)

    def collect(self) -> Iterator[Metric]:
        yield from _pace_families(self.ask())


def _pace_families(figures: PaceFigures | None) -> Iterator[Metric]:
    rate = _family("request_rate_limit_per_second", "Requests a second that pacing lets through now.")
    flying = _family("requests_in_flight", "Requests under way.")
    room = _family("requests_in_flight_limit", "Requests that may be under way now.")
    if figures is not None:
        rate.add_metric([], figures.rate)
        flying.add_metric([], figures.in_flight)
        room.add_metric([], figures.room)
    yield from (rate, flying, room)


class _CopyCollector(Collector):
    """Asks the database seldom, and once for scrapes that come together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def ask_of(self, ask: Callable[[], CopyFigures]) -> None:
        with self._lock:
            self._ask, self._known, self._asked_at = ask, CopyFigures(), float("-inf")
            self._up = False

    def describe(self) -> Iterator[Metric]:
        yield from _copy_families(CopyFigures(), up=False)

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if monotonic() - self._asked_at >= CACHE_S:
                self._refresh()
            known, up = self._known, self._up
        yield from _copy_families(known, up)

    def settle(self) -> None:
        with self._lock:
            self._refresh()
            self._asked_at = float("inf")

    def _refresh(self) -> None:
        try:
            self._known, self._up = self._ask(), True
        except Exception:  # noqa: BLE001 - a scrape shows that it failed, whatever it was
            self._known, self._up = CopyFigures(), False
        self._asked_at = monotonic()


def _copy_families(known: CopyFigures, up: bool) -> Iterator[Metric]:
    yield _family("database_up", "1 while the database answers.", {(): float(up)})
    words = "1 while the copy is as fresh as the settings require, as `/readyz` reports it."
    yield _family("copy_fresh", words, {} if known.is_fresh is None else {(): float(known.is_fresh)})
    shown = (
        ("watermark_age_seconds", "Everything older is here.", "store_view", known.watermark_age),
        ("last_success_timestamp_seconds", "When a pass last came through.", "kind", known.last_success),
        ("rejected_items", "Products that could not be copied.", "store_view", known.rejected),
        ("altered_items", "Products copied with a value replaced.", "store_view", known.altered),
    )
    for name, words, label, values in shown:
        yield _family(name, words, {(key,): value for key, value in values.items()}, label)


def _family(
    name: str, words: str, values: Mapping[tuple[str, ...], float] | None = None, *labels: str
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"product_sync_{name}", words, labels=labels)
    for key, value in (values or {}).items():
        family.add_metric(list(key), value)
    return family
