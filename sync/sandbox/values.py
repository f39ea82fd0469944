"""Values in a filter, the way the database under Commerce reads and compares them."""

from __future__ import annotations

import re
import unicodedata
from calendar import timegm
from functools import lru_cache

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


@lru_cache(maxsize=65_536)
def fold(text: str) -> str:
    """A text as the database compares it: without case, accents and trailing spaces; `_` is behind `Z`."""
    whole = unicodedata.normalize("NFD", text.rstrip(" ").replace("ß", "s"))
    bare = (char for char in whole if not unicodedata.combining(char))
    return "".join(upper if len(upper := char.upper()) == 1 else char for char in bare)
