"""The routes for machines: liveness, readiness, metrics.

/healthz    200 while the worker makes progress, 503 when it is stuck: restart it
/readyz     200 while the copy is fresh, 503 with the reasons: a restart would not help
/metrics    for Prometheus, in the format that it accepts
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync.errors import SyncError
from sync.monitor.freshness import Problem, sentence

_NO_STORE = {"Cache-Control": "no-store"}


def health_routes(
    alive: Callable[[], str | None],
    ready: Callable[[], Sequence[Problem]],
    exposition: Callable[[str], tuple[bytes, str]],
    outlook: Callable[[], dict[str, Any]] = dict,
) -> list[Route]:
    """The three routes. They contain nothing confidential.

    alive         why the process is not alive; None while it is
    ready         why the copy is not fresh; raises SyncError if that cannot be determined
    exposition    the metrics and their content type, for an Accept header
    outlook       what else `/readyz` reports: failures, waits, next runs
    """

    async def healthz(
        _request: Request,
    ) -> Response:  # not in a thread: all threads may be waiting for a database
        reason = alive()
        return _answer(reason is None, reason or "The process is alive.")

    def readyz(_request: Request) -> Response:
        try:
            problems = ready()
        except SyncError as error:
            return _answer(False, str(error), [Problem("database", "database", str(error))])
        return _answer(not problems, sentence(problems) or "The copy is fresh.", problems, outlook())

    def metrics(request: Request) -> Response:
        body, content_type = exposition(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type, **_NO_STORE})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def _answer(
    well: bool, reason: str, problems: Sequence[Problem] = (), outlook: Mapping[str, Any] | None = None
) -> Response:
    body = {"ok": well, "reason": reason, "problems": [problem.as_json() for problem in problems]}
    body |= outlook or {}
    return JSONResponse(body, 200 if well else 503, headers=_NO_STORE)
