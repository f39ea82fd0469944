"""Forward the change feed: read in order, send, and only then move the position.

    copy ── Feed ──> entries ──> Sender ──> accepted entries ──> PositionStore
                                 (standard output, or `to_webhook`)

Invariant: the position never passes an entry that was not accepted. A crash at any instant loses no entry;
entries that were accepted before the position was saved are sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from sys import maxsize
from threading import Event
from typing import Any, NamedTuple, TypeVar

import msgspec
import sqlalchemy as sa

from sync.db.changes import since
from sync.db.engine import reading
from sync.db.feed_position import entry_at
from sync.errors import Interrupted
from sync.feed.positions import Position, PositionStore, check, describe
from sync.feed.webhook import Webhook, WebhookTooLarge
from sync.model import counted

T = TypeVar("T")

POLL_S = 1.0
CHUNK = 1000  # entries read at once
CHUNK_LENGTH = 1_000_000  # characters of their fields, unless one entry alone has more
BATCH = 100  # entries in one request
BATCH_BYTES = 900_000  # of a request's body, unless one entry alone has more: web servers often allow 1 MiB
_JSON = msgspec.json.Encoder(decimal_format="number")


class Entry(NamedTuple):
    """One change: its JSON object, and a reader's position after it."""

    json: bytes
    position: Position


# Sends entries, and yields those that were accepted, part by part, in order.
Sender = Callable[[Sequence[Entry]], Iterator[Sequence[Entry]]]


class Feed:
    """The feed of one copy.

    stop      once set, reading ends
    follow    wait at the end for more, and while the database restarts
    """

    def __init__(self, engine: sa.Engine, stop: Event, *, follow: bool, poll_s: float = POLL_S) -> None:
        self._engine = engine
        self._stop = stop
        self._follow = follow
        self._poll_s = poll_s

    def after(self, start: Position, store: PositionStore, limit: int | None = None) -> Iterator[list[Entry]]:
        """Yield the entries after `start` in chunks, up to `limit` or to the end of the feed.

        store    names the position in messages

        Raises EntriesDeleted, PositionMismatch when the entry at a position is gone from the feed,
        DatabaseUnavailable.
        """
        position, left = self._identified(start), maxsize if limit is None else limit
        while left and not self._stop.is_set():
            entries = self._read(position, store.name, min(CHUNK, left))
            if entries:
                position, left = entries[-1].position, left - len(entries)
                yield entries
                del entries  # before the next are read
            elif not self._follow or self._stop.wait(self._poll_s):
                return

    def _identified(self, start: Position) -> Position:
        """A bare number with the description of its entry, so that a later restore is noticed."""
        if start.entry is not None:
            return start
        entry = self._reading(lambda tx: entry_at(tx, start.change_id))
        return start if entry is None else Position(start.change_id, describe(entry))

    def check(self, position: Position, store: PositionStore) -> None:
        """Raise PositionMismatch when the entry at `position` is gone from the feed, DatabaseUnavailable."""
        self._read(position, store.name, limit=0)

    def _read(self, position: Position, name: str, limit: int) -> list[Entry]:
        """Read the entries after `position`, after checking that it belongs to this feed."""

        def read(tx: sa.Connection) -> list[sa.Row[tuple[object, ...]]]:
            rows = since(tx, position.change_id, limit, CHUNK_LENGTH)
            check(tx, position, name)
            return rows

        return [_entry(row) for row in self._reading(read)]

    def _reading(self, work: Callable[[sa.Connection], T]) -> T:
        return reading(self._engine, work, stop=self._stop if self._follow else None)


def _entry(row: sa.Row[Any]) -> Entry:
    return Entry(_JSON.encode(row._asdict()), Position(row.change_id, describe(row)))


def forward(
    feed: Feed,
    send: Sender,
    store: PositionStore,
    *,
    since: int,
    limit: int | None = None,
    rewind: bool = False,
) -> int:
    """Send the entries after the stored position; return how many were accepted.

    since     where to start when no position is stored, or with `rewind`
    limit     maximum number of entries
    """
    stored = store.load()
    start = Position(since) if stored is None or rewind else stored
    count = 0
    with suppress(Interrupted):
        for entries in feed.after(start, store, limit):
            for accepted in send(entries):
                store.save(accepted[-1].position)
                count += len(accepted)
                feed.check(accepted[-1].position, store)  # before more of this chunk is sent
    return count


# --- to a webhook ----------------------------------------------------------------------------


def to_webhook(webhook: Webhook) -> Sender:
    """A Sender that posts batches in order, each after the previous one was answered with 2xx."""

    def post(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        for batch in batches(entries):
            yield from _post(webhook, batch)

    return post


def _post(webhook: Webhook, batch: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Post one batch; post its halves when the receiver answers that it is too large."""
    try:
        content = body(batch)
        webhook.post(content, _message_id(batch, content))
    except WebhookTooLarge as error:
        if len(batch) == 1:
            change_id = batch[0].position.change_id
            raise WebhookTooLarge(
                f"{error} Change {change_id} alone has {counted(len(batch[0].json), 'byte')}."
            ) from None
        half = len(batch) // 2
        yield from _post(webhook, batch[:half])
        yield from _post(webhook, batch[half:])
    else:
        yield batch


def batches(
    entries: Sequence[Entry], most: int = BATCH, most_bytes: int = BATCH_BYTES
) -> Iterator[Sequence[Entry]]:
    """Split entries, in order, by number and by bytes; a larger entry is a batch by itself."""
    first, size = 0, 0
    for i, entry in enumerate(entries):
        if i > first and (i - first == most or size + len(entry.json) > most_bytes):
            yield entries[first:i]
            first, size = i, 0
        size += len(entry.json)
    if entries:
        yield entries[first:]


def body(batch: Sequence[Entry]) -> bytes:
    """`{"first_id": …, "last_id": …, "changes": […]}`, each change as `changes` prints it."""
    first, last = batch[0].position.change_id, batch[-1].position.change_id
    changes = b",".join(entry.json for entry in batch)
    return b'{"first_id":%d,"last_id":%d,"changes":[%b]}' % (first, last, changes)


def _message_id(batch: Sequence[Entry], content: bytes) -> str:
    """`first_id-last_id-digest`; the digest because a restored copy assigns these ids to other changes."""
    digest = sha256(content).hexdigest()[:16]
    return f"{batch[0].position.change_id}-{batch[-1].position.change_id}-{digest}"
