"""Batches of a journal, as hints: as many as name two pages of products, or until the journal ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sync.events import hints
from sync.events.hints import Hints
from sync.events.journal import Journal

MOST_PRODUCTS: Final = 600  # in one go: two full pages
REMEMBERED: Final = 1_000  # event ids, to count those that come twice


@dataclass(frozen=True, slots=True)
class Counts:
    """Events since the start of this process.

    duplicate    came before; harmless, and counted
    unknown      name no product, or mean nothing to us
    """

    read: int = 0
    duplicate: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Batches:
    """What was read in one go.

    link      of the next batch
    wait_s    until the journal should be asked again; None: at once
    """

    hints: Hints
    link: str
    wait_s: float | None


@dataclass(slots=True)
class Reader:
    """Reads the journal of one Commerce instance.

    codes     action by event code, besides those known
    source    only events of this instance
    """

    journal: Journal
    codes: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    counts: Counts = field(default_factory=Counts)
    _seen: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def read(self, link: str) -> Batches:
        """Batches from `link` on, until the journal ends or enough products are named."""
        found, wait_s = Hints(), None
        while wait_s is None and len(found.ids) + len(found.skus) < MOST_PRODUCTS:
            batch = self.journal.read(link)
            some = hints.read(batch.events, self.codes, self.source)
            found.found += some.found
            self._count(len(batch.events), some)
            link, wait_s = batch.next, batch.wait_s
        return Batches(found, link, wait_s)

    def _count(self, read: int, some: Hints) -> None:
        again = 0
        for event_id in (hint.event_id for hint in some.found if hint.event_id):
            again += event_id in self._seen
            self._seen.append(event_id)
        counts = self.counts
        self.counts = replace(
            counts,
            read=counts.read + read,
            duplicate=counts.duplicate + again,
            unknown=counts.unknown + some.unknown,
        )
