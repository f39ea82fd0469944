"""HTTP/1.1 as the sandbox speaks it: keep-alive, gzip, chunked answers, and connections that break.

Knows nothing of products: it hands each request to `answer` and sends back what that returns.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from sync.sandbox.replies import JSON, Reply
from sync.sandbox.tenant import Request

GZIP_FROM = 1_000  # bytes; the web server leaves smaller bodies alone
SESSION_LIFE = 3_600

Answer = Callable[[Request], Reply]


class Server(ThreadingHTTPServer):
    """A server with a thread per connection.

    answer    called in a thread per connection
    clock     gives the `Date` of every answer
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], answer: Answer, clock: Callable[[], float]) -> None:
        self.answer = answer
        self.clock = clock
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; anything else is ours and is printed."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """Close every connection that a client keeps alive."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):  # the client was faster
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def _serve(self) -> None:
        reply = self.server.answer(self._request())
        body = b"" if self.command == "HEAD" else reply.body
        if reply.content_type == JSON and body:
            self._send_chunked(reply, body)
        else:
            self._send_whole(reply, body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _serve  # noqa: N815

    def _request(self) -> Request:
        split = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        return Request(
            method=self.command,
            url=f"http://{self.headers.get('Host', '')}{split.path}",
            path=split.path,
            query=split.query,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length),
        )

    def _head(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        now = self.server.clock()
        self.send_header("Date", formatdate(now, usegmt=True))
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Vary", "Accept-Encoding")
        self.send_header("Cache-Control", "no-store")
        if reply.status == 200:
            expires = f"expires={formatdate(now + SESSION_LIFE, usegmt=True)}; Max-Age={SESSION_LIFE}"
            self.send_header("Set-Cookie", f"PHPSESSID=sandbox; {expires}; path=/; HttpOnly; SameSite=Lax")
        for name, value in reply.headers.items():
            self.send_header(name, value)

    def _send_whole(self, reply: Reply, body: bytes) -> None:
        self._head(reply)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._write(body, reply, b"")

    def _send_chunked(self, reply: Reply, body: bytes) -> None:
        self._head(reply)
        if len(body) >= GZIP_FROM and "gzip" in self.headers.get("Accept-Encoding", ""):
            self.send_header("Content-Encoding", "gzip")
            body = _gzipped(body)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n" % len(body))
        self._write(body, reply, b"\r\n0\r\n\r\n")

    def _write(self, body: bytes, reply: Reply, end: bytes) -> None:
        """Send the body, half of it when the answer is to break off."""
        if reply.cut is None:
            self.wfile.write(body)
            self.wfile.write(end)
            return
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.close_connection = True
        if reply.cut == "reset":
            self._reset()

    def _reset(self) -> None:
        """Close without a farewell: the client's next read fails with ECONNRESET."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Requests are kept in `Sandbox.requests`, not printed."""


def _gzipped(body: bytes) -> bytes:
    press = zlib.compressobj(1, zlib.DEFLATED, 31)
    return press.compress(body) + press.flush()
