"""The wire itself: one `requests` session, and bodies read up to a limit.

What both the token endpoint and Commerce need; what an answer means is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from http.cookiejar import DefaultCookiePolicy

import requests
from requests.adapters import HTTPAdapter

_CHUNK = 1 << 18


class BodyTooLarge(requests.RequestException):
    """The decoded body is longer than allowed; the rest was not read."""


def open_session(user_agent: str, *, pool_size: int = 4, ca_bundle: str | None = None) -> requests.Session:
    """A session that keeps connections but no cookies, knows the environment's proxies, retries nothing.

    user_agent   our own: firewalls in front of shops block the defaults of libraries
    pool_size    most connections kept to a host: as many as there are requests in flight
    ca_bundle    path of a private CA; None uses the system's. Verification cannot be turned off.

    Every request must be given its own `auth`: without one, requests would let `~/.netrc` overwrite the
    Authorization header.
    """
    session = requests.Session()
    session.headers.update(
        {"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "gzip"}
    )
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.verify = ca_bundle or True
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_connections=2, pool_maxsize=pool_size, max_retries=0))
    return session


def read_body(response: requests.Response, limit: int) -> bytes:
    """The whole body, decoded.

    Raises BodyTooLarge behind `limit` bytes, and requests' ChunkedEncodingError when the connection ends
    before the announced length or the last chunk: a truncated body is never returned.
    """
    return b"".join(_chunks(response, limit))


def _chunks(response: requests.Response, limit: int) -> Iterator[bytes]:
    read = 0
    for chunk in response.iter_content(_CHUNK):
        read += len(chunk)
        if read > limit:
            raise BodyTooLarge
        yield chunk
