"""The light price feeds: base, special and tier prices and costs of up to 300 SKUs an answer.

    POST /V1/products/{base-prices,special-price,tier-prices,cost}-information    {"skus": ["…", …]}

They only read. Prices are as stored, a row for each scope that has one; a scope is a store view's id, 0 that
of the default values. Observed on Magento 2.4.7: an unknown SKU is left out of the answer, a special price
comes once for every `price_from` of any scope. Elsewhere an unknown SKU may fail the whole list: then it is
halved until that SKU is alone. A firewall that refuses a list for one of its SKUs is met in the same way; the
API's own refusal, and one of every list, closes the feed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import msgspec

from sync.commerce.client import Answer, Client
from sync.commerce.decoding import Integer, decoded, is_storable
from sync.commerce.error_bodies import clean
from sync.commerce.retry import ListTooLong
from sync.errors import (
    AccessDenied,
    AnswerUnreadable,
    CommerceError,
    PageFailed,
    RequestBlocked,
    RequestRefused,
    SettingsError,
)

PriceKind = Literal["base", "special", "cost", "tier"]
KINDS: Final[tuple[PriceKind, ...]] = ("base", "special", "cost", "tier")
PATHS: Final[dict[PriceKind, str]] = {
    "base": "/V1/products/base-prices-information",
    "special": "/V1/products/special-price-information",
    "cost": "/V1/products/cost-information",
    "tier": "/V1/products/tier-prices-information",
}
GROUPS_PATH: Final = "/V1/customerGroups/search"
MOST_SKUS: Final = 300
MOST_IN_A_ROW: Final = 50  # SKUs next to each other that are refused: more is no matter of SKUs
MOST_GROUPS: Final = 300
EVERY_GROUP: Final = "all groups"
SCOPE: Final = "all"

R = TypeVar("R", bound="Quote | Tier")


class Quote(NamedTuple):
    """A base price, a special price or a cost, as one scope has it; a time is None where there is none."""

    sku: str
    scope_id: int
    price: Decimal
    starts_at: datetime | None = None
    ends_at: datetime | None = None


class Tier(NamedTuple):
    """A tier price: an amount, or a share in percent."""

    sku: str
    website_id: int
    group: str
    qty: Decimal
    price: Decimal
    is_share: bool


@dataclass(slots=True)
class Told(Generic[R]):
    """What a feed said about some SKUs, and about which it would say nothing.

    refused    by SKU, the reason
    """

    rows: list[R] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


class FeedClosed(Exception):
    """This tenant does not answer one of the feeds at all; `cause` is what it says instead."""

    def __init__(self, kind: PriceKind, cause: CommerceError | SettingsError) -> None:
        super().__init__(str(cause))
        self.kind = kind
        self.cause = cause


class _Named(msgspec.Struct):
    sku: str | int


class _Row(_Named):
    price: Decimal | None = None
    cost: Decimal | None = None
    store_id: Integer = 0
    price_from: str | None = None
    price_to: str | None = None
    website_id: Integer = 0
    customer_group: str = EVERY_GROUP
    quantity: Decimal = Decimal(1)
    price_type: str = "fixed"

    def __post_init__(self) -> None:
        if not all(is_storable(number) for number in (self.amount or Decimal(0), self.quantity)):
            raise ValueError("Beyond numeric(20,6)")

    @property
    def amount(self) -> Decimal | None:
        return self.price if self.price is not None else self.cost


class _Answered(NamedTuple):
    """The rows of an answer; of SKUs with a row that makes no sense, why.

    unusable    by SKU, the reason
    """

    rows: list[_Row]
    unusable: dict[str, str]


class _Group(msgspec.Struct):
    id: int
    code: str


class _Groups(msgspec.Struct):
    items: list[_Group]


_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_ROW = msgspec.json.Decoder(_Row, strict=False)
_NAMED = msgspec.json.Decoder(_Named)
_GROUPS = msgspec.json.Decoder(_Groups)


class Prices:
    """The four feeds. One object serves all threads of a pass: they share what they learn of each feed.

    Every method raises what `Client.get` raises, but for a feed that is closed: FeedClosed.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._first = threading.Lock()
        self._feeds = {kind: _Feed() for kind in KINDS}

    def quotes(self, kind: PriceKind, skus: Sequence[str]) -> Told[Quote]:
        """The prices of this kind, not tier prices, that these SKUs have; `rows` keep Commerce's order."""
        return self._read(kind, skus, _quote)

    def tiers(self, skus: Sequence[str]) -> Told[Tier]:
        """The tier prices that these SKUs have."""
        return self._read("tier", skus, _tier)

    def groups(self) -> dict[str, int]:
        """Customer groups by name, which is all that the feed of tier prices says of them."""
        params = [
            ("searchCriteria[pageSize]", str(MOST_GROUPS)),
            ("searchCriteria[currentPage]", "1"),
        ]
        found = self._client.get(
            GROUPS_PATH, params, SCOPE, lambda answer: decoded(_GROUPS, answer.body, "groups")
        )
        return {group.code: group.id for group in found.items}

    # --- asking -------------------------------------------------------------------------------

    def _read(self, kind: PriceKind, skus: Sequence[str], made: Callable[[_Row, Decimal], R]) -> Told[R]:
        """Whether a feed is open at all, one thread finds out, with its first list."""
        feed = self._feeds[kind]
        if feed.is_open is None:
            with self._first:
                if feed.is_open is None:
                    return self._told(kind, skus, made)
        return self._told(kind, skus, made)

    def _told(self, kind: PriceKind, skus: Sequence[str], made: Callable[[_Row, Decimal], R]) -> Told[R]:
        told: Told[R] = Told()
        rest = list(skus)
        while rest:
            size = self._feeds[kind].size
            self._ask(kind, rest[:size], made, told)
            rest = rest[size:]
        return told

    def _ask(
        self, kind: PriceKind, skus: Sequence[str], made: Callable[[_Row, Decimal], R], told: Told[R]
    ) -> None:
        """Ask for a list, or for its halves when it is refused; a single SKU that is refused is noted."""
        feed = self._feeds[kind]
        if feed.closed is not None:
            raise FeedClosed(kind, feed.closed)
        try:
            answered = self._rows(kind, skus)
        except ListTooLong as error:
            feed.size = max(1, min(error.maximum, len(skus) - 1))
            rest = self._told(kind, skus, made) if len(skus) > 1 else Told(refused={skus[0]: str(error)})
            told.rows += rest.rows
            told.refused |= rest.refused
        except (RequestBlocked, RequestRefused, SettingsError, PageFailed) as error:
            self._make_sure(kind, error)
            if len(skus) == 1:
                self._note_refused(kind, skus[0], error, told)
                return
            half = len(skus) // 2
            for part in (skus[:half], skus[half:]):
                self._ask(kind, part, made, told)
        except AccessDenied as error:
            raise self._close(kind, error) from None
        else:
            feed.answered()
            told.rows += [made(row, row.amount) for row in answered.rows if row.amount is not None]
            told.refused |= answered.unusable

    def _rows(self, kind: PriceKind, skus: Sequence[str], *, patient: bool = False) -> _Answered:
        asked = {folded(sku): sku for sku in skus}

        def reader(answer: Answer) -> _Answered:
            sent = decoded(_ROWS, answer.body, f"{kind} prices")
            rows, unusable = _understood(sent)
            ours = [row for row in rows if folded(str(row.sku)) in asked]
            told = {asked[sku]: reason for sku, reason in unusable.items() if sku in asked}
            if sent and not ours and not told:
                raise AnswerUnreadable(f"Commerce sent {kind} prices of other SKUs than were asked for.")
            return _Answered(ours, told)

        return self._client.post_query(PATHS[kind], {"skus": list(skus)}, SCOPE, reader, patient=patient)

    def _make_sure(self, kind: PriceKind, error: CommerceError | SettingsError) -> None:
        """Raise FeedClosed when it is not a matter of SKUs; wait for a tenant that is down."""
        feed = self._feeds[kind]
        if feed.is_open and not isinstance(error, PageFailed | RequestBlocked):
            return
        try:
            self._rows(kind, [], patient=True)
        except (RequestRefused, SettingsError, AccessDenied):
            raise self._close(kind, error) from None
        feed.is_open = True

    def _note_refused(
        self, kind: PriceKind, sku: str, error: CommerceError | SettingsError, told: Told[R]
    ) -> None:
        told.refused[sku] = str(error)
        if self._feeds[kind].refused() > MOST_IN_A_ROW:
            raise self._close(kind, error)

    def _close(self, kind: PriceKind, error: CommerceError | SettingsError) -> FeedClosed:
        self._feeds[kind].closed = error
        self._feeds[kind].is_open = False
        return FeedClosed(kind, error)


def _understood(sent: Iterable[msgspec.Raw]) -> tuple[list[_Row], dict[str, str]]:
    """Rows, and by folded SKU what is wrong with one; AnswerUnreadable where a row does not even name it."""
    rows, unusable = [], {}
    for raw in sent:
        try:
            rows.append(_ROW.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            named = decoded(_NAMED, raw, "prices")
            unusable[folded(str(named.sku))] = f"a row makes no sense: {clean(str(wrong))}."
    return rows, unusable


@dataclass(slots=True)
class _Feed:
    """What is known of a feed.

    is_open     None until it was asked
    size        SKUs a request
    in_a_row    SKUs refused one after the other
    """

    is_open: bool | None = None
    closed: CommerceError | SettingsError | None = None
    size: int = MOST_SKUS
    in_a_row: int = 0

    def answered(self) -> None:
        self.is_open = True
        self.in_a_row = 0

    def refused(self) -> int:
        self.in_a_row += 1
        return self.in_a_row


def folded(sku: str) -> str:
    """What Commerce compares when it looks for a SKU here: neither case nor the blanks around it.

    Not `collation.collated`, which is how its database compares: here accents count.
    """
    return sku.strip().lower()


def by_product(rows: Iterable[R], products: Collection[tuple[int, str]]) -> dict[int, list[R]]:
    """Rows by the ids of the products that carry their SKU: as written, else as Commerce compares it."""
    exactly: dict[str, list[int]] = {}
    loosely: dict[str, list[int]] = {}
    for product_id, sku in products:
        exactly.setdefault(sku, []).append(product_id)
        loosely.setdefault(folded(sku), []).append(product_id)
    found: dict[int, list[R]] = {}
    for row in rows:
        for product_id in exactly.get(row.sku) or loosely.get(folded(row.sku)) or ():
            found.setdefault(product_id, []).append(row)
    return found


def price_time(text: str | None) -> datetime | None:
    """A time as prices carry it, `2026-01-01 00:00:00` or a date alone; None for none and for the zero date.

    >>> price_time("2026-01-01")
    datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    try:
        moment = datetime.fromisoformat((text or "").strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _quote(row: _Row, price: Decimal) -> Quote:
    return Quote(str(row.sku), row.store_id, price, price_time(row.price_from), price_time(row.price_to))


def _tier(row: _Row, price: Decimal) -> Tier:
    is_share = row.price_type == "discount"
    return Tier(str(row.sku), row.website_id, row.customer_group, row.quantity, price, is_share)
