"""Decode an answer's JSON into the expected shape, for every list and feed.

The types below refuse numbers that no column can hold. Answers are hostile input: only this program's own
errors are raised.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, TypeVar

import msgspec

from sync.commerce.error_bodies import clean
from sync.errors import AnswerUnreadable, PageFailed

T = TypeVar("T")

MAX_INTEGER: Final = 2**63 - 1  # BIGINT
MAX_AMOUNT: Final = Decimal(10) ** 14  # numeric(20,6): 14 digits before the point
Integer = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
NonNegativeInteger = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]


def decoded(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, noun: str) -> T:
    """Decode a body.

    noun    what was requested, for the message

    Raises PageFailed for broken or truncated JSON, AnswerUnreadable for another shape.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as wrong:
        raise AnswerUnreadable(
            f"Commerce answered {noun} in an unknown shape: {clean(str(wrong))}."
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise PageFailed("Commerce answered with JSON that is broken or cut short.") from None


def is_storable(amount: Decimal) -> bool:
    """Whether an amount is a number that numeric(20,6) can hold.

    >>> is_storable(Decimal("19.95")), is_storable(Decimal("1e999999")), is_storable(Decimal("sNaN"))
    (True, False, False)
    """
    return amount.is_finite() and -MAX_AMOUNT < amount < MAX_AMOUNT
