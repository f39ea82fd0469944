"""The clock: the same passes as on the command line, on schedule, in the foreground.

    main thread      takes signals:  SIGTERM, SIGINT -> stop;  SIGHUP -> read the settings again
    worker thread    one job after the other: incremental, reconcile, a change of settings

Several daemons may share one database. A pass that finds the lease taken stands by and looks again
every STANDBY_S seconds, until it gets the lease or another daemon's pass did what it was for. So a
killed daemon is replaced as soon as its lease ends.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from threading import Event
from typing import Final

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from sync.app import App, opened
from sync.db import overview
from sync.db.dialects import utc_now
from sync.db.engine import reading
from sync.errors import AccessDenied, Interrupted, LeaseHeld, SyncError
from sync.model import PassKind
from sync.passes.incremental import incremental
from sync.passes.reconcile import reconcile
from sync.passes.run import Summary, Sync
from sync.settings import Settings

STANDBY_S = 2.0
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


def serve(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Run passes until SIGTERM or SIGINT; the page in hand is finished, a second signal ends it at once.

    reread    the settings as they are now; raises SettingsError

    Raises SchemaTooNew and DatabaseUnavailable when the copy cannot be opened at the start.
    """
    orders: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: orders.put(number))
    stop = Event()
    daemon = Daemon(settings, reread, stop)
    while orders.get() == signal.SIGHUP:
        daemon.reread_soon()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    stop.set()
    daemon.close()


class Daemon:
    """Passes on schedule, in one worker thread, from the moment it is made until `close`.

    stop    once set, the pass under way ends behind the page in hand
    """

    def __init__(self, settings: Settings, reread: Callable[[], Settings], stop: Event) -> None:
        self._reread = reread
        self._stop = stop
        self._live, self._closing = _open(settings, stop)
        self._due_since: dict[str, datetime] = {}
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a pass that is still busy is no news
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )
        self._schedule(settings)
        self._scheduler.start()

    def reread_soon(self) -> None:
        """Read the settings again, behind the pass under way."""
        self._scheduler.add_job(self._replace_settings, id="settings", replace_existing=True)

    def close(self) -> None:
        """Wait for the pass under way, and close everything."""
        self._scheduler.shutdown(wait=True)
        self._closing.close()
        _log.info("daemon.stopped")

    def _schedule(self, settings: Settings) -> None:
        every, cron = settings.sync_interval, settings.sync_reconcile_cron
        jitter = min(every * JITTER_SHARE, LONGEST_JITTER_S)
        self._add(INCREMENTAL, IntervalTrigger(seconds=int(every), jitter=jitter))
        self._soon(INCREMENTAL, 0)
        if cron is not None:
            self._add(RECONCILE, CronTrigger.from_crontab(cron, settings.sync_timezone))
        elif self._scheduler.get_job(RECONCILE.name) is not None:
            self._scheduler.remove_job(RECONCILE.name)
        _log.info("daemon.scheduled", interval_seconds=every, reconcile=cron or "off")

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
            live, closing = _open(settings, self._stop)
        except SyncError as error:
            _log.error("settings.refused", error=str(error), fix=error.fix)
            return
        self._closing.close()
        self._live, self._closing = live, closing
        self._schedule(settings)
        _log.info("settings.reread", changed=True)


def _open(settings: Settings, stop: Event) -> tuple[App, ExitStack]:
    closing = ExitStack()
    return closing.enter_context(opened(settings, stop)), closing
