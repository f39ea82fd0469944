"""Serves the status page from a thread of its own.

The main thread keeps the signals. The address is bound before anything runs, so an address in use is reported
at the start.

Connections are limited by their state, so that no number of them delays a health probe:

    waiting for a request     REQUEST_S each; with too many, the one that has waited longest is closed
    request in progress       MOST_IN_WORK for pages, and as many for each health route; more get a 503
    answer not being read     STALLED_S
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sync.errors import SettingsError
from sync.runtime import alternate_often
from sync.settings.parsers import Address

MOST_IN_WORK = 64
BACKLOG = 128  # connections accepted at once
# Each uses a file descriptor, and a process may have 1,024. A request is read one loop iteration after its
# connection is accepted, so the connections of three iterations must fit.
MOST_WAITING = 400
REQUEST_S = 10.0  # from the connection, or the previous answer, to a complete request
STALLED_S = 30.0
BUSY = "Too many requests at the same time.\n"
GRACE_S = 2  # for answers in progress when the page closes
FIX = "free that address, choose another one in STATUS_BIND, or set it to off."


@contextmanager
def serving(app: ASGIApp, address: Address, *, probed: Collection[str] = ()) -> Iterator[str]:
    """Serve `app` while the context is open; yields its URL.

    probed    paths that are answered regardless of the number of page requests

    Raises SettingsError if the address cannot be bound.
    """
    listening = _listen(address)
    alternate_often()
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = uvicorn.Server(_config(_Limited(app, probed)))
    thread = Thread(target=server.run, args=([listening],), name="page", daemon=True)
    thread.start()
    try:
        yield f"http://{Address(address.host, listening.getsockname()[1])}/"
    finally:
        server.should_exit = True
        thread.join(GRACE_S + 1)
        if not thread.is_alive():  # otherwise it closes the socket itself
            listening.close()


def _listen(address: Address) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _unusable(address, error) from error
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise _unusable(address, error) from error
    return listening


def _unusable(address: Address, error: OSError) -> SettingsError:
    return SettingsError(f"STATUS_BIND: cannot listen on {address}: {error.strerror}.", FIX)


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_S,
    )


class _Limited:
    """Limits requests in progress: for each probed path, and for all other paths together."""

    def __init__(self, app: ASGIApp, probed: Collection[str]) -> None:
        self._app = app
        self._probed = frozenset(probed)
        self._in_work: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["path"] if scope["path"] in self._probed else ""
        if self._in_work[kind] >= MOST_IN_WORK:
            await PlainTextResponse(BUSY, 503, {"Connection": "close"})(scope, receive, send)
            return
        self._in_work[kind] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_work[kind] -= 1


class _Connection(H11Protocol):
    """uvicorn's protocol with time limits for a request to arrive and for an answer to be read."""

    _waiting: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    @property
    def waits_until(self) -> float | None:
        """When it closes without a complete request; None while a request is in progress."""
        return None if self._waiting is None else self._waiting.when()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()
        waiting = [it for it in self.connections if isinstance(it, _Connection) and it.waits_until]
        if len(waiting) > MOST_WAITING:
            min(waiting, key=lambda it: it.waits_until or 0.0).give_up()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        cycle: Any = self.cycle  # None before the first request
        in_work = cycle is not None and not cycle.more_body and not cycle.response_complete
        if in_work and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        elif not in_work and self._waiting is None:
            self._waiting = self.loop.call_later(REQUEST_S, self.give_up)

    def give_up(self) -> None:
        """Close the connection now; unsent data is lost."""
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, self.give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._waiting, self._stalled):
            if timer is not None:
                timer.cancel()
