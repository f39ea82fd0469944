"""SKUs of the copy as Commerce compares them: no index of the three databases does."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator

import sqlalchemy as sa

from sync.collation import collated
from sync.db.schema import products

AT_ONCE = 10_000


def spellings(connection: sa.Connection, skus: Collection[str]) -> set[str]:
    """All spellings in which products here, live or not, have these SKUs; compared as Commerce does.

    Reads the SKUs of all products, 1 s a million: a product deleted as `Kanne` may live on as `KANNE`.
    """
    wanted = {collated(sku) for sku in skus}
    if not wanted:
        return set()
    every = sa.select(products.c.sku).distinct().execution_options(yield_per=AT_ONCE)
    return {sku for sku in connection.scalars(every) if collated(sku) in wanted}


def spelled_so(connection: sa.Connection, skus: Collection[str]) -> set[str]:
    """Those of these SKUs that products here have exactly so."""
    found = connection.execute(sa.select(products.c.sku).distinct().where(products.c.sku.in_(skus)))
    return set(found.scalars())


class Index:
    """Live products by SKU as Commerce compares it, of one moment: 16 bytes a product."""

    def __init__(self, connection: sa.Connection) -> None:
        pairs = sorted(_digests(connection))
        self._digests = array("q", (digest for digest, _ in pairs))
        self._ids = array("q", (product_id for _, product_id in pairs))

    def spellings(self, connection: sa.Connection, skus: Iterable[str]) -> dict[str, str]:
        """How products spell these SKUs; those of no product are missing."""
        ids = {sku: product_id for sku in skus if (product_id := self._find(sku)) is not None}
        found = connection.execute(
            sa.select(products.c.product_id, products.c.sku).where(
                products.c.product_id.in_(set(ids.values())), products.c.deleted_at.is_(None)
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
        place = bisect_left(self._digests, digest)
        is_there = place < len(self._digests) and self._digests[place] == digest
        return self._ids[place] if is_there else None


def _digests(connection: sa.Connection) -> Iterator[tuple[int, int]]:
    rows = connection.execution_options(yield_per=AT_ONCE).execute(
        sa.select(products.c.sku, products.c.product_id).where(products.c.deleted_at.is_(None))
    )
    return ((hash(collated(sku)), product_id) for sku, product_id in rows)
