"""One list answer, read and believed only after it was checked against the request it answers.

200 is not success. Observed on Magento 2.4.7: a malformed `fields` gives 200 and `[]`, a misspelt condition
or sort gives 200 and other products, an empty list under `fields=items[…]` is `null`. So the shape, the echo
of the search criteria and the number of items are compared with what was asked for.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from sync.commerce.answers import clean
from sync.commerce.client import Answer
from sync.commerce.search import ALL_FIELDS, Criteria, Echo
from sync.errors import AnswerUnreadable, PageFailed
from sync.model import Interval, Page, RawProduct

S = TypeVar("S", bound=msgspec.Struct)


class _Envelope(msgspec.Struct):
    items: list[msgspec.Raw] | None
    search_criteria: Echo
    total_count: int


class _Identified(msgspec.Struct):
    id: int


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_IDENTIFIED = msgspec.json.Decoder(_Identified)


def read_page(criteria: Criteria, store_view: str, interval: Interval, answer: Answer) -> Page:
    """Split the answer to a request for `interval` into products; their ids ascend strictly, and inside it.

    The page speaks for the ids up to its last product, and for the whole interval when it is empty.

    Raises PageFailed for a body that is not JSON to its end, AnswerUnreadable for one in another shape, about
    other products, or that contradicts itself.
    """
    envelope = _decode(_ENVELOPE, answer.body)
    _check(envelope, criteria)
    products = tuple(RawProduct(_decode(_IDENTIFIED, raw).id, bytes(raw)) for raw in envelope.items or ())
    last = interval.after
    for product in products:
        if product.product_id <= last:
            raise AnswerUnreadable(
                f"Commerce sent product {product.product_id} behind {last}: not ascending."
            )
        last = product.product_id
    if interval.last is not None and last > interval.last:
        raise AnswerUnreadable(f"Commerce sent product {last} for the ids {interval}.")
    spoken_for = Interval(interval.after, last) if products else interval
    return Page(store_view, spoken_for, products, envelope.total_count, answer.server_time)


def _check(envelope: _Envelope, criteria: Criteria) -> None:
    """Raise AnswerUnreadable unless this answers that request."""
    if difference := criteria.difference(envelope.search_criteria):
        raise AnswerUnreadable(f"Commerce answered about {difference}.")
    if envelope.items is None and criteria.fields == ALL_FIELDS:
        raise AnswerUnreadable("Commerce answered a list of products with null.")
    sent, total = len(envelope.items or ()), envelope.total_count
    if sent > min(criteria.page_size, total):
        raise AnswerUnreadable(
            f"Commerce sent {sent} products of {total} for a page of {criteria.page_size}."
        )
    if total and not sent and criteria.current_page == 1:
        raise AnswerUnreadable(f"Commerce counts {total} products and sent none of them.")


def _decode(decoder: msgspec.json.Decoder[S], body: bytes | msgspec.Raw) -> S:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as wrong:
        raise AnswerUnreadable(f"Commerce answered in another shape: {clean(str(wrong))}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise PageFailed("Commerce answered with JSON that is broken or cut short.") from None
