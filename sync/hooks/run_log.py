"""The log of requests and runs, and the count of the traffic.

    the client's Hook ──┐               ┌── request.retried, token.refreshed
                        ├── RunLog ─── log
    a pass's Watch ─────┘               └── run.started, run.progressed, product.rejected, run.finished

A line for each page would be thousands in a load: a page is a line at DEBUG, and INFO has a line about
progress every PROGRESS_S seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from time import monotonic
from typing import Any

import structlog

from sync.model import PassKind, Tally, Traffic, Unreadable
from sync.passes.prefetch import Item
from sync.passes.run import Summary

PROGRESS_S = 10.0
THROTTLED = (429, 503)


class RunLog:
    """The client's Hook, called from every thread, and a Watch, called from the writer's.

    clock         seconds that never go backwards
    progress_s    seconds between two reports of progress; infinite for none

    Values bound where it is created, for example `tenant`, are in all of its lines, from every thread.
    """

    def __init__(self, clock: Callable[[], float] = monotonic, progress_s: float = PROGRESS_S) -> None:
        self.last: Summary | None = None
        self._clock, self._progress_s = clock, progress_s
        self._lock = threading.Lock()
        self._traffic = Traffic()
        self._missed: set[str] = set()
        self._log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync").bind(
            **structlog.contextvars.get_contextvars()
        )
        self._run = self._log
        self._done, self._expected = Tally(), 0
        self._began = self._reported = clock()

    def traffic(self) -> Traffic:
        """The requests that the client has sent so far, without those for tokens."""
        return self._traffic

    # --- requests ----------------------------------------------------------------------------

    def request_finished(
        self, path: str, store_view: str, status: int | None, seconds: float, size: int, attempt: int
    ) -> None:
        with self._lock:
            self._traffic = _counted(self._traffic, status, seconds, attempt)
        self._run.debug(
            "request.finished",
            store_view=store_view,
            path=path,
            status=status,
            seconds=round(seconds, 3),
            bytes=size,
            attempt=attempt,
        )

    def request_retried(self, path: str, reason: str, wait_s: float, attempt: int) -> None:
        self._run.info(
            "request.retried", path=path, reason=reason, wait_seconds=round(wait_s, 1), attempt=attempt
        )

    def throttled(self, wait_s: float) -> None:
        """`request_retried` has logged it, and `request_finished` has counted it."""

    def token_refreshed(self, seconds: float, expires_in: int) -> None:
        self._run.info("token.refreshed", seconds=round(seconds, 3), life_seconds=expires_in)

    # --- runs --------------------------------------------------------------------------------

    def run_started(self, run_id: int, kind: PassKind, store_views: Sequence[str], resumed: bool) -> None:
        self._run = self._log.bind(run=run_id)
        self._done, self._expected = Tally(), 0
        self._began = self._reported = self._clock()
        self._run.info("run.started", kind=kind, store_views=list(store_views), resumed=resumed)

    def products_expected(self, total: int) -> None:
        self._expected += total

    def page_written(self, store_view: str, item: Item, tally: Tally) -> None:
        self._done += tally
        self._run.debug("page.written", store_view=store_view, interval=str(item.interval), **_facts(tally))
        self._report_progress()

    def rows_written(self, count: int, tally: Tally) -> None:
        self._done += tally
        self._run.debug("rows.written", rows=count, **_facts(tally))
        self._report_progress()

    def _report_progress(self) -> None:
        now = self._clock()
        if now - self._reported >= self._progress_s:
            self._reported = now
            per_second = round(self._done.fetched / (now - self._began), 1)
            self._run.info(
                "run.progressed",
                expected=self._expected or None,
                per_second=per_second,
                **_facts(self._done),
            )

    def product_rejected(self, item: Unreadable) -> None:
        self._run.warning(
            "product.rejected",
            store_view=item.store_view,
            product_id=item.product_id,
            interval=str(item.interval),
            reason=item.reason,
        )

    def deletion_held_back(self, message: str) -> None:
        self._run.warning("deletion.held_back", reason=message)

    def feed_missed(self, message: str) -> None:
        self._warn_once("feed.missed", message)

    def store_view_unknown(self, message: str) -> None:
        self._warn_once("store_view.unknown", message)

    def _warn_once(self, event: str, message: str) -> None:
        """Warn once per process: the daemon tries again every few minutes, and is refused again."""
        log = self._run.info if message in self._missed else self._run.warning
        self._missed.add(message)
        log(event, reason=message)

    def run_finished(self, summary: Summary) -> None:
        self.last = summary
        facts = {**asdict(summary.tally), **summary.traffic.counts}
        self._run.info(
            "run.finished",
            kind=summary.kind,
            outcome=summary.status,
            **facts,
            seconds=round(summary.seconds, 3),
        )
        self._run = self._log


def _counted(traffic: Traffic, status: int | None, seconds: float, attempt: int) -> Traffic:
    return replace(
        traffic,
        requests=traffic.requests + 1,
        throttled=traffic.throttled + (status in THROTTLED),
        retries=traffic.retries + (attempt > 1),
        answer_seconds=traffic.answer_seconds + seconds,
    )


def _facts(tally: Tally) -> dict[str, Any]:
    """The fields of a tally: `fetched`, and all that are not 0."""
    return {name: count for name, count in asdict(tally).items() if count or name == "fetched"}
