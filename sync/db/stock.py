"""Source items: what the copy holds of each source, and what is written of it."""

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
    """What lies of a SKU in a source."""

    quantity: Decimal | None
    status: int | None


class StoredLevel(NamedTuple):
    """A row of the copy; a tombstone keeps what was last known."""

    level: Level
    is_deleted: bool


def known(connection: sa.Connection, source_code: str, skus: Collection[str]) -> dict[str, StoredLevel]:
    """What the copy has of these SKUs in a source, tombstones included."""
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
    """Write rows that are new, differ or are back."""
    rows = [(source_code, sku, level.quantity, level.status, at, None) for sku, level in levels]
    bulk_upsert(connection, source_items, _COLUMNS, rows)


def tombstone(connection: sa.Connection, source_code: str, skus: Collection[str], at: datetime) -> int:
    """Mark rows as gone; returns how many lived."""
    if not skus:
        return 0
    gone = connection.execute(
        source_items.update()
        .where(*_living(source_code), source_items.c.sku.in_(skus))
        .values(deleted_at=at, changed_at=at)
    )
    return gone.rowcount


def living_behind(connection: sa.Connection, source_code: str, sku: str, limit: int) -> Sequence[str]:
    """SKUs that live in a source and follow one in the order of this database, '' being the first."""
    table = source_items.c
    return (
        connection.execute(
            sa.select(table.sku)
            .where(*_living(source_code), table.sku > sku)
            .order_by(table.sku)
            .limit(limit)
        )
        .scalars()
        .all()
    )


def sources(connection: sa.Connection) -> list[str]:
    """The sources in which anything lives: a look-up for each, not a row for each SKU."""
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


def _living(source_code: str) -> tuple[sa.ColumnElement[bool], ...]:
    return source_items.c.source_code == source_code, source_items.c.deleted_at.is_(None)
