"""JSON as Commerce prints it.

PHP's `json_encode` leaves no spaces, escapes every slash and everything beyond ASCII, and
prints whole floats without a fraction. Observed on Magento 2.4.7.
"""

from __future__ import annotations

import json
from typing import Any


def dumps(value: Any) -> bytes:
    r"""`value` as PHP would print it.

    >>> dumps({"file": "/k/e/kettle.jpg", "label": "Crème", "price": 20.0})
    b'{"file":"\\/k\\/e\\/kettle.jpg","label":"Cr\\u00e8me","price":20}'
    """
    return json.dumps(_plain(value), separators=(",", ":")).replace("/", "\\/").encode("ascii")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
