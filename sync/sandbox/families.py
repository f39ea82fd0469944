"""The families that Commerce's endpoints form: how their requests count, and the right each needs."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Kind = Literal["token", "page", "count", "single", "prices", "stock", "reference", "write", "other"]
INFORMATION = "-information"


class Family(NamedTuple):
    """Endpoints behind one permission.

    name        what `Faults.forbid` takes: `prices`, `stock`, `attributes`, `attribute_sets`, `categories`,
                `store` or `products`
    kind        how their reads count
    resource    the permission, as a refusal names it
    """

    name: str
    kind: Kind
    resource: str


PRODUCTS = Family("products", "other", "Magento_Catalog::products")
_ROUTES = (
    (
        r"products/(base-prices|special-price|tier-prices|cost)(-information|-delete)?",
        Family("prices", "prices", "Magento_Catalog::catalog"),
    ),
    (r"products/attribute-sets/.*", Family("attribute_sets", "reference", "Magento_Catalog::sets")),
    (
        r"products/attributes(/.*)?",
        Family("attributes", "reference", "Magento_Catalog::attributes_attributes"),
    ),
    (r"categories(/.*)?", Family("categories", "reference", "Magento_Catalog::categories")),
    (r"inventory/.*", Family("stock", "stock", "Magento_InventoryApi::source")),
    (r"store/.*", Family("store", "other", "Magento_Backend::store")),
)
NAMES = frozenset({PRODUCTS.name, *(family.name for _, family in _ROUTES)})


def family_of(route: str) -> Family:
    """The family of a route behind the door, `V1/categories/list` for example."""
    behind = route.removeprefix("V1/")
    return next((family for pattern, family in _ROUTES if re.fullmatch(pattern, behind)), PRODUCTS)


def kind_of(method: str, route: str) -> Kind | None:
    """How a request of a companion endpoint counts, None for one about products themselves."""
    family = family_of(route)
    if family.kind == "other" or method not in ("GET", "POST", "PUT", "DELETE"):
        return None
    return family.kind if method == "GET" or route.endswith(INFORMATION) else "write"
