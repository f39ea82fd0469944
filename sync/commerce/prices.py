"""The light price feeds: base, special and tier prices and costs of up to 900 SKUs an answer.

    POST /V1/products/{base-prices,special-price,tier-prices,cost}-information    {"skus": ["…", …]}

They are read-only. Prices are as stored, a row for each scope that has one; a scope is a store view's id, 0
for the default values. Observed on Magento 2.4.7: an unknown SKU is missing from the answer, a special price
is listed once for every `price_from` of any scope. Elsewhere an unknown SKU may fail the whole list, which is
then halved until that SKU is alone; likewise when a firewall refuses a list because of one SKU. When the API
refuses, or every list is refused, the feed is closed.

Why 900: at 300 SKUs special prices take 341 µs a SKU, tier prices 156, costs 175; at 900 they take 52, 76 and
83, base prices 470 at any size (Magento 2.4.7). Beyond 1,000, Magento forgets the ids that it looked up
(`idsLimit` in module-catalog's etc/di.xml) and asks its database again for each price. After an answer that
takes long, lists are shorter.
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
MOST_SKUS: Final = 900
LONG_S: Final = 5.0  # an answer that takes longer: the next lists have half the SKUs
FEWEST_SKUS: Final = 100
MOST_IN_A_ROW: Final = 50  # refused SKUs in a row: after more, the SKUs are not the cause
MOST_GROUPS: Final = 300
EVERY_GROUP: Final = "all groups"
SCOPE: Final = "all"

R = TypeVar("R", bound="Quote | Tier")


class Quote(NamedTuple):
    """A base price, a special price or a cost of one scope; a missing time is None."""

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
    """The rows of a feed for some SKUs, and the SKUs that it refused.

    refused    the reason, by SKU
    """

    rows: list[R] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


class FeedClosed(Exception):
    """The tenant refuses every request to this feed; `cause` is its answer."""

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

    @property
    def amount(self) -> Decimal | None:
        """The price or cost; None without one, and where the database cannot hold it or its quantity."""
        amount = self.price if self.price is not None else self.cost
        numbers = (self.quantity,) if amount is None else (amount, self.quantity)
        return amount if all(map(is_storable, numbers)) else None


class _Answered(NamedTuple):
    """The rows of an answer, and the SKUs with an unreadable row.

    unusable    the reason, by SKU
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
    """The four feeds. One object serves all threads of a pass, which share what they learn of each feed.

    long_s    seconds after which an answer is followed by shorter lists

    Every method raises what `Client.get` raises; for a closed feed FeedClosed instead.
    """

    def __init__(self, client: Client, *, long_s: float = LONG_S) -> None:
        self._client = client
        self._long_s = long_s
        self._first = threading.Lock()
        self._feeds = {kind: _Feed() for kind in KINDS}

    def quotes(self, kind: PriceKind, skus: Sequence[str]) -> Told[Quote]:
        """The prices of these SKUs, of any kind but tier; `rows` keep Commerce's order."""
        return self._read(kind, skus, _quote)

    def tiers(self, skus: Sequence[str]) -> Told[Tier]:
        """The tier prices of these SKUs."""
        return self._read("tier", skus, _tier)

    def groups(self) -> dict[str, int]:
        """Ids of customer groups by name; the feed of tier prices only has their names."""
        params = [
            ("searchCriteria[pageSize]", str(MOST_GROUPS)),
            ("searchCriteria[currentPage]", "1"),
        ]
        found = self._client.get(
            GROUPS_PATH, params, SCOPE, lambda answer: decoded(_GROUPS, answer.body, "groups")
        )
        return {group.code: group.id for group in found.items}

    # --- requests -----------------------------------------------------------------------------

    def _read(self, kind: PriceKind, skus: Sequence[str], make: Callable[[_Row, Decimal], R]) -> Told[R]:
        """Read the rows; the first thread finds out alone whether the feed is open."""
        feed = self._feeds[kind]
        if feed.is_open is None:
            with self._first:
                if feed.is_open is None:
                    return self._read_lists(kind, skus, make)
        return self._read_lists(kind, skus, make)

    def _read_lists(
        self, kind: PriceKind, skus: Sequence[str], make: Callable[[_Row, Decimal], R]
    ) -> Told[R]:
        result: Told[R] = Told()
        rest = list(skus)
        while rest:
            size = self._feeds[kind].size
            self._read_list(kind, rest[:size], make, result)
            rest = rest[size:]
        return result

    def _read_list(
        self, kind: PriceKind, skus: Sequence[str], make: Callable[[_Row, Decimal], R], result: Told[R]
    ) -> None:
        """Request a list, or its halves when it is refused; note a single SKU that is refused."""
        feed = self._feeds[kind]
        if feed.closed is not None:
            raise FeedClosed(kind, feed.closed)
        try:
            answered = self._rows(kind, skus)
        except ListTooLong as error:
            feed.size = max(1, min(error.maximum, len(skus) - 1))
            rest = (
                self._read_lists(kind, skus, make) if len(skus) > 1 else Told(refused={skus[0]: str(error)})
            )
            result.rows += rest.rows
            result.refused |= rest.refused
        except (RequestBlocked, RequestRefused, SettingsError, PageFailed) as error:
            self._check_feed(kind, error)
            if len(skus) == 1:
                self._note_refused(kind, skus[0], error, result)
                return
            half = len(skus) // 2
            for part in (skus[:half], skus[half:]):
                self._read_list(kind, part, make, result)
        except AccessDenied as error:
            raise self._close(kind, error) from None
        else:
            feed.answered()
            result.rows += [make(row, row.amount) for row in answered.rows if row.amount is not None]
            result.refused |= answered.unusable

    def _rows(self, kind: PriceKind, skus: Sequence[str], *, patient: bool = False) -> _Answered:
        asked = {folded(sku): sku for sku in skus}

        def reader(answer: Answer) -> _Answered:
            if answer.seconds > self._long_s:
                self._feeds[kind].shorten(len(skus))
            sent = decoded(_ROWS, answer.body, f"{kind} prices")
            rows, unusable = _decode_rows(sent)
            ours = [row for row in rows if folded(str(row.sku)) in asked]
            ours_unusable = {asked[sku]: reason for sku, reason in unusable.items() if sku in asked}
            if sent and not ours and not ours_unusable:
                raise AnswerUnreadable(f"Commerce sent {kind} prices of other SKUs than requested.")
            return _Answered(ours, ours_unusable)

        return self._client.post_query(PATHS[kind], {"skus": list(skus)}, SCOPE, reader, patient=patient)

    def _check_feed(self, kind: PriceKind, error: CommerceError | SettingsError) -> None:
        """Raise FeedClosed when the feed refuses an empty list too; wait for a tenant that is down."""
        feed = self._feeds[kind]
        if feed.is_open and not isinstance(error, PageFailed | RequestBlocked):
            return
        try:
            self._rows(kind, [], patient=True)
        except (RequestRefused, SettingsError, AccessDenied):
            raise self._close(kind, error) from None
        feed.is_open = True

    def _note_refused(
        self, kind: PriceKind, sku: str, error: CommerceError | SettingsError, result: Told[R]
    ) -> None:
        result.refused[sku] = str(error)
        if self._feeds[kind].refused() > MOST_IN_A_ROW:
            raise self._close(kind, error)

    def _close(self, kind: PriceKind, error: CommerceError | SettingsError) -> FeedClosed:
        self._feeds[kind].closed = error
        self._feeds[kind].is_open = False
        return FeedClosed(kind, error)


def _decode_rows(sent: Iterable[msgspec.Raw]) -> tuple[list[_Row], dict[str, str]]:
    """Rows, and errors by folded SKU. Raises AnswerUnreadable for a row without a SKU."""
    rows, unusable = [], {}
    for raw in sent:
        try:
            rows.append(_ROW.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            named = decoded(_NAMED, raw, "prices")
            unusable[folded(str(named.sku))] = f"a row is unreadable: {clean(str(wrong))}."
    return rows, unusable


@dataclass(slots=True)
class _Feed:
    """The state of a feed.

    is_open     None until the first request
    size        SKUs per request
    in_a_row    SKUs refused in a row
    """

    is_open: bool | None = None
    closed: CommerceError | SettingsError | None = None
    size: int = MOST_SKUS
    in_a_row: int = 0

    def answered(self) -> None:
        self.is_open = True
        self.in_a_row = 0

    def shorten(self, skus: int) -> None:
        """Request half as many SKUs from now on as in this list."""
        self.size = min(self.size, max(FEWEST_SKUS, skus // 2))

    def refused(self) -> int:
        self.in_a_row += 1
        return self.in_a_row


def folded(sku: str) -> str:
    """Normalize a SKU as the price feeds compare it: without case and surrounding blanks.

    Unlike `collation.collated`, which compares as Commerce's database does, accents count here.
    """
    return sku.strip().lower()


def by_product(rows: Iterable[R], products: Collection[tuple[int, str]]) -> dict[int, list[R]]:
    """Rows by the ids of the products with their SKU: an exact match first, else a folded one."""
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
    """A time of a price, `2026-01-01 00:00:00` or a date alone; None for none and for the zero date.

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
