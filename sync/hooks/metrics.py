"""Metrics of requests and runs, counted on the way to the run log or a progress bar.

client ──> MeteredHook ──> RunLog             pass ──> MeteredWatch ──> RunLog or Bar
                └──────────> Metrics, Liveness <───────────┘
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from sync.commerce.client import Hook
from sync.db.health import Freshness
from sync.hooks.liveness import Liveness
from sync.metrics import CopyFigures, Metrics, PaceFigures, endpoint_of
from sync.model import PassKind, Tally, Unreadable
from sync.monitor.freshness import FreshnessPolicy, problems
from sync.passes.prefetch import Item
from sync.passes.run import Summary, Watch


@dataclass(frozen=True, slots=True)
class MetricsHook:
    """The metrics and the liveness of a process.

    held_back    by kind of pass, what its last run held back or could not read; "" for nothing
    """

    metrics: Metrics
    liveness: Liveness = field(default_factory=Liveness)
    held_back: dict[str, str] = field(default_factory=dict)

    def hook(self, then: Hook) -> MeteredHook:
        return MeteredHook(self, then)

    def watch(self, then: Watch) -> MeteredWatch:
        return MeteredWatch(self, then)

    def show_pace(self, pace: Callable[[], tuple[float, int, int]]) -> None:
        """From now on, show the figures of this pacer."""
        self.metrics.watch_pace(lambda: PaceFigures(*pace()))

    def show_copy(self, look: Callable[[], Freshness], policy: FreshnessPolicy) -> None:
        """From now on, show the freshness that `look` reads and `policy` judges."""
        self.metrics.watch_copy(lambda: _figures(look(), policy))

    def waited(self, reason: str, seconds: float) -> None:
        """A request waits, or has waited, for so many seconds and this reason."""
        if reason in (
            "pacing",
            "quota",
            "retry_after",
        ):  # for no answer
            self.liveness.heard()
        self.metrics.waits.labels(reason).inc(seconds)

    def token_refreshed(self) -> None:
        self.liveness.heard()
        self.metrics.token_refreshes.inc()


def _figures(found: Freshness, policy: FreshnessPolicy) -> CopyFigures:
    return CopyFigures(
        watermark_age={view: age.total_seconds() for view, age in found.lags.items()},
        last_success={kind: at.timestamp() for kind, at in found.successes.items()},
        rejected=found.rejected,
        altered=found.altered,
        failed_runs={kind: it.runs for kind, it in found.failing.items()},
        next_runs={kind: at.timestamp() for kind, at in found.next_runs.items()},
        is_fresh=not problems(policy, found),
    )


class MeteredHook:
    """A client's Hook: counts, and forwards to `then`."""

    def __init__(self, metrics_hook: MetricsHook, then: Hook) -> None:
        self._metrics, self._liveness, self._then = metrics_hook.metrics, metrics_hook.liveness, then

    def request_finished(
        self, path: str, store_view: str, status: int | None, seconds: float, size: int, attempt: int
    ) -> None:
        endpoint = endpoint_of(path)
        if status is None or status >= 500:
            self._liveness.beat()
        else:
            self._liveness.heard()
        self._metrics.requests.labels(endpoint, "none" if status is None else str(status)).inc()
        self._metrics.request_duration.labels(endpoint).observe(seconds)
        self._metrics.response_bytes.labels(endpoint).inc(size)
        self._then.request_finished(path, store_view, status, seconds, size, attempt)

    def request_retried(self, path: str, reason: str, wait_s: float, attempt: int) -> None:
        self._liveness.beat(wait_s)
        self._metrics.retries.labels(endpoint_of(path)).inc()
        self._then.request_retried(path, reason, wait_s, attempt)

    def throttled(self, wait_s: float) -> None:
        self._then.throttled(wait_s)


class MeteredWatch:
    """A pass's Watch: counts, and forwards to `then`.

    Products are counted page by page, and at the end those of no page: deletions found by counting.
    """

    def __init__(self, metrics_hook: MetricsHook, then: Watch) -> None:
        self._metrics, self._liveness, self._then = metrics_hook.metrics, metrics_hook.liveness, then
        self._held_back_by_kind = metrics_hook.held_back
        self._kind: PassKind | None = None
        self._counted_so_far = Tally()
        self._held_back: list[str] = []

    def run_started(self, run_id: int, kind: PassKind, store_views: Sequence[str], resumed: bool) -> None:
        self._kind, self._counted_so_far, self._held_back = kind, Tally(), []
        self._liveness.heard()
        self._metrics.running.labels(kind).set(1)
        self._then.run_started(run_id, kind, store_views, resumed)

    def products_expected(self, total: int) -> None:
        self._then.products_expected(total)

    def page_written(self, store_view: str, item: Item, tally: Tally) -> None:
        self._count(tally)
        self._then.page_written(store_view, item, tally)

    def rows_written(self, count: int, tally: Tally) -> None:
        self._count(tally)
        self._then.rows_written(count, tally)

    def product_rejected(self, item: Unreadable) -> None:
        self._then.product_rejected(item)

    def deletion_held_back(self, message: str) -> None:
        self._held_back.append(message)
        self._then.deletion_held_back(message)

    def feed_missed(self, message: str) -> None:
        self._then.feed_missed(message)

    def store_view_unknown(self, message: str) -> None:
        self._held_back.append(message)
        self._then.store_view_unknown(message)

    def run_finished(self, summary: Summary) -> None:
        self._kind = summary.kind
        self._count(
            Tally(
                *(
                    max(0, all_ - counted)
                    for all_, counted in zip(summary.tally, self._counted_so_far, strict=True)
                )
            )
        )
        if summary.status in ("succeeded", "partial"):
            self._held_back_by_kind[summary.kind] = " ".join(self._held_back)
        self._metrics.running.labels(summary.kind).set(0)
        self._metrics.runs.labels(summary.kind, summary.status).inc()
        self._metrics.run_duration.labels(summary.kind).observe(summary.seconds)
        self._metrics.run_finished.labels(summary.kind, summary.status).set(time.time())
        self._then.run_finished(summary)

    def _count(self, tally: Tally) -> None:
        self._liveness.heard()
        self._counted_so_far += tally
        for outcome, count in asdict(tally).items():
            if count and self._kind is not None:
                self._metrics.products.labels(self._kind, outcome).inc(count)
