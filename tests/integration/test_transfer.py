"""`db copy` moves everything to another server, and what cannot be moved is refused before it is written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa

from sync.db import leases, opening, views
from sync.db.engine import in_transaction, reading
from sync.db.reference import SIGHTED
from sync.db.schema import (
    metadata,
    product_prices,
    products,
    reference_changes,
    rejected_items,
    sync_leases,
    sync_runs,
    sync_state,
    sync_watermarks,
)
from sync.db.transfer import transfer
from sync.errors import CopyIncomplete, DatabaseError, Interrupted, LeaseHeld, TargetNotEmpty, TransferFailed
from sync.feed.follow import Feed
from sync.feed.positions import NoPosition, Position
from sync.sandbox import Sandbox
from tests.databases import KINDS, Kind, NewDatabase, connected, opened
from tests.kit import Bench

AT = datetime(2024, 5, 1, 6, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(scope="module")
def tenant() -> Iterator[Sandbox]:
    with Sandbox(12) as sandbox:
        yield sandbox


def fill(tenant: Sandbox, db: sa.Engine) -> Bench:
    """A copy with a row in most tables, and values that servers store in different ways."""
    bench = Bench(tenant, db)
    bench.backfill()

    def more(tx: sa.Connection) -> None:
        row = {
            "store_view": "all",
            "first_id": 9,
            "kind": "unmappable",
            "reason": "Größe 'x' \\ \U0001f600\n",
            "attempts": 3,
        }
        times = {"first_seen_at": AT, "last_seen_at": datetime(1, 1, 1, tzinfo=UTC), "run_id": 1}
        tx.execute(rejected_items.insert().values(rejected_id=41, **row, **times))
        change = {
            "table_name": "websites",
            "row_key": {"b": 1, "a": [None, 1.5]},
            "kind": "insert",
            "changed_at": AT,
        }
        tx.execute(reference_changes.insert().values(change_id=7, run_id=1, **change))
        tx.execute(sync_runs.update().values(seconds=12.3456789))
        tx.execute(
            sync_state.insert().values(name="webhook x", value={"change_id": 30, "entry": None, "format": 1})
        )
        tx.execute(sync_state.insert().values(name=SIGHTED, value=30))  # a number, as `reference` keeps it
        price = {"price_kind": "base", "scope_id": 0, "starts_at": AT, "changed_at": AT}
        tx.execute(product_prices.insert().values(product_id=1, price=Decimal("999999999.123456"), **price))
        views.create(tx, "flat", ["sku", "price"])

    in_transaction(db, more)
    return bench


def copied(source: sa.Engine, target: sa.Engine, stop: Event | None = None) -> dict[str, int]:
    return transfer(source, target, "copy", lambda owner: False, stop or Event(), lambda done, total: None)


def everything(db: sa.Engine) -> dict[str, list[Any]]:
    """All rows of all tables but leases and receipts; their order and a float's last digits do not count."""
    with db.connect() as connection:
        return {
            table.name: sorted(
                repr([round(value, 4) if isinstance(value, float) else value for value in row])
                for row in connection.execute(sa.select(table))
                if not str(row[0]).startswith("commit ")
            )
            for table in metadata.sorted_tables
            if table is not sync_leases
        }


@pytest.mark.parametrize(
    "route", [KINDS, (KINDS[1], KINDS[0], KINDS[2])], ids=lambda kinds: " to ".join(kinds)
)
def test_a_copy_is_equal_on_every_server_and_continues_there(
    new_database: NewDatabase, tenant: Sandbox, route: tuple[Kind, ...]
) -> None:
    """Each of the six directions between three servers, once."""
    first, second, third = (new_database(kind, tables=True) for kind in route)
    with (
        opened(first) as a,
        connected(second) as b,
        connected(third) as c,
        connected(new_database(route[0], tables=True)) as d,
    ):
        fill(tenant, a)

        counts = copied(a, b)
        copied(b, c)
        copied(c, d)

        assert counts["products"] == 12
        if route[1] == "postgresql":
            assert reading(b, lambda it: it.scalar(sa.select(sync_runs.c.seconds))) == 12.3456789
        assert everything(a) == everything(b) == everything(c) == everything(d)
        for db in (b, c):
            opening.ensure_current(db)
            with db.connect() as connection:
                assert connection.exec_driver_sql("SELECT count(*) FROM flat").scalar_one() == 12
                last_run = connection.scalar(sa.select(sa.func.max(sync_runs.c.run_id)))
            tenant.catalogue.edit(5, name=f"Moved from {route[0]} to {db.dialect.name}")
            bench = Bench(tenant, db)
            bench.run()
            follower = Feed(db, Event(), follow=False).after(Position(12), NoPosition())
            assert [entry.position.change_id for chunk in follower for entry in chunk] == [13]
            assert (
                reading(db, lambda it: it.scalar(sa.select(sa.func.max(sync_runs.c.run_id)))) == last_run + 1
            )
            in_transaction(db, add_rejection)
            assert (
                reading(db, lambda it: it.scalar(sa.select(sa.func.max(rejected_items.c.rejected_id)))) == 42
            )
            assert (
                reading(db, lambda it: it.scalar(sa.select(sa.func.count()).select_from(sync_watermarks)))
                == 1
            )
            assert bench.verify() == []


def add_rejection(tx: sa.Connection) -> None:
    row = {"store_view": "all", "first_id": 9, "kind": "unmappable", "reason": "", "attempts": 1}
    tx.execute(rejected_items.insert().values(first_seen_at=AT, last_seen_at=AT, run_id=1, **row))


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_copy_is_refused_by_every_command_and_starts_over(
    new_database: NewDatabase, tenant: Sandbox, sqlite: sa.Engine, kind: Kind
) -> None:
    fill(tenant, sqlite)
    url, stop = new_database(kind, tables=True), Event()

    def stop_half_way(done: int, total: int) -> None:
        if done > total // 4:
            stop.set()

    with connected(url) as target:
        with pytest.raises(Interrupted):
            transfer(sqlite, target, "copy", lambda owner: False, stop, stop_half_way)
        for use in (opening.find, lambda url: Bench(tenant, opened(url).__enter__())):
            with pytest.raises(CopyIncomplete):
                use(url)

        copied(sqlite, target)

        assert everything(target) == everything(sqlite)


def test_a_database_that_is_not_empty_stays_as_it_is(
    new_database: NewDatabase, db: sa.Engine, sqlite: sa.Engine
) -> None:
    with db.begin() as connection:
        connection.execute(sync_watermarks.insert().values(store_view="all", watermark=AT, updated_by_run=1))
    before = everything(db)

    with pytest.raises(TargetNotEmpty, match="sync_watermarks"):
        copied(sqlite, db)

    assert everything(db) == before


def test_tables_of_another_program_are_refused(database_url: str, sqlite: sa.Engine) -> None:
    with connected(database_url) as target:
        with target.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE categories (id integer)")
        with pytest.raises(TargetNotEmpty, match="categories of another program"):
            copied(sqlite, target)
        with target.connect() as connection:
            assert sa.inspect(connection).get_table_names() == ["categories"]


def test_nobody_writes_to_the_source_meanwhile(new_database: NewDatabase, db: sa.Engine) -> None:
    held: list[str] = []

    def try_to_write(done: int, total: int) -> None:
        with pytest.raises(LeaseHeld) as caught:
            leases.acquire(db, "run", lambda owner: False)
        held.append(str(caught.value))

    with connected(new_database("sqlite")) as target:
        transfer(db, target, "db copy", lambda owner: False, Event(), try_to_write)

    assert held[0].startswith("db copy has been writing")
    leases.acquire(db, "run", lambda owner: False)


def test_a_value_that_does_not_arrive_is_found(
    new_database: NewDatabase, tenant: Sandbox, postgres: sa.Engine
) -> None:
    """SQLite keeps 15 digits of a number."""
    Bench(tenant, postgres).backfill()
    with postgres.begin() as connection:
        connection.execute(products.update().values(price=Decimal("12345678901234.123456")))

    with connected(new_database("sqlite")) as target:
        with pytest.raises(TransferFailed, match="rows of products differ"):
            copied(postgres, target)
        with pytest.raises(CopyIncomplete):
            opening.ensure_current(target)


def test_a_value_edited_by_hand_that_no_other_server_takes_is_reported(
    new_database: NewDatabase, tenant: Sandbox, sqlite: sa.Engine
) -> None:
    Bench(tenant, sqlite).backfill()
    with sqlite.begin() as connection:
        connection.exec_driver_sql("UPDATE products SET price = 'cheap' WHERE product_id = 3")

    for kind in KINDS[1:]:
        with connected(new_database(kind, tables=True)) as target, pytest.raises(DatabaseError):
            copied(sqlite, target)
