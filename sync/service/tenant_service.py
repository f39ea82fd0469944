"""Runs one tenant's passes in the daemon, one at a time, each with connections of its own.

A `Turn` carries requests to a pass in progress: yield to other tenants, hang up, stop.

A pass that finds the lease taken is tried again every STANDBY_S seconds, until it gets the lease or another
daemon's pass has done the same work. So another daemon replaces a killed one as soon as its lease expires.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from threading import Event
from typing import Final

import sqlalchemy as sa
import structlog

from sync.app import App, Carryover, open_alerts, opened
from sync.commerce.retry import HungUp
from sync.db import overview
from sync.db.announcements import announce_next_runs
from sync.db.dialects import utc_now
from sync.db.engine import reading
from sync.db.opening import ensure_current
from sync.errors import (
    AccessDenied,
    CommerceUnavailable,
    DatabaseUnavailable,
    Interrupted,
    LeaseHeld,
    SyncError,
)
from sync.hooks.metrics import MetricsHook
from sync.model import PassKind
from sync.passes.incremental import incremental
from sync.passes.prices import prices
from sync.passes.reconcile import reconcile
from sync.passes.reference import reference
from sync.passes.run import Summary, Sync
from sync.passes.stock import stock
from sync.service.copy_monitor import CopyMonitor
from sync.settings import Settings

STANDBY_S: Final = 2.0
ANY_AGE: Final = timedelta(days=36_500)
UNTRUSTED_S: Final = 30.0  # how long a tenant may keep others waiting after a failed pass
POLL_S: Final = 0.2

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


@dataclass(frozen=True, slots=True)
class Job:
    """A pass that runs on a schedule.

    served_by    kinds of run that include this one's work
    resumes      True: a stopped pass resumes at the last committed page. False: it must pause instead
    """

    name: str
    work: Callable[[Sync], Summary]
    served_by: tuple[PassKind, ...]
    resumes: bool


INCREMENTAL: Final = Job("run", incremental, ("incremental", "backfill", "reconcile"), resumes=True)
RECONCILE: Final = Job("reconcile", partial(reconcile, resume=True), ("reconcile",), resumes=True)
REFERENCE: Final = Job("reference", reference, ("reference",), resumes=False)
PRICES: Final = Job("prices", partial(prices, is_scheduled=True), ("prices",), resumes=False)
STOCK: Final = Job("stock", stock, ("stock",), resumes=False)


@dataclass(frozen=True, slots=True)
class TurnOutcome:
    """How a turn ended.

    is_unfinished    it yielded, and continues in its next turn
    retry_in_s       seconds until the next try, because another daemon holds the lease
    is_access_denied  the credential was refused; it may have been rotated
    out_of_reach     Commerce or the database did not answer
    """

    is_unfinished: bool = False
    retry_in_s: float | None = None
    is_access_denied: bool = False
    out_of_reach: bool = False


class Turn:
    """Carries requests from any thread to a pass in progress.

    pause      gives the slot to others until `resume`; does nothing once the pass need not yield
    stop       once set, the pass ends with Interrupted
    overdue    while set, open requests are hung up, because Commerce has not answered for too long
    """

    def __init__(self, job: Job, pause: Callable[[Turn], None]) -> None:
        self.job = job
        self.stop, self.overdue = Event(), Event()
        self._yield_requested, self._resumed = Event(), Event()
        self._pause = pause

    @property
    def is_yielding(self) -> bool:
        """Whether the pass was asked to yield."""
        return self._yield_requested.is_set()

    def ask_to_yield(self) -> None:
        """Ask the pass to give its slot to others before its next request."""
        self._resumed.clear()
        self._yield_requested.set()

    def lose_slot(self) -> None:
        """Its slot went to others because it did not yield in time."""
        if self.job.resumes:
            self.stop.set()

    def resume(self) -> None:
        """The pass has a slot again."""
        self._yield_requested.clear()
        self.overdue.clear()
        self._resumed.set()

    def before_request(self) -> None:
        """Yield if asked to. Raises Interrupted if the pass must end."""
        if not self.is_yielding:
            return
        if self.job.resumes:
            self.stop.set()
            raise Interrupted("Its turn ended because other tenants were waiting.")
        self._pause(self)
        while not self._resumed.wait(POLL_S):
            if self.stop.is_set():
                raise Interrupted("Stopped while waiting for its next turn.")


def request_limit_s(allowed_s: float, turn_s: float, *, is_trusted: bool) -> float:
    """Seconds for which one request is tried while other tenants may wait for the slot.

    allowed_s     the limit of the settings
    is_trusted    whether the last pass succeeded; always True for an only tenant

    >>> request_limit_s(900.0, 300.0, is_trusted=True), request_limit_s(900.0, 300.0, is_trusted=False)
    (300.0, 30.0)
    """
    return min(allowed_s, turn_s if is_trusted else min(UNTRUSTED_S, turn_s / 2))


class TenantService:
    """Runs a tenant's passes for as long as it is served, across changes of its settings.

    name        "" for an only tenant
    turn_s      returns how long a tenant may keep the others waiting
    failures    by pass, the error of its last run; without passes that succeeded
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        copy: sa.Engine,
        metrics_hook: MetricsHook,
        turn_s: Callable[[], float],
    ) -> None:
        self.name = name
        self.metrics_hook = metrics_hook
        self.failures: dict[str, str] = {}
        self._turn_s = turn_s
        self._carryover: Carryover | None = None
        self._is_trusted = not name
        self._waiting_since: dict[str, datetime] = {}
        self._skip_if_within: dict[str, timedelta] = {}
        self._is_closed = False
        self._turn: Turn | None = None
        self._stop_alerts = Event()
        self._monitor, self._closing = self._opened(settings, copy)
        self._monitor.start()

    @property
    def settings(self) -> Settings:
        return self._monitor.settings

    @property
    def monitor(self) -> CopyMonitor:
        """The monitor of the copy; replaced whenever the settings change."""
        return self._monitor

    def replace(self, settings: Settings, copy: sa.Engine) -> None:
        """Use these settings from the next pass on."""
        former = self._closing
        self._monitor, self._closing = self._opened(settings, copy)
        self._monitor.start()
        former.close()
        self.failures.clear()

    def skip_if_recent(self, job: Job, age: timedelta) -> None:
        """Skip the first run of this job if it succeeded less than `age` ago."""
        self._skip_if_within[job.name] = age

    def note_slot_lost(self, job: Job) -> None:
        """Record that its slot went to others; the pass may hang for long without an error."""
        self.failures[job.name] = (
            "It did not answer, did not end after its turn, and lost its slot to the other tenants. "
            "To do: check Commerce, the database and the network between."
        )

    def announce_next_runs(self, in_s: Mapping[PassKind, float]) -> None:
        """Store in the copy in how many seconds each kind of pass runs next; not before it exists."""
        with suppress(SyncError):
            ensure_current(self._monitor.copy)
            announce_next_runs(self._monitor.copy, in_s)

    def close(self) -> None:
        """Stop the pass in progress and start no other."""
        self._is_closed = True
        if self._turn is not None:
            self._turn.stop.set()
        self._stop_alerts.set()
        self._closing.close()

    def _opened(self, settings: Settings, copy: sa.Engine) -> tuple[CopyMonitor, ExitStack]:
        with ExitStack() as opening:
            telling = open_alerts(
                settings, copy, self.metrics_hook.held_back, self._stop_alerts, self.name, self.failures
            )
            alerts = opening.enter_context(telling)
            monitor = CopyMonitor(self.name, settings, copy, None if alerts is None else alerts.look)
            opening.callback(monitor.close)
            return monitor, opening.pop_all()

    # --- a turn ------------------------------------------------------------------------------

    def attempt(self, turn: Turn) -> TurnOutcome:
        """Run a pass to its end, or until it must yield. Errors are logged, never raised."""
        self._turn, job = turn, turn.job
        if self._is_closed:
            return TurnOutcome()
        self.metrics_hook.liveness.begin(job.name)
        try:
            return self._do(turn)
        except Interrupted:
            _log.info("pass.interrupted", job=job.name)
            if not turn.overdue.is_set() or job.name not in self.failures:
                self._note_empty_turn(job)
            return TurnOutcome(is_unfinished=True, out_of_reach=turn.overdue.is_set())
        except SyncError as error:
            self._is_trusted = not self.name
            self.failures[job.name] = error.advice
            _log.error("pass.failed", job=job.name, error=str(error), fix=error.fix)
            return TurnOutcome(
                is_unfinished=isinstance(error, HungUp),
                is_access_denied=isinstance(error, AccessDenied),
                out_of_reach=isinstance(error, CommerceUnavailable | DatabaseUnavailable),
            )
        except Exception as fault:  # noqa: BLE001 - one bad pass must not end the daemon
            self.failures[job.name] = f"an internal error: {type(fault).__name__}."
            is_debugging = logging.getLogger("sync").isEnabledFor(logging.DEBUG)
            _log.error("pass.failed", job=job.name, error=type(fault).__name__, exc_info=is_debugging)
            return TurnOutcome()
        finally:
            self.metrics_hook.liveness.begin("")
            self._monitor.news()

    def _note_empty_turn(self, job: Job) -> None:
        """Record a turn that read nothing as a failure; clear the failure otherwise."""
        ended = None if self._carryover is None else self._carryover.run_log.last
        if ended is not None and ended.status == "interrupted" and not ended.tally.fetched:
            words = f"Its turn of {ended.seconds:.0f} s ended before anything was read."
            self.failures[job.name] = f"{words} To do: check Commerce: it answers slowly or not at all."
        else:
            self.failures.pop(job.name, None)

    def _do(self, turn: Turn) -> TurnOutcome:
        """Run a pass, unless it is already done or another daemon holds the lease."""
        job = turn.job
        try:
            with self._app(turn) as app:
                if not self._is_already_done(app.db, job):
                    job.work(app.sync(f"daemon, {job.name}"))
            self._is_trusted = True
            self.failures.pop(job.name, None)
            self._waiting_since.pop(job.name, None)
            return TurnOutcome()
        except LeaseHeld as held:
            return self._wait_for_lease(job, held)

    @contextmanager
    def _app(self, turn: Turn) -> Iterator[App]:
        settings = self.settings
        allowed_s = request_limit_s(settings.sync_max_retry_time, self._turn_s(), is_trusted=self._is_trusted)
        with opened(
            settings,
            turn.stop,
            metrics_hook=self.metrics_hook,
            carryover=self._carryover,
            max_retry_time=allowed_s,
            before_request=turn.before_request,
            overdue=turn.overdue,
        ) as app:
            self._carryover = app.carryover
            yield app

    def _is_already_done(self, db: sa.Engine, job: Job) -> bool:
        """Whether another daemon did the work meanwhile, or it was done shortly before the start."""
        age, since = self._skip_if_within.pop(job.name, None), self._waiting_since.get(job.name)
        if age is None and since is None:
            return False

        def was_done(connection: sa.Connection) -> bool:
            begin = since or utc_now(connection) - (age or timedelta())
            return overview.has_come_through(connection, job.served_by, begin)

        if not reading(db, was_done):
            return False
        _log.info("pass.served_by_another" if since else "pass.spared", job=job.name)
        return True

    def _wait_for_lease(self, job: Job, held: LeaseHeld) -> TurnOutcome:
        if job.name not in self._waiting_since:
            self._waiting_since[job.name] = reading(self._monitor.copy, utc_now)
            _log.info("lease.awaited", job=job.name, reason=str(held))
        return TurnOutcome(retry_in_s=STANDBY_S)
