"""One tenant in the daemon's care: its passes, one at a time, each with everything opened for it and closed.

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

from sync.app import App, Legacy, alerts_of, opened
from sync.db import overview
from sync.db.dialects import utc_now
from sync.db.engine import reading
from sync.errors import AccessDenied, Interrupted, LeaseHeld, SyncError
from sync.lookout import Lookout
from sync.meter import Meter
from sync.model import PassKind
from sync.passes.incremental import incremental
from sync.passes.prices import prices
from sync.passes.reconcile import reconcile
from sync.passes.reference import reference
from sync.passes.run import Summary, Sync
from sync.passes.stock import stock
from sync.settings import Settings

STANDBY_S: Final = 2.0
EVER: Final = timedelta(days=36_500)
UNTRUSTED_S: Final = 30.0  # a tenant whose last pass failed may keep the others waiting so long, not longer

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


@dataclass(frozen=True, slots=True)
class Job:
    """A pass that is due again and again.

    served_by    kinds of run that do at least the same
    resumes      whether it goes on where it was stopped, at the last committed page
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
class Outcome:
    """How a turn ended.

    is_unfinished    it made room, and is to go on when its turn comes again
    again_in_s       seconds after which to ask again: another daemon is at it
    is_denied        the credential was refused: it may have been exchanged
    """

    is_unfinished: bool = False
    again_in_s: float | None = None
    is_denied: bool = False


def patience(allowed_s: float, turn_s: float, *, is_trusted: bool) -> float:
    """Seconds that one request is tried, where others wait for the slot.

    allowed_s     by the settings
    is_trusted    whether the last pass came through; the only tenant always is

    >>> patience(900.0, 300.0, is_trusted=True), patience(900.0, 300.0, is_trusted=False)
    (300.0, 30.0)
    """
    return min(allowed_s, turn_s if is_trusted else UNTRUSTED_S)


class Tenancy:
    """A tenant, from its first pass to its last, whatever becomes of its settings meanwhile.

    name        "" for the only one
    turn_s      tells how long a tenant may keep the others waiting
    troubles    why a pass failed when it was last tried, by its name; those that came through are not there
    """

    def __init__(
        self, name: str, settings: Settings, copy: sa.Engine, meter: Meter, turn_s: Callable[[], float]
    ) -> None:
        self.name = name
        self.meter = meter
        self.troubles: dict[str, str] = {}
        self._turn_s = turn_s
        self._legacy: Legacy | None = None
        self._is_trusted = not name
        self._due_since: dict[str, datetime] = {}
        self._spared: dict[str, timedelta] = {}
        self._is_closed = False
        self._stop, self._stop_telling = Event(), Event()
        self._lookout, self._closing = self._opened(settings, copy)
        self._lookout.start()

    @property
    def settings(self) -> Settings:
        return self._lookout.settings

    @property
    def lookout(self) -> Lookout:
        """Who sees the copy; another one whenever the settings change."""
        return self._lookout

    def replace(self, settings: Settings, copy: sa.Engine) -> None:
        """Work with these settings from the next pass on."""
        former = self._closing
        self._lookout, self._closing = self._opened(settings, copy)
        self._lookout.start()
        former.close()
        self.troubles.clear()

    def spare(self, job: Job, age: timedelta) -> None:
        """Do not begin with this job where it came through less than `age` ago."""
        self._spared[job.name] = age

    def make_room(self) -> None:
        """End the pass under way behind the page in hand."""
        self._stop.set()

    def rested(self) -> None:
        """Its turn is over: what it was told counts no more."""
        if not self._is_closed:
            self._stop = Event()

    def close(self) -> None:
        """End what is under way, and begin nothing more."""
        self._is_closed = True
        self._stop.set()
        self._stop_telling.set()
        self._closing.close()

    def _opened(self, settings: Settings, copy: sa.Engine) -> tuple[Lookout, ExitStack]:
        with ExitStack() as opening:
            telling = alerts_of(settings, copy, self.meter.held_back, self._stop_telling, self.name)
            alerts = opening.enter_context(telling)
            lookout = Lookout(self.name, settings, copy, None if alerts is None else alerts.look)
            opening.callback(lookout.close)
            return lookout, opening.pop_all()

    # --- a turn ------------------------------------------------------------------------------

    def attempt(self, job: Job) -> Outcome:
        """Run a pass to its end, or until told to make room. Whatever comes of it, the next one comes."""
        if self._is_closed:
            return Outcome()
        self.meter.pulse.begin(job.name)
        try:
            return self._do(job)
        except Interrupted:
            _log.info("pass.interrupted", job=job.name)
            self._note_idleness(job)
            return Outcome(is_unfinished=True)
        except SyncError as error:
            self._is_trusted = not self.name
            self.troubles[job.name] = f"{error} To do: {error.fix}"
            _log.error("pass.failed", job=job.name, error=str(error), fix=error.fix)
            return Outcome(is_denied=isinstance(error, AccessDenied))
        except Exception as fault:  # noqa: BLE001 - one bad pass must not end the daemon
            self.troubles[job.name] = f"a fault of its own: {type(fault).__name__}."
            is_debugging = logging.getLogger("sync").isEnabledFor(logging.DEBUG)
            _log.error("pass.failed", job=job.name, error=type(fault).__name__, exc_info=is_debugging)
            return Outcome()
        finally:
            self.meter.pulse.begin("")
            self._lookout.news()

    def _note_idleness(self, job: Job) -> None:
        """A turn in which nothing was read is a failure, too, as far as anybody who waits for it can tell."""
        ended = None if self._legacy is None else self._legacy.journal.last
        if ended is not None and ended.status == "interrupted" and not ended.tally.fetched:
            words = f"Its turn of {ended.seconds:.0f} s was over before anything was read."
            self.troubles[job.name] = f"{words} To do: look at the tenant: it answers slowly, or not at all."
        else:
            self.troubles.pop(job.name, None)

    def _do(self, job: Job) -> Outcome:
        """Run a pass, unless that is needless or another daemon does it."""
        try:
            with self._app() as app:
                if not self._is_needless(app.db, job):
                    job.work(app.sync(f"daemon, {job.name}"))
            self._is_trusted = True
            self.troubles.pop(job.name, None)
            self._due_since.pop(job.name, None)
            return Outcome()
        except LeaseHeld as held:
            return self._stand_by(job, held)

    @contextmanager
    def _app(self) -> Iterator[App]:
        settings = self.settings
        allowed_s = patience(settings.sync_max_retry_time, self._turn_s(), is_trusted=self._is_trusted)
        with opened(
            settings, self._stop, meter=self.meter, legacy=self._legacy, max_retry_time=allowed_s
        ) as app:
            self._legacy = app.legacy
            yield app

    def _is_needless(self, db: sa.Engine, job: Job) -> bool:
        """Whether it was done: by another daemon while this one stood by, or not long before it began."""
        age, since = self._spared.pop(job.name, None), self._due_since.get(job.name)
        if age is None and since is None:
            return False

        def was_done(connection: sa.Connection) -> bool:
            begin = since or utc_now(connection) - (age or timedelta())
            return overview.has_come_through(connection, job.served_by, begin)

        if not reading(db, was_done):
            return False
        _log.info("pass.served_by_another" if since else "pass.spared", job=job.name)
        return True

    def _stand_by(self, job: Job, held: LeaseHeld) -> Outcome:
        if job.name not in self._due_since:
            self._due_since[job.name] = reading(self._lookout.copy, utc_now)
            _log.info("lease.awaited", job=job.name, reason=str(held))
        return Outcome(again_in_s=STANDBY_S)
