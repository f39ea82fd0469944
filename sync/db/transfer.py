"""The whole copy into another, empty database, whatever server either of them is on.

    1. lease     on both sides, so nobody writes meanwhile
    2. mark      the target's revision becomes `copying …`: no command uses it until it is complete
    3. copy      table by table from one snapshot of the source, in chunks of a few MB
    4. finish    the numbers that the next rows get, the flat views
    5. verify    the rows of each table are read again, and their count and hash compared with the source's
    6. unmark    the target has a revision like any other

A transfer that is killed leaves the mark. The next one into the same database empties it and starts over.

Leases and commit receipts are the database's own and are not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from struct import pack
from threading import Event
from time import monotonic
from typing import Any

import msgspec
import sqlalchemy as sa

from sync.db import leases, opening, views
from sync.db.dialects import Money, Row, UtcDateTime, as_mapped_value, bulk_insert, own_schema
from sync.db.engine import (
    copying_mark,
    in_transaction,
    newest_revision,
    reading,
    revisions,
    unavailable,
    upgrade,
)
from sync.db.leases import Lease
from sync.db.receipts import NOT_A_RECEIPT
from sync.db.refusals import is_there
from sync.db.schema import metadata, sync_feed, sync_leases, sync_state
from sync.errors import (
    DatabaseUnavailable,
    Interrupted,
    SettingsError,
    TargetNotEmpty,
    TransferFailed,
)
from sync.model import counted

MAX_CHUNK = 4000  # rows
CHUNK_BYTES = 2_000_000
RENEWAL_S = 5.0
TABLES = [table for table in metadata.sorted_tables if table is not sync_leases]
_MODULUS = 2**256
_ENCODER = msgspec.json.Encoder()

OnRows = Callable[[int, int], None]  # rows done, of how many


@dataclass(frozen=True, slots=True)
class Contents:
    """The number of a table's rows, and the sum of their hashes, which does not depend on their order."""

    rows: int = 0
    digest: int = 0

    def plus(self, rows: Sequence[Row]) -> Contents:
        total = sum(
            int.from_bytes(sha256(_ENCODER.encode([_comparable(it) for it in row])).digest()) for row in rows
        )
        return Contents(self.rows + len(rows), (self.digest + total) % _MODULUS)


def _comparable(value: Any) -> Any:
    """A value as every server stores it: MariaDB's floats have 4 bytes."""
    return pack("f", value) if isinstance(value, float) else value


@dataclass(slots=True)
class _Progress:
    """Reports rows, and renews both leases in between."""

    on_rows: OnRows
    stop: Event
    renew: Callable[[], None]
    total: int = 0
    done: int = 0
    renewed_at: float = 0.0

    def advance(self, rows: int) -> None:
        if self.stop.is_set():
            raise Interrupted(
                "Stopped before the copy was complete.", "run the same command again: it starts over."
            )
        if monotonic() - self.renewed_at > RENEWAL_S:
            self.renew()
            self.renewed_at = monotonic()
        self.done += rows
        self.on_rows(self.done, self.total)


def transfer(
    source: sa.Engine,
    target: sa.Engine,
    owner: str,
    is_dead: Callable[[str], bool],
    stop: Event,
    on_rows: OnRows,
) -> dict[str, int]:
    """Copy everything from `source` to `target`, verify it, and return the number of rows by table.

    owner, is_dead    as `leases.acquire` takes them
    on_rows           called with the rows read so far and in all, once for the copy and once to verify it

    Raises TargetNotEmpty before anything is written; LeaseHeld, DatabaseUnavailable, Interrupted,
    and TransferFailed.
    """
    with _about_the_target():
        _refuse_filled(target)
    with _lease(source, owner, is_dead) as ours:
        with _about_the_target():
            upgrade(target, resume=True)
        with _lease(target, owner, is_dead) as theirs:

            def renew() -> None:
                in_transaction(source, partial(leases.renew, lease=ours), stop=stop)
                in_transaction(target, partial(leases.renew, lease=theirs), stop=stop)

            with _about_the_target():
                in_transaction(target, partial(_mark, lease=theirs), stop=stop)
                _empty(target)
            progress = _Progress(on_rows, stop, renew)
            with _snapshot(source) as connection:
                progress.total = 2 * _count(connection)
                copied = {table: _copy(connection, table, target, theirs, progress) for table in TABLES}
            with _about_the_target(), _snapshot(target) as connection:
                found = {table: _contents(connection, table, progress) for table in TABLES}
            _compare(copied, found)
            with _about_the_target():
                in_transaction(target, _create_views, stop=stop)
                in_transaction(target, partial(_complete, lease=theirs), stop=stop)
    return {table.name: contents.rows for table, contents in copied.items()}


@contextmanager
def _snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection that sees one moment."""
    try:
        with engine.connect() as connection:
            yield connection.execution_options(sync_snapshot=True)
    except (sa.exc.SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as error:
        raise unavailable(error) from error


@contextmanager
def _lease(engine: sa.Engine, owner: str, is_dead: Callable[[str], bool]) -> Iterator[Lease]:
    lease = leases.acquire(engine, owner, is_dead)
    try:
        yield lease
    finally:
        with suppress(DatabaseUnavailable):
            leases.release(engine, lease)


@contextmanager
def _about_the_target() -> Iterator[None]:
    """Name the target in errors that would otherwise be taken for the source's."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(
            f"the other database: {error}", "correct its URL or the server, then run the same command again."
        ) from error
    except SettingsError as error:
        message, fix = (it.replace("DATABASE_URL", "its URL") for it in (str(error), error.fix))
        raise SettingsError(f"the other database: {message}", fix) from error


# --- the target ------------------------------------------------------------------------------


def _refuse_filled(target: sa.Engine) -> None:
    """Raise TargetNotEmpty unless `target` is empty, or holds a transfer that was not completed."""
    if target.dialect.name == "sqlite" and not is_there(Path(target.url.database or "")):
        return  # connecting would create it
    revision = opening.revision_of(target)
    if revision is None:
        reading(target, _refuse_foreign)
    elif revision in revisions():
        reading(target, _refuse_rows)


def _refuse_foreign(connection: sa.Connection) -> None:
    schema, inspector = own_schema(connection), sa.inspect(connection)
    existing = {*inspector.get_table_names(schema=schema), *inspector.get_view_names(schema=schema)}
    if name := min(existing & {*metadata.tables, *views.OWN}, default=""):
        raise TargetNotEmpty(f"the database to copy to has a table or view {name} of another program.")


def _refuse_rows(connection: sa.Connection) -> None:
    existing = sa.inspect(connection).get_table_names(schema=own_schema(connection))
    for table in (it for it in TABLES if it.name in existing):
        rows = sa.select(sa.literal(1)).select_from(table).where(_is_content(table)).limit(1)
        if connection.scalar(rows) is not None:
            raise TargetNotEmpty(f"the database to copy to already has rows in {table.name}.")


def _is_content(table: sa.Table) -> sa.ColumnElement[bool]:
    """A condition that excludes what migrations write."""
    if table is sync_feed:
        return sync_feed.c.last_change_id > 0
    if table is sync_state:
        return sa.and_(sa.text(NOT_A_RECEIPT), sync_state.c.name != "identity")
    return sa.true()


def _mark(tx: sa.Connection, lease: Lease) -> None:
    leases.renew(tx, lease)
    _set_revision(tx, copying_mark())


def _complete(tx: sa.Connection, lease: Lease) -> None:
    """Set the numbers of the next rows, and remove the mark."""
    leases.renew(tx, lease)
    for table in TABLES if tx.dialect.name == "postgresql" else ():
        (key, *more) = table.primary_key
        if not more and table.autoincrement_column is key:
            tx.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', '{key.name}'),"
                f" greatest(1, max({key.name})), count(*) > 0) FROM {table.name}"
            )
    _set_revision(tx, newest_revision())


def _set_revision(tx: sa.Connection, revision: str) -> None:
    version = sa.table("alembic_version", sa.column("version_num", sa.String), schema=own_schema(tx))
    tx.execute(version.update().values(version_num=revision))


def _empty(target: sa.Engine) -> None:
    """Delete the rows of an earlier attempt, and those of migrations."""
    for table in TABLES:
        if reading(target, partial(_has_rows, table=table)):
            in_transaction(target, partial(_delete_rows, table=table))


def _has_rows(connection: sa.Connection, table: sa.Table) -> bool:
    return connection.scalar(sa.select(sa.literal(1)).select_from(table).limit(1)) is not None


def _delete_rows(tx: sa.Connection, table: sa.Table) -> None:
    if table is sync_state:
        tx.execute(sync_state.delete().where(sa.text(NOT_A_RECEIPT)))
    elif tx.dialect.name == "sqlite":
        tx.execute(table.delete())
    else:
        tx.exec_driver_sql(f"TRUNCATE TABLE {table.name}")


def _create_views(tx: sa.Connection) -> None:
    """Create the users' flat views; one that this server refuses is left out."""
    with views.dropped_views(tx):
        pass


# --- rows ------------------------------------------------------------------------------------


def _count(connection: sa.Connection) -> int:
    return sum(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in TABLES)


def _copy(
    snapshot: sa.Connection, table: sa.Table, target: sa.Engine, lease: Lease, progress: _Progress
) -> Contents:
    """Copy one table and return what it has."""
    contents = Contents()
    names = [column.name for column in table.columns]
    for rows in _chunks(snapshot, table):

        def write(tx: sa.Connection, rows: list[Row] = rows) -> None:
            leases.renew(tx, lease)
            _insert(tx, table, names, rows)

        progress.advance(len(rows))
        with _about_the_target():
            in_transaction(target, write, stop=progress.stop)
        contents = contents.plus(rows)
        del rows, write  # before the next are read
    return contents


def _insert(tx: sa.Connection, table: sa.Table, names: Sequence[str], rows: list[Row]) -> None:
    try:
        bulk_insert(tx, table, names, rows)
    except (
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
    ) as error:  # a value edited by hand in SQLite
        raise TransferFailed(f"{table.name} has a value that the other database cannot hold.") from error


def _contents(connection: sa.Connection, table: sa.Table, progress: _Progress) -> Contents:
    contents = Contents()
    for rows in _chunks(connection, table):
        progress.advance(len(rows))
        contents = contents.plus(rows)
        del rows  # before the next are read
    return contents


def _chunks(connection: sa.Connection, table: sa.Table) -> Iterator[list[Row]]:
    """All rows of a table, with values as the mapping makes them, a few MB at a time."""
    columns = [*table.columns]
    convert = [
        (i, column)
        for i, column in enumerate(columns)
        if isinstance(column.type, UtcDateTime | Money | sa.Boolean)
    ]
    select = f"SELECT {', '.join(_selected(connection, column) for column in columns)} FROM {table.name}"
    if table is sync_state:
        select += f" WHERE {NOT_A_RECEIPT}"
    chunk, size = list[Row](), 0
    for row in _streamed(connection, select):
        chunk.append(_converted(row, convert) if convert else tuple(row))
        size += sum(len(value) if isinstance(value, str) else 8 for value in row)
        if size >= CHUNK_BYTES or len(chunk) == MAX_CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _streamed(connection: sa.Connection, select: str) -> Iterator[Sequence[Any]]:
    """Rows one by one, without a round trip for each; a cursor on the server would send many at once."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT 1")  # begins the transaction
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor:
            yield from cursor.stream(select)
        return
    with connection.execution_options(stream_results=True, max_row_buffer=1).exec_driver_sql(
        select
    ) as result:
        yield from result


def _selected(connection: sa.Connection, column: sa.Column[Any]) -> str:
    """A column in a select: JSON as text, also where SQLite stores a number; a float with all its digits."""
    quoted = connection.dialect.identifier_preparer.quote(column.name)
    if connection.dialect.name in ("postgresql", "sqlite") and isinstance(column.type, sa.JSON):
        return f"CAST({quoted} AS text)"
    if connection.dialect.name in ("mysql", "mariadb") and isinstance(column.type, sa.Float):
        return f"CAST({quoted} AS DOUBLE)"
    return quoted


def _converted(row: Sequence[Any], columns: Sequence[tuple[int, sa.Column[Any]]]) -> Row:
    values = list(row)
    for i, column in columns:
        values[i] = as_mapped_value(column.type, values[i])
    return tuple(values)


def _compare(copied: dict[sa.Table, Contents], found: dict[sa.Table, Contents]) -> None:
    for table, contents in copied.items():
        if found[table].rows != contents.rows:
            raise TransferFailed(
                f"{table.name} has {counted(contents.rows, 'row')}, and the other database "
                f"{found[table].rows:,}."
            )
        if found[table] != contents:
            raise TransferFailed(f"rows of {table.name} differ in the other database.")
