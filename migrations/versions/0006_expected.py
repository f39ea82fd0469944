"""What a run expects to read, and how long the tenant took to answer: the status page shows both.

Lock   ADD COLUMN without a default that needs a rewrite: an instant. The table has a row per run.
Order  before the code that fills them; rows of earlier runs say 0 seconds and expect nothing known.
Back   drops both. Nothing but the page's bar and its chart of latency reads them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def columns() -> "list[sa.Column[int] | sa.Column[float]]":
    return [
        sa.Column("expected", sa.BigInteger()),
        sa.Column("answer_seconds", sa.Float(), server_default="0", nullable=False),
    ]


def present() -> set[str]:
    """The columns there are: MariaDB commits each step, so an attempt that was cut short left some."""
    found = op.get_bind().execute(sa.text("SELECT * FROM sync_runs WHERE 1 = 0"))
    return set(found.keys())


def upgrade() -> None:
    there = present()
    for column in columns():
        if column.name not in there:
            op.add_column("sync_runs", column)


def downgrade() -> None:
    there = present()
    for column in reversed(columns()):
        if column.name in there:
            op.drop_column("sync_runs", column.name)
