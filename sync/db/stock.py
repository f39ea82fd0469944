"""Source items: reading and writing the stock of each source."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from sync.db.dialects import bulk_upsert
from sync.db.schema import source_items

_COLUMNS = ("source_code", "sku", "quantity", "status", "changed_at", "deleted_at")


class Level(NamedTuple):
    """The stock of a SKU in a source."""

    quantity: Decimal | None
    status: int | None


class StoredLevel(NamedTuple):
    """A row of the copy; a tombstone keeps its last level."""

    level: Level
    is_deleted: bool


def known(connection: sa.Connection, source_code: str, skus: Collection[str]) -> dict[str, StoredLevel]:
    """The stored levels of these SKUs in a source, tombstones included."""
    table = source_items.c
    rows = connection.execute(
        sa.select(table.sku, table.quantity, table.status, table.deleted_at.is_not(None)).where(
            table.source_code == source_code, table.sku.in_(skus)
        )
    )
    return {sku: StoredLevel(Level(quantity, status), bool(gone)) for sku, quantity, status, gone in rows}


def write(
    connection: sa.Connection, source_code: str, levels: Collection[tuple[str, Level]], at: datetime
) -> None:
    """Write rows that are new, changed or restored."""
    rows = [(source_code, sku, level.quantity, level.status, at, None) for sku, level in levels]
    bulk_upsert(connection, source_items, _COLUMNS, rows)


def tombstone(connection: sa.Connection, source_code: str, skus: Collection[str], at: datetime) -> int:
    """Tombstone rows; return how many of them were live."""
    if not skus:
        return 0
    gone = connection.execute(
        source_items.update()
        .where(*_live(source_code), source_items.c.sku.in_(skus))
        .values(deleted_at=at, changed_at=at)
    )
    return gone.rowcount


def live_after(connection: sa.Connection, source_code: str, sku: str, limit: int) -> Sequence[str]:
    """Live SKUs of a source after `sku` in this database's order; '' starts at the first."""
    table = source_items.c
    return (
        connection.execute(
            sa.select(table.sku).where(*_live(source_code), table.sku > sku).order_by(table.sku).limit(limit)
        )
        .scalars()
        .all()
    )


def sources(connection: sa.Connection) -> list[str]:
    """The sources with live rows; one index lookup per source."""
    return list(_sources(connection))


def _sources(connection: sa.Connection) -> Iterator[str]:
    table, last = source_items.c, ""
    while True:
        found = connection.execute(
            sa.select(sa.func.min(table.source_code)).where(
                table.source_code > last, table.deleted_at.is_(None)
            )
        ).scalar_one()
        if found is None:
            return
        yield found
        last = found


def _live(source_code: str) -> tuple[sa.ColumnElement[bool], ...]:
    return source_items.c.source_code == source_code, source_items.c.deleted_at.is_(None)
