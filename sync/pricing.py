"""Prices as the feeds name them, as products carry them, and as `product_prices` keeps them. Pure.

A store view shows the price of its own scope, or the default one where it has none. Prices are compared as
they are stored here, to the sixth decimal.

The feed of special prices answers every price with every start and every end of any scope, so it does not
tell which dates belong to which price. The products do: what they carry is kept for the scopes of the copied
store views, in place of what a feed names. Of other scopes only a price that is named once is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Final

from sync.commerce.decoding import is_storable
from sync.commerce.prices import EVERY_GROUP, PriceKind, Quote, Tier, price_time
from sync.db.dialects import MICRO
from sync.db.prices import EPOCH, Carried, PriceRow, TierRow

ROW_KINDS: Final[tuple[PriceKind, ...]] = ("base", "special", "cost")  # those that `product_prices` keeps
DEFAULT_SCOPE: Final = 0
EVERY_GROUP_ID: Final = 32_000
_SIMPLE: Final = frozenset({"simple", "virtual", "downloadable"})
# Types of products that a feed speaks of: that it names no price of another type says nothing.
SPOKEN_OF: Final[Mapping[PriceKind, frozenset[str]]] = {
    "base": _SIMPLE | {"bundle"},
    "special": _SIMPLE | {"bundle"},
    "tier": _SIMPLE | {"bundle"},
    "cost": _SIMPLE,
}


@dataclass(frozen=True, slots=True)
class Scope:
    """A store view as prices know it: its id, and its website; None for the admin scope, which shows all."""

    scope_id: int
    website_id: int | None


Shown = list[tuple[Scope, Carried]]


def shown_in(
    product_id: int, scopes: Mapping[str, Scope], carried: Mapping[str, Mapping[int, Carried]]
) -> Shown:
    """What the copy has of a product, in the order of the scopes.

    scopes, carried    by store view; one without a scope cannot be told apart
    """
    found = [
        (scope, carried[view][product_id])
        for view, scope in scopes.items()
        if product_id in carried.get(view, {})
    ]
    return sorted(found, key=lambda pair: pair[0].scope_id)


def price_rows(quotes: Iterable[Quote]) -> list[PriceRow]:
    """What a feed named for a product, one row for each quote."""
    return [
        PriceRow(quote.scope_id, quote.starts_at or EPOCH, quote.price.quantize(MICRO), quote.ends_at)
        for quote in quotes
    ]


def is_certain(named: Iterable[PriceRow]) -> bool:
    """Whether a feed named one price for each scope, so that its dates are those of that scope."""
    rows = set(named)
    return len({row.scope_id for row in rows}) == len(rows)


def kept_rows(kind: PriceKind, named: Iterable[PriceRow], shown: Shown) -> set[PriceRow]:
    """The rows that `product_prices` keeps: those named, where the product does not carry something else.

    A store view has a row of its own only where it shows another price than the default one.
    """
    rows = set(named)
    if not is_certain(rows):
        rows = set()
    for scope, carried in shown:
        if scope.scope_id == DEFAULT_SCOPE and agrees(kind, rows, carried, scope):
            continue
        rows = {row for row in rows if row.scope_id != scope.scope_id}
        if not agrees(kind, rows, carried, scope):
            rows |= _carried_rows(kind, carried, scope.scope_id)
    return rows


def _carried_rows(kind: PriceKind, carried: Carried, scope_id: int) -> set[PriceRow]:
    """The price that a product carries, as a row of this scope; none where it has no such price."""
    if kind == "special":
        price = amount(carried.attributes.get("special_price"))
        return set() if price is None else {PriceRow(scope_id, _begins(carried), price, _ends(carried))}
    price = _fixed_price(kind, carried)
    return set() if price is None else {PriceRow(scope_id, EPOCH, price, None)}


def agrees(kind: PriceKind, rows: Iterable[PriceRow], carried: Carried, scope: Scope) -> bool:
    """Whether a product carries, in a store view, a price that the rows name for it.

    No base price and a base price of zero are the same: a configurable product shows 0 and has none.
    """
    valid = _in_force(rows, scope.scope_id)
    if not valid and carried.type_id not in SPOKEN_OF[kind]:
        return True
    if kind == "special":
        return _agrees_special(valid, carried)
    price = _fixed_price(kind, carried)
    if not valid:
        return not price
    return any((price or 0) == row.price for row in valid)


def _fixed_price(kind: PriceKind, carried: Carried) -> Decimal | None:
    return carried.price if kind == "base" else amount(carried.attributes.get("cost"))


def _agrees_special(valid: Iterable[PriceRow], carried: Carried) -> bool:
    """The dates too, but only where there is a price: what is left of an earlier one means nothing."""
    price = amount(carried.attributes.get("special_price"))
    if not valid or price is None:
        return not valid and price is None
    expected = (price, _begins(carried), _ends(carried))
    return any((row.price, row.starts_at, row.ends_at) == expected for row in valid)


def _begins(carried: Carried) -> datetime:
    return price_time(carried.attributes.get("special_from_date")) or EPOCH


def _ends(carried: Carried) -> datetime | None:
    return price_time(carried.attributes.get("special_to_date"))


def _in_force(rows: Iterable[PriceRow], scope_id: int) -> list[PriceRow]:
    """The rows of a scope, or the default ones where it has none."""
    known = list(rows)
    own = [row for row in known if row.scope_id == scope_id]
    return own or [row for row in known if row.scope_id == DEFAULT_SCOPE]


def agrees_tiers(
    tiers: Iterable[Tier], carried: Carried, scope: Scope, groups: Mapping[str, int] | None
) -> bool:
    """Whether a product carries, in a store view, the tier prices that the feed names for it.

    groups    customer groups by name; None where they may not be read: then they are not compared
    """
    websites = None if scope.website_id is None else {DEFAULT_SCOPE, scope.website_id}
    named = (
        (
            _group(tier.group, groups),
            tier.website_id,
            tier.qty.quantize(MICRO),
            tier.is_share,
            tier.price.quantize(MICRO),
        )
        for tier in tiers
        if websites is None or tier.website_id in websites
    )
    expected = Counter(named)
    if not expected and carried.type_id not in SPOKEN_OF["tier"]:
        return True
    return expected == Counter(_carried_tier(row, groups) for row in carried.tiers)


def _carried_tier(row: TierRow, groups: Mapping[str, int] | None) -> tuple[object, ...]:
    is_share = row.percentage_value is not None
    price = row.percentage_value if row.percentage_value is not None else row.value
    group = row.customer_group_id if groups is not None else row.customer_group_id == EVERY_GROUP_ID
    return group, row.website_id or DEFAULT_SCOPE, row.qty, is_share, price


def _group(name: str, groups: Mapping[str, int] | None) -> object:
    if groups is None:
        return name == EVERY_GROUP
    return EVERY_GROUP_ID if name == EVERY_GROUP else groups.get(name, name)


def digest(named: Iterable[PriceRow | Tier]) -> str:
    """The same for the same prices, in whatever order the feed names them; how often counts."""
    return sha256(repr(sorted(map(repr, named))).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def amount(text: str | None) -> Decimal | None:
    """An attribute's value as an amount; None for what is none."""
    try:
        number = Decimal(text or "")
    except InvalidOperation:
        return None
    return number.quantize(MICRO) if is_storable(number) else None
