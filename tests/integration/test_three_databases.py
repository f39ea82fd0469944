"""Three databases, equal: the same catalogue becomes the same rows and the same feed in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from sync.compare import CompareMode
from sync.db import products as copy
from sync.db.schema import CHILDREN, product_attributes, products, rejected_items
from sync.errors import DatabaseError
from sync.model import Interval, Page, RawProduct
from sync.pipeline import Arrival, sync_pages
from sync.sandbox import Sandbox
from tests.databases import Kind, NewDatabase, connected, opened
from tests.kit import Bench, unfenced
from tests.oddities import KETTLE, NOVEL, UNMAPPABLE, attributes, catalogue, product

pytestmark = pytest.mark.slow

# Columns that tell when and by which run something was written.
WRITTEN = {
    "first_seen_at",
    "last_seen_at",
    "changed_at",
    "deleted_at",
    "resolved_at",
    "run_id",
    "rejected_id",
}


@pytest.fixture
def tenant() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def rows(db: sa.Engine, table: sa.Table) -> list[tuple[Any, ...]]:
    """What `table` holds, without the columns WRITTEN; whether a time is there counts, not which it is."""
    columns = [c.is_(None) if c.name in WRITTEN else c for c in table.c if c.name != "rejected_id"]
    with db.connect() as connection:
        return sorted(map(tuple, connection.execute(sa.select(*columns))), key=repr)


def assert_equal(one: Bench, other: Bench) -> None:
    """Table by table, and the feed entry by entry."""
    for table in (products, *CHILDREN, rejected_items):
        assert rows(one.db, table) == rows(other.db, table), table.name
    assert feed(one) == feed(other)


def feed(bench: Bench) -> list[tuple[Any, ...]]:
    return [(c.change_id, c.store_view, c.product_id, c.sku, c.kind, c.fields) for c in bench.changes()]


# --- the same rows, the same feed ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_every_oddity_becomes_the_same_rows_and_the_same_feed(
    kind: Kind, new_database: NewDatabase, tenant: Sandbox
) -> None:
    """A load, edits, a re-stamp, deletions, a restore, and repairs of what a hand had edited here."""
    for document in catalogue():
        tenant.catalogue.add_document(document)
    ids = tenant.catalogue.ids()

    with (
        connected(new_database("sqlite", tables=True)) as one,
        connected(new_database(kind, tables=True)) as another,
    ):
        pair = [Bench(tenant, db, page_size=10, concurrency=1) for db in (one, another)]

        for bench in pair:
            bench.backfill()
            assert set(ids) - bench.live().keys() == {UNMAPPABLE}
            assert bench.live()[NOVEL] == tenant.catalogue.document(NOVEL)
        assert_equal(*pair)

        tenant.catalogue.edit(NOVEL, description="Chapter. It's another 5 MB.\\n" * 262_144)
        for number in ids[2:40]:
            tenant.catalogue.edit(number, price=77, name="new\x00🫖 'name' \\N")
        tenant.catalogue.restamp(ids[41])
        tenant.catalogue.delete_many(ids[50:60])
        for bench in pair:
            bench.run()
        assert_equal(*pair)

        tenant.catalogue.restore(ids[50])
        for bench in pair:
            bench.execute(
                "UPDATE products SET price = 1, name = 'by hand', created_at = NULL WHERE product_id = 1"
            )
            bench.execute("DELETE FROM product_attributes WHERE product_id = 1")
            bench.execute("UPDATE product_tier_prices SET qty = 3, website_id = NULL WHERE ordinal = 199")
            bench.execute("UPDATE product_media SET disabled = NULL, types = '[]' WHERE entry_id = 3")
            bench.reconcile()
        assert_equal(*pair)

        kinds = [change.kind for change in pair[0].changes()]
        assert {kind: kinds.count(kind) for kind in kinds} == {
            "insert": len(ids) - 1,
            "update": 39 + 3,
            "delete": 10,
            "restore": 1,
        }
        for bench in pair:
            bench.assert_feed_tells_who_lives()
            assert bench.verify() == []


def test_every_type_of_product_becomes_the_same_rows(new_database: NewDatabase) -> None:
    with (
        Sandbox(products=120) as sandbox,
        connected(new_database("sqlite", tables=True)) as one,
        connected(new_database("postgresql", tables=True)) as another,
    ):
        pair = [Bench(sandbox, db, page_size=50, concurrency=1) for db in (one, another)]

        for bench in pair:
            bench.backfill()
            bench.assert_copy_is_exact()
        assert_equal(*pair)
        assert all(rows(one, table) for table in (products, *CHILDREN))


def test_what_http_libraries_refuse_is_kept_alike_once_it_is_here(db: sa.Engine) -> None:
    """Half a surrogate pair, bytes that are no UTF-8, and numbers with more digits than a float."""
    raw = (
        rb'{"id":7,"sku":"HALF-\ud83e","name":"' + b"\xff\xfe" + rb'","price":12.345678900,"weight":1e-3,'
        rb'"custom_attributes":[{"attribute_code":"n","value":12345678901234567890.10}]}'
    )
    page = Page("all", Interval(0, 7), (RawProduct(7, raw),), 1, None)

    with Sandbox() as sandbox:
        list(sync_pages([[Arrival(page)]], CompareMode(), Bench(sandbox, db).source(), unfenced(db)))

    with db.connect() as connection:
        row = connection.execute(sa.select(products)).one()
        value = connection.execute(sa.select(product_attributes.c.value)).scalar_one()
        reason = connection.execute(sa.select(rejected_items.c.reason)).scalar_one()
    assert (row.sku, row.name, row.price, row.weight) == (
        "HALF-\ufffd",
        "\ufffd\ufffd",
        Decimal("12.345679"),
        Decimal("0.001000"),
    )
    assert value == "12345678901234567890.10"
    assert "not UTF-8" in reason
    assert "surrogate" in reason


# --- exact -----------------------------------------------------------------------------------


RAW_VALUES = {
    "sqlite": "SELECT typeof(price), price, typeof(created_at), created_at FROM products",
    "postgresql": "SELECT pg_typeof(price)::text, price::text, pg_typeof(created_at)::text, "
    "(created_at AT TIME ZONE 'UTC')::text FROM products",
    "mysql": "SELECT 'decimal', CAST(price AS CHAR), 'datetime', CAST(created_at AS CHAR) FROM products",
}


def test_amounts_are_exact_and_times_are_utc_in_the_form_the_contract_names(
    db: sa.Engine, tenant: Sandbox
) -> None:
    tenant.catalogue.add_document(
        product(1, price=999999999.123456, created_at="2024-05-01T08:00:00.123456+02:00")
    )

    Bench(tenant, db).backfill()

    with db.connect() as connection:
        raw = tuple(connection.exec_driver_sql(RAW_VALUES[db.dialect.name]).one())
        row = connection.execute(sa.select(products)).one()
    at = "2024-05-01 06:00:00.123456"
    assert (
        raw
        == {
            "sqlite": ("real", 999999999.123456, "text", at),
            "postgresql": ("numeric", "999999999.123456", "timestamp with time zone", at),
            "mysql": ("decimal", "999999999.123456", "datetime", at),
        }[db.dialect.name]
    )
    assert row.price == Decimal("999999999.123456")
    assert row.created_at == datetime(2024, 5, 1, 6, 0, 0, 123456, tzinfo=UTC)


def test_an_amount_beyond_sqlites_15_digits_is_noted_there_and_exact_elsewhere(
    db: sa.Engine, tenant: Sandbox
) -> None:
    tenant.catalogue.add_document(product(1, price="12345678901234.123456"))
    bench = Bench(tenant, db)

    bench.backfill()

    (row,) = bench.rows(products)
    reasons = [item.reason for item in bench.open_rejections()]
    if db.dialect.name == "sqlite":
        assert reasons == ["price: the database keeps 15 digits of 12345678901234.123456"]
        assert abs(row.price - Decimal("12345678901234.123456")) < Decimal("0.01")
    else:
        assert reasons == []
        assert row.price == Decimal("12345678901234.123456")
    assert bench.verify() == []


# --- nothing in vain -------------------------------------------------------------------------


# A trigger that lets no statement write a row of the table, but for one product.
GUARD: dict[str, Callable[[str, str, str], list[str]]] = {
    "sqlite": lambda table, verb, row: [
        f"CREATE TRIGGER guard_{table}_{verb} BEFORE {verb} ON {table} WHEN {row}.product_id <> {KETTLE} "
        "BEGIN SELECT RAISE(ABORT, 'guarded'); END"
    ],
    "postgresql": lambda table, verb, row: [
        "CREATE OR REPLACE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql "
        "AS $$ BEGIN RAISE EXCEPTION 'guarded'; END $$",
        f"CREATE TRIGGER guard_{verb} BEFORE {verb} ON {table} FOR EACH ROW "
        f"WHEN ({row}.product_id <> {KETTLE}) EXECUTE FUNCTION guard()",
    ],
    "mysql": lambda table, verb, row: [
        f"CREATE TRIGGER guard_{table}_{verb} BEFORE {verb} ON {table} FOR EACH ROW "
        f"IF {row}.product_id <> {KETTLE} THEN SIGNAL SQLSTATE '45000'; END IF"
    ],
}


def test_unchanged_rows_are_not_rewritten(db: sa.Engine) -> None:
    """One of 60 products is edited; every other row of every product table refuses to be written."""
    with Sandbox(products=60) as sandbox:
        bench = Bench(sandbox, db, page_size=20)
        bench.backfill()
        for table in (products, *CHILDREN):
            for verb, row in (("INSERT", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD")):
                for sql in GUARD[db.dialect.name](table.name, verb, row):
                    bench.execute(sql)

        sandbox.catalogue.edit(KETTLE, price=77)

        assert bench.backfill(restart=True).tally.unchanged == 59
        assert bench.reconcile().tally.unchanged == 60
        sandbox.catalogue.edit(2, price=77)
        with pytest.raises(DatabaseError):
            bench.run()


# --- too large for MariaDB -------------------------------------------------------------------


NINE_MB = "Chapter. It's 9 MB.\n" * 472_000


def test_a_text_too_long_for_mariadb_is_replaced_by_a_mark_and_noted(
    new_database: NewDatabase, tenant: Sandbox
) -> None:
    """9 MB where `max_allowed_packet` is 16 MB. The rest of the product and of the page is written."""
    texts = {"color": "49", "description": NINE_MB, "meta_title": "Novel"}
    tenant.catalogue.add_document(product(1))
    tenant.catalogue.add_document(product(2, custom_attributes=attributes(texts)))
    tenant.catalogue.add_document(product(3))

    with connected(new_database("mariadb", tables=True)) as db:
        bench = Bench(tenant, db)

        summary = bench.backfill()

        tally = summary.tally
        assert (summary.status, tally.inserted, tally.rejected, tally.altered) == ("succeeded", 3, 0, 1)
        values = {row.attribute_code: row.value for row in bench.rows(product_attributes, of(2))}
        mark = values.pop("description")
        assert mark.startswith("[left out: 9,440,000 bytes, fingerprint ")
        assert values == {"color": "49", "meta_title": "Novel"}
        expected = tenant.catalogue.document(2)
        expected["custom_attributes"][1]["value"] = mark
        assert bench.live()[2] == expected
        (note,) = bench.open_rejections()
        assert (note.product_id, note.kind) == (2, "altered")
        assert note.reason.startswith("custom_attributes[1].value: left out: ")


def test_a_text_too_long_for_mariadb_still_has_changes(new_database: NewDatabase, tenant: Sandbox) -> None:
    """Read again it is unchanged; another such text is a change from mark to mark; a re-stamp is none."""
    tenant.catalogue.add_document(product(2, custom_attributes=attributes({"description": NINE_MB})))
    with connected(new_database("mariadb", tables=True)) as db:
        bench = Bench(tenant, db)
        bench.backfill()

        assert bench.backfill(restart=True).tally.unchanged == 1
        assert bench.reconcile().tally.unchanged == 1
        tenant.catalogue.restamp(2)
        assert bench.run().tally.updated == 0
        tenant.catalogue.edit(2, description=NINE_MB + "The end.")
        assert bench.run().tally.updated == 1

        fields = bench.changes()[-1].fields["custom_attributes[description]"]
        assert fields["old"].startswith("[left out: 9,440,000 bytes")
        assert fields["new"].startswith("[left out: 9,440,008 bytes")


def of(product_id: int) -> sa.ColumnElement[bool]:
    return product_attributes.c.product_id == product_id


# --- a session of our own --------------------------------------------------------------------


def test_a_mariadb_session_does_not_depend_on_the_servers_defaults(new_database: NewDatabase) -> None:
    variables = ("sql_mode", "tx_isolation", "time_zone", "character_set_client", "character_set_results")
    with connected(new_database("mariadb", tables=True)) as db, db.connect() as connection:
        found = connection.exec_driver_sql(f"SELECT {', '.join(f'@@{name}' for name in variables)}").one()

        assert dict(zip(variables, found, strict=True)) == {
            "sql_mode": "NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
            "tx_isolation": "READ-COMMITTED",
            "time_zone": "+00:00",
            "character_set_client": "utf8mb4",
            "character_set_results": "utf8mb4",
        }


def test_a_postgresql_server_in_another_time_zone_changes_nothing(
    new_database: NewDatabase, tenant: Sandbox
) -> None:
    """Its clock is behind: midnight of year 1 in UTC is a time that Python has no date for there."""
    url = new_database("postgresql")
    tenant.catalogue.add_document(product(1, created_at="0001-01-01 00:00:00"))
    tenant.catalogue.add_document(product(2, created_at="9999-12-31 23:59:59"))
    with opened(url) as db, db.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE \"{db.url.database}\" SET timezone = 'America/New_York'")

    with opened(url) as db:
        bench = Bench(tenant, db)
        bench.backfill()

        assert [row.created_at for row in bench.rows(products)] == [
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        ]
        assert bench.verify() == []


# --- found by name ---------------------------------------------------------------------------


TYPED: dict[str, set[int]] = {
    "ÄPFEL-1": {1},
    "äpfel-1": {1},
    "kanne": {2, 3},
    " Kanne ": {2, 3},
    "pad ": {4},
    "50%_\\'": {5},
    "nothing": set(),
}


def test_a_product_is_found_by_its_sku_in_any_letters(db: sa.Engine, tenant: Sandbox) -> None:
    for number, sku in enumerate(("ÄPFEL-1", "Kanne", "KANNE", "pad ", "50%_\\'"), 1):
        tenant.catalogue.add_document(product(number, sku=sku))
    Bench(tenant, db).backfill()

    with db.connect() as connection:
        for typed, found in TYPED.items():
            assert {row.product_id for row in copy.find(connection, typed, None)} == found
            assert copy.named(connection, "all", (), [typed.strip()]).keys() == found
