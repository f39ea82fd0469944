"""The change feed: one entry per change, in the order of commits, and a reader that remembers misses none."""

from __future__ import annotations

import threading
from itertools import islice

import pytest
import sqlalchemy as sa

from sync import diff
from sync.db import changes
from sync.db.changes import FeedEntry
from sync.db.dialects import utc_now
from sync.db.engine import in_transaction, reading
from sync.db.schema import product_changes
from sync.mapping import LIST_KEYS
from sync.sandbox import Sandbox
from tests.kit import Bench, Stopped, stop_at
from tests.wire import in_threads


@pytest.fixture
def loaded(bench: Bench) -> Bench:
    bench.backfill()
    return bench


def news(bench: Bench) -> list[tuple[int, str]]:
    """(id, kind) of what came after the load."""
    return [(change.product_id, change.kind) for change in bench.changes()[60:]]


def test_every_change_has_one_entry(loaded: Bench) -> None:
    first, second, third, *_ = loaded.sandbox.catalogue.ids()
    loaded.sandbox.catalogue.edit(first, name="Renamed")
    loaded.sandbox.catalogue.delete(second)
    loaded.sandbox.catalogue.restamp(third)
    added = loaded.sandbox.catalogue.add(name="New")
    loaded.run()
    loaded.sandbox.catalogue.restore(second)
    loaded.run()

    assert news(loaded) == [(first, "update"), (added, "insert"), (second, "delete"), (second, "restore")]


def test_an_update_tells_changed_paths_with_old_and_new_values(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[5]
    loaded.sandbox.catalogue.edit(number, name="Blue jug", fabric="wool")
    before = loaded.live()[number]
    loaded.run()

    fields = loaded.changes()[-1].fields

    assert fields["name"] == {"old": before["name"], "new": "Blue jug"}
    assert fields["custom_attributes[fabric]"] == {"new": "wool"}
    assert set(fields) == {"name", "custom_attributes[fabric]", "updated_at"}


def test_an_insert_has_no_fields(loaded: Bench) -> None:
    assert {change.fields for change in loaded.changes()} == {None}


def test_a_list_entry_that_moved_is_no_change_of_those_behind_it(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[5]
    entries: list[dict[str, object]] = [
        {"id": i, "media_type": "image", "file": f"/{i}.jpg", "types": []} for i in (1, 2, 3)
    ]
    loaded.sandbox.catalogue.edit_raw(number, {"media_gallery_entries": entries})
    loaded.run()
    loaded.sandbox.catalogue.edit_raw(number, {"media_gallery_entries": [*entries[1:], entries[0]]})
    loaded.run()

    assert set(loaded.changes()[-1].fields) - {"updated_at"} == {"media_gallery_entries[]"}


def test_a_product_that_flips_back_has_an_entry_each_time(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[5]
    for price in (10, 11, 10):
        loaded.sandbox.catalogue.edit(number, price=price)
        loaded.run()

    assert news(loaded) == [(number, "update")] * 3


def test_what_an_update_tells_leads_from_the_old_document_to_the_new(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[5]
    old = loaded.live()[number]
    loaded.sandbox.catalogue.edit(number, name="Blue jug", color="91", weight=2)
    loaded.run()

    assert diff.apply(old, loaded.changes()[-1].fields, LIST_KEYS) == loaded.live()[number]


def test_ids_grow_by_one_and_a_crash_leaves_no_gap(loaded: Bench) -> None:
    for number in loaded.sandbox.catalogue.ids():
        loaded.sandbox.catalogue.edit(number, name="Edited")
    loaded.watch = type(loaded.watch)(at_page=stop_at(2))
    with pytest.raises(Stopped):
        loaded.run()
    loaded.watch.at_page = None
    loaded.run()

    assert [change.change_id for change in loaded.changes()] == list(range(1, 121))


def test_a_product_s_story_is_told_oldest_first(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[5]
    loaded.sandbox.catalogue.edit(number, name="Renamed")
    loaded.run()
    loaded.sandbox.catalogue.delete(number)
    loaded.run()

    story = reading(loaded.db, lambda connection: changes.history(connection, "all", number))

    assert [entry.kind for entry in story] == ["insert", "update", "delete"]


def test_the_feed_is_the_same_on_every_database(tenant: Sandbox, db: sa.Engine) -> None:
    bench = Bench(tenant, db, page_size=10)
    bench.backfill()
    first, second, *_ = tenant.catalogue.ids()
    tenant.catalogue.edit(first, name="Größe „M“ 😀", price=12.5)
    tenant.catalogue.delete(second)
    bench.run()
    tenant.catalogue.restore(second)
    bench.reconcile()

    assert news(bench) == [(first, "update"), (second, "delete"), (second, "restore")]
    assert bench.changes()[60].fields["name"]["new"] == "Größe „M“ 😀"
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


def test_a_reader_that_remembers_the_last_id_misses_nothing(db: sa.Engine) -> None:
    """Four writers commit transactions of different lengths; the reader polls all the while."""
    writers, transactions = 4, 12
    seen: list[int] = []
    finished = threading.Event()

    def write() -> None:
        for size in islice(iter((1, 5, 2, 9, 3) * 10), transactions):
            in_transaction(db, lambda tx, size=size: append(tx, size))  # type: ignore[misc]

    def read() -> None:
        while True:
            last_round = finished.is_set()
            entries = reading(
                db, lambda connection: changes.since(connection, seen[-1] if seen else 0, 7, 1_000)
            )
            seen.extend(entry.change_id for entry in entries)
            if last_round and not entries:
                return

    reader = threading.Thread(target=read)
    reader.start()
    in_threads(writers, write)
    finished.set()
    reader.join()

    with db.connect() as connection:
        stored = connection.execute(sa.select(sa.func.count()).select_from(product_changes)).scalar_one()
    assert seen == list(range(1, stored + 1))


def append(tx: sa.Connection, size: int) -> None:
    """Entries in two steps, with a look at the clock in between: room for others to overtake."""
    changes.append(tx, [FeedEntry("all", 1, "CUP", "insert")] * size, utc_now(tx), run_id=1)
    changes.append(tx, [FeedEntry("all", 2, "JUG", "insert")], utc_now(tx), run_id=1)
