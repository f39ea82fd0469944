"""HTTP transport: a `requests` session, and bodies read up to a limit, for the token endpoint and Commerce.

Memory stays bounded whatever a server sends. A body is limited in bytes, received and decoded, and in values:
`{}` takes thirty times the memory of its text. Bodies of more than LARGE bytes are read and decoded one at a
time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http.cookiejar import DefaultCookiePolicy
from io import BytesIO
from threading import Event, RLock
from typing import Any, Final, Self

import requests
import urllib3
from requests.utils import get_environ_proxies

from sync.commerce.deadlines import Adapter, Deadlines

LONGEST_ANSWER_S: Final = 300.0  # a page of 300 took 70 s on the slowest server we met
LARGE: Final = 1 << 20
MOST_VALUES: Final = 250_000  # a page of 300 products has 25,000
QUEUE_S: Final = 10.0  # how long to wait while another thread reads a large body
_CHUNK = 1 << 16
_one_large = RLock()


class BodyTooLarge(requests.RequestException):
    """The body is longer than allowed, received or decoded, or has too many values; `str` says which."""


class BodyReader:
    """A context to read and decode an answer in; only one large answer at a time in a process."""

    def __init__(self) -> None:
        self._is_open, self._has_turn = True, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        if self._has_turn:
            _one_large.release()

    def grow(self) -> None:
        """The body is large: wait until no other large one is read, at most QUEUE_S."""
        if self._is_open and not self._has_turn:
            self._has_turn = _one_large.acquire(timeout=QUEUE_S)


class Body:
    """A complete body, decoded on first use.

    wire      the bytes as received
    coding    the answer's `Content-Encoding`
    limit     bytes, decoded
    reading   the context of the first use
    """

    def __init__(
        self, wire: bytes, coding: str = "", limit: int = 0, reading: BodyReader | None = None
    ) -> None:
        self.wire = wire
        self.coding = coding
        self._limit = limit
        self._reading = reading
        self._content: bytes | None = None

    @property
    def content(self) -> bytes:
        """Decoded. Raises BodyTooLarge, and requests' ContentDecodingError."""
        if self._content is None:
            content = self._decoded() if self.coding else self.wire
            if len(content) > MOST_VALUES and sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:
                raise BodyTooLarge(f"more than {MOST_VALUES:,} values")
            if len(content) > LARGE and _WIDE.search(content):
                raise BodyTooLarge(f"more than {LARGE:,} bytes, with characters beyond U+FFFF")
            self._content = content
        return self._content

    def _decoded(self) -> bytes:
        answer = urllib3.HTTPResponse(
            BytesIO(self.wire), {"Content-Encoding": self.coding}, preload_content=False
        )
        try:
            return _joined(answer.stream(_CHUNK), self._limit, self._reading)
        except urllib3.exceptions.DecodeError as broken:
            raise requests.exceptions.ContentDecodingError(broken) from broken


# A text with one such character takes four bytes for each of its characters, decoded.
_WIDE = re.compile(rb"[\xf0-\xf4]|\\u[dD][89abAB]")


class _Session(requests.Session):
    """Uses only `verify`; requests would let REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE overrule it.

    The environment's proxies are read once per host; requests reads them for every request. Redirects are
    never followed; requests would still read their whole body and parse their target.
    """

    def __init__(self) -> None:
        super().__init__()
        self._proxies: dict[str, dict[str, str]] = {}

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        host = "/".join(url.split("/", 3)[:3])
        if host not in self._proxies:
            self._proxies[host] = get_environ_proxies(url, no_proxy=None)
        found = {**self._proxies[host], **(proxies or {})}
        return {"proxies": found, "stream": bool(stream), "verify": self.verify, "cert": cert}


def open_session(
    user_agent: str,
    *,
    pool_size: int = 4,
    ca_bundle: str | None = None,
    stop: Event | None = None,
    overdue: Event | None = None,
    longest_answer_s: float = LONGEST_ANSWER_S,
) -> requests.Session:
    """A session that keeps connections but no cookies, uses the environment's proxies and never retries.

    user_agent   our own: firewalls in front of shops block the defaults of libraries
    pool_size    most connections kept to a host: as many as requests in flight
    ca_bundle    path of a private CA; None uses the system's. Verification cannot be turned off.
    stop         once set, requests under way are cut off after GRACE_S
    overdue      while set, requests under way are cut off at once, as late
    longest_answer_s    from connecting to the last byte

    Every request must be given its own `auth`: without one, requests would let `~/.netrc` overwrite the
    Authorization header.
    """
    session = _Session()
    session.headers.update(
        {"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "gzip"}
    )
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.verify = ca_bundle or True
    for scheme in ("https://", "http://"):
        deadlines = Deadlines(stop, longest_answer_s, overdue)
        session.mount(scheme, Adapter(deadlines, pool_connections=2, pool_maxsize=pool_size, max_retries=0))
    return session


def read_body(response: requests.Response, limit: int, reading: BodyReader | None = None) -> Body:
    """Read the complete body.

    limit      bytes, received and decoded
    reading    required when the limit is above LARGE

    Raises BodyTooLarge after `limit` bytes, ReadTimeout when the whole body takes too long, and requests'
    ChunkedEncodingError when the connection ends early: a truncated body is never returned.
    """
    coding = response.raw.headers.pop("Content-Encoding", "")  # so that requests decodes nothing
    try:
        wire = _joined(response.iter_content(_CHUNK), limit, reading)
    except requests.RequestException:
        if _was_late(response):
            raise requests.ReadTimeout from None
        raise
    if _was_late(response):
        raise requests.ReadTimeout
    return Body(wire, coding, limit, reading)


def _was_late(response: requests.Response) -> bool:
    """End the request; whether it was cut off for taking too long."""
    connection: Any = response.connection
    return isinstance(connection, Adapter) and connection.deadlines.end()


def _joined(chunks: Iterable[bytes], limit: int, reading: BodyReader | None) -> bytes:
    """Join the chunks without a second copy."""
    whole, length = BytesIO(), 0
    for chunk in chunks:
        length += len(chunk)
        if length > limit:
            raise BodyTooLarge(f"more than {limit:,} bytes")
        if length > LARGE and reading is not None:
            reading.grow()
        whole.write(chunk)
    return whole.getvalue()
