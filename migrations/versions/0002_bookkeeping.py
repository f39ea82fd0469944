"""Create the bookkeeping: runs, watermarks, partitions, leases, feed counter, findings, learned pace.

Lock   creates only; waits for nothing.
Order  after 0001: the feed counter continues its `product_changes`.
Back   drops the tables. No product and no change is lost; the next run reads the whole catalogue again.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"

BigKey = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
LongText = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
SERVER_OPTIONS = {"charset": "utf8mb4", "collate": "utf8mb4_nopad_bin", "engine": "InnoDB"}
TABLE_OPTIONS: dict[str, Any] = {
    f"{server}_{name}": value for server in ("mysql", "mariadb") for name, value in SERVER_OPTIONS.items()
}


def create_table(name: str, *columns: Any) -> None:
    op.create_table(name, *columns, **TABLE_OPTIONS, if_not_exists=True)


def upgrade() -> None:
    create_table(
        "sync_runs",
        sa.Column("run_id", BigKey, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("store_views", LongText, nullable=False),
        sa.Column("scope", LongText, nullable=False),
        sa.Column("started_at", UtcDateTime, nullable=False),
        sa.Column("finished_at", UtcDateTime),
        sa.Column("server_time", UtcDateTime),
        sa.Column("heard_at", UtcDateTime),
        sa.Column("fetched", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("inserted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unchanged", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deleted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rejected", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("throttled", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("retries", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("error", LongText),
        sa.PrimaryKeyConstraint("run_id", name="pk_sync_runs"),
    )
    create_table(
        "sync_watermarks",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("watermark", UtcDateTime, nullable=False),
        sa.Column("updated_by_run", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("store_view", name="pk_sync_watermarks"),
    )
    create_table(
        "sync_partitions",
        sa.Column("run_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("first_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("last_id", sa.BigInteger(), autoincrement=False),
        sa.Column("cursor_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("lease_owner", sa.String(length=255)),
        sa.Column("lease_expires_at", UtcDateTime),
        sa.PrimaryKeyConstraint("run_id", "store_view", "first_id", name="pk_sync_partitions"),
    )
    create_table(
        "sync_leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=255)),
        sa.Column("fencing", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("acquired_at", UtcDateTime),
        sa.Column("expires_at", UtcDateTime),
        sa.PrimaryKeyConstraint("name", name="pk_sync_leases"),
    )
    create_table(
        "sync_feed",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("last_change_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("name", name="pk_sync_feed"),
    )
    create_table(
        "sync_findings",
        sa.Column("run_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("detail", LongText),
        sa.PrimaryKeyConstraint("run_id", "store_view", "product_id", name="pk_sync_findings"),
    )
    create_table(
        "sync_state",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", Json, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_sync_state"),
    )
    op.execute("DELETE FROM sync_feed")  # left by an interrupted attempt: MariaDB commits every DDL
    op.execute(
        "INSERT INTO sync_feed (name, last_change_id) "
        "SELECT 'changes', COALESCE(MAX(change_id), 0) FROM product_changes"
    )
    op.execute(
        "INSERT INTO sync_leases (name, fencing) "
        "SELECT 'writer', COUNT(*) FROM sync_leases HAVING COUNT(*) = 0"
    )


def downgrade() -> None:
    for name in (
        "sync_state",
        "sync_findings",
        "sync_feed",
        "sync_leases",
        "sync_partitions",
        "sync_watermarks",
        "sync_runs",
    ):
        op.drop_table(name, if_exists=True)
