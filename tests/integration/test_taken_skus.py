"""A SKU that goes from one product to another: in the feed it is given up before it is taken."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from sync.db.schema import products
from sync.db.skus import live_with
from sync.sandbox import Sandbox
from tests.consumers import assert_all_end_right, assert_no_sku_is_taken_before_it_is_free
from tests.kit import Bench, Stopped, stop_at

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SPELLINGS = [
    ("GGe", "GGé"),
    ("GGé", "gge"),
    ("ÀÉ", "àe"),
    ("ГОСТ-7", "гост-7"),
    ("GGß", "ggs"),
    ("GGe", "GGE  "),
]
_ROW = {"store_view": "all", "document": " " * 500, "first_seen_at": NOW, "changed_at": NOW, "run_id": 1}

Pass = Callable[[Bench, str], object]

PASSES: dict[str, Pass] = {
    "run": lambda bench, sku: bench.run(),
    "reconcile": lambda bench, sku: bench.reconcile(),
    "backfill": lambda bench, sku: bench.backfill(),
    "run --sku": lambda bench, sku: bench.run_named(skus=[sku]),
}


@pytest.fixture
def loaded(bench: Bench) -> Bench:
    bench.store_views = ("all", "de")
    bench.backfill()
    return bench


@pytest.fixture
def one_view(bench: Bench) -> Bench:
    bench.backfill()
    return bench


def news(bench: Bench, store_view: str = "all") -> list[tuple[str, int]]:
    """(kind, id) of what came after the load of 60 products."""
    return [(it.kind, it.product_id) for it in bench.changes() if it.store_view == store_view][60:]


def assert_followed(bench: Bench) -> None:
    bench.assert_copy_is_exact()
    assert_all_end_right(bench)
    assert_no_sku_is_taken_before_it_is_free(bench)


def made_again(bench: Bench, product_id: int, letters: Callable[[str], str] = str) -> tuple[str, int]:
    """Delete a product and make it again under its SKU: the SKU, and the new id."""
    sku = bench.sandbox.catalogue.sku(product_id)
    bench.sandbox.catalogue.delete(product_id)
    return sku, bench.sandbox.catalogue.add(sku=letters(sku))


@pytest.mark.parametrize("name", PASSES)
def test_a_product_made_again_under_its_sku_is_deleted_first(loaded: Bench, name: str) -> None:
    product_id = loaded.sandbox.catalogue.ids()[6]
    sku, again = made_again(loaded, product_id)

    PASSES[name](loaded, sku)

    for view in loaded.store_views:
        assert news(loaded, view) == [("delete", product_id), ("insert", again)]
    assert_followed(loaded)


@pytest.mark.parametrize("letters", [str.lower, str.upper, str.swapcase])
@pytest.mark.parametrize("name", PASSES)
def test_the_letters_of_a_sku_do_not_matter(loaded: Bench, name: str, letters: Callable[[str], str]) -> None:
    product_id = loaded.sandbox.catalogue.ids()[6]
    loaded.sandbox.catalogue.edit(product_id, sku="Bag-7-Red")
    loaded.run()
    sku, _ = made_again(loaded, product_id, letters)

    PASSES[name](loaded, sku)

    assert_followed(loaded)


@pytest.mark.parametrize(("sku", "again"), SPELLINGS)
def test_accents_and_blanks_at_the_end_do_not_matter_either(
    tenant: Sandbox, db: sa.Engine, sku: str, again: str
) -> None:
    """Neither when the product is made again, nor when another one takes the SKU over."""
    bench, catalogue = Bench(tenant, db, page_size=10), tenant.catalogue
    first, second, third, *_ = catalogue.ids()
    catalogue.edit(first, sku=sku)
    bench.backfill()

    catalogue.delete(first)
    catalogue.edit(third, sku=again)
    bench.run()
    catalogue.edit(third, sku="ANOTHER-ONE")
    catalogue.edit(second, sku=sku)
    bench.run()

    assert_followed(bench)


@pytest.mark.parametrize("odd", ["NUL\x00SKU", "S" * 300])
def test_a_sku_that_the_database_cannot_hold_is_given_up_like_any_other(
    tenant: Sandbox, db: sa.Engine, odd: str
) -> None:
    bench, catalogue = Bench(tenant, db, page_size=10), tenant.catalogue
    taker, giver, *_ = catalogue.ids()
    catalogue.edit(giver, sku=odd)
    bench.backfill()

    catalogue.edit(giver, sku="ANOTHER-ONE")
    catalogue.edit(taker, sku=odd)

    assert bench.run().exit_code == 0
    assert [it.product_id for it in bench.changes()[-2:]] == [giver, taker]
    bench.assert_feed_tells_who_lives()


def test_a_first_load_looks_skus_up_in_an_index(db: sa.Engine) -> None:
    """In a table of which the database has no statistics yet."""
    rows = [{**_ROW, "product_id": i, "sku": f"SKU-{i}", "content_hash": "x"} for i in range(2_000)]
    with db.begin() as tx:
        tx.execute(products.insert(), rows)
        asked: list[Any] = []
        sa.event.listen(
            tx, "before_cursor_execute", lambda _c, _k, sql, values, *_: asked.append((sql, values))
        )
        assert len(live_with(tx, "all", [f"SKU-{i}" for i in range(300)], exactly=True)) == 300
        ((sql, values),) = asked

        explain = "EXPLAIN QUERY PLAN" if db.dialect.name == "sqlite" else "EXPLAIN"
        plan = str(tx.exec_driver_sql(f"{explain} {sql}", values).all())

        assert "ix_products_sku_store_view" in plan


def test_a_load_that_is_continued_sees_what_was_made_again_meanwhile(bench: Bench) -> None:
    bench.watch.at_page = stop_at(3)
    with pytest.raises(Stopped):
        bench.backfill()
    bench.watch.at_page = None
    catalogue = bench.sandbox.catalogue
    first, sku = catalogue.ids()[0], catalogue.sku(catalogue.ids()[0])
    unread = next(i for i in range(catalogue.ids()[50], catalogue.ids()[-1]) if not catalogue.is_listed(i))
    catalogue.delete(first)
    catalogue.add(product_id=unread, sku=sku)

    bench.backfill()

    assert_followed(bench)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize(("giver", "taker"), [(2, 5), (5, 2), (3, 58), (58, 3)])
def test_a_sku_moves_from_one_product_to_another(loaded: Bench, name: str, giver: int, taker: int) -> None:
    """Within a page and between two, to a higher and to a lower id."""
    catalogue = loaded.sandbox.catalogue
    giver, taker = catalogue.ids()[giver], catalogue.ids()[taker]
    sku = catalogue.sku(giver)
    catalogue.edit(giver, sku="ANOTHER-ONE")
    catalogue.edit(taker, sku=sku)

    PASSES[name](loaded, sku)

    for view in loaded.store_views:
        assert news(loaded, view) == [("update", giver), ("update", taker)]
    assert_followed(loaded)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("places", [(2, 5), (3, 58), (2, 5, 4), (58, 3, 30)])
def test_products_exchange_their_skus(loaded: Bench, name: str, places: tuple[int, ...]) -> None:
    """Two of them, and three in a circle."""
    catalogue = loaded.sandbox.catalogue
    ids = [catalogue.ids()[place] for place in places]
    skus = [catalogue.sku(i) for i in ids]
    for product_id, sku in zip(ids, skus[1:] + skus[:1], strict=True):
        catalogue.edit(product_id, sku=sku)

    PASSES[name](loaded, skus[0])

    kinds = sorted(kind for kind, _ in news(loaded))
    assert kinds == sorted(["delete", "restore"] + ["update"] * (len(ids) - 1))
    assert_followed(loaded)


@pytest.mark.parametrize("name", ["run", "reconcile"])
def test_every_sku_moves_on_by_one(loaded: Bench, name: str) -> None:
    """A chain through all pages, longer than is followed at once: the copy takes its end up again later."""
    catalogue = loaded.sandbox.catalogue
    ids = catalogue.ids()
    skus = [catalogue.sku(i) for i in ids]
    for product_id, sku in zip(ids, [*skus[1:], "THE-NEWEST"], strict=True):
        catalogue.edit(product_id, sku=sku)

    PASSES[name](loaded, "")

    assert_followed(loaded)


def test_a_long_circle_is_followed_to_its_end(one_view: Bench) -> None:
    """Eight products on six pages: one request for each that is not on the first page, and one delete."""
    catalogue = one_view.sandbox.catalogue
    ids = [catalogue.ids()[place] for place in (0, 15, 25, 35, 45, 55, 18, 28)]
    skus = [catalogue.sku(i) for i in ids]
    for product_id, sku in zip(ids, skus[1:] + skus[:1], strict=True):
        catalogue.edit(product_id, sku=sku)

    one_view.run_named(ids=ids[:1])

    assert sorted(kind for kind, _ in news(one_view)) == ["delete", "restore", *["update"] * 7]
    assert_followed(one_view)


def _give_back(bench: Bench, giver: int, taker: int) -> None:
    taken = bench.sandbox.catalogue.sku(taker)
    bench.sandbox.catalogue.edit(taker, sku="YET-ANOTHER")
    bench.sandbox.catalogue.edit(giver, sku=taken)


def _take_from_a_third(bench: Bench, giver: int, taker: int) -> None:
    """One that is on the page of the taker, as it was before."""
    catalogue = bench.sandbox.catalogue
    third = catalogue.ids()[3]
    sku = catalogue.sku(third)
    catalogue.edit(third, sku="YET-ANOTHER")
    catalogue.edit(giver, sku=sku)


def _delete_both(bench: Bench, giver: int, taker: int) -> None:
    bench.sandbox.catalogue.delete(giver)
    bench.sandbox.catalogue.delete(taker)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("meanwhile", [_give_back, _take_from_a_third, _delete_both])
def test_skus_move_between_the_page_and_the_question_about_their_owner(
    one_view: Bench, name: str, meanwhile: Callable[[Bench, int, int], None]
) -> None:
    catalogue = one_view.sandbox.catalogue
    taker, giver = catalogue.ids()[2], catalogue.ids()[58]
    sku = catalogue.sku(giver)
    catalogue.edit(giver, sku="ANOTHER-ONE")
    catalogue.edit(taker, sku=sku)
    for between in catalogue.ids()[3:20]:  # so that one page does not bring both
        catalogue.edit(between, name="Edited")
    asked: list[int] = []

    def at_question(named: list[int]) -> None:
        if giver in named and not asked:
            asked.extend(named)
            meanwhile(one_view, giver, taker)

    one_view.at_question = at_question
    PASSES[name](one_view, sku)
    assert asked
    assert_all_end_right(one_view)
    assert_no_sku_is_taken_before_it_is_free(one_view)

    one_view.reconcile()
    assert_followed(one_view)


@pytest.mark.parametrize("kind", ["unreadable", "unmappable"])
def test_an_owner_that_cannot_be_read_leaves_the_copy_until_it_can(one_view: Bench, kind: str) -> None:
    catalogue = one_view.sandbox.catalogue
    taker, giver = catalogue.ids()[2], catalogue.ids()[58]
    sku = catalogue.sku(giver)
    catalogue.edit(giver, sku="ANOTHER-ONE")
    catalogue.edit(taker, sku=sku)
    if kind == "unreadable":
        one_view.sandbox.faults.poison(giver)
    else:
        catalogue.edit_raw(giver, {"sku": ["no", "text"]})

    one_view.run()

    assert [(it.product_id, it.kind) for it in one_view.open_rejections()] == [(giver, kind)]
    assert news(one_view) == [("delete", giver), ("update", taker)]
    assert_no_sku_is_taken_before_it_is_free(one_view)

    one_view.sandbox.faults.clear()
    catalogue.edit_raw(giver, {"sku": "ANOTHER-ONE"})
    one_view.run()
    assert one_view.open_rejections() == []
    assert news(one_view)[2:] == [("restore", giver)]
    assert_followed(one_view)


@pytest.mark.parametrize("name", ["run", "reconcile"])
def test_a_catalogue_that_is_made_again_every_day_is_no_mass_deletion(loaded: Bench, name: str) -> None:
    """59 of 60 products have other ids, which is no loss; the one that was not made again is counted."""
    catalogue = loaded.sandbox.catalogue
    last = catalogue.ids()[-1]
    for product_id in catalogue.ids()[:-1]:
        made_again(loaded, product_id)
    catalogue.delete(last)

    PASSES[name](loaded, "")

    assert loaded.watch.held_back == []
    assert_followed(loaded)


def test_a_former_owner_that_is_still_listed_stays_until_it_is_gone(loaded: Bench) -> None:
    """The tenant lists two products of one SKU; when one has gone, the other one is told once more."""
    catalogue = loaded.sandbox.catalogue
    product_id = catalogue.ids()[6]
    sku = catalogue.sku(product_id)
    again = catalogue.add(sku=sku)
    loaded.run()
    assert news(loaded) == [("insert", again)]

    catalogue.delete(product_id)
    loaded.run()

    assert news(loaded) == [("insert", again), ("delete", product_id), ("update", again)]
    assert loaded.changes()[-1].fields == {}
    loaded.assert_copy_is_exact()
    assert_all_end_right(loaded)


def test_a_product_that_comes_back_takes_its_sku_from_its_successor(loaded: Bench) -> None:
    catalogue = loaded.sandbox.catalogue
    product_id = catalogue.ids()[6]
    _, again = made_again(loaded, product_id)
    loaded.run()
    catalogue.delete(again)
    catalogue.restore(product_id)

    loaded.reconcile()

    assert news(loaded)[-2:] == [("delete", again), ("restore", product_id)]
    assert_followed(loaded)


def test_new_products_with_new_skus_cost_no_request_more(loaded: Bench) -> None:
    loaded.store_views = ("all",)
    loaded.run()
    before = len(loaded.sandbox.requests)
    loaded.run()
    idle = len(loaded.sandbox.requests) - before
    loaded.sandbox.catalogue.add(sku="NEVER-SEEN")
    loaded.run()

    with_one = len(loaded.sandbox.requests) - before - idle
    loaded.sandbox.catalogue.edit(loaded.sandbox.catalogue.ids()[0], name="Edited")
    before = len(loaded.sandbox.requests)
    loaded.run()

    assert with_one == len(loaded.sandbox.requests) - before


def test_a_dry_run_counts_each_once(loaded: Bench) -> None:
    loaded.store_views = ("all",)
    made_again(loaded, loaded.sandbox.catalogue.ids()[6])

    for summary in (loaded.run(dry=True), loaded.reconcile(dry=True), loaded.run()):
        assert (summary.tally.inserted, summary.tally.deleted) == (1, 1)


def test_it_is_so_on_every_database(tenant: Sandbox, db: sa.Engine) -> None:
    bench = Bench(tenant, db, page_size=10)
    bench.backfill()
    catalogue = tenant.catalogue
    made_again(bench, catalogue.ids()[6])
    first, *_, last = catalogue.ids()
    one, other = catalogue.sku(first), catalogue.sku(last)
    catalogue.edit(first, sku=other)
    catalogue.edit(last, sku=one)

    bench.run()

    assert_followed(bench)
