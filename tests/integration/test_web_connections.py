"""Connections to the page: none of them, and no number of them, keeps a probe from its answer."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
import requests
import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync.metrics import Metrics
from sync.settings import CopySettings
from sync.settings.parsers import Address
from sync.web.app import application
from sync.web.health import health_routes
from sync.web.server import serving

pytestmark = pytest.mark.slow

ANYWHERE = Address("127.0.0.1", 0)
PROBES = ("/healthz", "/readyz", "/metrics")


@pytest.fixture
def probed(sqlite: sa.Engine) -> Iterator[tuple[str, int]]:
    """A page with health routes, whose page at /hang answers when the test is over."""
    over = threading.Event()

    async def hang(_request: Request) -> Response:
        while not over.is_set():
            await asyncio.sleep(0.05)
        return Response()

    routes = [
        *health_routes(lambda: None, lambda: [], Metrics("1.2.3").exposition),
        Route("/hang", hang),
    ]
    app = application(sqlite, CopySettings(), extra_routes=routes)
    with serving(app, ANYWHERE, probed=PROBES) as url:
        yield url, int(url.rstrip("/").rpartition(":")[2])
        over.set()


@pytest.mark.parametrize("count", [200, 1_000])
@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "], ids=["idle", "slow"]
)
def test_probes_and_pages_answer_however_many_connections_wait(
    probed: tuple[str, int], count: int, sent: bytes
) -> None:
    url, port = probed
    with ExitStack() as open_:
        for _ in range(count):
            connection = open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            with suppress(OSError):  # closed already, in favour of a younger one
                connection.sendall(sent)

        for path in (*PROBES, "/"):
            assert requests.get(f"{url}{path.lstrip('/')}", timeout=10).status_code == 200, path


def test_probes_answer_when_every_page_is_busy(probed: tuple[str, int]) -> None:
    """Pages that are asked for besides are refused at once."""
    url, port = probed
    with ExitStack() as open_:
        asked = []
        for _ in range(200):
            asked.append(open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)))
            asked[-1].sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
        refused = [it for it in select.select(asked, [], [], 10)[0] if b"503" in it.recv(100)]

        assert refused
        assert requests.get(f"{url}healthz", timeout=10).status_code == 200


def test_a_connection_that_sends_no_whole_request_is_closed(probed: tuple[str, int]) -> None:
    """Nothing, half a header, half a body, one byte after the other; also after a whole request."""
    _, port = probed
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    body = b"POST /run-now HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with ExitStack() as open_:
        dripping = {
            open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)): begun
            for begun in (b"", b"GET / HT", whole + b"GET", body)
        }
        for connection, begun in dripping.items():
            connection.sendall(begun)
        began, closed = time.monotonic(), set[socket.socket]()
        while len(closed) < len(dripping) and time.monotonic() < began + 30:
            for connection, begun in dripping.items():
                if connection not in closed and is_closed(connection, drip=bool(begun)):
                    closed.add(connection)

    assert len(closed) == len(dripping)


def is_closed(connection: socket.socket, *, drip: bool) -> bool:
    try:
        if drip:
            connection.sendall(b"x")
        connection.settimeout(0.1)
        return not connection.recv(1_000)
    except TimeoutError:
        return False
    except OSError:
        return True
