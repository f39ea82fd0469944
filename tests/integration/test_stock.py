"""The copy of the stock has every row once, whatever moves while it is read, and loses none to an outage."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from sync.commerce.stock import Stock
from sync.db import skus
from sync.db.schema import source_items, sync_runs
from sync.errors import AccessDenied, CommerceError
from sync.passes.run import Summary
from sync.passes.stock import Seen, stock
from sync.sandbox import Sandbox
from tests.kit import Bench, Stopped, stop_at

pytestmark = pytest.mark.slow

SOURCES = ("default", "east", "north", "west")


@pytest.fixture
def shop() -> Any:
    with Sandbox(products=60, sources=("default", "east")) as sandbox:
        yield sandbox


@pytest.fixture
def full(shop: Sandbox, sqlite: sa.Engine) -> Bench:
    bench = Bench(shop, sqlite, page_size=10)
    read(bench)
    return bench


def read(bench: Bench, *, allow_mass_delete: bool = False) -> Summary:
    return stock(bench.sync(), allow_mass_delete=allow_mass_delete)


def living(bench: Bench) -> dict[tuple[str, str], tuple[Decimal, int]]:
    found = bench.rows(source_items, source_items.c.deleted_at.is_(None))
    return {(row.source_code, row.sku): (row.quantity, row.status) for row in found}


def there(bench: Bench) -> dict[tuple[str, str], tuple[Decimal, int]]:
    return {
        (row["source_code"], row["sku"]): (Decimal(str(row["quantity"])), row["status"])
        for row in bench.sandbox.stock.rows()
    }


def item(bench: Bench, source: str, sku: str) -> Any:
    return bench.rows(source_items, source_items.c.source_code == source, source_items.c.sku == sku)[0]


def test_rows_appear_change_vanish_and_come_back(db: sa.Engine) -> None:
    with Sandbox(products=60, sources=("default", "east")) as shop:
        bench = Bench(shop, db, page_size=10)
        first = read(bench)
        assert (first.status, first.tally.inserted) == ("succeeded", len(there(bench)))
        assert living(bench) == there(bench)
        (_, one), (_, other), *_ = [key for key in living(bench) if key[0] == "east"]
        untouched = item(bench, "default", one).changed_at
        quantity, status = living(bench)["east", other]

        shop.stock.set("east", one, 3.25, 0)
        shop.stock.remove("east", other)
        shop.stock.set("east", "NEW, and odd/1 ", 7)
        second = read(bench)
        assert (second.tally.inserted, second.tally.updated, second.tally.deleted) == (1, 1, 1)
        assert living(bench) == there(bench)
        assert item(bench, "east", other).deleted_at is not None
        assert item(bench, "default", one).changed_at == untouched

        shop.stock.set("east", other, float(quantity), status)
        third = read(bench)
        assert (third.tally.inserted, item(bench, "east", other).deleted_at) == (1, None)
        assert living(bench) == there(bench)

        fourth = read(bench)
        assert fourth.tally.unchanged == fourth.tally.fetched == len(there(bench))


def test_ten_thousand_rows_of_four_sources_come_once_while_they_are_edited(sqlite: sa.Engine) -> None:
    """With each page written, rows appear, change and vanish before and behind the cursors of all sources."""
    with Sandbox(products=2_900, sources=SOURCES) as shop:
        bench = Bench(shop, sqlite, page_size=60, concurrency=4)
        before = there(bench)
        assert len(before) >= 10_000
        stable = {key: level for number, (key, level) in enumerate(before.items()) if number % 100}
        victims = sorted(before.keys() - stable.keys())
        bench.watch.at_page = lambda page: edit_at(shop, page, victims)

        summary = read(bench)
        bench.watch.at_page = None

        assert {key: level for key, level in living(bench).items() if key in stable} == stable
        assert summary.tally.inserted == summary.tally.fetched  # a row that came twice would not be new
        read(bench)
        assert living(bench) == there(bench)


def edit_at(shop: Sandbox, page: int, victims: list[tuple[str, str]]) -> None:
    """Remove, change and add a row, each somewhere in the order of SKUs."""
    for step, edit in enumerate(("remove", "change", "add")):
        source, sku = victims[(3 * page + step) * 37 % len(victims)]
        if edit == "remove":
            shop.stock.remove(source, sku)
        else:
            shop.stock.set(source, sku if edit == "change" else f"{sku} extra", page)


def test_odd_skus_are_walked_over_and_asked_for(full: Bench) -> None:
    odd = ["CUP, blue", "a/b", 'inch 5"', "Größe", "50%", "a&b", " leading", "plus+", "Ünder_score", "0012"]
    for sku in odd:
        full.sandbox.stock.set("east", sku, 1)
    full.page_size = 1
    read(full)
    assert living(full) == there(full)

    for sku in odd:
        full.sandbox.stock.remove("east", sku)

    assert read(full).tally.deleted == len(odd)
    assert living(full) == there(full)


def test_a_source_that_is_emptied_is_believed_while_another_one_has_rows(full: Bench) -> None:
    gone = [sku for source, sku in living(full) if source == "east"]
    for sku in gone:
        full.sandbox.stock.remove("east", sku)

    assert read(full).tally.deleted == len(gone)
    assert living(full) == there(full)


def test_a_source_that_is_no_longer_listed_loses_its_rows(full: Bench) -> None:
    with full.db.begin() as tx:
        tx.execute(
            source_items.insert().values(
                source_code="closed", sku="A", quantity=1, status=1, changed_at=item_time(full)
            )
        )

    assert read(full).tally.deleted == 1


def item_time(bench: Bench) -> Any:
    return bench.rows(source_items)[0].changed_at


def test_when_nothing_is_shown_any_more_nothing_is_deleted(full: Bench) -> None:
    before = living(full)
    for source, sku in before:
        full.sandbox.stock.remove(source, sku)

    assert (read(full).status, living(full)) == ("partial", before)
    assert "--allow-mass-delete" in full.watch.held_back[0]

    read(full, allow_mass_delete=True)
    assert living(full) == {}


@pytest.mark.parametrize("page", [0, 1, 4, 9])
def test_an_outage_that_looks_like_an_end_deletes_nothing(full: Bench, page: int) -> None:
    """From some page on every list is empty: the end of a source, or all of one, or everything."""
    before = living(full)
    empty_from(full, page, times=10_000)

    with suppress(CommerceError):
        read(full)

    full.sandbox.faults.clear()
    full.watch.at_page = None
    assert living(full) == before
    assert read(full).status == "succeeded"


def empty_from(bench: Bench, page: int, times: int) -> None:
    """Have so many answers be empty, once a page is written; from the start on for page 0."""

    def at_page(number: int) -> None:
        if number == page:
            bench.sandbox.faults.empty(kind="stock", times=times)

    bench.watch = type(bench.watch)(at_page=at_page)
    at_page(0)


@pytest.mark.parametrize("page", [1, 3, 5, 6, 8])
def test_one_answer_that_looks_like_an_end_costs_no_row(shop: Sandbox, sqlite: sa.Engine, page: int) -> None:
    """On a first read no row could be asked for by its name."""
    bench = Bench(shop, sqlite, page_size=10, concurrency=1)
    empty_from(bench, page, times=1)

    read(bench)

    assert living(bench) == there(bench)


def test_an_outage_says_nothing_about_rows_that_are_asked_for(full: Bench) -> None:
    source = Stock(full.client())
    *_, asked, witness = next(source.walk("east")).items
    full.sandbox.faults.empty(kind="stock", times=99)

    with pytest.raises(CommerceError, match="no longer lists"):
        source.listed("east", [asked.sku], witness)


def test_rows_are_found_by_their_skus_whatever_these_hold(full: Bench) -> None:
    odd = ["CUP, blue", ",", "a/b", "50%", "a&b", " leading", "plus+", "0012"]
    for sku in odd:
        full.sandbox.stock.set("east", sku, 1)
    source = Stock(full.client())
    witness = next(source.walk("default")).items[-1]

    listed = source.listed("east", odd, witness)

    assert {row.sku for row in listed} >= set(odd)


def test_permission_that_is_missing_is_told_once_and_deletes_nothing(full: Bench) -> None:
    before = living(full)
    full.sandbox.faults.forbid("stock")

    summary = read(full)

    assert (summary.status, summary.exit_code, living(full)) == ("partial", 1, before)
    assert len(full.watch.held_back) == 1
    assert "Magento_InventoryApi::source" in full.watch.held_back[0]


def test_a_credential_that_is_refused_everywhere_stops_the_run(full: Bench) -> None:
    for kind in ("stock", "count"):
        full.sandbox.faults.deny(401, kind=kind, times=99)

    with pytest.raises(AccessDenied):
        read(full)


def test_a_smaller_page_is_obeyed(sqlite: sa.Engine) -> None:
    with Sandbox(products=60, max_page_size=20) as shop:
        bench = Bench(shop, sqlite, page_size=300)

        assert read(bench).status == "succeeded"
        assert living(bench) == there(bench)


def test_a_crash_keeps_the_pages_before_it(shop: Sandbox, sqlite: sa.Engine) -> None:
    bench = Bench(shop, sqlite, page_size=10, concurrency=1)
    bench.watch.at_page = stop_at(3)
    with pytest.raises(Stopped):
        read(bench)
    run = bench.rows(sync_runs)[0]
    assert (len(living(bench)), run.fetched, run.status) == (30, 30, "failed")
    bench.watch.at_page = None

    read(bench)

    assert living(bench) == there(bench)


def test_requests_are_one_a_page_and_one_for_each_end(full: Bench) -> None:
    before = len(full.sandbox.requests)

    read(full)

    asked = [served for served in full.sandbox.requests[before:] if "inventory" in served.path]
    pages = sum(-(-sum(source == code for code, _ in living(full)) // 10) for source in ("default", "east"))
    assert len(asked) == pages + len(("default", "east")) + 2  # and the sources, with their end


def test_rows_are_counted_by_source(full: Bench) -> None:
    question = Stock(full.client()).count

    assert question("east") == sum(source == "east" for source, _ in living(full))
    assert question("no such source") == 0


def test_what_was_shown_is_remembered_in_eight_bytes() -> None:
    seen = Seen()
    seen.add(f"SKU {number}" for number in range(1000))
    assert seen.missing(["SKU 7", "SKU 1000"]) == ["SKU 1000"]

    seen.add(["SKU 1000"])

    assert (seen.missing(["SKU 999", "SKU 1000", "SKU 1001"]), len(seen)) == (["SKU 1001"], 1001)


# --- compared as Commerce does --------------------------------------------------------------


@pytest.mark.parametrize("written", ["Berlin", "BERLIN", "berlin "])
def test_a_row_that_spells_its_source_otherwise_is_one_of_that_source(
    sqlite: sa.Engine, written: str
) -> None:
    """Filters ignore case and trailing blanks, and the row comes as it is stored."""
    with Sandbox(products=20, sources=("berlin", "default")) as shop:
        bench = Bench(shop, sqlite, page_size=5)
        sku = shop.stock.rows()[2]["sku"]
        shop.stock.remove("berlin", sku)
        shop.stock.set(written, sku, 7)

        assert read(bench).status == "succeeded"
        assert living(bench)["berlin", sku] == (Decimal(7), 1)
        assert len(living(bench)) == len(there(bench))
        assert read(bench).tally.unchanged == len(there(bench))

        shop.stock.remove(written, sku)
        assert read(bench).tally.deleted == 1


@pytest.mark.parametrize("change", [str.lower, lambda sku: sku + " ", lambda sku: sku.replace("E", "É")])
def test_stock_is_joined_with_products_that_spell_the_sku_otherwise(db: sa.Engine, change: Any) -> None:
    """Commerce takes both for one SKU, so SQL that joins them finds the row."""
    with Sandbox(products=20) as shop:
        number = shop.catalogue.add(sku="CUPÉ-BLUE")
        bench = Bench(shop, db, page_size=5)
        bench.backfill()
        sku = shop.catalogue.sku(number)
        shop.stock.remove("default", sku)
        shop.stock.set("default", change(sku), 7)
        orphan = "Nobody's " + sku
        shop.stock.set("default", orphan, 3)

        read(bench)

        assert living(bench)["default", sku] == (Decimal(7), 1)
        assert living(bench)["default", orphan] == (Decimal(3), 1)
        assert len(living(bench)) == len(there(bench))
        assert read(bench).tally.unchanged == len(there(bench))


def test_a_row_read_before_its_product_is_joined_by_the_next_pass(shop: Sandbox, sqlite: sa.Engine) -> None:
    bench = Bench(shop, sqlite)
    number = shop.catalogue.add(sku="CUP-BLUE")
    shop.stock.remove("default", "CUP-BLUE")
    shop.stock.set("default", "cup-blue", 7)
    read(bench)
    assert ("default", "cup-blue") in living(bench)

    bench.run_named(ids=[number])
    read(bench)

    assert [sku for code, sku in living(bench) if code == "default" and sku.lower() == "cup-blue"] == [
        "CUP-BLUE"
    ]


# --- what cannot be read --------------------------------------------------------------------


def test_a_row_that_the_tenant_cannot_show_costs_that_row_alone(full: Bench) -> None:
    """500 for ever on every page that holds it; it is named by its SKU, which the copy knows, and stays."""
    before = living(full)
    skus = sorted({sku for _, sku in before})
    gone = skus[3]
    for broken in (skus[0], skus[7], skus[-1]):
        full.sandbox.faults.break_item("stock", broken)
        full.sandbox.stock.set("east", skus[5], 11)

        summary = read(full)

        assert (summary.exit_code, repr(broken) in str(summary.held_back)) == (1, True), broken
        assert living(full)["east", skus[5]] == (Decimal(11), 1)
        assert ("east", broken) in living(full)
        full.sandbox.faults.mend_item("stock", broken)
    full.sandbox.stock.remove("east", gone)
    assert (read(full).exit_code, ("east", gone) in living(full)) == (0, False)


def test_an_outage_is_no_broken_row(full: Bench) -> None:
    before = living(full)
    full.max_retry_time = 0.2
    full.sandbox.faults.fail(500, kind="stock")

    with pytest.raises(CommerceError):
        read(full)

    assert living(full) == before


def test_a_firewall_that_refuses_a_sku_in_a_url_loses_no_row(shop: Sandbox, sqlite: sa.Engine) -> None:
    """Each SKU is the last of a page and so the cursor of the next one, in pages of two."""
    skus = [row["sku"] for row in shop.stock.rows() if row["source_code"] == "default"]
    bench = Bench(shop, sqlite, page_size=2)
    shop.faults.firewall(skus[1])
    shop.faults.firewall(skus[4])

    assert read(bench).exit_code == 0
    assert living(bench) == there(bench)

    shop.stock.remove("default", skus[4])
    shop.stock.remove("default", skus[5])
    summary = read(bench)
    assert (summary.exit_code, repr(skus[4]) in str(summary.held_back)) == (1, True)
    assert ("default", skus[5]) not in living(bench)


def test_statements_after_the_index_of_products_are_read_at_once_again(sqlite: sa.Engine) -> None:
    """A cursor of the server that is left open by one of them would outlive it."""
    with sqlite.begin() as connection:
        skus.Index(connection)

        assert "yield_per" not in connection.get_execution_options()
