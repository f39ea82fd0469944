"""Values in a filter, the way the database under Commerce reads and compares them."""

from __future__ import annotations

import re
from calendar import timegm

_MOMENT = re.compile(r"(\d{4})-(\d\d?)-(\d\d?)(?:[T ](\d\d?):(\d\d?)(?::(\d\d?))?)?")


def seconds(text: str) -> int:
    """Seconds since 1970 of a date value; 0 for one that is no date.

    Any rest (`Z`, `.000Z`, `+01:00`) is ignored, so an offset changes nothing, and every
    product is later than `23.11.2026` or a unix time. Observed on Magento 2.4.7.
    """
    found = _MOMENT.match(text.strip())
    if found is None:
        return 0
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    return timegm((year, month, day, hour, minute, second))


def leading_number(text: str) -> int:
    """The integer a text begins with, 0 for none: how the database compares a text with an id."""
    found = re.match(r"\s*(-?\d+)", text)
    return int(found[1]) if found else 0


def number(text: str) -> float:
    """The number a text begins with, 0 for none."""
    found = re.match(r"\s*-?\d+(\.\d+)?", text)
    return float(found[0]) if found else 0.0
