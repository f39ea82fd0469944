"""Queries of the status page, with keyset pagination: their cost does not depend on the catalogue's size.

None counts, sorts or scans a whole table. Without an index (a kind of change, a name), a query scans a
limited number of rows and returns where to continue: `RowsPage`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, Final

import sqlalchemy as sa

from sync.db import current_views
from sync.db.schema import (
    attribute_sets,
    categories,
    product_categories,
    product_changes,
    product_prices,
    product_variants,
    product_websites,
    products,
    rejected_items,
    source_items,
    sync_feed,
    sync_partitions,
    sync_runs,
    websites,
)

Row = dict[str, Any]
PAGE: Final = 50
CHANGES_LOOKED_THROUGH: Final = 20_000  # feed entries for one page
NAMES_PER_QUERY: Final = 1_000  # products, before the time is checked again
NAME_SEARCH_S: Final = 0.04
LONGEST_SHOWN: Final = 100_000  # characters of one text; of a longer one, a page shows the beginning
BEGINNING: Final = 500
MOST_WORDS: Final = 6  # of a search
MAX_SKUS_SCANNED: Final = 300  # of an index in the order of a language, not of bytes
_LAST_LETTER = chr(0x10FFFF)
_BRIEF = [
    products.c[name]
    for name in ("store_view", "product_id", "sku", "name", "type_id", "status", "price", "updated_at")
] + [products.c.deleted_at]


@dataclass(frozen=True, slots=True)
class RowsPage:
    """The rows found, and the key to continue after; `next` is None at the end."""

    rows: list[Row]
    next: int | None


def _rows(connection: sa.Connection, statement: sa.Select[Any]) -> list[Row]:
    return [dict(row) for row in connection.execute(statement).mappings()]


def _page(connection: sa.Connection, statement: sa.Select[Any], key: str) -> RowsPage:
    """The first page of an ordered statement, and the key of its last row when more follow."""
    rows = _rows(connection, statement.limit(PAGE + 1))
    return RowsPage(rows[:PAGE], rows[PAGE - 1][key] if len(rows) > PAGE else None)


def _with_beginning(table: sa.Table, name: str) -> list[sa.ColumnElement[Any]]:
    """The columns of a table, `name` only where it is short; else how it begins, and its length.

    The server cuts: one change can have 16 MB, and a page shows 50.
    """
    long = table.c[name]
    text = sa.cast(long, sa.Text)
    is_long = sa.func.length(text) > LONGEST_SHOWN
    return [
        *(column for column in table.columns if column.name != name),
        sa.case((is_long, sa.null()), else_=long).label(name),
        sa.case((is_long, sa.func.substr(text, 1, BEGINNING)), else_=None).label(f"{name}_beginning"),
        sa.case((is_long, sa.func.length(text)), else_=None).label(f"{name}_length"),
    ]


# --- runs and rejections ---------------------------------------------------------------------


def runs(connection: sa.Connection, kind: str | None = None, before: int | None = None) -> RowsPage:
    """Runs, newest first."""
    table = sync_runs.c
    where: list[sa.ColumnElement[bool]] = [] if kind is None else [table.kind == kind]
    where += [] if before is None else [table.run_id < before]
    return _page(connection, sa.select(sync_runs).where(*where).order_by(table.run_id.desc()), "run_id")


def run(connection: sa.Connection, run_id: int) -> Row | None:
    found = _rows(connection, sa.select(sync_runs).where(sync_runs.c.run_id == run_id))
    return found[0] if found else None


def partitions(connection: sa.Connection, run_id: int) -> list[Row]:
    """The first page of a run's unfinished partitions."""
    table = sync_partitions
    statement = sa.select(table).where(table.c.run_id == run_id).order_by(*table.primary_key)
    return _rows(connection, statement.limit(PAGE))


def rejected(
    connection: sa.Connection,
    *,
    resolved: bool = False,
    kind: str | None = None,
    store_view: str | None = None,
    before: int | None = None,
) -> RowsPage:
    """Rejections and notes, newest first, without their payload.

    resolved    include resolved ones
    """
    table = rejected_items.c
    where: list[sa.ColumnElement[bool]] = [] if resolved else [table.resolved_at.is_(None)]
    where += [] if kind is None else [table.kind == kind]
    where += [] if store_view is None else [table.store_view == store_view]
    where += [] if before is None else [table.rejected_id < before]
    columns = [column for column in rejected_items.columns if column.name != "payload"]
    statement = sa.select(*columns).where(*where).order_by(table.rejected_id.desc())
    return _page(connection, statement, "rejected_id")


# --- the change feed -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter of the change feed; None selects everything.

    until          before this time
    product_ids    uses an index; `since` and `until` bound what is scanned for the other conditions
    """

    store_view: str | None = None
    kind: str | None = None
    since: datetime | None = None
    product_ids: Collection[int] | None = None
    until: datetime | None = None
    run_id: int | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        table = product_changes.c
        where: list[sa.ColumnElement[bool]] = []
        where += [] if self.store_view is None else [table.store_view == self.store_view]
        where += [] if self.kind is None else [table.kind == self.kind]
        where += [] if self.since is None else [table.changed_at >= self.since]
        where += [] if self.until is None else [table.changed_at < self.until]
        where += [] if self.run_id is None else [table.run_id == self.run_id]
        return where


def changes(connection: sa.Connection, wanted: Wanted, before: int | None = None) -> RowsPage:
    """Entries of the feed before `before`, newest first."""
    table = product_changes.c
    if wanted.product_ids is not None:
        return _changes_of(connection, wanted, before)
    top = before or int(connection.execute(sa.select(sync_feed.c.last_change_id)).scalar_one()) + 1
    if wanted.until is not None:
        top = min(top, _first_since(connection, wanted.until, top))
    bottom = max(1, top - CHANGES_LOOKED_THROUGH)
    statement = (
        sa.select(*_with_beginning(product_changes, "fields"))
        .where(table.change_id < top, table.change_id >= bottom, *wanted.conditions())
        .order_by(table.change_id.desc())
    )
    found = _page(connection, statement, "change_id")
    if found.next is not None or bottom == 1 or _is_older(connection, bottom, wanted.since):
        return found
    return RowsPage(found.rows, bottom)


def _first_since(connection: sa.Connection, at: datetime, top: int) -> int:
    """The first entry below `top` that is not older than `at`, else `top`: the feed is ordered by time."""
    table, low, high = product_changes.c, 1, top
    while low < high:
        middle = (low + high) // 2
        nearest = sa.select(table.change_id, table.changed_at).where(
            table.change_id >= middle, table.change_id < high
        )
        found = connection.execute(nearest.order_by(table.change_id).limit(1)).one_or_none()
        if found is None or found.changed_at >= at:
            high = middle
        else:
            low = found.change_id + 1
    return low


def product_names(connection: sa.Connection, keys: Collection[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """The names of products, by store view and id."""
    table, found = products.c, dict[tuple[str, int], str]()
    for view in {view for view, _ in keys}:
        ids = [i for known_view, i in keys if known_view == view]
        names = sa.select(table.product_id, table.name).where(
            table.store_view == view, table.product_id.in_(ids)
        )
        found |= {(view, row.product_id): row.name for row in connection.execute(names)}
    return found


def _is_older(connection: sa.Connection, change_id: int, since: datetime | None) -> bool:
    """Whether all entries before this one are older than `since`: the feed is ordered by time."""
    if since is None:
        return False
    table = product_changes.c
    nearest = sa.select(table.changed_at).where(table.change_id < change_id).order_by(table.change_id.desc())
    at = connection.execute(nearest.limit(1)).scalar_one_or_none()
    return at is None or at < since


def _changes_of(connection: sa.Connection, wanted: Wanted, before: int | None) -> RowsPage:
    """Changes of some products, by (store view, product), the key of the index."""
    table = product_changes.c
    views = [wanted.store_view] if wanted.store_view is not None else current_views.loaded(connection)
    keys = [(view, i) for view in views for i in wanted.product_ids or ()]
    where: list[sa.ColumnElement[bool]] = [
        sa.or_(sa.false(), *(sa.and_(table.store_view == view, table.product_id == i) for view, i in keys))
    ]
    where += wanted.conditions()
    where += [] if before is None else [table.change_id < before]
    return _page(
        connection,
        sa.select(*_with_beginning(product_changes, "fields")).where(*where).order_by(table.change_id.desc()),
        "change_id",
    )


# --- products --------------------------------------------------------------------------------


def products_after(connection: sa.Connection, store_view: str, after: int) -> RowsPage:
    """A store view's products by id, tombstones included."""
    table = products.c
    statement = (
        sa.select(*_BRIEF)
        .where(table.store_view == store_view, table.product_id > after)
        .order_by(table.product_id)
    )
    return _page(connection, statement, "product_id")


def with_id(connection: sa.Connection, product_id: int, views: Sequence[str]) -> list[Row]:
    """One product in each of these store views."""
    table = products.c
    return _rows(
        connection,
        sa.select(*_BRIEF)
        .where(table.store_view.in_(views), table.product_id == product_id)
        .order_by(table.store_view),
    )


def ids_of(connection: sa.Connection, sku: str) -> list[int]:
    """Products that have exactly this SKU in some store view."""
    ids = sa.select(products.c.product_id).where(products.c.sku == sku).limit(PAGE)
    return sorted(set(connection.execute(ids).scalars()))


def with_sku(connection: sa.Connection, beginning: str, views: Collection[str]) -> list[Row]:
    """Products of these store views whose SKU has this prefix, as given, in upper or in lower case.

    Returns one row more than a page when more follow. Scans an index from the prefix on; PostgreSQL may order
    it by a language, with other prefixes in between, so the scan is limited.
    """
    found: dict[tuple[str, int], Row] = {}
    for form in dict.fromkeys((beginning, beginning.upper(), beginning.lower())):
        for row in _walk(connection, form, views):
            found.setdefault((row["store_view"], row["product_id"]), row)
    return sorted(found.values(), key=lambda row: (row["sku"], row["store_view"]))[: PAGE + 1]


def _walk(connection: sa.Connection, form: str, views: Collection[str]) -> list[Row]:
    table = products.c
    where, limit = [table.sku >= form], MAX_SKUS_SCANNED
    if connection.dialect.name != "postgresql":
        where.append(table.sku <= form + _LAST_LETTER)
    rows = _rows(connection, sa.select(*_BRIEF).where(*where).order_by(table.sku).limit(limit))
    return [row for row in rows if row["sku"].startswith(form) and row["store_view"] in views]


def containing(
    connection: sa.Connection,
    text: str,
    views: Sequence[str],
    after: int,
    *,
    names_only: bool = False,
    clock: Callable[[], float] = monotonic,
) -> RowsPage:
    """Products after id `after` with each word of `text` in name or SKU in one of these store views.

    names_only    with the whole text in the name

    Case is ignored. There is no index of parts: it scans products by id for NAME_SEARCH_S seconds.
    """
    until, found, cursor = clock() + NAME_SEARCH_S, list[Row](), after
    contains = _in_name(text) if names_only else sa.and_(*map(_in_name_or_sku, text.split()[:MOST_WORDS]))
    some = max(1, NAMES_PER_QUERY // max(1, len(views)))
    while True:
        ends = [_nth_after(connection, view, cursor, some) for view in views]
        last = min((end for end in ends if end is not None), default=None)
        if last is None:
            return RowsPage(found, None)
        stretch = [row for view in views for row in _between(connection, contains, view, cursor, last)]
        found += sorted(stretch, key=lambda row: row["product_id"])
        if len(found) >= PAGE:
            last = found[PAGE - 1]["product_id"]
            return RowsPage([row for row in found if row["product_id"] <= last], last)
        cursor = last
        if clock() >= until:
            return RowsPage(found, cursor)


def _nth_after(connection: sa.Connection, store_view: str, after: int, count: int) -> int | None:
    """The id of the `count`-th product after `after`, or of the last; None when none follows."""
    table = products.c
    some = (
        sa.select(table.product_id)
        .where(table.store_view == store_view, table.product_id > after)
        .order_by(table.product_id)
        .limit(count)
        .subquery()
    )
    last: int | None = connection.execute(sa.select(sa.func.max(some.c.product_id))).scalar_one()
    return last


def _in_name(text: str) -> sa.ColumnElement[bool]:
    return products.c.name.icontains(text, autoescape=True)


def _in_name_or_sku(word: str) -> sa.ColumnElement[bool]:
    return sa.or_(_in_name(word), products.c.sku.icontains(word, autoescape=True))


def _between(
    connection: sa.Connection, contains: sa.ColumnElement[bool], store_view: str, after: int, last: int
) -> list[Row]:
    table = products.c
    statement = (
        sa.select(*_BRIEF)
        .where(table.store_view == store_view, table.product_id > after, table.product_id <= last)
        .where(contains)
        .order_by(table.product_id)
    )
    return _rows(connection, statement)


# --- one product -----------------------------------------------------------------------------

_LABELS = sa.table(
    "product_attribute_labels",
    *(sa.column(name) for name in ("store_view", "product_id", "attribute_code")),
    *(sa.column(name) for name in ("attribute_label", "value", "value_label")),
)


def product(connection: sa.Connection, store_view: str, product_id: int) -> Row | None:
    columns = _with_beginning(products, "document")
    found = _rows(connection, sa.select(*columns).where(*_of(products, store_view, product_id)))
    return found[0] if found else None


def attribute_labels(connection: sa.Connection, store_view: str, product_id: int) -> list[Row]:
    """A product's attributes, with labels of codes and option ids, and long values cut."""
    names = [_LABELS.c[name] for name in ("attribute_code", "attribute_label")]
    value, label = (_LABELS.c[name] for name in ("value", "value_label"))
    is_long = sa.func.length(value) > LONGEST_SHOWN
    cut = [
        sa.func.substr(value, 1, LONGEST_SHOWN).label("value"),
        sa.func.substr(label, 1, LONGEST_SHOWN).label("value_label"),
        sa.case((is_long, sa.func.length(value)), else_=None).label("value_length"),
    ]
    where = _of(_LABELS, store_view, product_id)
    return _rows(connection, sa.select(*names, *cut).where(*where).order_by(_LABELS.c.attribute_code))


def category_paths(connection: sa.Connection, store_view: str, product_id: int) -> list[Row]:
    """The product's categories, with their paths in this store view, else in `all`."""
    assigned, here, base = product_categories.c, categories.alias().c, categories.alias().c
    statement = (
        sa.select(
            assigned.category_id, assigned.position, sa.func.coalesce(here.path, base.path).label("path")
        )
        .outerjoin(
            here.category_id.table,
            (here.category_id == assigned.category_id) & (here.store_view == assigned.store_view),
        )
        .outerjoin(
            base.category_id.table,
            (base.category_id == assigned.category_id) & (base.store_view == "all"),
        )
        .where(*_of(product_categories, store_view, product_id))
        .order_by(assigned.category_id)
    )
    return _rows(connection, statement)


def website_names(connection: sa.Connection, store_view: str, product_id: int) -> list[Row]:
    assigned = product_websites.c
    return _rows(
        connection,
        sa.select(assigned.website_id, websites.c.code, websites.c.name)
        .outerjoin(websites, websites.c.website_id == assigned.website_id)
        .where(*_of(product_websites, store_view, product_id))
        .order_by(assigned.website_id),
    )


def attribute_set_name(connection: sa.Connection, attribute_set_id: int | None) -> str | None:
    name: str | None = connection.execute(
        sa.select(attribute_sets.c.name).where(attribute_sets.c.attribute_set_id == attribute_set_id)
    ).scalar_one_or_none()
    return name


def prices(connection: sa.Connection, product_id: int) -> list[Row]:
    table = product_prices
    return _rows(
        connection, sa.select(table).where(table.c.product_id == product_id).order_by(*table.primary_key)
    )


def stock(connection: sa.Connection, sku: str) -> list[Row]:
    table = source_items
    return _rows(connection, sa.select(table).where(table.c.sku == sku).order_by(table.c.source_code))


def variants(connection: sa.Connection, store_view: str, product_id: int) -> list[Row]:
    """The first page of a configurable product's variants that are in the copy.

    An outer join, so that a server without statistics does not start from all products.
    """
    child = product_variants.c
    here = (products.c.store_view == child.store_view) & (products.c.product_id == child.child_product_id)
    statement = (
        sa.select(*_BRIEF)
        .select_from(product_variants.outerjoin(products, here))
        .where(*_of(product_variants, store_view, product_id))
        .order_by(child.child_product_id)
        .limit(PAGE)
    )
    return [row for row in _rows(connection, statement) if row["sku"] is not None]


def _of(table: sa.FromClause, store_view: str, product_id: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (table.c.store_view == store_view, table.c.product_id == product_id)
