"""Serves the status page from a thread of its own, beside whatever the process does.

Signals stay with the main thread. The address is taken before anything runs, so one that is in use is
found at the start and not in a log.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from starlette.types import ASGIApp

from sync.errors import SettingsError
from sync.interpreter import alternate_often
from sync.notation import Address

MOST_CONNECTIONS = 64
GRACE_S = 2  # for answers under way when the page is closed
FIX = "free that address, name another one in STATUS_BIND, or set it to off."


@contextmanager
def serving(app: ASGIApp, address: Address) -> Iterator[str]:
    """Serve `app` while the context is open; yields where it is to be found.

    Raises SettingsError when the address cannot be listened on.
    """
    listening = _listen(address)
    alternate_often()
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = uvicorn.Server(_config(app))
    thread = Thread(target=server.run, args=([listening],), name="page", daemon=True)
    thread.start()
    try:
        yield f"http://{Address(address.host, listening.getsockname()[1])}/"
    finally:
        server.should_exit = True
        thread.join(GRACE_S + 1)
        if not thread.is_alive():  # else it is about to close that itself
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
        listening.listen(MOST_CONNECTIONS)
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
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_S,
    )
