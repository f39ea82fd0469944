"""A `total_count` that is wrong every time is found out once and corrected; a passing one is an outage."""

from __future__ import annotations

from typing import Any

import pytest

from sync.db.schema import products, sync_watermarks
from sync.errors import AnswerUnreadable
from tests.kit import Bench

pytestmark = pytest.mark.slow

ODD = 52  # the id of a product
KINDS: dict[str, dict[str, Any]] = {
    "every list": {},
    "lists with products": {"only_filled": True},
    "ranges of ids": {"only_ranges": True},
    "ranges of ids with products": {"only_ranges": True, "only_filled": True},
    "one product": {},
}


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.overlap *= 0
    bench.sandbox.catalogue.add(product_id=ODD)
    return bench


def miscount(bench: Bench, kind: str, by: int = 1) -> None:
    odd = {"product_id": ODD} if kind == "one product" else {}
    bench.sandbox.faults.miscount(by, **KINDS[kind], **odd)


def tombstones(bench: Bench) -> list[int]:
    return [row.product_id for row in bench.rows(products, products.c.deleted_at.is_not(None))]


@pytest.mark.parametrize("by", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_said_once_and_every_pass_succeeds(bench: Bench, kind: str, by: int) -> None:
    miscount(bench, kind, by)

    loaded = bench.backfill()
    others = [bench.run(), bench.reconcile(), bench.run()]

    assert f"{by} product{'s' * (by > 1)} too many in store view all" in str(loaded.held_back)
    assert [(it.exit_code, it.held_back) for it in (loaded, *others)][1:] == [(0, None)] * 3
    assert loaded.exit_code == 0
    assert len(bench.rows(sync_watermarks)) == 1
    assert tombstones(bench) == []
    bench.assert_copy_is_exact()


@pytest.mark.parametrize("kind", KINDS)
def test_it_hides_no_deletion_and_no_insertion(bench: Bench, kind: str) -> None:
    """The product that is counted twice may be the one that goes."""
    ids = bench.sandbox.catalogue.ids()
    bench.sandbox.catalogue.hide(ids[30])
    bench.backfill()
    miscount(bench, kind)
    bench.run()
    catalogue = bench.sandbox.catalogue

    catalogue.delete_many(ids[3:5])
    assert bench.run().tally.deleted == 2
    catalogue.show(ids[30])
    assert bench.run().tally.inserted == 1
    catalogue.delete(ODD)
    assert bench.run().tally.deleted == 1

    bench.assert_copy_is_exact()
    assert bench.run().held_back is None


@pytest.mark.parametrize("kind", KINDS)
def test_it_may_grow_and_vanish(bench: Bench, kind: str) -> None:
    """Neither is taken for a deletion."""
    miscount(bench, kind)
    bench.backfill()

    miscount(bench, kind, 2)
    grown = bench.run()
    assert (grown.exit_code, "2 products too many" in str(grown.held_back)) == (0, True)
    miscount(bench, kind, 0)
    assert bench.run().exit_code == 0
    gone = bench.sandbox.catalogue.ids()[3]
    bench.sandbox.catalogue.delete(gone)
    assert bench.run().tally.deleted == 1

    assert tombstones(bench) == [gone]
    bench.assert_copy_is_exact()


def test_too_few_every_time_are_found_out_as_well(bench: Bench) -> None:
    miscount(bench, "lists with products", -1)

    assert [bench.backfill().exit_code, bench.run().exit_code, bench.reconcile().exit_code] == [0, 0, 0]

    assert tombstones(bench) == []
    bench.assert_copy_is_exact()


def test_products_that_are_counted_and_never_listed_are_an_outage(bench: Bench) -> None:
    """No product is counted twice: the list is short."""
    bench.sandbox.faults.empty(after=100)

    with pytest.raises(AnswerUnreadable):
        bench.backfill()

    assert bench.rows(sync_watermarks) == []


def test_a_product_that_is_listed_and_not_counted_lives(bench: Bench) -> None:
    """Said once; the others' deletions and its own are still found, and it may be counted again."""
    bench.backfill()
    bench.sandbox.faults.miscount(-1, product_id=ODD)
    other = bench.sandbox.catalogue.ids()[30]

    said = bench.run()
    bench.sandbox.catalogue.delete(other)
    passes = [bench.run(), bench.reconcile(), bench.run_named(ids=[ODD])[0], bench.run()]

    assert "1 product too few in store view all" in str(said.held_back)
    assert [(it.exit_code, it.held_back) for it in passes] == [(0, None)] * 4
    assert tombstones(bench) == [other]
    assert bench.verify() == []

    bench.sandbox.catalogue.delete(ODD)
    bench.run()
    assert sorted(tombstones(bench)) == sorted([ODD, other])
    assert bench.run().exit_code == bench.reconcile().exit_code == 0
    bench.assert_copy_is_exact()


def test_a_product_that_is_counted_again_is_forgotten_as_uncounted(bench: Bench) -> None:
    bench.backfill()
    bench.sandbox.faults.miscount(-1, product_id=ODD)
    bench.run()
    bench.sandbox.faults.clear()
    other = bench.sandbox.catalogue.ids()[30]
    bench.sandbox.catalogue.delete(other)

    assert bench.run().exit_code == bench.run().exit_code == 0

    assert tombstones(bench) == [other]
    bench.assert_copy_is_exact()
