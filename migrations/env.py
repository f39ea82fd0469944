"""Run migrations on the connection that `sync.db.engine` or an alembic.ini gives.

This file runs with today's program; a revision in versions/ imports nothing from it.
"""

import sqlalchemy as sa
from alembic import context

from sync.db import comments
from sync.db.dialects import own_schema
from sync.db.schema import metadata
from sync.db.views import OWN, dropped_views
from sync.errors import SettingsError


def migrate(connection: sa.Connection) -> None:
    refuse_foreign_table(connection)
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=own_schema(connection),
        include_object=lambda _object, name, kind, _reflected, _other: kind != "table" or name not in OWN,
    )
    with context.begin_transaction(), dropped_views(connection):
        context.run_migrations()
        comments.write(connection)


def refuse_foreign_table(connection: sa.Connection) -> None:
    """Raise SettingsError where `products` belongs to another program: ours has a `content_hash`."""
    inspector = sa.inspect(connection)
    if inspector.has_table("products") and "content_hash" not in {
        column["name"] for column in inspector.get_columns("products")
    }:
        raise SettingsError(
            "DATABASE_URL: this database has a table `products` of another program; "
            "example: DATABASE_URL=sqlite:///catalogue.db"
        )


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with sa.create_engine(context.config.get_main_option("sqlalchemy.url", "")).begin() as opened:
        migrate(opened)
