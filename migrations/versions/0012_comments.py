"""Describe tables and columns: after the last revision, `env.py` writes the comments of `sync/db/schema.py`.

Lock   an instant; on PostgreSQL it stops no reader and no writer.
Order  any.
Back   nothing: the comments stay.
"""

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Nothing to change: that there is a revision makes `env.py` run."""


def downgrade() -> None:
    """Nothing to undo."""
