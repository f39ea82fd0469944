"""Whose turn it is, where many tenants have work and few may be at it. Pure: the clock is passed in.

    due ──> the tenant's own queue ──> the line of tenants ──> a slot ──> ended
                                            ^                               │ more to do, or told to make room
                                            └───────────────────────────────┘

1. A tenant stands in the line once, however much it has to do, and is at work once.
2. The longest in the line is served next, with the oldest of its work. Then it goes to the back.
3. Who has held a slot for `turn_s` while others wait is told to make room, and goes on another time. Work
   that would begin anew keeps its slot to the end: told to make room again and again, it would never end.
4. Who is stuck, or was told and still holds its slot `grace_s` later, is served no more until it lets go, and
   its slot is given to others: so tenants that hang never take the slots of those that do not.

From 1 and 2, nobody waits for more turns than there are tenants before it. From 3 and 4, no turn is for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

GRACE_S: Final = 60.0  # the page in hand is finished, requests are hung up within seconds


class Work(Protocol):
    """Something to do for a tenant; equal when it is the same."""

    @property
    def resumes(self) -> bool:
        """Whether it goes on where it was stopped."""


W = TypeVar("W", bound=Work)


@dataclass(slots=True)
class _Turn(Generic[W]):
    """A slot that is held; `is_lost` once it was given to others."""

    work: W
    since: float
    told_at: float | None = None
    is_lost: bool = False

    @property
    def is_making_room(self) -> bool:
        return self.told_at is not None and not self.is_lost


@dataclass(slots=True)
class Turns(Generic[W]):
    """The line, and who is at work. Times are seconds of any clock that never goes backwards.

    at_once    most tenants at work at the same time
    turn_s     how long one may keep the others waiting
    grace_s    how long one that was told may take to make room
    """

    at_once: int
    turn_s: float
    grace_s: float = GRACE_S
    _line: deque[str] = field(default_factory=deque)
    _queues: dict[str, deque[W]] = field(default_factory=dict)
    _at_work: dict[str, _Turn[W]] = field(default_factory=dict)

    def due(self, tenant: str, work: W) -> None:
        """This is to be done; nothing new where it waits already, or is at work."""
        queue = self._queues.setdefault(tenant, deque())
        turn = self._at_work.get(tenant)
        if work not in queue and (turn is None or turn.work != work):
            queue.append(work)
            self._line_up(tenant)

    def next(self, now: float) -> tuple[str, W] | None:
        """Who is served now, and with what; it holds a slot until `ended`. None: nobody, or no slot."""
        held = sum(not turn.is_lost for turn in self._at_work.values())
        if held >= self.at_once or not self._line:
            return None
        tenant = self._line.popleft()
        work = self._queues[tenant].popleft()
        self._at_work[tenant] = _Turn(work, now)
        return tenant, work

    def ended(self, tenant: str, *, unfinished: bool = False) -> None:
        """The tenant lets its slot go.

        unfinished    it made room: the rest is done when its turn comes again, behind what else is due
        """
        turn = self._at_work.pop(tenant)
        if unfinished and tenant in self._queues:
            self._queues[tenant].append(turn.work)
        self._line_up(tenant)

    def forget(self, tenant: str) -> None:
        """Nothing more is to be done for it; what it is at, it ends."""
        self._queues.pop(tenant, None)
        if tenant in self._line:
            self._line.remove(tenant)

    def to_stop(self, now: float, stuck: Collection[str] = ()) -> list[str]:
        """Who is to make room, told once: the longest at work first, one for each that waits.

        stuck    who has not been heard of for too long
        """
        told: list[str] = []
        wanted = len(self._line) - sum(turn.is_making_room for turn in self._at_work.values())
        for tenant, turn in self._at_work.items():
            is_over = turn.work.resumes and now - turn.since >= self.turn_s
            if len(told) < wanted and turn.told_at is None and (is_over or tenant in stuck):
                turn.told_at = now
                told.append(tenant)
        return told

    def to_write_off(self, now: float) -> list[str]:
        """Who was told and did not make room: from now on its slot is free for others."""
        lost = []
        for tenant, turn in self._at_work.items():
            if turn.told_at is not None and now - turn.told_at >= self.grace_s and not turn.is_lost:
                turn.is_lost = True
                lost.append(tenant)
        return lost

    @property
    def at_work(self) -> dict[str, W]:
        """Who is at work, and at what."""
        return {tenant: turn.work for tenant, turn in self._at_work.items()}

    def _line_up(self, tenant: str) -> None:
        if self._queues.get(tenant) and tenant not in self._line and tenant not in self._at_work:
            self._line.append(tenant)
