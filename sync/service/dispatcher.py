"""Runs the passes that the fair queue (fair_queue.py) selects, each in a thread of its own.

A paused pass keeps its thread, its lease and its memory, and waits before its next request.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from threading import Event, Lock, Thread
from time import monotonic
from typing import Final, NamedTuple

import structlog

from sync import logs
from sync.service.fair_queue import GRACE_S, FairQueue
from sync.service.tenant_service import Job, TenantService, Turn, TurnOutcome

TICK_S: Final = 1.0  # between two checks for turns that are over, while a pass is in progress

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


class _ActivePass(NamedTuple):
    """A pass in progress and its tenant; a tenant removed and added again is a new one."""

    service: TenantService
    turn: Turn

    @property
    def silent_s(self) -> float:
        liveness = self.service.metrics_hook.liveness
        return inf if liveness.is_stuck else liveness.silent_s


class Dispatcher:
    """Assigns slots to tenants from `start` until `close`. Any thread may call `enqueue`.

    at_once, turn_s, grace_s    as in `FairQueue`
    ended                       called in the thread of the pass with the outcome of each turn
    began                       called there before each turn
    """

    def __init__(
        self,
        at_once: int,
        turn_s: float,
        ended: Callable[[TenantService, Job, TurnOutcome], None],
        *,
        grace_s: float = GRACE_S,
        began: Callable[[TenantService], None] = lambda service: None,
    ) -> None:
        self._queue: FairQueue[Job] = FairQueue(at_once, turn_s, grace_s)
        self._ended, self._began = ended, began
        self._services: dict[str, TenantService] = {}
        self._at_work: dict[str, _ActivePass] = {}
        self._paused: dict[str, _ActivePass] = {}
        self._threads: dict[str, Thread] = {}
        self._lock = Lock()
        self._wake, self._stopped = Event(), Event()
        self._thread = Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def resize(self, at_once: int, turn_s: float) -> None:
        """Change the number of slots and the length of a turn."""
        with self._lock:
            self._queue.at_once, self._queue.turn_s = at_once, turn_s
        self._wake.set()

    def enqueue(self, service: TenantService, job: Job) -> None:
        """Queue a job of a tenant."""
        with self._lock:
            self._services[service.name] = service
            self._queue.enqueue(service.name, job)
        self._wake.set()

    def queued(self, name: str) -> list[Job]:
        """The jobs of a tenant that wait for a slot."""
        with self._lock:
            return self._queue.queued(name)

    def end_rest(self, name: str) -> None:
        """End a tenant's rest at once, because of a request or new settings."""
        with self._lock:
            self._queue.end_rest(name)
        self._wake.set()

    def forget(self, name: str) -> None:
        """Drop a tenant's queued jobs."""
        with self._lock:
            self._queue.forget(name)
            self._paused.pop(name, None)

    def close(self, stop_all: Callable[[], None]) -> None:
        """Start no more passes, stop all in progress, and wait for their end."""
        self._stopped.set()
        self._wake.set()
        self._thread.join()
        stop_all()
        for thread in [*self._threads.values()]:
            thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._lock:
                self._assign_slots(monotonic())
                is_idle = self._queue.is_idle
            self._wake.wait(None if is_idle else TICK_S)
            self._wake.clear()

    def _assign_slots(self, now: float) -> None:
        silent = {name: serving.silent_s for name, serving in self._at_work.items()}
        for name in self._queue.due_to_yield(now, silent):
            turn = self._at_work[name].turn
            _log.info("turn.over", tenant=name, job=turn.job.name)
            turn.ask_to_yield()
        for name in self._queue.due_to_hang_up(silent):
            turn = self._at_work[name].turn
            _log.warning("turn.hung_up", tenant=name, job=turn.job.name, silent_seconds=round(silent[name]))
            turn.overdue.set()
        for name in self._queue.due_to_lose_slot(now):
            service, turn = self._at_work[name]
            _log.error("turn.written_off", tenant=name, job=turn.job.name)
            turn.lose_slot()
            if turn.overdue.is_set():
                service.note_slot_lost(turn.job)
        while found := self._queue.next(now):
            self._serve(*found)

    def _serve(self, name: str, job: Job) -> None:
        """Resume the tenant's paused pass, or start a new one."""
        if (paused := self._paused.pop(name, None)) is not None:
            self._at_work[name] = paused
            paused.service.metrics_hook.liveness.begin(job.name)
            paused.turn.resume()
            return
        serving = self._at_work[name] = _ActivePass(self._services[name], Turn(job, self._pause))
        thread = Thread(target=self._turn, args=serving, name=f"worker {name}", daemon=True)
        self._threads[name] = thread
        thread.start()

    def _pause(self, turn: Turn) -> None:
        """Give the slot of a pass to others; called by each of its threads before a request."""
        with self._lock:
            found = [it for it in self._at_work.values() if it.turn is turn and turn.is_yielding]
            for serving in found:
                name = serving.service.name
                _log.info("turn.paused", tenant=name, job=turn.job.name)
                self._queue.paused(name)
                self._paused[name] = self._at_work.pop(name)
                serving.service.metrics_hook.liveness.begin("")
        self._wake.set()

    def _turn(self, service: TenantService, turn: Turn) -> None:
        outcome = TurnOutcome()
        try:
            with logs.of_tenant(service.name):
                self._began(service)
                outcome = service.attempt(turn)
                self._ended(service, turn.job, outcome)
        finally:
            with self._lock:
                self._release(service.name, turn, outcome)
            self._wake.set()

    def _release(self, name: str, turn: Turn, outcome: TurnOutcome) -> None:
        """Release the slot of a pass that ended. One that ended while paused held none."""
        if name in self._paused and self._paused[name].turn is turn:
            del self._paused[name]
        if name not in self._at_work or self._at_work[name].turn is not turn:
            return
        del self._at_work[name]
        rest_s = self._queue.ended(
            name, monotonic(), unfinished=outcome.is_unfinished, out_of_reach=outcome.out_of_reach
        )
        if rest_s is not None:
            _log.warning("tenant.resting", tenant=name, seconds=rest_s)
