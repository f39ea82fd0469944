"""The bulk price endpoints: what they tell of a list of SKUs, and what they write.

Nothing is stored here: a price is read from the products' documents and written into them, and no write moves
`updated_at`. Shapes and oddities observed on Magento 2.4.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sync.sandbox.catalogue import ALL, Catalogue
from sync.sandbox.documents import Document
from sync.sandbox.replies import Refused, message
from sync.sandbox.search import value_of

GROUPS = {0: "NOT LOGGED IN", 1: "General", 2: "Wholesale", 3: "Retailer", 32000: "all groups"}
_PRICED = frozenset({"simple", "virtual", "downloadable", "bundle"})
_TYPES = {"cost": _PRICED - {"bundle"}}


class SimulatedPrices:
    """Prices of the catalogue's products; a store id of 0 is the admin scope, the store views count from 1.

    refuses_unknown    answer 404 to a list with a SKU that is no product's, instead of leaving it out
    """

    def __init__(self, catalogue: Catalogue, store_views: Sequence[str]) -> None:
        self.refuses_unknown = False
        self._catalogue = catalogue
        self._views = dict(enumerate((ALL, *store_views)))

    # Writing

    def set_base(self, product_id: int, price: float, store_id: int = 0) -> None:
        """Change the price; in the admin scope, store views with a price of their own keep it."""
        own = {} if store_id else self._own_prices(product_id)
        self._edit(product_id, store_id, price=price)
        for view_id, kept in own.items():
            self._edit(product_id, view_id, price=kept)

    def set_base_many(self, prices: Mapping[int, float]) -> None:
        """Change the price of many products in the admin scope; the ids may be texts."""
        for product_id, price in prices.items():
            self.set_base(int(product_id), price)

    def set_special(
        self,
        product_id: int,
        price: float,
        starts: str | None = None,
        ends: str | None = None,
        store_id: int = 0,
    ) -> None:
        """Change the special price and its two dates, `YYYY-MM-DD HH:MM:SS`; None leaves that end open."""
        fields = {"special_price": f"{price:.6f}", "special_from_date": starts, "special_to_date": ends}
        self._edit(product_id, store_id, **fields)

    def remove_special(self, product_id: int, store_id: int = 0) -> None:
        fields = dict.fromkeys(("special_price", "special_from_date", "special_to_date"))
        self._edit(product_id, store_id, **fields)

    def set_cost(self, product_id: int, cost: float, store_id: int = 0) -> None:
        self._edit(product_id, store_id, cost=f"{cost:.6f}")

    def remove_cost(self, product_id: int, store_id: int = 0) -> None:
        self._edit(product_id, store_id, cost=None)

    def set_tiers(self, product_id: int, tiers: Sequence[Document]) -> None:
        """Replace the tier prices, given as in `tier_prices` of a product's document."""
        self._edit(product_id, 0, tier_prices=list(tiers))

    # Reading

    def information(self, feed: str, skus: Iterable[str]) -> list[Document]:
        """The answer to `<feed>-information`: rows by product, SKUs that are none left out.

        A product whose type has no such price is left out like one that does not exist. A SKU comes back as
        it was asked for; of several spellings the first, with tier prices the last.
        """
        asked = {sku: self._ids(sku.strip()) for sku in skus}
        if self.refuses_unknown and (unknown := [sku for sku, numbers in asked.items() if not numbers]):
            text = "Requested products don't exist: %sku"
            raise Refused(message(404, text, {"sku": ", ".join(unknown)}))
        spelled: dict[int, str] = {}
        for sku, numbers in asked.items():
            for number in numbers:
                spelled[number] = sku if feed == "tier-prices" else spelled.get(number, sku)
        return [
            {**row, "sku": spelled[number]}
            for number in sorted(spelled)
            if self.takes(feed, number)
            for row in FEEDS[feed](self._documents(number))
        ]

    def _ids(self, sku: str) -> list[int]:
        """Products with a SKU: accents count here, unlike in the database."""
        found = self._catalogue.ids_with_sku(sku)
        return [number for number in found if self._catalogue.sku(number).lower() == sku.lower()]

    def takes(self, feed: str, product_id: int) -> bool:
        """Whether a product's type has such a price: of bundles, only fixed ones have a base price."""
        type_id = self._catalogue.type_id(product_id)
        if type_id not in _TYPES.get(feed, _PRICED):
            return False
        if feed != "base-prices" or type_id != "bundle":
            return True
        return bool(value_of(self._catalogue.document(product_id), product_id, "price_type") == "1")

    def has_store(self, store_id: object) -> bool:
        return store_id in self._views

    def _documents(self, product_id: int) -> dict[int, Document]:
        """A product's document by store id."""
        return {
            store_id: self._catalogue.document(product_id, view) for store_id, view in self._views.items()
        }

    def _own_prices(self, product_id: int) -> dict[int, Any]:
        return {store_id: price for store_id, price in _own(self._documents(product_id), "price") if store_id}

    def _edit(self, product_id: int, store_id: int, **fields: Any) -> None:
        view = self._views[store_id]
        self._catalogue.edit(product_id, store_view=None if view == ALL else view, touch=False, **fields)


Documents = Mapping[int, Document]


def _own(documents: Documents, code: str) -> list[tuple[int, Any]]:
    """Values of an attribute by store id: the admin scope's, and those that differ from it."""
    values = {store_id: value_of(document, 0, code) for store_id, document in documents.items()}
    return [
        (store_id, value)
        for store_id, value in values.items()
        if value is not None and (store_id == 0 or value != values[0])
    ]


def _base(documents: Documents) -> list[Document]:
    sku = documents[0]["sku"]
    return [
        {"price": price, "store_id": store_id, "sku": sku} for store_id, price in _own(documents, "price")
    ]


def _special(documents: Documents) -> list[Document]:
    """Each special price with each start and each end, whatever store they belong to.

    A product with starts in two scopes has its one price twice: observed on Magento 2.4.7.
    """
    starts = _own(documents, "special_from_date") or [(0, None)]
    ends = _own(documents, "special_to_date") or [(0, None)]
    return [
        {
            "price": float(price),
            "store_id": store_id,
            "sku": documents[0]["sku"],
            "price_from": start,
            "price_to": end,
        }
        for store_id, price in _own(documents, "special_price")
        for _, start in starts
        for _, end in ends
    ]


def _tiers(documents: Documents) -> list[Document]:
    return [_tier(documents[0]["sku"], tier) for tier in documents[0].get("tier_prices") or ()]


def _tier(sku: str, tier: Document) -> Document:
    extension = tier.get("extension_attributes") or {}
    percentage = extension.get("percentage_value")
    return {
        "price": tier["value"] if percentage is None else percentage,
        "price_type": "fixed" if percentage is None else "discount",
        "website_id": extension.get("website_id", 0),
        "sku": sku,
        "customer_group": GROUPS.get(tier["customer_group_id"], f"Group {tier['customer_group_id']}"),
        "quantity": tier["qty"],
    }


def _cost(documents: Documents) -> list[Document]:
    sku = documents[0]["sku"]
    return [
        {"cost": float(cost), "store_id": store_id, "sku": sku} for store_id, cost in _own(documents, "cost")
    ]


FEEDS: dict[str, Callable[[Documents], list[Document]]] = {
    "base-prices": _base,
    "special-price": _special,
    "tier-prices": _tiers,
    "cost": _cost,
}
