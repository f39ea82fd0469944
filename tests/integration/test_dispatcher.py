"""Turns are given to tenants in threads: nobody who hangs keeps the others from being served."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

from sync.errors import Interrupted
from sync.hooks.metrics import MetricsHook
from sync.metrics import Metrics
from sync.service.dispatcher import Dispatcher
from sync.service.tenant_service import INCREMENTAL, PRICES, Job, Turn, TurnOutcome

WITHIN_S = 20.0  # a hang fails the test instead of the suite


class Tenant:
    """In the place of a tenancy: does as it is told, by `how`, and notes when it began.

    how    quick: is done at once. obeys: asks again and again, until it is told to make room.
           hangs: until the test lets it
    """

    def __init__(self, name: str, how: str, begun: SimpleQueue[str]) -> None:
        self.name, self.how = name, how
        self.metrics_hook = MetricsHook(Metrics("", process=False))
        self.release = threading.Event()
        self._begun = begun
        self._turn: Turn | None = None

    def attempt(self, turn: Turn) -> TurnOutcome:
        self._turn = turn
        self._begun.put(f"{self.name} {turn.job.name}")
        if self.how == "obeys":
            self.how = "quick"
            return self._asks(turn)
        if self.how == "hangs":
            self.release.wait(WITHIN_S)
        if self.how == "breaks":
            raise ZeroDivisionError
        return TurnOutcome()

    def _asks(self, turn: Turn) -> TurnOutcome:
        """Requests that take no time, until the pass was told; one that paused ends when it goes on."""
        try:
            while not turn.is_yielding:
                self.release.wait(0.01)
            turn.before_request()
        except Interrupted:
            return TurnOutcome(is_unfinished=True)
        self._begun.put(f"{self.name} {turn.job.name} goes on")
        return TurnOutcome()

    def stop(self) -> None:
        self.release.set()
        if self._turn is not None:
            self._turn.stop.set()

    def note_slot_lost(self, job: Job) -> None:
        pass


@contextmanager
def serving(
    *tenants: Tenant,
    at_once: int = 1,
    turn_s: float = 0.0,
    grace_s: float = 0.0,
    later: Sequence[Tenant] = (),
) -> Iterator[Dispatcher]:
    """A dispatcher to which a run of each tenant is due, in this order; `later` ones are ended too."""
    dispatcher = Dispatcher(at_once, turn_s, lambda *told: None, grace_s=grace_s)
    for tenant in tenants:
        enqueue(dispatcher, tenant)

    def let_all_go() -> None:
        for tenant in (*tenants, *later):
            tenant.stop()

    dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.close(let_all_go)


def enqueue(dispatcher: Dispatcher, tenant: Any, job: Job = INCREMENTAL) -> None:
    dispatcher.enqueue(tenant, job)


@pytest.fixture
def begun() -> SimpleQueue[str]:
    return SimpleQueue()


def seen(begun: SimpleQueue[str], count: int) -> list[str]:
    return [begun.get(timeout=WITHIN_S) for _ in range(count)]


def test_a_long_pass_makes_room_for_the_others_and_is_begun_again(begun: SimpleQueue[str]) -> None:
    long, short = Tenant("long", "obeys", begun), Tenant("short", "quick", begun)

    with serving(long, short, grace_s=WITHIN_S):
        assert seen(begun, 3) == ["long run", "short run", "long run"]


def test_a_pass_that_would_begin_anew_pauses_and_goes_on_before_its_newer_work(
    begun: SimpleQueue[str],
) -> None:
    long, short = Tenant("long", "obeys", begun), Tenant("short", "quick", begun)

    with serving(grace_s=WITHIN_S, later=(long, short)) as dispatcher:
        enqueue(dispatcher, long, PRICES)
        assert seen(begun, 1) == ["long prices"]
        enqueue(dispatcher, long)
        enqueue(dispatcher, short)
        assert seen(begun, 3) == ["short run", "long prices goes on", "long run"]


def test_one_that_pauses_ends_with_the_daemon(begun: SimpleQueue[str]) -> None:
    long, hangs = Tenant("long", "obeys", begun), Tenant("hangs", "hangs", begun)

    with serving(grace_s=WITHIN_S, later=(long, hangs)) as dispatcher:
        enqueue(dispatcher, long, PRICES)
        seen(begun, 1)
        enqueue(dispatcher, hangs)
        assert seen(begun, 1) == ["hangs run"]

    assert begun.empty()


def test_those_that_hang_lose_their_slots_to_the_others(begun: SimpleQueue[str]) -> None:
    """More of them than there are slots; what is due to them waits until they let go."""
    hanging = [Tenant(f"hangs-{n}", "hangs", begun) for n in range(3)]
    others = [Tenant(f"other-{n}", "quick", begun) for n in range(2)]

    with serving(*hanging, *others, at_once=2) as dispatcher:
        assert set(seen(begun, 5)) == {f"{tenant.name} run" for tenant in (*hanging, *others)}
        enqueue(dispatcher, hanging[0], PRICES)
        enqueue(dispatcher, others[0])
        assert seen(begun, 1) == ["other-0 run"]
        hanging[0].release.set()
        assert seen(begun, 1) == ["hangs-0 prices"]


def test_a_fault_of_our_own_gives_the_slot_back(
    begun: SimpleQueue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread's death is printed, not hidden."""
    died: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: died.append(told.exc_type))

    with serving(Tenant("a", "breaks", begun), Tenant("b", "quick", begun), turn_s=WITHIN_S):
        assert seen(begun, 2) == ["a run", "b run"]

    assert died == [ZeroDivisionError]


def test_nothing_begins_once_it_closes(begun: SimpleQueue[str]) -> None:
    tenant, late = Tenant("a", "hangs", begun), Tenant("late", "quick", begun)

    with serving(tenant, turn_s=WITHIN_S) as dispatcher:
        seen(begun, 1)
        enqueue(dispatcher, late)

    assert begun.empty()
