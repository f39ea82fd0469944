"""The endpoints beside products: reference data, prices and stock, over HTTP.

Shapes and refusals as observed on Magento 2.4.7; where nobody knows, the stricter answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

from sync.sandbox import lists, replies
from sync.sandbox.catalogue import Catalogue
from sync.sandbox.criteria import ParsedCriteria
from sync.sandbox.documents import Document
from sync.sandbox.families import INFORMATION
from sync.sandbox.lists import Listing
from sync.sandbox.prices import FEEDS, GROUPS, SimulatedPrices
from sync.sandbox.reference import SimulatedReference
from sync.sandbox.replies import Refused, Reply, json_reply, message
from sync.sandbox.stock import SOURCE_COLUMNS, SimulatedStock

MAX_ENTITIES = 20  # objects in one request: Commerce's own limit while its input limits are on
ATTRIBUTES, SETS, CATEGORIES = (
    "V1/products/attributes",
    "V1/products/attribute-sets/sets/list",
    "V1/categories",
)
CATEGORY_LIST = f"{CATEGORIES}/list"
SOURCE_ITEMS, SOURCES = "V1/inventory/source-items", "V1/inventory/sources"
REQUIRES_CRITERIA = {ATTRIBUTES: True, SETS: True, CATEGORY_LIST: True, SOURCE_ITEMS: True, SOURCES: False}

_ATTRIBUTE_COLUMNS = {
    name: name
    for name in ("attribute_id", "attribute_code", "frontend_input", "backend_type", "is_user_defined")
} | {"is_visible": "is_visible", "frontend_label": "default_frontend_label"}
_SET_COLUMNS = {
    name: name for name in ("attribute_set_id", "attribute_set_name", "sort_order", "entity_type_id")
}
_CATEGORY_COLUMNS = {
    name: name for name in ("parent_id", "name", "position", "level", "path", "is_active")
} | {"entity_id": "id"}


class Companions:
    """Answers the routes above; every answer is whole, `fields` and faults are the tenant's business."""

    def __init__(
        self,
        catalogue: Catalogue,
        reference: SimulatedReference,
        prices: SimulatedPrices,
        stock: SimulatedStock,
        max_skus: int | None,
    ) -> None:
        self._catalogue = catalogue
        self._reference = reference
        self._prices = prices
        self._stock = stock
        self._max_skus = max_skus

    def listing(self, route: str, criteria: ParsedCriteria, store_view: str) -> Listing:
        """One page of a list."""
        if route == ATTRIBUTES:
            return lists.select(self._reference.attributes(store_view), criteria, _ATTRIBUTE_COLUMNS)
        if route == SETS:
            return lists.select(self._reference.attribute_sets(), criteria, _SET_COLUMNS)
        if route == CATEGORY_LIST:
            return self._category_list(criteria, store_view)
        if route == SOURCES:
            return lists.select(self._stock.sources(), criteria, SOURCE_COLUMNS)
        return self._stock.select(criteria)

    def answer(
        self, method: str, route: str, query: str, headers: Mapping[str, str], body: bytes, store_view: str
    ) -> Reply:
        """Anything but a list; raises Refused with what Commerce answers instead."""
        if method == "GET":
            return json_reply(200, self._look_up(route, query, store_view))
        write = _WRITES.get((method, route.removeprefix("V1/")))
        if write is None and not (method == "POST" and route.endswith(INFORMATION)):
            raise Refused(replies.no_route())
        sent = _sent(headers, body)
        if write is None:
            feed = route.removeprefix("V1/products/").removesuffix(INFORMATION)
            return json_reply(200, self._prices.information(feed, self._skus(sent)))
        return json_reply(200, write(self, sent))

    # Reading

    def _category_list(self, criteria: ParsedCriteria, store_view: str) -> Listing:
        unknown = {rule.field for group in criteria.groups for rule in group} - set(_CATEGORY_COLUMNS)
        if unknown:
            text = 'The "%1" attribute name is invalid. Reset the name and try again.'
            raise Refused(message(400, text, [min(unknown)]))
        known = tuple(sort for sort in criteria.sorts if sort.field in _CATEGORY_COLUMNS)
        return lists.select(
            self._reference.categories(store_view),
            ParsedCriteria(criteria.groups, known, criteria.page_size, criteria.current_page),
            _CATEGORY_COLUMNS,
        )

    def _look_up(self, route: str, query: str, store_view: str) -> Any:
        if route.startswith(f"{ATTRIBUTES}/"):
            return self._attribute(route.removeprefix(f"{ATTRIBUTES}/"), store_view)
        if route == CATEGORIES:
            sent = parse_qs(query)
            root, depth = (_number(sent.get(name)) for name in ("rootCategoryId", "depth"))
            return _found(self._reference.tree(root, depth, store_view), root)
        number = route.removeprefix(f"{CATEGORIES}/")
        if route.startswith(f"{CATEGORIES}/") and number.isdecimal():
            return _found(self._reference.category(int(number), store_view), int(number))
        raise Refused(replies.no_route())

    def _attribute(self, named: str, store_view: str) -> Any:
        code, _, part = named.partition("/")
        found = self._reference.attribute(unquote(code), store_view)
        if part not in ("", "options"):
            raise Refused(replies.no_route())
        if found is None:
            text = (
                'The attribute with a "%1" attributeCode doesn\'t exist. Verify the attribute and try again.'
            )
            raise Refused(message(404, text, [unquote(code)]))
        if part == "options":
            return found["options"]
        return {"extension_attributes": {"is_pagebuilder_enabled": False}, **found}

    def _skus(self, sent: Document) -> list[str]:
        skus = _required(sent, "skus")
        if not all(isinstance(sku, str | int) for sku in skus):
            raise Refused(message(400, "Decoding error."))
        if self._max_skus is not None and len(skus) > self._max_skus:
            raise Refused(_too_many("string", self._max_skus))
        return [str(sku) for sku in skus]

    # Writing

    def _save_prices(self, feed: str, sent: Document, put: Callable[[int, Document], None]) -> list[Document]:
        """Write one price after the other; returns those that could not be."""
        failed = []
        for price in _entities(sent, "prices", _INTERFACES[feed]):
            fault = self._fault(feed, price)
            if fault is None:
                put(self._catalogue.ids_with_sku(str(price["sku"]).strip())[0], price)
            else:
                failed.append(fault)
        return failed

    def _fault(self, feed: str, price: Document) -> Document | None:
        """What Commerce holds against a price."""
        amount = price.get("cost" if feed == "cost" else "price")
        found = self._catalogue.ids_with_sku(str(price.get("sku", "")).strip())
        place = [str(price.get("sku")), str(price.get("store_id"))]
        row = "Row ID: SKU = %SKU, Store ID: %storeId."
        if not found or not self._prices.takes(feed, found[0]):
            text = f"The product that was requested doesn't exist. Verify the product and try again. {row}"
            return {"message": text, "parameters": place}
        if not isinstance(amount, int | float) or amount < 0:
            text = "Invalid attribute %fieldName = %fieldValue."
            return {"message": text, "parameters": ["Price", str(amount)]}
        if feed != "tier-prices" and not self._prices.has_store(price.get("store_id")):
            return {"message": f"Requested store is not found. {row}", "parameters": place}
        return None

    def save_base(self, sent: Document) -> list[Document]:
        def put(number: int, price: Document) -> None:
            self._prices.set_base(number, price["price"], price["store_id"])

        return self._save_prices("base-prices", sent, put)

    def save_special(self, sent: Document) -> list[Document]:
        def put(number: int, price: Document) -> None:
            dates = (price.get("price_from"), price.get("price_to"))
            self._prices.set_special(number, price["price"], *dates, price["store_id"])

        return self._save_prices("special-price", sent, put)

    def delete_special(self, sent: Document) -> list[Document]:
        def put(number: int, price: Document) -> None:
            self._prices.remove_special(number, price["store_id"])

        return self._save_prices("special-price", sent, put)

    def save_cost(self, sent: Document) -> list[Document]:
        def put(number: int, price: Document) -> None:
            self._prices.set_cost(number, price["cost"], price["store_id"])

        return self._save_prices("cost", sent, put)

    def save_tiers(self, sent: Document) -> list[Document]:
        return self._save_prices("tier-prices", sent, lambda number, price: self._put_tier(number, price))

    def replace_tiers(self, sent: Document) -> list[Document]:
        """The same, once every tier of these products is gone."""
        for price in _entities(sent, "prices", _INTERFACES["tier-prices"]):
            for number in self._catalogue.ids_with_sku(str(price.get("sku", ""))):
                self._prices.set_tiers(number, [])
        return self.save_tiers(sent)

    def delete_tiers(self, sent: Document) -> list[Document]:
        def put(number: int, price: Document) -> None:
            self._put_tier(number, price, is_kept=False)

        return self._save_prices("tier-prices", sent, put)

    def _put_tier(self, number: int, price: Document, *, is_kept: bool = True) -> None:
        """Add a tier, or replace the one for the same group, quantity and website."""
        tier = _tier(price)
        others = [
            old
            for old in self._catalogue.document(number).get("tier_prices", ())
            if _place(old) != _place(tier)
        ]
        self._prices.set_tiers(number, [*others, tier] if is_kept else others)

    def save_source_items(self, sent: Document) -> list[Document]:
        items = self._source_items(sent)
        for item in items:
            self._stock.set(item["source_code"], item["sku"], item.get("quantity", 0), item.get("status", 0))
        return []

    def delete_source_items(self, sent: Document) -> list[Document]:
        for item in self._source_items(sent):
            self._stock.remove(item["source_code"], item["sku"])
        return []

    def _source_items(self, sent: Document) -> Sequence[Document]:
        """The items of a request, of which one wrong one spoils all."""
        items = _entities(sent, "sourceItems", "\\Magento\\InventoryApi\\Api\\Data\\SourceItemInterface")
        for item in items:
            if not str(item.get("sku", "")).strip():
                raise Refused(_invalid('"%field" can not be empty.', {"field": "sku"}))
            if not self._stock.knows(item.get("source_code")):
                text = 'Source with source code "%sourceCode" does not exist.'
                raise Refused(_invalid(text, {"sourceCode": item.get("source_code")}))
        return items


_INTERFACES = {
    feed: f"\\Magento\\Catalog\\Api\\Data\\{name}Interface"
    for feed, name in zip(FEEDS, ("BasePrice", "SpecialPrice", "TierPrice", "Cost"), strict=True)
}

_WRITES: dict[tuple[str, str], Callable[[Companions, Document], list[Document]]] = {
    ("POST", "products/base-prices"): Companions.save_base,
    ("POST", "products/special-price"): Companions.save_special,
    ("POST", "products/special-price-delete"): Companions.delete_special,
    ("POST", "products/cost"): Companions.save_cost,
    ("POST", "products/tier-prices"): Companions.save_tiers,
    ("PUT", "products/tier-prices"): Companions.replace_tiers,
    ("POST", "products/tier-prices-delete"): Companions.delete_tiers,
    ("POST", "inventory/source-items"): Companions.save_source_items,
    ("POST", "inventory/source-items-delete"): Companions.delete_source_items,
}


def _tier(price: Document) -> Document:
    """A tier of the bulk endpoint as a product's document shows it."""
    groups = {name.lower(): number for number, name in GROUPS.items()}
    extension: Document = {"website_id": price.get("website_id", 0)}
    if price.get("price_type") == "discount":
        extension = {"percentage_value": price["price"], **extension}
    return {
        "customer_group_id": groups.get(str(price.get("customer_group", "")).lower(), 32000),
        "qty": price.get("quantity", 1),
        "value": price["price"],
        "extension_attributes": extension,
    }


def _place(tier: Document) -> tuple[Any, Any, Any]:
    website_id = tier.get("extension_attributes", {}).get("website_id", 0)
    return tier["customer_group_id"], tier["qty"], website_id


def _sent(headers: Mapping[str, str], body: bytes) -> Document:
    """The object in a body; raises Refused unless it comes as JSON."""
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    if not media_type:
        raise Refused(message(400, "Content-Type header is empty."))
    if media_type != "application/json":
        text = "Server cannot understand Content-Type HTTP header media type "
        raise Refused(message(400, text + media_type))
    try:
        sent = json.loads(body)
    except ValueError as fault:
        raise Refused(message(400, "Decoding error.")) from fault
    return sent if isinstance(sent, dict) else {}


def _required(sent: Document, name: str) -> list[Any]:
    value = sent.get(name)
    if not isinstance(value, list):
        raise Refused(message(400, '"%fieldName" is required. Enter and try again.', {"fieldName": name}))
    return value


def _entities(sent: Document, name: str, interface: str) -> list[Document]:
    entities = _required(sent, name)
    if len(entities) > MAX_ENTITIES:
        raise Refused(_too_many(interface, MAX_ENTITIES))
    if not all(isinstance(entity, dict) for entity in entities):
        raise Refused(message(400, "Decoding error."))
    return entities


def _too_many(interface: str, limit: int) -> Reply:
    return message(400, 'Maximum items of type "%type" is %max', {"type": interface, "max": limit})


def _invalid(text: str, parameters: Document) -> Reply:
    errors = [{"message": text, "parameters": parameters}]
    return json_reply(400, {"message": "Validation Failed", "errors": errors})


def _number(sent: Sequence[str] | None) -> int | None:
    return int(sent[0]) if sent and sent[0].isdecimal() else None


def _found(category: Document | None, number: int | None) -> Document:
    if category is None:
        parameters = {"fieldName": "id", "fieldValue": number}
        raise Refused(message(404, "No such entity with %fieldName = %fieldValue", parameters))
    return category
