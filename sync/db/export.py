"""Read products for an export, page by page, from one snapshot.

One transaction with one snapshot reads everything, so a concurrent pass does not affect the file. Keyset
pagination keeps memory constant in every driver; the sizes of long texts are read before the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sync.db import current_views
from sync.db.dialects import Row, text_size
from sync.db.flat import FlatColumn, Labels, read_value
from sync.db.schema import attribute_options, product_attributes, products
from sync.db.skus import equivalent
from sync.errors import UsageError

FIRST_PAGE, MAX_PAGE = 100, 2000  # products
PAGE_CHARACTERS = 4_000_000

Values = Mapping[str, str]  # attribute code -> value, of one product
Labelled = Mapping[str, str | None]  # option id -> label, of one attribute


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter of live products; None and empty select all of them."""

    store_view: str | None = None
    skus: Collection[str] = ()
    types: Collection[str] = ()
    changed_since: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The conditions besides the store view."""
        found: list[sa.ColumnElement[bool]] = [products.c.deleted_at.is_(None)]
        if self.skus:
            found.append(products.c.sku.in_(self.skus))
        if self.types:
            found.append(products.c.type_id.in_(self.types))
        if self.changed_since is not None:
            found.append(products.c.changed_at >= self.changed_since)
        return found


def snapshot(engine: sa.Engine) -> sa.Engine:
    """An engine whose transactions read one snapshot; SQLite's always do."""
    return engine.execution_options(sync_snapshot=True)


def pages(
    connection: sa.Connection, columns: Sequence[FlatColumn], selection: Selection
) -> Iterator[list[Row]]:
    """Yield the selected products, ordered by store view and id, as values in the order of `columns`.

    SKUs are compared as in Commerce.
    Decimals have 6 places, times are aware UTC; None is null. Raises UsageError for an unknown store view.
    """
    if selection.skus:
        named = equivalent(connection, selection.skus).union(selection.skus)
        selection = replace(selection, skus=named)
    for store_view in _store_views(connection, selection.store_view):
        yield from _pages_of(connection, store_view, columns, selection)


def ensure_found(connection: sa.Connection, selection: Selection) -> list[str]:
    """The SKUs and types of a selection of which the copy has no live product, in words.

    Raises UsageError when it has none of the SKUs, or none of the types, and for an unknown store view.
    """
    views = _store_views(connection, selection.store_view)
    where = products.c.store_view.in_(views), products.c.deleted_at.is_(None)
    return [
        *_not_found("product", selection.skus, lambda sku: _has_sku(connection, sku, where)),
        *_not_found(
            "product of type", selection.types, lambda it: _has(connection, products.c.type_id == it, where)
        ),
    ]


def _not_found(noun: str, names: Collection[str], is_found: Callable[[str], bool]) -> list[str]:
    missing = [f"{noun} {name}" for name in dict.fromkeys(names) if not is_found(name)]
    if missing and len(missing) == len({*names}):
        raise UsageError(
            f"the copy has no {', no '.join(missing)}.",
            "correct the name; `product-sync status` counts products.",
        )
    return missing


def _has_sku(connection: sa.Connection, sku: str, where: Sequence[sa.ColumnElement[bool]]) -> bool:
    same = equivalent(connection, [sku]).union([sku])
    return _has(connection, products.c.sku.in_(same), where)


def _has(
    connection: sa.Connection, condition: sa.ColumnElement[bool], where: Sequence[sa.ColumnElement[bool]]
) -> bool:
    found = sa.select(products.c.product_id).where(condition, *where).limit(1)
    return connection.execute(found).first() is not None


def _store_views(connection: sa.Connection, requested: str | None) -> list[str]:
    """The requested store view, or all that are current."""
    gone = current_views.left(connection)
    found = current_views.current(connection)
    if requested is None:
        return found
    if requested in gone:
        raise UsageError(
            f"the store view {requested} is not current: it is no longer in STORE_VIEWS or on the tenant.",
            f"add it to STORE_VIEWS and run; or remove it: product-sync forget --store-view {requested}.",
        )
    if requested not in found:
        raise UsageError(
            f"the copy has no store view {requested}.", f"name one of: {', '.join(found) or 'none yet'}."
        )
    return [requested]


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
    is_long = "document" in names
    after, limit = -1, FIRST_PAGE
    while ids := _next_ids(connection, select, after, limit):
        last = _last_that_fits(connection, store_view, ids, codes, is_long=is_long)
        this = products.c.product_id > after, products.c.product_id <= last
        found = connection.execute(select.where(*this)).all()
        after = last
        values = _values(connection, store_view, [row[0] for row in found], codes)
        nothing: Values = {}
        page = [tuple(read(row, values.get(row[0], nothing)) for read in readers) for row in found]
        next_limit = _next_limit(page)
        yield page
        del found, values, page  # before the next are read
        if last == ids[-1] and len(ids) < limit:
            return
        limit = next_limit


def _next_ids(connection: sa.Connection, select: sa.Select[Any], after: int, limit: int) -> list[int]:
    ids = select.with_only_columns(products.c.product_id).where(products.c.product_id > after).limit(limit)
    return [*connection.scalars(ids)]


def _last_that_fits(
    connection: sa.Connection, store_view: str, ids: Sequence[int], codes: Sequence[str], *, is_long: bool
) -> int:
    """The last id up to which the long texts have PAGE_CHARACTERS, or the first if it alone has more.

    is_long    whether documents are read, too
    """
    sizes = dict.fromkeys(ids, 0)
    dialect, values = connection.dialect.name, product_attributes.c
    asked: list[sa.Select[Any]] = []
    if is_long:
        size = text_size(dialect, products.c.document)
        asked.append(sa.select(products.c.product_id, size).where(products.c.store_view == store_view))
    if codes:
        size = text_size(dialect, values.value)
        asked.append(
            sa.select(values.product_id, size).where(
                values.store_view == store_view, values.attribute_code.in_(codes)
            )
        )
    for statement in asked:
        for product_id, size in connection.execute(statement.where(statement.selected_columns[0].in_(ids))):
            sizes[product_id] += size or 0
    total, last = 0, ids[0]
    for product_id in ids:
        total += sizes[product_id]
        if total > PAGE_CHARACTERS:
            break
        last = product_id
    return last


def _next_limit(page: Sequence[Row]) -> int:
    """The number of products that fill PAGE_CHARACTERS at this average size; at most 8 times as many."""
    characters = sum(len(value) for row in page for value in row if type(value) is str)
    full_page = len(page) * PAGE_CHARACTERS // max(1, characters)
    return max(1, min(full_page, 8 * len(page), MAX_PAGE))


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
    """A function per column that reads its value from a row (product id first) and the attributes."""
    positions = iter(range(1, len(columns) + 1))
    return [
        _of_attribute(column, labels.get(column.source, {})) if column.is_attribute else _at(next(positions))
        for column in columns
    ]


def _at(position: int) -> Reader:
    return lambda row, _values: row[position]


def _of_attribute(column: FlatColumn, labels: Labelled) -> Reader:
    code, kind = column.source, column.kind

    def read(_row: Row, values: Values) -> Any:
        value = values.get(code)
        if value is None:
            return None
        return read_value(kind, value) if column.labels == "none" else _label(column.labels, value, labels)

    return read


def _label(many: Labels, value: str, labels: Labelled) -> str | None:
    """The label of one option id or of several; None where Commerce lists no such option.

    The value itself where the copy has no options of the attribute.
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
