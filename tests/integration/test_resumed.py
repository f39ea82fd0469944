"""A command that continues an interrupted one holds to its own start, and reads no more than that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sync.db.schema import sync_partitions, sync_runs, sync_watermarks
from sync.model import Interval
from sync.passes.run import Summary
from sync.sandbox import Sandbox
from tests.kit import Bench, Stopped, TenantClock, stop_at

HOUR = timedelta(hours=1)

Pass = Callable[[Bench], Summary]


@pytest.fixture
def shop(clock: TenantClock, sqlite: sa.Engine) -> Iterator[Bench]:
    """60 products in 6 pages, read one after the other, at a tenant whose clock stands at noon."""
    with Sandbox(products=60, gap=3, clock=clock) as sandbox:
        yield Bench(sandbox, sqlite, page_size=10, concurrency=1)


def crash(bench: Bench, sweep: Callable[[Bench], Any], page: int = 3) -> None:
    """Begin a pass and kill it when so many pages are written."""
    bench.watch = type(bench.watch)(at_page=stop_at(page))
    with pytest.raises(Stopped):
        sweep(bench)
    bench.watch = type(bench.watch)()


def edit_everything(bench: Bench) -> None:
    for number in bench.sandbox.catalogue.ids():
        bench.sandbox.catalogue.edit(number, name=f"Edited {number}")


def crash_a_run(bench: Bench, clock: TenantClock) -> None:
    """A loaded copy, everything edited, and a run killed at its third page."""
    bench.backfill()
    clock.now += HOUR
    edit_everything(bench)
    clock.now += HOUR
    crash(bench, Bench.run)
    clock.now += HOUR


def asked(bench: Bench, sweep: Pass) -> list[str]:
    """The kinds of request that a pass makes; it must end with 0."""
    before = len(bench.sandbox.requests)
    assert sweep(bench).exit_code == 0
    return [request.kind for request in bench.sandbox.requests[before:] if request.kind != "token"]


def watermark(bench: Bench) -> datetime:
    (row,) = bench.rows(sync_watermarks)
    found: datetime = row.watermark
    return found


# --- run -------------------------------------------------------------------------------------


def test_a_resumed_run_has_what_changed_in_the_part_that_was_read(shop: Bench, clock: TenantClock) -> None:
    """In the pause the first product is edited, the second one deleted, and one is added."""
    crash_a_run(shop, clock)
    first, second, *_ = shop.sandbox.catalogue.ids()
    shop.sandbox.catalogue.edit(first, name="Edited in the pause")
    shop.sandbox.catalogue.delete(second)
    shop.sandbox.catalogue.add(name="Born in the pause")

    summary = shop.run()

    assert (summary.exit_code, shop.watch.resumed) == (0, True)
    assert (summary.tally.inserted, summary.tally.updated, summary.tally.deleted) == (1, 31, 1)
    shop.assert_copy_is_exact()
    shop.assert_feed_tells_who_lives()
    assert shop.verify() == []
    assert watermark(shop) == clock.now


def test_a_resumed_run_reads_the_rest_and_then_no_more_than_an_idle_run_does(
    shop: Bench, clock: TenantClock
) -> None:
    crash_a_run(shop, clock)

    assert asked(shop, Bench.run) == ["page"] * 3 + ["count"] * 3
    assert shop.rows(sync_partitions) == []


def test_a_run_killed_again_and_again_goes_on_where_it_was(shop: Bench, clock: TenantClock) -> None:
    """Each run lives for two pages; meanwhile the product that was read first is edited each time."""
    crash_a_run(shop, clock)
    first, *_ = shop.sandbox.catalogue.ids()
    pages = len(asked_pages(shop))
    for life in range(2):
        shop.sandbox.catalogue.edit(first, name=f"Edited in pause {life}")
        crash(shop, Bench.run, page=2)
        clock.now += HOUR

    shop.run()

    shop.assert_copy_is_exact()
    assert len(asked_pages(shop)) - pages <= 3 + 2 + 2  # the rest, the edits, what was in flight


def asked_pages(bench: Bench) -> list[Any]:
    return [request for request in bench.sandbox.requests if request.kind == "page"]


def test_a_resumed_run_asks_again_for_what_the_killed_one_could_not_copy(
    shop: Bench, clock: TenantClock
) -> None:
    """A product that fails on the first page still fails: exit 1. Once it can be read, it is here."""
    shop.backfill()
    clock.now += HOUR
    edit_everything(shop)
    broken, *_ = shop.sandbox.catalogue.ids()
    shop.sandbox.faults.poison(broken)
    crash(shop, Bench.run, page=4)
    clock.now += HOUR

    assert shop.run().exit_code == 1
    shop.sandbox.faults.cure(broken)
    assert shop.run().exit_code == 0
    shop.assert_copy_is_exact()


def test_what_looked_empty_to_the_killed_run_is_not_taken_as_read(
    clock: TenantClock, sqlite: sa.Engine
) -> None:
    """Of two store views, loaded one by one, the first seemed to have no change when the run began."""
    with Sandbox(products=60, store_views=("default", "de"), clock=clock) as sandbox:
        shop = Bench(sandbox, sqlite, store_views=("default", "de"), page_size=10, concurrency=1)
        for view in shop.store_views:
            replace(shop, store_views=(view,)).backfill()
        clock.now += HOUR
        edit_everything(shop)
        sandbox.faults.empty(kind="count", times=1)
        crash(shop, Bench.run)
        sandbox.faults.clear()
        clock.now += HOUR

        assert shop.run().exit_code == 0

        shop.assert_copy_is_exact()


def test_a_clock_set_back_in_the_pause_hides_no_change(shop: Bench, clock: TenantClock) -> None:
    crash_a_run(shop, clock)
    clock.now -= 4 * HOUR
    shop.sandbox.catalogue.edit(shop.sandbox.catalogue.ids()[0], name="Stamped in the past")

    assert shop.run().exit_code == 0

    shop.assert_copy_is_exact()


# --- backfill --------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [Bench.backfill, Bench.run])
def test_a_resumed_load_has_what_changed_in_the_part_that_was_read(
    shop: Bench, clock: TenantClock, resume: Pass
) -> None:
    """One product less and one more: the count alone would show neither."""
    crash(shop, Bench.backfill)
    clock.now += HOUR
    first, second, *_ = shop.sandbox.catalogue.ids()
    shop.sandbox.catalogue.edit(first, name="Edited in the pause")
    shop.sandbox.catalogue.delete(second)
    shop.sandbox.catalogue.add(name="Born in the pause")

    summary = resume(shop)

    assert (summary.exit_code, shop.watch.resumed) == (0, True)
    shop.assert_copy_is_exact()
    shop.assert_feed_tells_who_lives()
    assert shop.verify() == []


def test_a_resumed_load_reads_the_rest_and_asks_twice_more(shop: Bench, clock: TenantClock) -> None:
    """Whether anything changed since, and how many there are."""
    crash(shop, Bench.backfill)
    clock.now += HOUR

    assert asked(shop, Bench.backfill) == ["page"] * 3 + ["count"] * 2


@pytest.mark.parametrize("resume", [Bench.backfill, Bench.run])
def test_a_load_killed_while_it_catches_up_is_not_begun_anew(
    shop: Bench, clock: TenantClock, resume: Pass
) -> None:
    """Everything read is edited in the pause; the next one is killed in the middle of that."""
    crash(shop, Bench.backfill)
    clock.now += HOUR
    for number in shop.sandbox.catalogue.ids()[:20]:
        shop.sandbox.catalogue.edit(number, name=f"Edited {number}")
    crash(shop, resume, page=4)
    before = len(asked_pages(shop))

    resume(shop)

    shop.assert_copy_is_exact()
    assert len(asked_pages(shop)) - before <= 3


def test_a_resumed_load_of_an_id_range_has_what_changed_in_it(shop: Bench, clock: TenantClock) -> None:
    ids = shop.sandbox.catalogue.ids()
    some = Interval(0, ids[39])
    crash(shop, lambda bench: bench.backfill(interval=some))
    clock.now += HOUR
    shop.sandbox.catalogue.edit(ids[0], name="Edited in the pause")
    shop.sandbox.catalogue.edit(ids[59], name="Outside of the range")

    summary = shop.backfill(interval=some)

    assert (summary.exit_code, shop.watch.resumed) == (0, True)
    assert shop.live() == {number: shop.sandbox.catalogue.document(number) for number in ids[:40]}


def test_a_resumed_load_asks_again_for_what_the_killed_one_could_not_copy(
    shop: Bench, clock: TenantClock
) -> None:
    broken, *_ = shop.sandbox.catalogue.ids()
    shop.sandbox.faults.poison(broken)
    crash(shop, Bench.backfill, page=4)
    assert shop.backfill().exit_code == 1

    crash(shop, lambda bench: bench.backfill(restart=True), page=4)
    shop.sandbox.faults.cure(broken)
    assert shop.backfill().exit_code == 0

    shop.assert_copy_is_exact()
    assert shop.open_rejections() == []


def test_a_clock_set_back_while_a_load_pauses_hides_no_change(shop: Bench, clock: TenantClock) -> None:
    crash(shop, Bench.backfill)
    clock.now -= HOUR
    shop.sandbox.catalogue.edit(shop.sandbox.catalogue.ids()[0], name="Stamped in the past")

    assert shop.backfill().exit_code == 0

    shop.assert_copy_is_exact()


def test_a_load_over_a_copy_finds_what_was_deleted_before_it_though_one_is_added_meanwhile(
    shop: Bench,
) -> None:
    """One product less and one more make the same number."""
    shop.backfill()
    shop.sandbox.catalogue.delete(shop.sandbox.catalogue.ids()[1])
    shop.watch.at_page = lambda page: shop.sandbox.catalogue.add(name="New") if page == 9 else None

    assert shop.backfill().exit_code == 0

    shop.assert_copy_is_exact()


def test_a_resumed_load_leaves_a_watermark_that_is_later_where_it_is(shop: Bench, clock: TenantClock) -> None:
    shop.backfill()
    clock.now += HOUR
    crash(shop, Bench.backfill)
    clock.now += HOUR
    shop.run()

    shop.backfill()

    assert (shop.watch.resumed, watermark(shop)) == (True, clock.now)


# --- reconcile -------------------------------------------------------------------------------


def test_a_reconcile_after_a_killed_one_has_what_changed_in_silence(shop: Bench, clock: TenantClock) -> None:
    """Only reading it again shows that: the command begins again."""
    shop.backfill()
    crash(shop, Bench.reconcile)
    clock.now += HOUR
    first, second, *_ = shop.sandbox.catalogue.ids()
    shop.sandbox.catalogue.edit(first, touch=False, price=12.5)
    shop.sandbox.catalogue.delete(second)

    summary = shop.reconcile()

    assert (summary.exit_code, shop.watch.resumed) == (0, False)
    shop.assert_copy_is_exact()
    assert shop.verify() == []
    assert [run.status for run in shop.rows(sync_runs)] == ["succeeded", "failed", "succeeded", "succeeded"]


def test_a_reconcile_that_goes_on_asks_again_for_what_the_killed_one_could_not_copy(shop: Bench) -> None:
    shop.backfill()
    broken, *_ = shop.sandbox.catalogue.ids()
    shop.sandbox.catalogue.edit(broken, touch=False, price=12.5)
    shop.sandbox.faults.poison(broken)
    crash(shop, Bench.reconcile, page=4)

    assert shop.reconcile(resume=True).exit_code == 1
    assert len(shop.open_rejections()) == 1
