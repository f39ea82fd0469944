"""The clock: the same passes as on the command line, on schedule, in the foreground, for one tenant or many.

    main thread          takes signals:  SIGTERM, SIGINT -> stop;  SIGHUP -> read the settings again
                         and tells systemd that the workers are alive
    scheduler thread     says what is due
    dispatcher thread    says whose turn it is (dispatcher.py, by fair_queue.py)
    a thread a turn      runs one pass of one tenant (tenant_service.py)
    lookout threads      look at a copy each, and for what is worth an alert, also while a pass hangs

One tenant is a fleet of one: nobody else waits, so it is never asked to make room.
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
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from sync import __version__, logs
from sync.errors import SyncError
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

BEAT_S: Final = 5.0  # how often the service manager is told how it goes, at least
GOODBYE_S: Final = 4.0  # for the passes under way to end, once told to stop
JITTER_SHARE: Final = 0.05  # of the interval: daemons of many shops should not ask at the same second
LONGEST_JITTER_S: Final = 30
CLOCK_STEP: Final = timedelta(seconds=2)  # smaller ones are corrections that change no schedule
_MADE: Final = 0  # no signal has this number

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


def serve(served: ServedTenants, reread: Callable[[], ServedTenants]) -> None:
    """Run passes until SIGTERM or SIGINT; the page in hand is finished, a second signal ends it at once.

    reread    whom to serve now, and how; raises SettingsError

    Raises SchemaTooNew, AnotherTenant and DatabaseUnavailable when the only copy cannot be opened at first.
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
        notifier.ready()  # taken: a pass under way ends with the settings it began with
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    notifier.stopping()
    _close_in_time(daemon)


def _opened(make: Callable[[], Daemon], received: SimpleQueue[int]) -> Daemon:
    """The daemon once it is made. A migration, or a lock of another program, may take long: told to end
    meanwhile, this process does.
    """
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
        if not made.done() or made.exception() is not None:  # what is not migrated to its end never was
            _exit_at_once("opening the copy")
    for number in later:
        received.put(number)
    return made.result()


def _exit_at_once(work: str) -> NoReturn:
    """End this process while one of its threads hangs."""
    _log.warning("daemon.left_behind", work=work)
    logging.shutdown()
    os._exit(0)


def _next_signal(received: SimpleQueue[int], daemon: Daemon, notifier: Notifier) -> int:
    """The next signal; meanwhile the service manager is told how it goes."""
    beat_s = min(BEAT_S, notifier.watchdog_s / 2 or BEAT_S)
    while True:
        if daemon.registry.why_stuck() is None:
            notifier.alive()
        notifier.status(daemon.registry.in_words())
        daemon.follow_wall_clock()
        with suppress(Empty):
            return received.get(timeout=beat_s)


def _close_in_time(daemon: Daemon) -> None:
    """Close the daemon; where it hangs (a lock that another program holds), end without it.

    What was committed is there, what was not is read again: nothing is lost by not waiting.
    """
    closing = Thread(target=daemon.close, name="closing", daemon=True)
    closing.start()
    closing.join(GOODBYE_S)
    if closing.is_alive():
        _exit_at_once(daemon.registry.in_words())


class Daemon:
    """Serves a fleet from the moment it is made until `close`."""

    def __init__(self, served: ServedTenants, reread: Callable[[], ServedTenants]) -> None:
        self._served, self._reread = served, reread
        self._changing = Lock()  # whom to serve, and how
        self.registry = TenantRegistry(served, __version__)
        self._dispatcher = Dispatcher(served.at_once, served.turn_s, self._ended)
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # what it does is no news
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

    # --- orders ------------------------------------------------------------------------------

    def reread_soon(self) -> None:
        """Read the settings again, now, without waiting for it."""
        Thread(target=self.reread, name="settings", daemon=True).start()

    def reread(self) -> None:
        """Serve whom the settings name now; the same as before while they cannot be used."""
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
        """Wait for the passes under way, and close everything."""
        self._scheduler.shutdown(wait=False)
        self._dispatcher.close(stop_all=self.registry.close)
        self._page.close()
        self.registry.wait_closed()
        _log.info("daemon.stopped")

    # --- the page ----------------------------------------------------------------------------

    def _serve_page(self, served: ServedTenants) -> None:
        """Serve the page and the health routes at STATUS_BIND. Raises SettingsError where that is taken."""
        settings, registry = served.process, self.registry
        if settings.status_bind is None:
            return
        routes = health_routes(registry.why_stuck, registry.problems, registry.exposition)
        if served.is_alone:
            app = application(
                registry[ALONE].monitor.copy,
                settings,
                extra_routes=routes,
                run_now=lambda: self._run_now(ALONE),
            )
        else:
            app = application_for(registry, settings, extra_routes=routes, run_now=self._run_now)
        url = self._page.enter_context(serving(app, settings.status_bind, probed=[it.path for it in routes]))
        _log.info("page.served", url=url)

    def _replace_page(self, served: ServedTenants) -> None:
        self._page.close()
        try:
            self._serve_page(served)
        except SyncError as error:  # at the start that ends the daemon; now the copies matter more
            _log.error("page.refused", error=str(error), fix=error.fix)

    def _run_now(self, name: str) -> None:
        """Raises Missing, and why the settings of a tenant cannot be used."""
        self.registry.site(name)
        self._dispatcher.enqueue(self.registry[name], INCREMENTAL)
        self._dispatcher.end_rest(name)

    # --- the schedule ------------------------------------------------------------------------

    def follow_wall_clock(self) -> None:
        """Keep intervals as long as they are where the wall clock was set since the last call."""
        now = datetime.now(UTC)
        set_by = self._wall_clock.set_by(now)
        if abs(set_by) > CLOCK_STEP:
            _log.warning("clock.set", seconds=round(set_by.total_seconds()))
            follow_wall_clock(self._scheduler.get_jobs(), now, set_by)

    def _schedule(self, services: list[TenantService]) -> None:
        """Let their passes come, the first ones at once: what is changed, or never was read, first of all."""
        for place, service in enumerate(services):
            self._unschedule(service.name)
            self._dispatcher.end_rest(service.name)
            with logs.of_tenant(service.name):
                self._schedule_one(service, place / len(services))

    def _schedule_one(self, service: TenantService, resize: float) -> None:
        """Schedule one tenant; the second time of what comes at intervals lies this share of one later."""
        settings = service.settings
        every, cron = settings.sync_interval, settings.sync_reconcile_cron
        self._add_by_cron(service, REFERENCE, settings.sync_reference_cron, settings)
        if settings.sync_reference_cron is not None:
            service.skip_if_recent(REFERENCE, ANY_AGE)
            self._dispatcher.enqueue(service, REFERENCE)  # a matter of minutes; a first load may take a day
        self._repeat(service, INCREMENTAL, every, resize)
        for job, interval in ((PRICES, settings.sync_prices_interval), (STOCK, settings.sync_stock_interval)):
            if interval is not None:
                service.skip_if_recent(job, timedelta(seconds=interval))
                self._repeat(service, job, interval, resize)
        self._add_by_cron(service, RECONCILE, cron, settings)
        _log.info("daemon.scheduled", interval_seconds=every, reconcile=cron or "off")

    def _repeat(self, service: TenantService, job: Job, every: float, resize: float) -> None:
        """Let a job come now, and then at intervals."""
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
                job.remove()

    def _ended(self, service: TenantService, job: Job, outcome: TurnOutcome) -> None:
        """What follows from how a turn ended."""
        if outcome.retry_in_s is not None:
            self._add(service, job, After(outcome.retry_in_s), " again")
        if outcome.is_access_denied:  # the credential may have been exchanged
            self.reread()
