"""What an event says: look at this product. Its values are not used.

    observer.catalog_product_save_commit_after        product-save
    observer.catalog_product_delete_commit_after      product-delete
    observer.cataloginventory_stock_item_save_…       stock
    a code in EVENTS_CODES                            as it says there
    anything else                                     nothing: counted, and skipped

Codes may have a prefix, of an app for example; what follows the last `observer.` decides. The product is
`id`, `entity_id` or `product_id`, else `sku`: which of them an event has depends on its subscription.

Source: Adobe Commerce extensibility, "Events reference".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sync.commerce.listing import HIGHEST_ID

OBSERVED: Final[Mapping[str, str]] = {
    "catalog_product_save_commit_after": "product-save",
    "catalog_product_save_after": "product-save",
    "catalog_product_delete_commit_after": "product-delete",
    "catalog_product_delete_after": "product-delete",
    "cataloginventory_stock_item_save_commit_after": "stock",
    "cataloginventory_stock_item_save_after": "stock",
}
IDS: Final = ("id", "entity_id", "product_id")


@dataclass(frozen=True, slots=True)
class Hint:
    """A product to look at.

    product_id    None where the event only has a SKU
    event_id      the same when an event comes twice; empty where it has none
    at            when the event happened
    """

    action: str
    product_id: int | None
    sku: str | None
    event_id: str = ""
    at: datetime | None = None


@dataclass(slots=True)
class Hints:
    """The hints of some batches.

    unknown    events that name no product, or mean nothing to us
    """

    found: list[Hint] = field(default_factory=list)
    unknown: int = 0

    @property
    def ids(self) -> set[int]:
        return {hint.product_id for hint in self.found if hint.product_id is not None}

    @property
    def skus(self) -> set[str]:
        return {hint.sku for hint in self.found if hint.product_id is None and hint.sku is not None}

    @property
    def newest(self) -> str:
        """When the newest of them happened, as ISO text; empty if no event says so."""
        return max((hint.at.isoformat() for hint in self.found if hint.at is not None), default="")


def read(records: Iterable[Any], codes: Mapping[str, str], source: str | None) -> Hints:
    """The hints of journal records.

    codes     action by event code, besides those known
    source    only events of this Commerce instance: `data.source`, as `merchant.environment`
    """
    hints = Hints()
    for record in records:
        event = _dict(_dict(record).get("event"))
        if source is not None and _dict(event.get("data")).get("source", source) != source:
            continue
        hint = _hint(event, codes)
        if hint is None:
            hints.unknown += 1
        else:
            hints.found.append(hint)
    return hints


def _hint(event: Mapping[str, Any], codes: Mapping[str, str]) -> Hint | None:
    action = _action(str(event.get("type", "")), codes)
    value = _dict(_dict(event.get("data")).get("value"))
    product_id = next(_ids(value), None)
    sku = value.get("sku")
    sku = sku if isinstance(sku, str) and sku else None
    if action is None or (product_id is None and sku is None):
        return None
    event_id = event.get("eventid") or event.get("event_id") or event.get("id") or ""
    return Hint(action, product_id, sku, str(event_id), _time(event.get("time")))


def _action(code: str, codes: Mapping[str, str]) -> str | None:
    """
    >>> _action("com.adobe.commerce.my_app.observer.catalog_product_save_commit_after", {})
    'product-save'
    """
    return codes.get(code) or OBSERVED.get(code.rpartition("observer.")[2])


def _ids(value: Mapping[str, Any]) -> Iterator[int]:
    for name in IDS:
        text = str(value.get(name))
        if text.isascii() and text.isdigit() and len(text) < 11 and 0 < int(text) <= HIGHEST_ID:
            yield int(text)


def _time(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
