"""A run reads what was stamped since the watermark, and moves the watermark only when that is proven."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from sync.db.schema import sync_runs, sync_watermarks
from sync.errors import CommerceUnavailable
from sync.sandbox import Sandbox
from tests.kit import NOON, Bench, Stopped, TenantClock, stop_at

HOUR = timedelta(hours=1)


@pytest.fixture
def timed(clock: TenantClock, sqlite: sa.Engine) -> Iterator[Bench]:
    """60 products at a tenant whose clock stands at noon."""
    with Sandbox(products=60, gap=3, clock=clock) as sandbox:
        yield Bench(sandbox, sqlite, page_size=10)


def watermark(bench: Bench) -> datetime:
    (row,) = bench.rows(sync_watermarks)
    found: datetime = row.watermark
    return found


def test_inserts_updates_and_deletions_arrive_in_one_run(bench: Bench) -> None:
    bench.backfill()
    catalogue = bench.sandbox.catalogue
    first, second, *_ = catalogue.ids()
    catalogue.edit(first, name="Another name", color="92")
    catalogue.delete(second)
    added = catalogue.add(name="New here")

    summary = bench.run()

    assert (summary.tally.inserted, summary.tally.updated, summary.tally.deleted) == (1, 1, 1)
    assert summary.exit_code == 0
    assert added in bench.live()
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


def test_when_nothing_changed_three_light_requests_are_enough(bench: Bench) -> None:
    bench.overlap = timedelta(seconds=0)
    bench.backfill()
    before = len(bench.sandbox.requests)

    summary = bench.run()

    asked = [request for request in bench.sandbox.requests[before:] if request.kind != "token"]
    assert [request.kind for request in asked] == ["count"] * 3
    assert summary.exit_code == 0


def test_a_copy_that_was_never_loaded_is_loaded(bench: Bench) -> None:
    assert bench.run().kind == "backfill"
    assert bench.run().kind == "incremental"
    bench.assert_copy_is_exact()


def test_a_store_view_that_joins_later_is_loaded_while_the_others_are_brought_up_to_date(
    tenant: Sandbox, sqlite: sa.Engine
) -> None:
    Bench(tenant, sqlite, store_views=("default",)).backfill()
    tenant.catalogue.edit(tenant.catalogue.ids()[5], name="Edited since")
    bench = Bench(tenant, sqlite, store_views=("default", "de"))

    summary = bench.run()

    assert (summary.tally.inserted, summary.tally.updated) == (60, 1)
    bench.assert_copy_is_exact()


def test_the_watermark_is_the_tenant_s_clock_at_the_first_answer(timed: Bench, clock: TenantClock) -> None:
    """An hour passes while pages are read."""

    def an_hour_passes(_page: int) -> None:
        clock.now += HOUR

    timed.watch.at_page = an_hour_passes
    timed.backfill()

    assert watermark(timed) == NOON


def test_the_first_answer_of_the_first_store_view_counts_for_all(timed: Bench, clock: TenantClock) -> None:
    """An hour passes between the answers about two of them."""
    timed.store_views = ("default", "all")

    def an_hour_passes() -> None:
        clock.now += HOUR

    timed.watch.at_expectation = an_hour_passes
    timed.backfill()

    assert {row.watermark for row in timed.rows(sync_watermarks)} == {NOON}


@pytest.mark.slow
@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_page_of_a_window_that_is_falsely_empty_hides_no_change(timed: Bench, page: int) -> None:
    timed.backfill()
    for number in timed.sandbox.catalogue.ids():
        timed.sandbox.catalogue.edit(number, name="Edited")
    timed.sandbox.faults.clear()
    timed.sandbox.faults.empty(page=page)

    timed.run()

    timed.assert_copy_is_exact()


def test_what_becomes_visible_later_than_its_stamp_is_found_within_the_overlap(
    timed: Bench, clock: TenantClock
) -> None:
    """A transaction stamps a product just before the load and commits it 5 minutes after."""
    number = timed.sandbox.catalogue.ids()[7]
    stamp = clock() - 60
    timed.sandbox.catalogue.late_commit(number, stamp, visible_at=clock() + 300, name="Late")
    timed.backfill()
    clock.now += timedelta(minutes=15)

    timed.run()

    timed.assert_copy_is_exact()


def test_a_run_that_fails_leaves_the_watermark_where_it_was(timed: Bench, clock: TenantClock) -> None:
    timed.backfill()
    clock.now += HOUR
    timed.sandbox.catalogue.edit(timed.sandbox.catalogue.ids()[7], name="Not seen yet")
    timed.max_retry_time = 0.5
    timed.sandbox.faults.fail()

    with pytest.raises(CommerceUnavailable):
        timed.run()
    assert watermark(timed) == NOON

    timed.sandbox.faults.clear()
    timed.run()
    assert watermark(timed) == NOON + HOUR
    timed.assert_copy_is_exact()


@pytest.mark.slow
def test_an_interrupted_window_goes_on_where_it_ended(timed: Bench, clock: TenantClock) -> None:
    timed.backfill()
    clock.now += HOUR
    for number in timed.sandbox.catalogue.ids():
        timed.sandbox.catalogue.edit(number, name=f"Edited {number}")
    timed.concurrency = 1
    timed.watch = type(timed.watch)(at_page=stop_at(4))
    with pytest.raises(Stopped):
        timed.run()

    timed.watch.at_page = None
    summary = timed.run()

    assert (summary.tally.updated, timed.watch.resumed) == (20, True)
    timed.assert_copy_is_exact()


@pytest.mark.slow
@pytest.mark.parametrize("answers", [1, 2, 3])
def test_an_emptiness_that_passes_does_not_move_the_watermark_over_a_change(
    timed: Bench, clock: TenantClock, answers: int
) -> None:
    """The first answers of a run are empty, then the tenant is well again."""
    timed.backfill()
    clock.now += HOUR
    timed.sandbox.catalogue.edit(timed.sandbox.catalogue.ids()[7], name="Easily missed")
    clock.now += HOUR
    timed.sandbox.faults.empty(kind="count", times=answers)

    for _ in range(3):
        timed.run()
        clock.now += HOUR

    timed.assert_copy_is_exact()


def test_an_outage_that_looks_empty_does_not_move_the_watermark(timed: Bench, clock: TenantClock) -> None:
    timed.backfill()
    clock.now += HOUR
    timed.sandbox.faults.empty(kind=None)

    summary = timed.run()

    assert (summary.exit_code, summary.tally.deleted, watermark(timed)) == (1, 0, NOON)


def test_a_tenant_whose_clock_was_set_back_hides_no_change(timed: Bench, clock: TenantClock) -> None:
    """An hour back after the load: what is edited then is stamped long before the watermark."""
    timed.backfill()
    clock.now -= HOUR
    timed.sandbox.catalogue.edit(timed.sandbox.catalogue.ids()[7], name="Stamped in the past")

    timed.run()

    timed.assert_copy_is_exact()


def test_a_window_widened_for_a_clock_stays_wide_when_it_is_resumed(timed: Bench, clock: TenantClock) -> None:
    timed.backfill()
    clock.now -= HOUR
    for number in timed.sandbox.catalogue.ids():
        timed.sandbox.catalogue.edit(number, name=f"Stamped in the past {number}")
    timed.concurrency = 1
    timed.watch = type(timed.watch)(at_page=stop_at(2))
    with pytest.raises(Stopped):
        timed.run()

    timed.watch.at_page = None
    timed.run()

    timed.assert_copy_is_exact()


def test_a_tenant_whose_clock_ran_ahead_for_a_while_hides_no_change(timed: Bench, clock: TenantClock) -> None:
    """An hour ahead during one run, then right again."""
    timed.backfill()
    clock.now += HOUR
    timed.run()
    clock.now -= HOUR
    timed.sandbox.catalogue.edit(timed.sandbox.catalogue.ids()[7], name="Stamped before the watermark")

    timed.run()
    assert watermark(timed) == NOON

    timed.assert_copy_is_exact()


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_database_whose_clock_jumps_hides_no_change(
    timed: Bench, clock: TenantClock, jump: timedelta
) -> None:
    timed.backfill()
    seconds = jump.total_seconds()
    timed.execute(f"UPDATE sync_runs SET heard_at = datetime(heard_at, '{-seconds:+.0f} seconds')")
    timed.sandbox.catalogue.edit(timed.sandbox.catalogue.ids()[7], name="Edited all the same")

    timed.run()

    timed.assert_copy_is_exact()


def test_an_import_that_stamps_everything_anew_is_no_change(bench: Bench) -> None:
    bench.backfill()
    for number in bench.sandbox.catalogue.ids():
        bench.sandbox.catalogue.restamp(number)

    summary = bench.run()

    assert (summary.tally.unchanged, summary.tally.updated) == (60, 0)
    assert len(bench.changes()) == 60
    bench.assert_copy_is_exact()


def test_a_run_notes_what_it_did(bench: Bench) -> None:
    bench.backfill()
    bench.sandbox.catalogue.edit(bench.sandbox.catalogue.ids()[0], name="Edited")

    summary = bench.run()

    row = bench.rows(sync_runs)[-1]
    assert (row.kind, row.status, row.updated, row.error) == ("incremental", "succeeded", 1, None)
    assert summary.as_json()["run_id"] == row.run_id
