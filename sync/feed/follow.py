"""The change feed handed on: read in order, told, and only then is the position moved.

    copy ── Feed ──> entries ──> outlet ──> parts that were accepted ──> Keeper
                                 (standard output, or `to_webhook`)

Invariant: a position never stands behind an entry that was not accepted. A crash at any instant
costs no entry; what was accepted last and not noted yet is told once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from sys import maxsize
from threading import Event
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from sync.db.changes import since
from sync.db.engine import reading
from sync.errors import Interrupted
from sync.feed.positions import Keeper, Position, check, entry_of
from sync.feed.webhook import Webhook, WebhookTooLarge

POLL_S = 1.0
CHUNK, FIRST_CHUNK = 1000, 100  # entries read at once: the most, and before it is known how large they are
ROOM = 2_000_000  # bytes of entries that a chunk is meant to have
BATCH = 100  # entries in one request
BATCH_BYTES = 900_000  # of one request's body, unless one entry alone has more: web servers often allow 1 MiB
_JSON = msgspec.json.Encoder(decimal_format="number")


class Entry(NamedTuple):
    """One change: its JSON object, and the position of who was told it."""

    json: bytes
    position: Position


# What hands entries on, and yields those that were accepted, part by part, in order.
Outlet = Callable[[Sequence[Entry]], Iterator[Sequence[Entry]]]


class Feed:
    """The feed of one copy.

    stop      once set, reading ends
    follow    wait for more at the end, and for a database that is restarting
    """

    def __init__(self, engine: sa.Engine, stop: Event, *, follow: bool, poll_s: float = POLL_S) -> None:
        self._engine = engine
        self._stop = stop
        self._follow = follow
        self._poll_s = poll_s

    def after(self, start: Position, keeper: Keeper, limit: int | None = None) -> Iterator[list[Entry]]:
        """Entries after `start` as they come, in chunks, until `limit` were told or there are no more.

        keeper    for its name alone

        Raises PositionForeign when the entry told last is gone from the feed, DatabaseUnavailable.
        """
        position, left, size = start, maxsize if limit is None else limit, FIRST_CHUNK
        while left and not self._stop.is_set():
            entries = self._read(position, keeper.name, min(size, left))
            if entries:
                yield entries
                position, left = entries[-1].position, left - len(entries)
                size = _next_size(entries)
            elif not self._follow or self._stop.wait(self._poll_s):
                return

    def check(self, position: Position, keeper: Keeper) -> None:
        """Raise PositionForeign when the entry told last is gone from the feed, DatabaseUnavailable."""
        self._read(position, keeper.name, most=0)

    def _read(self, position: Position, name: str, most: int) -> list[Entry]:
        """The entries that follow `position`, if it is one of this feed."""

        def read(tx: sa.Connection) -> list[sa.Row[tuple[object, ...]]]:
            rows = since(tx, position.change_id, most)
            check(tx, position, name)
            return rows

        found = reading(self._engine, read, stop=self._stop if self._follow else None)
        return [_entry(row) for row in found]


def _entry(row: sa.Row[Any]) -> Entry:
    return Entry(_JSON.encode(row._asdict()), Position(row.change_id, entry_of(row)))


def _next_size(entries: Sequence[Entry]) -> int:
    """As many as have room, going by these; at most twice as many as these."""
    average = sum(len(entry.json) for entry in entries) / len(entries)
    return max(1, min(CHUNK, 2 * len(entries), int(ROOM / average)))


def tell(
    feed: Feed, outlet: Outlet, keeper: Keeper, *, since: int, limit: int | None = None, rewind: bool = False
) -> int:
    """Hand on what follows the position kept; return how many entries were accepted.

    since     where to begin when no position is kept, or with `rewind`
    limit     most entries
    """
    kept = keeper.load()
    start = Position(since) if kept is None or rewind else kept
    told = 0
    with suppress(Interrupted):
        for entries in feed.after(start, keeper, limit):
            for part in outlet(entries):
                keeper.save(part[-1].position)
                told += len(part)
                feed.check(part[-1].position, keeper)  # before more of what was read goes out
    return told


# --- to a webhook ----------------------------------------------------------------------------


def to_webhook(webhook: Webhook) -> Outlet:
    """Posts entries in batches, one after the other: the next when the one before was answered 2xx."""

    def post(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        for batch in batches(entries):
            yield from _post(webhook, batch)

    return post


def _post(webhook: Webhook, batch: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Post one batch; where the receiver says that it is too large, its halves."""
    try:
        content = body(batch)
        webhook.post(content, {"Idempotency-Key": _name(batch, content)})
    except WebhookTooLarge as error:
        if len(batch) == 1:
            change_id = batch[0].position.change_id
            raise WebhookTooLarge(
                f"{error} Change {change_id} alone has {len(batch[0].json)} bytes."
            ) from None
        half = len(batch) // 2
        yield from _post(webhook, batch[:half])
        yield from _post(webhook, batch[half:])
    else:
        yield batch


def batches(
    entries: Sequence[Entry], most: int = BATCH, most_bytes: int = BATCH_BYTES
) -> Iterator[Sequence[Entry]]:
    """Entries in order, so many and so many bytes at a time; one that has more bytes by itself."""
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


def _name(batch: Sequence[Entry], content: bytes) -> str:
    """The same for the same changes only: a restored copy gives the same change_ids to others."""
    digest = sha256(content).hexdigest()[:16]
    return f"{batch[0].position.change_id}-{batch[-1].position.change_id}-{digest}"
