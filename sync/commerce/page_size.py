"""How many products a page holds: halved when a page is too large, doubled again after good pages."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from sync.commerce.retry import PageTooLarge
from sync.errors import PageFailed

HEAVY_PAGE: Final = 3 << 18  # bytes; several pages are in memory at once, as text and as Python objects
CALM_PAGES: Final = 5
LONGEST_CALM: Final = 160


@dataclass(frozen=True, slots=True)
class LearnedSize:
    """Kept over a restart: the size that succeeded, and the largest that the server allows."""

    size: int
    maximum: int | None


class PageSize:
    """The page size that all threads of a walk share, between 1 and a ceiling.

    It doubles after CALM_PAGES good pages. When it shrinks after having grown, it waits twice as long before
    it grows again, so that an unpublished limit is not hit over and over.
    """

    def __init__(self, ceiling: int, learned: LearnedSize | None = None) -> None:
        self._lock = threading.Lock()
        self._named = learned.maximum if learned else None
        self._ceiling = min(ceiling, self._named or ceiling)
        self._current = min(self._ceiling, learned.size) if learned else ceiling
        self._calm = 0
        self._calm_needed = CALM_PAGES
        self._grew = False

    @property
    def current(self) -> int:
        return self._current

    @property
    def ceiling(self) -> int:
        return self._ceiling

    @property
    def learned(self) -> LearnedSize:
        return LearnedSize(self._current, self._named)

    def cap(self, maximum: int) -> None:
        """The server named its limit: never request more again."""
        with self._lock:
            self._named = maximum
            self._ceiling = min(self._ceiling, maximum)
            self._current = min(self._current, self._ceiling)

    def failed(self, size: int) -> None:
        """A page of this size was too large. Threads that failed with the same size shrink it once."""
        with self._lock:
            self._shrink(size // 2)
            if self._grew:
                self._calm_needed = min(2 * self._calm_needed, LONGEST_CALM)
                self._grew = False

    def went_well(self, size: int, page_bytes: int) -> None:
        """A page of this size was received: above HEAVY_PAGE bytes the size shrinks, below it may grow."""
        with self._lock:
            if page_bytes > HEAVY_PAGE:
                self._shrink(size * HEAVY_PAGE // page_bytes)
            elif size >= self._current and 2 * page_bytes <= HEAVY_PAGE:
                self._grow()

    def _shrink(self, size: int) -> None:
        self._current = max(1, min(self._current, size))
        self._calm = 0

    def _grow(self) -> None:
        self._calm += 1
        if self._calm >= self._calm_needed:
            self._grew = self._grew or self._current < self._ceiling
            self._current = min(self._ceiling, 2 * self._current)
            self._calm = 0


class WalkSize:
    """The page size of one walk: the shared one, or a smaller one while it isolates an item that fails.

    The other walks keep their page size meanwhile.
    """

    def __init__(self, shared: PageSize) -> None:
        self.shared = shared
        self._narrow = PageSize(shared.ceiling)

    @property
    def current(self) -> int:
        return min(self.shared.current, self._narrow.current)

    @property
    def is_isolating(self) -> bool:
        """Whether every larger page has failed."""
        return self._narrow.current == 1 < self.shared.ceiling

    def failed(self, failure: PageFailed, size: int) -> None:
        """A page of this size failed: all walks shrink when that was too large, this one otherwise."""
        if isinstance(failure, PageTooLarge):
            self.shared.cap(min(failure.maximum, size - 1))
        elif failure.too_large:
            self.shared.failed(size)
        else:
            self._narrow.failed(size)

    def went_well(self, size: int) -> None:
        """A page of this size was received; after one of 1, the item that failed is passed."""
        if size == 1:
            self._narrow = PageSize(self.shared.ceiling)
        else:
            self._narrow.went_well(size, page_bytes=0)
