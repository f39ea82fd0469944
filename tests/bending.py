"""A man in the middle: passes requests on to a sandbox, and bends what comes back, as a seed says.

Products are left alone, `hostile.py` is about them; this is about everything that stands beside them.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.hostile import ODD_TOKENS, bent

TOKENS = (
    *ODD_TOKENS,
    b'"NaN"',
    b'"Infinity"',
    b'"1e400"',
    b"-99999999999999999999999",
    b'"99999999999999999999"',
    b'"0001-01-01T00:00:00+14:00"',
    b'"9999-12-31T23:59:59-14:00"',
    b'"' + b"k" * 300 + b'"',
)


@dataclass
class Bender:
    """Bends a share of the answers about what is no product.

    share    how often, from 0 to 1
    bent     how many so far
    """

    target: str
    share: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    url: str = ""
    bent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: bytes) -> bytes:
        if "/V1/" not in path or urlsplit(path).path.endswith("/V1/products"):
            return body
        with self._lock:
            if self.chance.random() >= self.share:
                return body
            self.bent += 1
            return self._bend(body)

    def _bend(self, body: bytes) -> bytes:
        document = json.loads(body)
        places = [place for place in _values(document) if "search_criteria" not in place]
        if not places:
            return body
        return bent(document, self.chance.choice(places), self.chance.choice(TOKENS))


def _values(part: Any, path: tuple[Any, ...] = ()) -> Iterator[list[Any]]:
    """The path of each value that is no list or object, of the first eight entries of a list."""
    if not isinstance(part, dict | list):
        yield list(path)
        return
    for key, member in part.items() if isinstance(part, dict) else enumerate(part[:8]):
        yield from _values(member, (*path, key))


@contextmanager
def bending(target: str) -> Iterator[Bender]:
    """Stand before the host at `target`, on a free port."""
    bender = Bender(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name != "Accept-Encoding"}
            there = HTTPConnection(urlsplit(bender.target).netloc, timeout=10)
            there.request(self.command, self.path, sent, headers)
            answer = there.getresponse()
            body = answer.read()
            there.close()
            if answer.status == 200:
                body = bender.answer(self.path, body)
            self.send_response_only(answer.status)
            for name in ("Content-Type", "Date"):
                self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _pass_on  # noqa: N815

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    bender.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield bender
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
