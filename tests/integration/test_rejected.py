"""One bad product costs one product: it is kept note of, tried again by each pass, and resolved."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sync.db.schema import rejected_items, sync_runs
from sync.passes.run import Summary
from sync.sandbox import Sandbox
from tests.kit import Bench, Stopped, stop_at


@pytest.fixture
def broken(bench: Bench) -> int:
    """The id of a product in the middle that the tenant cannot send."""
    number: int = bench.sandbox.catalogue.ids()[34]
    bench.sandbox.faults.poison(number)
    return number


def test_all_others_are_copied_and_the_broken_one_is_noted(bench: Bench, broken: int) -> None:
    summary = bench.backfill()

    assert set(bench.live()) == set(bench.sandbox.catalogue.ids()) - {broken}
    (row,) = bench.open_rejections()
    assert (row.product_id, row.last_id, row.kind, row.attempts) == (broken, broken, "unreadable", 1)
    assert row.first_id <= broken
    assert "500" in row.reason
    assert (summary.tally.rejected, summary.status, summary.exit_code) == (1, "partial", 1)
    assert bench.rows(sync_runs)[-1].rejected == 1


@pytest.mark.parametrize("place", [0, 9, 10, 59])
def test_the_place_of_the_broken_product_does_not_matter(bench: Bench, place: int) -> None:
    """First and last of the catalogue, last and first of a page."""
    number = bench.sandbox.catalogue.ids()[place]
    bench.sandbox.faults.poison(number)

    bench.backfill()

    assert [row.product_id for row in bench.open_rejections()] == [number]
    assert len(bench.live()) == 59


def test_each_run_tries_again_and_does_not_add_a_row(bench: Bench, broken: int) -> None:
    bench.backfill()

    first, second = bench.run(), bench.run()

    (row,) = bench.open_rejections()
    assert (row.product_id, row.attempts) == (broken, 3)
    assert (first.tally.rejected, first.exit_code, second.exit_code) == (1, 1, 1)


def test_a_product_rejected_by_the_window_is_not_tried_twice_in_one_run(bench: Bench) -> None:
    bench.backfill()
    number: int = bench.sandbox.catalogue.ids()[34]
    bench.sandbox.catalogue.edit(number, name="Breaks")
    bench.sandbox.faults.poison(number)

    summary = bench.run()

    (row,) = bench.open_rejections()
    assert (summary.tally.rejected, row.attempts) == (1, 1)


def test_once_it_can_be_read_it_is_copied_and_resolved(bench: Bench, broken: int) -> None:
    bench.backfill()
    bench.sandbox.faults.cure(broken)

    summary = bench.run()

    assert (summary.tally.inserted, summary.exit_code) == (1, 0)
    assert bench.open_rejections() == []
    assert bench.rows(rejected_items)[0].resolved_at is not None
    bench.assert_copy_is_exact()


def test_once_it_is_deleted_it_is_resolved(bench: Bench, broken: int) -> None:
    bench.backfill()
    bench.sandbox.catalogue.delete(broken)

    summary = bench.run()

    assert (summary.exit_code, bench.open_rejections()) == (0, [])
    bench.assert_copy_is_exact()


@pytest.mark.parametrize("sweep", [Bench.run, Bench.reconcile])
def test_a_copy_of_it_made_earlier_stays(bench: Bench, sweep: object) -> None:
    """It breaks after the load, as its page is read again."""
    bench.backfill()
    number: int = bench.sandbox.catalogue.ids()[34]
    bench.sandbox.catalogue.restamp(number)
    bench.sandbox.faults.poison(number)

    summary: Summary = sweep(bench)  # type: ignore[operator]

    assert (summary.tally.deleted, summary.tally.rejected) == (0, 1)
    assert number in bench.live()


def test_a_broken_product_that_was_copied_once_and_is_deleted_is_buried(bench: Bench) -> None:
    bench.backfill()
    number: int = bench.sandbox.catalogue.ids()[34]
    bench.sandbox.catalogue.restamp(number)
    bench.sandbox.faults.poison(number)
    bench.run()
    bench.sandbox.catalogue.delete(number)

    summary = bench.run()

    assert (summary.tally.deleted, summary.exit_code, bench.open_rejections()) == (1, 0, [])
    bench.assert_copy_is_exact()


def test_deletions_are_counted_right_around_a_broken_product(bench: Bench, broken: int) -> None:
    """The tenant counts it and the copy lacks it: that must not hide a deletion."""
    bench.backfill()
    ids = bench.sandbox.catalogue.ids()
    bench.sandbox.catalogue.delete_many([ids[33], ids[35], ids[50]])

    summary = bench.run()

    assert summary.tally.deleted == 3
    assert set(bench.live()) == set(bench.sandbox.catalogue.ids()) - {broken}


def test_reconcile_tries_again_and_resolves(bench: Bench, broken: int) -> None:
    bench.backfill()
    assert (bench.reconcile().exit_code, len(bench.open_rejections())) == (1, 1)

    bench.sandbox.faults.cure(broken)

    assert (bench.reconcile().exit_code, bench.open_rejections()) == (0, [])
    bench.assert_copy_is_exact()


def test_a_continued_sweep_does_not_resolve_what_its_first_part_rejected(bench: Bench) -> None:
    bench.sandbox.faults.poison(bench.sandbox.catalogue.ids()[3])
    bench.backfill()
    bench.concurrency = 1
    bench.watch = type(bench.watch)(at_page=stop_at(5))
    with pytest.raises(Stopped):
        bench.reconcile()

    bench.watch.at_page = None
    bench.reconcile()

    assert len(bench.open_rejections()) == 1


def test_each_store_view_has_its_own_rejection(tenant: Sandbox, sqlite: sa.Engine) -> None:
    bench = Bench(tenant, sqlite, store_views=("default", "de"), page_size=10)
    number = tenant.catalogue.ids()[34]
    tenant.faults.poison(number)
    bench.backfill()
    assert {row.store_view for row in bench.open_rejections()} == {"default", "de"}

    tenant.faults.cure(number)

    assert (bench.run().exit_code, bench.open_rejections()) == (0, [])
    bench.assert_copy_is_exact()


def test_pages_over_the_server_s_memory_become_smaller_ones_and_nothing_is_rejected(bench: Bench) -> None:
    bench.sandbox.faults.memory(max_products=3)

    summary = bench.backfill()

    assert (summary.exit_code, bench.open_rejections()) == (0, [])
    bench.assert_copy_is_exact()


# --- documents we cannot store ---------------------------------------------------------------


def test_a_document_that_cannot_become_rows_is_kept_whole(bench: Bench) -> None:
    """A SKU that is no text. The rest of its page is written."""
    number: int = bench.sandbox.catalogue.ids()[34]
    bench.sandbox.catalogue.edit_raw(number, {"sku": ["no", "text"]})

    summary = bench.backfill()

    (row,) = bench.open_rejections()
    assert (row.product_id, row.kind) == (number, "unmappable")
    assert f'"id":{number}' in row.payload
    assert (summary.tally.inserted, summary.exit_code) == (59, 1)


def test_a_document_that_can_be_stored_again_is_resolved(bench: Bench) -> None:
    number: int = bench.sandbox.catalogue.ids()[34]
    bench.sandbox.catalogue.edit_raw(number, {"sku": ["no", "text"]})
    bench.backfill()
    assert bench.run().exit_code == 1
    bench.sandbox.catalogue.edit_raw(number, {"sku": "TEAPOT-7"}, touch=False)

    summary = bench.run()

    assert (summary.tally.inserted, summary.exit_code, bench.open_rejections()) == (1, 0, [])
    bench.assert_copy_is_exact()


def test_a_document_that_broke_keeps_its_last_copy(bench: Bench) -> None:
    bench.backfill()
    number: int = bench.sandbox.catalogue.ids()[34]
    before = bench.live()[number]
    bench.sandbox.catalogue.edit_raw(number, {"sku": ["no", "text"]})

    assert bench.run().exit_code == 1
    assert bench.live()[number] == before
