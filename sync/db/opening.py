"""Opening a copy that may be there already: nothing is created, nothing is migrated."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from threading import Event

import sqlalchemy as sa
from pydantic import SecretStr

from sync.db.dialects import is_transient, make_schema, own_schema
from sync.db.engine import (
    connect,
    current_revision,
    in_transaction,
    newest_revision,
    revisions,
    unavailable,
)
from sync.db.schema import metadata
from sync.db.session import is_writable
from sync.errors import DatabaseUnavailable, Interrupted, SchemaTooNew
from sync.logs.redaction import foreign
from sync.settings.parsers import mask_url


def connect_existing(url: str) -> sa.Engine:
    """An engine on the copy at `url`. Raises DatabaseUnavailable when there is none, else as `find`."""
    engine = find(url, keeps=not url.startswith("sqlite"))  # a restore may put another file in its place
    if engine is None:
        raise DatabaseUnavailable(
            f"there is no copy at {mask_url(SecretStr(url))} yet.",
            "run `product-sync backfill` first, or correct DATABASE_URL.",
        )
    return engine


def find(url: str, *, keeps: bool = True) -> sa.Engine | None:
    """An engine on the copy at `url`, None when there is nothing yet.

    keeps    as in `connect`

    Raises SchemaTooNew when a newer program wrote it, DatabaseUnavailable when an older one did or it is out
    of reach.
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
    """Raise what `find` does unless the copy is there, in the schema of this program."""
    revision = revision_of(engine)
    if revision is None:
        raise DatabaseUnavailable("the database holds no copy any more.")
    _check(revision)


def try_to_write(url: str) -> None:
    """Do what the next write will need, and undo it: make a table, and write to those that are there.

    Nothing is left, and no row is locked, so a daemon at work does not notice. A SQLite file is only looked
    at: to write there would wait for a pass under way.
    Raises DatabaseUnavailable, with what an administrator should do.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        file = Path(parsed.database or "")
        if file.exists() and not is_writable(file):
            raise DatabaseUnavailable(
                f"{file} can be read, but this user may not write it, or not in its folder.",
                "change the owner or the mode of both, or correct DATABASE_URL.",
            )
        return
    engine = connect(url, keeps=False)
    at_once = Event()
    at_once.set()
    try:
        in_transaction(engine, _try_to_write, stop=at_once, keep=False)
    except Interrupted as error:
        cause = error.__cause__
        raise unavailable(cause) if isinstance(cause, sa.exc.SQLAlchemyError) else error from None


def _try_to_write(tx: sa.Connection) -> None:
    make_schema(tx)
    schema, quote = own_schema(tx), tx.dialect.identifier_preparer.quote_identifier
    name = f"{quote(schema)}.product_sync_check" if schema else "product_sync_check"
    try:
        tx.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {name} (id integer)")
        tx.exec_driver_sql(f"DROP TABLE {name}")
        if tx.dialect.name == "postgresql":
            tx.exec_driver_sql("CREATE TEMPORARY TABLE product_sync_check (id integer) ON COMMIT DROP")
        there = sa.inspect(tx).get_table_names(schema=schema)
        for table in (it for it in metadata.sorted_tables if it.name in there):
            _write_nothing(tx, table)
    except sa.exc.DBAPIError as error:
        if is_transient(error):
            raise
        raise DatabaseUnavailable(
            f"a pass could not write here: {foreign(error.orig or error)}", _remedy(tx, schema)
        ) from error


def _write_nothing(tx: sa.Connection, table: sa.Table) -> None:
    """Statements that change no row, and that nobody without the right may execute."""
    column = next(iter(table.primary_key))
    none = sa.select(column).where(sa.false())
    tx.execute(table.insert().from_select([column], none, include_defaults=False))
    tx.execute(table.update().where(sa.false()).values({column: column}))
    tx.execute(table.delete().where(sa.false()))


def _remedy(tx: sa.Connection, schema: str | None) -> str:
    quote = tx.dialect.identifier_preparer.quote_identifier
    if schema is None:
        return f"let an administrator run: GRANT ALL ON {quote(tx.engine.url.database or '')}.* TO the user."
    role = quote(tx.engine.url.username or "the role")
    return (
        f"let an administrator run: GRANT USAGE, CREATE ON SCHEMA {quote(schema)} TO {role}; and, where the"
        f" copy is another role's: GRANT ALL ON ALL TABLES IN SCHEMA {quote(schema)} TO {role};"
    )


def _check(revision: str) -> None:
    if revision not in revisions():
        raise SchemaTooNew(f"the database is at revision {revision}, which this product-sync does not know.")
    if revision != newest_revision():
        raise DatabaseUnavailable(
            f"the database is at revision {revision}, older than this product-sync.",
            "run `product-sync db upgrade`.",
        )


def revision_of(engine: sa.Engine) -> str | None:
    """The revision a database is at, None for an empty one; connecting would create a SQLite file."""
    if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").exists():
        return None
    return current_revision(engine)
