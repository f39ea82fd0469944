"""After a reconcile the copy equals the catalogue; verify says how it does not, and touches nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
import sqlalchemy as sa

from sync.db.schema import product_attributes, products, sync_findings, sync_partitions, sync_runs
from sync.errors import AnswerUnreadable, CommerceUnavailable
from sync.sandbox import Sandbox
from tests.kit import Bench, Stopped, stop_at


@pytest.fixture
def loaded(bench: Bench) -> Bench:
    bench.backfill()
    return bench


def drift_of(bench: Bench) -> dict[str, list[int]]:
    """What verify found: ids by kind."""
    return {drift.kind: [number for number, _ in drift.examples] for drift in bench.verify()}


def everything_in(bench: Bench) -> list[object]:
    return [*bench.rows(products), *bench.rows(product_attributes), *bench.changes()]


# --- reconcile -------------------------------------------------------------------------------


def test_changes_that_move_no_stamp_are_found(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[7]
    loaded.sandbox.catalogue.edit(number, touch=False, price=12.5)
    assert loaded.run().tally.updated == 0

    summary = loaded.reconcile()

    assert (summary.tally.updated, summary.tally.unchanged) == (1, 59)
    loaded.assert_copy_is_exact()


def test_inserts_deletions_and_silent_changes_in_every_store_view(tenant: Sandbox, sqlite: sa.Engine) -> None:
    bench = Bench(tenant, sqlite, store_views=("default", "de"), page_size=10)
    bench.backfill()
    first, second, third, *_ = tenant.catalogue.ids()
    tenant.catalogue.delete(first)
    tenant.catalogue.edit(second, store_view="de", touch=False, name="Still")
    tenant.catalogue.edit(third, touch=False, name="Quiet")
    tenant.catalogue.add(name="New")

    summary = bench.reconcile()

    assert (summary.tally.inserted, summary.tally.updated, summary.tally.deleted) == (2, 3, 2)
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


def test_a_reconcile_of_an_exact_copy_writes_nothing(loaded: Bench) -> None:
    before = everything_in(loaded)

    summary = loaded.reconcile()

    assert (summary.tally.unchanged, summary.exit_code) == (60, 0)
    assert everything_in(loaded) == before


def test_reconcile_counts_as_a_run(loaded: Bench) -> None:
    """It has read everything: the next window begins where it began."""
    loaded.overlap *= 0
    loaded.sandbox.catalogue.edit(loaded.sandbox.catalogue.ids()[7], name="Read by the sweep")
    loaded.reconcile()

    assert loaded.run().tally.fetched <= 1


def test_what_goes_while_the_sweep_reads_is_believed_only_when_it_is_asked_for(loaded: Bench) -> None:
    """A product is hidden while its page is read, and shows again before the proof."""
    loaded.concurrency = 1
    number = loaded.sandbox.catalogue.ids()[25]

    def blink(page: int) -> None:
        catalogue = loaded.sandbox.catalogue
        (catalogue.hide if page == 1 else catalogue.show)(number)

    loaded.watch = type(loaded.watch)(at_page=blink)
    loaded.reconcile()

    assert number in loaded.live()


def test_a_crashed_sweep_can_go_on_with_what_it_has_found(loaded: Bench) -> None:
    """As the daemon does: a deletion on the first page is buried by the run that continues after it."""
    first, *_ = loaded.sandbox.catalogue.ids()
    loaded.sandbox.catalogue.delete(first)
    loaded.concurrency = 1
    loaded.watch = type(loaded.watch)(at_page=stop_at(3))
    with pytest.raises(Stopped):
        loaded.reconcile()
    assert first in loaded.live()

    loaded.watch.at_page = None
    summary = loaded.reconcile(resume=True)

    assert (loaded.watch.resumed, summary.tally.deleted) == (True, 1)
    assert summary.tally.fetched < 40
    loaded.assert_copy_is_exact()
    assert loaded.rows(sync_findings) == loaded.rows(sync_partitions) == []


def test_a_sweep_of_yesterday_is_not_continued(loaded: Bench) -> None:
    loaded.concurrency = 1
    loaded.watch = type(loaded.watch)(at_page=stop_at(3))
    with pytest.raises(Stopped):
        loaded.reconcile()
    loaded.execute("UPDATE sync_runs SET started_at = datetime(started_at, '-1 day')")
    loaded.sandbox.catalogue.edit(loaded.sandbox.catalogue.ids()[0], touch=False, name="Since yesterday")

    loaded.watch.at_page = None
    loaded.reconcile(resume=True)

    assert not loaded.watch.resumed
    loaded.assert_copy_is_exact()


def test_more_deletions_than_allowed_are_held_back_until_they_are_allowed(loaded: Bench) -> None:
    loaded.sandbox.catalogue.delete_many(loaded.sandbox.catalogue.ids()[:13])

    held = loaded.reconcile()
    assert (held.tally.deleted, held.exit_code) == (0, 1)
    assert "13 of 60" in str(held.held_back)

    assert loaded.reconcile(allow_mass_delete=True).tally.deleted == 13
    loaded.assert_copy_is_exact()


def test_an_emptied_tenant_is_held_back_and_can_be_believed(loaded: Bench) -> None:
    loaded.sandbox.catalogue.keep_only([])
    assert (loaded.reconcile().exit_code, len(loaded.live())) == (1, 60)

    loaded.reconcile(allow_mass_delete=True)

    assert loaded.live() == {}


# --- outages ---------------------------------------------------------------------------------


def test_an_outage_that_looks_empty_deletes_nothing(loaded: Bench) -> None:
    loaded.sandbox.faults.empty(kind=None)

    assert loaded.reconcile().exit_code == 1
    assert len(loaded.live()) == 60


@pytest.mark.parametrize("page", [1, 2, 3])
def test_an_outage_that_looks_empty_in_the_middle_of_a_sweep_deletes_nothing(
    loaded: Bench, page: int
) -> None:
    """From the given page on, nothing is listed any more, for good."""
    loaded.concurrency = 1

    def go_down(written: int) -> None:
        if written == page:
            loaded.sandbox.faults.empty(kind=None)

    loaded.watch = type(loaded.watch)(at_page=go_down)
    with suppress(AnswerUnreadable):
        assert loaded.reconcile().held_back

    assert len(loaded.live()) == 60


@pytest.mark.parametrize("page", [1, 2, 6])
def test_a_page_that_is_empty_once_deletes_nothing(loaded: Bench, page: int) -> None:
    loaded.sandbox.faults.empty(page=page)

    assert (loaded.reconcile().exit_code, len(loaded.live())) == (0, 60)


def test_a_sweep_that_cannot_read_a_range_says_which_and_buries_nothing(bench: Bench) -> None:
    """The first products are deleted, and read as such; then the tenant is gone."""
    loaded = replace(bench, concurrency=1)
    loaded.backfill()
    ids = loaded.sandbox.catalogue.ids()
    loaded.sandbox.catalogue.delete_many(ids[:5])
    loaded.sandbox.faults.fail(after=ids[34], kind=None)
    loaded.max_retry_time = 0.5

    with pytest.raises(CommerceUnavailable, match=rf"Not read: all \({ids[34]}, {ids[-1]}\]\."):
        loaded.reconcile()
    assert len(loaded.live()) == 60
    assert f"({ids[34]}, {ids[-1]}]" in loaded.rows(sync_runs)[-1].error

    loaded.sandbox.faults.clear()
    loaded.reconcile()
    loaded.assert_copy_is_exact()


def test_deletions_next_to_a_product_that_cannot_be_read_are_found(loaded: Bench) -> None:
    ids = loaded.sandbox.catalogue.ids()
    loaded.sandbox.catalogue.delete_many(ids[20:22])
    loaded.sandbox.faults.poison(ids[22])

    summary = loaded.reconcile()

    assert (summary.tally.deleted, summary.tally.rejected) == (2, 1)
    assert list(loaded.live()) == loaded.sandbox.catalogue.ids()


def test_verify_names_deletions_next_to_a_product_that_cannot_be_read(loaded: Bench) -> None:
    ids = loaded.sandbox.catalogue.ids()
    loaded.sandbox.catalogue.delete_many(ids[20:22])
    loaded.sandbox.faults.poison(ids[22])

    assert drift_of(loaded) == {"extra": ids[20:22]}
    assert loaded.open_rejections() == []


# --- verify ----------------------------------------------------------------------------------


def test_verify_finds_nothing_in_an_exact_copy(loaded: Bench) -> None:
    assert loaded.verify() == []


def test_verify_names_every_kind_of_drift_and_writes_nothing(loaded: Bench) -> None:
    first, second, third, fourth, *_ = loaded.sandbox.catalogue.ids()
    loaded.execute(f"DELETE FROM products WHERE product_id = {first}")
    loaded.sandbox.catalogue.delete(second)
    loaded.sandbox.catalogue.edit(third, touch=False, price=1)
    loaded.execute(f"UPDATE products SET name = 'By hand' WHERE product_id = {fourth}")
    before = everything_in(loaded)

    found = loaded.verify()

    assert {(drift.kind, drift.count) for drift in found} == {("missing", 1), ("extra", 1), ("different", 2)}
    assert drift_of(loaded) == {"missing": [first], "extra": [second], "different": [third, fourth]}
    assert everything_in(loaded) == before
    assert loaded.rows(sync_findings) == []


def test_verify_says_what_differs(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[7]
    loaded.sandbox.catalogue.edit(number, touch=False, price=1)

    (drift,) = loaded.verify()

    assert drift.examples == [(number, "price")]


HAND_MADE = [
    "UPDATE products SET price = 1 WHERE product_id = {}",
    "UPDATE products SET document = '{{}}' WHERE product_id = {}",
    "UPDATE products SET document = 'no JSON' WHERE product_id = {}",
    "UPDATE products SET content_hash = 'x' WHERE product_id = {}",
    "UPDATE products SET deleted_at = '2026-01-01 00:00:00.000000' WHERE product_id = {}",
    "DELETE FROM products WHERE product_id = {}",
    "DELETE FROM product_attributes WHERE product_id = {}",
    "UPDATE product_attributes SET value = 'x' WHERE product_id = {}",
    "INSERT INTO product_attributes VALUES ('all', {}, 'made_up', 'x')",
    "UPDATE product_websites SET website_id = 99 WHERE product_id = {}",
]


@pytest.mark.slow
def test_what_was_edited_by_hand_is_found_and_mended(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[7]
    before = loaded.rows(product_attributes)
    for by_hand in HAND_MADE:
        loaded.execute(by_hand.format(number))
        assert [number] in drift_of(loaded).values(), by_hand

        loaded.reconcile()

        assert loaded.verify() == [], by_hand
        loaded.assert_copy_is_exact()
        assert loaded.rows(product_attributes) == before, by_hand


def test_a_row_added_by_hand_is_buried(loaded: Bench) -> None:
    """A copy of a product under an id that the tenant never had."""
    columns = ", ".join(column.name for column in products.columns if column.name != "product_id")
    loaded.execute(
        f"INSERT INTO products (product_id, {columns}) SELECT 9999, {columns} FROM products LIMIT 1"
    )
    assert drift_of(loaded) == {"extra": [9999]}

    loaded.reconcile()

    assert loaded.verify() == []
    loaded.assert_copy_is_exact()


def test_a_crashed_verify_begins_again(loaded: Bench) -> None:
    """What it had read and found is of another time: one product is mended since, another one differs."""
    first, second, *_ = loaded.sandbox.catalogue.ids()
    loaded.sandbox.catalogue.edit(first, touch=False, price=1)
    loaded.concurrency = 1
    loaded.watch = type(loaded.watch)(at_page=stop_at(3))
    with pytest.raises(Stopped):
        loaded.verify()
    loaded.watch.at_page = None
    loaded.run_named(ids=[first])
    loaded.sandbox.catalogue.edit(second, touch=False, price=1)

    assert drift_of(loaded) == {"different": [second]}
    assert loaded.rows(sync_findings) == loaded.rows(sync_partitions) == []
