"""Flat views that users create: one typed column per attribute, a row per live product and store view.

PostgreSQL refuses a migration that changes a column of a view. The names and columns of the views are
therefore stored in `sync_state`, and `dropped_views` drops them during a migration.

Each attribute is a subquery by the primary key of `product_attributes`: it costs nothing in a query that
does not select it, and avoids the servers' limits of joined tables (61 in MariaDB, 64 in SQLite).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import sqlalchemy as sa

from sync.db import state
from sync.db.current_views import LEFT_SQL
from sync.db.dialects import is_transient, own_schema
from sync.db.flat import DECIMAL, INTEGER, TIME, FlatColumn, Kind, resolve
from sync.errors import UsageError
from sync.logs.redaction import foreign

OWN = ("products_current", "product_attribute_labels", "product_overrides")
KEY = ("store_view", "product_id")
VIEWS = "views"  # key in sync_state
NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,62}")
# Columns that a store view may override, and otherwise inherits from `all`.
INHERITED = ("name", "type_id", "attribute_set_id", "status", "visibility", "price", "weight")


def create(connection: sa.Connection, name: str, columns: Sequence[str]) -> str:
    """Create or replace a view and return its quoted name. Raises UsageError.

    columns    names as in `flat.resolve`; the key columns are added in front
    """
    made = _made(connection)
    _check_name(connection, name, made)
    names = [*(name for name in KEY if name not in columns), *columns]
    select = _select(connection, resolve(connection, names, labels=True))
    _drop(connection, name)
    _execute(connection, f"CREATE VIEW {_full(connection, name)} AS {select}")
    state.save(connection, VIEWS, {**made, name: list(columns)})
    return connection.dialect.identifier_preparer.quote(name)


def drop(connection: sa.Connection, name: str) -> None:
    """Drop a view that `create` made. Raises UsageError for any other."""
    made = _made(connection)
    if name not in made:
        raise UsageError(f"`product-sync view` created no view {name}.", _created(made))
    _drop(connection, name)
    state.save(connection, VIEWS, {other: made[other] for other in made if other != name})


@contextmanager
def dropped_views(connection: sa.Connection) -> Iterator[None]:
    """Drop the users' flat views for the context, and create them again after it.

    A view that another one depends on cannot be dropped and stays; a view whose columns are gone, or whose
    name is taken by then, is not created again.
    """
    for name in _made(connection):
        _try(connection, partial(_drop, connection, name))
    yield
    for name, columns in _made(connection).items():
        if name.lower() not in _views(connection):
            _try(connection, partial(create, connection, name, columns))


def _try(connection: sa.Connection, work: Callable[[], object]) -> None:
    """Run `work`, or roll it back when it fails. MariaDB cannot roll back DDL."""
    with suppress(UsageError):
        if connection.dialect.name in ("mysql", "mariadb"):
            work()
            return
        with connection.begin_nested():
            work()


def _made(connection: sa.Connection) -> Mapping[str, Sequence[str]]:
    """The columns of each view that `create` made, by name."""
    if not sa.inspect(connection).has_table("sync_state", schema=own_schema(connection)):
        return {}
    return state.load(connection, VIEWS) or {}


def _check_name(connection: sa.Connection, name: str, made: Mapping[str, object]) -> None:
    """Raise UsageError for an invalid name, and for one that is already in use."""
    if not NAME.fullmatch(name):
        raise UsageError(
            "--name is not a valid name of a view.", "use up to 63 letters, digits and _, and no digit first."
        )
    choose = "choose another --name."
    if name.lower() in OWN:
        raise UsageError(f"{name} is a view of product-sync itself.", choose)
    if name.lower() in _tables(connection):
        raise UsageError(f"the database has a table {name}.", choose)
    if name.lower() in _views(connection) and name not in made:
        raise UsageError(f"{name} is a view that this command did not create.", "drop it, or " + choose)


def _tables(connection: sa.Connection) -> set[str]:
    found = sa.inspect(connection).get_table_names(schema=own_schema(connection))
    return {name.lower() for name in found}


def _views(connection: sa.Connection) -> set[str]:
    found = sa.inspect(connection).get_view_names(schema=own_schema(connection))
    return {name.lower() for name in found}


def _created(made: Iterable[str]) -> str:
    return f"it created: {', '.join(sorted(made)) or 'none yet'}."


def _full(connection: sa.Connection, name: str) -> str:
    quote = connection.dialect.identifier_preparer.quote_identifier
    schema = own_schema(connection)
    return f"{quote(schema)}.{quote(name)}" if schema else quote(name)


def _drop(connection: sa.Connection, name: str) -> None:
    _execute(connection, f"DROP VIEW IF EXISTS {_full(connection, name)}")


def _execute(connection: sa.Connection, sql: str) -> None:
    """Execute DDL. Raises UsageError with the database's message: each has its own rules for names."""
    try:
        connection.exec_driver_sql(sql)
    except sa.exc.DBAPIError as error:
        if is_transient(error):
            raise
        raise UsageError(
            f"the database refuses this view: {foreign(error.orig)}",
            "drop what depends on the view, or choose other names.",
        ) from error


# --- the view as SQL -------------------------------------------------------------------------


def _select(connection: sa.Connection, columns: Sequence[FlatColumn]) -> str:
    """Select the live products of each store view, with missing values inherited from `all`."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    shown = ", ".join(f"{_typed(connection, column)} AS {quote(column.name)}" for column in columns)
    return (
        f"SELECT {shown} FROM products p LEFT JOIN products d"
        " ON p.store_view <> 'all' AND d.store_view = 'all' AND d.product_id = p.product_id"
        " AND d.deleted_at IS NULL WHERE p.deleted_at IS NULL"
        f"{_current(connection)}"
    )


def _current(connection: sa.Connection) -> str:
    """A condition that excludes store views that left; a schema before 0011 does not have them."""
    is_known = sa.inspect(connection).has_table("sync_store_views", schema=own_schema(connection))
    return f" AND p.store_view NOT IN {LEFT_SQL}" if is_known else ""


def _typed(connection: sa.Connection, column: FlatColumn) -> str:
    """One column.

    SQLite compares a parameter by the type of a bare column or of a CAST, and of no other expression.
    """
    if not column.is_attribute and column.source not in INHERITED:
        return f"p.{column.source}"
    shown = _attribute(connection, column) if column.is_attribute else _inherited(column.source)
    return f"CAST({shown} AS {SQLITE_TYPES[column.kind]})" if _family(connection) == "sqlite" else shown


def _inherited(name: str) -> str:
    """A column of `products` that a store view may override, taken from `all` where it does not."""
    return f"COALESCE(p.{name}, d.{name})"


def _attribute(connection: sa.Connection, column: FlatColumn) -> str:
    """One value, typed or as its label. The options are looked up in each query."""
    code = _literal(connection, column.source)
    value, joins = "COALESCE(own.value, base.value)", ""
    if column.labels == "none":
        shown = AS_KIND[_family(connection)](column.kind, value)
    elif column.labels == "many":
        shown = _labels(connection, code, value)
    else:
        shown, joins = LABEL, _options(code, value)
    if column.labels != "none":
        options = ", ".join(
            f"(SELECT min(option_value) FROM attribute_options WHERE store_view = {store_view}"
            f" AND attribute_code = {code})"
            for store_view in ("'all'", "p.store_view")
        )
        shown = f"CASE WHEN COALESCE({options}) IS NULL THEN {value} ELSE {shown} END"
    return (
        f"(SELECT {shown} FROM (SELECT 1 AS one) one"
        " LEFT JOIN product_attributes own ON own.store_view = p.store_view"
        f" AND own.product_id = p.product_id AND own.attribute_code = {code}"
        " LEFT JOIN product_attributes base ON own.product_id IS NULL AND base.store_view = 'all'"
        f" AND base.product_id = p.product_id AND base.attribute_code = {code}{joins})"
    )


LABEL = "COALESCE(mine.label, admins.label)"


def _options(code: str, value: str) -> str:
    """Joins for the label of one option, in this store view and in `all`."""
    return "".join(
        f" LEFT JOIN attribute_options {alias} ON {alias}.store_view = {store_view}"
        f" AND {alias}.attribute_code = {code} AND {alias}.option_value = {value}"
        for alias, store_view in (("mine", "p.store_view"), ("admins", "'all'"))
    )


def _labels(connection: sa.Connection, code: str, value: str) -> str:
    """The labels of a multiselect's option ids, in the order of the value."""
    family = _family(connection)
    return f"(SELECT {JOINED[family]} FROM {IDS[family].format(value)} ids{_options(code, 'ids.id')})"


def _literal(connection: sa.Connection, text: str) -> str:
    compiled = sa.literal(text, sa.String()).compile(
        dialect=connection.dialect, compile_kwargs={"literal_binds": True}
    )
    return str(compiled)


def _family(connection: sa.Connection) -> str:
    return "mysql" if connection.dialect.name == "mariadb" else connection.dialect.name


SQLITE_TYPES: Mapping[Kind, str] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "decimal": "REAL",
    "boolean": "INTEGER",
    "date": "TEXT",
    "time": "TEXT",
}

# The option ids of a multiselect value, one per row and in its order: `n` and `id`.
IDS = {
    "sqlite": (
        "(SELECT key AS n, value AS id FROM json_each('[' || replace(json_quote({}), ',', '\",\"') || ']'))"
    ),
    "postgresql": "(SELECT id, n FROM unnest(string_to_array({}, ',')) WITH ORDINALITY AS x (id, n))",
    "mysql": (
        "JSON_TABLE(CONCAT('[', REPLACE(JSON_QUOTE({}), ',', '\",\"'), ']'), '$[*]' COLUMNS ("
        "n FOR ORDINALITY, id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$'))"
    ),
}
JOINED = {
    "sqlite": f"group_concat({LABEL}, ', ')",
    "postgresql": f"string_agg({LABEL}, ', ' ORDER BY ids.n)",
    "mysql": f"GROUP_CONCAT({LABEL} ORDER BY ids.n SEPARATOR ', ')",
}


# --- a text as a number or a time, else null; `flat.read_value` is the same in Python ---------


def _when(condition: str, value: str) -> str:
    """`value` where `condition` holds: only CASE guarantees this order of evaluation."""
    return f"CASE WHEN {condition} THEN {value} END"


def _boolean(value: str) -> str:
    return f"CASE WHEN {value} IN ('1', 'true') THEN TRUE WHEN {value} IN ('0', 'false') THEN FALSE END"


def _postgresql(kind: Kind, value: str) -> str:
    if kind == "decimal":
        number = _when(f"{value} ~ '^{DECIMAL}$'", f"CAST({value} AS numeric)")
        return f"CAST({number} AS numeric(20,6))"
    if kind == "integer":
        return _when(f"{value} ~ '^{INTEGER}$'", f"CAST({value} AS bigint)")
    if kind in ("date", "time"):
        first = f"CAST(substr({value}, 1, 8) || '01' AS date)"
        last = f"to_char({first} + interval '1 month - 1 day', 'DD')"
        day = f"substr({value}, 1, 10)"
        clock = f"COALESCE(NULLIF(substr({value}, 12), ''), '00:00:00')"
        time = f"CAST({day} || ' ' || {clock} || '+00' AS timestamptz)"
        found = f"CAST({day} AS date)" if kind == "date" else time
        real = f"substr({value}, 1, 4) <> '0000' AND {value} ~ '^{TIME}$'"
        return _when(real, _when(f"substr({value}, 9, 2) <= {last}", found))
    return _boolean(value) if kind == "boolean" else value


def _mysql(kind: Kind, value: str) -> str:
    """`$` also matches before a final line feed, so `_matches` excludes line feeds."""
    if kind == "decimal":
        return _when(_matches(value, DECIMAL), f"CAST({value} AS DECIMAL(20,6))")
    if kind == "integer":
        return _when(_matches(value, INTEGER), f"CAST({value} AS SIGNED)")
    if kind in ("date", "time"):
        day, clock = f"SUBSTR({value}, 1, 10)", f"COALESCE(NULLIF(SUBSTR({value}, 12), ''), '00:00:00')"
        time = f"CAST(CONCAT({day}, ' ', {clock}) AS DATETIME(6))"
        last = f"DAY(LAST_DAY(CONCAT(SUBSTR({value}, 1, 8), '01')))"
        found = f"CAST({day} AS DATE)" if kind == "date" else time
        real = f"SUBSTR({value}, 1, 4) <> '0000' AND {_matches(value, TIME)}"
        return _when(real, _when(f"CAST(SUBSTR({value}, 9, 2) AS SIGNED) <= {last}", found))
    return _boolean(value) if kind == "boolean" else value


def _matches(value: str, pattern: str) -> str:
    return f"{value} REGEXP '^{pattern}$' AND LOCATE(CHAR(10), {value}) = 0"


def _sqlite(kind: Kind, value: str) -> str:
    """Without regular expressions: SQLite has none, and other programs read the file too."""
    digits = f"substr({value}, 1 + (substr({value}, 1, 1) IN ('-', '+')))"
    if kind == "decimal":
        number = f"{digits} GLOB '[0-9]*[0-9]' OR {digits} GLOB '[0-9]'"
        real = f"({number}) AND {digits} NOT GLOB '*[^0-9.]*' AND {digits} NOT GLOB '*.*.*'"
        return _when(f"{real} AND instr({digits} || '.', '.') <= 14", f"round({value}, 6)")
    if kind == "integer":
        real = f"{digits} NOT GLOB '*[^0-9]*' AND length({digits}) BETWEEN 1 AND 18"
        return _when(real, f"CAST({value} AS INTEGER)")
    if kind in ("date", "time"):
        return _when(_is_time(value), f"substr({value}, 1, 10)" if kind == "date" else _time(value))
    return _boolean(value) if kind == "boolean" else value


def _is_time(value: str) -> str:
    """Check strictly: SQLite's own functions accept a 30th of February as the 2nd of March."""
    day = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
    clock = f"{day}[ T][0-2][0-9]:[0-5][0-9]:[0-5][0-9]"
    part = f"substr({value}, 21)"
    fraction = (
        f"(substr({value}, 20, 1) = '.' AND {part} NOT GLOB '*[^0-9]*' AND length({part}) BETWEEN 1 AND 6)"
    )
    return (
        f"date(substr({value}, 1, 10), '+0 days') = substr({value}, 1, 10) AND {value} NOT GLOB '0000*' AND ("
        f"{value} GLOB '{day}' OR ({value} GLOB '{clock}*' AND substr({value}, 12, 2) < '24'"
        f" AND (length({value}) = 19 OR {fraction})))"
    )


def _time(value: str) -> str:
    """A time in the tables' format, to the microsecond."""
    clock = f"CASE WHEN length({value}) > 10 THEN substr({value}, 12, 8) ELSE '00:00:00' END"
    return f"substr({value}, 1, 10) || ' ' || {clock} || '.' || substr(substr({value}, 21) || '000000', 1, 6)"


AS_KIND: Mapping[str, Callable[[Kind, str], str]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mysql": _mysql,
}
