"""Rate-limit headers: the requests they report as left are spent evenly until the reset.

Sources: draft-ietf-httpapi-ratelimit-headers 06 (`RateLimit-*`), 07 (`RateLimit: limit=…`) and 10
(`RateLimit: "name";r=…;t=…`); `X-RateLimit-*` as gateways send it, its reset in seconds or as a unix time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Final, Self

_REMAINING = re.compile(r"\b(?:remaining|r)=(\d+)")
_RESET = re.compile(r"\b(?:reset|t)=(\d+)")
_A_YEAR_S: Final = 366 * 86_400
_PLENTY: Final = 1e15  # requests; larger numbers are cut to this


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """The rate-limit headers of an answer: `left` more starts before `until`, one every `gap` seconds.

    as_of    start of the request that was answered: answers overtake each other
    """

    left: int
    until: float
    gap: float
    as_of: float

    def is_newer(self, begun: float, now: float) -> bool:
        """Whether this is newer than the answer to a request begun then, or that answer's window is over."""
        return begun < self.as_of or begun < self.until <= now

    def next_slot(self, last: float, now: float) -> float:
        """When the next request is due. The gap holds after `until` too: no burst into the new window."""
        return self.until if self.left <= 0 and now < self.until else last + self.gap

    def started(self) -> Self:
        return replace(self, left=self.left - 1)


def read_rate_headers(headers: Mapping[str, str]) -> tuple[int, float] | None:
    """Requests remaining and seconds until the reset: the tightest pair, None when there is none.

    Understands `RateLimit: limit=…, remaining=…, reset=…`, `RateLimit: "name";r=…;t=…` and the three-header
    forms `RateLimit-*` and `X-RateLimit-*`. A reset that is a point in time counts from the answer's Date.

    >>> read_rate_headers({"RateLimit": '"day";r=900;t=3600, "second";r=2;t=1'})
    (900, 3600.0)
    """
    named = {name.lower(): value for name, value in headers.items()}
    for prefix in ("ratelimit", "x-ratelimit"):
        text = named.get(prefix, "")
        remaining = _REMAINING.findall(text) or _number(named.get(f"{prefix}-remaining"))
        resets = _RESET.findall(text) or _number(named.get(f"{prefix}-reset"))
        pairs = [
            (int(min(float(r), _PLENTY)), _from_now(float(t), named))
            for r, t in zip(remaining, resets, strict=False)
        ]
        known = [(r, t) for r, t in pairs if t is not None]
        if known and len(remaining) == len(resets):
            return min(known, key=lambda pair: pair[0] / max(pair[1], 1.0))
    return None


def _number(text: str | None) -> list[str]:
    return re.findall(r"^\s*(\d+(?:\.\d+)?)", text or "")


def _from_now(reset: float, headers: Mapping[str, str]) -> float | None:
    """Seconds until `reset`; a large number is a unix time in s or ms. None when it is implausible."""
    if reset < _A_YEAR_S:
        return reset
    try:
        answered_at = parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None
    seconds = (reset / 1000 if reset > 1e11 else reset) - answered_at
    return max(0.0, seconds) if seconds < _A_YEAR_S else None
