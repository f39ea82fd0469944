"""Rows that mean something: option ids as labels, what a store view has of its own, flat views of attributes.

Every rule holds on the three databases alike.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from sync.db import views
from sync.db.dialects import bulk_insert
from sync.db.engine import alembic_config, in_transaction, upgrade
from sync.db.flat import Kind, read_value, split_names
from sync.db.schema import attribute_options, product_attributes, products
from sync.errors import UsageError
from tests.shelf import SEEN, Shelf, furnished

FLAT = "sku,name,price,color,activity,sale,special_price,news_from_date"
LONGEST_S = 3  # for what takes 0.1
MANY = 3000  # products, so that a server prefers an index to a scan


def make(db: sa.Engine, columns: str, name: str = "flat") -> str:
    return in_transaction(db, lambda tx: views.create(tx, name, split_names(columns)))


# --- labels ----------------------------------------------------------------------------------


def test_an_option_reads_as_its_label_of_the_store_view_else_of_all(db: sa.Engine) -> None:
    """A value of a deleted option keeps its id and has no label; a multiselect keeps its order."""
    shelf = furnished(db)

    found = shelf.ask(
        "SELECT store_view, sku, attribute_code, attribute_label, value, value_label "
        "FROM product_attribute_labels WHERE attribute_code IN ('color', 'activity') ORDER BY 1, 2, 3"
    )

    assert found == [
        ("all", "SKU-1", "activity", "Activity", "11,8,777,9", "Yoga, Hike, Run"),
        ("all", "SKU-1", "color", "Color", "49", "Black"),
        ("all", "SKU-2", "activity", "Activity", "777", None),
        ("all", "SKU-2", "color", "Color", "4711", None),
        ("de", "SKU-1", "activity", "Activity", "9,11", "Laufen, Yoga"),
        ("de", "SKU-1", "color", "Color", "49", "Schwarz"),
    ]


def test_yes_and_no_are_labels_only_where_commerce_lists_them(db: sa.Engine) -> None:
    shelf = Shelf(db)
    shelf.attribute("sale", "boolean", "int")
    shelf.attribute("price_type", "boolean", "int")
    shelf.options("sale", {"0": "No", "1": "Yes"})
    shelf.product(1, values={"sale": "1", "price_type": "1", "unheard_of": "1", "url_key": "a-b"})

    labels = shelf.ask("SELECT attribute_code, value_label FROM product_attribute_labels ORDER BY 1")

    assert labels == [("price_type", None), ("sale", "Yes"), ("unheard_of", None), ("url_key", None)]


def test_a_multiselect_may_hold_anything(db: sa.Engine) -> None:
    labels = {"8": "Hike", "9": "Run"}
    values = ["", ",", "8,,9", '8,"', "8,\\,9", "[8]", "9,8,9", "8, 9", "8,\n9", "8" * 400, "8,%s,9", "9,'"]
    shelf = Shelf(db)
    shelf.attribute("activity", "multiselect", "text")
    shelf.options("activity", labels)
    for i, value in enumerate(values):
        shelf.product(i, values={"activity": value})
    make(db, "activity")

    known = [[labels[part] for part in value.split(",") if part in labels] for value in values]
    expected = [(", ".join(parts) or None,) for parts in known]
    assert shelf.ask("SELECT value_label FROM product_attribute_labels ORDER BY product_id") == expected
    assert shelf.ask("SELECT activity FROM flat ORDER BY product_id") == expected


# --- overrides -------------------------------------------------------------------------------


def test_only_what_differs_from_all_is_an_override(db: sa.Engine) -> None:
    shelf = Shelf(db)
    shelf.product(1, values={"color": "49", "size": "1", "only_all": "x"}, weight=Decimal("1.2"))
    shelf.product(
        1, "de", {"color": "50", "size": "1", "only_de": ""}, name=None, price=13, weight=Decimal("1.2")
    )
    shelf.product(2)
    shelf.product(2, "de", status=2, visibility=None)
    shelf.product(3)
    shelf.product(3, "de", name="Deleted", deleted_at=SEEN)
    shelf.product(4, "de", {"color": "49"})

    found = shelf.ask(
        "SELECT store_view, product_id, sku, attribute_code, value, all_value "
        "FROM product_overrides ORDER BY product_id, attribute_code"
    )

    assert found == [
        ("de", 1, "SKU-1", "color", "50", "49"),
        ("de", 1, "SKU-1", "name", None, "Product 1"),
        ("de", 1, "SKU-1", "only_all", None, "x"),
        ("de", 1, "SKU-1", "only_de", "", None),
        ("de", 1, "SKU-1", "price", "13.000000", "12.500000"),
        ("de", 2, "SKU-2", "status", "2", "1"),
        ("de", 2, "SKU-2", "visibility", None, "4"),
    ]


# --- flat views ------------------------------------------------------------------------------


def test_a_flat_view_has_a_typed_column_for_each_name(db: sa.Engine) -> None:
    """A row per live product and store view; what `de` lacks comes from `all`."""
    shelf = furnished(db)

    made = make(db, FLAT)

    assert made == "flat"
    rows = [(*row[:2], *map(plain, row[2:])) for row in shelf.ask("SELECT * FROM flat ORDER BY 1, 2")]
    assert rows == [
        ("all", 1, "SKU-1", "Product 1", 12.5, "Black", "Yoga, Hike, Run", True, 9.99, "2026-02-28"),
        ("all", 2, "SKU-2", None, 12.5, None, None, None, None, None),
        ("de", 1, "SKU-1", "Produkt 1", 13, "Schwarz", "Laufen, Yoga", True, 9.99, "2026-02-28"),
    ]


def plain(value: Any) -> Any:
    """What the drivers make of a decimal and a date, as SQLite has it."""
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value


@pytest.mark.parametrize("bound", [20, "20", 20.0])
def test_a_parameter_of_any_type_compares_as_a_number(sqlite: sa.Engine, bound: object) -> None:
    """Datasette and sqlite-utils bind every parameter as text."""
    shelf = Shelf(sqlite)
    shelf.attribute("cost", "price", "decimal")
    shelf.attribute("stars", "text", "int")
    for i, amount in enumerate(["3", "9.5", "20", "100"]):
        shelf.product(i, values={"cost": amount, "stars": str(int(float(amount)))}, price=Decimal(amount))
    make(sqlite, "price,cost,stars")

    with sqlite.connect() as connection:
        for column, table in (("price", "products"), ("price", "flat"), ("cost", "flat"), ("stars", "flat")):
            less = f"SELECT product_id FROM {table} WHERE {column} < ? ORDER BY 1"
            assert connection.exec_driver_sql(less, (bound,)).scalars().all() == [0, 1], (column, table)


def test_the_types_of_columns_are_the_databases_own(postgres: sa.Engine) -> None:
    furnished(postgres)
    Shelf(postgres).attribute("starts", "datetime", "datetime")
    Shelf(postgres).attribute("old_id", "text", "int")
    make(postgres, f"{FLAT},starts,old_id,created_at,document")

    types = {c["name"]: str(c["type"]) for c in sa.inspect(postgres).get_columns("flat")}

    assert types == {
        "store_view": "VARCHAR(64)",
        "product_id": "BIGINT",
        "sku": "VARCHAR(255)",
        "name": "TEXT",
        "price": "NUMERIC(20, 6)",
        "color": "TEXT",
        "activity": "TEXT",
        "sale": "BOOLEAN",
        "special_price": "NUMERIC(20, 6)",
        "news_from_date": "DATE",
        "starts": "TIMESTAMP",
        "old_id": "BIGINT",
        "created_at": "TIMESTAMP",
        "document": "TEXT",
    }


NUMBERS = [
    "0",
    "12",
    "-3",
    "+4.5",
    "9.9900000001",
    "abc",
    "",
    " 1",
    "1 ",
    "1\n",
    "1e5",
    "1.",
    ".5",
    "--1",
    "1.2.3",
]
NUMBERS += [
    "9" * 13,
    "9" * 14,
    "9" * 18,
    "9" * 19,
    "9" * 13 + ".9999999",
    "NaN",
    "Infinity",
    "0x10",
    "-",
    "٣",
    "1,5",
]
BOOLEANS = ["true", "false", "True", "yes", "01", "2"]
DATES = [
    "2026-02-28",
    "2026-02-29",
    "2024-02-29",
    "2026-02-30",
    "2026-04-31",
    "2026-13-01",
    "2026-00-10",
    "2026-01-00",
]
DATES += [
    "0000-00-00 00:00:00",
    "0000-01-01",
    "0001-01-01",
    "9999-12-31 23:59:59",
    "2026-1-1",
    "28.02.2026",
    "1772323200",
]
TIMES = [
    "2026-02-28 10:11:12",
    "2026-02-28T10:11:12",
    "2026-02-28 24:00:00",
    "2026-02-28 23:60:00",
    "2026-02-28 10:11",
]
TIMES += [
    "2026-02-28 10:11:12.5",
    "2026-02-28 10:11:12.1234567",
    "2026-02-28 10:11:12.",
    "2026-02-28 10:11:12Z",
    "2026-02-28 ",
]
ODD = [*NUMBERS, *BOOLEANS, *DATES, *TIMES]
KINDS: dict[Kind, tuple[str, str]] = {
    "integer": ("text", "int"),
    "decimal": ("price", "decimal"),
    "boolean": ("boolean", "int"),
    "date": ("date", "datetime"),
    "time": ("datetime", "datetime"),
    "text": ("text", "varchar"),
}


def test_a_value_that_is_none_of_its_type_is_null_and_no_error(db: sa.Engine) -> None:
    """In SQL as in Python, where files get their values from."""
    shelf = Shelf(db)
    for kind, (frontend_input, backend_type) in KINDS.items():
        shelf.attribute(f"a_{kind}", frontend_input, backend_type)
    for i, value in enumerate(ODD, 1):
        shelf.product(i, values={f"a_{kind}": value for kind in KINDS})
    make(db, ",".join(f"a_{kind}" for kind in KINDS))

    names = ", ".join(f"a_{kind}" for kind in KINDS)
    rows = shelf.ask(f"SELECT {names} FROM flat ORDER BY product_id")
    for value, row in zip(ODD, rows, strict=True):
        for kind, shown in zip(KINDS, row, strict=True):
            assert stored(db, shown) == stored(db, read_value(kind, value)), (kind, value)


def stored(db: sa.Engine, value: Any) -> Any:
    """A value of Python as SQLite would have it, or as MariaDB's driver gives it."""
    if db.dialect.name == "postgresql":
        return value
    if isinstance(value, datetime):
        naive = value.replace(tzinfo=None)
        return f"{naive:%Y-%m-%d %H:%M:%S.%f}".rjust(26, "0") if db.dialect.name == "sqlite" else naive
    if isinstance(value, date):
        return value.isoformat() if db.dialect.name == "sqlite" else value
    return float(value) if isinstance(value, Decimal) else value


def test_a_flat_view_is_made_anew_with_other_columns(db: sa.Engine) -> None:
    shelf = furnished(db)
    make(db, "sku,color")

    make(db, "price")

    assert len(shelf.ask("SELECT store_view, product_id, price FROM flat")[0]) == 3
    with pytest.raises(sa.exc.DBAPIError):
        shelf.ask("SELECT color FROM flat")


def test_a_hundred_attributes_are_not_too_many(db: sa.Engine) -> None:
    """MariaDB joins 61 tables, SQLite 64."""
    shelf = Shelf(db)
    codes = [f"a{i}" for i in range(100)]
    for code in codes:
        shelf.attribute(code, "text")
    shelf.product(1, values={code: code.upper() for code in codes})

    make(db, ",".join(codes))

    assert shelf.ask("SELECT * FROM flat") == [("all", 1, *(code.upper() for code in codes))]


def test_odd_codes_are_columns_like_any_other(db: sa.Engine) -> None:
    codes = ["select", "Größe", "a b", 'a"b', "a'b", "a`b", "a;DROP TABLE products", "100%s", "a:b", "a\\'b"]
    codes += ["--", "{0}"]
    shelf = Shelf(db)
    for code in codes:
        shelf.attribute(code, "select", "int")
        shelf.options(code, {"1": f"It's 100 % {code}"})
    shelf.product(1, values=dict.fromkeys(codes, "1"))

    make(db, ",".join(codes))

    with db.connect() as connection:
        found = connection.exec_driver_sql("SELECT * FROM flat")
        assert list(found.keys()) == ["store_view", "product_id", *codes]
        assert list(found.one())[2:] == [f"It's 100 % {code}" for code in codes]


# --- what is refused -------------------------------------------------------------------------


def test_an_unknown_column_is_named_with_those_that_are_close(db: sa.Engine) -> None:
    furnished(db)

    with pytest.raises(UsageError, match=r"colour \(did you mean color\?\), nothing_like_it") as refused:
        make(db, "sku,colour,nothing_like_it")

    assert "product-sync reference" in refused.value.fix


NAMES = ["", "a b", "1st", 'x"; DROP TABLE products; --', "ä", "a.b", "x" * 64, "x\n"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_letters_digits_and_underscores(sqlite: sa.Engine, name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        make(sqlite, "sku", name)


def test_a_table_or_a_view_of_our_own_is_not_replaced(db: sa.Engine) -> None:
    for name in ("products", "Attributes", "sync_runs", "products_current", "PRODUCT_overrides"):
        with pytest.raises(UsageError, match=r"the database has a table|a view of product-sync itself"):
            make(db, "sku", name)


def test_a_view_of_somebody_else_is_not_replaced(db: sa.Engine) -> None:
    with db.begin() as tx:
        tx.exec_driver_sql("CREATE VIEW theirs AS SELECT sku FROM products")

    with pytest.raises(UsageError, match="did not create"):
        make(db, "sku", "theirs")
    with pytest.raises(UsageError, match="created no view"):
        in_transaction(db, lambda tx: views.drop(tx, "theirs"))


def test_a_view_that_another_stands_on_is_not_pulled_away(postgres: sa.Engine) -> None:
    shelf = furnished(postgres)
    make(postgres, "sku")
    with postgres.begin() as tx:
        tx.exec_driver_sql("CREATE VIEW theirs AS SELECT sku FROM flat")

    with pytest.raises(UsageError, match="depend"):
        make(postgres, "price")

    assert shelf.ask("SELECT COUNT(*) FROM theirs") == [(3,)]


def test_a_dropped_view_is_gone_and_its_name_free(db: sa.Engine) -> None:
    make(db, "sku")

    in_transaction(db, lambda tx: views.drop(tx, "flat"))

    assert "flat" not in sa.inspect(db).get_view_names()
    with pytest.raises(UsageError, match="created no view flat") as refused:
        in_transaction(db, lambda tx: views.drop(tx, "flat"))
    assert refused.value.fix == "it created: none yet."


# --- migrations ------------------------------------------------------------------------------


def test_a_flat_view_does_not_stand_in_a_migrations_way(postgres: sa.Engine) -> None:
    """PostgreSQL refuses to change a column that a view shows."""
    shelf = furnished(postgres)
    make(postgres, "sku,name")
    make(postgres, "type_id", "left_alone")
    with postgres.begin() as tx:
        tx.exec_driver_sql("CREATE VIEW theirs AS SELECT type_id FROM left_alone")

    with postgres.begin() as tx, views.dropped_views(tx):
        tx.exec_driver_sql("DROP VIEW products_current, product_attribute_labels, product_overrides")
        tx.exec_driver_sql("ALTER TABLE products ALTER COLUMN sku TYPE text")

    assert shelf.ask("SELECT sku FROM flat ORDER BY 1") == [("SKU-1",), ("SKU-1",), ("SKU-2",)]
    assert shelf.ask("SELECT COUNT(*) FROM theirs") == [(3,)]


def test_a_flat_view_is_there_again_behind_a_migration(db: sa.Engine) -> None:
    shelf = furnished(db)
    make(db, FLAT)
    before = shelf.ask("SELECT * FROM flat ORDER BY 1, 2")

    with db.begin() as connection:
        command.downgrade(alembic_config(connection), "0003")
    assert {"product_overrides", "flat"} & {*sa.inspect(db).get_view_names()} == {"flat"}
    upgrade(db)

    assert shelf.ask("SELECT * FROM flat ORDER BY 1, 2") == before
    assert {*views.OWN, "flat"} == {*sa.inspect(db).get_view_names()}


def test_a_flat_view_whose_attribute_is_gone_stays_away(db: sa.Engine) -> None:
    shelf = furnished(db)
    make(db, "sku,color")
    make(db, "sku", "other")

    with db.execution_options(sync_write=True).begin() as tx, views.dropped_views(tx):
        tx.exec_driver_sql("DELETE FROM attributes WHERE attribute_code = 'color'")

    assert {*sa.inspect(db).get_view_names()} == {*views.OWN, "other"}
    assert len(shelf.ask("SELECT * FROM other")) == 3


def test_a_downgrade_to_nothing_and_back_forgets_flat_views(db: sa.Engine) -> None:
    """What they were is in a table that goes."""
    make(db, "sku")

    with db.begin() as connection:
        command.downgrade(alembic_config(connection), "base")
    upgrade(db)

    assert {*views.OWN} == {*sa.inspect(db).get_view_names()}


# --- how they are read -----------------------------------------------------------------------

ASKED = {
    "labels by SKU": "SELECT * FROM product_attribute_labels WHERE sku = 'SKU-77'",
    "labels by id": "SELECT * FROM product_attribute_labels WHERE store_view = 'all' AND product_id = 77",
    "one label": (
        "SELECT * FROM product_attribute_labels WHERE store_view = 'all' AND product_id = 77 "
        "AND attribute_code = 'color'"
    ),
    "overrides by SKU": "SELECT * FROM product_overrides WHERE sku = 'SKU-77'",
    "flat by SKU": "SELECT * FROM flat WHERE sku = 'SKU-77'",
    "flat by id": "SELECT * FROM flat WHERE store_view = 'de' AND product_id = 77",
}
FEW = ("store_view", "product_id", "sku", "content_hash", "first_seen_at", "changed_at", "run_id", "document")
BIG = ("products", "product_attributes", "attribute_options")


@pytest.fixture
def stocked(db: sa.Engine) -> Shelf:
    """Enough products and options that a scan would cost."""
    shelf = furnished(db)
    with db.begin() as tx:
        options = [("all", "color", str(i), f"Colour {i}") for i in range(1000, 1000 + MANY)]
        bulk_insert(tx, attribute_options, ("store_view", "attribute_code", "option_value", "label"), options)
        for view in ("all", "de"):
            rows = [(view, i, f"SKU-{i}", "h", SEEN, SEEN, 1, "{}") for i in range(10, MANY)]
            bulk_insert(tx, products, FEW, rows)
            values = [(view, i, code, "1000") for i in range(10, MANY) for code in ("activity", "color", "x")]
            bulk_insert(tx, product_attributes, tuple(product_attributes.c.keys()), values)
    make(db, FLAT)
    with db.begin() as connection:
        for table in BIG if db.dialect.name != "sqlite" else ():
            verb = "ANALYZE" if db.dialect.name == "postgresql" else "ANALYZE TABLE"
            connection.exec_driver_sql(f"{verb} {table}").close()
    return shelf


def test_what_people_ask_for_is_found_by_index(stocked: Shelf) -> None:
    """No plan reads a whole table of products or attributes, or all options for each product."""
    for what, sql in ASKED.items():
        assert scanned(stocked, sql) == [], what

    began = time.perf_counter()
    assert len(stocked.ask("SELECT * FROM product_overrides")) < 20
    assert time.perf_counter() - began < LONGEST_S, "each product is compared with every other"
    everything = (
        "SELECT * FROM product_attribute_labels WHERE store_view = 'all' AND attribute_code = 'color'"
    )
    assert [found for found in scanned(stocked, everything) if "attribute_options" in found] == []


def scanned(shelf: Shelf, sql: str) -> list[str]:
    """The parts of a query's plan that read a big table from end to end."""
    if shelf.db.dialect.name == "sqlite":
        plan = [str(row[-1]) for row in shelf.ask(f"EXPLAIN QUERY PLAN {sql}")]
        tables = {"p", "d", "pa", "v", "b", "own", "base", "mine", "admins"}
        return [line for line in plan if line.startswith("SCAN") and line.split()[1] in tables]
    if shelf.db.dialect.name == "postgresql":
        plan = [str(row[0]) for row in shelf.ask(f"EXPLAIN {sql}")]
        seen = [line for above, line in pairwise(plan) if "Hash" not in above]
        return [line for line in seen if "Seq Scan" in line and any(f"on {table}" in line for table in BIG)]
    rows = shelf.ask(f"EXPLAIN {sql}")
    return [str(row) for row in rows if row[3] in ("ALL", "index") and not derived(row)]


def derived(row: Sequence[Any]) -> bool:
    """MariaDB's own intermediate rows: a union's, a list's, and the one row that carries a value.

    And the store views that left, a row for each at most.
    """
    return str(row[2]).startswith("<") or row[2] in ("ids", "one", "sync_store_views")
