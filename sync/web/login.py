"""STATUS_PASSWORD: a login before every page, for those without a proxy that has one.

    browser    posts the password to /login and gets a signed cookie for SESSION_S
    program    sends the password with each request: HTTP Basic, any user name

Some paths stay open: the health routes and the style sheet; `/run-now` asks for its own token. The key of the
cookies is derived from the password, so a new password ends every session, and a restart ends none.

Sources: OWASP, "Session Management" and "Authentication" cheat sheets; RFC 7617 (Basic).
"""

from __future__ import annotations

import binascii
import hmac
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, Collection
from hashlib import scrypt
from ipaddress import ip_address, ip_network
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE: Final = "product_sync_session"
SESSION_S: Final = 7 * 24 * 3600
FREE_GUESSES: Final = 5  # of one address; then each wrong one doubles the pause before the next
LONGEST_PAUSE_S: Final = 300.0
MOST_CLIENTS: Final = 1_000  # remembered; the oldest is forgotten first

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


class Guesses:
    """Wrong passwords by address, and how long each address must pause. Not for threads: one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: dict[str, tuple[int, float]] = {}

    def pause_s(self, client: str) -> float:
        """Seconds until this address may guess again."""
        _count, until = self._wrong.get(client, (0, 0.0))
        return max(0.0, until - self._clock())

    def wrong(self, client: str) -> None:
        count = self._wrong.pop(client, (0, 0.0))[0] + 1
        beyond = count - FREE_GUESSES
        pause_s = min(2.0 ** min(beyond, 20), LONGEST_PAUSE_S) if beyond >= 0 else 0.0
        self._wrong[client] = count, self._clock() + pause_s
        if len(self._wrong) > MOST_CLIENTS:
            del self._wrong[next(iter(self._wrong))]

    def right(self, client: str) -> None:
        self._wrong.pop(client, None)


class Sessions:
    """Makes and checks the values of the cookie: when the session ends, and a signature of that."""

    def __init__(self, password: str, clock: Callable[[], float] = time.time) -> None:
        self._key = scrypt(password.encode(), salt=b"product-sync status page", n=2**14, r=8, p=1)
        self._clock = clock

    def new(self) -> str:
        return self._signed(str(int(self._clock()) + SESSION_S))

    def is_valid(self, cookie: str) -> bool:
        until = cookie.partition(".")[0]
        is_ours = hmac.compare_digest(cookie.encode(), self._signed(until).encode())
        return is_ours and int(until) > self._clock()

    def _signed(self, until: str) -> str:
        return f"{until}.{hmac.digest(self._key, until.encode(), 'sha256').hex()}"


class PasswordGate:
    """Lets a request pass that has a session or the password; answers the others itself.

    open    paths that need no password
    ask     makes the answer to others: a status, a sentence for a person, the path to return to
    form    reads the fields of a small form
    """

    def __init__(
        self,
        app: ASGIApp,
        password: str,
        open: Collection[str],  # noqa: A002
        ask: Callable[[Request, int, str, str], Response],
        form: Callable[[Request], Awaitable[dict[str, str]]],
        is_foreign: Callable[[Request], bool],
    ) -> None:
        self._app, self._password, self._open = app, password.encode(), frozenset(open)
        self._ask, self._form, self._is_foreign = ask, form, is_foreign
        self._sessions, self._guesses = Sessions(password), Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_open(scope):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        path, is_post = scope["path"], scope["method"] == "POST"
        if path == "/login" and is_post:
            answer: Response | None = await self._login(request)
        elif path == "/logout" and is_post:
            answer = RedirectResponse("/", 303)
            answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        else:
            answer = self._refusal(request)
        await (answer or self._app)(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        asks_for_its_token = scope["method"] == "POST" and scope["path"].endswith("/run-now")
        return scope["path"] in self._open or asks_for_its_token

    def _refusal(self, request: Request) -> Response | None:
        """Why this request may not pass; None if it may."""
        if self._sessions.is_valid(request.cookies.get(COOKIE, "")):
            return None
        query = f"?{request.url.query}" if request.url.query else ""
        back = request.url.path + query if request.method == "GET" else "/"
        given = _basic_password(request)
        return self._ask(request, 401, "", back) if given is None else self._judge(request, given, back)

    async def _login(self, request: Request) -> Response:
        fields = await self._form(request)
        back = _local(fields.get("back", ""))
        if self._is_foreign(request):
            return self._ask(request, 403, "Another site sent this form. Log in here.", "/")
        if (refusal := self._judge(request, fields.get("password", ""), back)) is not None:
            return refusal
        answer = RedirectResponse(back, 303)
        is_tls = request.url.scheme == "https"
        answer.set_cookie(
            COOKIE, self._sessions.new(), max_age=SESSION_S, httponly=True, samesite="strict", secure=is_tls
        )
        return answer

    def _judge(self, request: Request, given: str, back: str) -> Response | None:
        """Compare a password, unless its sender must pause; None if it is right."""
        client = _address(request)
        if (pause_s := self._guesses.pause_s(client)) > 0:
            answer = self._ask(request, 429, f"Too many wrong passwords: wait {pause_s:.0f} s.", back)
            answer.headers["Retry-After"] = str(int(pause_s) + 1)
            return answer
        if hmac.compare_digest(given.encode(), self._password):
            self._guesses.right(client)
            return None
        self._guesses.wrong(client)
        _log.warning("login.refused", client=client)
        return self._ask(request, 401, "The password does not match STATUS_PASSWORD.", back)


def _basic_password(request: Request) -> str | None:
    """The password of `Authorization: Basic`; None without one."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(value.strip()).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _address(request: Request) -> str:
    """Who guesses: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    host = request.client.host if request.client else ""
    try:
        is_six = ip_address(host).version == 6
    except ValueError:
        return host
    return str(ip_network(f"{host.partition('%')[0]}/64", strict=False)) if is_six else host


def _local(path: str) -> str:
    r"""The path if it is one of this page, else the first page.

    >>> _local("/runs?kind=stock"), _local("//evil.example"), _local("/\\evil.example"), _local("https://x")
    ('/runs?kind=stock', '/', '/', '/')
    """
    is_local = path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable()
    return path if is_local else "/"
