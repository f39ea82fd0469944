"""A tenant whose products are bytes, whatever these say, and a mutator that makes them say odd things.

Everything comes from a seed: the same seed, the same catalogue and the same faults.
"""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Document = dict[str, Any]
TOKEN = b'{"access_token":"a-token","token_type":"bearer","expires_in":86399}'
_MARK = "\ue000"  # stands in a document for bytes that no encoder would write
_FILTER = re.compile(r"searchCriteria\[filterGroups\]\[(\d+)\]\[filters\]\[(\d+)\]\[(\w+)\]")

ODD_TOKENS = (
    b"null",
    b"true",
    b"false",
    b"0",
    b"-1",
    b"12.0",
    b"1e2",
    b"-0.0",
    b"9223372036854775807",
    b"9223372036854775808",
    b"1e400",
    b"-1e-400",
    b"0.1234567890123456789012345678901234567890",
    b"99999999999999.9999999",
    b"9" * 5_000,
    b"1e999999999",
    b"NaN",
    b"-Infinity",
    b'""',
    b'"0"',
    b'"12"',
    b'"text"',
    b'"0000-00-00 00:00:00"',
    b'"9999-12-31 23:59:59"',
    b'"2024-13-45 99:99:99"',
    b'"2024-05-01T08:00:00+14:00"',
    rb'"\u0000"',
    rb'"before\u0000after"',
    rb'"\ud800"',
    rb'"\udc00\ud800x"',
    rb'"\ud83e\uded6"',
    rb'"\u202e\ufeff\u2028"',
    b'"raw\ttab"',
    b'"raw\x00nul"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    b'"<script>alert(1)</script>"',
    b'"\'; DROP TABLE products; --"',
    b'"' + b"x" * 70_000 + b'"',
    b"[]",
    b"{}",
    b"[null]",
    b"[[]]",
    b'[{"id":1}]',
    b'{"a":{"b":[1,2,{"c":null}]}}',
    b'{"a":1,"a":2}',
    b"[" * 99 + b"]" * 99,
    b"[" * 900 + b"]" * 900,
    b'{"x":' * 300 + b"1" + b"}" * 300,
    b"[1,]",
    b"{unquoted:1}",
    b"'single'",
    b"012",
    b"+1",
    b"undefined",
    b"/* no */ 1",
)
# What is sent in place of a page's first answer. Behind each, the page itself may be had.
NOISE = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"<!doctype html><title>Just a moment</title>",
    b'{"items":null,"search_criteria":{},"total_count":0}',
    b'{"items":[],"search_criteria":{},"total_count":"7"}',
    b'{"items":{},"search_criteria":{},"total_count":7}',
    b'{"items":[',
    b"\xef\xbb\xbf{}",
    b"\x1f\x8b\x08\x00garbage",
    b'"' + b"[" * 100_000,
    b"[" * 100_000,
)


@dataclass(frozen=True)
class Item:
    """A product as it is sent.

    product_id    where it stands in the tenant's order, whatever its bytes say
    raw           its bytes
    clean         the document before it was mutated
    member        the member that was mutated, None for a healthy product
    token         the bytes that were put there; None where the member was left out or sent twice
    is_doubled    sent twice: which one is meant nobody can tell
    """

    product_id: int
    raw: bytes
    clean: Document
    member: str | None = None
    token: bytes | None = None
    is_doubled: bool = False


def catalogue(seed: int, products: int, oddity: float) -> list[Item]:
    """So many products, of which a share is odd."""
    chance = random.Random(seed)
    items, product_id = list[Item](), 0
    for _ in range(products):
        product_id += chance.choice((1, 1, 1, 2, 7))
        taken = [item.product_id for item in (*items[:1], *items[-1:])]
        items.append(_item(chance, product_id, taken, chance.random() < oddity))
    return items


def every_oddity() -> list[Item]:
    """A product for each odd token, as its name, and one for each as the value of an attribute."""
    chance, items = random.Random(1), list[Item]()
    for path in (["name"], ["custom_attributes", 0, "value"]):
        for token in ODD_TOKENS:
            product_id = len(items) + 1
            clean = _document(chance, product_id)
            items.append(Item(product_id, bent(clean, path, token), clean, str(path[0]), token))
    return items


def healed(items: list[Item]) -> list[Item]:
    """The same products, as healthy as they can be."""
    return [Item(item.product_id, _encoded(item.clean), item.clean) for item in items]


def _item(chance: random.Random, product_id: int, taken: list[int], odd: bool) -> Item:
    """A product; an odd one may bear the id of another, one of those `taken`."""
    clean = _document(chance, product_id)
    if not odd:
        return Item(product_id, _encoded(clean), clean)
    path = _place(chance, clean)
    member = path[0]
    match chance.randrange(8):
        case 0:
            raw = _encoded({name: value for name, value in clean.items() if name != member})
            return Item(product_id, raw, clean, member)
        case 1:
            twin = chance.choice((b"null", b'"twin"', b"7", b"[]"))
            raw = b'{"%b":%b,%b' % (member.encode(), twin, _encoded(clean)[1:])
            return Item(product_id, raw, clean, member, is_doubled=True)
        case _:
            others = [b"%d" % number for number in taken] if path == ["id"] else []
            token = chance.choice((*ODD_TOKENS, *10 * others))
            raw = bent(clean, path, token)
            return Item(product_id, raw, clean, member, token if len(path) == 1 else None)


def bent(document: Document, path: list[Any], token: bytes) -> bytes:
    """A document with these bytes in place of the value at `path`."""
    marked = json.loads(json.dumps(document))
    _replace(marked, path, _MARK)
    return _encoded(marked).replace(json.dumps(_MARK, ensure_ascii=False).encode(), token)


def _place(chance: random.Random, document: Document) -> list[Any]:
    """The path of some value; an id is hit more seldom, for the page has to be narrowed to it."""
    names = [name for name in document if name != "id"]
    path: list[Any] = ["id"] if chance.random() < 0.02 else [chance.choice(names)]
    value = document[path[0]]
    while isinstance(value, (dict, list)) and value and chance.random() < 0.7:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        path.append(key)
        value = value[key]
    return path


def _replace(document: Any, path: list[Any], value: object) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


def _encoded(document: Document) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _document(chance: random.Random, product_id: int) -> Document:
    """A product with something in every list that is mapped."""
    return {
        "id": product_id,
        "sku": f"HOSTILE-{product_id}",
        "name": chance.choice(("Plain kettle", "Tea – grün 🫖", "")),
        "attribute_set_id": 4,
        "price": chance.choice((0, 12.5, 19.99)),
        "status": chance.choice((1, 2)),
        "visibility": chance.choice((1, 2, 3, 4)),
        "type_id": chance.choice(("simple", "configurable")),
        "created_at": "2024-05-01 08:00:00",
        "updated_at": "2025-11-02 18:30:00",
        "weight": 0.25,
        "extension_attributes": {
            "website_ids": [1, 2],
            "category_links": [{"position": 3, "category_id": "23"}, {"position": 0, "category_id": "4"}],
            "configurable_product_links": [product_id + 1],
        },
        "product_links": [
            {
                "sku": f"HOSTILE-{product_id}",
                "link_type": "related",
                "linked_product_sku": "HOSTILE-1",
                "linked_product_type": "simple",
                "position": 1,
            }
        ],
        "options": [],
        "media_gallery_entries": [
            {
                "id": product_id,
                "media_type": "image",
                "label": None,
                "position": 1,
                "disabled": False,
                "types": ["image"],
                "file": "/k/e/kettle.jpg",
            }
        ],
        "tier_prices": [
            {
                "customer_group_id": 32000,
                "qty": 10,
                "value": 9.5,
                "extension_attributes": {"website_id": 0},
            }
        ],
        "custom_attributes": [
            {"attribute_code": "color", "value": "49"},
            {"attribute_code": "description", "value": "<p>Boils.</p>"},
            {"attribute_code": "category_ids", "value": ["23", "4"]},
        ],
    }


# --- the tenant ------------------------------------------------------------------------------


@dataclass
class HostileTenant:
    """Lists raw items, and puts noise in place of some first answers.

    items     ascending by product_id
    noise     how often, from 0 to 1
    prefix    stands before each answer
    pages     list answers with whole products so far
    """

    items: list[Item]
    noise: float = 0.0
    seed: int = 0
    prefix: bytes = b""
    url: str = ""
    pages: int = 0
    _met: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, url: str) -> bytes:
        if "/store/" in url:  # whether the tenant answers anything
            return b"[]"
        params = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        body = self.prefix + self._listed(params)
        if "fields" in params:
            return body
        with self._lock:
            self.pages += 1
            first = url not in self._met
            self._met.add(url)
        chance = random.Random(f"{self.seed} {url}")
        if not first or chance.random() >= self.noise:
            return body
        cut = body[: chance.randrange(len(body))]
        return chance.choice((*NOISE, cut, cut))

    def _listed(self, params: Mapping[str, str]) -> bytes:
        groups = _groups(params)
        found = [item for item in self.items if _matches(item, groups)]
        if params.get("searchCriteria[sortOrders][0][direction]") == "DESC":
            found.reverse()
        size = int(params["searchCriteria[pageSize]"])
        start = (int(params.get("searchCriteria[currentPage]", "1")) - 1) * size
        page = found[start : start + size]
        light = "fields" in params
        shown = [b'{"id":%d}' % item.product_id if light else item.raw for item in page]
        items = b"null" if light and not shown else b"[" + b",".join(shown) + b"]"
        echo = {
            "filter_groups": [{"filters": list(group.values())} for group in groups.values()],
            "page_size": size,
        }
        return b'{"items":%b,"search_criteria":%b,"total_count":%d}' % (
            items,
            json.dumps(echo).encode(),
            len(found),
        )


_Groups = dict[str, dict[str, dict[str, str]]]


def _groups(params: Mapping[str, str]) -> _Groups:
    names = {"field": "field", "conditionType": "condition_type", "value": "value"}
    groups: _Groups = {}
    for name, value in params.items():
        if found := _FILTER.fullmatch(name):
            groups.setdefault(found[1], {}).setdefault(found[2], {})[names[found[3]]] = value
    return groups


def _matches(item: Item, groups: _Groups) -> bool:
    return all(any(_meets(item, asked) for asked in group.values()) for group in groups.values())


def _meets(item: Item, asked: Mapping[str, str]) -> bool:
    match asked["condition_type"]:
        case "gt":
            return item.product_id > int(asked["value"])
        case "lteq":
            return item.product_id <= int(asked["value"])
        case _:
            return str(item.product_id) in asked["value"].split(",")


@contextmanager
def serving(tenant: HostileTenant) -> Iterator[HostileTenant]:
    """Serve it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self._send(TOKEN)

        def do_GET(self) -> None:
            self._send(tenant.answer(self.path))

        def _send(self, body: bytes) -> None:
            head = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Date: Tue, 24 Nov 2026 10:00:00 GMT\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            self.wfile.write(head + body)

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="hostile", daemon=True)
    thread.start()
    tenant.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield tenant
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
