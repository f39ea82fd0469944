"""Connections: one engine per database, transactions that are tried again, migrations on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import uniform
from threading import Event, Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from sync.db import receipts, refusals, session
from sync.db.dialects import is_transient, make_schema, own_schema, refuse_former_place, schema_lock
from sync.errors import CopyIncomplete, DatabaseUnavailable, Interrupted, SchemaTooNew, SettingsError
from sync.logs.redaction import foreign

if TYPE_CHECKING:
    from alembic.config import Config

T = TypeVar("T")
RETRY_TIME_S = 90  # a PostgreSQL restart takes seconds, a failover about a minute


def connect(url: str, *, keeps: bool = True) -> sa.Engine:
    """An engine for `url`; nothing is opened yet.

    keeps    connections for the next use; else each is closed after its own

    Statement parameters are hidden from errors and logs: they hold product texts.
    Raises DatabaseUnavailable for a URL that no driver understands, SettingsError for an option in it that
    none can use; of some options the driver says so only when it connects.
    """
    try:
        engine = session.engine(sa.make_url(url), None if keeps else sa.NullPool)
    except sa.exc.ArgumentError as error:
        raise unavailable(error) from None
    except (TypeError, ValueError) as error:
        raise _unusable_option(error) from None
    sa.event.listen(engine, "do_connect", _open)
    return engine


def _open(dialect: sa.Dialect, _record: Any, arguments: Any, options: Any) -> Any:
    """Connect as SQLAlchemy would; what a driver cannot do with an option of the URL is said by its name."""
    try:
        return dialect.connect(*arguments, **options)
    except dialect.loaded_dbapi.Error:
        raise
    except Exception as error:  # noqa: BLE001 -- a driver raises anything for a value that it did not expect
        raise _unusable_option(error) from None


def _unusable_option(error: Exception) -> SettingsError:
    return SettingsError(f"DATABASE_URL: has an option that cannot be used: {foreign(error)}")


def in_memory() -> sa.Engine:
    """An empty database that is gone with the process: what a dry run compares with before the first load."""
    engine = session.in_memory()
    upgrade(engine)
    return engine


def in_transaction(
    engine: sa.Engine,
    work: Callable[[sa.Connection], T],
    *,
    stop: Event | None = None,
    keep: bool = True,
    receipt: bool = True,
    is_done: Callable[[sa.Engine], bool] | None = None,
) -> T:
    """Run `work` in one write transaction, again while the database is locked or restarting.

    work       may run more than once, each time on a clean transaction, so it must not keep state
    stop       ends the waiting between two attempts
    keep       False rolls back at the end: what a dry run does
    receipt    a commit whose answer is lost is recognised, and `work` does not run again. False where it
               may, and where there may be no table of receipts
    is_done    finds out instead of a receipt

    Raises DatabaseUnavailable once RETRY_TIME_S is spent or the error will not pass by itself
    (disk full, no permission); Interrupted when `stop` is set while waiting.
    """
    for transaction in transactions(engine, stop=stop, keep=keep, receipt=receipt, is_done=is_done):
        with transaction as tx:
            result = work(tx)
    return result


def transactions(
    engine: sa.Engine,
    *,
    stop: Event | None = None,
    keep: bool = True,
    receipt: bool = True,
    is_done: Callable[[sa.Engine], bool] | None = None,
) -> Iterator[Transaction]:
    """Attempts at one write transaction, the last of which is committed; see `in_transaction`.

    for transaction in transactions(engine):
        with transaction as tx:
            write(tx)
    """
    backoff = _Backoff(engine, stop or Event())
    with_receipt = receipt and is_done is None and keep and engine.dialect.name != "sqlite"
    while True:
        transaction = Transaction(
            backoff.call(engine.connect), keep=keep, with_receipt=with_receipt, is_done=is_done
        )
        yield transaction
        if transaction.error is None:
            return
        backoff.wait(transaction.error)
        unanswered = transaction.unanswered
        if unanswered is not None and backoff.call(partial(unanswered, engine)):
            return


class Transaction:
    """One attempt at a write transaction, as a `with` block that ends with COMMIT.

    error         what the database reported instead; None when it was committed, or was not to be
    unanswered    finds out whether an attempt whose COMMIT failed was committed all the same
    """

    def __init__(
        self,
        connection: sa.Connection,
        *,
        keep: bool,
        with_receipt: bool,
        is_done: Callable[[sa.Engine], bool] | None = None,
    ) -> None:
        self._connection = connection.execution_options(sync_write=True)
        self._keep = keep
        self._is_done = is_done
        if with_receipt:
            receipt = receipts.new(connection)
            connection.execution_options(sync_first=receipts.leaving(connection.dialect.name, receipt))
            self._is_done = partial(receipts.was_left, receipt=receipt)
        self.error: sa.exc.SQLAlchemyError | None = None
        self.unanswered: Callable[[sa.Engine], bool] | None = None

    def __enter__(self) -> sa.Connection:
        return self._connection

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        """Commit, or roll back by closing the connection; the database's errors are kept in `error`."""
        try:
            with self._connection:
                if error is None and self._keep:
                    self._commit()
        except sa.exc.SQLAlchemyError as failed:
            error = failed  # of a connection that is gone: then no other error says more
        self.error = error if isinstance(error, sa.exc.SQLAlchemyError) else None
        return self.error is not None

    def _commit(self) -> None:
        """Commit; a connection that cannot is thrown away.

        SQLite may keep a transaction open whose COMMIT failed, and SQLAlchemy 2 takes it for ended: back in
        the pool, that connection would hold the write lock for good.
        """
        try:
            self._connection.commit()
        except BaseException as error:
            if isinstance(error, sa.exc.DBAPIError):
                self.unanswered = self._is_done
            self._connection.invalidate()
            raise


class _Backoff:
    """Waits between attempts, longer each time, until RETRY_TIME_S have passed since the first."""

    def __init__(self, engine: sa.Engine, stop: Event) -> None:
        self._engine = engine
        self._stop = stop
        self._until = monotonic() + RETRY_TIME_S
        self._longest_s = 0.2

    def call(self, once: Callable[[], T]) -> T:
        """Return what `once` returns, as soon as the database lets it."""
        while True:
            try:
                return once()
            except sa.exc.SQLAlchemyError as error:
                self.wait(error)

    def wait(self, error: sa.exc.SQLAlchemyError) -> None:
        """Wait before the next attempt.

        Raises Interrupted once `stop` is set, and DatabaseUnavailable when no attempt is left or the error
        will not pass by itself.
        """
        passes = isinstance(error, sa.exc.DBAPIError) and is_transient(error) and monotonic() < self._until
        if passes and not self._stop.wait(uniform(0, self._longest_s)):  # noqa: S311 - no secret
            self._longest_s = min(5.0, 2 * self._longest_s)
            return
        if self._stop.is_set():
            raise Interrupted("stopped while waiting for the database") from error
        raise unavailable(error, self._engine) from error


def reading(engine: sa.Engine, work: Callable[[sa.Connection], T], *, stop: Event | None = None) -> T:
    """Run `work` in one read transaction.

    stop    wait for a database that is restarting, as `in_transaction` does; None: do not wait

    Raises DatabaseUnavailable, and Interrupted when `stop` is set while waiting.
    """

    def once() -> T:
        with engine.connect() as connection:
            result = work(connection)
            session.ensure_unchanged(connection)
            return result

    if stop is not None:
        return _Backoff(engine, stop).call(once)
    try:
        return _with_a_fresh_connection(once)
    except sa.exc.SQLAlchemyError as error:
        raise unavailable(error) from error


def _with_a_fresh_connection(once: Callable[[], T]) -> T:
    """Call `once`, a second time when a connection kept from earlier had ended: then all of them are dropped.

    Cheaper than to ask each connection whether it still lives, which is a round trip per transaction.
    """
    try:
        return once()
    except sa.exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise
    return once()


def unavailable(error: Exception, engine: sa.Engine | None = None) -> DatabaseUnavailable:
    """The driver's own words, without the statement and its values.

    engine    of a transaction that writes: a missing right is reported with its remedy
    """
    if engine is not None and (denied := refusals.missing_right(engine, error)) is not None:
        return denied
    cause = getattr(error, "orig", None) or error
    return DatabaseUnavailable(f"the database cannot do this: {foreign(cause)}")


# --- migrations ------------------------------------------------------------------------------


def migrations_path() -> Path:
    """`migrations/` of the checkout, or the copy that an installed wheel carries."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "_migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def alembic_config(connection: sa.Connection | None = None) -> Config:
    from alembic.config import Config  # a fifth of a second, and needed once in a database's life

    config = Config()
    config.set_main_option("script_location", str(migrations_path()))
    config.attributes["connection"] = connection
    return config


def revisions() -> list[str]:
    """Every revision this program knows, oldest first: what the files of `migrations/versions` begin with."""
    return sorted(path.name.partition("_")[0] for path in migrations_path().glob("versions/[0-9]*.py"))


def newest_revision() -> str:
    return revisions()[-1]


def current_revision(engine: sa.Engine) -> str | None:
    """The revision the database is at; None for an empty one."""
    return reading(engine, _revision)


def _revision(connection: sa.Connection) -> str | None:
    schema = own_schema(connection)
    if not sa.inspect(connection).has_table("alembic_version", schema=schema):
        return None
    version = sa.table("alembic_version", sa.column("version_num", sa.String), schema=schema)
    return connection.execute(sa.select(version.c.version_num)).scalar_one_or_none()


def copying_mark() -> str:
    """The revision of a database that `db copy` has not completed."""
    return f"copying {newest_revision()}"


def refuse_unknown(revision: str) -> None:
    """Raise CopyIncomplete for a database that `db copy` has not completed, SchemaTooNew for a newer one."""
    if revision.startswith("copying"):
        raise CopyIncomplete
    if revision not in revisions():
        raise SchemaTooNew(f"the database is at revision {revision}, which this product-sync does not know.")


def upgrade(engine: sa.Engine, *, resume: bool = False) -> None:
    """Bring an empty or older database to the newest schema.

    resume    accept one that `db copy` has not completed

    Raises CopyIncomplete, SchemaTooNew, DatabaseUnavailable, and SettingsError as `refuse_former_place`.
    """
    revision = current_revision(engine)
    if revision == newest_revision() or (resume and revision == copying_mark()):
        return
    if revision is not None:
        refuse_unknown(revision)
    if revision is None:
        reading(engine, refuse_former_place)
    in_transaction(engine, _upgrade, is_done=_is_newest)


def _is_newest(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        return _revision(connection) == newest_revision()


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command

    with schema_lock(connection):
        make_schema(connection)
        with _ALEMBIC:
            command.upgrade(alembic_config(connection), "head")


_ALEMBIC = Lock()  # its migrations speak to whatever connection was made known last, in this process
