"""The sandbox's own routes, for a test or a demo that runs it in another process.

They need no token and are not counted. Bodies and answers are JSON:

    GET  /_sandbox/stats       products, requests by kind, throttled, tokens issued
    GET  /_sandbox/requests    every request served so far, oldest first
    POST /_sandbox/<edit>      a method of `Catalogue` by its name: add, edit, edit_raw, restamp,
                               delete, delete_many, keep_only, restore, hide, show, late_commit,
                               add_document; the body's members are its arguments
    POST /_sandbox/faults      {"fault": "fail", "status": 503, "times": 2}: a method of `Faults`
    POST /_sandbox/clear       every fault is over

    curl -d '{"product_id": 7, "name": "Renamed"}' http://127.0.0.1:8330/_sandbox/edit
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sync.sandbox import replies
from sync.sandbox.catalogue import Catalogue
from sync.sandbox.faults import Faults
from sync.sandbox.replies import Reply
from sync.sandbox.served import Served
from sync.sandbox.tenant import Request

PREFIX = "/_sandbox/"

EDITS = {
    *("add", "add_document", "edit", "edit_raw", "restamp", "delete", "delete_many", "keep_only"),
    *("restore", "hide", "show", "late_commit"),
}
FAULTS = {
    *("fail", "deny", "reset", "truncate", "html", "empty", "garble", "shuffle", "slow", "poison", "cure"),
    *("memory", "quota", "workers", "revoke_tokens"),
}


class Control:
    """Answers the routes above."""

    def __init__(
        self, catalogue: Catalogue, faults: Faults, requests: Callable[[], Sequence[Served]]
    ) -> None:
        self._catalogue = catalogue
        self._faults = faults
        self._requests = requests

    def answer(self, request: Request) -> Reply:
        name = request.path.removeprefix(PREFIX)
        arguments = json.loads(request.body) if request.body else {}
        try:
            return replies.json_reply(200, self._do(name, arguments))
        except (KeyError, TypeError, ValueError) as fault:
            return replies.message(400, f"{name}: {fault}")

    def _do(self, name: str, arguments: dict[str, Any]) -> Any:
        if name == "stats":
            return self._stats()
        if name == "requests":
            return [asdict(served) for served in self._requests()]
        if name == "clear":
            return self._faults.clear()
        if name == "faults":
            fault = arguments.pop("fault")
            return _method(self._faults, fault, FAULTS)(**arguments)
        return _method(self._catalogue, name, EDITS)(**arguments)

    def _stats(self) -> dict[str, Any]:
        served = self._requests()
        return {
            "products": len(self._catalogue.listed()),
            "requests": Counter(one.kind for one in served),
            "throttled": sum(one.status == 429 for one in served),
            "tokens": sum(one.kind == "token" and one.status == 200 for one in served),
        }


def _method(owner: object, name: str, allowed: set[str]) -> Callable[..., Any]:
    if name not in allowed:
        raise ValueError(f"unknown; there are {', '.join(sorted(allowed))}")
    method: Callable[..., Any] = getattr(owner, name)
    return method
