"""Security headers on every answer, and a check of the Host header.

Another site must not read this page, neither in a frame nor through a DNS name of its own that points here
("DNS rebinding"). So the Host must be a known name or an IP address, which cannot be rebound.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
FOREIGN = "This page does not answer to that host name. Add it to STATUS_HOSTS if it is yours.\n"


class Protection:
    """Refuses unknown hosts and adds the headers to every answer.

    names    host names that are accepted, besides IP addresses, localhost and the machine's own name
    open     paths that are answered for any Host; they contain nothing confidential
    """

    def __init__(self, app: ASGIApp, names: Collection[str], open: Collection[str] = ()) -> None:  # noqa: A002
        self._app = app
        self._names = {name.lower() for name in (*names, "localhost", socket.gethostname())}
        self._open = frozenset(open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["path"] not in self._open and not self._is_ours(Headers(scope=scope).get("host", "")):
            await PlainTextResponse(FOREIGN, 421)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)

    def _is_ours(self, host: str) -> bool:
        name = _without_port(host)
        return name in self._names or _is_address(name)


def _without_port(host: str) -> str:
    """
    >>> _without_port("[::1]:8321"), _without_port("Shop.example:80")
    ('::1', 'shop.example')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
