"""What processes share goes through the database: alone, in order, and at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from sync.commerce.pacing import Outcome, Pacer
from sync.db.shared_state import SharedStateRow
from sync.errors import Interrupted
from tests.wire import in_threads


@pytest.fixture
def new_shelf(postgres: sa.Engine) -> Callable[[], SharedStateRow]:
    return lambda: SharedStateRow(postgres, "shared", threading.Event())


def test_no_step_overlooks_another_one(new_shelf: Callable[[], SharedStateRow]) -> None:
    times: list[float] = []

    def count(text: str | None, now: float) -> tuple[str, None]:
        times.append(now)
        return str(int(text or 0) + 1), None

    in_threads(6, lambda: [new_shelf().update(count) for _ in range(20)])

    assert new_shelf().update(lambda text, now: (None, text)) == "120"
    assert max(times) - min(times) < 600


def test_a_step_that_fails_leaves_what_was_there(new_shelf: Callable[[], SharedStateRow]) -> None:
    new_shelf().update(lambda text, now: ("kept", None))

    def fail(_text: str | None, _now: float) -> tuple[str, None]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        new_shelf().update(fail)
    assert new_shelf().update(lambda text, now: (None, text)) == "kept"


def test_what_one_process_is_refused_all_obey_at_once(new_shelf: Callable[[], SharedStateRow]) -> None:
    """One of two pacers is told to come back in a minute: the other's next request waits."""
    stop, waits = threading.Event(), list[str]()

    def waited(reason: str, _seconds: float) -> None:
        waits.append(reason)
        stop.set()

    refused, other = Pacer(4, shared_state=new_shelf()), Pacer(4, shared_state=new_shelf(), on_wait=waited)
    begun = other.acquire(stop)
    other.release(begun, Outcome(200, 0.1))

    begun = refused.acquire(stop)
    refused.release(begun, Outcome(429, 0.1, retry_after=60))

    with pytest.raises(Interrupted):
        other.acquire(stop)
    assert waits == ["pause"]


def test_a_process_that_died_holds_nothing_back(new_shelf: Callable[[], SharedStateRow]) -> None:
    """It started as many requests as it may, one at first, and never said how it ended."""
    stop = threading.Event()
    dead, other = Pacer(2, shared_state=new_shelf()), Pacer(2, shared_state=new_shelf())
    dead.acquire(stop)

    for _ in range(5):
        other.release(other.acquire(stop), Outcome(200, 0.1))


def test_a_ceiling_holds_for_all_processes_together(new_shelf: Callable[[], SharedStateRow]) -> None:
    """At most 20 a second: 2 pacers that have nothing else to wait for take a second for 20 starts."""
    stop, starts, lock = threading.Event(), list[float](), threading.Lock()

    def read() -> None:
        shelf = new_shelf()
        pacer = Pacer(4, max_rps=20, shared_state=shelf)
        for _ in range(10):
            begun = pacer.acquire(stop)
            with lock:
                starts.append(shelf.update(lambda text, now: (None, now)))
            pacer.release(begun, Outcome(200, 0.01))

    in_threads(2, read)

    assert max(starts) - min(starts) >= 0.9
