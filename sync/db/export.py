"""Rows for files: products as the copy holds them, in pages, all from one moment.

Everything is read in one transaction that sees one snapshot, so a pass that writes meanwhile changes
nothing in the file. Pages are addressed by key, so no driver has to hold a whole result, and one
after large documents is shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sync.db import current_views
from sync.db.dialects import Row
from sync.db.flat import FlatColumn, Labels, read_value
from sync.db.schema import attribute_options, product_attributes, products
from sync.db.skus import alike
from sync.errors import UsageError

FIRST_PAGE, LONGEST_PAGE = 100, 2000  # products
PAGE_CHARACTERS = 4_000_000

Values = Mapping[str, str]  # attribute code -> value, of one product
Labelled = Mapping[str, str | None]  # option id -> label, of one attribute


@dataclass(frozen=True, slots=True)
class Selection:
    """Which products; None and empty mean all of them. Tombstones are never among them."""

    store_view: str | None = None
    skus: Collection[str] = ()
    types: Collection[str] = ()
    changed_since: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """What holds in every store view."""
        found: list[sa.ColumnElement[bool]] = [products.c.deleted_at.is_(None)]
        if self.skus:
            found.append(products.c.sku.in_(self.skus))
        if self.types:
            found.append(products.c.type_id.in_(self.types))
        if self.changed_since is not None:
            found.append(products.c.changed_at >= self.changed_since)
        return found


def snapshot(engine: sa.Engine) -> sa.Engine:
    """An engine whose transactions see one moment of the copy; SQLite's do anyway."""
    return engine.execution_options(sync_snapshot=True)


def pages(
    connection: sa.Connection, columns: Sequence[FlatColumn], selection: Selection
) -> Iterator[list[Row]]:
    """The selected products, by store view and id, as values in the order of `columns`.

    SKUs are compared as Commerce does.
    Decimals have 6 places, times are aware UTC; None is null. Raises UsageError for an unknown store view.
    """
    if selection.skus:
        named = alike(connection, selection.skus).union(selection.skus)
        selection = replace(selection, skus=named)
    for store_view in _store_views(connection, selection.store_view):
        yield from _pages_of(connection, store_view, columns, selection)


def _store_views(connection: sa.Connection, asked: str | None) -> list[str]:
    """The store view asked for, or all that are current."""
    gone = current_views.left(connection)
    found = current_views.current(connection)
    if asked is None:
        return found
    if asked in gone:
        raise UsageError(
            f"the store view {asked} is not current: it left STORE_VIEWS, or the tenant.",
            f"put it back into STORE_VIEWS and run; or remove it: product-sync forget --store-view {asked}.",
        )
    if asked not in found:
        raise UsageError(
            f"the copy holds no store view {asked}.", f"name one of: {', '.join(found) or 'none so far'}."
        )
    return [asked]


def _pages_of(
    connection: sa.Connection, store_view: str, columns: Sequence[FlatColumn], selection: Selection
) -> Iterator[list[Row]]:
    names = [column.source for column in columns if not column.is_attribute]
    codes = [column.source for column in columns if column.is_attribute]
    readers = _readers(columns, _labels(connection, store_view, columns))
    select = (
        sa.select(products.c.product_id.label("_id"), *(products.c[name] for name in names))
        .where(products.c.store_view == store_view, *selection.conditions())
        .order_by(products.c.store_view, products.c.product_id)
    )
    after, limit = -1, FIRST_PAGE
    while found := connection.execute(select.where(products.c.product_id > after).limit(limit)).all():
        after = found[-1][0]
        values = _values(connection, store_view, [row[0] for row in found], codes)
        nothing: Values = {}
        page = [tuple(read(row, values.get(row[0], nothing)) for read in readers) for row in found]
        yield page
        if len(found) < limit:
            return
        limit = _next_limit(page)


def _next_limit(page: Sequence[Row]) -> int:
    """As many products as fill a page, when they are like the last ones; at most 8 times as many."""
    characters = sum(len(value) for row in page for value in row if type(value) is str)
    fitting = len(page) * PAGE_CHARACTERS // max(1, characters)
    return max(1, min(fitting, 8 * len(page), LONGEST_PAGE))


def _values(
    connection: sa.Connection, store_view: str, ids: Sequence[int], codes: Sequence[str]
) -> dict[int, dict[str, str]]:
    """Attribute values of these products: by id, then by code."""
    if not codes:
        return {}
    table = product_attributes.c
    rows = connection.execute(
        sa.select(table.product_id, table.attribute_code, table.value).where(
            table.store_view == store_view, table.product_id.in_(ids), table.attribute_code.in_(codes)
        )
    )
    found: dict[int, dict[str, str]] = {}
    for product_id, code, value in rows:
        found.setdefault(product_id, {})[code] = value
    return found


# --- one value ---------------------------------------------------------------------------------

Reader = Callable[[Row, Values], Any]


def _readers(columns: Sequence[FlatColumn], labels: Mapping[str, Labelled]) -> list[Reader]:
    """What finds each column's value in a row of `products`, whose id comes first, and its attributes."""
    places = iter(range(1, len(columns) + 1))
    return [
        _of_attribute(column, labels.get(column.source, {})) if column.is_attribute else _at(next(places))
        for column in columns
    ]


def _at(place: int) -> Reader:
    return lambda row, _values: row[place]


def _of_attribute(column: FlatColumn, labels: Labelled) -> Reader:
    code, kind = column.source, column.kind

    def read(_row: Row, values: Values) -> Any:
        value = values.get(code)
        if value is None:
            return None
        return read_value(kind, value) if column.labels == "none" else _label(column.labels, value, labels)

    return read


def _label(many: Labels, value: str, labels: Labelled) -> str | None:
    """The label of an option id, or those of several; None where Commerce lists no such option.

    Where the copy knows no option of the attribute, the value as it stands.
    """
    if not labels:
        return value
    if many == "one":
        return labels.get(value)
    known = [label for part in value.split(",") if (label := labels.get(part)) is not None]
    return ", ".join(known) if known else None


def _labels(connection: sa.Connection, store_view: str, columns: Sequence[FlatColumn]) -> dict[str, Labelled]:
    """Option labels by attribute and id: those of the store view, else those of `all`."""
    codes = [column.source for column in columns if column.labels != "none"]
    table = attribute_options.c
    found: dict[str, dict[str, str | None]] = {code: {} for code in codes}
    for view in ("all", store_view) if codes else ():
        rows = connection.execute(
            sa.select(table.attribute_code, table.option_value, table.label).where(
                table.store_view == view, table.attribute_code.in_(codes)
            )
        )
        for code, value, label in rows:
            found[code][value] = found[code].get(value) if label is None else label
    return dict(found)
