"""The ranges of a whole catalogue, read by workers: orders go out, progress comes back through the database.

    the run that leads    plan even ranges ──> order each ──> watch until all are read, go on alone
    a worker              claim a range ──> read on from its cursor ──> done, or failed, or given back
                                              │ a page per transaction, under the leader's lease and its own
                                              └─> rows, changes, cursor, counters

An order may be lost, come twice or late: it only says where to look. What is to be read stands in
`sync_partitions`, and who may write it is decided there, so a broker need not be trusted with anything.
A worker that dies leaves its range to another one when its lease has run out; towards the end, ranges
are cut in two for workers that have nothing left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from time import monotonic
from typing import Final, Literal, Protocol
from uuid import uuid4

import sqlalchemy as sa

from sync.commerce.products import Extent
from sync.db import leases, partitions, rejected, runs
from sync.db.engine import in_transaction
from sync.db.partitions import LIFE, Claim, Found, Partition
from sync.errors import (
    DatabaseUnavailable,
    Interrupted,
    LeaseHeld,
    QueueUnavailable,
    RangeLost,
    RangesFailed,
    SyncError,
)
from sync.model import Interval, PassKind, Tally, Traffic, counted
from sync.passes.partitioning import FEWEST_PAGES, CountedIds, even, share
from sync.passes.run import Run, Sync, heartbeat
from sync.passes.sweep import in_words, sweep, todo

LOOK_S: Final = 0.5  # between two looks at the database
ASK_S: Final = 5.0  # between two questions whether hands are idle while ranges wait

Outcome = Literal["read", "elsewhere", "failed"]


@dataclass(frozen=True, slots=True)
class RangeTask:
    """Where a worker finds something to do: one range of one run.

    fencing    the number of the lease under which the run writes
    """

    kind: PassKind
    run_id: int
    fencing: int
    store_view: str
    first_id: int


class Queue(Protocol):
    """Takes orders to workers, each at least once as long as it keeps them."""

    def put(self, orders: Sequence[RangeTask]) -> None:
        """Raises QueueUnavailable."""
        ...

    def hands(self) -> int:
        """How many ranges the workers that listen can read at once. Takes about a second."""
        ...


def lead(run: Run, queue: Queue, interval: Interval) -> None:
    """Have a whole catalogue, or an id range of it, read by workers."""
    _Lead(run, queue).read(todo(run, interval, pieces=_for_workers))


# --- who leads -------------------------------------------------------------------------------


def _for_workers(run: Run, view: str, span: Interval, top: Extent) -> list[CountedIds]:
    each = share(top.total, run.sync.page_size)
    cuts = even(span, top.highest_id, top.total, each, partial(_counts, run, view))
    return [CountedIds(cut, each) for cut in cuts]


def _counts(run: Run, view: str, intervals: Sequence[Interval]) -> list[int]:
    """How many products each interval holds, asked for side by side: the pacer lets through what it may."""
    with ThreadPoolExecutor(run.sync.concurrency) as pool:
        return [found.total for found in pool.map(partial(run.sync.source.count, view), intervals)]


class _Lead:
    """A run whose ranges are read by workers."""

    def __init__(self, run: Run, queue: Queue, clock: Callable[[], float] = monotonic) -> None:
        self._run = run
        self._queue = queue
        self._clock = clock
        self._asked_at, self._was_idle = clock(), False
        self._fencing = run.transact(leases.fencing)
        self._whole: set[Partition] = set()  # too small to be cut up

    def read(self, ranges: Sequence[Partition]) -> None:
        """Have these ranges read. Raises RangesFailed when some cannot be, after all the others are."""
        self._order(ranges)
        while unread := self._look():
            todo = [found for found in unread if found.failure is None]
            if not todo:
                self._run.leave_out_unknown()
                unread = [it for it in unread if it.partition.store_view in self._run.sync.store_views]
                if not unread:
                    return
                raise _failed(unread)
            if self._run.sync.stop.wait(LOOK_S):
                raise Interrupted(
                    "Stopped: workers go on with the ranges they have; started again, so do we."
                )
            overdue = self._run.transact(lambda tx: partitions.release_overdue(tx, self._run.run_id))
            with suppress(QueueUnavailable):  # what could not be ordered now is ordered again as lost
                self._order([*overdue, *(self._lost(todo) or self._cut_up(todo))])

    def _order(self, ranges: Sequence[Partition]) -> None:
        run = self._run
        orders = [RangeTask(run.kind, run.run_id, self._fencing, it.store_view, it.first_id) for it in ranges]
        if orders:
            self._queue.put(orders)

    def _look(self) -> list[Found]:
        """The ranges still to be read; what was done since the last look is told to whoever watches."""
        run = self._run

        def look(connection: sa.Connection) -> tuple[list[Found], Tally, Traffic]:
            unread = partitions.unread(connection, run.run_id)  # first: what is read is counted
            return unread, *runs.counters(connection, run.run_id)

        unread, tally, run.elsewhere = run.read(look)
        more, run.tally = tally - run.tally, tally
        if more.fetched:
            run.sync.watch.rows_written(more.fetched, more)
        return unread

    def _lost(self, todo: Sequence[Found]) -> list[Partition]:
        """Ranges that nobody takes though there are hands for them: their orders are lost, with a broker
        that was emptied perhaps."""
        waiting = [found.partition for found in todo if not found.is_claimed]
        if not waiting:
            self._asked_at, self._was_idle = self._clock(), False
        if not waiting or self._clock() - self._asked_at < ASK_S:
            return []
        was_idle, is_idle = self._was_idle, self._queue.hands() > len(todo) - len(waiting)
        self._asked_at, self._was_idle = self._clock(), is_idle and not was_idle
        return waiting if is_idle and was_idle else []

    # --- the end of the work -----------------------------------------------------------------

    def _cut_up(self, todo: Sequence[Found]) -> list[Partition]:
        """New ranges for hands that have nothing to do, from the largest that others have in hand."""
        claimed = [found.partition for found in todo if found.is_claimed]
        if len(claimed) < len(todo):
            return []  # somebody can take what nobody has
        divisible = [it for it in claimed if it not in self._whole and _width(it) >= self._worth]
        if not divisible or self._queue.hands() <= len(claimed):
            return []
        largest = max(divisible, key=_width)
        middle = self._middle(largest)
        if middle is None:
            self._whole.add(largest)
            return []
        cut = self._run.transact(lambda tx: partitions.cut_off(tx, self._run.run_id, largest, middle))
        return [] if cut is None else [cut]

    @property
    def _worth(self) -> int:
        """Products that are worth handing over, twice: less is read before it is."""
        return 2 * FEWEST_PAGES * self._run.sync.page_size

    def _middle(self, partition: Partition) -> int | None:
        """An id with half of what is left of a range on either side; None where that is too little."""
        count = partial(_counts, self._run, partition.store_view)
        (total,) = count([partition.rest])
        if total < self._worth or partition.last is None:
            return None
        first, *_ = even(partition.rest, partition.last, total, -(-total // 2), count)
        return first.last if first.last != partition.last else None


def _width(partition: Partition) -> int:
    return 0 if partition.last is None else partition.last - partition.cursor


def _failed(unread: Sequence[Found]) -> RangesFailed:
    first = unread[0].failure
    reasons = " ".join(dict.fromkeys(found.failure["message"] for found in unread))
    rest = in_words(found.partition for found in unread)
    return RangesFailed(
        f"{counted(len(unread), 'range')} could not be read by workers. {reasons} {rest}",
        first["fix"],
        first["exit_code"],
    )


# --- a worker --------------------------------------------------------------------------------


class Unreported:
    """What this process has asked of the tenant and no run was told of yet.

    total    all that it has asked since its start
    """

    def __init__(self, total: Callable[[], Traffic]) -> None:
        self._total = total
        self._told = total()
        self._lock = Lock()

    @contextmanager
    def told(self) -> Iterator[Traffic]:
        """What to tell a run; it stays untold when that fails."""
        with self._lock:
            now = self._total()
            more, self._told = now - self._told, now
        try:
            yield more
        except BaseException:
            with self._lock:
                self._told -= more
            raise


def work_off(sync: Sync, order: RangeTask, unreported: Unreported) -> Outcome:
    """Read what is left of a range, unless somebody else does or did.

    A range that cannot be read is marked so, with the reason, and its run ends with that.
    Raises Interrupted when `sync.stop` is set, with the range given back, and DatabaseUnavailable.
    """
    owner = f"{sync.owner} {uuid4().hex[:8]}"
    while (claimed := _claim(sync, order, owner)) is not None:
        try:
            _read(sync, order, claimed, unreported)
        except RangeLost:
            continue  # cut shorter, perhaps: then it is still ours
        except LeaseHeld:
            return "elsewhere"
        except Interrupted:
            _leave(sync, partial(partitions.give_back, claim=claimed))
            raise
        except DatabaseUnavailable:  # nothing can be said of it either: the lease runs out
            raise
        except SyncError as error:
            return _failed_for(sync, claimed, error)
        except Exception as fault:  # noqa: BLE001 - the run ends with it, the worker does not
            return _failed_for(sync, claimed, SyncError(f"A fault of its own: {type(fault).__name__}."))
        return "read"
    return "elsewhere"


def _claim(sync: Sync, order: RangeTask, owner: str) -> Claim | None:
    return in_transaction(
        sync.db,
        lambda tx: partitions.claim(tx, order.run_id, order.store_view, order.first_id, owner),
        stop=sync.stop,
    )


def _read(sync: Sync, order: RangeTask, claimed: Claim, unreported: Unreported) -> None:
    def fence(tx: sa.Connection) -> None:
        leases.share(tx, order.fencing)
        partitions.renew(tx, claimed)

    with heartbeat(sync.db, fence, LIFE):
        run = _join(sync, order, fence, unreported)
        sweep(run, [claimed.partition], complete=run.is_full, audit=run.is_full)


def _join(
    sync: Sync, order: RangeTask, fence: Callable[[sa.Connection], None], unreported: Unreported
) -> Run:
    """The run of an order, as who helps with it sees it."""
    view = order.store_view

    def opened(tx: sa.Connection) -> set[int]:
        fence(tx)
        return rejected.open_ids(tx, view)

    retried = in_transaction(sync.db, opened, stop=sync.stop)
    return Run(
        sync=replace(sync, concurrency=1, queue=None),
        kind=order.kind,
        run_id=order.run_id,
        fence=fence,
        resumed=None,
        clocks=None,
        retried={view: retried},
        before=sync.traffic(),
        began=monotonic(),
        unreported=unreported,
    )


def _failed_for(sync: Sync, claimed: Claim, error: SyncError) -> Outcome:
    """Note the reason; which ids were not read, the range itself says."""
    failure = {"message": error.args[0], "fix": error.fix, "exit_code": error.exit_code}
    _leave(sync, partial(partitions.fail, claim=claimed, failure=failure))
    return "failed"


def _leave(sync: Sync, work: Callable[[sa.Connection], None]) -> None:
    """Say what became of a range; somebody who has it by now knows better."""
    with suppress(RangeLost):
        in_transaction(sync.db, work)
