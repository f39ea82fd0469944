"""The audit: stored rows are compared with what their documents map to, so that hand-made edits are found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from sync.db.dialects import Row, as_mapped, comparable_rows, stored_rows
from sync.db.schema import metadata
from sync.model import CHILD_COLUMNS, PRODUCT_COLUMNS, Interval


class ExpectedRows(Protocol):
    """The rows that a product's document maps to; `children` by table."""

    @property
    def product(self) -> Row: ...
    @property
    def children(self) -> Mapping[str, list[Row]]: ...


class Damage(NamedTuple):
    """Rows of one product that are not what its document says: (table, only in the copy, only expected)."""

    table: str
    stored: list[Row]
    expected: list[Row]


def damages(
    connection: sa.Connection, store_view: str, expected: Mapping[int, ExpectedRows]
) -> dict[int, list[Damage]]:
    """Compare the stored rows of some products with the expected ones, table by table, as sets.

    expected    by product id

    Returns the damage by product id; rows of other products are not looked at.
    """
    if not expected:
        return {}
    found: dict[int, list[Damage]] = {}
    interval = Interval(min(expected) - 1, max(expected))
    for name, columns in {"products": PRODUCT_COLUMNS, **CHILD_COLUMNS}.items():
        table = metadata.tables[name]
        should = set(comparable_rows(connection, table, columns, _rows_of(name, expected.values())))
        rows = stored_rows(connection, table, columns, store_view, interval)
        have = {row for row in rows if row[1] in expected}
        if have != should:
            stored = [as_mapped(table, columns, row) for row in have - should]
            _note(found, name, stored, [as_mapped(table, columns, row) for row in should - have])
    return found


def _rows_of(table: str, expected: Iterable[ExpectedRows]) -> list[Row]:
    if table == "products":
        return [rows.product for rows in expected]
    return [row for rows in expected for row in rows.children[table]]


def _note(
    found: dict[int, list[Damage]], table: str, only_stored: Iterable[Row], only_expected: Iterable[Row]
) -> None:
    by_id: dict[int, tuple[list[Row], list[Row]]] = {}
    for side, rows in enumerate((only_stored, only_expected)):
        for row in rows:
            by_id.setdefault(row[1], ([], []))[side].append(row)
    for product_id, (stored_side, expected_side) in by_id.items():
        found.setdefault(product_id, []).append(
            Damage(table, sorted(stored_side, key=repr), sorted(expected_side, key=repr))
        )


def repairs(damage: Sequence[Damage]) -> dict[str, dict[str, Any]]:
    """The feed's entry for a repair: the columns, or the table, that somebody had edited."""
    paths: dict[str, dict[str, Any]] = {}
    for table, stored, expected in damage:
        if table == "products" and stored and expected:
            for column, old, new in zip(PRODUCT_COLUMNS, stored[0], expected[0], strict=True):
                if old != new and column != "document":
                    paths[column] = {"old": _plain(old), "new": _plain(new)}
            if not paths:
                paths["document"] = {}
        else:
            paths[table] = {
                "old": [_plain(row[2:]) for row in stored],
                "new": [_plain(row[2:]) for row in expected],
            }
    return paths


def _plain(value: Any) -> Any:
    """A column's value as JSON can hold it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, Decimal, type(None))) else str(value)
