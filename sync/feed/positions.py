"""The position of a feed reader, and where it is stored from one process to the next.

    --state FILE      PositionFile      a file of the reader's own
    --webhook URL     WebhookPosition   a row of the copy for each URL, unless there is a file
    neither           NoPosition        the reader itself keeps the position

A position holds the last change_id sent and a description of that entry. A copy restored from a backup, or
another copy, has no such entry or a different one: it is refused. A bare number would wait forever, or skip
what the new feed has below it.
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
from sync.db import feed_position, state
from sync.db.engine import in_transaction, reading
from sync.errors import SyncError, UsageError

FORMAT = 1
# A query parameter with such a name is a secret: it may change while the receiver stays the same.
SECRET_NAMES = ("pass", "secret", "token", "key", "sig", "auth", "code")


class Position(msgspec.Struct, frozen=True):
    """The last entry sent.

    entry     its description; None until something was sent: there is nothing to compare then
    format    version of the file format
    """

    change_id: int
    entry: str | None = None
    format: int = FORMAT


_POSITION = msgspec.json.Decoder(Position)


class PositionInUse(SyncError):
    """Another process moves the same position."""

    exit_code = 75
    fix = "let only one process at a time send the feed to the same receiver."


class PositionMismatch(SyncError):
    """The stored position does not match this copy's feed."""

    exit_code = 78


class EntriesDeleted(SyncError):
    """The entries after a position are older than SYNC_CHANGES_KEEP and were deleted."""

    exit_code = 78


class PositionNotSaved(SyncError):
    """The position cannot be written; the last entries are sent again."""

    exit_code = 69
    fix = "free disk space or grant the permission, then start again; it resumes at the last saved position."


class PositionStore(Protocol):
    """Where a position is stored; messages call it `name`."""

    name: str

    def load(self) -> Position | None: ...

    def save(self, position: Position) -> None: ...


def describe(row: sa.Row[Any]) -> str:
    """Describe an entry without product texts, to recognise it later.

    >>> from collections import namedtuple; from datetime import datetime
    >>> Row = namedtuple("Row", "kind product_id store_view changed_at")
    >>> describe(Row("insert", 7, "all", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)))
    'insert of 7 in all at 2026-03-01T09:30:00.000000Z'
    """
    at = row.changed_at.astimezone(UTC)
    return f"{row.kind} of {row.product_id} in {row.store_view} at {at:%Y-%m-%dT%H:%M:%S.%fZ}"


def check(connection: sa.Connection, position: Position, name: str) -> None:
    """Raise PositionMismatch unless the feed holds the entry that `position` describes.

    Raises EntriesDeleted when entries after it are no longer kept. The entry itself need not be.

    Call it after reading the following entries, in the same transaction: a restored copy assigns the same
    change_ids to other entries, and those up to the position would never be sent.

    name    what stores the position, for the message
    """
    oldest = feed_position.oldest_change_id(connection)
    if position.change_id < oldest - 1:
        raise EntriesDeleted(
            f"{name} is at change {position.change_id}, but the oldest entry kept is change {oldest}: "
            "those between were deleted, as SYNC_CHANGES_KEEP says.",
            f"read the current products first, with `product-sync export`; then continue with --since"
            f" {oldest - 1}, with --rewind where a position is stored.",
        )
    if oldest > 1 and position.change_id == oldest - 1:
        return  # its entry was deleted, and none after it
    if position.entry is None and position.change_id <= feed_position.last_change_id(connection):
        return  # nothing was sent yet, so there is no entry to compare
    found = feed_position.entry_at(connection, position.change_id)
    if found is not None and describe(found) == position.entry:
        return
    seen = (
        "has another entry there"
        if found is not None
        else f"ends at change {feed_position.last_change_id(connection)}"
    )
    raise PositionMismatch(
        f"{name} is at change {position.change_id}, but the copy's feed {seen}: the database was "
        "restored from a backup, or is not the one used before.",
        "correct DATABASE_URL; or go back with --rewind, to the first entry or to --since ID, and make the"
        " reader discard the change_ids after that: they are assigned again.",
    )


class NoPosition:
    """Stores nothing: the reader keeps its position and passes --since."""

    name = "this reader"

    def load(self) -> None:
        return None

    def save(self, position: Position) -> None:
        """Discard it."""


# --- a row of the copy -----------------------------------------------------------------------


class WebhookPosition:
    """The position of one webhook, stored in the copy.

    Two processes with the same URL may both send for a moment; the first to move the position wins, the
    other gets PositionInUse.
    """

    def __init__(self, engine: sa.Engine, url: str, stop: Event) -> None:
        self.name = "this webhook"
        self._engine = engine
        self._row = f"{feed_position.WEBHOOK} {_fingerprint(url)}"
        self._stop = stop
        self._stored: Any = None

    def load(self) -> Position | None:
        self._stored = reading(self._engine, lambda connection: state.load(connection, self._row))
        return None if self._stored is None else msgspec.convert(self._stored, Position)

    def save(self, position: Position) -> None:
        value = msgspec.to_builtins(position)

        def move(tx: sa.Connection) -> bool:
            return feed_position.compare_and_set(tx, self._row, self._stored, value)

        if not in_transaction(self._engine, move, stop=self._stop):
            reading(self._engine, lambda connection: check(connection, position, self.name))
            raise PositionInUse("another process posts to this webhook and has moved its position.")
        self._stored = value


def _fingerprint(url: str) -> str:
    """Identify a receiver without storing its URL's secrets; renewing only these does not change it."""
    parts = urlsplit(url)
    public = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if not any(word in name.lower() for word in SECRET_NAMES)
    ]
    receiver = [parts.scheme, parts.username, parts.hostname, parts.port, parts.path, urlencode(public)]
    return sha256(msgspec.json.encode(receiver)).hexdigest()[:32]


# --- a file ----------------------------------------------------------------------------------


@contextmanager
def position_file(path: Path) -> Iterator[PositionFile]:
    """Open the file for this process alone. Raises PositionInUse while another process has it.

    The lock is on `FILE.lock` beside it, because the file itself is replaced; it stays, empty.
    Raises UsageError when the folder is not writable, and for a link or anything that is not a file.
    """
    path = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 -- Path's raises for an unknown user
    fix = "name a file in a writable folder."
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
        raise PositionInUse(f"another process uses {path}.", "wait for it, or name another file.") from None
    finally:
        os.close(lock)


class PositionFile:
    """One line of JSON, replaced atomically and synced before `save` returns; readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def load(self) -> Position | None:
        """The stored position, None when there is no file. Raises UsageError for any other file."""
        try:
            stored = _POSITION.decode(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._unusable("holds no position of the change feed") from None
        if stored.format != FORMAT:
            raise self._unusable(f"has format {stored.format}, written by a newer product-sync")
        if stored.change_id < 0:
            raise self._unusable("holds no position of the change feed")
        return stored

    def save(self, position: Position) -> None:
        try:
            with atomic_write(self._path, PRIVATE) as file:
                file.write(msgspec.json.encode(position) + b"\n")
        except OSError as error:
            raise PositionNotSaved(f"{self._path} cannot be written: {error.strerror}.") from None

    def _unusable(self, reason: str) -> UsageError:
        return UsageError(
            f"--state {self._path} {reason}.",
            "name another file, or remove this one to send the feed from its beginning or from --since.",
        )
