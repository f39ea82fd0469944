"""Prices that moved in silence are found by the light feeds, and only their products are read again.

What `product_prices` keeps is what the products carry, after any pass.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync.commerce.prices import PATHS, Prices
from sync.db.prices import MOST_LEFT_OUT, PATIENCE
from sync.db.schema import product_prices, store_views, sync_runs
from sync.errors import AccessDenied
from sync.passes import prices as prices_pass
from sync.passes.prices import prices
from sync.passes.run import Summary
from sync.sandbox import Sandbox
from tests.databases import opened
from tests.kit import Bench, Stopped, stop_at

pytestmark = pytest.mark.slow

FEEDS = 4
SIMPLE = "/sandbox/V1/products"


@pytest.fixture
def loaded(bench: Bench) -> Bench:
    bench.page_size = 300
    bench.backfill()
    return bench


def read(bench: Bench) -> tuple[Summary, list[str]]:
    """One pass, and the paths it asked, without the questions whether a store view is known."""
    before = len(bench.sandbox.requests)
    summary = prices(bench.sync())
    paths = [served.path for served in bench.sandbox.requests[before:] if served.kind != "count"]
    return summary, [path for path in paths if path.startswith("/sandbox")]


def rows(bench: Bench, *where: sa.ColumnElement[bool]) -> list[tuple[Any, ...]]:
    """Stored prices without the time of their change."""
    return [tuple(row)[:-1] for row in bench.rows(product_prices, *where)]


def priced(bench: Bench, count: int, feed: str = "base-prices") -> list[int]:
    """Products of types that have such a price."""
    found = [i for i in bench.sandbox.catalogue.ids() if bench.sandbox.prices.takes(feed, i)]
    assert len(found) >= count
    return found[:count]


def test_silent_price_changes_are_found_and_just_these_products_are_read(db: sa.Engine) -> None:
    """900 products are one list of SKUs; 40 prices moved before the feeds were ever read."""
    with Sandbox(products=900) as tenant:
        bench = Bench(tenant, db, page_size=300, concurrency=4)
        bench.backfill()
        moved = priced(bench, 400)[::10]
        tenant.prices.set_base_many(dict.fromkeys(moved, 4242.5))

        summary, asked = read(bench)

        assert (summary.status, summary.tally.fetched, summary.tally.updated) == ("succeeded", 900, 40)
        assert asked.count(SIMPLE) == 1
        assert len(asked) <= FEEDS + 2
        changes = [change for change in bench.changes() if change.kind == "update"]
        assert [change.product_id for change in changes] == moved
        assert all(change.fields["price"]["new"] == 4242.5 for change in changes)
        bench.assert_copy_is_exact()
        assert bench.reconcile().tally.updated == 0


def test_a_tenant_that_limits_a_list_is_asked_in_shorter_ones(sqlite: sa.Engine) -> None:
    with Sandbox(products=700, max_skus=300) as tenant:
        bench = Bench(tenant, sqlite, page_size=300)
        bench.backfill()

        summary, asked = read(bench)

        assert (summary.status, summary.tally.fetched) == ("succeeded", 700)
        assert len(asked) <= 4 * FEEDS + 2


@pytest.mark.parametrize(("long_s", "requests"), [(60.0, 3), (0.0, 8)])
def test_a_list_that_takes_long_is_followed_by_shorter_ones(
    bench: Bench, long_s: float, requests: int
) -> None:
    """2,000 SKUs: 900, 900, 200; or 900, 450, 225, 112 and then 100 at a time."""
    before = len(bench.sandbox.requests)

    Prices(bench.client(), long_s=long_s).quotes("base", [f"S{number}" for number in range(2_000)])

    asked = [served for served in bench.sandbox.requests[before:] if "base-prices" in served.path]
    assert len(asked) == requests


def test_what_the_feeds_name_is_kept_and_written_only_where_it_differs(db: sa.Engine) -> None:
    with Sandbox(products=60, store_views=("default", "de")) as tenant:
        bench = Bench(tenant, db, page_size=300)
        bench.backfill()
        one, other = priced(bench, 2, "cost")
        tenant.prices.set_base(one, 77.77)
        tenant.prices.set_base(one, 55.55, store_id=2)
        tenant.prices.set_special(one, 60, "2026-03-01 00:00:00", "2026-04-01 00:00:00")
        tenant.prices.set_cost(one, 12.345678)
        read(bench)
        before = bench.rows(product_prices)
        tenant.prices.set_base(other, 5)

        read(bench)

    of_one = [row[1:5] for row in rows(bench, product_prices.c.product_id == one)]
    assert sorted((kind, scope, price) for kind, scope, _, price in of_one) == [
        ("base", 0, Decimal("77.77")),
        ("base", 2, Decimal("55.55")),
        ("cost", 0, Decimal("12.345678")),
        ("special", 0, Decimal(60)),
    ]
    special = bench.rows(
        product_prices, product_prices.c.product_id == one, product_prices.c.price_kind == "special"
    )[0]
    assert (f"{special.starts_at:%F}", f"{special.ends_at:%F}") == ("2026-03-01", "2026-04-01")
    changed = {row.product_id for row in bench.rows(product_prices) if row not in before}
    assert changed == {other}


def test_special_prices_costs_and_tier_prices_are_compared_too(loaded: Bench) -> None:
    special, cost, tier, share, ended = priced(loaded, 5, "cost")
    feeds = loaded.sandbox.prices
    feeds.set_special(ended, 3)
    read(loaded)
    feeds.remove_special(ended)
    feeds.set_special(special, 3, starts="2026-01-01 00:00:00")
    feeds.set_cost(cost, 1.5)
    feeds.set_tiers(tier, [tier_price(value=8.5)])
    feeds.set_tiers(share, [tier_price(value=9, percentage=10)])

    summary, asked = read(loaded)

    assert (summary.tally.updated, asked.count(SIMPLE)) == (5, 1)
    loaded.assert_copy_is_exact()
    assert rows(loaded, product_prices.c.product_id == ended, product_prices.c.price_kind == "special") == []
    assert read(loaded)[0].tally.updated == 0


def test_amounts_beyond_what_the_database_holds_refuse_no_product(loaded: Bench) -> None:
    """The product's own note says so; its other prices are read, and the pass has succeeded."""
    base, special, cost, tier, quantity, other = priced(loaded, 6, "cost")[:6]
    feeds = loaded.sandbox.prices
    feeds.set_base(base, 1e25)
    feeds.set_special(special, 1e25)
    feeds.set_cost(cost, 1e25)
    feeds.set_tiers(tier, [tier_price(value=1e25)])
    feeds.set_tiers(quantity, [tier_price(value=8.5) | {"qty": 1e25}])
    feeds.set_special(base, 3)
    feeds.set_base(other, 7)

    first, (again, asked) = read(loaded)[0], read(loaded)

    assert [(it.status, it.exit_code) for it in (first, again)] == [("succeeded", 0)] * 2
    assert (again.tally.updated, asked.count(SIMPLE)) == (0, 0)
    beyond = {(base, "base"), (special, "special"), (cost, "cost")}
    kept = {(row[0], row[1]): row[4] for row in rows(loaded, product_prices.c.scope_id == 0)}
    assert beyond.isdisjoint(kept)
    assert (kept[base, "special"], kept[other, "base"]) == (3, 7)
    assert base in {row.product_id for row in loaded.open_rejections() if row.kind == "altered"}


def tier_price(value: float, percentage: float | None = None) -> dict[str, Any]:
    extension = {"website_id": 0} if percentage is None else {"website_id": 0, "percentage_value": percentage}
    return {"customer_group_id": 1, "qty": 5, "value": value, "extension_attributes": extension}


def test_unchanged_prices_cost_the_feeds_and_nothing_else(loaded: Bench) -> None:
    read(loaded)

    summary, asked = read(loaded)

    assert SIMPLE not in asked
    assert len(asked) <= FEEDS + 1
    assert (summary.tally.fetched, summary.tally.unchanged) == (60, 60)


def scheduled(bench: Bench) -> set[str]:
    """The feeds that a scheduled pass asks."""
    before = len(bench.sandbox.requests)
    assert prices(bench.sync(), is_scheduled=True).status == "succeeded"
    asked = {served.path.removeprefix("/sandbox") for served in bench.sandbox.requests[before:]}
    return {kind for kind, path in PATHS.items() if path in asked}


def test_feeds_that_find_nothing_are_left_out_of_scheduled_passes_until_they_do(loaded: Bench) -> None:
    every, often = set(PATHS), {"base", "special"}
    loaded.sandbox.prices.set_tiers(priced(loaded, 1)[0], [tier_price(value=8.5)])
    read(loaded)  # finds a change in each

    assert [scheduled(loaded) for _ in range(PATIENCE)] == [every] * PATIENCE
    assert [scheduled(loaded) for _ in range(4)] == [often, every] * 2
    for _ in range(MOST_LEFT_OUT * PATIENCE):
        read(loaded)
    assert [scheduled(loaded) for _ in range(4)] == [often] * MOST_LEFT_OUT + [every]

    number = priced(loaded, 1, "cost")[0]
    loaded.sandbox.prices.set_cost(number, 1.25)
    asked = read(loaded)[1]

    assert PATHS["cost"] in [path.removeprefix("/sandbox") for path in asked], "a pass by hand reads all"
    assert (number, "cost", Decimal("1.25")) in [
        (row.product_id, row.price_kind, row.price) for row in loaded.rows(product_prices)
    ]
    assert scheduled(loaded) == every - {"tier"}


def test_each_store_view_is_compared_with_its_own_scope(tenant: Sandbox, sqlite: sa.Engine) -> None:
    """A price of a store view that is not copied changes no document, only a row of product_prices."""
    bench = Bench(tenant, sqlite, store_views=("all", "de"), page_size=300)
    bench.backfill()
    copied, elsewhere = priced(bench, 2)
    read(bench)
    tenant.prices.set_base(copied, 9.5, store_id=2)
    tenant.prices.set_base(elsewhere, 8.5, store_id=1)

    summary, asked = read(bench)

    assert (summary.tally.updated, asked.count(SIMPLE)) == (2, 2)
    assert rows(bench, product_prices.c.product_id == elsewhere, product_prices.c.scope_id == 1) != []
    bench.assert_copy_is_exact()


def test_store_views_that_may_not_be_read_still_get_their_prices(tenant: Sandbox, sqlite: sa.Engine) -> None:
    bench = Bench(tenant, sqlite, store_views=("de",), page_size=300)
    bench.backfill()
    tenant.faults.forbid("store")
    read(bench)
    number = priced(bench, 1)[0]
    tenant.prices.set_base(number, 9.5, store_id=2)

    summary, _ = read(bench)

    assert (summary.status, summary.tally.updated) == ("partial", 1)
    assert "Magento_Backend::store" in (summary.held_back or "")
    bench.assert_copy_is_exact()


def test_store_views_are_taken_from_the_reference_data(tenant: Sandbox, sqlite: sa.Engine) -> None:
    bench = Bench(tenant, sqlite, store_views=("de",), page_size=300)
    bench.backfill()
    with sqlite.begin() as tx:
        tx.execute(store_views.insert().values(store_view_id=2, code="de", website_id=1, is_active=True))

    _, asked = read(bench)

    assert not any("storeViews" in path for path in asked)


# --- what differs by nature ------------------------------------------------------------------


def test_a_price_that_documents_do_not_show_is_read_again_once(loaded: Bench) -> None:
    """The row of a scope that the product does not show, as with a global price scope."""
    number = priced(loaded, 1)[0]
    loaded.execute(f"UPDATE products SET price = 1 WHERE product_id = {number}")  # reconcile would mend it
    first = read(loaded)[1]

    second = read(loaded)[1]

    assert (first.count(SIMPLE), second.count(SIMPLE)) == (1, 0)


def test_tier_prices_that_documents_do_not_show_are_read_again_once(loaded: Bench) -> None:
    number = priced(loaded, 1)[0]
    loaded.execute(
        "INSERT INTO product_tier_prices (store_view, product_id, ordinal, customer_group_id, qty, value,"
        f" website_id) VALUES ('all', {number}, 99, 1, 7, 3, 0)"
    )
    first = read(loaded)[1]

    second = read(loaded)[1]

    assert (first.count(SIMPLE), second.count(SIMPLE)) == (1, 0)


# --- SKUs ------------------------------------------------------------------------------------


def test_odd_skus_get_their_prices(loaded: Bench) -> None:
    odd = ["CUP, blue", "a/b\\c", 'inch 5"', "l'eau", "Größe ÄÖ", "50% & <b>", "tab+plus", "MiXed", "1001"]
    numbers = [loaded.sandbox.catalogue.add(sku=sku, price=1) for sku in odd]
    loaded.run()
    for number in numbers:
        loaded.sandbox.prices.set_base(number, 3.25)

    assert read(loaded)[0].tally.updated == len(odd)
    named = {row[0] for row in rows(loaded, product_prices.c.price == Decimal("3.25"))}
    assert named == set(numbers)


def test_a_sku_that_fails_its_list_is_found_and_its_product_read_again(loaded: Bench) -> None:
    """Deleted since the last run; the other products of its list get their prices."""
    gone, moved = priced(loaded, 2)
    loaded.sandbox.prices.refuses_unknown = True
    loaded.sandbox.catalogue.delete_many([gone])
    loaded.sandbox.prices.set_base(moved, 4242)

    summary, _ = read(loaded)

    assert (summary.status, summary.tally.updated, summary.tally.deleted) == ("succeeded", 1, 1)
    assert rows(loaded, product_prices.c.product_id == gone) == []
    loaded.assert_copy_is_exact()


def test_prices_of_products_that_are_gone_are_pruned(loaded: Bench) -> None:
    read(loaded)
    first, *_, last = priced(loaded, 20)
    loaded.sandbox.catalogue.delete_many([first, last])
    loaded.run()

    read(loaded)

    assert {row[0] for row in rows(loaded)}.isdisjoint({first, last})


# --- what a tenant may refuse ----------------------------------------------------------------


def test_feeds_that_are_refused_are_told_once_and_end_as_partial(loaded: Bench) -> None:
    loaded.sandbox.faults.forbid("prices")

    summary, asked = read(loaded)

    assert (summary.status, summary.exit_code) == ("partial", 1)
    assert len(loaded.watch.held_back) == FEEDS
    assert all("Magento_Catalog" in told for told in loaded.watch.held_back)
    assert len(asked) <= FEEDS * 3


def test_one_feed_that_is_missing_leaves_the_others(loaded: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that this tenant does not have is answered 404."""
    monkeypatch.setitem(PATHS, "cost", "/V1/products/no-such-information")
    number = priced(loaded, 1)[0]
    loaded.sandbox.prices.set_base(number, 4242)

    summary, _ = read(loaded)

    assert (summary.status, summary.tally.updated) == ("partial", 1)
    assert [told.split(" cannot")[0] for told in loaded.watch.held_back] == ["The feed of costs"]


def test_a_credential_that_is_refused_everywhere_is_no_matter_of_a_feed(loaded: Bench) -> None:
    loaded.sandbox.faults.deny(401, kind="prices", times=99)
    loaded.sandbox.faults.deny(401, kind="count", times=99)

    with pytest.raises(AccessDenied):
        read(loaded)


# --- outages and crashes ---------------------------------------------------------------------


def test_an_outage_without_prices_wipes_nothing_and_reads_few_products(
    loaded: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every feed answers with an empty list; twenty products are read again at a time."""
    monkeypatch.setattr(prices_pass, "MOST_AT_ONCE", 20)
    monkeypatch.setattr(prices_pass, "MOST_SKUS", 20)
    read(loaded)
    before = loaded.rows(product_prices)
    monkeypatch.setattr(loaded.sandbox.prices, "information", lambda feed, skus: [])

    summary, asked = read(loaded)

    assert loaded.rows(product_prices) == before
    assert (summary.status, asked.count(SIMPLE)) == ("partial", 1)
    assert "not believed" in (summary.held_back or "")


def test_all_special_prices_may_end_at_once(loaded: Bench) -> None:
    sale = priced(loaded, 30)
    for number in sale:
        loaded.sandbox.prices.set_special(number, 2)
    read(loaded)
    for number in sale:
        loaded.sandbox.prices.remove_special(number)

    summary, _ = read(loaded)

    assert (summary.status, summary.tally.updated) == ("succeeded", 30)
    assert [row for row in rows(loaded, product_prices.c.price_kind == "special") if row[0] in sale] == []


def test_a_crash_before_the_second_reading_forgets_no_product(tenant: Sandbox, tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'crash.db'}") as engine:
        bench = Bench(tenant, engine, page_size=300)
        bench.backfill()
        read(bench)
        tenant.prices.set_base_many(dict.fromkeys(priced(bench, 5), 4242))
        bench.watch = type(bench.watch)(at_page=stop_at(1))  # the chunk is compared, nothing is read again
        with pytest.raises(Stopped):
            read(bench)
        bench.watch.at_page = None

        assert read(bench)[0].tally.updated == 5
        bench.assert_copy_is_exact()


# --- counters and the feed -------------------------------------------------------------------


def test_the_run_counts_what_it_compared_and_what_it_wrote(loaded: Bench) -> None:
    """Each product once: the first rows of most, one document that changed, the rest as it was."""
    loaded.sandbox.prices.set_base(priced(loaded, 1)[0], 4242)
    read(loaded)

    run = loaded.rows(sync_runs, sync_runs.c.kind == "prices")[0]
    with_rows = {row[0] for row in rows(loaded)}

    assert (run.status, run.fetched, run.updated, run.inserted) == ("succeeded", 60, 1, len(with_rows) - 1)
    assert run.unchanged == 60 - run.inserted - 1
    assert {change.kind for change in loaded.changes()[60:]} == {"update"}
    assert len(loaded.changes()) == 61


def test_a_price_of_a_scope_that_is_not_copied_is_counted_and_in_the_feed(loaded: Bench) -> None:
    """No document shows it: the entry names the rows of product_prices that moved."""
    number = priced(loaded, 1, "special-price")[0]
    loaded.sandbox.prices.set_special(number, 5, "2026-01-01 00:00:00")
    read(loaded)
    told = len(loaded.changes())
    loaded.sandbox.prices.set_special(number, 3, "2026-01-01 00:00:00", store_id=2)

    summary, _ = read(loaded)

    assert (summary.tally.updated, summary.tally.unchanged) == (1, 59)
    [entry] = loaded.changes()[told:]
    assert (entry.store_view, entry.product_id, entry.kind) == ("all", number, "update")
    moved = entry.fields["product_prices"]
    assert moved["old"] == []
    assert [(row["price_kind"], row["scope_id"], row["price"]) for row in moved["new"]] == [("special", 2, 3)]
    assert read(loaded)[0].tally.unchanged == 60
    assert len(loaded.changes()) == told + 1


def test_a_product_whose_document_and_other_scopes_moved_is_counted_once(loaded: Bench) -> None:
    read(loaded)
    moved = priced(loaded, 20)
    for number in moved:
        loaded.sandbox.prices.set_base(number, 77)
        loaded.sandbox.prices.set_base(number, 66, store_id=1)

    summary, _ = read(loaded)

    assert (summary.tally.updated, summary.tally.unchanged) == (20, 40)
    assert {row[2] for row in rows(loaded, product_prices.c.product_id.in_(moved))} >= {0, 1}


# --- special prices of several scopes --------------------------------------------------------

YEAR_END, CHRISTMAS, EASTER = (f"{day} 00:00:00" for day in ("2027-01-01", "2026-12-24", "2026-04-05"))


def on_sale(bench: Bench, number: int) -> None:
    """One price, with starts and ends of three scopes, two of them alike: the feed answers nine rows."""
    bench.sandbox.prices.set_special(number, 8, "2026-01-01 00:00:00", YEAR_END)
    for view, starts in (("default", "2026-01-15 00:00:00"), ("de", "2026-06-01 00:00:00")):
        edit = {"special_from_date": starts, "special_to_date": CHRISTMAS}
        bench.sandbox.catalogue.edit(number, store_view=view, touch=False, **edit)


def sales(bench: Bench, number: int) -> dict[int, tuple[str, str]]:
    """The stored special price of a product: start and end by scope."""
    found = bench.rows(
        product_prices, product_prices.c.product_id == number, product_prices.c.price_kind == "special"
    )
    assert len(found) == len({row.scope_id for row in found})
    return {row.scope_id: (f"{row.starts_at:%F}", f"{row.ends_at:%F}") for row in found}


def test_product_prices_holds_the_pairs_that_scopes_have(db: sa.Engine) -> None:
    with Sandbox(products=40, store_views=("default", "de")) as tenant:
        bench = Bench(tenant, db, store_views=("all", "default", "de"), page_size=300)
        number = priced(bench, 1, "special-price")[0]
        on_sale(bench, number)
        assert len(tenant.prices.information("special-price", [tenant.catalogue.sku(number)])) == 9
        bench.backfill()
        read(bench)
        assert sales(bench, number) == {
            0: ("2026-01-01", "2027-01-01"),
            1: ("2026-01-15", "2026-12-24"),
            2: ("2026-06-01", "2026-12-24"),
        }
        tenant.catalogue.edit(number, store_view="de", touch=False, special_to_date=EASTER)

        summary, asked = read(bench)

        assert (summary.tally.updated, asked.count(SIMPLE)) == (1, 3)
        assert sales(bench, number)[2] == ("2026-06-01", "2026-04-05")
        assert bench.changes()[-1].fields.keys() == {"custom_attributes[special_to_date]"}
        assert SIMPLE not in read(bench)[1]
        assert bench.reconcile().tally.updated == 0


def test_an_end_that_moves_to_one_that_another_scope_has_is_found(tenant: Sandbox, sqlite: sa.Engine) -> None:
    """The feed names the same prices and dates as before; only how often differs."""
    bench = Bench(tenant, sqlite, store_views=("all", "default", "de"), page_size=300)
    number = priced(bench, 1, "special-price")[0]
    on_sale(bench, number)
    tenant.catalogue.edit(number, store_view="de", touch=False, special_to_date=EASTER)
    bench.backfill()
    read(bench)
    tenant.catalogue.edit(number, store_view="de", touch=False, special_to_date=CHRISTMAS)

    assert read(bench)[0].tally.updated == 1
    assert sales(bench, number)[2] == ("2026-06-01", "2026-12-24")
    bench.assert_copy_is_exact()


def test_dates_of_scopes_that_are_not_copied_are_no_pairs_of_those_that_are(loaded: Bench) -> None:
    """Only `all` is copied: its pair is kept, and the dates of the others with no price."""
    number = priced(loaded, 1, "special-price")[0]
    on_sale(loaded, number)

    first, second = read(loaded)[0], read(loaded)[1]

    assert (first.tally.updated, SIMPLE in second) == (1, False)
    assert sales(loaded, number) == {0: ("2026-01-01", "2027-01-01")}


def test_a_copy_of_an_older_version_loses_the_pairs_that_no_scope_has(loaded: Bench) -> None:
    number = priced(loaded, 1, "special-price")[0]
    on_sale(loaded, number)
    read(loaded)
    loaded.execute("DELETE FROM sync_price_answers")
    wrong = loaded.rows(product_prices, product_prices.c.product_id == number)[-1]._asdict()
    with loaded.db.begin() as tx:
        tx.execute(product_prices.insert().values(wrong | {"starts_at": datetime(2026, 6, 1, tzinfo=UTC)}))

    summary, _ = read(loaded)

    assert summary.tally.updated == 1
    assert sales(loaded, number) == {0: ("2026-01-01", "2027-01-01")}


# --- product_prices and the products say the same --------------------------------------------


@pytest.mark.parametrize("by", ["run", "reconcile", "run_named", "backfill"])
def test_a_product_that_is_read_again_has_its_prices_in_product_prices(
    tenant: Sandbox, sqlite: sa.Engine, by: str
) -> None:
    bench = Bench(tenant, sqlite, store_views=("all", "de"), page_size=300)
    number, other = priced(bench, 2, "cost")
    bench.backfill()
    read(bench)
    before = rows(bench, product_prices.c.product_id == other)
    tenant.catalogue.edit(
        number, price=99.5, special_price="9.500000", special_from_date="2026-03-01 00:00:00", cost="4.000000"
    )
    tenant.catalogue.edit(number, store_view="de", special_to_date=EASTER)

    passes = {
        "run_named": lambda: bench.run_named(ids=[number]),
        "backfill": lambda: bench.backfill(restart=True),
    }
    (passes.get(by) or getattr(bench, by))()

    assert {
        (kind, scope, price, ends is not None)
        for _, kind, scope, _, price, ends in rows(bench, product_prices.c.product_id == number)
    } >= {
        ("base", 0, Decimal("99.5"), False),
        ("special", 0, Decimal("9.5"), False),
        ("special", 2, Decimal("9.5"), True),
        ("cost", 0, Decimal(4), False),
    }
    assert rows(bench, product_prices.c.product_id == other) == before
    assert read(bench)[0].tally.updated == 0


def test_a_product_that_loses_its_special_price_or_is_deleted_has_no_row_of_it(loaded: Bench) -> None:
    ended, gone = priced(loaded, 2, "special-price")
    for number in (ended, gone):
        loaded.sandbox.prices.set_special(number, 2)
    read(loaded)
    loaded.sandbox.catalogue.edit(ended, special_price=None)
    loaded.sandbox.catalogue.delete(gone)

    loaded.run()

    assert sales_rows(loaded, ended) == []
    assert rows(loaded, product_prices.c.product_id == gone) == []


def sales_rows(bench: Bench, number: int) -> list[tuple[Any, ...]]:
    return rows(bench, product_prices.c.product_id == number, product_prices.c.price_kind == "special")


def test_a_new_product_has_its_prices_with_the_run_that_brings_it(loaded: Bench) -> None:
    read(loaded)
    number = loaded.sandbox.catalogue.add(sku="NEW", price=12.5)

    loaded.run()

    assert [row[1:3] + row[4:5] for row in rows(loaded, product_prices.c.product_id == number)] == [
        ("base", 0, Decimal("12.5"))
    ]


def test_a_first_load_writes_no_prices(loaded: Bench) -> None:
    """They come with the first `prices`."""
    assert rows(loaded) == []


def test_a_store_view_that_was_away_is_compared_again(tenant: Sandbox, sqlite: sa.Engine) -> None:
    """While it was not copied its price moved, and the feed named the new one already."""
    bench = Bench(tenant, sqlite, store_views=("all", "de"), page_size=300)
    bench.backfill()
    read(bench)
    bench.store_views = ("all",)
    tenant.prices.set_base(priced(bench, 1)[0], 9.5, store_id=2)
    read(bench)
    bench.store_views = ("all", "de")

    assert read(bench)[0].tally.updated == 1
    bench.assert_copy_is_exact()


def test_a_store_view_that_is_lost_on_the_way_leaves_the_prices_of_the_others(
    tenant: Sandbox, sqlite: sa.Engine
) -> None:
    """The reference data still has it."""
    bench = Bench(tenant, sqlite, store_views=("all", "de"), page_size=300)
    bench.backfill()
    with sqlite.begin() as tx:
        tx.execute(store_views.insert().values(store_view_id=2, code="de", website_id=1, is_active=True))
    tenant.faults.drop_store_view("de")
    number = priced(bench, 1)[0]
    tenant.prices.set_base(number, 9.5)

    assert read(bench)[0].status == "partial"
    of_all = (product_prices.c.product_id == number, product_prices.c.scope_id == 0)
    assert rows(bench, *of_all)[0][4] == Decimal("9.5")


def test_an_empty_copy_is_no_error(bench: Bench) -> None:
    summary, asked = read(bench)

    assert (summary.status, summary.tally.fetched, asked) == ("succeeded", 0, [])


# --- a firewall -----------------------------------------------------------------------------

BLOCKS = [
    {"status": 403},
    {"status": 403, "body": {"error": "blocked by policy"}},
    {"status": 405},
    {"status": 406},
    {"status": 406, "body": {"message": "Not Acceptable"}},
    {"status": 413},
    {"status": 400},
    {"status": 404},
    {"status": 200, "body": "<html>The requested URL was rejected</html>", "content_type": "text/html"},
]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_firewall_that_refuses_one_sku_costs_that_sku_alone(loaded: Bench, block: dict[str, Any]) -> None:
    broken, *others = priced(loaded, 5)
    loaded.sandbox.catalogue.edit(broken, sku="' OR 1=1 --")
    loaded.run_named(ids=[broken])
    loaded.sandbox.prices.set_base_many(dict.fromkeys(others, 77.5))
    loaded.sandbox.faults.firewall("OR 1=1", **block)

    summary, _ = read(loaded)

    assert summary.exit_code == 1
    assert "' OR 1=1 --" in str(summary.held_back)
    assert "feed of" not in str(summary.held_back)
    assert {loaded.live()[number]["price"] for number in others} == {77.5}
    assert {*others, broken} - {row[0] for row in rows(loaded)} == {broken}
    loaded.sandbox.faults.clear()
    assert read(loaded)[0].exit_code == 0


def test_a_firewall_that_refuses_all_lists_closes_the_feeds_after_few_requests(loaded: Bench) -> None:
    loaded.sandbox.faults.firewall("-information")

    summary, paths = read(loaded)

    assert all(kind in str(summary.held_back) for kind in ("base prices", "costs", "special", "tier prices"))
    assert (summary.exit_code, str(summary.held_back).count("feed of")) == (1, FEEDS)
    assert sum("-information" in path for path in paths) <= FEEDS * 7


def test_a_list_that_a_firewall_refuses_is_halved_without_waiting(loaded: Bench) -> None:
    """One SKU of 60 in each of four feeds: six halvings, each asked once and proven by an empty list."""
    broken = priced(loaded, 1)[0]
    loaded.sandbox.catalogue.edit(broken, sku="' OR 1=1 --")
    loaded.run_named(ids=[broken])
    read(loaded)
    loaded.sandbox.faults.firewall("OR 1=1")

    _, paths = read(loaded)

    assert sum("-information" in path for path in paths) <= FEEDS * 3 * 7
