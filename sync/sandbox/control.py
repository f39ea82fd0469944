"""The sandbox's own routes, for a test or a demo that runs it in another process.

They need no token and are not counted. Bodies and answers are JSON:

    GET  /_sandbox/stats       products, requests by kind, throttled, tokens issued
    GET  /_sandbox/requests    every request served so far, oldest first
    POST /_sandbox/<edit>      a method of `Catalogue` by its name: add, edit, edit_raw, restamp,
                               delete, delete_many, keep_only, restore, hide, show, late_commit,
                               add_document, ids_with_sku, sku; the body's members are its arguments
    POST /_sandbox/<edit>      likewise a method of `SimulatedReference` by its name (add_option, …),
                               and those of `SimulatedPrices` and `SimulatedStock`, as in
                               `COMPANION_EDITS`
    POST /_sandbox/faults      {"fault": "fail", "status": 503, "times": 2}: a method of `Faults`
    POST /_sandbox/clear       every fault is over

    curl -d '{"product_id": 7, "name": "Renamed"}' http://127.0.0.1:8330/_sandbox/edit
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from sync.sandbox import replies
from sync.sandbox.catalogue import Catalogue
from sync.sandbox.faults import Faults
from sync.sandbox.prices import SimulatedPrices
from sync.sandbox.reference import SimulatedReference
from sync.sandbox.replies import Reply
from sync.sandbox.served import Served
from sync.sandbox.stock import SimulatedStock
from sync.sandbox.tenant import Request

PREFIX = "/_sandbox/"

EDITS = {
    *("add", "add_document", "edit", "edit_raw", "restamp", "delete", "delete_many", "keep_only"),
    *("restore", "hide", "show", "late_commit", "ids_with_sku", "sku"),
}
REFERENCE_EDITS = {
    *("attributes", "options", "add_attribute", "delete_attribute", "add_option", "rename_option"),
    *("delete_option", "attribute_sets", "rename_attribute_set", "categories", "add_category"),
    *("rename_category", "delete_category"),
}
COMPANION_EDITS = {
    "set_base_price": ("prices", "set_base"),
    "set_base_prices": ("prices", "set_base_many"),
    "set_special_price": ("prices", "set_special"),
    "remove_special_price": ("prices", "remove_special"),
    "set_cost": ("prices", "set_cost"),
    "remove_cost": ("prices", "remove_cost"),
    "set_tier_prices": ("prices", "set_tiers"),
    "set_stock": ("stock", "set"),
    "remove_stock": ("stock", "remove"),
    "stock_rows": ("stock", "rows"),
}
FAULTS = {
    *("fail", "deny", "reset", "truncate", "html", "empty", "garble", "shuffle", "slow", "poison", "cure"),
    *("unsort", "miscount", "drop_store_view", "forbid", "permit", "break_item", "mend_item", "firewall"),
    *("memory", "quota", "workers", "revoke_tokens"),
}


class Editors(NamedTuple):
    """What can be edited from outside."""

    catalogue: Catalogue
    prices: SimulatedPrices
    stock: SimulatedStock
    reference: SimulatedReference


class Control:
    """Answers the routes above."""

    def __init__(self, editors: Editors, faults: Faults, requests: Callable[[], Sequence[Served]]) -> None:
        self._editors = editors
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
        return self._edit(name)(**arguments)

    def _edit(self, name: str) -> Callable[..., Any]:
        if name in COMPANION_EDITS:
            owner, method = COMPANION_EDITS[name]
            return _method(getattr(self._editors, owner), method, {method})
        if name in REFERENCE_EDITS:
            return _method(self._editors.reference, name, REFERENCE_EDITS)
        return _method(self._editors.catalogue, name, EDITS)

    def _stats(self) -> dict[str, Any]:
        served = self._requests()
        return {
            "products": len(self._editors.catalogue.listed()),
            "requests": Counter(one.kind for one in served),
            "throttled": sum(one.status == 429 for one in served),
            "tokens": sum(one.kind == "token" and one.status == 200 for one in served),
        }


def _method(owner: object, name: str, allowed: set[str]) -> Callable[..., Any]:
    if name not in allowed:
        raise ValueError(f"unknown; there are {', '.join(sorted(allowed))}")
    method: Callable[..., Any] = getattr(owner, name)
    return method
