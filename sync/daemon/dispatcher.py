"""Gives tenants their turns (turns.py): a thread for each pass, as many at once as may be."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, Thread
from time import monotonic
from typing import Final

import structlog

from sync import logs
from sync.daemon.tenancy import Job, Outcome, Tenancy
from sync.turns import GRACE_S, Turns

TICK_S: Final = 1.0  # how often it is looked for whose turn is over, while somebody is at work

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


class Dispatcher:
    """From `start` until `close`. Everybody may say that something is due, at any time.

    at_once, turn_s, grace_s    as in `Turns`
    ended                       told in the pass's own thread how a turn ended
    """

    def __init__(
        self,
        at_once: int,
        turn_s: float,
        ended: Callable[[Tenancy, Job, Outcome], None],
        *,
        grace_s: float = GRACE_S,
    ) -> None:
        self._turns: Turns[Job] = Turns(at_once, turn_s, grace_s)
        self._ended = ended
        self._tenancies: dict[str, Tenancy] = {}
        self._serving: dict[str, Tenancy] = {}  # one that left and came back under its name is another one
        self._threads: dict[str, Thread] = {}
        self._lock = Lock()
        self._wake, self._stopped = Event(), Event()
        self._thread = Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def share(self, at_once: int, turn_s: float) -> None:
        """From now on, other numbers."""
        with self._lock:
            self._turns.at_once, self._turns.turn_s = at_once, turn_s
        self._wake.set()

    def due(self, tenancy: Tenancy, job: Job) -> None:
        """Let the tenant do this when its turn comes."""
        with self._lock:
            self._tenancies[tenancy.name] = tenancy
            self._turns.due(tenancy.name, job)
        self._wake.set()

    def forget(self, name: str) -> None:
        """A tenant is served no more."""
        with self._lock:
            self._turns.forget(name)

    def close(self, stop_all: Callable[[], None]) -> None:
        """Begin nothing more, have everything stopped, and wait for it."""
        self._stopped.set()
        self._wake.set()
        self._thread.join()
        stop_all()
        for thread in [*self._threads.values()]:
            thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._lock:
                self._share_out(monotonic())
                is_idle = not self._turns.at_work
            self._wake.wait(None if is_idle else TICK_S)
            self._wake.clear()

    def _share_out(self, now: float) -> None:
        at_work = self._turns.at_work
        stuck = [name for name in at_work if self._serving[name].meter.pulse.is_stuck]
        for name in self._turns.to_stop(now, stuck):
            _log.info("turn.over", tenant=name, job=at_work[name].name)
            self._serving[name].make_room()
        for name in self._turns.to_write_off(now):
            _log.error("turn.written_off", tenant=name, job=at_work[name].name)
        while found := self._turns.next(now):
            name, job = found
            tenancy = self._serving[name] = self._tenancies[name]
            turn = Thread(target=self._turn, args=(tenancy, job), name=f"worker {name}", daemon=True)
            self._threads[name] = turn
            turn.start()

    def _turn(self, tenancy: Tenancy, job: Job) -> None:
        outcome = Outcome()
        try:
            with logs.of_tenant(tenancy.name):
                outcome = tenancy.attempt(job)
                self._ended(tenancy, job, outcome)
        finally:
            with self._lock:
                self._turns.ended(tenancy.name, unfinished=outcome.is_unfinished)
                tenancy.rested()
            self._wake.set()
