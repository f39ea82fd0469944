"""Add the response hash to sync_pages, so that an unchanged page is recognised before it is decoded.

Lock   ADD COLUMN, nullable, no default: an instant. The table has a row for each page of a catalogue.
Order  before the code that fills them; a page with null is recognised by its products instead.
Back   drops them: the next pass decodes each page again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def columns() -> "list[sa.Column[str] | sa.Column[int]]":
    return [
        sa.Column("wire_hash", sa.String(length=32)),
        sa.Column("total_count", sa.BigInteger()),
        sa.Column("body_bytes", sa.BigInteger()),
    ]


def present() -> set[str]:
    """Existing columns: MariaDB commits each step, so an interrupted attempt may have added some."""
    found = op.get_bind().execute(sa.text("SELECT * FROM sync_pages WHERE 1 = 0"))
    return set(found.keys())


def upgrade() -> None:
    there = present()
    for column in columns():
        if column.name not in there:
            op.add_column("sync_pages", column)


def downgrade() -> None:
    there = present()
    for column in reversed(columns()):
        if column.name in there:
            op.drop_column("sync_pages", column.name)
