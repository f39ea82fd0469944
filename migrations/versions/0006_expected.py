"""Add each run's expected products and total response time, which the status page shows.

Lock   ADD COLUMN without a table rewrite: an instant. The table has a row per run.
Order  before the code that fills them; earlier runs keep 0 seconds and a null expectation.
Back   drops both. Only the page's progress bar and latency chart read them.
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
    """Existing columns: MariaDB commits each step, so an interrupted attempt may have added some."""
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
