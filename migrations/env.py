"""Run migrations on the connection that `sync.db.engine` or an alembic.ini gives."""

import sqlalchemy as sa
from alembic import context

from sync.db.dialects import own_schema
from sync.db.schema import metadata
from sync.db.views import OWN, set_aside


def migrate(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=own_schema(connection),
        include_object=lambda _object, name, kind, _reflected, _other: kind != "table" or name not in OWN,
    )
    with context.begin_transaction(), set_aside(connection):
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with sa.create_engine(context.config.get_main_option("sqlalchemy.url", "")).begin() as opened:
        migrate(opened)
