"""Protocol for state shared between processes of one tenant; `db/` implements it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class SharedState(Protocol):
    """A text that all processes of a tenant share, and a clock."""

    def update(self, step: Callable[[str | None, float], tuple[str | None, T]]) -> T:
        """Run `step` with the text and the time, exclusively; store the text it returns, return the rest."""
        ...
