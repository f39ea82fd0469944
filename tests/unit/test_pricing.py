"""Whether a product carries the prices that the feeds name: by scope, dates, types and groups."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.commerce.prices import EVERY_GROUP, PriceKind, Quote, Tier, by_product
from sync.db.prices import EPOCH, Carried, TierRow
from sync.pricing import (
    EVERY_GROUP_ID,
    Scope,
    agrees,
    agrees_tiers,
    amount,
    digest,
    is_certain,
    kept_rows,
    price_rows,
)

ADMIN, DE = Scope(0, None), Scope(2, 1)
GROUPS = {"General": 1, "Wholesale": 2}


def quote(price: str, scope_id: int = 0, starts: datetime | None = None, sku: str = "A") -> Quote:
    return Quote(sku, scope_id, Decimal(price), starts)


def tier(group: str = "General", price: str = "9", website_id: int = 0, *, share: bool = False) -> Tier:
    return Tier("A", website_id, group, Decimal(5), Decimal(price), share)


def carried(price: str | None = None, type_id: str = "simple", **attributes: str | None) -> Carried:
    return Carried("A", type_id, None if price is None else Decimal(price), attributes)


def with_tier(group_id: int = 1, value: str = "9", percentage: str | None = None) -> Carried:
    share = None if percentage is None else Decimal(percentage)
    return Carried("A", "simple", None, {}, [TierRow(group_id, 0, Decimal(5), Decimal(value), share)])


def base(quotes: list[Quote], product: Carried, scope: Scope) -> bool:
    return agrees("base", price_rows(quotes), product, scope)


def test_a_store_view_shows_its_own_price_or_the_default_one() -> None:
    both = [quote("77.77"), quote("55.55", scope_id=2)]

    assert base(both, carried("77.77"), ADMIN)
    assert base(both, carried("55.55"), DE)
    assert not base(both, carried("77.77"), DE)
    assert base(both[:1], carried("77.77"), DE)


@pytest.mark.parametrize("price", [None, "0", "0.000000"])
def test_no_base_price_and_one_of_zero_are_the_same(price: str | None) -> None:
    assert base([], carried(price), ADMIN)
    assert base([quote("0")], carried(price), ADMIN)
    assert not base([], carried("5"), ADMIN)


def test_that_a_feed_does_not_speak_of_a_type_says_nothing() -> None:
    assert base([], carried("5", "configurable"), ADMIN)
    assert not base([quote("6")], carried("5", "configurable"), ADMIN)
    assert agrees("cost", set(), carried(type_id="bundle", cost="5"), ADMIN)


def test_a_special_price_agrees_with_one_of_those_listed_for_it() -> None:
    """Commerce lists one price with every beginning of any scope."""
    listed = price_rows([quote("89.95", starts=datetime(2026, m, 1, tzinfo=UTC)) for m in (1, 11)])
    shown = carried(special_price="89.950000", special_from_date="2026-01-01 00:00:00")
    later = carried(special_price="89.950000", special_from_date="2026-02-01 00:00:00")

    assert agrees("special", listed, shown, ADMIN)
    assert not agrees("special", listed, later, ADMIN)


DATES = st.one_of(st.none(), st.sampled_from([datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3)]))
SALES = st.tuples(st.sampled_from([Decimal(8), Decimal(9)]), DATES, DATES)


@given(
    st.fixed_dictionaries({0: SALES, 1: SALES, 2: SALES}), st.sets(st.sampled_from([0, 1, 2])), st.booleans()
)
def test_special_prices_are_kept_in_pairs_that_scopes_have(
    sales: dict[int, tuple[Decimal, datetime | None, datetime | None]], copied: set[int], again: bool
) -> None:
    """Whatever a feed makes of three scopes, each that is copied has its own pair, also when kept again."""
    prices, starts, ends = (_own(sales, i) for i in range(3))
    quotes = [
        Quote("A", scope, price, start, end)
        for scope, price in prices
        for _, start in starts or [(0, None)]
        for _, end in ends or [(0, None)]
    ]
    shown = [(Scope(scope, scope), on_sale(*sales[scope])) for scope in sorted(copied)]

    rows = kept_rows("special", price_rows(quotes), shown)
    rows = kept_rows("special", rows, shown) if again else rows

    assert len({row.scope_id for row in rows}) == len(rows)
    by_scope = {row.scope_id: (row.price, row.starts_at, row.ends_at) for row in rows}
    for scope in copied:
        price, start, end = sales[scope]
        assert by_scope.get(scope, by_scope.get(0)) == (price, start or EPOCH, end)
    if not is_certain(price_rows(quotes)):
        assert by_scope.keys() <= copied


def _own(sales: Mapping[int, tuple[Any, ...]], i: int) -> list[tuple[int, Any]]:
    """Values by scope as a feed finds them: those that are there, and are not the default one."""
    return [(scope, of[i]) for scope, of in sales.items() if of[i] and (scope == 0 or of[i] != sales[0][i])]


def on_sale(price: Decimal, start: datetime | None, end: datetime | None) -> Carried:
    dates = {"special_from_date": start, "special_to_date": end}
    shown = {name: None if at is None else f"{at:%F %T}" for name, at in dates.items()}
    return Carried("A", "simple", None, {"special_price": str(price), **shown})


def test_a_store_view_that_shows_the_default_price_needs_no_row() -> None:
    named = price_rows([quote("5"), quote("6", scope_id=2)])

    assert kept_rows("base", named, [(ADMIN, carried("6")), (DE, carried("6"))]) == set(
        price_rows([quote("6")])
    )


def test_the_price_of_a_scope_that_is_not_copied_stays_as_named() -> None:
    elsewhere = price_rows([quote("7", scope_id=1)])[0]

    assert elsewhere in kept_rows("base", [*price_rows([quote("5")]), elsewhere], [(ADMIN, carried("6"))])


def test_dates_without_a_special_price_mean_nothing() -> None:
    left_over = carried(special_price=None, special_from_date="2026-01-01 00:00:00")

    assert agrees("special", set(), left_over, ADMIN)


@pytest.mark.parametrize(
    ("named", "product", "is_same"),
    [
        (tier("General"), with_tier(1), True),
        (tier("Wholesale"), with_tier(1), False),
        (tier("Unheard of"), with_tier(1), False),
        (tier(EVERY_GROUP), with_tier(EVERY_GROUP_ID), True),
        (tier(price="10", share=True), with_tier(value="4.5", percentage="10"), True),
        (tier(price="10", share=True), with_tier(value="10"), False),
        (tier(website_id=1), with_tier(), False),
    ],
)
def test_tier_prices_are_compared_by_group_website_and_kind(
    named: Tier, product: Carried, is_same: bool
) -> None:
    assert agrees_tiers([named], product, ADMIN, GROUPS) == is_same


def test_customer_groups_that_may_not_be_read_are_not_compared() -> None:
    assert agrees_tiers([tier("Wholesale")], with_tier(1), ADMIN, None)
    assert not agrees_tiers([tier(EVERY_GROUP)], with_tier(1), ADMIN, None)


def test_a_store_view_shows_the_tier_prices_of_its_website() -> None:
    elsewhere = tier(website_id=7)

    assert agrees_tiers([tier(), elsewhere], with_tier(), DE, GROUPS)
    assert not agrees_tiers([tier(), elsewhere], with_tier(), ADMIN, GROUPS)


def test_a_digest_does_not_depend_on_the_order() -> None:
    assert digest([tier(), tier("Wholesale")]) == digest([tier("Wholesale"), tier()])
    assert digest([tier()]) != digest([tier(price="9.5")])


def test_rows_find_their_products_by_sku_as_commerce_compares_it() -> None:
    products = [(1, "abc "), (2, "ABC-2"), (3, "x"), (4, "X")]

    found = by_product([quote("1", sku=sku) for sku in ("ABC", "abc-2", "x", "unknown")], products)

    assert {product_id: len(rows) for product_id, rows in found.items()} == {1: 1, 2: 1, 3: 1}


def test_of_two_prices_for_one_scope_the_one_is_kept_that_the_product_carries() -> None:
    named = price_rows([quote("1"), quote("2")])

    assert {row.price for row in kept_rows("base", named, [(ADMIN, carried("2"))])} == {Decimal(2)}
    assert kept_rows("base", named, []) == set()


@pytest.mark.parametrize("text", [None, "", "a lot", "NaN", "1e20", "-1e999999999"])
def test_what_is_no_amount_is_none(text: str | None) -> None:
    assert amount(text) is None


@pytest.mark.parametrize("kind", ["base", "cost"])
def test_prices_agree_to_the_sixth_decimal(kind: PriceKind) -> None:
    product = carried("12.345678", cost="12.345678")

    assert agrees(kind, price_rows([quote("12.3456781")]), product, ADMIN)
    assert not agrees(kind, price_rows([quote("12.345679")]), product, ADMIN)
