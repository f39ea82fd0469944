"""Look up SKUs as Commerce compares them, which no index of the three databases does."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator

import sqlalchemy as sa

from sync.collation import collated
from sync.db import current_views
from sync.db.dialects import is_ascii
from sync.db.schema import products

AT_ONCE = 10_000


def with_exact_spelling(connection: sa.Connection, skus: Collection[str]) -> set[str]:
    """The SKUs among these that a current product has in exactly this spelling."""
    where = products.c.sku.in_(skus), *_current(connection)
    found = connection.execute(sa.select(products.c.sku).distinct().where(*where))
    return set(found.scalars())


def equivalent(connection: sa.Connection, skus: Collection[str]) -> set[str]:
    """All SKUs in the copy that Commerce considers equal to one of these.

    Scans an index, 0.25 s per million SKUs in SQLite. The database compares those in ASCII; the others, few
    in most shops, are compared in Python.
    """
    wanted, sku = {collated(sku) for sku in skus}, products.c.sku
    upper = sa.func.upper(sa.func.rtrim(sku))
    near = upper.in_({it.upper() for it in wanted if it.isascii()}) | ~is_ascii(connection.dialect.name, sku)
    return {it for it in connection.scalars(sa.select(sku).where(near)) if collated(it) in wanted}


def live_with(
    connection: sa.Connection, store_view: str, skus: Collection[str], *, exactly: bool
) -> dict[int, str]:
    """The live products of a store view with one of these SKUs: SKU by id.

    exactly    spelled so, which a look-up in an index finds; otherwise as Commerce compares them
    """
    table = products.c
    spelled = list(skus) if exactly else [*skus, *equivalent(connection, skus)]
    if connection.dialect.name in _EACH_LOOKED_UP:
        statement = _EACH_LOOKED_UP[connection.dialect.name]
        found = connection.execute(statement, {"skus": json.dumps(spelled), "view": store_view})
    else:
        where = (table.sku.in_(spelled), table.store_view == store_view, table.deleted_at.is_(None))
        found = connection.execute(sa.select(table.product_id, table.sku).where(*where))
    return {row.product_id: row.sku for row in found}


# A look-up for each SKU, all of them in one parameter. Before its first ANALYZE, PostgreSQL would rather read
# the whole table: OFFSET keeps the query as it is written, as CROSS JOIN does for SQLite.
_EACH_LOOKED_UP = {
    "postgresql": sa.text(
        "SELECT found.product_id, found.sku "
        "FROM json_array_elements_text(CAST(:skus AS json)) AS wanted (sku) "
        "CROSS JOIN LATERAL (SELECT product_id, sku FROM products WHERE products.sku = wanted.sku "
        "AND store_view = :view AND deleted_at IS NULL OFFSET 0) AS found"
    ),
    "sqlite": sa.text(
        "SELECT product_id, sku FROM json_each(:skus) AS wanted CROSS JOIN products "
        "WHERE products.sku = wanted.value AND store_view = :view AND deleted_at IS NULL"
    ),
}


class Index:
    """A snapshot of current products, by SKU as Commerce compares it: 16 bytes per product."""

    def __init__(self, connection: sa.Connection) -> None:
        pairs = sorted(_digests(connection))
        self._digests = array("q", (digest for digest, _ in pairs))
        self._ids = array("q", (product_id for _, product_id in pairs))

    def spellings(self, connection: sa.Connection, skus: Iterable[str]) -> dict[str, str]:
        """The products' spelling of these SKUs; SKUs without a product are missing."""
        ids = {sku: product_id for sku in skus if (product_id := self._find(sku)) is not None}
        found = connection.execute(
            sa.select(products.c.product_id, products.c.sku).where(
                products.c.product_id.in_(set(ids.values())), *_current(connection)
            )
        )
        stored = {row.product_id: row.sku for row in found}
        return {
            sku: stored[product_id]
            for sku, product_id in ids.items()
            if product_id in stored and collated(stored[product_id]) == collated(sku)
        }

    def _find(self, sku: str) -> int | None:
        digest = hash(collated(sku))
        index = bisect_left(self._digests, digest)
        is_found = index < len(self._digests) and self._digests[index] == digest
        return self._ids[index] if is_found else None


def _current(connection: sa.Connection) -> list[sa.ColumnElement[bool]]:
    """The conditions of live products in current store views."""
    return [products.c.deleted_at.is_(None), products.c.store_view.not_in(current_views.left(connection))]


def _digests(connection: sa.Connection) -> Iterator[tuple[int, int]]:
    query = sa.select(products.c.sku, products.c.product_id).where(*_current(connection))
    with connection.execute(query, execution_options={"yield_per": AT_ONCE}) as rows:
        for sku, product_id in rows:
            yield hash(collated(sku)), product_id
