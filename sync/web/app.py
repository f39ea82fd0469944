"""The status page: for people at `/`, for programs the same facts at `/api/`.

    Protection ── PasswordGate ── routes ── facts (pages.py) ──┬── HTML (templates/)
    (Host, headers)   (login)                                  └── JSON

With many tenants, `/` lists them, and each has the same pages under `/tenants/NAME`.

Read-only, except "run now", which needs STATUS_TOKEN and a daemon. With STATUS_PASSWORD, all need a login.
The pages contain no JavaScript. They are made in worker threads, a few at a time, so that a pass in progress
has priority.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio.to_thread
import msgspec
import sqlalchemy as sa
import structlog
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from sync.app import freshness_policy
from sync.errors import SyncError
from sync.monitor.outlook import failing_title
from sync.monitor.steady import SteadyAges
from sync.settings import Settings
from sync.web import formatting as words
from sync.web import pages, tenants
from sync.web.cached_counts import CachedCounts
from sync.web.login import PasswordGate
from sync.web.pages import BadQuery, Facts, NotFound, ShownCopy
from sync.web.protection import Protection
from sync.web.tenants import TenantDirectory

AT_ONCE = 4  # pages made at the same time
LIVE_S = 5  # until a page that shows a run in progress reloads
LONGEST_FORM = 4096  # bytes
STYLE = Path(__file__).with_name("static") / "page.css"
PAGES: dict[str, tuple[str, Callable[[ShownCopy, pages.Query], Facts]]] = {
    "/": ("overview", pages.overview),
    "/runs": ("runs", pages.runs),
    "/runs/{run_id:int}": ("run", pages.run),
    "/rejected": ("rejected", pages.rejected),
    "/changes": ("changes", pages.changes),
    "/products": ("products", pages.products),
    "/products/{store_view}/{product_id:int}": ("product", pages.product),
}
Endpoint = Callable[[Request], Awaitable[Response]]

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


def application(
    engine: sa.Engine,
    settings: Settings,
    *,
    extra_routes: Sequence[Route] = (),
    run_now: Callable[[], None] | None = None,
    ages: SteadyAges | None = None,
) -> Starlette:
    """The status page of one copy, for any ASGI server.

    extra_routes    answered for any Host, so they must contain nothing confidential
    run_now         requests an incremental pass; None if there is no daemon
    ages            of the copy, if another part of this process watches it
    """
    site = shown_copy(engine, settings, ages)
    ask = None if run_now is None else lambda _tenant: run_now()
    desk = Handlers(lambda _tenant: site, _token_of(settings), ask, many=False)
    return _guarded(_routes(desk), desk, settings, extra_routes)


def application_for(
    company: TenantDirectory,
    settings: Settings,
    *,
    extra_routes: Sequence[Route] = (),
    run_now: Callable[[str], None] | None = None,
) -> Starlette:
    """The status page of many tenants; arguments as above.

    run_now    called with the tenant's name
    """
    desk = Handlers(company.site, _token_of(settings), run_now, many=True)
    routes: list[BaseRoute] = [
        Route("/", desk.html("tenants", lambda _: tenants.overview(company)), methods=["GET"]),
        Route("/api", desk.json(lambda _: {"paths": ["/api/tenants", "/tenants/{tenant}/api"]})),
        Route("/api/tenants", desk.json(lambda _: tenants.overview(company)), methods=["GET"]),
        Mount("/tenants/{tenant}", routes=_routes(desk)),
    ]
    return _guarded(routes, desk, settings, extra_routes)


def shown_copy(engine: sa.Engine, settings: Settings, ages: SteadyAges | None = None) -> ShownCopy:
    """The copy that a tenant's pages show."""
    policy = freshness_policy(settings)
    return ShownCopy(engine, CachedCounts(engine), policy, ages or SteadyAges(policy.max_lag))


def _token_of(settings: Settings) -> str | None:
    return None if settings.status_token is None else settings.status_token.get_secret_value()


def _routes(desk: Handlers) -> list[BaseRoute]:
    """The pages of one copy."""
    paths = {path: f"/api{path if path != '/' else '/overview'}" for path in PAGES}
    routes: list[BaseRoute] = [
        Route("/api", desk.json(lambda _: {"paths": [*paths.values()]}), methods=["GET"]),
        Route("/run-now", desk.run, methods=["POST"]),
    ]
    for path, (name, read) in PAGES.items():
        routes.append(Route(path, desk.html(name, desk.at_site(read)), methods=["GET"]))
        routes.append(Route(paths[path], desk.json(desk.at_site(read)), methods=["GET"]))
    return routes


def _guarded(
    routes: list[BaseRoute], desk: Handlers, settings: Settings, extra_routes: Sequence[Route]
) -> Starlette:
    names = [*settings.status_hosts, *([settings.status_bind.host] if settings.status_bind else [])]
    probes = [route.path for route in extra_routes]
    guards = [Middleware(Protection, names=names, open=probes)]
    if settings.status_password is not None:
        password, free = settings.status_password.get_secret_value(), [*probes, "/page.css"]
        desk.has_password = True
        guards.append(
            Middleware(
                PasswordGate,
                password=password,
                open=free,
                ask=desk.ask_password,
                form=_form,
                is_foreign=_is_foreign,
            )
        )
    routes = [*routes, Route("/page.css", _style, methods=["GET"]), *extra_routes]
    return Starlette(routes=routes, middleware=guards, exception_handlers={HTTPException: desk.refuse})


async def _style(_request: Request) -> Response:
    return Response(_CSS, media_type="text/css", headers={"Cache-Control": "public, max-age=86400"})


_CSS = STYLE.read_bytes()
_CSS_VERSION = sha256(_CSS).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no page: the HTTP status, what happened, and what to do."""

    status: int
    words: str
    fix: str = ""


class Handlers:
    """Answers requests with facts or with an error.

    shown_copy    the copy to show, by the tenant's name; "" for an only one. May raise NotFound, SyncError
    token         the token that "run now" requires; None if it is off
    run_now       requests a pass of this tenant; None if there is no daemon
    many          whether there is a list of tenants
    """

    def __init__(
        self,
        shown_copy: Callable[[str], ShownCopy],
        token: str | None,
        run_now: Callable[[str], None] | None,
        *,
        many: bool,
    ) -> None:
        self._many = many
        self.has_password = False
        self._copy_of = shown_copy
        self._templates = words.environment()
        self._token = token if run_now is not None else None
        self._run_now = run_now
        self._turns = CapacityLimiter(AT_ONCE)

    # --- pages -------------------------------------------------------------------------------

    def at_site(self, read: Callable[[ShownCopy, pages.Query], Facts]) -> Callable[[Request], Facts]:
        """Read facts from the copy of the request's tenant."""
        return lambda request: read(self._copy_of(_tenant(request)), _query(request))

    def html(self, name: str, read: Callable[[Request], Facts]) -> Endpoint:
        """An endpoint that renders a template with facts."""

        def make(request: Request) -> Response:
            facts = read(request)
            return HTMLResponse(self._filled(name, request, facts), headers=_refresh(name, request, facts))

        return self._patient(make)

    def json(self, read: Callable[[Request], Facts]) -> Endpoint:
        """An endpoint that returns facts as JSON; times are ISO 8601, spans seconds."""
        return self._patient(lambda request: _as_json(read(request)))

    def _patient(self, make: Callable[[Request], Response]) -> Endpoint:
        """Run `make` in a worker thread; an error becomes a page, never a traceback."""

        async def endpoint(request: Request) -> Response:
            try:
                return await anyio.to_thread.run_sync(make, request, limiter=self._turns)
            except NotFound as error:
                failure = Failure(404, str(error))
            except BadQuery as error:
                failure = Failure(400, str(error))
            except SyncError as error:
                failure = Failure(503, f"{error}", error.fix)
            except Exception as fault:  # noqa: BLE001 - the page must not disturb the daemon
                _log.error("page.failed", path=request.url.path, error=type(fault).__name__)
                failure = Failure(500, f"An internal error: {type(fault).__name__}.", "Please report it.")
            return self._failed(request, failure)

        return endpoint

    def _filled(self, name: str, request: Request, facts: Facts) -> str:
        shown = {
            **facts,
            "page": name,
            "many": self._many,
            "tenant": _tenant(request),
            "root": _root(request),
            "path": _path(request),
            "style": _CSS_VERSION,
            "has_password": self.has_password,
            "may_run": self._token is not None,
            "asked": request.query_params.get("asked") == "yes",
            "live": _is_live(name, request, facts),
            "bars": pages.bars,
            "failing_title": failing_title,
        }
        return self._templates.get_template(f"{name}.html").render(shown)

    # --- errors ------------------------------------------------------------------------------

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Answer Starlette's own errors: unknown path, wrong method."""
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
        said = {404: "This page does not exist.", 405: "This page does not support that method."}
        return self._failed(request, Failure(error.status_code, said.get(error.status_code, error.detail)))

    def _failed(self, request: Request, failure: Failure) -> Response:
        if _path(request).startswith("/api"):
            return _as_json({"error": failure.words, "fix": failure.fix or None}, failure.status)
        return HTMLResponse(self._filled("error", request, {"failure": failure}), failure.status)

    def ask_password(self, request: Request, status: int, said: str, back: str) -> Response:
        """The answer to a request without the password."""
        if "api" in request.url.path.split("/"):
            fix = "Send STATUS_PASSWORD by HTTP Basic, as `curl --user :PASSWORD` does."
            return _as_json({"error": said or "This needs the page's password.", "fix": fix}, status)
        return HTMLResponse(self._filled("login", request, {"words": said, "back": back}), status)

    # --- run now -----------------------------------------------------------------------------

    async def run(self, request: Request) -> Response:
        """Request a pass. The token is no cookie, so another site cannot send it."""
        if self._token is None or self._run_now is None:
            words = "Run now is not available here."
            return self._failed(request, Failure(404, words, "Set STATUS_TOKEN and use the daemon's page."))
        given = await _given_token(request)
        if _is_foreign(request) or not hmac.compare_digest(given.encode(), self._token.encode()):
            _log.warning("run_now.refused", **_whose(request))
            return self._failed(request, Failure(403, "The token does not match STATUS_TOKEN.", "Try again."))
        _log.info("run_now.asked", **_whose(request))
        await anyio.to_thread.run_sync(self._run_now, _tenant(request))
        if "authorization" in request.headers:
            return _as_json({"asked": True}, 202)
        return RedirectResponse(f"{_root(request)}/?asked=yes", 303)


async def _given_token(request: Request) -> str:
    """The token from `Authorization: Bearer`, else from the form; blank if there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return (await _form(request)).get("token", "")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; none if it is longer than LONGEST_FORM."""
    body = b""
    with suppress(ClientDisconnect):
        async for part in request.stream():
            body += part
            if len(body) > LONGEST_FORM:
                return {}
    return {name: texts[0] for name, texts in parse_qs(body.decode("utf-8", "replace")).items()}


def _is_foreign(request: Request) -> bool:
    """Whether the browser reports that another site sent this request."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")


def _tenant(request: Request) -> str:
    """The tenant of the requested page; "" for an only tenant and for the list."""
    return str(request.path_params.get("tenant", ""))


def _root(request: Request) -> str:
    """The path prefix of the tenant's pages."""
    return str(request.scope.get("root_path", ""))


def _path(request: Request) -> str:
    """The path without that prefix."""
    return request.url.path.removeprefix(_root(request))


def _whose(request: Request) -> dict[str, str | None]:
    """The client and the tenant, for the log."""
    client = request.client.host if request.client else None
    return {"client": client, **({"tenant": name} if (name := _tenant(request)) else {})}


def _query(request: Request) -> pages.Query:
    return {**request.query_params, **{name: str(value) for name, value in request.path_params.items()}}


def _is_live(name: str, request: Request, facts: Facts) -> bool:
    moving = facts.get("running") or facts.get("progress")
    return name in ("overview", "run") and bool(moving) and request.query_params.get("live") != "off"


def _refresh(name: str, request: Request, facts: Facts) -> dict[str, str]:
    """The header that reloads a page while it changes, unless the reader stopped that."""
    return {"Refresh": str(LIVE_S)} if _is_live(name, request, facts) else {}


def _as_json(facts: Facts, status: int = 200) -> Response:
    body = msgspec.json.encode(_plain(facts))
    return Response(body + b"\n", status, media_type="application/json")


def _plain(value: Any) -> Any:
    """Convert spans of time to seconds, recursively."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.total_seconds() if isinstance(value, timedelta) else value
