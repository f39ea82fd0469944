"""Let workers read a run's ranges: why one failed, and a name by which copies are told apart.

Lock   ADD COLUMN, nullable, no default: an instant. The name is one row of sync_state.
Order  before the code that fills the column; a range that did not fail says null.
Back   drops both. A range that failed is read again by the next run, as any that is not done.
"""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

from sync.db.dialects import Json

revision = "0007"
down_revision = "0006"

STATE = sa.table("sync_state", sa.column("name", sa.String), sa.column("value", Json))


def is_present() -> bool:
    """Whether the column is there: MariaDB commits each step, so an attempt that was cut short left it."""
    found = op.get_bind().execute(sa.text("SELECT * FROM sync_partitions WHERE 1 = 0"))
    return "failure" in set(found.keys())


def upgrade() -> None:
    if not is_present():
        op.add_column("sync_partitions", sa.Column("failure", Json))
    op.execute(STATE.delete().where(STATE.c.name == "identity"))
    op.bulk_insert(STATE, [{"name": "identity", "value": uuid4().hex}])


def downgrade() -> None:
    op.execute(STATE.delete().where(STATE.c.name == "identity"))
    if is_present():
        op.drop_column("sync_partitions", "failure")
