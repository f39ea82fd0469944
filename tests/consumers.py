"""Three consumers of the feed, as docs/sql-recipes.md describes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sync.collation import collated
from tests.kit import Bench

Key = tuple[str, Any]  # store view, and SKU or product id


def by_sku(entries: Iterable[Any]) -> dict[Key, int]:
    """Keyed by store view and SKU: the product id of each."""
    kept: dict[Key, int] = {}
    for entry in entries:
        if entry.kind == "delete":
            kept.pop((entry.store_view, entry.sku), None)
            continue
        if entry.kind == "update" and "sku" in entry.fields:
            kept.pop((entry.store_view, entry.fields["sku"]["old"]), None)
        kept[entry.store_view, entry.sku] = entry.product_id
    return kept


def by_id(entries: Iterable[Any]) -> dict[Key, str]:
    """Keyed by store view and product id: the SKU of each."""
    kept: dict[Key, str] = {}
    for entry in entries:
        if entry.kind == "delete":
            kept.pop((entry.store_view, entry.product_id), None)
        else:
            kept[entry.store_view, entry.product_id] = entry.sku
    return kept


def log(entries: Iterable[Any]) -> dict[Key, str]:
    """Appends only; the last entry of a product says whether it lives."""
    last = {(entry.store_view, entry.product_id): entry for entry in entries}
    return {key: entry.sku for key, entry in last.items() if entry.kind != "delete"}


def assert_all_end_right(bench: Bench) -> None:
    """Each consumer that reads the whole feed has the rows that live."""
    entries = bench.changes()
    living = {(view, i): doc["sku"] for view in bench.store_views for i, doc in bench.live(view).items()}
    assert by_id(entries) == living
    assert log(entries) == living
    assert by_sku(entries) == {(view, sku): i for (view, i), sku in living.items()}


def assert_no_sku_is_taken_before_it_is_free(bench: Bench) -> None:
    """At no entry do two products of a store view have one SKU, as Commerce compares them."""
    owners: dict[Key, int] = {}
    skus: dict[Key, str] = {}
    for entry in bench.changes():
        product = (entry.store_view, entry.product_id)
        if product in skus:
            del owners[entry.store_view, skus.pop(product)]
        if entry.kind != "delete":
            sku = (entry.store_view, collated(entry.sku))
            assert sku not in owners, entry
            owners[sku], skus[product] = entry.product_id, collated(entry.sku)
