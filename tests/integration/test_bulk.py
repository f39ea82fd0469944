"""Bulk statements write each row once, however many there are; what the server does besides."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sync.db.dialects import SQLITE_VALUES, bulk_insert
from sync.db.engine import in_transaction
from sync.db.schema import product_websites

COLUMNS = ("store_view", "product_id", "website_id")
MOST = SQLITE_VALUES // len(COLUMNS)  # rows in the largest statement
NUMBERS = (
    0,
    1,
    2,
    MOST // 36,
    MOST // 6 + 1,
    MOST - 1,
    MOST,
    MOST + 1,
    2 * MOST + MOST // 6 + MOST // 36 + 1,
)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_row_is_written_once(db: sa.Engine, number: int) -> None:
    rows = [("all", 1, website) for website in range(number)]

    with db.begin() as tx:
        bulk_insert(tx, product_websites, COLUMNS, rows)

    with db.connect() as connection:
        found = connection.execute(sa.select(product_websites).order_by(product_websites.c.website_id))
        assert [tuple(row) for row in found] == rows


def test_postgresql_compresses_what_we_write_by_lz4_where_it_can(db: sa.Engine) -> None:
    if db.dialect.name != "postgresql":
        pytest.skip("a setting of PostgreSQL")
    name = "default_toast_compression"

    def look(tx: sa.Connection) -> tuple[list[str], str]:
        known = tx.execute(sa.text(f"SELECT enumvals FROM pg_settings WHERE name = '{name}'")).scalar_one()
        return known, tx.execute(sa.text(f"SHOW {name}")).scalar_one()

    known, used = in_transaction(db, look)

    assert used == ("lz4" if "lz4" in known else "pglz")
