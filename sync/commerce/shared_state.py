"""What processes of one tenant share, as who speaks HTTP sees it: a text and a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class SharedState(Protocol):
    """A text that all processes of a tenant share, and a clock."""

    def update(self, step: Callable[[str | None, float], tuple[str | None, T]]) -> T:
        """Run `step` with the text and the time, alone; keep the text it returns, and return the rest."""
        ...
