"""What a database refuses this user, in the same words for `check` and for the passes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from sync.db.dialects import mariadb_error, own_schema
from sync.errors import DatabaseUnavailable
from sync.logs.redaction import foreign

_INSUFFICIENT_PRIVILEGE: Final = "42501"  # PostgreSQL's SQLSTATE
_MARIADB_DENIED: Final = frozenset({1044, 1142, 1143, 1227})  # database, table, column, privilege


def is_there(file: Path) -> bool:
    """Whether a SQLite file exists. Raises DatabaseUnavailable where the system does not say."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DatabaseUnavailable(
            f"the file {file} cannot be opened: {error.strerror}.",
            "check its name, and the owner and mode of the folders above it, or correct DATABASE_URL.",
        ) from error
    return True


def ensure_folder(file: Path) -> None:
    """Raise DatabaseUnavailable unless a SQLite file can be made: no command makes its folder."""
    folder = file.absolute().parent
    if os.access(folder, os.W_OK):
        return
    what = "is not writable" if folder.is_dir() else "does not exist"
    fix = "change its owner or mode" if folder.is_dir() else "create it"
    raise DatabaseUnavailable(f"the folder {folder} {what}.", f"{fix}, or correct DATABASE_URL.")


def read_only(file: Path) -> DatabaseUnavailable:
    """The error for a SQLite file that cannot be written."""
    return DatabaseUnavailable(
        f"{file} can be read, but this user may not write to it or to its folder.",
        "change the owner or the mode of both, or correct DATABASE_URL.",
    )


def missing_right(engine: sa.Engine, error: Exception) -> DatabaseUnavailable | None:
    """The error, with the GRANT to run, if that is why a transaction failed; else None."""
    cause = getattr(error, "orig", None)
    if engine.dialect.name == "sqlite":
        is_file = str(cause).startswith("attempt to write a readonly database")
        return read_only(Path(engine.url.database or "")) if is_file else None
    is_denied = mariadb_error(cause) in _MARIADB_DENIED
    if not is_denied and getattr(cause, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
        return None
    return DatabaseUnavailable(f"a pass cannot write to this database: {foreign(cause)}", _grant(engine))


def _grant(engine: sa.Engine) -> str:
    quote = engine.dialect.identifier_preparer.quote_identifier
    if engine.dialect.name != "postgresql":
        return f"let an administrator run: GRANT ALL ON {quote(engine.url.database or '')}.* TO the user."
    with engine.connect() as connection:
        schema = quote(own_schema(connection) or "public")
    role = quote(engine.url.username or "the role")
    return (
        f"let an administrator run: GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}; and, where the"
        f" copy is another role's: GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role};"
    )
