"""Remember what a price feed named for a product, where the copy's rows do not say it.

Lock   none: a new table.
Order  before the code that fills it.
Back   drops it: the next `prices` reads the products concerned once more.
"""

import sqlalchemy as sa
from alembic import op

from sync.db.dialects import TABLE_OPTIONS

revision = "0010"
down_revision = "0009"


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
