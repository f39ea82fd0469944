"""One tenant in the daemon's care: its passes, one at a time, each with everything opened for it and closed.

What a pass under way is asked for is in its Turn: to make room for other tenants, to hang up, to end.

A pass that finds the lease taken stands by and looks again every STANDBY_S seconds, until it gets the lease
or another daemon's pass did what it was for. So a killed daemon is replaced as soon as its lease ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from sync.db.dialects import utc_now
from sync.db.engine import reading
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
UNTRUSTED_S: Final = 30.0  # a tenant whose last pass failed may keep the others waiting so long, not longer
POLL_S: Final = 0.2

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


@dataclass(frozen=True, slots=True)
class Job:
    """A pass that is due again and again.

    served_by    kinds of run that do at least the same
    resumes      whether it goes on where it was stopped, at the last committed page; otherwise it pauses
    """

    name: str
    work: Callable[[Sync], Summary]
    served_by: tuple[PassKind, ...]
    resumes: bool


INCREMENTAL: Final = Job("run", incremental, ("incremental", "backfill", "reconcile"), resumes=True)
RECONCILE: Final = Job("reconcile", partial(reconcile, resume=True), ("reconcile",), resumes=True)
REFERENCE: Final = Job("reference", reference, ("reference",), resumes=False)
PRICES: Final = Job("prices", prices, ("prices",), resumes=False)
STOCK: Final = Job("stock", stock, ("stock",), resumes=False)


@dataclass(frozen=True, slots=True)
class TurnOutcome:
    """How a turn ended.

    is_unfinished    it made room, and is to go on when its turn comes again
    retry_in_s       seconds after which to ask again: another daemon is at it
    is_access_denied  the credential was refused: it may have been exchanged
    out_of_reach     the tenant, or its database, did not answer
    """

    is_unfinished: bool = False
    retry_in_s: float | None = None
    is_access_denied: bool = False
    out_of_reach: bool = False


class Turn:
    """What a pass is asked for while it is under way, from any thread.

    pause      gives the slot to others until `resume`; does nothing where no room is to be made any more
    stop       once set, the pass ends with Interrupted
    overdue    while set, requests under way are hung up: the tenant has not answered for too long
    """

    def __init__(self, job: Job, pause: Callable[[Turn], None]) -> None:
        self.job = job
        self.stop, self.overdue = Event(), Event()
        self._yield_requested, self._resumed = Event(), Event()
        self._pause = pause

    @property
    def is_yielding(self) -> bool:
        """Whether it is asked to make room."""
        return self._yield_requested.is_set()

    def ask_to_yield(self) -> None:
        """Give the slot to others before the next request."""
        self._resumed.clear()
        self._yield_requested.set()

    def lose_slot(self) -> None:
        """Its slot was given to others, since it did not make room."""
        if self.job.resumes:
            self.stop.set()

    def resume(self) -> None:
        """It has a slot again."""
        self._yield_requested.clear()
        self.overdue.clear()
        self._resumed.set()

    def before_request(self) -> None:
        """Make room, if asked to. Raises Interrupted where the pass is to end."""
        if not self.is_yielding:
            return
        if self.job.resumes:
            self.stop.set()
            raise Interrupted("Its turn was over, and other tenants were waiting.")
        self._pause(self)
        while not self._resumed.wait(POLL_S):
            if self.stop.is_set():
                raise Interrupted("Stopped while it waited for its next turn.")


def request_limit_s(allowed_s: float, turn_s: float, *, is_trusted: bool) -> float:
    """Seconds that one request is tried, where others wait for the slot.

    allowed_s     by the settings
    is_trusted    whether the last pass came through; the only tenant always is

    >>> patience(900.0, 300.0, is_trusted=True), patience(900.0, 300.0, is_trusted=False)
    (300.0, 30.0)
    """
    return min(allowed_s, turn_s if is_trusted else min(UNTRUSTED_S, turn_s / 2))


class TenantService:
    """A tenant, from its first pass to its last, whatever becomes of its settings meanwhile.

    name        "" for the only one
    turn_s      tells how long a tenant may keep the others waiting
    failures    why a pass failed when it was last tried, by its name; those that came through are not there
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
        """Who sees the copy; another one whenever the settings change."""
        return self._monitor

    def replace(self, settings: Settings, copy: sa.Engine) -> None:
        """Work with these settings from the next pass on."""
        former = self._closing
        self._monitor, self._closing = self._opened(settings, copy)
        self._monitor.start()
        former.close()
        self.failures.clear()

    def skip_if_recent(self, job: Job, age: timedelta) -> None:
        """Do not begin with this job where it came through less than `age` ago."""
        self._skip_if_within[job.name] = age

    def note_slot_lost(self, job: Job) -> None:
        """Its slot was given to others; what it hangs in may go on for long without a word."""
        self.failures[job.name] = (
            "It did not answer, did not end when its turn was over, and lost its slot to the other tenants. "
            "To do: look at the tenant, at its database and at the network between."
        )

    def close(self) -> None:
        """End what is under way, and begin nothing more."""
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
        """Run a pass to its end, or until told to make room. Whatever comes of it, the next one comes."""
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
            self.failures[job.name] = f"a fault of its own: {type(fault).__name__}."
            is_debugging = logging.getLogger("sync").isEnabledFor(logging.DEBUG)
            _log.error("pass.failed", job=job.name, error=type(fault).__name__, exc_info=is_debugging)
            return TurnOutcome()
        finally:
            self.metrics_hook.liveness.begin("")
            self._monitor.news()

    def _note_empty_turn(self, job: Job) -> None:
        """A turn in which nothing was read is a failure, too, as far as anybody who waits for it can tell."""
        ended = None if self._carryover is None else self._carryover.run_log.last
        if ended is not None and ended.status == "interrupted" and not ended.tally.fetched:
            words = f"Its turn of {ended.seconds:.0f} s was over before anything was read."
            self.failures[job.name] = f"{words} To do: look at the tenant: it answers slowly, or not at all."
        else:
            self.failures.pop(job.name, None)

    def _do(self, turn: Turn) -> TurnOutcome:
        """Run a pass, unless that is needless or another daemon does it."""
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
        """Whether it was done: by another daemon while this one stood by, or not long before it began."""
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
