"""Add sync_runs.altered: products copied with a value replaced, counted apart from rejected ones.

Lock   ADD COLUMN with a constant default: an instant. The table has a row per run.
Order  before the code that fills it. In rows of earlier runs, `rejected` still includes altered products.
Back   drops it. Only summaries read it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def is_present() -> bool:
    """Whether the column exists: MariaDB commits each step, so an interrupted attempt may have added it."""
    found = op.get_bind().execute(sa.text("SELECT * FROM sync_runs WHERE 1 = 0"))
    return "altered" in set(found.keys())


def upgrade() -> None:
    if not is_present():
        op.add_column("sync_runs", sa.Column("altered", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    if is_present():
        op.drop_column("sync_runs", "altered")
