"""What can go wrong at the tenant, on command and while it runs.

Each method adds a rule; a request suffers the first rule that matches it (delays come on top).
Every rule takes the same conditions, all optional:

    kind     `page` (the default), `count`, `single`, `prices`, `stock`, `reference`, `write`, `token`,
             `other`, None for any
    times    only so many requests, then the rule is spent; None lasts until `clear`
    after    only pages whose cursor (`entity_id gt`) is at least this id
    page     only the n-th page request, counted from 1 since the start or the last `clear`
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from email.utils import formatdate
from math import ceil
from typing import Any, Literal, TypedDict, Unpack

from sync.sandbox import replies
from sync.sandbox.families import NAMES, Kind
from sync.sandbox.quotas import LIMITERS, Limiter, LimiterKind, Workers
from sync.sandbox.replies import Cut, Reply

# What `break_item` calls an item of each family by.
KEYS: Mapping[str, str] = {
    "attributes": "attribute_code",
    "attribute_sets": "attribute_set_id",
    "categories": "id",
    "stock": "sku",
}


class Conditions(TypedDict, total=False):
    """When a rule applies; see the top of this file."""

    kind: Kind | None
    times: int | None
    after: int | None
    page: int | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a rule can see of a request; `page` counts page requests from 1, 0 for another kind."""

    kind: Kind
    after_id: int | None
    page: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What happens to a request; the defaults let it pass.

    reply      answered in place of the tenant
    cut        the tenant's answer breaks off
    echo       search criteria echoed in place of the true ones
    twist      the products of a page are sent in reverse, or those of another order are, or none are
    seconds    the answer is delayed
    """

    reply: Reply | None = None
    cut: Cut | None = None
    echo: dict[str, Any] | None = None
    twist: Literal["reversed", "unsorted", "empty"] | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CountFault:
    """How `total_count` is wrong; see `Faults.miscount`."""

    by: int = 0
    product_id: int | None = None
    only_filled: bool = False
    only_ranges: bool = False


@dataclass(slots=True)
class _FaultRule:
    effect: Effect
    conditions: Conditions
    used: int = 0

    def matches(self, asked: Asked) -> bool:
        kind, times = self.conditions.get("kind", "page"), self.conditions.get("times")
        after, page = self.conditions.get("after"), self.conditions.get("page")
        return (
            kind in (None, asked.kind)
            and (times is None or self.used < times)
            and (after is None or (asked.after_id is not None and asked.after_id >= after))
            and page in (None, asked.page)
        )


class Faults:
    """The script of a tenant's troubles.

    clock     the tenant's, for quotas and `Retry-After` dates
    revoke    makes every token invalid that was issued so far
    """

    def __init__(self, clock: Callable[[], float], revoke: Callable[[], None]) -> None:
        self._clock = clock
        self.revoke_tokens = revoke
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._rules: list[_FaultRule] = []
        self._poisoned: set[int] = set()
        self._forbidden: set[str] = set()
        self._broken: set[tuple[str, str]] = set()
        self._firewall: dict[str, Reply] = {}
        self._dropped: set[str] = set()
        self._miscount = CountFault()
        self._max_products: int | None = None
        self._max_bytes: int | None = None
        self._limiter: Limiter | None = None
        self._retry_after: Literal["seconds", "date"] | None = None
        self._workers: Workers | None = None
        self._pages = 0

    def clear(self) -> None:
        """Everything is well again."""
        with self._lock:
            self._forget()

    # Rules

    def fail(
        self,
        status: int = 503,
        *,
        headers: Mapping[str, str] | None = None,
        body: str | dict[str, Any] | None = None,
        content_type: str = replies.JSON,
        **conditions: Unpack[Conditions],
    ) -> None:
        """Answer `status`: the web server's page, or `body` (an object becomes JSON)."""
        reply = replies.error_page(status) if body is None else replies.with_body(status, body, content_type)
        self._add(Effect(reply=replace(reply, headers=dict(headers or {}))), conditions)

    def deny(self, status: Literal[401, 403] = 401, **conditions: Unpack[Conditions]) -> None:
        """Refuse permission: 401 as Commerce does, 403 as the gateway does; see also `forbid`."""
        reply = replies.not_authorized("Magento_Catalog::products")
        if status == 403:
            reply = replies.gateway(403, "403025", "Profile is not valid")
        self._add(Effect(reply=reply), conditions)

    def reset(self, **conditions: Unpack[Conditions]) -> None:
        """Kill the connection in the middle of the answer."""
        self._add(Effect(cut="reset"), conditions)

    def truncate(self, **conditions: Unpack[Conditions]) -> None:
        """End a chunked answer half-way."""
        self._add(Effect(cut="truncate"), conditions)

    def html(self, **conditions: Unpack[Conditions]) -> None:
        """Status 200 and a login page."""
        self._add(Effect(reply=replies.login_page()), conditions)

    def empty(self, **conditions: Unpack[Conditions]) -> None:
        """An outage that looks like an empty shop: no items, total 0."""
        self._add(Effect(twist="empty"), conditions)

    def garble(self, search_criteria: dict[str, Any], **conditions: Unpack[Conditions]) -> None:
        """Echo other search criteria than were sent, as a cache in between would."""
        self._add(Effect(echo=search_criteria), conditions)

    def shuffle(self, **conditions: Unpack[Conditions]) -> None:
        """Send the products of a page in descending order, whatever was asked."""
        self._add(Effect(twist="reversed"), conditions)

    def unsort(self, **conditions: Unpack[Conditions]) -> None:
        """Ignore the order that was asked for: a page brings other products than it should."""
        self._add(Effect(twist="unsorted"), conditions)

    def slow(self, seconds: float, **conditions: Unpack[Conditions]) -> None:
        """Answer later, and then as if nothing were wrong."""
        self._add(Effect(seconds=seconds), conditions)

    # States

    def poison(self, product_id: int) -> None:
        """Every answer that would contain this product is an error 500."""
        with self._lock:
            self._poisoned.add(product_id)

    def cure(self, product_id: int) -> None:
        with self._lock:
            self._poisoned.discard(product_id)

    def forbid(self, family: str) -> None:
        """Answer one family of endpoints as for a missing permission, with 401; the rest works.

        family    a name of `families.Family`: `prices`, `stock`, `attributes`, `categories`, …
        """
        if family not in NAMES:
            raise ValueError(f"unknown; there are {', '.join(sorted(NAMES))}")
        with self._lock:
            self._forbidden.add(family)

    def permit(self, family: str) -> None:
        with self._lock:
            self._forbidden.discard(family)

    def break_item(self, family: str, key: str | int) -> None:
        """Every list page and single answer that would contain this item is an error 500, for ever.

        family    `attributes`, `attribute_sets`, `categories` or `stock`
        key       attribute code, id, or the SKU of a source item
        An attribute whose source class is gone answers like that: observed on Magento 2.4.7.
        """
        with self._lock:
            self._broken.add((family, str(key)))

    def mend_item(self, family: str, key: str | int) -> None:
        with self._lock:
            self._broken.discard((family, str(key)))

    def firewall(
        self, text: str, status: int = 403, body: str | dict[str, Any] | None = None, content_type: str = ""
    ) -> None:
        """Refuse every request whose URL or body contains this text, with an HTML page or `body`."""
        reply = replies.web_server_page(status, "Request Rejected")
        if body is not None:
            reply = replies.with_body(status, body, content_type or replies.JSON)
        with self._lock:
            self._firewall[text] = reply

    def miscount(
        self, by: int, *, product_id: int | None = None, only_filled: bool = False, only_ranges: bool = False
    ) -> None:
        """`total_count` is wrong by so many, as an extension's join makes it; 0 mends it.

        product_id     only where this product is in the list
        only_filled    only where anything is
        only_ranges    not where products are asked for by their ids
        """
        with self._lock:
            self._miscount = CountFault(by, product_id, only_filled, only_ranges)

    def miscounted(self, ids: Sequence[int], *, by_ids: bool) -> int:
        """By how many the count of these products is wrong."""
        rule = self._miscount
        if (rule.only_filled and not ids) or (rule.only_ranges and by_ids):
            return 0
        return rule.by if rule.product_id is None or rule.product_id in ids else 0

    @property
    def miscounts(self) -> bool:
        return self._miscount.by != 0

    def drop_store_view(self, code: str) -> None:
        """Delete a store view: its code is unknown from now on."""
        with self._lock:
            self._dropped.add(code)

    def memory(self, *, max_products: int | None = None, max_bytes: int | None = None) -> None:
        """Larger pages run out of memory; None for both lifts the limit."""
        with self._lock:
            self._max_products, self._max_bytes = max_products, max_bytes

    def quota(
        self,
        limit: float | None,
        window: float = 1.0,
        *,
        retry_after: Literal["seconds", "date"] | None = "seconds",
        kind: LimiterKind = "fixed_window",
    ) -> None:
        """Answer 429 beyond `limit` requests in `window` seconds; None lifts it. Token requests are free."""
        with self._lock:
            self._limiter = None if limit is None else LIMITERS[kind](limit, window)
            self._retry_after = retry_after

    def workers(
        self,
        count: int | None,
        seconds_per_page: float = 0.0,
        *,
        seconds_per_request: float = 0.0,
        seconds_per_product: float = 0.0,
    ) -> None:
        """Work on `count` requests at once, the others queue; None gives every request its own worker."""
        busy = None
        if count is not None:
            busy = Workers(count, seconds_per_page, seconds_per_request, seconds_per_product)
        with self._lock:
            self._workers = busy

    # Asked by the tenant

    def judge(self, kind: Kind, after_id: int | None) -> Effect:
        """Decide on a request, and count it against the rules it meets."""
        with self._lock:
            self._pages += kind == "page"
            asked = Asked(kind, after_id, self._pages if kind == "page" else 0)
            met = [rule for rule in self._rules if rule.matches(asked)]
            delays = [rule for rule in met if rule.effect.seconds]
            decisive = [rule for rule in met if not rule.effect.seconds][:1]
            for rule in delays + decisive:
                rule.used += 1
            effect = decisive[0].effect if decisive else Effect(reply=self._throttled(kind))
            return replace(effect, seconds=sum(rule.effect.seconds for rule in delays))

    def blocked(self, sent: str) -> Reply | None:
        """What the firewall answers to a request with this URL and body; None when it lets it pass."""
        with self._lock:
            return next((reply for text, reply in self._firewall.items() if text in sent), None)

    def breaks(self, family: str, items: Iterable[Mapping[str, Any]]) -> bool:
        """Whether an answer with these items cannot be made."""
        with self._lock:
            broken = {key for name, key in self._broken if name == family}
            member = KEYS.get(family, "")
            return bool(broken) and any(str(item.get(member)) in broken for item in items)

    def forbids(self, family: str) -> bool:
        return family in self._forbidden

    def drops(self, store_view: str) -> bool:
        return store_view in self._dropped

    def room(self) -> AbstractContextManager[None]:
        """Hold one of the workers."""
        workers = self._workers
        return nullcontext() if workers is None else workers.room()

    def service_s(self, products: int | None) -> float:
        workers = self._workers
        return 0.0 if workers is None else workers.service_s(products)

    def refuse_page(self, ids: list[int], size: int) -> Reply | None:
        """The error a page of these products ends in, None when it can be sent; `size` in bytes."""
        with self._lock:
            if not self._poisoned.isdisjoint(ids):
                return replies.internal_error()
            too_many = self._max_products is not None and len(ids) > self._max_products
            too_large = self._max_bytes is not None and size > self._max_bytes
            return replies.out_of_memory() if too_many or too_large else None

    def _add(self, effect: Effect, conditions: Conditions) -> None:
        with self._lock:
            self._rules.append(_FaultRule(effect, conditions))

    def _throttled(self, kind: Kind) -> Reply | None:
        now = self._clock()
        wait_s = self._limiter.wait_s(now) if self._limiter and kind != "token" else 0.0
        if not wait_s:
            return None
        after = {"seconds": str(ceil(wait_s)), "date": formatdate(ceil(now + wait_s), usegmt=True)}
        headers = {"Retry-After": after[self._retry_after]} if self._retry_after else {}
        return replace(replies.gateway(429, "429050", "Too many requests"), headers=headers)
