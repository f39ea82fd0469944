"""A receiver of webhooks on real HTTP that fails as it is told, and remembers what it took.

take     takes the batch and answers 200
lose     takes it and closes the connection without an answer: the sender cannot know
break    closes the connection, having taken nothing
half     promises a longer answer than it sends, having taken nothing
late     takes the batch and answers 200 after a second
hang     says nothing until the sender has gone, or the receiver is closed
drip     answers a byte at a time, without end
redirect names another path
413, 500 ...   answers with that status; `500 after 7` with a Retry-After of 7
"""

from __future__ import annotations

import hmac
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

SECRET = "a webhook's secret"


@dataclass(frozen=True)
class Received:
    """One request: what was done about it, and what was in it."""

    action: str
    path: str
    headers: Message
    body: bytes

    @property
    def batch(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def is_signed(self) -> bool:
        """Whether the signature is right, and of now; as a receiver would look."""
        parts = dict(part.split("=") for part in self.headers["X-Product-Sync-Signature"].split(","))
        signed = f"{parts['t']}.".encode() + self.body
        expected = hmac.new(SECRET.encode(), signed, "sha256").hexdigest()
        return hmac.compare_digest(parts["v1"], expected) and abs(time.time() - int(parts["t"])) < 60


class Receiver:
    """Follows `script`, an action a request, and from its end on takes everything.

    port    0 for any free one; the one of a receiver that was closed to come back in its place
    """

    def __init__(self, script: Iterable[str] = (), *, port: int = 0) -> None:
        self.received: list[Received] = []
        self._script: Iterator[str] = iter(script)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._heard = threading.Condition()
        self._server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"receiver": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/products"

    @property
    def taken(self) -> list[int]:
        """Every change_id taken, in the order of arrival, repeats included."""
        taken = [got for got in self.received if got.action in ("take", "late", "lose")]
        return [change["change_id"] for got in taken for change in got.batch["changes"]]

    def wait_for(self, requests: int) -> None:
        """Wait until so many requests came."""
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.received) >= requests, 30), self.received

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hear(self, path: str, headers: Message, body: bytes) -> str:
        """Note a request, and tell what to do about it."""
        with self._lock:
            action = next(self._script, "take")
        with self._heard:
            self.received.append(Received(action, path, headers, body))
            self._heard.notify_all()
        return action

    def is_closing(self, within_s: float) -> bool:
        return self._closing.wait(within_s)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, *arguments: Any) -> None:
        self._open: list[socket.socket] = []
        super().__init__(*arguments)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.append(connection)
        return connection, address

    def hang_up(self) -> None:
        """End the connections that senders keep, as a process that ends does."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A sender that has gone is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        action = self.receiver.hear(self.path, self.headers, body)
        if action == "late":
            self.receiver.is_closing(1.0)
        if action in ("take", "late"):
            self._answer(200)
        elif action == "redirect":
            self._answer(307, {"Location": "/elsewhere"})
        elif action[0].isdigit():
            status, _, told = action.partition(" after ")
            self._answer(int(status), {"Retry-After": told} if told else {})
        else:
            self.close_connection = True
            with suppress(OSError):
                self._fail(action)

    def _fail(self, action: str) -> None:
        if action == "half":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        elif action == "hang":
            while not self.receiver.is_closing(0.01) and not self._is_gone():
                pass
        elif action == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not self.receiver.is_closing(0.02):
                self.wfile.write(b"x")

    def _is_gone(self) -> bool:
        self.connection.settimeout(0.01)
        with suppress(TimeoutError):
            return not self.connection.recv(1)
        return False

    def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "2", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None: ...
