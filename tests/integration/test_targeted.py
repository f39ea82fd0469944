"""Products named on the command line are read whatever their stamps, and nothing else is."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sync.db.schema import products, sync_partitions, sync_watermarks
from sync.sandbox import Sandbox
from tests.kit import Bench, Stopped, stop_at


@pytest.fixture
def loaded(bench: Bench) -> Bench:
    bench.backfill()
    return bench


def test_silent_changes_of_products_named_by_id_or_sku_arrive(loaded: Bench) -> None:
    by_id, by_sku, unnamed, *_ = loaded.sandbox.catalogue.ids()
    for number in (by_id, by_sku, unnamed):
        loaded.sandbox.catalogue.edit(number, touch=False, price=5)
    sku = loaded.live()[by_sku]["sku"]

    summary, unknown = loaded.run_named(ids=[by_id], skus=[sku.lower()])

    assert (summary.tally.fetched, summary.tally.updated, unknown) == (2, 2, [])
    assert [i for i, document in loaded.live().items() if document.get("price") == 5] == [by_id, by_sku]


def test_a_product_that_was_never_copied_is_inserted(bench: Bench) -> None:
    number = bench.sandbox.catalogue.ids()[3]

    bench.run_named(ids=[number])

    assert list(bench.live()) == [number]


def test_a_named_product_that_is_gone_is_buried(loaded: Bench) -> None:
    first, second, *_ = loaded.sandbox.catalogue.ids()
    sku = loaded.live()[second]["sku"]
    loaded.sandbox.catalogue.delete_many([first, second])

    summary, unknown = loaded.run_named(ids=[first], skus=[sku])

    assert (summary.tally.deleted, unknown) == (2, [])
    loaded.assert_copy_is_exact()


def test_a_named_product_is_not_buried_by_an_outage(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[3]
    loaded.sandbox.faults.empty(times=1)

    loaded.run_named(ids=[number])

    assert loaded.rows(products, products.c.deleted_at.is_not(None)) == []


def test_names_that_nobody_knows_are_told(loaded: Bench) -> None:
    summary, unknown = loaded.run_named(ids=[999_999], skus=["NO SUCH SKU"])

    assert unknown == ["999999", "NO SUCH SKU"]
    assert summary.exit_code == 0


def test_a_sku_may_hold_a_comma_and_blanks(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.add(sku="CUP, blue & 1/2 l")

    _, unknown = loaded.run_named(skus=["CUP, blue & 1/2 l"])

    assert (number in loaded.live(), unknown) == (True, [])


def test_each_store_view_is_read(tenant: Sandbox, sqlite: sa.Engine) -> None:
    bench = Bench(tenant, sqlite, store_views=("default", "de"), page_size=10)
    bench.backfill()
    number = tenant.catalogue.ids()[3]
    tenant.catalogue.edit(number, store_view="de", touch=False, name="Tasse")

    assert bench.run_named(ids=[number])[0].tally.updated == 1
    bench.assert_copy_is_exact()


def test_a_named_product_that_cannot_be_read_is_rejected_and_later_resolved(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[3]
    loaded.sandbox.faults.poison(number)
    summary, unknown = loaded.run_named(ids=[number])
    assert (summary.exit_code, unknown, number in loaded.live()) == (1, [], True)

    loaded.sandbox.faults.cure(number)

    assert (loaded.run().exit_code, loaded.open_rejections()) == (0, [])


def test_the_watermark_and_unfinished_work_of_others_stay(loaded: Bench) -> None:
    for number in loaded.sandbox.catalogue.ids():
        loaded.sandbox.catalogue.edit(number, name="Edited")
    loaded.concurrency = 1
    loaded.watch = type(loaded.watch)(at_page=stop_at(3))
    with pytest.raises(Stopped):
        loaded.run()
    loaded.watch.at_page = None
    before = loaded.rows(sync_watermarks), loaded.rows(sync_partitions)

    loaded.run_named(ids=loaded.sandbox.catalogue.ids()[:1])

    assert (loaded.rows(sync_watermarks), loaded.rows(sync_partitions)) == before
    assert loaded.run().tally.fetched == 30 + 60, "what was left, then the overlap"


@pytest.mark.parametrize("asked", ["gge", "GGé", "GGE  ", "  GGe"])
def test_a_product_found_under_another_spelling_is_the_answer(loaded: Bench, asked: str) -> None:
    number = loaded.sandbox.catalogue.add(sku="GGe")

    for _ in range(2):
        summary, unknown = loaded.run_named(skus=[asked, "NO SUCH SKU"])
        assert (summary.tally.fetched, unknown) == (1, ["NO SUCH SKU"])
    assert number in loaded.live()

    loaded.sandbox.catalogue.delete(number)
    summary, unknown = loaded.run_named(skus=[asked])
    assert (summary.tally.deleted, unknown) == (1, [])


def test_a_firewall_that_refuses_a_sku_costs_that_one_alone(loaded: Bench) -> None:
    known = loaded.sandbox.catalogue.add(sku="DROP TABLE a")
    loaded.run_named(ids=[known])
    fine = loaded.sandbox.catalogue.add(sku="FINE")
    loaded.sandbox.catalogue.edit(known, name="Edited")
    loaded.sandbox.faults.firewall("DROP TABLE")

    summary, unknown = loaded.run_named(skus=["DROP TABLE a", "DROP TABLE b", "FINE"])

    assert (summary.exit_code, unknown) == (1, [])
    assert "DROP TABLE b" in str(summary.held_back)
    assert loaded.live()[known]["name"] == "Edited"
    assert fine in loaded.live()
