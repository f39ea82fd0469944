"""Old entries of the feed are deleted, and no reader misses one without being told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
import sqlalchemy as sa

from sync.db import changes
from sync.db.changes import FeedEntry
from sync.db.engine import in_transaction, reading
from sync.db.feed_position import delete_older
from sync.db.schema import product_changes
from sync.feed.follow import Feed
from sync.feed.positions import EntriesDeleted, NoPosition, Position, WebhookPosition, describe

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def append(db: sa.Engine, *ages_in_days: int) -> None:
    """Entries of these ages, in this order."""
    entry = FeedEntry("all", 1, "A", "update", "{}")
    with db.begin() as tx:
        for age in ages_in_days:
            changes.append(tx, [entry], NOW - timedelta(age), 1)


def delete(db: sa.Engine, *, days: int = 10, limit: int = 100) -> int:
    return in_transaction(db, lambda tx: delete_older(tx, NOW - timedelta(days), limit))


def kept(db: sa.Engine) -> list[int]:
    ids = sa.select(product_changes.c.change_id).order_by(product_changes.c.change_id)
    return reading(db, lambda connection: [*connection.scalars(ids)])


def position(db: sa.Engine, change_id: int) -> Position:
    entry = sa.select(product_changes).where(product_changes.c.change_id == change_id)
    return Position(change_id, describe(reading(db, lambda connection: connection.execute(entry).one())))


def read(db: sa.Engine, start: Position) -> list[int]:
    chunks = Feed(db, Event(), follow=False).after(start, NoPosition())
    return [entry.position.change_id for chunk in chunks for entry in chunk]


@pytest.mark.parametrize(
    ("ages", "left"),
    [
        ((40, 30, 20, 5, 1), [4, 5]),
        ((40, 5, 30, 1), [2, 3, 4]),  # the clock was set back: no gap in what is kept
        ((40, 30, 20), [3]),  # the last entry stays
        ((5, 1), [1, 2]),
        ((), []),
    ],
)
def test_entries_older_than_the_limit_go_from_the_beginning(
    db: sa.Engine, ages: tuple[int, ...], left: list[int]
) -> None:
    append(db, *ages)

    delete(db)

    assert kept(db) == left


def test_they_go_in_small_steps(sqlite: sa.Engine) -> None:
    append(sqlite, 40, 40, 40, 40)

    assert [delete(sqlite, limit=2) for _ in range(3)] == [2, 1, 0]


def test_a_webhook_keeps_what_it_has_not_acknowledged(db: sa.Engine) -> None:
    append(db, 40, 40, 40, 40)
    hook = WebhookPosition(db, "https://search.example/in", Event())
    hook.load()
    hook.save(position(db, 2))

    delete(db)

    assert kept(db) == [2, 3, 4]
    assert read(db, position(db, 2)) == [3, 4]


def test_a_reader_is_refused_once_its_next_entry_is_gone(sqlite: sa.Engine) -> None:
    append(sqlite, 40, 40, 40, 5, 5)
    before_the_gap, at_the_edge = position(sqlite, 2), position(sqlite, 3)

    delete(sqlite)

    for start in (before_the_gap, Position(0), Position(2)):
        with pytest.raises(EntriesDeleted, match="oldest entry kept is change 4") as caught:
            read(sqlite, start)
        assert "--since 3" in caught.value.fix
    assert read(sqlite, at_the_edge) == read(sqlite, Position(3)) == [4, 5]
