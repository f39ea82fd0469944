"""The permissions that requests need, and the cheapest request that shows whether each is granted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sync.commerce.client import Client
from sync.commerce.prices import PATHS
from sync.commerce.reference import ATTRIBUTE_SETS, ATTRIBUTES, CATEGORIES, EVERYWHERE
from sync.commerce.search import Criteria, ListSpec
from sync.commerce.stock import SOURCES
from sync.commerce.store_views import PATH as STORE_VIEWS


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission of the tenant, as Commerce and its Admin know it.

    name        what it allows to read
    resource    Commerce's name for it
    commands    the commands that need it
    path        of the endpoint to try; with `params` a GET, with `query` a POST
    """

    name: str
    resource: str
    commands: tuple[str, ...]
    path: str
    params: Sequence[tuple[str, str]] = ()
    query: object = None

    def request(self, client: Client) -> None:
        """Send the request. Raises what `Client.get` raises, AccessDenied if it is not granted."""
        if self.query is None:
            client.get(self.path, self.params, EVERYWHERE, lambda answer: None)
        else:
            client.post_query(self.path, self.query, EVERYWHERE, lambda answer: None)


def _list(name: str, resource: str, command: str, spec: ListSpec[Any]) -> Permission:
    return Permission(name, resource, (command,), spec.path, Criteria(spec, (), 1).params())


PRODUCTS: Final = Permission(
    "products",
    "Magento_Catalog::products",
    ("backfill", "run", "reconcile", "verify"),
    "/V1/products",
)
OPTIONAL: Final = (
    Permission("store list", "Magento_Backend::store", ("reference",), STORE_VIEWS),
    Permission("prices", "Magento_Catalog::catalog", ("prices",), PATHS["base"], query={"skus": []}),
    _list("stock", "Magento_InventoryApi::source", "stock", SOURCES),
    _list("categories", "Magento_Catalog::categories", "reference", CATEGORIES),
    _list("attributes", "Magento_Catalog::attributes_attributes", "reference", ATTRIBUTES),
    _list("attribute sets", "Magento_Catalog::sets", "reference", ATTRIBUTE_SETS),
)
