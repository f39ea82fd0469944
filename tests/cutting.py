"""A relay before a database that cuts the connection after a COMMIT: it is carried out, and the answer lost.

with cutting(url, lambda number: number == 3) as cut:
    connected(cut.url)      the third COMMIT is carried out, and its sender cannot know
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import sqlalchemy as sa

COMMITS = {
    "postgresql": b"Q\x00\x00\x00\x0bCOMMIT\x00",  # PostgreSQL, "Message Formats": Query
    "mysql": b"\x07\x00\x00\x00\x03COMMIT",  # MariaDB, "COM_QUERY"
}


@dataclass
class Relay:
    """`loses` says of each COMMIT, counted from 1, whether its answer is lost."""

    url: str
    target: sa.URL
    loses: Callable[[int], bool]
    commits: int = 0
    lost: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, client: socket.socket) -> None:
        with client, self._server() as server:
            answers = threading.Thread(target=_copy, args=(server, client), daemon=True)
            answers.start()
            commit = COMMITS[self.target.get_backend_name()]
            while data := _receive(client):
                if data.endswith(commit) and self._is_lost():
                    client.shutdown(socket.SHUT_RDWR)  # no answer goes there from now on
                    server.sendall(data)
                    server.shutdown(socket.SHUT_WR)
                    answers.join(10)  # the server ends after what it was sent last
                    return
                server.sendall(data)
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            answers.join(10)

    def _server(self) -> socket.socket:
        folder = self.target.query.get("host")
        port = self.target.port or {"postgresql": 5432, "mysql": 3306}[self.target.get_backend_name()]
        if folder is None:
            return socket.create_connection((self.target.host or "127.0.0.1", port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{folder}/.s.PGSQL.{port}")
        return server

    def _is_lost(self) -> bool:
        with self._lock:
            self.commits += 1
            is_lost = self.loses(self.commits)
            self.lost += is_lost
            return is_lost


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""


def _copy(source: socket.socket, target: socket.socket) -> None:
    """To the end of `source`, also when `target` takes no more."""
    while data := _receive(source):
        with suppress(OSError):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def cutting(url: str, loses: Callable[[int], bool]) -> Iterator[Relay]:
    target = sa.make_url(url)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        here = target.set(host="127.0.0.1", port=listener.getsockname()[1])
        here = here.difference_update_query(["host"])
        relay = Relay(here.render_as_string(hide_password=False), target, loses)
        threading.Thread(target=_accept, args=(listener, relay), daemon=True).start()
        yield relay


def _accept(listener: socket.socket, relay: Relay) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=relay.serve, args=(client,), daemon=True).start()
