"""Replace values that exceed a database's limits: texts too large for a row, amounts with too many digits.

Pure. The size limit is MariaDB's `max_allowed_packet`, 16 MB by default; the limit of digits is SQLite's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from sync.model import CHILD_COLUMNS, PRODUCT_COLUMNS

Row = tuple[Any, ...]
MARK_BYTES = 100  # upper bound of a mark's size
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_EXACT_ANYWHERE = 10**9  # with 6 places, smaller amounts have at most 15 digits


# Amounts in the rows of a product: table -> column -> its index.
_AMOUNTS = {
    "products": {name: PRODUCT_COLUMNS.index(name) for name in ("price", "weight")},
    **{
        table: {name: CHILD_COLUMNS[table].index(name) for name in names}
        for table, names in (
            ("product_tier_prices", ("qty", "value", "percentage_value")),
            ("product_links", ("qty",)),
        )
    },
}


class Shortened(NamedTuple):
    """A value with its longest texts replaced by marks, its JSON, and the paths of these texts."""

    value: Any
    text: bytes
    left_out: list[str]


def fits(text: str | bytes, room: int | None) -> bool:
    """Whether a text fits in `room` bytes of a statement, where apostrophes are doubled."""
    if room is None or len(text) * 4 <= room:
        return True
    encoded = text.encode() if isinstance(text, str) else text
    return _quoted_size(encoded) <= room


def shorten(value: Any, room: int) -> Shortened | None:
    """Replace the longest texts of a JSON value by marks until its JSON fits in `room` bytes.

    A mark holds the text's size and fingerprint, so that different texts have different marks.
    Returns None when the value is too large even so.
    """
    whole = _size(value)
    excess, shortest = whole - room, whole + 1
    for size in sorted(map(_size, _texts(value)), reverse=True):
        if excess <= 0 or size <= MARK_BYTES:
            break
        excess -= size - MARK_BYTES
        shortest = size
    if excess > 0:
        return None
    left_out: list[str] = []
    marked = _marked(value, shortest, "", left_out)
    return Shortened(marked, _ENCODER.encode(marked), left_out)


def inexact(tables: Mapping[str, Iterable[Row]], digits: int) -> Iterator[tuple[str, Decimal]]:
    """Yield (column, amount) for amounts in a product's rows with more than `digits` digits (15 or more)."""
    for table, columns in _AMOUNTS.items():
        for row in tables[table]:
            for column, index in columns.items():
                amount = row[index]
                if amount is not None and abs(amount) >= _EXACT_ANYWHERE and _digits(amount) > digits:
                    yield column, amount


def _digits(amount: Decimal) -> int:
    return len(amount.normalize().as_tuple().digits)


def _marked(value: Any, shortest: int, path: str, left_out: list[str]) -> Any:
    """Copy `value` with marks in place of texts of at least `shortest` bytes."""
    if isinstance(value, dict):
        inside = f"{path}." if path else ""
        return {name: _marked(item, shortest, f"{inside}{name}", left_out) for name, item in value.items()}
    if isinstance(value, list):
        return [_marked(item, shortest, f"{path}[{i}]", left_out) for i, item in enumerate(value)]
    if not isinstance(value, str) or len(value) * 6 + 2 < shortest or _size(value) < shortest:
        return value
    left_out.append(path)
    fingerprint = blake2b(value.encode(), digest_size=8).hexdigest()
    return f"[left out: {len(value.encode()):,} bytes, fingerprint {fingerprint}]"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _size(value: Any) -> int:
    return _quoted_size(_ENCODER.encode(value))


def _quoted_size(text: bytes) -> int:
    return len(text) + text.count(b"'")
