"""Limits a tenant puts on its clients: requests in a time span, and requests worked on at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

LimiterKind = Literal["fixed_window", "token_bucket", "sliding"]


class Limiter(Protocol):
    """Not thread-safe: the caller asks under a lock."""

    def wait_s(self, now: float) -> float:
        """0 when a request at `now` is admitted (and counted), else seconds until the next one would be."""


class FixedWindow:
    """`limit` requests in each `window` seconds of the clock."""

    def __init__(self, limit: float, window: float) -> None:
        self._limit = limit
        self._window = window
        self._current = -1.0
        self._count = 0

    def wait_s(self, now: float) -> float:
        current = now // self._window
        if current != self._current:
            self._current, self._count = current, 0
        if self._count >= self._limit:
            return (current + 1) * self._window - now
        self._count += 1
        return 0.0


class Sliding:
    """`limit` requests in any `window` seconds."""

    def __init__(self, limit: float, window: float) -> None:
        self._limit = limit
        self._window = window
        self._admitted: deque[float] = deque()

    def wait_s(self, now: float) -> float:
        while self._admitted and self._admitted[0] <= now - self._window:
            self._admitted.popleft()
        if len(self._admitted) >= self._limit:
            return self._admitted[0] + self._window - now
        self._admitted.append(now)
        return 0.0


class TokenBucket:
    """`limit` requests in `window` seconds on average, at most `limit` (or one) in a burst."""

    def __init__(self, limit: float, window: float) -> None:
        self._rate = limit / window
        self._capacity = max(1.0, limit)
        self._tokens = self._capacity
        self._at: float | None = None

    def wait_s(self, now: float) -> float:
        elapsed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._tokens = min(self._capacity, self._tokens + elapsed * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


LIMITERS: dict[LimiterKind, Callable[[float, float], Limiter]] = {
    "fixed_window": FixedWindow,
    "sliding": Sliding,
    "token_bucket": TokenBucket,
}


class Workers:
    """A server with room for `count` requests: more in flight only queue, so latency rises, not throughput.

    Service times in seconds add up: per request, per product page, per product on it.
    """

    def __init__(
        self, count: int, seconds_per_page: float, seconds_per_request: float, seconds_per_product: float
    ) -> None:
        self._room = threading.Semaphore(count)
        self._per_page = seconds_per_page
        self._per_request = seconds_per_request
        self._per_product = seconds_per_product

    @contextmanager
    def room(self) -> Iterator[None]:
        """Wait for a free worker and hold it."""
        with self._room:
            yield

    def service_s(self, products: int | None) -> float:
        """How long a worker is busy with an answer; `products` is None for anything but a page."""
        if products is None:
            return self._per_request
        return self._per_request + self._per_page + self._per_product * products
