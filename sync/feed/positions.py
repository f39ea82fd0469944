"""How far a reader of the change feed came, and where that is kept between two processes.

    --state FILE      PositionFile     a file of the reader's own
    --webhook URL     PositionInCopy   a row of the copy for each URL, unless there is a file
    neither           Unkept           the reader remembers by itself

A position holds the last change_id handed on, and what that entry was. A copy that was restored from
a backup, or is another one altogether, has no such entry or a different one there: that is refused,
where a bare number would wait for ever, or skip what the new feed has below it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import sqlalchemy as sa

from sync.atomic_write import PRIVATE, atomic_write, why_not_a_file
from sync.db import position as rows
from sync.db import state
from sync.db.engine import in_transaction, reading
from sync.errors import SyncError, UsageError

FORMAT = 1
# A query's parameter of such a name is a secret: it may change while the receiver stays the same.
SECRET_NAMES = ("pass", "secret", "token", "key", "sig", "auth", "code")


class Position(msgspec.Struct, frozen=True):
    """The last entry handed on.

    entry     what it was, in words; None where nothing was handed on yet: then nothing can be compared
    format    of a file: a newer program may write another one
    """

    change_id: int
    entry: str | None = None
    format: int = FORMAT


_POSITION = msgspec.json.Decoder(Position)


class PositionTaken(SyncError):
    """Another process moves the same position."""

    exit_code = 75
    fix = "let only one process at a time tell the feed to the same receiver."


class PositionForeign(SyncError):
    """The position kept is not one of this copy's feed."""

    exit_code = 78


class PositionNotKept(SyncError):
    """The position cannot be written; what was handed on last is handed on again."""

    exit_code = 69
    fix = "make room and give the permission; started again, it continues at the last position kept."


class Keeper(Protocol):
    """Where a position is kept; `name` is how to speak of it."""

    name: str

    def load(self) -> Position | None: ...

    def save(self, position: Position) -> None: ...


def entry_of(row: sa.Row[Any]) -> str:
    """What a position remembers of an entry; no product text.

    >>> from collections import namedtuple; from datetime import datetime
    >>> Row = namedtuple("Row", "kind product_id store_view changed_at")
    >>> entry_of(Row("insert", 7, "all", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)))
    'insert of 7 in all at 2026-03-01T09:30:00.000000Z'
    """
    at = row.changed_at.astimezone(UTC)
    return f"{row.kind} of {row.product_id} in {row.store_view} at {at:%Y-%m-%dT%H:%M:%S.%fZ}"


def check(connection: sa.Connection, position: Position, name: str) -> None:
    """Raise PositionForeign unless the feed holds the entry that `position` remembers.

    To be called after what follows was read, in the same transaction: a restored copy gives the same
    change_ids to other entries, and those up to the position would never be sent.

    name    how to speak of what remembers it
    """
    if position.entry is None and position.change_id <= rows.end(connection):
        return  # nothing was handed on yet: the number alone cannot be wrong in another way
    found = rows.entry_at(connection, position.change_id)
    if found is not None and entry_of(found) == position.entry:
        return
    seen = "is another one there" if found is not None else f"ends at change {rows.end(connection)}"
    raise PositionForeign(
        f"{name} stands at change {position.change_id}, and the copy's feed {seen}: the database was "
        "restored from a backup, or is not the one that was told before.",
        "name the right DATABASE_URL; or go back with --rewind, to the first entry or to --since ID,"
        " and let the reader forget the change_ids behind it: they are given anew.",
    )


class Unkept:
    """The reader remembers by itself and says --since."""

    name = "this reader"

    def load(self) -> None:
        return None

    def save(self, position: Position) -> None:
        """Nobody asks for it again."""


# --- a row of the copy -----------------------------------------------------------------------


class PositionInCopy:
    """The position of one webhook, kept in the copy.

    Two processes with one URL may both send for a moment; the first to move the position wins, and
    the other one finds that it is not where it left it: PositionTaken.
    """

    def __init__(self, engine: sa.Engine, url: str, stop: Event) -> None:
        self.name = "this webhook"
        self._engine = engine
        self._row = f"webhook {_fingerprint(url)}"
        self._stop = stop
        self._kept: Any = None

    def load(self) -> Position | None:
        self._kept = reading(self._engine, lambda connection: state.load(connection, self._row))
        return None if self._kept is None else msgspec.convert(self._kept, Position)

    def save(self, position: Position) -> None:
        value = msgspec.to_builtins(position)

        def move(tx: sa.Connection) -> bool:
            return rows.replace(tx, self._row, self._kept, value)

        if not in_transaction(self._engine, move, stop=self._stop):
            reading(self._engine, lambda connection: check(connection, position, self.name))
            raise PositionTaken("another process posts to this webhook, and was faster.")
        self._kept = value


def _fingerprint(url: str) -> str:
    """Tells receivers apart without storing a URL's secrets, and stays when only these are renewed."""
    parts = urlsplit(url)
    told = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if not any(word in name.lower() for word in SECRET_NAMES)
    ]
    receiver = [parts.scheme, parts.username, parts.hostname, parts.port, parts.path, urlencode(told)]
    return sha256(msgspec.json.encode(receiver)).hexdigest()[:32]


# --- a file ----------------------------------------------------------------------------------


@contextmanager
def position_file(path: Path) -> Iterator[PositionFile]:
    """The file, for this process alone: PositionTaken where another one has it.

    `FILE.lock` beside it is what is locked, because the file itself is replaced; it stays, empty.
    Raises UsageError when the folder cannot be written to, and for a link or what else is no file.
    """
    path = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 -- Path's raises for an unknown user
    fix = "name a file in a folder that may be written to."
    try:
        if reason := why_not_a_file(path):
            raise UsageError(f"--state {path} {reason}.", fix)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    except OSError as error:
        raise UsageError(f"--state {path} cannot be used: {path}.lock: {error.strerror}.", fix) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield PositionFile(path)
    except BlockingIOError:
        raise PositionTaken(f"another process uses {path}.", "wait for it, or name another file.") from None
    finally:
        os.close(lock)


class PositionFile:
    """One line of JSON, replaced as a whole and on the disk before `save` returns; others may not read it."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def load(self) -> Position | None:
        """The position kept, None when there is no file. Raises UsageError for one that is none of ours."""
        try:
            kept = _POSITION.decode(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._unusable("is no position of the change feed") from None
        if kept.format != FORMAT:
            raise self._unusable(f"has format {kept.format}, written by a newer product-sync")
        if kept.change_id < 0:
            raise self._unusable("is no position of the change feed")
        return kept

    def save(self, position: Position) -> None:
        try:
            with atomic_write(self._path, PRIVATE) as file:
                file.write(msgspec.json.encode(position) + b"\n")
        except OSError as error:
            raise PositionNotKept(f"{self._path} cannot be written: {error.strerror}.") from None

    def _unusable(self, reason: str) -> UsageError:
        return UsageError(
            f"--state {self._path} {reason}.",
            "name another file, or remove this one to tell the feed from its beginning or from --since.",
        )
