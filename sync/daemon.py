"""The clock: the same passes as on the command line, on schedule, in the foreground.

    main thread      takes signals:  SIGTERM, SIGINT -> stop;  SIGHUP -> read the settings again
                     and tells systemd that the worker is alive
    worker thread    one job after the other: passes, and a change of settings
    watcher thread   looks for what is worth an alert, also while the worker is busy

Several daemons may share one database. A pass that finds the lease taken stands by and looks again
every STANDBY_S seconds, until it gets the lease or another daemon's pass did what it was for. So a
killed daemon is replaced as soon as its lease ends.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Final

import sqlalchemy as sa
import structlog
from apscheduler.executors.pool import BasePoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from sync import __version__
from sync.alerts import Alerts
from sync.app import App, alerts_of, opened, promise_of
from sync.db import overview
from sync.db.dialects import utc_now
from sync.db.engine import reading
from sync.db.existing import ensure_current
from sync.db.health import freshness
from sync.errors import AccessDenied, Interrupted, LeaseHeld, SyncError
from sync.health import Problem, judge
from sync.meter import Meter
from sync.metrics import Metrics
from sync.model import PassKind
from sync.notify import Notifier
from sync.passes.incremental import incremental
from sync.passes.prices import prices
from sync.passes.reconcile import reconcile
from sync.passes.reference import reference
from sync.passes.run import Summary, Sync
from sync.passes.stock import stock
from sync.pulse import STILL_S
from sync.settings import Settings
from sync.web.app import application
from sync.web.health import health_routes
from sync.web.server import serving

STANDBY_S = 2.0
BEAT_S = 5.0  # how often the service manager is told how it goes, at least
LOOK_S = 60  # how often it is looked for what is worth an alert, at least
GOODBYE_S = 6.0  # for the pass under way to end, once told to stop
FEEDS_AFTER_S = 0.5  # behind the first pass: one job runs at a time
JITTER_SHARE = 0.05  # of the interval: daemons of many shops should not ask at the same second
LONGEST_JITTER_S = 30

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


@dataclass(frozen=True, slots=True)
class Job:
    """A pass that is due again and again.

    served_by    kinds of run that do at least the same
    """

    name: str
    work: Callable[[Sync], Summary]
    served_by: tuple[PassKind, ...]


INCREMENTAL: Final = Job("run", incremental, ("incremental", "backfill", "reconcile"))
RECONCILE: Final = Job("reconcile", reconcile, ("reconcile",))
REFERENCE: Final = Job("reference", reference, ("reference",))
PRICES: Final = Job("prices", prices, ("prices",))
STOCK: Final = Job("stock", stock, ("stock",))


def serve(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Run passes until SIGTERM or SIGINT; the page in hand is finished, a second signal ends it at once.

    reread    the settings as they are now; raises SettingsError

    Raises SchemaTooNew and DatabaseUnavailable when the copy cannot be opened at the start.
    """
    orders: SimpleQueue[int] = SimpleQueue()
    notifier = Notifier()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: orders.put(number))
    stop = Event()
    daemon = Daemon(settings, reread, stop)
    notifier.ready()
    while _next_order(orders, daemon, notifier) == signal.SIGHUP:
        notifier.reloading()
        daemon.reread_soon()
        notifier.ready()  # taken: it is done behind the pass under way, which may be a long one
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    notifier.stopping()
    stop.set()
    _close_in_time(daemon)


def _next_order(orders: SimpleQueue[int], daemon: Daemon, notifier: Notifier) -> int:
    """The next signal; meanwhile the service manager is told how it goes."""
    beat_s = min(BEAT_S, notifier.watchdog_s / 2 or BEAT_S)
    while True:
        if daemon.why_stuck() is None:
            notifier.alive()
        notifier.status(daemon.in_words())
        with suppress(Empty):
            return orders.get(timeout=beat_s)


def _close_in_time(daemon: Daemon) -> None:
    """Close the daemon; where it hangs (a lock that another program holds), end without it.

    What was committed is there, what was not is read again: nothing is lost by not waiting.
    """
    closing = Thread(target=daemon.close, name="closing", daemon=True)
    closing.start()
    closing.join(GOODBYE_S)
    if closing.is_alive():
        _log.warning("daemon.left_behind", work=daemon.in_words())
        logging.shutdown()
        os._exit(0)


class Daemon:
    """Passes on schedule, in one worker thread, from the moment it is made until `close`.

    stop    once set, the pass under way ends behind the page in hand
    """

    def __init__(self, settings: Settings, reread: Callable[[], Settings], stop: Event) -> None:
        self._reread = reread
        self._stop = stop
        self.meter = Meter(Metrics(__version__))
        self._live, self._alerts, self._closing = _open(settings, stop, self.meter)
        self._due_since: dict[str, datetime] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._news = Event()  # a pass ended: look for what is worth an alert
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a pass that is still busy is no news
        self._scheduler = BackgroundScheduler(
            executors={"default": _Worker(self._worker)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )
        self._page = ExitStack()
        self._serve_page(settings)
        self._schedule(settings)
        self._scheduler.start()
        self._watcher = Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    # --- what others may ask, from any thread ------------------------------------------------

    def why_stuck(self) -> str | None:
        """Why this process should be started again; None while it is alive."""
        if not self.meter.pulse.is_stuck:
            return None
        return f"The worker has not been heard of for {STILL_S:.0f} s; it does: {self.meter.pulse.busy_with}."

    def problems(self) -> list[Problem]:
        """What keeps the copy from being as fresh as promised. Raises DatabaseUnavailable, SchemaTooNew."""
        live = self._live
        ensure_current(live.db)
        return judge(promise_of(live.settings), reading(live.db, freshness))

    def in_words(self) -> str:
        """What it does, in one line."""
        return f"busy: {work}" if (work := self.meter.pulse.busy_with) else "idle until the next pass is due"

    # --- orders ------------------------------------------------------------------------------

    def reread_soon(self) -> None:
        """Read the settings again, behind the pass under way."""
        self._scheduler.add_job(self._replace_settings, id="settings", replace_existing=True)

    def close(self) -> None:
        """Wait for the pass under way, and close everything."""
        self._scheduler.shutdown(wait=False)  # waiting, it would lock out a job that wants to be put off
        self._worker.shutdown(wait=True)
        self._news.set()
        self._watcher.join()
        self._page.close()
        self._closing.close()
        _log.info("daemon.stopped")

    def _serve_page(self, settings: Settings) -> None:
        """Serve the page and the health routes at STATUS_BIND. Raises SettingsError where that is taken."""
        if settings.status_bind is None:
            return
        app = application(
            self._live.db,
            settings,
            extra_routes=health_routes(self.why_stuck, self.problems, self.meter.metrics.exposition),
            run_now=lambda: self._soon(INCREMENTAL, 0),
        )
        url = self._page.enter_context(serving(app, settings.status_bind))
        _log.info("page.served", url=url)

    def _schedule(self, settings: Settings) -> None:
        every, cron = settings.sync_interval, settings.sync_reconcile_cron
        self._add_by_cron(REFERENCE, settings.sync_reference_cron, settings)
        if settings.sync_reference_cron is not None and not self._ever_ran(REFERENCE):
            self._soon(REFERENCE, 0)  # a matter of minutes; a first load may take a day
        self._repeat(INCREMENTAL, every)
        self._soon(INCREMENTAL, 0)
        self._repeat_feed(PRICES, settings.sync_prices_interval)
        self._repeat_feed(STOCK, settings.sync_stock_interval)
        self._add_by_cron(RECONCILE, cron, settings)
        _log.info("daemon.scheduled", interval_seconds=every, reconcile=cron or "off")

    def _repeat(self, job: Job, every: float) -> None:
        jitter = min(every * JITTER_SHARE, LONGEST_JITTER_S)
        self._add(job, IntervalTrigger(seconds=int(every), jitter=jitter))

    def _repeat_feed(self, job: Job, every: float | None) -> None:
        """Read a light feed behind the first pass, unless that was done less than an interval ago."""
        if every is None:
            self._drop(job)
            return
        self._repeat(job, every)
        if not reading(self._live.db, lambda connection: _is_fresh(connection, job, every)):
            self._soon(job, FEEDS_AFTER_S)

    def _add_by_cron(self, job: Job, cron: str | None, settings: Settings) -> None:
        """Let a job run at these times; None takes it off the schedule."""
        if cron is None:
            self._drop(job)
        else:
            self._add(job, CronTrigger.from_crontab(cron, settings.sync_timezone))

    def _drop(self, job: Job) -> None:
        """Take a job off the schedule, where it is on it."""
        if self._scheduler.get_job(job.name) is not None:
            self._scheduler.remove_job(job.name)

    def _ever_ran(self, job: Job) -> bool:
        beginning = datetime.fromtimestamp(0, UTC)
        return reading(self._live.db, lambda c: overview.has_come_through(c, job.served_by, beginning))

    def _add(self, job: Job, trigger: BaseTrigger) -> None:
        self._scheduler.add_job(self._attempt, trigger, [job], id=job.name, replace_existing=True)

    def _soon(self, job: Job, seconds: float) -> None:
        """Let a job run after so many seconds; behind that its trigger decides again."""
        self._scheduler.modify_job(job.name, next_run_time=datetime.now(UTC) + timedelta(seconds=seconds))

    # --- in the worker thread ----------------------------------------------------------------

    def _attempt(self, job: Job) -> None:
        """Run a pass; whatever becomes of it, the next one comes."""
        if self._stop.is_set():
            return
        self.meter.pulse.begin(job.name)
        try:
            self._do(job)
        except Interrupted:
            _log.info("pass.interrupted", job=job.name)
        except SyncError as error:
            _log.error("pass.failed", job=job.name, error=str(error), fix=error.fix)
            if isinstance(error, AccessDenied):  # the credential may have been exchanged
                self._replace_settings()
        except Exception as fault:  # noqa: BLE001 - one bad pass must not end the daemon
            is_debugging = logging.getLogger("sync").isEnabledFor(logging.DEBUG)
            _log.error("pass.failed", job=job.name, error=type(fault).__name__, exc_info=is_debugging)
        finally:
            self.meter.pulse.begin("")
            self._news.set()

    def _do(self, job: Job) -> None:
        """Run a pass, unless another daemon did or does."""
        try:
            if self._was_served(job):
                _log.info("pass.served_by_another", job=job.name)
            else:
                job.work(self._live.sync(f"daemon, {job.name}"))
            self._due_since.pop(job.name, None)
        except LeaseHeld as held:
            self._stand_by(job, held)

    def _was_served(self, job: Job) -> bool:
        """Whether another daemon did the job while this one stood by for it."""
        since = self._due_since.get(job.name)
        return since is not None and reading(
            self._live.db, lambda connection: overview.has_come_through(connection, job.served_by, since)
        )

    def _stand_by(self, job: Job, held: LeaseHeld) -> None:
        if job.name not in self._due_since:
            self._due_since[job.name] = reading(self._live.db, utc_now)
            _log.info("lease.awaited", job=job.name, reason=str(held))
        self._soon(job, STANDBY_S)

    def _replace_settings(self) -> None:
        """Work with the settings as they are now; with the old ones while the new cannot be used."""
        try:
            settings = self._reread()
            if settings == self._live.settings:
                _log.info("settings.reread", changed=False)
                return
            live, alerts, closing = _open(settings, self._stop, self.meter)
        except SyncError as error:
            _log.error("settings.refused", error=str(error), fix=error.fix)
            return
        former, self._closing = self._closing, closing
        self._live, self._alerts = live, alerts
        self._page.close()
        former.close()
        self._schedule(settings)
        try:
            self._serve_page(settings)
        except SyncError as error:  # at the start that ends the daemon; now the copy matters more
            _log.error("page.refused", error=str(error), fix=error.fix)
        _log.info("settings.reread", changed=True)

    # --- in the watcher's thread -------------------------------------------------------------

    def _watch(self) -> None:
        """Look for what is worth an alert, behind each pass and every so often, also while one hangs."""
        while not self._stop.is_set():
            self._news.wait(max(1.0, min(LOOK_S, self._live.settings.sync_max_lag / 2)))
            self._news.clear()
            if self._alerts is not None and not self._stop.is_set():
                self._look(self._alerts)

    def _look(self, alerts: Alerts) -> None:
        try:
            alerts.look()
        except Exception as fault:  # noqa: BLE001 - it must not end for one bad look
            _log.error("alert.failed", error=type(fault).__name__)


class _Worker(BasePoolExecutor):  # type: ignore[misc]
    """Runs jobs in a pool of ours, which `close` can wait for."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__(pool)


def _is_fresh(connection: sa.Connection, job: Job, every: float) -> bool:
    since = utc_now(connection) - timedelta(seconds=every)
    return overview.has_come_through(connection, job.served_by, since)


def _open(settings: Settings, stop: Event, meter: Meter) -> tuple[App, Alerts | None, ExitStack]:
    with ExitStack() as opening:
        live = opening.enter_context(opened(settings, stop, meter=meter))
        alerts = opening.enter_context(alerts_of(settings, live.db, meter.held_back, stop))
        return live, alerts, opening.pop_all()
