"""A dry run tells what the real one would do, and leaves every row as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sync.db.engine import in_memory
from sync.db.schema import metadata, products
from sync.passes.run import Summary
from sync.sandbox import Sandbox
from tests.kit import Bench

pytestmark = pytest.mark.slow

Pass = Callable[..., Summary]


def contents(bench: Bench) -> dict[str, list[object]]:
    return {name: list(bench.rows(table)) for name, table in metadata.tables.items()}


@pytest.fixture
def drifted(bench: Bench) -> Bench:
    """One product of each fate since the load, one of them silent."""
    bench.backfill()
    catalogue = bench.sandbox.catalogue
    catalogue.delete(catalogue.ids()[30])
    bench.run()
    first, second, third, fourth, *_ = catalogue.ids()
    catalogue.edit(first, name="Edited")
    catalogue.edit(second, touch=False, price=3)
    catalogue.delete(third)
    catalogue.restamp(fourth)
    catalogue.add(name="New")
    return bench


@pytest.mark.parametrize("sweep", [Bench.backfill, Bench.run, Bench.reconcile])
def test_it_says_what_the_real_one_does_and_changes_no_row(drifted: Bench, sweep: Pass) -> None:
    before = contents(drifted)

    told = sweep(drifted, dry=True)
    assert contents(drifted) == before

    done = sweep(drifted)
    assert (told.tally, told.status) == (done.tally, done.status)
    assert told.tally.inserted == 1


def test_a_product_that_comes_back_is_told_once(drifted: Bench) -> None:
    """It lies below the highest id of the copy, where deletions are counted."""
    (tombstone,) = drifted.rows(products, products.c.deleted_at.is_not(None))
    back = tombstone.product_id
    drifted.sandbox.catalogue.restore(back)
    drifted.sandbox.catalogue.edit(back, name="Back")

    told, done = drifted.run(dry=True), drifted.run()

    assert told.tally == done.tally


def test_a_dry_reconcile_holds_back_what_the_real_one_would(drifted: Bench) -> None:
    drifted.sandbox.catalogue.keep_only(drifted.sandbox.catalogue.ids()[:10])

    assert drifted.reconcile(dry=True).held_back == drifted.reconcile().held_back


def test_it_takes_no_lease(bench: Bench) -> None:
    """Another run is at work meanwhile."""

    def run_dry(_page: int) -> None:
        Bench(bench.sandbox, bench.db).reconcile(dry=True)

    bench.watch.at_page = run_dry
    bench.backfill()

    bench.assert_copy_is_exact()


@pytest.mark.parametrize("sweep", [Bench.backfill, Bench.run, Bench.reconcile])
def test_before_the_first_load_an_empty_copy_in_memory_is_compared_with(tenant: Sandbox, sweep: Pass) -> None:
    bench = Bench(tenant, in_memory(), page_size=10)

    assert sweep(bench, dry=True).tally.inserted == 60

    assert bench.rows(products) == []


def test_rejections_are_told_and_not_kept(bench: Bench) -> None:
    bench.sandbox.faults.poison(bench.sandbox.catalogue.ids()[7])

    told = bench.backfill(dry=True)

    assert (told.tally.rejected, told.exit_code) == (1, 1)
    assert bench.open_rejections() == []
