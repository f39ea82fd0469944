"""Add sync_partitions.failure, for workers, and an identity that distinguishes one copy from another.

Lock   ADD COLUMN, nullable, no default: an instant. The identity is one row of sync_state.
Order  before the code that fills the column; null means that the partition did not fail.
Back   drops both. The next run reads a failed partition again, as any that is not done.
"""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0007"
down_revision = "0006"

Json = sa.JSON().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")

STATE = sa.table("sync_state", sa.column("name", sa.String), sa.column("value", sa.JSON))


def is_present() -> bool:
    """Whether the column exists: MariaDB commits each step, so an interrupted attempt may have added it."""
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
