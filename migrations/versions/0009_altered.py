"""Count the products that a run copied with a value replaced apart from those it rejected.

Lock   ADD COLUMN with a constant default: an instant. The table has a row per run.
Order  before the code that fills it. Rows of earlier runs stay: `rejected` counts what they altered.
Back   drops it. Nothing but summaries reads it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def is_present() -> bool:
    """Whether the column is there: MariaDB commits each step, so an attempt that was cut short left it."""
    found = op.get_bind().execute(sa.text("SELECT * FROM sync_runs WHERE 1 = 0"))
    return "altered" in set(found.keys())


def upgrade() -> None:
    if not is_present():
        op.add_column("sync_runs", sa.Column("altered", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    if is_present():
        op.drop_column("sync_runs", "altered")
