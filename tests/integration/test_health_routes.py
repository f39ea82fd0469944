"""What machines ask of the daemon: alive, ready, metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import requests
import uvicorn
from starlette.applications import Starlette

from sync.errors import DatabaseUnavailable
from sync.hooks.liveness import STILL_S, Liveness
from sync.metrics import Metrics
from sync.monitor.freshness import Problem
from sync.web.health import health_routes


@contextmanager
def served(
    alive: Callable[[], str | None] = lambda: None, ready: Callable[[], Sequence[Problem]] = lambda: []
) -> Iterator[str]:
    """The routes on real HTTP."""
    routes = health_routes(alive, ready, Metrics("1.2.3").exposition)
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}"
    server.should_exit = True
    thread.join()


def test_all_is_well() -> None:
    with served() as url:
        healthy, ready, metrics = (requests.get(f"{url}/{path}", timeout=9) for path in PATHS)

    assert (healthy.status_code, ready.status_code) == (200, 200)
    assert ready.json() == {"ok": True, "reason": "The copy is fresh.", "problems": []}
    assert 'product_sync_build_info{version="1.2.3"} 1.0' in metrics.text
    assert metrics.headers["Content-Type"].startswith("text/plain; version=")
    assert metrics.headers["Cache-Control"] == "no-store"


PATHS = ("healthz", "readyz", "metrics")


def test_what_is_wrong_is_said_in_words_and_as_json() -> None:
    problem = Problem(
        "stale:store_view:fr", "fr", "Store view fr is 2 h 0 min behind; 1 h 0 min are allowed."
    )
    with served(ready=lambda: [problem]) as url:
        answer = requests.get(f"{url}/readyz", timeout=9)

    assert answer.status_code == 503
    assert answer.json()["reason"] == problem.reason
    assert answer.json()["problems"][0]["key"] == "stale:store_view:fr"


def test_a_database_that_is_away_is_not_ready_but_alive() -> None:
    def away() -> Sequence[Problem]:
        raise DatabaseUnavailable("the database cannot do this: no route.")

    with served(ready=away) as url:
        ready, healthy = (requests.get(f"{url}/{path}", timeout=9) for path in ("readyz", "healthz"))

    assert (ready.status_code, healthy.status_code) == (503, 200)
    assert ready.json()["reason"] == "the database cannot do this: no route."


def test_a_worker_is_stuck_when_it_is_busy_and_silent_beyond_what_it_announced() -> None:
    now = [0.0]
    pulse = Liveness(lambda: now[0])
    now[0] += STILL_S + 1
    assert not pulse.is_stuck  # idle

    pulse.begin("run")
    pulse.beat(wait_s=3600)
    now[0] += 3600 + STILL_S
    assert not pulse.is_stuck

    now[0] += 1
    assert pulse.is_stuck
    pulse.beat()
    assert not pulse.is_stuck
