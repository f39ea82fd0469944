"""The daemon: runs passes on schedule in the foreground, for one tenant or many.

    main thread          handles signals:  SIGTERM, SIGINT -> stop;  SIGHUP -> reload the settings;
                         and reports to systemd that the workers are alive
    scheduler thread     queues jobs at their times
    dispatcher thread    assigns slots to tenants (dispatcher.py, fair_queue.py)
    a thread a pass      runs one pass of one tenant (tenant_service.py)
    monitor threads      watch one copy each and send alerts, even while a pass hangs

An only tenant has no one to yield to; the code is the same.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, NoReturn

import structlog
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from sync import __version__, logs
from sync.errors import SyncError
from sync.monitor.steady import CLOCK_STEP
from sync.service.dispatcher import Dispatcher
from sync.service.registry import TenantRegistry
from sync.service.systemd import Notifier
from sync.service.tenant_service import (
    ANY_AGE,
    INCREMENTAL,
    PRICES,
    RECONCILE,
    REFERENCE,
    STOCK,
    Job,
    TenantService,
    TurnOutcome,
)
from sync.service.triggers import After, AtCrontab, WallClock, follow_wall_clock
from sync.settings import Settings
from sync.settings.served import ALONE, ServedTenants
from sync.web.app import application, application_for
from sync.web.health import health_routes
from sync.web.server import serving

BEAT_S: Final = 5.0  # longest time between two status reports to the service manager
GOODBYE_S: Final = 4.0  # for passes in progress to end after the signal to stop
JITTER_SHARE: Final = 0.05  # of the interval: many daemons should not send requests in the same second
LONGEST_JITTER_S: Final = 30
KINDS: Final = {job.name: job.served_by[0] for job in (INCREMENTAL, RECONCILE, REFERENCE, PRICES, STOCK)}
_MADE: Final = 0  # no signal has this number

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


def serve(served: ServedTenants, reread: Callable[[], ServedTenants]) -> None:
    """Run passes until SIGTERM or SIGINT. The current page is finished; a second signal quits at once.

    reread    reads the settings of all tenants again; raises SettingsError

    Raises SchemaTooNew, AnotherTenant and DatabaseUnavailable if an only tenant's copy cannot be opened.
    """
    received: SimpleQueue[int] = SimpleQueue()
    notifier = Notifier()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: received.put(number))
    notifier.status("opening the copy")
    daemon = _opened(lambda: Daemon(served, reread), received)
    notifier.ready()
    while _next_signal(received, daemon, notifier) == signal.SIGHUP:
        notifier.reloading()
        daemon.reread_soon()
        notifier.ready()  # a pass in progress ends with the settings it began with
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    notifier.stopping()
    _close_in_time(daemon)


def _opened(make: Callable[[], Daemon], received: SimpleQueue[int]) -> Daemon:
    """Build the daemon in a thread, since a migration may take long; a signal ends the process."""
    made: Future[Daemon] = Future()

    def work() -> None:
        try:
            made.set_result(make())
        except BaseException as error:  # noqa: BLE001 - raised by `result()`
            made.set_exception(error)
        received.put(_MADE)

    Thread(target=work, name="opening", daemon=True).start()
    later = []
    while (number := received.get()) == signal.SIGHUP:
        later = [number]
    if number != _MADE:
        later = [number]
        wait([made], GOODBYE_S)
        if not made.done() or made.exception() is not None:  # an unfinished migration is rolled back
            _exit_at_once("opening the copy")
    for number in later:
        received.put(number)
    return made.result()


def _exit_at_once(work: str) -> NoReturn:
    """End this process although one of its threads hangs."""
    _log.warning("daemon.left_behind", work=work)
    logging.shutdown()
    os._exit(0)


def _next_signal(received: SimpleQueue[int], daemon: Daemon, notifier: Notifier) -> int:
    """Wait for the next signal, and report the status to the service manager meanwhile."""
    beat_s = min(BEAT_S, notifier.watchdog_s / 2 or BEAT_S)
    while True:
        if daemon.registry.why_stuck() is None:
            notifier.alive()
        notifier.status(daemon.registry.in_words())
        daemon.follow_wall_clock()
        with suppress(Empty):
            return received.get(timeout=beat_s)


def _close_in_time(daemon: Daemon) -> None:
    """Close the daemon; if that hangs (another program holds a lock), end the process without it.

    Nothing is lost: committed pages stay, and the next run reads the others again.
    """
    closing = Thread(target=daemon.close, name="closing", daemon=True)
    closing.start()
    closing.join(GOODBYE_S)
    if closing.is_alive():
        _exit_at_once(daemon.registry.in_words())


class Daemon:
    """Serves tenants from its construction until `close`."""

    def __init__(self, served: ServedTenants, reread: Callable[[], ServedTenants]) -> None:
        self._served, self._reread = served, reread
        self._changing = Lock()  # the served tenants
        self.registry = TenantRegistry(served, __version__)
        self._dispatcher = Dispatcher(
            served.at_once, served.turn_s, self._ended, began=self._announce_next_runs
        )
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # its own messages add nothing
        self._scheduler = BackgroundScheduler(
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}, timezone=UTC
        )
        self._wall_clock = WallClock()
        self._page = ExitStack()
        changed = self.registry.take(served)
        self._serve_page(served)
        self._schedule(changed)
        self._scheduler.start()
        self._dispatcher.start()

    # --- signals -----------------------------------------------------------------------------

    def reread_soon(self) -> None:
        """Reload the settings in a thread."""
        Thread(target=self.reread, name="settings", daemon=True).start()

    def reread(self) -> None:
        """Reload the settings; keep the former ones if the new ones are invalid."""
        with self._changing:
            try:
                former, served = self._served, self._reread()
                changed = self.registry.take(served)
            except SyncError as error:
                _log.error("settings.refused", error=str(error), fix=error.fix)
                return
            self._served = served
            gone = former.members.keys() - served.members.keys()
            _log.info("settings.reread", changed=bool(changed or gone))
            for name in gone:
                self._unschedule(name)
                self._dispatcher.forget(name)
            self._dispatcher.resize(served.at_once, served.turn_s)
            self._schedule(changed)
            if served.process != former.process:
                self._replace_page(served)

    def close(self) -> None:
        """Wait for passes in progress to end, and close everything."""
        self._scheduler.shutdown(wait=False)
        self._dispatcher.close(stop_all=self.registry.close)
        self._page.close()
        self.registry.withdraw_next_runs()
        self.registry.wait_closed()
        _log.info("daemon.stopped")

    # --- the page ----------------------------------------------------------------------------

    def _serve_page(self, served: ServedTenants) -> None:
        """Serve the page and the health routes. Raises SettingsError if STATUS_BIND is in use."""
        settings, registry = served.process, self.registry
        if settings.status_bind is None:
            return
        routes = health_routes(registry.why_stuck, registry.problems, registry.exposition, registry.outlook)
        if served.is_alone:
            app = application(
                registry[ALONE].monitor.copy,
                settings,
                extra_routes=routes,
                run_now=lambda: self._run_now(ALONE),
                ages=registry[ALONE].monitor.ages,
            )
        else:
            app = application_for(registry, settings, extra_routes=routes, run_now=self._run_now)
        url = self._page.enter_context(serving(app, settings.status_bind, probed=[it.path for it in routes]))
        _log.info("page.served", url=url)

    def _replace_page(self, served: ServedTenants) -> None:
        self._page.close()
        try:
            self._serve_page(served)
        except SyncError as error:  # fatal at the start; now the passes matter more
            _log.error("page.refused", error=str(error), fix=error.fix)

    def _run_now(self, name: str) -> None:
        """Raises NotFound; SyncError if the settings of the tenant cannot be used."""
        self.registry.site(name)
        self._dispatcher.enqueue(self.registry[name], INCREMENTAL)
        self._dispatcher.end_rest(name)

    # --- the schedule ------------------------------------------------------------------------

    def follow_wall_clock(self) -> None:
        """Keep intervals unchanged if the wall clock was set since the last call."""
        now = datetime.now(UTC)
        set_by = self._wall_clock.set_by(now)
        if abs(set_by) > CLOCK_STEP:
            _log.warning("clock.set", seconds=round(set_by.total_seconds()))
            follow_wall_clock(self._scheduler.get_jobs(), now, set_by)

    def _schedule(self, services: list[TenantService]) -> None:
        """Schedule the passes of these tenants, the first ones at once."""
        for place, service in enumerate(services):
            self._unschedule(service.name)
            self._dispatcher.end_rest(service.name)
            with logs.of_tenant(service.name):
                self._schedule_one(service, place / len(services))

    def _schedule_one(self, service: TenantService, resize: float) -> None:
        """Schedule one tenant; its second run comes `share` of an interval later, to spread tenants."""
        settings = service.settings
        every, cron = settings.sync_interval, settings.sync_reconcile_cron
        self._add_by_cron(service, REFERENCE, settings.sync_reference_cron, settings)
        if settings.sync_reference_cron is not None:
            service.skip_if_recent(REFERENCE, ANY_AGE)
            self._dispatcher.enqueue(service, REFERENCE)  # first: it takes minutes, a first load up to a day
        self._repeat(service, INCREMENTAL, every, resize)
        for job, interval in ((PRICES, settings.sync_prices_interval), (STOCK, settings.sync_stock_interval)):
            if interval is not None:
                service.skip_if_recent(job, timedelta(seconds=interval))
                self._repeat(service, job, interval, resize)
        self._add_by_cron(service, RECONCILE, cron, settings)
        _log.info("daemon.scheduled", interval_seconds=every, reconcile=cron or "off")

    def _repeat(self, service: TenantService, job: Job, every: float, resize: float) -> None:
        """Schedule a job now, and then at intervals."""
        jitter = min(every * JITTER_SHARE, LONGEST_JITTER_S)
        self._add(service, job, After(every * (1 + resize), every, jitter))
        self._dispatcher.enqueue(service, job)

    def _add_by_cron(self, service: TenantService, job: Job, cron: str | None, settings: Settings) -> None:
        if cron is not None:
            self._add(service, job, AtCrontab(cron, settings.sync_timezone))

    def _add(self, service: TenantService, job: Job, trigger: BaseTrigger, what: str = "") -> None:
        self._scheduler.add_job(
            self._dispatcher.enqueue,
            trigger,
            [service, job],
            id=f"{service.name}/{job.name}{what}",
            replace_existing=True,
        )

    def _unschedule(self, name: str) -> None:
        for job in self._scheduler.get_jobs():
            if job.id.startswith(f"{name}/"):
                with suppress(JobLookupError):  # it fired for the last time meanwhile
                    job.remove()

    def _announce_next_runs(self, service: TenantService) -> None:
        """Store when each kind of pass of a tenant runs next, for every reader of its copy."""
        now, prefix = datetime.now(UTC), f"{service.name}/"
        in_s = {
            KINDS[it.id.removeprefix(prefix)]: (it.next_run_time - now).total_seconds()
            for it in self._scheduler.get_jobs()
            if it.id.removeprefix(prefix) in KINDS and it.id.startswith(prefix)
        }
        queued = {job.served_by[0]: 0.0 for job in self._dispatcher.queued(service.name)}
        service.announce_next_runs(in_s | queued)

    def _ended(self, service: TenantService, job: Job, outcome: TurnOutcome) -> None:
        """Handle the outcome of a turn."""
        self._announce_next_runs(service)
        if outcome.retry_in_s is not None:
            self._add(service, job, After(outcome.retry_in_s), " again")
        if outcome.is_access_denied:  # the credential may have been rotated
            self.reread()
