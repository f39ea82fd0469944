"""Create sync_price_answers: a digest of each product's last price answer, where its rows differ from it.

Lock   none: a new table.
Order  before the code that fills it.
Back   drops it: the next `prices` reads the products concerned once more.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

SERVER_OPTIONS = {"charset": "utf8mb4", "collate": "utf8mb4_nopad_bin", "engine": "InnoDB"}
TABLE_OPTIONS: dict[str, Any] = {
    f"{server}_{name}": value for server in ("mysql", "mariadb") for name, value in SERVER_OPTIONS.items()
}


def upgrade() -> None:
    op.create_table(
        "sync_price_answers",
        sa.Column("product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("price_kind", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("product_id", "price_kind", name="pk_sync_price_answers"),
        **TABLE_OPTIONS,
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("sync_price_answers", if_exists=True)
