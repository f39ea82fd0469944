"""One run of one pass: its lease, its row in `sync_runs`, its transactions, its ending.

Every pass has this shape:

    with start(sync, "backfill", scope) as run:      # takes the lease, opens or continues
        run.commit(lambda tx: ...)                   # renews the lease, writes, adds to the counters
    return run.summary()                             # closed as succeeded, partial, failed or interrupted

A dry run does all of it and keeps nothing: no lease, no row, every transaction rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import sqlalchemy as sa

from sync.commerce.client import Client
from sync.commerce.products import Miscount, Products
from sync.db import current_views as in_force
from sync.db import findings, leases, partitions, rejected, runs, state
from sync.db.copy import CopyWriter
from sync.db.dialects import utc_now
from sync.db.engine import Transaction, in_transaction, reading, transactions
from sync.db.leases import LIFE
from sync.db.partitions import Partition
from sync.db.runs import Clocks
from sync.errors import Interrupted, RequestRefused, SettingsError, SyncError, UnknownStoreViews
from sync.logs.redaction import redacted
from sync.model import ADMIN, PassKind, RunStatus, Tally, Traffic, Unreadable, counted
from sync.passes.prefetch import Item
from sync.pipeline import PageOutcome

if TYPE_CHECKING:
    from sync.passes.workers import Queue, Unreported

T = TypeVar("T")
MISCOUNTS = "miscounts"  # the name under which sync_state keeps how the tenant counts
ASK_ALL = ("backfill", "incremental", "reconcile", "verify")  # passes that ask each store view
RESUME_WITHIN = timedelta(hours=12)  # an older sweep says too little about today's catalogue


class Watch(Protocol):
    """Whoever wants to see a run at work: a log, a progress bar. Called from the writer's thread."""

    def run_started(self, run_id: int, kind: PassKind, store_views: Sequence[str], resumed: bool) -> None: ...
    def products_expected(self, total: int) -> None: ...
    def page_written(self, store_view: str, item: Item, tally: Tally) -> None: ...
    def rows_written(self, count: int, tally: Tally) -> None: ...
    def product_rejected(self, item: Unreadable) -> None: ...
    def deletion_held_back(self, message: str) -> None: ...
    def feed_missed(self, message: str) -> None: ...
    def store_view_unknown(self, message: str) -> None: ...
    def run_finished(self, summary: Summary) -> None: ...


@dataclass(frozen=True, slots=True)
class Sync:
    """What every pass works with: the tenant, the copy, and how to read one into the other.

    client                 asks the tenant for what is no product
    owner                  who we are, in words, for whoever finds the lease taken
    is_dead                tells of an owner on this machine that it no longer runs
    traffic                what the client has sent since the start of the process
    overlap                how far a window reaches back behind the watermark
    max_delete_fraction    of a store view's products; more missing at once is not believed
    lease_life             how long a killed run keeps others waiting, at most
    dry                    read and report, keep nothing
    queue                  takes the ranges of a whole catalogue to workers; None: this process reads them
    """

    source: Products
    client: Client
    db: sa.Engine
    store_views: tuple[str, ...]
    owner: str
    is_dead: Callable[[str], bool]
    traffic: Callable[[], Traffic]
    watch: Watch
    stop: Event
    page_size: int
    concurrency: int
    overlap: timedelta
    max_delete_fraction: float
    lease_life: timedelta = LIFE
    dry: bool = False
    queue: Queue | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended.

    held_back    what was not believed, or could not be read, and why
    resumed      it continued an interrupted run: part of what it stands for was read by that one
    """

    run_id: int
    kind: PassKind
    status: RunStatus
    store_views: tuple[str, ...]
    tally: Tally
    traffic: Traffic
    seconds: float
    held_back: str | None = None
    dry: bool = False
    resumed: bool = False

    @property
    def exit_code(self) -> int:
        return 1 if self.status == "partial" else 0

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints; the contract names its keys."""
        return {
            "run_id": self.run_id,
            "kind": self.kind,
            "status": self.status,
            "store_views": list(self.store_views),
            **asdict(self.tally),
            **self.traffic.counts,
            "seconds": round(self.seconds, 3),
        }


@dataclass(slots=True)
class Run:
    """A run under way. Only `start` makes one, and `workers.join` for who helps with it.

    fence      makes sure, in a transaction, that we may still write; raises LeaseHeld or RangeLost
    resumed    ranges that an earlier run of the same scope left unread; None when this run starts afresh
    clocks     at the pass's first answer; the earlier run's, where this one continues it
    heard      at this run's own first answer
    extra      in a dry run, ids stored here that no page listed, by store view; otherwise they are findings
    left_out   what is said of store views that the tenant does not know; `sync` names only the others
    miscounts  how the tenant was known to count before this run
    arrived    in a dry run, ids that the real one would by now have copied or rejected, by store view
    elsewhere  what workers asked of the tenant for this run
    unreported what this process asked of it and has to tell the run, where another one leads
    """

    sync: Sync
    kind: PassKind
    run_id: int
    fence: Callable[[sa.Connection], None]
    resumed: list[Partition] | None
    clocks: Clocks | None
    retried: dict[str, set[int]]
    before: Traffic
    began: float
    tally: Tally = field(default_factory=Tally)
    held_back: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    miscounts: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, list[int]] = field(default_factory=dict)
    arrived: dict[str, set[int]] = field(default_factory=dict)
    elsewhere: Traffic = field(default_factory=Traffic)
    unreported: Unreported | None = None
    heard: Clocks | None = None

    # --- transactions ------------------------------------------------------------------------

    @property
    def writer(self) -> CopyWriter:
        """What `copy.apply` needs of this run."""
        sync = self.sync
        return CopyWriter(sync.db, self.run_id, self.fence, sync.stop, sync.dry, self.unreported_traffic)

    def unreported_traffic(self) -> AbstractContextManager[Traffic | None]:
        """What a worker has asked of the tenant and has not reported yet; None in the run that leads."""
        return nullcontext() if self.unreported is None else self.unreported.told()

    def commit(self, work: Callable[[sa.Connection], Tally]) -> Tally:
        """Run `work` and keep it together with the lease's renewal and the run's counters.

        Raises LeaseHeld or RangeLost, and keeps nothing, when somebody has taken over.
        """
        with self.unreported_traffic() as traffic:
            for transaction in self._transactions():
                with transaction as tx:
                    self.fence(tx)
                    tally = work(tx)
                    runs.add(tx, self.run_id, tally)
                    if traffic is not None:
                        runs.add_traffic(tx, self.run_id, traffic)
        self.tally += tally
        return tally

    def transact(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` under the lease; a dry run rolls back at its end."""
        for transaction in self._transactions():
            with transaction as tx:
                self.fence(tx)
                result = work(tx)
        return result

    def _transactions(self) -> Iterator[Transaction]:
        return transactions(self.sync.db, stop=self.sync.stop, keep=not self.sync.dry)

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        return reading(self.sync.db, work, stop=self.sync.stop)

    @property
    def is_full(self) -> bool:
        """Whether every page is compared in full: a reconcile proves more than a backfill."""
        return self.kind == "reconcile"

    # --- what the passes report to the run --------------------------------------------------------

    def plan(self, planned: Sequence[Partition]) -> list[Partition]:
        """Store the ranges this run will read, so that another one could continue."""
        self.transact(lambda tx: partitions.plan(tx, self.run_id, planned))
        return list(planned)

    def note_server_time(self, server_time: datetime | None) -> None:
        """The tenant's clock at the first answer; later ones do not count."""
        if self.heard is not None or server_time is None:
            return
        heard = self.heard = Clocks(server_time, self.read(utc_now))
        if self.clocks is None:
            self.clocks = heard
            self.transact(lambda tx: runs.note_clocks(tx, self.run_id, heard))

    def note(self, outcome: PageOutcome) -> None:
        """Count what became of a page; a dry run, which writes nothing, also keeps what it needs later."""
        item = outcome.arrival.item
        self.tally += outcome.tally
        self.sync.watch.page_written(item.store_view, item, outcome.tally)
        if self.sync.dry:
            self.extra.setdefault(item.store_view, []).extend(outcome.missing)
        if self.sync.dry and self.kind != "reconcile":  # which does not count
            self.arrived.setdefault(item.store_view, set()).update(outcome.arrived)

    def expect(self, products: int) -> None:
        """So many products are to be read: tell whoever watches, here and through the database."""
        self.sync.watch.products_expected(products)
        if not self.sync.dry:
            self.transact(lambda tx: runs.expect(tx, self.run_id, products))

    def hold_back(self, message: str) -> None:
        """Products missing there are not believed to be gone: say so, and end as partial."""
        self.held_back.append(message)
        self.sync.watch.deletion_held_back(message)

    def is_mass_deletion(self, missing: int, here: int, listed: int) -> bool:
        """Whether more are missing than may go at once; a single one may, if others are listed."""
        return missing > here * self.sync.max_delete_fraction and not (missing == 1 and listed)

    def do_without(self, message: str) -> None:
        """Part of a feed cannot be had, or is not believed: say so, read the rest, and end as partial."""
        self.held_back.append(message)
        self.sync.watch.feed_missed(message)

    @contextmanager
    def apart(self, store_view: str) -> Iterator[None]:
        """Work on one store view; when the tenant does not know it any more, the others go on without it."""
        try:
            yield
        except (SettingsError, RequestRefused):
            self.leave_out_unknown()
            if store_view in self.sync.store_views:
                raise

    def leave_out_unknown(self) -> bool:
        """Go on without the store views that the tenant refuses, while it answers for another one.

        Returns whether there are any. Commerce answers an unknown code as it does a wrong request, so each
        store view is asked for nothing at all. Raises UnknownStoreViews if all are unknown.
        """
        views = self.sync.store_views
        unknown = [view for view in views if not self.sync.source.knows(view)]
        if len(unknown) == len(views):
            if ADMIN not in views and self.sync.source.knows(ADMIN):
                raise UnknownStoreViews(unknown)
            return False
        for view in unknown:
            self.leave_out(view)
        return bool(unknown)

    def leave_out(self, store_view: str) -> None:
        """Say that the tenant does not know a store view, go on without it, and end as partial."""
        others = tuple(view for view in self.sync.store_views if view != store_view)
        self.sync = replace(self.sync, store_views=others)
        message = (
            f"{UnknownStoreViews([store_view])} It was not read: correct STORE_VIEWS, and remove its rows "
            f"with `product-sync forget --store-view {store_view}`."
        )
        self.left_out.append(message)
        self.transact(lambda tx: in_force.note_lost(tx, store_view))
        self.sync.watch.store_view_unknown(message)

    # --- the end -----------------------------------------------------------------------------

    def summary(self, status: RunStatus | None = None) -> Summary:
        traffic = self.sync.traffic() - self.before + self.elsewhere
        remarks = [*self.held_back, *self.left_out]
        findings = self._miscounted()
        return Summary(
            run_id=self.run_id,
            kind=self.kind,
            status=status or ("partial" if self.tally.rejected or remarks else "succeeded"),
            store_views=self.sync.store_views,
            tally=self.tally,
            traffic=traffic,
            seconds=monotonic() - self.began,
            held_back=" ".join([*remarks, *findings]) or None,
            dry=self.sync.dry,
            resumed=self.resumed is not None,
        )

    def _miscounted(self) -> list[str]:
        """What this run found out about the way the tenant counts: said once, for the next run knows it."""
        return [
            f"Commerce counts {_off_by(miscount.most)} in store view {view}, every time, and lists "
            "the right ones: its counts are corrected by that. An extension may change them."
            for view, miscount in self.sync.source.miscounts.items()
            if miscount.most and miscount.as_json() != self.miscounts.get(view)
        ]

    def close(self, status: RunStatus | None = None, error: str | None = None) -> None:
        """Write how the run ended; one that came through leaves no ranges and no findings behind."""
        summary = self.summary(status)

        def finish(tx: sa.Connection) -> None:
            runs.finish(tx, self.run_id, summary.status, summary.traffic, summary.seconds, error)
            if status is None:
                forget(tx, self.run_id)
                if self.kind in ASK_ALL:
                    in_force.note_found(tx, summary.store_views)
                counts = {view: it.as_json() for view, it in self.sync.source.miscounts.items()}
                if counts != self.miscounts:
                    state.save(tx, MISCOUNTS, counts)

        self.transact(finish)
        self.sync.watch.run_finished(summary)


def _off_by(surplus: int) -> str:
    """
    >>> _off_by(3), _off_by(-1)
    ('3 products too many', '1 product too few')
    """
    return f"{counted(abs(surplus), 'product')} too {'many' if surplus > 0 else 'few'}"


def forget(tx: sa.Connection, run_id: int) -> None:
    """Drop what only a continuation of this run would need."""
    partitions.drop(tx, run_id)
    findings.drop(tx, run_id)


@contextmanager
def start(sync: Sync, kind: PassKind, scope: str | None = None, *, restart: bool = False) -> Iterator[Run]:
    """Begin a run, or continue one of the same kind and scope that did not end; close it on the way out.

    scope      what will be read, as text: equal scopes are the same work. None for a run that is too small
               to be continued, and leaves what others would continue alone
    restart    do not continue

    Raises LeaseHeld at once when another run is writing.
    """
    if sync.dry:
        run = _dry_run(sync, kind)
        yield run
        sync.watch.run_finished(run.summary())
        return
    lease = leases.acquire(sync.db, sync.owner, sync.is_dead, sync.lease_life)
    fence = partial(leases.renew, lease=lease)
    try:
        with heartbeat(sync.db, fence, lease.life):
            run = in_transaction(sync.db, lambda tx: _open(tx, sync, kind, scope, fence, restart))
            sync.watch.run_started(run.run_id, kind, sync.store_views, run.resumed is not None)
            try:
                yield run
                run.close()
            except BaseException as error:
                with suppress(SyncError):
                    run.close("interrupted" if _is_interruption(error) else "failed", redacted(_words(error)))
                raise
    finally:
        with suppress(SyncError):
            leases.release(sync.db, lease)


def _words(error: BaseException) -> str:
    return error.advice if isinstance(error, SyncError) else str(error)


def _is_interruption(error: BaseException) -> bool:
    return isinstance(error, Interrupted | KeyboardInterrupt | GeneratorExit)


def _dry_run(sync: Sync, kind: PassKind) -> Run:
    return Run(sync, kind, 0, lambda tx: None, None, None, {}, sync.traffic(), monotonic())


def _open(
    tx: sa.Connection,
    sync: Sync,
    kind: PassKind,
    scope: str | None,
    fence: Callable[[sa.Connection], None],
    restart: bool,
) -> Run:
    run_id = runs.begin(tx, kind, sync.store_views, scope or "")
    earlier = _continue(tx, kind, scope, run_id) if scope is not None and not restart else None
    if scope is not None:
        _forget_outdated(tx, kind, scope, run_id)
    clocks = earlier.clocks if earlier is not None else None
    if clocks is not None:
        runs.note_clocks(tx, run_id, clocks)
    miscounts = state.load(tx, MISCOUNTS) or {}
    sync.source.miscounts |= {view: Miscount.from_json(kept) for view, kept in miscounts.items()}
    return Run(
        sync=sync,
        kind=kind,
        run_id=run_id,
        fence=fence,
        resumed=partitions.pending(tx, run_id) if earlier is not None else None,
        clocks=clocks,
        retried={view: rejected.open_ids(tx, view) for view in sync.store_views},
        miscounts=miscounts,
        before=sync.traffic(),
        began=monotonic(),
    )


def _continue(tx: sa.Connection, kind: PassKind, scope: str, run_id: int) -> runs.RunRow | None:
    """Take over the ranges and findings of the newest unfinished run of this scope.

    One whose tenant sent no time is not continued: nobody knows since when the part that it had read may
    have changed.
    """
    for earlier in runs.unfinished(tx, kind):
        fresh = kind in ("backfill", "incremental") or utc_now(tx) - earlier.started_at < RESUME_WITHIN
        if earlier.scope == scope and fresh and earlier.clocks is not None:
            partitions.adopt(tx, earlier.run_id, run_id)
            findings.adopt(tx, earlier.run_id, run_id)
            runs.expect_the_rest(tx, run_id, earlier.run_id)
            return earlier
    return None


def _forget_outdated(tx: sa.Connection, kind: PassKind, scope: str, run_id: int) -> None:
    """Drop what nobody will continue: this run stands in its place. Another range's load may yet go on."""
    for other in runs.unfinished(tx, kind):
        if other.run_id != run_id and (other.scope == scope or kind != "backfill"):
            forget(tx, other.run_id)


@contextmanager
def heartbeat(db: sa.Engine, fence: Callable[[sa.Connection], None], life: timedelta) -> Iterator[None]:
    """Keep a lease while the tenant makes us wait and no page is committed.

    fence    renews it
    life     how long it is valid without
    """
    ended = Event()

    def beat() -> None:
        with suppress(SyncError):  # a lost lease stops the next commit, in the writer's thread
            in_transaction(db, fence, stop=ended)

    with repeating(beat, life.total_seconds() / 3, ended, name="lease", patience_s=5.0):
        yield


@contextmanager
def repeating(
    work: Callable[[], object], every_s: float, ended: Event, *, name: str, patience_s: float
) -> Iterator[None]:
    """Do `work` every so many seconds, in a thread of that name, until `ended`, which the end of this sets.

    patience_s    how long the end waits for work under way
    """

    def repeat() -> None:
        while not ended.wait(every_s):
            work()

    thread = Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(patience_s)
