"""Request rate for a quota: found by a few refusals, held just below it, and probed now and then.

       refused: this many were let in          refused again: as many
    rate     /|                                       /|
      |     / |                                    ,-' |
      |   ,'  |         ,------------------------'     |         ,---
      |,-'    |_________|   held just under it   probe |_________|
      +-------------------------------------------------------------> time
                 pause                                    pause

The rate doubles until the first 429 (slow start). A refusal gives two estimates. `average`, the requests let
in over the whole stretch and the pause after it, is certain. `recent`, those let in during the last second or
so, is the upper bound, and for a fixed window most often the quota itself. For a token bucket with saved
tokens it is too high: from one refusal to the next a bucket lets in its refill. The rate is held 1.5 %
below the estimate, so drift and jitter cause no refusal. After a while of use it grows slowly, then faster
(the convex half of CUBIC), so that a raised limit is found too. After each 429 the next increase waits for so
many requests that refusals stay far below 1 %.

Sources: RFC 9438, CUBIC (beta 0.7, plateau, convex probing); Chiu and Jain 1989 (additive increase,
multiplicative decrease). tests/laws/test_pacing.py proves it against windows and buckets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, Self

# At 8 starts a second, 8 slow requests are in flight within a second; a small quota is exceeded once.
FIRST_RATE: Final = 8.0
# Several processes can send more: a quota that is spent within its first window is then known exactly.
FIRST_SHARED_RATE: Final = 12.0
DOUBLES_AFTER: Final = 8  # answers
FASTEST: Final = 10_000.0
SLOWEST: Final = 0.2
MARGIN: Final = 0.985  # with a quota of 5, a second holds a sixth start only if one was 15 ms late
CATCH_UP_S: Final = 0.008  # a start that is late by up to this does not delay the next ones
JITTER_S: Final = 0.01
REMEMBERED: Final = 64  # starts
SETTLED_S: Final = 15.0
FROZEN_S: Final = 10.0  # between two starts: this process did not run, or had nothing to ask
CUBIC_S: Final = 40.0
BACK_OFF: Final = 0.7
WHOLE_S: Final = 0.1  # a stretch that is this much short of whole seconds counts as whole
TOWARDS: Final = 0.3
SHORT_S: Final = 0.5  # of use: too short to distinguish a window from a bucket
LONG_S: Final = 3.0  # of use above the limit: no window allows that
MOST_OWED: Final = 3.0
FEW: Final = 5
PRICE: Final = 200  # requests between a refusal and the next increase
RAISED: Final = 1.03
ALIKE: Final = 1.2  # two estimates this close need no test

Probing = Literal["sure", "doubted", "unsure", "recovering"]


class _Probe(NamedTuple):
    """How a learned rate grows: after `hold` seconds of use, by `slope` of itself each second."""

    hold: float
    slope: float


_PROBES: Final[dict[Probing, _Probe]] = {
    "sure": _Probe(hold=60.0, slope=0.005),
    "doubted": _Probe(
        hold=60.0, slope=0.005
    ),  # the rate had held: if refused again soon, the limit has fallen
    "unsure": _Probe(hold=2.0, slope=0.05),
    "recovering": _Probe(hold=0.0, slope=0.2),
}
_PAID: Final = frozenset[Probing]({"sure", "doubted"})


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a second: slow start, then just below what was let in, then probed upwards.

    base          the rate when `busy_s` was 0
    probing       None until the first refusal
    busy_s        seconds of use since `base` was set: an unused rate proves nothing
    hold          how many of these before the rate grows
    owed          refusals, less one for every PRICE requests since
    slot          when the last start was due
    starts        of the last requests, the latest last
    resumed_at    start of the first request that was let in after the last refusal
    let_in        requests started since, without the refused ones
    frozen_s      seconds since then in which nothing was sent: they prove nothing about the limit
    refused_at    start of the last refused request
    proven        requests a second that some stretch has proven, unless the limit has fallen since
    """

    base: float = FIRST_RATE
    probing: Probing | None = None
    busy_s: float = 0.0
    hold: float = 0.0
    owed: float = 0.0
    slot: float = -math.inf
    starts: tuple[float, ...] = ()
    resumed_at: float = math.inf
    let_in: int = 0
    frozen_s: float = 0.0
    reached: float = FIRST_RATE
    refused_at: float = -math.inf
    proven: float = 0.0

    @classmethod
    def beginning_at(cls, reached: float) -> Self:
        """Slow start from half of what an earlier run sent without a refusal."""
        return cls(base=max(FIRST_RATE, reached / 2), reached=reached)

    @classmethod
    def going_on_at(cls, base: float) -> Self:
        """The rate that an earlier run learned from refusals."""
        return cls(base=base, probing="sure", hold=_PROBES["sure"].hold)

    @property
    def per_second(self) -> float:
        if self.probing is None:
            return self.base
        x = max(0.0, self.busy_s - self.hold)
        slope = _PROBES[self.probing].slope
        return min(FASTEST, self.base * (1 + slope * x + (x / CUBIC_S) ** 3))

    def gap(self, ceiling: float | None) -> float:
        return 1 / min(self.per_second, ceiling or math.inf)

    def next_slot(self, idle: bool, ceiling: float | None) -> float:
        """When the next request is due. In slow start a single request need not wait."""
        if idle and self.probing is None:
            return self.slot + 1 / ceiling if ceiling else -math.inf
        return self.slot + self.gap(ceiling)

    def started(self, now: float, ceiling: float | None) -> Self:
        gap = self.gap(ceiling)
        due = self.slot + gap
        last = self.starts[-1] if self.starts else now
        reached = self.reached
        if len(self.starts) == REMEMBERED and self.probing is None:
            reached = max(reached, REMEMBERED / max(now - self.starts[0], JITTER_S))
        return replace(
            self,
            slot=min(now, max(due, now - CATCH_UP_S)),
            busy_s=self.busy_s + min(now - last, 2 * gap),
            owed=max(0.0, self.owed - 1 / PRICE),
            starts=(*self.starts[1 - REMEMBERED :], now),
            resumed_at=min(self.resumed_at, now),
            let_in=self.let_in + 1,
            frozen_s=self.frozen_s + (now - last if now - last > FROZEN_S else 0.0),
            reached=reached,
        )

    def answered(self) -> Self:
        if self.probing is not None:
            return self
        return replace(self, base=min(FASTEST, self.base * 2 ** (1 / DOUBLES_AFTER)))

    def resumed(self, at: float) -> Self:
        """Count from the request that started `at`, the first to be let in again."""
        return replace(self, resumed_at=at, let_in=sum(start >= at for start in self.starts), frozen_s=0.0)

    def refused(self, at: float, wait: float, resume_at: float, *, dated: bool = False) -> Self:
        """Learn from the refusal of the request that started `at`.

        wait         seconds of the Retry-After, or our own
        resume_at    when the next request may start
        dated        the Retry-After was a date: up to a second more than necessary

        The pause after a refusal belongs to the same windows as the requests let in before it.
        """
        let_in = self.let_in - sum(start >= at for start in self.starts)
        owing = replace(self, owed=min(MOST_OWED, self.owed + 1), let_in=let_in)
        if not let_in:  # the quota was spent before our first request: nothing to learn
            return replace(owing, refused_at=at)
        stretch = resume_at - self.resumed_at - self.frozen_s
        owing = replace(owing, proven=owing._proof(at, stretch))
        limit, probing = owing._limit(at, wait, stretch, dated)
        learned = replace(owing._learned(limit, probing), refused_at=at)
        if probing == "unsure":
            return replace(learned, hold=max(learned.hold, stretch))
        return learned

    def _refilled(self, at: float) -> float:
        """Requests a second let in between two refusals; 0 when the use was interrupted.

        A bucket found empty holds at most a second's refill when the pause is over.
        """
        used_s, pause = at - self.resumed_at, self.resumed_at - self.refused_at
        if pause < 0 or used_s > self.busy_s + 1:
            return 0.0
        return (self.let_in + 0.5) / max(used_s + min(pause, 1.0), JITTER_S)

    def _proof(self, at: float, stretch: float) -> float:
        """The rate that this stretch proves, with the longer of the pauses at its ends, or an earlier one."""
        if self.probing == "doubted" or self._had_held or self.resumed_at < self.refused_at:
            return 0.0
        earlier = self.proven if self.proven < self.per_second else 0.0
        return max(earlier, self.let_in / max(stretch, at - self.refused_at - self.frozen_s, JITTER_S))

    @property
    def _had_held(self) -> bool:
        return self.probing in _PAID and self.busy_s >= SETTLED_S

    def _limit(self, at: float, wait: float, stretch: float, dated: bool) -> tuple[float, Probing]:
        """Estimate the tenant's limit from a stretch of so many seconds, its pause included.

        A long wait means a long window, whose limit only the average over as long a stretch shows: one
        refusal at most halves the rate.
        """
        average, recent = self.let_in / max(stretch, JITTER_S), self._recent(at)
        if wait - dated > max(1.0, (at - self.resumed_at) / 4):
            return (max(average, self.base / 2) if self.probing else average), "unsure"
        if self.probing is None:
            return max(average, recent), "sure" if self.let_in >= FEW else "unsure"
        most, held = min(recent, self.per_second), self.base / MARGIN
        if self._had_held:
            if self.busy_s <= self.hold:
                return self.base, "doubted"
            return (most, "sure") if most > RAISED * held else (held, "doubted")
        if self.probing != "doubted" and self.busy_s <= self.hold:
            refilled, used_s = self._refilled(at), at - self.resumed_at
            if used_s > LONG_S and refilled:
                return max(self.proven, min(most, refilled)), "sure"
            had = max(self.proven, refilled) if dated and used_s < SHORT_S else self.proven
            average = max(average, min(self.per_second, had))
        whole = self.let_in / max(1, math.floor(stretch + WHOLE_S))
        limit = max(average, min(most, whole))
        if self.let_in < FEW:
            return max(limit, self.base / 2), "unsure"
        if self.busy_s > self.hold or most < 1.5 * average:
            return max(average, most), "sure"
        if (self.probing == "doubted" and not dated) or most < ALIKE * limit:
            return limit, "sure"
        return limit + TOWARDS * (most - limit), "unsure"

    def slowed(self, now: float) -> Self:
        """Multiplicative decrease from the rate that was really sent."""
        latest = self.starts[-8:]
        sent = len(latest) / max(now - latest[0], JITTER_S)
        return self._learned(BACK_OFF * min(self.per_second, sent), "recovering")

    def _learned(self, limit: float, probing: Probing) -> Self:
        base = max(SLOWEST, limit * MARGIN)
        hold = _PROBES[probing].hold
        if probing in _PAID:
            hold = max(hold, PRICE * self.owed / base)
        return replace(self, base=base, probing=probing, busy_s=0.0, hold=hold, reached=FIRST_RATE)

    def _recent(self, at: float) -> float:
        """Requests a second let in before `at`: the most over whole seconds, until these hold five."""
        before = [start for start in self.starts if self.resumed_at <= start < at]
        if len(before) >= REMEMBERED - 1 and at - before[0] < 1:
            return len(before) / (at - before[0])
        count, seconds, most = 0, 0, 0.0
        while count < 5 and seconds < max(1, min(60, round(at - self.resumed_at))):
            seconds += 1
            count = sum(start > at - seconds - JITTER_S for start in before)
            most = max(most, count / seconds)
        return most
