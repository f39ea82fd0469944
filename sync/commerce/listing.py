"""Read an answer with products, after checking it against its request.

200 is not success. Observed on Magento 2.4.7: a malformed `fields` gives 200 and `[]`, a misspelt condition
or sort gives 200 and other products, an empty list under `fields=items[…]` is `null`. So the shape, the echo
of the search criteria and the number of items are compared with the request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter
from typing import Annotated, Final, NamedTuple, overload

import msgspec

from sync.commerce.client import Answer
from sync.commerce.decoding import NonNegativeInteger, decoded
from sync.commerce.error_bodies import clean
from sync.commerce.keyset import Miscounted
from sync.commerce.search import ALL_FIELDS, Criteria, Echo, Listed, ListSpec
from sync.errors import AnswerUnreadable, PageFailed
from sync.model import AnswerFingerprint, Interval, KnownPage, Page, RawProduct, fingerprint

HIGHEST_ID: Final = 2**32 - 1  # `entity_id` is an unsigned INT
NOUN: Final = "products"


class OutOfOrder(PageFailed):
    """The products of a page are in another order than requested, each once and inside the interval.

    page    with its products sorted; it is complete only when a count proves that none is missing
    """

    def __init__(self, message: str, page: Page) -> None:
        super().__init__(message)
        self.page = page


class Surplus(NamedTuple):
    """By how much `total_count` is too high: in a list with products, and in an empty one.

    uncounted    how many more products than counted may be listed
    """

    filled: int = 0
    empty: int = 0
    uncounted: int = 0


EXACT: Final = Surplus()


class _Tail(msgspec.Struct):
    search_criteria: Echo
    total_count: NonNegativeInteger


class _Envelope(_Tail):
    items: list[msgspec.Raw] | None


class _Identified(msgspec.Struct):
    id: Annotated[int, msgspec.Meta(gt=0, le=HIGHEST_ID)]


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_TAIL = msgspec.json.Decoder(_Tail)
_IDENTIFIED = msgspec.json.Decoder(_Identified)
_ITEMS = b'{"items":['
_AFTER_ITEMS = b',"search_criteria":'
_LENIENT = json.JSONDecoder(
    strict=False, parse_int=lambda digits: int(digits) if len(digits) < 20 else digits
)


def read_page(
    criteria: Criteria,
    store_view: str,
    interval: Interval,
    answer: Answer,
    known: Mapping[int, KnownPage] | None = None,
    surplus: Surplus = EXACT,
) -> Page:
    """Split the answer to a request for `interval` into products with strictly ascending ids inside it.

    known    pages read before, by the id they begin after: when the same bytes are received again, their
             products are decoded only on access; for an identical answer to an identical request, nothing is
    surplus  subtracted from the answer's count

    The page covers the ids up to its last product, and the whole interval when it is empty.

    Raises PageFailed for broken or truncated JSON, or for a product without a usable id or with a wrong one;
    OutOfOrder; AnswerUnreadable for another shape, other products, or a contradiction.
    """
    if known is None:
        return _read(criteria, store_view, interval, answer, surplus)
    before = known.get(interval.after)
    if before is not None and not _is_inside(before.interval, interval):
        before = None
    body = answer.received
    wire_hash = fingerprint(msgspec.json.encode((_as_asked(criteria), body.coding)) + body.wire)
    if before is not None and before.receipt is not None and before.receipt.wire_hash == wire_hash:
        return _known_page(store_view, answer, before, before.receipt)
    items, _, tail = answer.body.rpartition(_AFTER_ITEMS)
    items_hash = fingerprint(items) if items else None
    if before is not None and before.answer_hash == items_hash:
        end = decoded(_TAIL, b'{"search_criteria":' + tail, NOUN)
        total = _checked_total(end, before.products, criteria, surplus)
        receipt = AnswerFingerprint(wire_hash, total, len(answer.body))
        return _known_page(store_view, answer, before, receipt)
    page = _read(criteria, store_view, interval, answer, surplus)
    receipt = AnswerFingerprint(wire_hash, page.total_count, len(answer.body))
    return replace(page, answer_hash=items_hash, receipt=receipt)


def _as_asked(criteria: Criteria) -> dict[str, object]:
    """What a fingerprint holds of the request: it is compared with those of earlier versions."""
    return {
        "groups": criteria.groups,
        "page_size": criteria.page_size,
        "direction": criteria.direction,
        "current_page": criteria.current_page,
        "fields": criteria.fields,
    }


def _known_page(store_view: str, answer: Answer, before: KnownPage, receipt: AnswerFingerprint) -> Page:
    """A page whose products were read before, from an answer with this receipt."""
    return Page(
        store_view,
        before.interval,
        _LazyProducts(answer, before.products),
        receipt.total_count,
        answer.server_time,
        before.answer_hash,
        before,
        receipt,
    )


def read_count(answer: Answer) -> tuple[int, list[int]]:
    """The count of an answer, unchecked, and the ids that it lists."""
    found = PRODUCTS.decode(answer.body)
    return found.total_count, [product.product_id for product in found.items or ()]


def _read(criteria: Criteria, store_view: str, interval: Interval, answer: Answer, surplus: Surplus) -> Page:
    found = PRODUCTS.decode(answer.body)
    if found.items is None and criteria.fields == ALL_FIELDS:
        raise AnswerUnreadable("Commerce sent null instead of a list of products.")
    products = tuple(found.items or ())
    try:
        total = _checked_total(found, len(products), criteria, surplus)
    except Miscounted as error:
        error.listed = [product.product_id for product in products]
        raise
    ordered = tuple(sorted(products, key=attrgetter("product_id")))
    if ordered != products:
        last = _last_of(ordered, interval)
        page = Page(store_view, Interval(interval.after, last), ordered, total, answer.server_time)
        raise OutOfOrder("Commerce sent the products of a page in another order than requested.", page)
    covered = Interval(interval.after, _last_of(products, interval)) if products else interval
    return Page(store_view, covered, products, total, answer.server_time)


class _LazyProducts(Sequence[RawProduct]):
    """The products of an answer whose number is known; split on first access."""

    def __init__(self, answer: Answer, count: int) -> None:
        self._answer = answer
        self._count = count
        self._products: tuple[RawProduct, ...] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> RawProduct: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[RawProduct, ...]: ...

    def __getitem__(self, index: int | slice) -> RawProduct | tuple[RawProduct, ...]:
        if self._products is None:
            self._products = tuple(PRODUCTS.decode(self._answer.body).items or ())
        return self._products[index]


def _split(body: bytes) -> Listed[RawProduct]:
    try:
        envelope = decoded(_ENVELOPE, body, NOUN)
    except PageFailed:
        if (found := _split_leniently(body)) is None:
            raise
        return found
    items = envelope.items
    products = None if items is None else tuple(RawProduct(_id_of(raw), bytes(raw)) for raw in items)
    return Listed(products, envelope.search_criteria, envelope.total_count)


def _id_of(raw: msgspec.Raw) -> int:
    try:
        return _IDENTIFIED.decode(raw).id
    except msgspec.ValidationError as wrong:
        raise _no_id(str(wrong)) from None


def _split_leniently(body: bytes) -> Listed[RawProduct] | None:
    """Split where a strict parser fails: at half a surrogate pair, NaN or a raw control character.

    Mapping then rejects only the product concerned. None for a body that is broken otherwise.
    """
    items, separator, tail = body.rpartition(_AFTER_ITEMS)
    if not separator or not items.startswith(_ITEMS):
        return None
    text, products, place = items.decode("latin-1"), [], len(_ITEMS)  # a character for each byte
    try:
        while True:
            item, end = _LENIENT.raw_decode(text, place)
            products.append(RawProduct(_lenient_id(item), body[place:end]))
            if end == len(text) - 1 and text[end] == "]":
                end_of_list = decoded(_TAIL, b'{"search_criteria":' + tail, NOUN)
                return Listed(tuple(products), end_of_list.search_criteria, end_of_list.total_count)
            if text[end] != ",":
                return None
            place = end + 1
    except (ValueError, IndexError, RecursionError):
        return None


def _lenient_id(item: object) -> int:
    found = item.get("id") if isinstance(item, dict) else None
    if type(found) is not int or not 0 < found <= HIGHEST_ID:
        raise _no_id("no integer in the range of ids")
    return found


def _no_id(why: str) -> PageFailed:
    return PageFailed(f"Commerce sent a product without a usable id: {clean(why)}.")


def _last_of(products: Sequence[RawProduct], interval: Interval) -> int:
    """The last id of products that ascend strictly, inside the interval."""
    last = interval.after
    for place, product in enumerate(products):
        if product.product_id <= last:
            why = f"Commerce sent product {product.product_id} after {last}: not ascending."
            raise _misplaced(products, place, interval, why)
        last = product.product_id
    if interval.last is not None and last > interval.last:
        why = f"Commerce sent product {last} for the ids {interval}."
        raise _misplaced(products, len(products) - 1, interval, why)
    return last


def _misplaced(products: Sequence[RawProduct], place: int, interval: Interval, why: str) -> AnswerUnreadable:
    """PageFailed when a single product is out of place: it has a wrong id, and smaller pages avoid it.

    Otherwise AnswerUnreadable: the tenant sorts in another order than requested.
    """
    ids = [product.product_id for product in products]
    for odd in (place, max(0, place - 1)):
        rest = [interval.after, *ids[:odd], *ids[odd + 1 :]]
        ascends = all(before < after for before, after in pairwise(rest))
        if ascends and (interval.last is None or rest[-1] <= interval.last):
            return PageFailed(why)
    return AnswerUnreadable(why)


def _is_inside(inner: Interval, outer: Interval) -> bool:
    return outer.last is None or (inner.last is not None and inner.last <= outer.last)


def _checked_total(end: _Tail | Listed[RawProduct], sent: int, criteria: Criteria, surplus: Surplus) -> int:
    """How many products match. Raises AnswerUnreadable unless this answers that request."""
    if difference := criteria.difference(end.search_criteria):
        raise AnswerUnreadable(f"Commerce applied {difference}.")
    is_empty = not sent and criteria.current_page == 1
    total = end.total_count - surplus.empty if is_empty else max(0, end.total_count - surplus.filled)
    if total < sent <= total + surplus.uncounted:
        total = sent
    if (contradiction := criteria.contradiction(sent, total)) and (sent or is_empty):
        raise Miscounted(contradiction)
    return total


PRODUCTS: Final = ListSpec(
    "/V1/products",
    NOUN,
    "entity_id",
    {
        "entity_id": frozenset({"gt", "lteq", "in"}),
        "sku": frozenset({"eq"}),
        "updated_at": frozenset({"gteq"}),
    },
    _split,
    attrgetter("product_id"),
    most_broken=50,
    is_heavy=True,
)
