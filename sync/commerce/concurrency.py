"""Requests in flight, for the server's workers: as many as shorten the work, hardly any that only wait.

More in flight than the server has workers only raises latency. A round of answers against its floor says
how long a queue we built: above 1.6 fewer, below 1.35 one more, so c workers get at most 1.5 c requests.
Pages and light requests have floors of their own, so their mixture does not matter.

A floor can be wrong (bigger pages, a slower hour) and is forgotten in two ways. When fewer in flight did not
help, the slowness was not our queue and becomes the floor; and now and then a round runs at half the room, to
measure anew.

Sources: Netflix concurrency-limits, Gradient2 (latency gradient, tolerance 1.5, at most halved, no growth
while unused) and Vegas (floor); draft-ietf-ccwg-bbr, ProbeRTT (drain to measure the floor). Observed on
Magento 2.4.7: 1, 2 and 4 at once gave 127, 127 and 133 products a second, each taking 0.7, 1.5 and 2.9 s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

TOLERANCE: Final = 1.5
SHRINK_ABOVE: Final = 1.6
GROW_BELOW: Final = 1.35
BACK_OFF: Final = 0.7
SHORTEST_S: Final = 0.05  # no queue worth a thought is shorter, and our own work beside it looks like one
DRAIN_EVERY: Final = 64  # rounds
DOUBTED: Final = 56  # rounds counted as run when a floor was raised: its drain comes sooner


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """How many requests may be in flight, by how their latency compares with its floor.

    floors       seconds an answer takes with no queue of ours, by kind
    round        kind and seconds of the answers since the last verdict
    since        when `limit` last moved: requests started before it saw another queue
    peak         most in flight this round: room that is not used is not enlarged
    before       limit and latency ratio before it was made smaller
    drained      limit to go back to when the floor is measured
    too_many     a limit that built a queue: not tried again before the next drain
    """

    most: int
    limit: int
    floors: Mapping[str, float] = field(default_factory=dict)
    round: tuple[tuple[str, float], ...] = ()
    rounds: int = 0
    since: float = -math.inf
    peak: int = 0
    before: tuple[int, float] | None = None
    drained: int | None = None
    too_many: int | None = None

    def started(self, in_flight: int) -> Self:
        return replace(self, peak=max(self.peak, in_flight))

    def answered(self, now: float, kind: str, seconds: float) -> Self:
        if now - seconds < self.since:
            return self
        room = replace(self, round=(*self.round, (kind, max(seconds, SHORTEST_S))))
        return room._judged(now) if len(room.round) >= max(6, 2 * self.limit) else room

    def overloaded(self, now: float) -> Self:
        return self._moved(now, max(1, round(self.limit * BACK_OFF)))

    def _judged(self, now: float) -> Self:
        means = {kind: sum(times) / len(times) for kind, times in self._times().items()}
        if not means.keys() <= self.floors.keys():
            return self._first_floors()
        ratio = sum(s for _, s in self.round) / sum(self.floors[kind] for kind, _ in self.round)
        at_most = {kind: min(mean, self.floors[kind]) for kind, mean in means.items()}
        room = replace(self, rounds=self.rounds + 1, floors={**self.floors, **at_most}, round=(), peak=0)
        if self.drained is not None:
            room = replace(room, floors={**self.floors, **means}, rounds=0, too_many=None)
            return room._moved(now, self.drained)
        if self.before and ratio > _hoped(self.before, self.limit):
            room = replace(room, floors={**self.floors, **means}, rounds=DOUBTED, too_many=None)
            return room._moved(now, self.before[0])
        return room._adjusted(now, ratio, self.peak)

    def _adjusted(self, now: float, ratio: float, peak: int) -> Self:
        if ratio > SHRINK_ABOVE and self.limit > 1:
            fewer = max(self.limit // 2, min(self.limit - 1, int(self.limit * TOLERANCE / ratio)))
            return replace(self._moved(now, fewer), before=(self.limit, ratio), too_many=self.limit)
        if self.rounds > DRAIN_EVERY and self.limit > 1:
            return replace(self._moved(now, math.ceil(self.limit / 2)), drained=self.limit)
        if ratio < GROW_BELOW and peak >= self.limit < min(self.most, (self.too_many or math.inf) - 1):
            return self._moved(now, self.limit + 1)
        return replace(self, before=None)

    def _moved(self, now: float, limit: int) -> Self:
        return replace(self, limit=limit, since=now, round=(), peak=0, before=None, drained=None)

    def _first_floors(self) -> Self:
        """From the two quickest answers of a kind's first round: the very first also paid for cold caches."""
        quickest = {kind: sorted(times)[:2] for kind, times in self._times().items()}
        found = {kind: sum(times) / len(times) for kind, times in quickest.items()}
        return replace(self, floors={**found, **self.floors}, round=(), peak=0)

    def _times(self) -> dict[str, list[float]]:
        return {kind: [s for other, s in self.round if other == kind] for kind, _ in self.round}


def _hoped(before: tuple[int, float], limit: int) -> float:
    """The ratio above which a smaller limit was no use: half the gain a queue of ours would have given."""
    old, ratio = before
    return ratio * (1 + limit / old) / 2
