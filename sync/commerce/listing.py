"""One list answer, read and believed only after it was checked against the request it answers.

200 is not success. Observed on Magento 2.4.7: a malformed `fields` gives 200 and `[]`, a misspelt condition
or sort gives 200 and other products, an empty list under `fields=items[…]` is `null`. So the shape, the echo
of the search criteria and the number of items are compared with what was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, overload

import msgspec

from sync.commerce.answers import clean
from sync.commerce.client import Answer
from sync.commerce.search import ALL_FIELDS, Criteria, Echo
from sync.errors import AnswerUnreadable, PageFailed
from sync.model import Interval, KnownPage, Page, RawProduct, fingerprint

S = TypeVar("S", bound=msgspec.Struct)


class _Tail(msgspec.Struct):
    search_criteria: Echo
    total_count: int


class _Envelope(_Tail):
    items: list[msgspec.Raw] | None


class _Identified(msgspec.Struct):
    id: int


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_TAIL = msgspec.json.Decoder(_Tail)
_IDENTIFIED = msgspec.json.Decoder(_Identified)
_BEHIND_ITEMS = b',"search_criteria":'


def read_page(
    criteria: Criteria,
    store_view: str,
    interval: Interval,
    answer: Answer,
    known: Mapping[int, KnownPage] | None = None,
) -> Page:
    """Split the answer to a request for `interval` into products; their ids ascend strictly, and inside it.

    known    pages read before, by the id they begin behind: the products of one that comes again are not
             looked at before somebody asks for them

    The page speaks for the ids up to its last product, and for the whole interval when it is empty.

    Raises PageFailed for a body that is not JSON to its end, AnswerUnreadable for one in another shape, about
    other products, or that contradicts itself.
    """
    items, _, tail = answer.body.rpartition(_BEHIND_ITEMS)
    items_hash = fingerprint(items) if items and known is not None else None
    before = known.get(interval.after) if known is not None else None
    if before is not None and before.answer_hash == items_hash and _is_inside(before.interval, interval):
        end = _decode(_TAIL, b'{"search_criteria":' + tail)
        _check(end, before.products, criteria)
        products: Sequence[RawProduct] = _Unsplit(answer.body, before.products)
        return Page(
            store_view, before.interval, products, end.total_count, answer.server_time, items_hash, before
        )
    envelope = _decode(_ENVELOPE, answer.body)
    if envelope.items is None and criteria.fields == ALL_FIELDS:
        raise AnswerUnreadable("Commerce answered a list of products with null.")
    _check(envelope, len(envelope.items or ()), criteria)
    products = _split(envelope)
    spoken_for = Interval(interval.after, _last_of(products, interval)) if products else interval
    return Page(store_view, spoken_for, products, envelope.total_count, answer.server_time, items_hash)


class _Unsplit(Sequence[RawProduct]):
    """The products of an answer whose number is known: split once somebody looks at one."""

    def __init__(self, body: bytes, count: int) -> None:
        self._body = body
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
            self._products = _split(_decode(_ENVELOPE, self._body))
        return self._products[index]


def _split(envelope: _Envelope) -> tuple[RawProduct, ...]:
    return tuple(RawProduct(_decode(_IDENTIFIED, raw).id, bytes(raw)) for raw in envelope.items or ())


def _last_of(products: Sequence[RawProduct], interval: Interval) -> int:
    """The last id of products that ascend strictly, inside the interval."""
    last = interval.after
    for product in products:
        if product.product_id <= last:
            raise AnswerUnreadable(
                f"Commerce sent product {product.product_id} behind {last}: not ascending."
            )
        last = product.product_id
    if interval.last is not None and last > interval.last:
        raise AnswerUnreadable(f"Commerce sent product {last} for the ids {interval}.")
    return last


def _is_inside(inner: Interval, outer: Interval) -> bool:
    return outer.last is None or (inner.last is not None and inner.last <= outer.last)


def _check(end: _Tail, sent: int, criteria: Criteria) -> None:
    """Raise AnswerUnreadable unless this answers that request."""
    if difference := criteria.difference(end.search_criteria):
        raise AnswerUnreadable(f"Commerce answered about {difference}.")
    if sent > min(criteria.page_size, end.total_count):
        raise AnswerUnreadable(
            f"Commerce sent {sent} products of {end.total_count} for a page of {criteria.page_size}."
        )
    if end.total_count and not sent and criteria.current_page == 1:
        raise AnswerUnreadable(f"Commerce counts {end.total_count} products and sent none of them.")


def _decode(decoder: msgspec.json.Decoder[S], body: bytes | msgspec.Raw) -> S:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as wrong:
        raise AnswerUnreadable(f"Commerce answered in another shape: {clean(str(wrong))}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise PageFailed("Commerce answered with JSON that is broken or cut short.") from None
