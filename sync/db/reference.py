"""Reference data: what is here, what is written, what changed; and how far the feed was looked through.

A row is a mapping of column names to values; its key is the tuple of its primary key's values. Tables go by
their names; `TABLES` has them all.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

import sqlalchemy as sa

from sync.db import schema, state
from sync.db.dialects import bulk_insert, bulk_upsert
from sync.db.schema import (
    attribute_options,
    attributes,
    product_attributes,
    product_changes,
    reference_changes,
    sync_feed,
)
from sync.model import ChangeKind

T = TypeVar("T")
Key = tuple[Any, ...]
Row = Mapping[str, Any]
Where = Mapping[str, Any]  # column -> its value, or a list of values of which it has one

TABLES: Final = {
    table.name: table
    for table in (
        attributes,
        attribute_options,
        schema.attribute_sets,
        schema.categories,
        schema.websites,
        schema.store_groups,
        schema.store_views,
    )
}
CHUNK: Final = 500  # keys in a statement


class Difference(NamedTuple):
    """A row to be written, or to go, and its entry in `reference_changes`.

    fields    JSON text: columns, and paths of `document`, with old and new value; None for an insert
    """

    kind: ChangeKind
    row: Row
    fields: str | None = None


def key_of(table: str, row: Row) -> Key:
    return tuple(row[column.name] for column in TABLES[table].primary_key)


def stored(connection: sa.Connection, table: str, where: Where) -> dict[Key, Row]:
    """Rows by key."""
    rows = connection.execute(sa.select(TABLES[table]).where(*_conditions(table, where)))
    return {key_of(table, row): row for row in map(dict, rows.mappings())}


def keys(connection: sa.Connection, table: str, where: Where) -> list[Key]:
    found = connection.execute(
        sa.select(*TABLES[table].primary_key)
        .where(*_conditions(table, where))
        .order_by(*TABLES[table].primary_key)
    )
    return [tuple(row) for row in found]


def _conditions(table: str, where: Where) -> Iterator[sa.ColumnElement[bool]]:
    for name, value in where.items():
        column = TABLES[table].c[name]
        yield column.in_(value) if isinstance(value, list) else column == value


# --- writing ---------------------------------------------------------------------------------


def write(
    connection: sa.Connection,
    table: str,
    differences: Sequence[Difference],
    stamped: Sequence[Row],
    at: datetime,
    run_id: int,
) -> None:
    """Make the rows as they should be, and keep what changed, in the transaction of `connection`.

    stamped    rows to be written that differ in nothing worth an entry
    """
    columns = [column.name for column in TABLES[table].columns]
    kept = [*(it.row for it in differences if it.kind != "delete"), *stamped]
    bulk_upsert(connection, TABLES[table], columns, [tuple(row[name] for name in columns) for row in kept])
    _delete(connection, table, [key_of(table, it.row) for it in differences if it.kind == "delete"])
    entries = [(table, _named_key(table, it.row), it.kind, at, it.fields, run_id) for it in differences]
    names = ("table_name", "row_key", "kind", "changed_at", "fields", "run_id")
    bulk_insert(connection, reference_changes, names, entries)


def _named_key(table: str, row: Row) -> str:
    names = [column.name for column in TABLES[table].primary_key]
    return json.dumps({name: row[name] for name in names}, ensure_ascii=False)


def _delete(connection: sa.Connection, table: str, gone: Sequence[Key]) -> None:
    columns = list(TABLES[table].primary_key)
    for some in _chunks(gone):
        connection.execute(TABLES[table].delete().where(sa.tuple_(*columns).in_(some)))


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


# --- values whose option is not here ---------------------------------------------------------

SIGHTED: Final = (
    "options_sighted"  # the name under which sync_state keeps how far the feed was looked through
)
ASKED: Final = "options_asked"  # and what was asked for in vain
CHANGES_AT_ONCE: Final = 10_000
MOST_ASKED: Final = 10_000
CHOICES: Final = ("select", "multiselect")


class Value(NamedTuple):
    """An option that a product of a store view has: its attribute, and its value alone."""

    store_view: str
    attribute_code: str
    value: str


def unsighted(connection: sa.Connection) -> tuple[int, int] | None:
    """The entries of the change feed whose options were not looked for: after the first, up to the second.

    None while there are none, or no reference pass has come through its attributes yet.
    """
    sighted = state.load(connection, SIGHTED)
    end = _feed_end(connection)
    return None if sighted is None or sighted >= end else (sighted, end)


def sight(connection: sa.Connection, up_to: int | None = None) -> None:
    """Take the feed for looked through, up to an entry, or as far as it goes."""
    state.save(connection, SIGHTED, _feed_end(connection) if up_to is None else up_to)


def _feed_end(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sync_feed.c.last_change_id)).scalar_one())


def unknown_values(connection: sa.Connection, after: int, up_to: int) -> set[Value]:
    """What products changed in these entries of the feed have for options that are not here.

    From the feed by its key, to attributes and options by theirs: the size of the copy does not matter.
    """
    _forbid_whole_tables(connection)
    change, has, attribute, option = (
        product_changes.c,
        product_attributes.c,
        attributes.c,
        attribute_options.c,
    )
    found = connection.execute(
        sa.select(has.store_view, has.attribute_code, has.value, attribute.frontend_input)
        .select_from(product_changes)
        .join(
            product_attributes, (has.store_view == change.store_view) & (has.product_id == change.product_id)
        )
        .join(attributes, attribute.attribute_code == has.attribute_code)
        .outerjoin(
            attribute_options,
            (option.store_view == has.store_view)
            & (option.attribute_code == has.attribute_code)
            & (option.option_value == has.value),
        )
        .where(
            change.change_id > after,
            change.change_id <= up_to,
            change.kind != "delete",
            attribute.frontend_input.in_(CHOICES),
            has.value != "",
            option.option_value.is_(None),
        )
    )
    values = set()
    for view, code, value, kind in found:
        parts = value.split(",") if kind == "multiselect" else (value,)
        values |= {Value(view, code, part) for part in parts if part}
    return without_option(connection, values)


def _forbid_whole_tables(connection: sa.Connection) -> None:
    """Until the transaction ends: PostgreSQL takes ten thousand look-ups for dearer than reading a table of
    forty million rows, and would do that again for every part of a first load."""
    if connection.dialect.name == "postgresql":
        for way in ("hashjoin", "mergejoin"):
            connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")


def without_option(connection: sa.Connection, values: Collection[Value]) -> set[Value]:
    """Those of these values that are no option here."""
    by_attribute: dict[tuple[str, str], list[str]] = {}
    for view, code, value in values:
        by_attribute.setdefault((view, code), []).append(value)
    table, here = attribute_options.c, set()
    for (view, code), wanted in by_attribute.items():
        for some in _chunks(wanted):
            found = connection.execute(
                sa.select(table.option_value).where(
                    table.store_view == view, table.attribute_code == code, table.option_value.in_(some)
                )
            )
            here |= {Value(view, code, value) for value in found.scalars()}
    return set(values) - here


def asked(connection: sa.Connection) -> list[tuple[str, str]]:
    """(attribute code, value) of options that were asked for in vain, oldest first."""
    return [(code, value) for code, value in state.load(connection, ASKED) or []]


def remember_asked(connection: sa.Connection, missing: Iterable[tuple[str, str]]) -> None:
    """Add options that were asked for in vain; the oldest are forgotten behind MOST_ASKED."""
    known = dict.fromkeys([*asked(connection), *missing])
    state.save(connection, ASKED, [list(it) for it in list(known)[-MOST_ASKED:]])


# --- products that lose a value with what is deleted ------------------------------------------

TAKEN: Final = "reference_taken"  # the name under which sync_state keeps keys of rows that were deleted
CARRIED: Final = ("attribute_options", "attributes", "categories", "websites")  # what products refer to


def taken(connection: sa.Connection) -> list[list[Any]]:
    """[table, key without the store view] of rows whose products were not read again yet."""
    return state.load(connection, TAKEN) or []


def remember_taken(connection: sa.Connection, table: str, gone: Iterable[Key]) -> None:
    """Add deleted rows, in the transaction that deletes them."""
    if table in CARRIED and (keys := [[table, *_bare(table, key)] for key in gone]):
        known = taken(connection)
        state.save(connection, TAKEN, [*known, *(key for key in keys if key not in known)])


def forget_taken(connection: sa.Connection) -> None:
    state.save(connection, TAKEN, [])


def _bare(table: str, key: Key) -> Key:
    return key[1:] if "store_view" in TABLES[table].primary_key.columns else key


def carriers(connection: sa.Connection, store_view: str, gone: Iterable[Sequence[Any]]) -> set[int]:
    """Products of a store view that have one of these values here. Reads all values of these attributes."""
    options: dict[str, set[str] | None] = {}
    ids: dict[str, list[int]] = {"categories": [], "websites": []}
    for table, *key in gone:
        if table in ids:
            ids[table].append(key[0])
        elif table == "attributes":
            options[key[0]] = None
        elif (values := options.setdefault(key[0], set())) is not None:
            values.add(key[1])
    found = set(_with_option(connection, store_view, options))
    for table, column in (
        ("categories", schema.product_categories.c.category_id),
        ("websites", schema.product_websites.c.website_id),
    ):
        for some in _chunks(ids[table]):
            has = column.table.c
            query = sa.select(has.product_id).where(has.store_view == store_view, column.in_(some))
            found.update(connection.execute(query).scalars())
    return found


def _with_option(
    connection: sa.Connection, store_view: str, options: Mapping[str, set[str] | None]
) -> Iterator[int]:
    """Products with one of an attribute's values, alone or in a list with commas; None is any value."""
    has = product_attributes.c
    for some in _chunks(list(options)):
        query = sa.select(has.product_id, has.attribute_code, has.value).where(
            has.store_view == store_view, has.attribute_code.in_(some)
        )
        with connection.execute(query, execution_options={"yield_per": CHANGES_AT_ONCE}) as rows:
            for product_id, code, value in rows:
                values = options[code]
                if values is None or not values.isdisjoint((value or "").split(",")):
                    yield product_id
