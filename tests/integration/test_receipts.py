"""A transaction is known by the receipt that it left."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from sync.db import leases, receipts, state
from sync.db.engine import in_transaction
from sync.db.schema import sync_state
from tests.databases import NewDatabase, connected


@pytest.fixture(params=["postgresql", "mariadb"])
def db(request: pytest.FixtureRequest, new_database: NewDatabase) -> Iterator[sa.Engine]:
    with connected(new_database(request.param, tables=True)) as engine:
        yield engine


@pytest.mark.parametrize("committed", [True, False])
def test_an_attempt_that_is_not_over_yet_is_waited_for(db: sa.Engine, committed: bool) -> None:
    """Its session may go on for a while after the connection was cut."""
    with db.connect() as first, ThreadPoolExecutor(1) as other:
        receipt = receipts.new(first)
        first.execution_options(sync_write=True, sync_first=receipts.leaving(db.dialect.name, receipt))
        first.exec_driver_sql("SELECT 1")

        found = other.submit(receipts.was_left, db, receipt)
        with pytest.raises(TimeoutError):
            found.result(0.3)
        if committed:
            first.commit()
        else:
            first.rollback()

        assert found.result(10) is committed
    assert receipts.was_left(db, receipt) is committed


def test_a_later_transaction_of_the_same_connection_is_another_one(db: sa.Engine) -> None:
    with db.connect() as connection:
        one, other = receipts.new(connection), receipts.new(connection)
        connection.execution_options(sync_write=True, sync_first=receipts.leaving(db.dialect.name, one))
        connection.exec_driver_sql("SELECT 1")
        connection.commit()

    assert (receipts.was_left(db, one), receipts.was_left(db, other)) == (True, False)


def test_receipts_go_after_some_days(db: sa.Engine) -> None:
    old = f"commit {datetime.now(UTC) - timedelta(days=3):%Y-%m-%d} 0123456789abcdef"
    in_transaction(db, lambda tx: state.save(tx, old, ""))
    in_transaction(db, lambda tx: state.save(tx, "another", ""))

    leases.acquire(db, "somebody", lambda _: False)

    with db.connect() as connection:
        names = connection.execute(sa.select(sync_state.c.name)).scalars().all()
    assert old not in names
    assert "another" in names
    assert any(name.startswith("commit") for name in names)
