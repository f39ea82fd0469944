"""Store views that are alike: they list the same products, with the same `updated_at`.

Observed on Magento 2.4.7: both belong to a product, not to a store view, so a `run` asks one store view for
all what changed and how many products there are. An extension may make that false: passes that read every
product compare what they read. Until then, and where it does not hold, each store view is asked.

Products stamped during the pass are not compared: one store view is read later than another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, TypeVar

import sqlalchemy as sa

from sync.db import products, state
from sync.db.current_views import ALIKE
from sync.passes.run import Run

T = TypeVar("T")
QUESTIONS: Final = 3  # of a run in which nothing has changed


def known(run: Run) -> tuple[str, ...]:
    """Those of the run's store views that are known to be alike; none, or at least two."""
    kept = run.read(lambda connection: state.load(connection, ALIKE)) or ()
    found = tuple(view for view in run.sync.store_views if view in kept)
    return found if len(found) > 1 else ()


def note(run: Run) -> None:
    """After every product of the run's store views was read: remember whether they are alike.

    Others that are remembered as alike with these stay so.
    """
    views = run.sync.store_views
    if len(views) < 2 or run.clocks is None or run.held_back or run.sync.dry:
        return
    before = run.clocks.there - run.sync.overlap
    first, *others = views

    def save(tx: sa.Connection) -> None:
        kept = set(state.load(tx, ALIKE) or ())
        are_alike = not any(products.differ(tx, first, other, before) for other in others)
        found = kept | set(views) if are_alike and kept & set(views) else set(views) if are_alike else set()
        if found != kept:
            state.save(tx, ALIKE, sorted(found))

    run.transact(save)


class AlikeViews:
    """Asks one of the store views that are alike, another one each time: each is asked within a few runs."""

    def __init__(self, run: Run, alike: Collection[str]) -> None:
        self._run = run
        self._alike = frozenset(alike)
        self._turn = QUESTIONS * run.run_id

    def __contains__(self, store_view: str) -> bool:
        return store_view in self._alike

    def ask(self, question: Callable[[str], T]) -> T | None:
        """The answer of one of them; None when there are none. One that is not known any more is left out."""
        while views := [view for view in self._run.sync.store_views if view in self._alike]:
            view = views[self._turn % len(views)]
            self._turn += 1
            with self._run.apart(view):
                return question(view)
        return None
