"""A server that says back all it was sent, decoded: as IMS, as Commerce, as a proxy or as PostgreSQL."""

from __future__ import annotations

import base64
import html
import json
import re
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote_plus


@contextmanager
def http_echo(status: int, form: str = "json") -> Iterator[int]:
    """The port of a server that answers everything with `status`.

    form    `json` as Commerce and IMS complain, `html`, or `text`
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            said = " ".join(_bare([body, *map(str, self.headers.values())]) or [self.path])
            content = {
                "json": json.dumps({"message": f"what? {said}", "error": f"no: {said}"}),
                "html": f"<title>{html.escape(said)}</title>",
                "text": said,
            }[form].encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if form == "json" else f"text/{form}")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Location", f"http://{body or 'here'}@127.0.0.1/{body}")
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_CONNECT = do_GET  # noqa: N815 -- the names of http.server

        def log_message(self, *args: object) -> None: ...

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield port


@contextmanager
def postgres_that_says(words: str) -> Iterator[int]:
    """The port of a server that answers PostgreSQL's start of a session with this error."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while (start := self.request.recv(4096)) and start[4:8] in (
                b"\x04\xd2\x16\x2f",
                b"\x04\xd2\x16\x30",
            ):
                self.request.sendall(b"N")
            fields = b"SFATAL\0VFATAL\0C28P01\0M" + words.encode() + b"\0\0"
            self.request.sendall(b"E" + struct.pack("!i", len(fields) + 4) + fields)

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    with _serving(server) as port:
        yield port


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _bare(sent: list[str]) -> list[str]:
    """The credentials in a form and in headers, without the names that would give them away."""
    found = []
    for text in sent:
        found += re.findall(r"client_secret=([^&]*)|oauth_token=\"([^\"]*)|Bearer (.*)", text)
        if text.startswith("Basic "):
            found.append((base64.b64decode(text[6:]).decode(), text[6:], ""))
    each = [secret for secrets in found for secret in secrets if secret]
    return [*each, *map(unquote_plus, each)]
