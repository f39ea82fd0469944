"""A backfill loads everything the tenant had at its start, and says so only when that is true."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from sync.db.schema import product_attributes, products, sync_partitions, sync_runs, sync_watermarks
from sync.errors import AnswerUnreadable, CommerceUnavailable
from sync.model import Interval
from sync.passes.run import Summary
from sync.sandbox import Sandbox
from tests.kit import Bench, Stopped, stop_at

Pass = Callable[[Bench], Summary]


def test_every_product_is_copied_as_sent(bench: Bench) -> None:
    summary = bench.backfill()

    assert (summary.tally.inserted, summary.tally.fetched, summary.exit_code) == (60, 60, 0)
    bench.assert_copy_is_exact()
    assert len(bench.rows(product_attributes)) > 60


def test_beside_its_pages_a_load_asks_twice_how_far_the_catalogue_reaches(bench: Bench) -> None:
    """Both answers also count the products, so nothing else is asked to know that none is missing."""
    bench.page_size = 300
    bench.concurrency = 1

    bench.backfill()

    asked = [request.kind for request in bench.sandbox.requests if request.kind != "token"]
    assert asked == ["count", "page", "count"]


def test_the_feed_has_one_insert_for_each_product(bench: Bench) -> None:
    bench.backfill()

    assert [change.kind for change in bench.changes()] == ["insert"] * 60
    bench.assert_feed_tells_who_lives()


def test_each_store_view_has_its_own_copy(tenant: Sandbox, sqlite: sa.Engine) -> None:
    bench = Bench(tenant, sqlite, store_views=("default", "de"), page_size=10)
    tenant.catalogue.edit(tenant.catalogue.ids()[0], store_view="de", name="Brotkasten")

    bench.backfill()

    bench.assert_copy_is_exact()
    assert {row.store_view for row in bench.rows(sync_watermarks)} == {"default", "de"}


def test_what_changes_meanwhile_is_the_next_pass_s_work(bench: Bench) -> None:
    """Behind the cursor one product is edited, one is deleted; ahead of it one is added."""
    first, second, *_ = bench.sandbox.catalogue.ids()

    def interfere(page: int) -> None:
        if page == 3:
            bench.sandbox.catalogue.edit(first, name="Renamed meanwhile")
            bench.sandbox.catalogue.delete(second)
            bench.sandbox.catalogue.add(name="Born meanwhile")

    bench.watch.at_page = interfere
    bench.concurrency = 1
    bench.backfill()
    bench.watch.at_page = None
    bench.run()

    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


def test_a_stopped_backfill_goes_on_behind_its_last_committed_page(bench: Bench) -> None:
    bench.concurrency = 1
    bench.max_retry_time = 0.5
    bench.sandbox.faults.fail(after=bench.sandbox.catalogue.ids()[29])
    with pytest.raises(CommerceUnavailable):
        bench.backfill()
    assert len(bench.live()) == 30

    bench.sandbox.faults.clear()
    summary = bench.backfill()

    assert bench.watch.resumed
    assert (summary.tally.inserted, summary.tally.unchanged) == (30, 0)
    bench.assert_copy_is_exact()


def test_a_resumed_backfill_keeps_the_watermark_of_its_first_answer(bench: Bench) -> None:
    """A product that was read before the stop is edited during it: the next run must see that."""
    bench.concurrency = 1
    bench.overlap *= 0
    bench.watch.at_page = stop_at(2)
    with pytest.raises(Stopped):
        bench.backfill()
    bench.sandbox.catalogue.edit(bench.sandbox.catalogue.ids()[0], name="Edited in the pause")

    bench.watch.at_page = None
    bench.backfill()
    bench.run()

    bench.assert_copy_is_exact()


def test_restart_begins_again(bench: Bench) -> None:
    bench.concurrency = 1
    bench.watch.at_page = stop_at(3)
    with pytest.raises(Stopped):
        bench.backfill()

    bench.watch.at_page = None
    summary = bench.backfill(restart=True)

    assert (summary.tally.fetched, bench.watch.resumed) == (60, False)


def test_an_id_range_is_loaded_alone_and_proves_nothing_about_the_rest(bench: Bench) -> None:
    ids = bench.sandbox.catalogue.ids()

    summary = bench.backfill(interval=Interval(ids[9], ids[19]))

    assert list(bench.live()) == ids[10:20]
    assert summary.tally.fetched == 10
    assert bench.rows(sync_watermarks) == []


def test_an_id_range_leaves_an_unfinished_load_to_be_continued(bench: Bench) -> None:
    bench.concurrency = 1
    bench.watch.at_page = stop_at(3)
    with pytest.raises(Stopped):
        bench.backfill()
    bench.watch.at_page = None

    bench.backfill(interval=Interval(0, bench.sandbox.catalogue.ids()[4]))
    summary = bench.backfill()

    assert summary.tally.fetched == 30
    bench.assert_copy_is_exact()


def test_loading_again_writes_nothing(bench: Bench) -> None:
    bench.backfill()
    before = bench.rows(products)

    summary = bench.backfill()

    assert (summary.tally.unchanged, summary.tally.inserted, summary.tally.updated) == (60, 0, 0)
    assert bench.rows(products) == before
    assert len(bench.changes()) == 60


def test_nothing_is_left_behind_of_the_ranges_of_a_finished_load(bench: Bench) -> None:
    bench.backfill()

    assert bench.rows(sync_partitions) == []
    assert [run.status for run in bench.rows(sync_runs)] == ["succeeded"]


def test_a_tenant_that_lists_nothing_proves_nothing(bench: Bench) -> None:
    """An outage or a blind credential: the next run loads everything."""
    bench.sandbox.faults.empty(kind=None)
    bench.backfill()
    assert bench.rows(sync_watermarks) == []

    bench.sandbox.faults.clear()
    bench.run()

    bench.assert_copy_is_exact()


def test_a_store_view_that_lists_nothing_is_loaded_by_the_next_run(
    tenant: Sandbox, sqlite: sa.Engine
) -> None:
    """Two pages bring the first of two store views; then the second one shows and counts nothing."""
    bench = Bench(tenant, sqlite, store_views=("default", "de"), page_size=100, concurrency=1)
    tenant.faults.empty(page=3)
    bench.watch.at_expectation = lambda: tenant.faults.empty(kind="count", times=2)
    assert bench.backfill().status == "partial"
    assert bench.rows(sync_watermarks) == []

    tenant.faults.clear()
    bench.watch.at_expectation = None
    bench.run()

    bench.assert_copy_is_exact()


@pytest.mark.parametrize("sweep", [Bench.backfill, Bench.reconcile])
def test_an_outage_that_looks_like_an_end_is_none(tenant: Sandbox, sqlite: sa.Engine, sweep: Pass) -> None:
    """Behind id 100 every answer is empty, pages and counts alike; only the whole is counted as it is."""
    bench = Bench(tenant, sqlite, page_size=20, concurrency=4)
    for kind in ("page", "count"):
        tenant.faults.empty(kind=kind, after=100)

    with pytest.raises(AnswerUnreadable, match="does not list"):
        sweep(bench)
    assert bench.rows(sync_watermarks) == []

    tenant.faults.clear()
    bench.run()
    bench.assert_copy_is_exact()


def test_a_first_answer_that_is_too_small_does_not_end_the_catalogue(bench: Bench) -> None:
    """A replica that lags knows the first 20 products; it is asked how far the catalogue reaches."""
    everything = bench.sandbox.catalogue.ids()
    bench.sandbox.catalogue.keep_only(everything[:20])
    bench.concurrency = 1

    def recover() -> None:
        for number in everything[20:]:
            bench.sandbox.catalogue.restore(number)

    bench.watch.at_expectation = recover
    bench.backfill()

    assert list(bench.live()) == everything


def test_a_catalogue_that_grows_all_the_time_keeps_no_pass_reading(bench: Bench) -> None:
    """Each page that is written finds two more products at the end."""

    def grow(_page: int) -> None:
        for _ in range(2):
            bench.sandbox.catalogue.add(name="One more")

    bench.watch.at_page = grow
    passes = [bench.backfill(), bench.run(), bench.reconcile()]

    assert [summary.exit_code for summary in passes] == [0, 0, 0]
    assert len(bench.watch.pages) < 100
    bench.watch.at_page = None
    bench.run()
    bench.assert_copy_is_exact()


@pytest.mark.slow
def test_one_page_that_is_falsely_empty_hides_nothing(bench: Bench) -> None:
    """Each page of a load in turn; a range that begins with one is no exception."""
    for page in range(1, 8):
        bench.sandbox.faults.clear()
        bench.sandbox.faults.empty(page=page)
        bench.backfill(restart=True)
        bench.assert_copy_is_exact()
        bench.execute("DELETE FROM products")
