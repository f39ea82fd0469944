"""Whose turn it is, where many tenants have work and few may be at it. Pure: the clock is passed in.

    due ──> the tenant's own queue ──> the line of tenants ──> a slot ──> ended, or paused
                                            ^                               │
                                            ├── more to do, or made room ───┤
                                            └── a rest <── did not answer ──┘

1. A tenant stands in the line once, however much it has to do, and is at work once.
2. The longest in the line is served next, with the oldest of its work. Then it goes to the back.
3. A tenant that has held a slot for `turn_s` while others wait is told to make room. Between two requests it
   ends, and resumes behind its other work; or, where ending would mean beginning anew, it pauses, and
   continues before its other work.
4. A tenant from which nothing was heard for `turn_s` while others wait is hung up on: so a turn bounds the
   request in hand.
5. A tenant that still holds its slot `grace_s` after it was told loses the slot to others until it lets go.
6. A tenant that was out of reach for its turn rests: a minute, twice as long each time, at most a quarter of
   an hour. After the rest it has PROBE_S, not a whole turn, to answer.

From 1 and 2, nobody waits for more turns than there are tenants before it. From 3 to 5, no turn is for ever.
From 6, tenants that do not answer take less and less of the time of those that do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isinf
from typing import Final, Generic, Protocol, TypeVar

GRACE_S: Final = 10.0  # for the request in hand to be answered and its page written
PROBE_S: Final = 10.0  # for a first answer, after a turn that brought none
FIRST_REST_S: Final = 60.0
LONGEST_REST_S: Final = 900.0


class Work(Protocol):
    """Something to do for a tenant; equal when it is the same."""


W = TypeVar("W", bound=Work)


@dataclass(slots=True)
class _Turn(Generic[W]):
    """A slot that is held; `is_lost` once it was given to others."""

    work: W
    since: float
    asked_at: float | None = None
    is_lost: bool = False
    is_hung_up: bool = False

    @property
    def is_yielding(self) -> bool:
        return self.asked_at is not None and not self.is_lost


@dataclass(slots=True)
class FairQueue(Generic[W]):
    """The line, and who is at work. Times are seconds of any clock that never goes backwards.

    at_once    most tenants at work at the same time
    turn_s     how long one may keep the others waiting; inf: there are no others, so nobody rests
    grace_s    how long one that was told may take to make room
    """

    at_once: int
    turn_s: float
    grace_s: float = GRACE_S
    _line: deque[str] = field(default_factory=deque)
    _queues: dict[str, deque[W]] = field(default_factory=dict)
    _at_work: dict[str, _Turn[W]] = field(default_factory=dict)
    _misses: dict[str, int] = field(default_factory=dict)  # turns in a row without an answer
    _resting: dict[str, float] = field(default_factory=dict)  # until when

    def enqueue(self, tenant: str, work: W) -> None:
        """This is to be done; nothing new where it waits already, or is at work."""
        queue = self._queues.setdefault(tenant, deque())
        turn = self._at_work.get(tenant)
        if work not in queue and (turn is None or turn.work != work):
            queue.append(work)
            self._line_up(tenant)

    def next(self, now: float) -> tuple[str, W] | None:
        """Who is served now, and with what; it holds a slot until `ended`. None: nobody, or no slot."""
        for tenant in [tenant for tenant, until in self._resting.items() if until <= now]:
            self.end_rest(tenant)
        held = sum(not turn.is_lost for turn in self._at_work.values())
        if held >= self.at_once or not self._line:
            return None
        tenant = self._line.popleft()
        work = self._queues[tenant].popleft()
        self._at_work[tenant] = _Turn(work, now)
        return tenant, work

    def ended(
        self, tenant: str, now: float, *, unfinished: bool = False, out_of_reach: bool = False
    ) -> float | None:
        """The tenant lets its slot go. Returns how many seconds it rests, None where it does not.

        unfinished      it made room: the rest is done when its turn comes again, behind what else is due
        out_of_reach    it failed because the tenant, or its database, does not answer
        """
        turn = self._at_work.pop(tenant)
        if unfinished and tenant in self._queues:
            self._queues[tenant].append(turn.work)
        if not out_of_reach:
            self._misses.pop(tenant, None)
        took_long = now - turn.since >= min(self.turn_s, PROBE_S)
        rest_s = self._rest_s(tenant) if out_of_reach and took_long else None
        if rest_s is not None:
            self._misses[tenant] = self._misses.get(tenant, 0) + 1
            self._resting[tenant] = now + rest_s
        self._line_up(tenant)
        return rest_s

    def paused(self, tenant: str) -> None:
        """The tenant lets its slot go between two requests; it is served next with the same work."""
        turn = self._at_work.pop(tenant)
        if tenant in self._queues:
            self._queues[tenant].appendleft(turn.work)
        self._line_up(tenant)

    def end_rest(self, tenant: str) -> None:
        """Its rest is over."""
        self._resting.pop(tenant, None)
        self._line_up(tenant)

    def forget(self, tenant: str) -> None:
        """Nothing more is to be done for it; what it is at, it ends."""
        self._queues.pop(tenant, None)
        self._misses.pop(tenant, None)
        self._resting.pop(tenant, None)
        if tenant in self._line:
            self._line.remove(tenant)

    def silence_s(self, tenant: str) -> float:
        """Seconds without an answer for which a tenant may keep the others waiting."""
        return min(self.turn_s, PROBE_S) if tenant in self._misses else self.turn_s

    def due_to_yield(self, now: float, silent: Mapping[str, float]) -> list[str]:
        """Who is to make room, told once: the longest at work first, one for each that waits.

        silent    seconds since anything was heard from each that is at work
        """
        told: list[str] = []
        wanted = len(self._line) - sum(turn.is_yielding for turn in self._at_work.values())
        for tenant, turn in self._at_work.items():
            is_over = now - turn.since >= self.turn_s or silent[tenant] >= self.silence_s(tenant)
            if len(told) < wanted and turn.asked_at is None and is_over:
                turn.asked_at = now
                told.append(tenant)
        return told

    def due_to_hang_up(self, silent: Mapping[str, float]) -> list[str]:
        """Whose requests are to be hung up, once: who was told, and was not answered for too long."""
        found = []
        for tenant, turn in self._at_work.items():
            is_due = turn.asked_at is not None and silent[tenant] >= self.silence_s(tenant)
            if is_due and not turn.is_hung_up:
                turn.is_hung_up = True
                found.append(tenant)
        return found

    def due_to_lose_slot(self, now: float) -> list[str]:
        """Who was told and did not make room: from now on its slot is free for others."""
        lost = []
        for tenant, turn in self._at_work.items():
            if turn.asked_at is not None and now - turn.asked_at >= self.grace_s and not turn.is_lost:
                turn.is_lost = True
                lost.append(tenant)
        return lost

    @property
    def at_work(self) -> dict[str, W]:
        """Who is at work, and at what."""
        return {tenant: turn.work for tenant, turn in self._at_work.items()}

    @property
    def is_idle(self) -> bool:
        """Whether nothing changes by itself as time passes."""
        return not self._at_work and not self._resting

    def _rest_s(self, tenant: str) -> float | None:
        if isinf(self.turn_s) or tenant not in self._queues:
            return None
        return float(min(FIRST_REST_S * 2 ** self._misses.get(tenant, 0), LONGEST_REST_S))

    def _line_up(self, tenant: str) -> None:
        is_free = not (tenant in self._line or tenant in self._at_work or tenant in self._resting)
        if self._queues.get(tenant) and is_free:
            self._line.append(tenant)
