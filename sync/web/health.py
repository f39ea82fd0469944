"""What machines ask: is the process alive, is the copy fresh, how does it go.

/healthz    200 while the worker moves, 503 once it is stuck: restart it
/readyz     200 while the copy is as fresh as promised, 503 with the reasons: do not restart it for that
/metrics    for Prometheus, in the form it prefers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
) -> list[Route]:
    """The three routes. They hold nothing that must not be seen.

    alive         why the process is not, None while it is
    ready         what keeps the copy from being fresh; raises SyncError where that cannot be found out
    exposition    the metrics and their content type, told what is accepted
    """

    async def healthz(_request: Request) -> Response:  # not in a thread: those may all wait for a database
        reason = alive()
        return _answer(reason is None, reason or "The process is alive.")

    def readyz(_request: Request) -> Response:
        try:
            problems = ready()
        except SyncError as error:
            return _answer(False, str(error), [Problem("database", "database", str(error))])
        return _answer(not problems, sentence(problems) or "The copy is fresh.", problems)

    def metrics(request: Request) -> Response:
        body, content_type = exposition(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type, **_NO_STORE})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def _answer(well: bool, reason: str, problems: Sequence[Problem] = ()) -> Response:
    body = {"ok": well, "reason": reason, "problems": [problem.as_json() for problem in problems]}
    return JSONResponse(body, 200 if well else 503, headers=_NO_STORE)
