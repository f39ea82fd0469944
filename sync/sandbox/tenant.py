"""The tenant itself: a request becomes the answer that Commerce would give.

Two doors lead to the same shop. `/sandbox/V1/…` is the SaaS form: IMS token, gateway headers, store
view in the `Store` header. `/rest/<store view>/V1/…` is the PaaS form, with Commerce's own checks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus

from sync.sandbox import fields, phpjson, replies, stores
from sync.sandbox.access import Gateway, Integration, TokenOffice
from sync.sandbox.catalogue import ALL, Catalogue
from sync.sandbox.companions import REQUIRES_CRITERIA, Companions
from sync.sandbox.criteria import ParsedCriteria, parse
from sync.sandbox.documents import Document
from sync.sandbox.families import Kind, family_of, kind_of
from sync.sandbox.faults import Effect, Faults
from sync.sandbox.replies import Refused, Reply
from sync.sandbox.search import Search

SAAS, PAAS, TOKENS = "/sandbox", "/rest", "/ims/token/v3"
MAX_URL = 8_500  # 1,000 ids in one filter were fine, 1,500 gave a 414: observed on Magento 2.4.7
PRODUCTS = "V1/products"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are in lower case, `url` is absolute and without the query."""

    method: str
    url: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """A request as the API understands it.

    route         path behind the door, `V1/products` for example
    store_view    None when it names none that exists
    criteria      of a list
    refusal       the answer to a list whose criteria Commerce does not accept
    """

    kind: Kind
    route: str
    store_view: str | None
    criteria: ParsedCriteria = ParsedCriteria()  # noqa: RUF009 - frozen
    refusal: Reply | None = None


class SimulatedTenant:
    """Answers requests; the parts it is made of can be edited from outside at any time."""

    def __init__(
        self,
        catalogue: Catalogue,
        companions: Companions,
        faults: Faults,
        tokens: TokenOffice,
        gateway: Gateway,
        integration: Integration,
        store_views: Sequence[str],
        max_page_size: int,
        wait: Callable[[float], Any],
    ) -> None:
        self._catalogue = catalogue
        self._companions = companions
        self._search = Search(catalogue)
        self._faults = faults
        self._tokens = tokens
        self._gateway = gateway
        self._integration = integration
        self._store_views = tuple(store_views)
        self._max_page_size = max_page_size
        self._wait = wait

    def understand(self, request: Request) -> Call:
        """What a request asks for."""
        if request.path == TOKENS:
            return Call("token", "", None)
        store_view, route = self._scope(request)
        kind = _kind(request, route)
        if kind not in ("page", "count") and not _is_companion_list(request.method, route):
            return Call(kind, route, store_view)
        is_required = REQUIRES_CRITERIA.get(route, True)
        try:
            criteria = parse(request.query, self._max_page_size, is_required=is_required)
            return Call(kind, route, store_view, criteria)
        except Refused as refused:
            return Call(kind, route, store_view, refusal=refused.reply)

    def answer(self, request: Request, call: Call) -> Reply:
        """The answer to a request, whatever the faults make of it."""
        effect = self._faults.judge(call.kind, call.criteria.after_id)
        if effect.seconds:
            self._wait(effect.seconds)
        if effect.reply is not None:
            return effect.reply
        if (blocked := self._faults.blocked(_sent(request))) is not None:
            return blocked
        try:
            reply = self._admitted(request, call, effect)
        except Refused as refused:
            reply = refused.reply
        return replace(reply, cut=effect.cut)

    def _scope(self, request: Request) -> tuple[str | None, str]:
        """Store view and route of a path behind one of the doors."""
        path = request.path
        if path.startswith(f"{SAAS}/"):
            named = request.headers.get("store", self._store_views[0])
            return self._known_view(named), path.removeprefix(f"{SAAS}/").strip("/")
        rest = path.removeprefix(PAAS).strip("/")
        first, _, behind = rest.partition("/")
        if first == "V1":
            return self._store_views[0], rest
        return self._known_view(first), behind

    def _known_view(self, code: str) -> str | None:
        return code if code == ALL or code in self._views() else None

    def _views(self) -> list[str]:
        return [code for code in self._store_views if not self._faults.drops(code)]

    def _admitted(self, request: Request, call: Call, effect: Effect) -> Reply:
        if len(request.path) + len(request.query) > MAX_URL:
            return replies.web_server_page(414, "Request-URI Too Large")
        if call.kind == "token":
            return self._token(request)
        self._authorize(request, call)
        with self._faults.room():
            reply = self._dispatch(request, call, effect)
            products = reply.items_count if call.kind in ("page", "count") else None
            self._wait(self._faults.service_s(products))
        return reply

    def _token(self, request: Request) -> Reply:
        if request.method != "POST":
            return replies.no_route()
        return self._tokens.issue(dict(parse_qsl(request.body.decode())))

    def _authorize(self, request: Request, call: Call) -> None:
        """Let the request in, or raise Refused with what the door answers."""
        family = family_of(call.route)
        if request.path.startswith(f"{SAAS}/"):
            self._gateway.check(request.headers)
            if call.store_view is None:
                raise Refused(replies.no_route())
        elif request.path.startswith(f"{PAAS}/"):
            if call.store_view is None:
                raise Refused(replies.message(400, "Specified request cannot be processed."))
            sent = (request.method, request.url, request.query, request.headers)
            self._integration.check(*sent, family.resource)
        else:
            raise Refused(replies.no_route())
        if self._faults.forbids(family.name):
            raise Refused(replies.not_authorized(family.resource))

    def _dispatch(self, request: Request, call: Call, effect: Effect) -> Reply:
        if request.method not in ("GET", "POST", "PUT", "DELETE"):
            return replies.message(405, f"The {request.method} HTTP method is not supported.")
        if request.headers.get("accept", "").startswith("text/html"):
            return replies.error_page(500)
        if call.refusal is not None:
            return call.refusal
        store_view = call.store_view or ALL
        if call.kind in ("page", "count"):
            return self._list(call.criteria, store_view, _fields(request.query), effect)
        if kind_of(request.method, call.route) is not None:
            return self._companion(request, call, store_view, effect)
        if call.route == PRODUCTS and request.method == "POST":
            return self._save(_product(request.body), store_view)
        if call.route.startswith(f"{PRODUCTS}/"):
            return self._one(request, unquote_plus(call.route.removeprefix(f"{PRODUCTS}/")), store_view)
        plain = stores.answers(self._views()).get(call.route) if request.method == "GET" else None
        return replies.no_route() if plain is None else replies.json_reply(200, plain)

    def _list(self, criteria: ParsedCriteria, store_view: str, wanted: str, effect: Effect) -> Reply:
        chosen = replace(criteria, sorts=()) if effect.twist == "unsorted" else criteria
        ids, total = self._search.select(chosen, store_view)
        if effect.twist == "reversed":
            ids.reverse()
        elif effect.twist == "empty":
            ids, total = [], 0
        if self._faults.miscounts:
            every = self._search.select(replace(criteria, page_size=0, current_page=1), store_view).ids
            by_ids = any(rule.condition == "in" for group in criteria.groups for rule in group)
            total = max(0, total + self._faults.miscounted(every, by_ids=by_ids))
        raws = self._catalogue.raws(ids, store_view)
        refusal = self._faults.refuse_page(ids, sum(map(len, raws)))
        if refusal is not None:
            return refusal
        echo = phpjson.dumps(criteria.echo() if effect.echo is None else effect.echo)
        body = b'{"items":[%b],"search_criteria":%b,"total_count":%d}' % (b",".join(raws), echo, total)
        return Reply(200, _only(body, wanted), items_count=len(ids))

    def _companion(self, request: Request, call: Call, store_view: str, effect: Effect) -> Reply:
        """An endpoint beside products: a list under the same faults as theirs, or anything else it has."""
        wanted = _fields(request.query)
        if not _is_companion_list(request.method, call.route):
            sent = (request.method, call.route, request.query, request.headers, request.body)
            reply = self._companions.answer(*sent, store_view)
            answered = json.loads(reply.body)
            if isinstance(answered, dict) and self._faults.breaks(family_of(call.route).name, [answered]):
                return replies.internal_error()
            return replace(reply, body=_only(reply.body, wanted))
        items, total = self._companions.listing(call.route, call.criteria, store_view)
        if self._faults.breaks(family_of(call.route).name, items):
            return replies.internal_error()
        if effect.twist == "reversed":
            items.reverse()
        elif effect.twist == "empty":
            items, total = [], 0
        echo = call.criteria.echo() if effect.echo is None else effect.echo
        body = phpjson.dumps({"items": items, "search_criteria": echo, "total_count": total})
        return Reply(200, _only(body, wanted), items_count=len(items))

    def _one(self, request: Request, sku: str, store_view: str) -> Reply:
        found = self._catalogue.ids_with_sku(sku.rstrip())
        if request.method == "PUT":
            return self._save({**_product(request.body), "sku": sku}, store_view)
        if not found:
            return replies.no_product()
        if request.method == "DELETE":
            self._catalogue.delete(found[0])
            return replies.json_reply(200, True)
        refusal = self._faults.refuse_page(found[:1], 0)
        if refusal is not None:
            return refusal
        document = stores.with_stock(self._catalogue.document(found[0], store_view))
        return Reply(200, _only(phpjson.dumps(document), _fields(request.query)))

    def _save(self, product: Document, store_view: str) -> Reply:
        """Create or merge: a SKU that is taken makes a POST an update, and none is ever renamed."""
        sku = str(product.get("sku", "")).strip()
        if len(sku) > 64:
            return replies.message(400, "SKU length should be 64 characters maximum.")
        found = self._catalogue.ids_with_sku(sku)
        changes = {name: value for name, value in product.items() if name not in ("id", "sku")}
        if found:
            number = found[0]
            self._catalogue.edit_raw(number, changes, store_view=store_view)
        elif "price" not in product:
            text = 'The "Price" attribute value is empty. Set the attribute and try again.'
            return replies.message(400, text)
        else:
            number = self._catalogue.add(**{**changes, "sku": sku})
        return replies.json_reply(200, stores.with_stock(self._catalogue.document(number, store_view)))


def _is_companion_list(method: str, route: str) -> bool:
    return method == "GET" and route in REQUIRES_CRITERIA


def _kind(request: Request, route: str) -> Kind:
    companion = kind_of(request.method, route)
    if companion is not None:
        return companion
    if request.method in ("POST", "PUT", "DELETE"):
        return "write"
    if request.method != "GET":
        return "other"
    if route == PRODUCTS:
        return "page" if _sends_products(request.query) else "count"
    return "single" if route.startswith(f"{PRODUCTS}/") else "other"


def _product(body: bytes) -> Document:
    try:
        sent = json.loads(body)
    except json.JSONDecodeError as fault:
        raise Refused(replies.message(400, "Decoding error.")) from fault
    product = sent.get("product") if isinstance(sent, dict) else None
    if not isinstance(product, dict):
        text = '"%fieldName" is required. Enter and try again.'
        raise Refused(replies.message(400, text, {"fieldName": "product"}))
    return product


def _fields(query: str) -> str:
    return parse_qs(query).get("fields", [""])[0]


def _sends_products(query: str) -> bool:
    """Whether a list brings whole products; one that brings ids or the total alone is a count."""
    text = _fields(query)
    wanted = fields.parse(text) if text else None
    return wanted is None or wanted.get("items", {}) is None


def _only(body: bytes, wanted_text: str) -> bytes:
    if not wanted_text:
        return body
    wanted = fields.parse(wanted_text)
    if wanted is None:
        return b"[]"
    return phpjson.dumps(fields.apply(json.loads(body), wanted))


def _sent(request: Request) -> str:
    """URL and body, as a firewall looks at them."""
    url = f"{unquote_plus(request.path)}?{unquote_plus(request.query)}"
    return f"{url} {request.body.decode(errors='replace')}"
