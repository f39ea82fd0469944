"""A fair queue: many tenants have work, and only some may run at once. Pure: the clock is passed in.

    enqueue ──> the tenant's own queue ──> the line of tenants ──> a slot ──> ended, or paused
                                                ^                               │
                                                ├──── more work, or yielded ────┤
                                                └─── rest <── did not answer ───┘

1. A tenant is in the line at most once, however much work it has, and holds at most one slot.
2. The first tenant in the line gets the next slot, for the oldest of its work. Then it goes to the end.
3. A tenant that has held a slot for `turn_s` while others wait is asked to yield. Between two requests it
   ends, and resumes after its other work; or, if its pass cannot resume, it pauses, and continues before its
   other work.
4. A tenant that has not answered for MOST_SILENT_S, or for `turn_s` where that is shorter, while others wait
   is hung up on: with the grace of 5, what hangs holds a slot for a minute at most.
5. A tenant that still holds its slot `grace_s` after it was asked to yield loses the slot to others.
6. A tenant that was out of reach in its turn rests: one minute, doubled each time, at most 15 minutes. After
   the rest it has PROBE_S to answer.

By 1 and 2, a tenant waits for at most one turn of each tenant before it. By 3 to 5, every turn ends. By 6,
tenants that do not answer take ever less time from those that do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isinf
from typing import Final, Generic, Protocol, TypeVar

MOST_SILENT_S: Final = 50.0  # without an answer while others wait; a longer turn is for those that answer
GRACE_S: Final = 10.0  # for the current request to be answered and its page to be written
PROBE_S: Final = 10.0  # for a first answer, after a turn without one
FIRST_REST_S: Final = 60.0
LONGEST_REST_S: Final = 900.0


class Work(Protocol):
    """A unit of work for a tenant; equal if it is the same work."""


W = TypeVar("W", bound=Work)


@dataclass(slots=True)
class _Turn(Generic[W]):
    """A slot that a tenant holds; `is_lost` after it was given to others."""

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
    """The line of tenants, and those that hold a slot. Times are seconds of a monotonic clock.

    at_once    number of slots
    turn_s     how long a tenant may keep the others waiting; inf for an only tenant, which never rests
    grace_s    how long a tenant may take to yield
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
        """Add work; does nothing if the same work is queued or in progress."""
        queue = self._queues.setdefault(tenant, deque())
        turn = self._at_work.get(tenant)
        if work not in queue and (turn is None or turn.work != work):
            queue.append(work)
            self._line_up(tenant)

    def next(self, now: float) -> tuple[str, W] | None:
        """Give a slot to the next tenant until `ended`. None if no tenant waits or no slot is free."""
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
        """Free the tenant's slot. Returns how many seconds it rests; None if it does not.

        unfinished      it yielded: the rest of its work is queued again, after its other work
        out_of_reach    it failed because Commerce or the database did not answer
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
        """Free the slot of a tenant that pauses; its next turn continues the same work."""
        turn = self._at_work.pop(tenant)
        if tenant in self._queues:
            self._queues[tenant].appendleft(turn.work)
        self._line_up(tenant)

    def end_rest(self, tenant: str) -> None:
        """End a tenant's rest."""
        self._resting.pop(tenant, None)
        self._line_up(tenant)

    def forget(self, tenant: str) -> None:
        """Drop a tenant's queued work; work in progress continues."""
        self._queues.pop(tenant, None)
        self._misses.pop(tenant, None)
        self._resting.pop(tenant, None)
        if tenant in self._line:
            self._line.remove(tenant)

    def silence_s(self, tenant: str) -> float:
        """How long a tenant may keep the others waiting without an answer."""
        return min(self.turn_s, PROBE_S if tenant in self._misses else MOST_SILENT_S)

    def due_to_yield(self, now: float, silent: Mapping[str, float]) -> list[str]:
        """Tenants to ask to yield, each once: the longest turns first, one for each waiting tenant.

        silent    seconds since the last answer, for each tenant that holds a slot
        """
        asked: list[str] = []
        wanted = len(self._line) - sum(turn.is_yielding for turn in self._at_work.values())
        for tenant, turn in self._at_work.items():
            is_over = now - turn.since >= self.turn_s or silent[tenant] >= self.silence_s(tenant)
            if len(asked) < wanted and turn.asked_at is None and is_over:
                turn.asked_at = now
                asked.append(tenant)
        return asked

    def due_to_hang_up(self, silent: Mapping[str, float]) -> list[str]:
        """Tenants whose requests to hang up, each once: asked to yield, and unanswered for too long."""
        found = []
        for tenant, turn in self._at_work.items():
            is_due = turn.asked_at is not None and silent[tenant] >= self.silence_s(tenant)
            if is_due and not turn.is_hung_up:
                turn.is_hung_up = True
                found.append(tenant)
        return found

    def due_to_lose_slot(self, now: float) -> list[str]:
        """Tenants that did not yield in time; their slots are free for others from now on."""
        lost = []
        for tenant, turn in self._at_work.items():
            if turn.asked_at is not None and now - turn.asked_at >= self.grace_s and not turn.is_lost:
                turn.is_lost = True
                lost.append(tenant)
        return lost

    def queued(self, tenant: str) -> list[W]:
        """The work of a tenant that waits for a slot."""
        return list(self._queues.get(tenant, ()))

    @property
    def at_work(self) -> dict[str, W]:
        """The tenants that hold a slot, and their work."""
        return {tenant: turn.work for tenant, turn in self._at_work.items()}

    @property
    def is_idle(self) -> bool:
        """Whether nothing will change with time alone."""
        return not self._at_work and not self._resting

    def _rest_s(self, tenant: str) -> float | None:
        if isinf(self.turn_s) or tenant not in self._queues:
            return None
        return float(min(FIRST_REST_S * 2 ** self._misses.get(tenant, 0), LONGEST_REST_S))

    def _line_up(self, tenant: str) -> None:
        is_free = not (tenant in self._line or tenant in self._at_work or tenant in self._resting)
        if self._queues.get(tenant) and is_free:
            self._line.append(tenant)
