"""Concurrency limit: how many requests may be in flight, found from their latency.

More requests in flight than the server has workers only raise latency. The latency of a round of answers,
divided by its floor, shows the queue that we built: above 1.6 the limit is halved, below 1.35 it grows by
one, so c workers get at most 1.5 c requests. Pages and light requests have separate floors.

It begins with one request in flight: a busy shop is not made to wait by us, and the floor is what the server
needs alone. The limit doubles with each round of pages that took no longer (slow start). Where an earlier run
found the same floor, its limit is taken after the first page.

A floor can be wrong (bigger pages, a slower hour) and is measured again in two cases. When a smaller limit
did not help, the queue was not ours and the latency becomes the floor: half the limit halves a queue of ours,
which no chance hides. And every DRAIN_EVERY rounds, one round runs at half the limit. In company, other
processes of ours may have built the queue: each then goes down to one request before it believes that the
server has become slow.

Sources: Netflix concurrency-limits, Gradient2 (latency gradient, no growth while unused) and Vegas (floor);
RFC 9406, HyStart++ (slow start ends by latency); draft-ietf-ccwg-bbr, ProbeRTT (drain to measure the floor).
Observed on Magento 2.4.7: 1, 2 and 4 at once gave 127, 127 and 133 products a second, each taking 0.7, 1.5
and 2.9 s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

SHRINK_ABOVE: Final = 1.6
GROW_BELOW: Final = 1.35
BACK_OFF: Final = 0.7
SHORTEST_S: Final = 0.05  # shorter latencies count as this: our own work would look like a queue
DRAIN_EVERY: Final = 64  # rounds
FIRST_PAGES: Final = 2  # give the first floor of a page: the very first one may meet cold caches
ROUNDS_AFTER_RAISED_FLOOR: Final = 56  # the round count after a floor was raised: the next drain comes sooner


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """How many requests may be in flight, by the ratio of their latency to its floor.

    slow_start   the limit doubles, until it is `most` or a queue shows
    remembered   limit and floor of pages that an earlier run found; None once they were compared
    floors       seconds an answer takes without a queue of ours, by kind
    round        kind and seconds of the answers since the last adjustment
    since        when `limit` last changed: requests that started earlier met another queue
    peak         most in flight in this round: an unused limit does not grow
    before       limit and latency ratio before the last decrease
    drained      limit to restore after the floor is measured
    too_many     a limit that built a queue: not tried again before the next drain
    in_company   other processes of ours send requests, too
    """

    most: int
    limit: int = 1
    slow_start: bool = True
    remembered: tuple[int, float] | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    round: tuple[tuple[str, float], ...] = ()
    rounds: int = 0
    since: float = -math.inf
    peak: int = 0
    before: tuple[int, float] | None = None
    drained: int | None = None
    too_many: int | None = None
    in_company: bool = False

    def started(self, in_flight: int) -> Self:
        return replace(self, peak=max(self.peak, in_flight))

    def answered(self, now: float, kind: str, seconds: float) -> Self:
        if now - seconds < self.since:
            return self
        limit = replace(self, round=(*self.round, (kind, max(seconds, SHORTEST_S))))
        pages = [s for other, s in limit.round if other == "page"]
        if pages and "page" not in self.floors:
            return limit._first_pages(now, pages)
        if self.slow_start and len(pages) >= self.limit:
            return limit._slow_start(now, pages)
        return limit._end_of_round(now) if len(limit.round) >= max(6, 2 * self.limit) else limit

    def overloaded(self, now: float) -> Self:
        return replace(self._moved(now, max(1, round(self.limit * BACK_OFF))), slow_start=False)

    @property
    def page_floor(self) -> float | None:
        """Seconds a page takes alone, as far as it is known."""
        return self.floors.get("page", self.remembered[1] if self.remembered else None)

    def _first_pages(self, now: float, pages: list[float]) -> Self:
        """Measure what a page takes alone; take the remembered limit where it takes what it took then."""
        if self.limit > 1:  # found with light requests
            return replace(self._moved(now, 1), slow_start=True)
        limit, floor = self.remembered or (1, 0.0)
        if pages[-1] <= floor * GROW_BELOW:
            known = replace(self, floors={**self.floors, "page": min(floor, *pages)}, slow_start=limit == 1)
            return replace(known._moved(now, limit), remembered=None)
        limit_now = replace(self, remembered=None)
        if len(pages) < FIRST_PAGES:
            return limit_now
        return replace(limit_now, floors={**self.floors, "page": min(pages)})._doubled(now)

    def _slow_start(self, now: float, pages: list[float]) -> Self:
        """Double while pages are quick on average; a single slow one among the first may show a queue."""
        floor, mean = self.floors["page"], sum(pages) / len(pages)
        is_whole = len(self.round) >= max(6, 2 * self.limit)
        ratio, is_clear = mean / floor, is_whole or max(pages) < SHRINK_ABOVE * floor
        if is_clear and ratio < GROW_BELOW and self.peak >= self.limit:
            return replace(self, floors={**self.floors, "page": min(mean, floor)})._doubled(now)
        if not is_whole:
            return self
        if ratio < GROW_BELOW:  # unused
            return replace(self, round=(), peak=0)
        return replace(self, slow_start=False)._adjusted(now, ratio, self.peak)

    def _doubled(self, now: float) -> Self:
        limit = min(self.most, 2 * self.limit)
        return replace(self._moved(now, limit), slow_start=limit < self.most)

    def _end_of_round(self, now: float) -> Self:
        means = {kind: sum(times) / len(times) for kind, times in self._times().items()}
        if not means.keys() <= self.floors.keys():
            return self._first_floors()
        ratio = sum(s for _, s in self.round) / sum(self.floors[kind] for kind, _ in self.round)
        at_most = {kind: min(mean, self.floors[kind]) for kind, mean in means.items()}
        room = replace(self, rounds=self.rounds + 1, floors={**self.floors, **at_most}, round=(), peak=0)
        if self.drained is not None:
            floors = room.floors if self.in_company else {**self.floors, **means}
            return replace(room, floors=floors, rounds=0, too_many=None)._moved(now, self.drained)
        is_alone = self.limit == 1 or not self.in_company
        if is_alone and self.before and ratio > _useful_ratio(self.before, self.limit):
            room = replace(
                room, floors={**self.floors, **means}, rounds=ROUNDS_AFTER_RAISED_FLOOR, too_many=None
            )
            return room._moved(now, self.before[0])
        return room._adjusted(now, ratio, self.peak)

    def _adjusted(self, now: float, ratio: float, peak: int) -> Self:
        if ratio > SHRINK_ABOVE and self.limit > 1:
            fewer = math.ceil(self.limit / 2)
            return replace(self._moved(now, fewer), before=(self.limit, ratio), too_many=self.limit)
        if self.rounds > DRAIN_EVERY and self.limit > 1:
            return replace(self._moved(now, math.ceil(self.limit / 2)), drained=self.limit)
        if self.rounds > DRAIN_EVERY:
            return replace(
                self, rounds=0, too_many=None, before=None
            )  # whether there are more workers by now
        if ratio < GROW_BELOW and peak >= self.limit < min(self.most, (self.too_many or math.inf) - 1):
            return self._moved(now, self.limit + 1)
        return replace(self, before=None)

    def _moved(self, now: float, limit: int) -> Self:
        return replace(self, limit=limit, since=now, round=(), peak=0, before=None, drained=None)

    def _first_floors(self) -> Self:
        """Set floors from the two quickest answers of a kind: the very first one met cold caches."""
        quickest = {kind: sorted(times)[:2] for kind, times in self._times().items()}
        found = {kind: sum(times) / len(times) for kind, times in quickest.items()}
        return replace(self, floors={**found, **self.floors}, round=(), peak=0)

    def _times(self) -> dict[str, list[float]]:
        return {kind: [s for other, s in self.round if other == kind] for kind, _ in self.round}


def _useful_ratio(before: tuple[int, float], limit: int) -> float:
    """The ratio above which a decrease did not help: less than half the gain if the queue were ours."""
    old, ratio = before
    return ratio * (1 + limit / old) / 2
