"""Open an existing copy, without creating or migrating anything."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from threading import Event

import sqlalchemy as sa
from pydantic import SecretStr

from sync.db.dialects import make_schema, own_schema
from sync.db.engine import (
    connect,
    current_revision,
    in_transaction,
    newest_revision,
    refuse_unknown,
    unavailable,
)
from sync.db.refusals import ensure_folder, is_there, read_only
from sync.db.schema import metadata
from sync.db.session import is_writable
from sync.errors import DatabaseUnavailable, Interrupted
from sync.settings.parsers import mask_url


def connect_existing(url: str) -> sa.Engine:
    """An engine on the copy at `url`. Raises DatabaseUnavailable when there is none, otherwise as `find`."""
    engine = find(url, keeps=not url.startswith("sqlite"))  # a restore may replace the file
    if engine is None:
        raise DatabaseUnavailable(
            f"there is no copy at {mask_url(SecretStr(url))} yet.",
            "run `product-sync backfill` first, or correct DATABASE_URL.",
        )
    return engine


def find(url: str, *, keeps: bool = True) -> sa.Engine | None:
    """An engine on the copy at `url`, None when there is none yet.

    keeps    as in `connect`

    Raises SchemaTooNew when a newer program wrote it, DatabaseUnavailable when its schema is older or it
    cannot be reached.
    """
    engine = connect(url, keeps=keeps)
    with ExitStack() as closing:
        closing.callback(engine.dispose)
        revision = revision_of(engine)
        if revision is None:
            return None
        _check(revision)
        closing.pop_all()
    return engine


def ensure_current(engine: sa.Engine) -> None:
    """Raise as `find` unless the copy exists and has this program's schema."""
    revision = revision_of(engine)
    if revision is None:
        raise DatabaseUnavailable("the database no longer holds a copy.")
    _check(revision)


def try_to_write(url: str) -> None:
    """Check the write permissions of a pass: create a table and write to the existing ones, then roll back.

    It locks no row, so a running daemon is not disturbed. For a SQLite file it checks the permissions only:
    writing would wait for a running pass.
    Raises DatabaseUnavailable, with the remedy for an administrator.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        file = Path(parsed.database or "")
        if is_there(file) and not is_writable(file):
            raise read_only(file)
        if not is_there(file) and "uri" not in parsed.query:
            ensure_folder(file)
        return
    engine = connect(url, keeps=False)
    at_once = Event()
    at_once.set()
    try:
        in_transaction(engine, _try_to_write, stop=at_once, keep=False)
    except Interrupted as error:
        cause = error.__cause__
        raise unavailable(cause, engine) if isinstance(cause, sa.exc.SQLAlchemyError) else error from None


def _try_to_write(tx: sa.Connection) -> None:
    make_schema(tx)
    schema, quote = own_schema(tx), tx.dialect.identifier_preparer.quote_identifier
    name = f"{quote(schema)}.product_sync_check" if schema else "product_sync_check"
    tx.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {name} (id integer)")
    tx.exec_driver_sql(f"DROP TABLE {name}")
    if tx.dialect.name == "postgresql":
        tx.exec_driver_sql("CREATE TEMPORARY TABLE product_sync_check (id integer) ON COMMIT DROP")
    existing = sa.inspect(tx).get_table_names(schema=schema)
    for table in (it for it in metadata.sorted_tables if it.name in existing):
        _write_nothing(tx, table)


def _write_nothing(tx: sa.Connection, table: sa.Table) -> None:
    """Execute statements that need every write permission but change no row."""
    column = next(iter(table.primary_key))
    none = sa.select(column).where(sa.false())
    tx.execute(table.insert().from_select([column], none, include_defaults=False))
    tx.execute(table.update().where(sa.false()).values({column: column}))
    tx.execute(table.delete().where(sa.false()))


def _check(revision: str) -> None:
    refuse_unknown(revision)
    if revision != newest_revision():
        raise DatabaseUnavailable(
            f"the database is at revision {revision}, older than this product-sync.",
            "run `product-sync db upgrade`.",
        )


def revision_of(engine: sa.Engine) -> str | None:
    """A database's revision, None for an empty one. Connecting would create a missing SQLite file."""
    if engine.dialect.name == "sqlite" and not is_there(Path(engine.url.database or "")):
        return None
    return current_revision(engine)
