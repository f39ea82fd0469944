"""Workers read what one process would read, whatever becomes of their orders and of themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import sqlalchemy as sa

from sync.db import leases, partitions
from sync.db.engine import in_transaction
from sync.db.partitions import LIFE, Claim
from sync.db.schema import CHILDREN, product_changes, products, sync_runs
from sync.errors import Interrupted, LeaseHeld, RangeLost, RangesFailed
from sync.passes.backfill import backfill
from sync.passes.reconcile import reconcile
from sync.passes.run import Summary
from sync.passes.workers import Outcome, RangeTask, Unreported, work_off
from sync.sandbox import Sandbox
from tests.databases import NewDatabase, opened
from tests.kit import Bench, Sightings
from tests.wire import in_threads

VIEWS = ("all", "default", "de")


@pytest.fixture
def catalogue() -> Iterator[Sandbox]:
    """160 products with gaps between their ids: at 10 a page, four ranges in each store view."""
    with Sandbox(products=160, store_views=("default", "de"), gap=3) as sandbox:
        yield sandbox


@pytest.fixture
def bench(catalogue: Sandbox, postgres: sa.Engine) -> Bench:
    return Bench(catalogue, postgres, store_views=VIEWS, page_size=10)


class Killed(BaseException):
    """What nothing in a worker can catch."""


def as_ordered(orders: Sequence[RangeTask]) -> Sequence[RangeTask]:
    return orders


@dataclass
class Crew:
    """A queue whose workers are threads of this process, each with a client of its own.

    deliver    what becomes of orders on their way
    worker     the bench of whoever takes an order
    """

    bench: Bench
    deliver: Callable[[Sequence[RangeTask]], Sequence[RangeTask]] = as_ordered
    worker: Callable[[RangeTask], Bench] | None = None
    size: int = 3
    orders: list[RangeTask] = field(default_factory=list)
    outcomes: list[Future[Outcome]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.size)

    def put(self, orders: Sequence[RangeTask]) -> None:
        self.orders += orders
        self.outcomes += [self._pool.submit(self._work, order) for order in self.deliver(orders)]

    def hands(self) -> int:
        return self.size

    def _work(self, order: RangeTask) -> Outcome:
        mine = another(self.bench) if self.worker is None else self.worker(order)
        sync = mine.sync()
        return work_off(sync, order, Unreported(sync.traffic))

    def rest(self) -> list[Outcome | BaseException]:
        """What came of every order, once all of them are done with."""
        self._pool.shutdown(wait=True)
        return [it.exception() or it.result() for it in self.outcomes]


def another(bench: Bench, **changes: Any) -> Bench:
    """Somebody else at the same tenant and copy."""
    return replace(bench, **{"watch": Sightings(), "stop": threading.Event(), **changes})


def load(bench: Bench, crew: Crew) -> Summary:
    """A load by a crew, which has nothing in hand any more when this ends."""
    try:
        return backfill(replace(bench.sync(), queue=crew))
    finally:
        crew.rest()


def facts(bench: Bench) -> dict[str, list[Any]]:
    """Every row of the copy, without what tells when and by which run it was written."""
    private = {"run_id", "change_id", "first_seen_at", "changed_at"}
    found = {}
    for table in (products, *CHILDREN, product_changes):
        columns = [column for column in table.c if column.name not in private]
        with bench.db.connect() as connection:
            rows = connection.execute(sa.select(*columns))
            found[table.name] = sorted(map(repr, rows))
    return found


def lapse(db: sa.Engine) -> None:
    """As if the time had passed for which workers hold their ranges."""
    with db.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE sync_partitions SET lease_expires_at = lease_expires_at - interval '{LIFE.seconds} s'"
        )


def lapse_after(event: threading.Event, db: sa.Engine) -> None:
    event.wait()
    lapse(db)


# --- the same copy ---------------------------------------------------------------------------


def test_workers_write_what_one_process_writes(bench: Bench, new_database: NewDatabase) -> None:
    crew = Crew(bench)
    summary = load(bench, crew)

    assert (summary.status, summary.tally.fetched, summary.tally.inserted) == ("succeeded", 480, 480)
    assert len(crew.orders) == 12
    assert crew.rest() == ["read"] * 12
    with opened(new_database("postgresql")) as other:
        alone = replace(bench, db=other)
        alone.backfill()
        assert facts(bench) == facts(alone)
    bench.assert_feed_tells_who_lives()
    assert bench.run().tally.inserted == 0


def test_what_workers_asked_of_the_tenant_is_counted(bench: Bench) -> None:
    """Every request but those of the leader comes from a worker; each client counts its own."""
    sent = len(bench.sandbox.requests)

    summary = load(bench, Crew(bench, size=1))

    [run] = bench.rows(sync_runs)
    pages = sum(1 for request in bench.sandbox.requests[sent:] if "items%5B" not in request.path)
    assert run.requests == summary.traffic.requests >= pages


def test_reconcile_by_workers_finds_silent_changes_and_deletions(bench: Bench) -> None:
    bench.backfill()
    ids = bench.sandbox.catalogue.ids()
    bench.sandbox.catalogue.edit(ids[5], silently=True, price=77)
    bench.sandbox.catalogue.delete(ids[100])
    bench.execute(
        "UPDATE products SET name = 'by hand' WHERE product_id = (SELECT max(product_id) FROM products)"
    )

    crew = Crew(bench)
    summary = reconcile(replace(bench.sync(), queue=crew))
    crew.rest()

    assert (summary.tally.updated, summary.tally.deleted) == (6, 3)
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


# --- orders ----------------------------------------------------------------------------------


def test_orders_that_come_twice_and_in_any_order_do_no_harm(bench: Bench) -> None:
    crew = Crew(bench, deliver=lambda orders: [*reversed(orders), *orders])

    load(bench, crew)

    assert sorted(map(str, crew.rest())) == ["elsewhere"] * 12 + ["read"] * 12
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


def test_orders_that_got_lost_are_given_again(bench: Bench) -> None:
    """The broker forgets all it was given at first."""
    lost: list[RangeTask] = []

    def forgetful(orders: Sequence[RangeTask]) -> Sequence[RangeTask]:
        if lost:
            return orders
        lost.extend(orders)
        return []

    load(bench, Crew(bench, deliver=forgetful))

    assert len(lost) == 12
    bench.assert_copy_is_exact()


def test_an_order_of_a_run_that_is_over_finds_nothing_to_do(bench: Bench) -> None:
    crew = Crew(bench)
    load(bench, crew)
    before = facts(bench)

    again = Crew(bench)
    again.put(crew.orders)

    assert again.rest() == ["elsewhere"] * 12
    assert facts(bench) == before


# --- workers that fail -----------------------------------------------------------------------


def test_a_dead_worker_leaves_its_range_to_another(bench: Bench) -> None:
    """The first worker dies behind its second page, and says nothing more; its lease runs out."""
    died = threading.Event()

    def crash(page: int) -> None:
        if page == 2:
            died.set()
            raise Killed

    def worker(order: RangeTask) -> Bench:
        mine = another(bench)
        if order == crew.orders[0] and not died.is_set():
            mine.watch.at_page = crash
        return mine

    crew = Crew(bench, worker=worker)
    threading.Thread(target=lapse_after, args=(died, bench.db)).start()
    load(bench, crew)

    assert crew.orders.count(crew.orders[0]) == 2
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


def test_a_range_that_cannot_be_read_fails_the_run_after_all_others(bench: Bench) -> None:
    bench.sandbox.faults.deny(after=200)

    with pytest.raises(
        RangesFailed, match=r"ranges could not be read by workers\. .* Not read: all \(2\d\d, \d+\], de"
    ) as failed:
        load(bench, Crew(bench))

    assert failed.value.exit_code == 77
    assert "product profile" in failed.value.fix
    assert bench.rows(sync_runs)[-1].status == "failed"
    assert all(min(bench.live(view)) < 10 and max(bench.live(view)) > 190 for view in VIEWS)

    bench.sandbox.faults.clear()
    load(bench, Crew(bench))
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


def test_a_fault_of_our_own_fails_the_run_not_the_worker(bench: Bench) -> None:
    def trip(_page: int) -> None:
        raise ZeroDivisionError

    crew = Crew(bench, worker=lambda order: another(bench, watch=Sightings(at_page=trip)))

    with pytest.raises(RangesFailed, match="ZeroDivisionError") as failed:
        load(bench, crew)

    assert failed.value.exit_code == 70
    assert set(crew.rest()) == {"failed"}


def test_a_worker_that_is_told_to_stop_gives_its_range_back_at_once(bench: Bench) -> None:
    stop = threading.Event()
    mine = another(bench, watch=Sightings(at_page=lambda page: stop.set()), stop=stop)
    crew = Crew(bench, worker=lambda order: mine if not stop.is_set() else another(bench))
    order = plan_one(bench)

    with pytest.raises(Interrupted):
        work_off(mine.sync(), order, Unreported(mine.sync().traffic))

    crew.put([order])

    assert crew.rest() == ["read"]


def plan_one(bench: Bench) -> RangeTask:
    """A run with one range, and the order for it; its lease is not given back."""
    lease = leases.acquire(bench.db, "the leader", lambda owner: False)
    with bench.db.begin() as tx:
        run_id = 4711
        tx.execute(
            sync_runs.insert().values(
                run_id=run_id, kind="backfill", status="running", store_views="all", scope="", started_at=NOW
            )
        )
        partitions.plan(tx, run_id, [partitions.Partition("all", 1, 0, 2000)])
    return RangeTask("backfill", run_id, lease.fencing, "all", 1)


NOW = sa.func.now()


# --- the leader ------------------------------------------------------------------------------


def test_a_leader_that_was_interrupted_looks_on_where_it_was(bench: Bench) -> None:
    """Workers have a third of the ranges when the leader is stopped; a second leader has the rest read."""

    def a_third(orders: Sequence[RangeTask]) -> Sequence[RangeTask]:
        bench.stop.set()
        return orders[:4]

    with pytest.raises(Interrupted):
        load(bench, Crew(bench, deliver=a_third))
    bench.stop.clear()

    second = Crew(bench)
    load(bench, second)

    assert bench.watch.resumed
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


def test_a_worker_whose_leader_was_succeeded_cannot_commit(bench: Bench) -> None:
    """Another run takes the lease while a worker holds a page in its hands."""
    order = plan_one(bench)
    mine = another(bench)
    mine.watch.at_page = lambda page: take_over(bench) if page == 3 else None

    outcome = work_off(mine.sync(), order, Unreported(mine.sync().traffic))

    assert outcome == "elsewhere"
    assert len(bench.live("all")) == 30


def take_over(bench: Bench) -> None:
    leases.acquire(bench.db, "a new leader", lambda owner: True)


def test_a_range_is_cut_in_two_for_hands_that_are_idle(bench: Bench) -> None:
    """One worker holds the last range and does not move until it was made shorter."""
    cut = threading.Event()

    def deliver(orders: Sequence[RangeTask]) -> Sequence[RangeTask]:
        if crew.orders != list(orders):
            cut.set()
        return orders

    def wait(_page: int) -> None:
        cut.wait(20)

    slow = Sightings(at_page=wait)
    crew = Crew(bench, deliver=deliver, worker=lambda order: another(bench, watch=worker_of(order)), size=2)

    def worker_of(order: RangeTask) -> Sightings:
        return slow if order.first_id == 1 and order == crew.orders[0] else Sightings()

    bench.store_views = ("all",)
    with bench.db.begin() as tx:  # an earlier run left all of it in one range
        tx.execute(
            sync_runs.insert().values(
                kind="backfill",
                status="failed",
                store_views="all",
                scope="all (0, ∞]",
                started_at=NOW,
                server_time=NOW,
                heard_at=NOW,
            )
        )
        partitions.plan(tx, 1, [partitions.Partition("all", 1, 0, max(bench.sandbox.catalogue.ids()))])
    load(bench, crew)

    first, second, *_ = crew.orders
    assert cut.is_set()
    assert first.first_id == 1
    assert 150 < second.first_id < 330
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


# --- a range and who has it ------------------------------------------------------------------


def claim(db: sa.Engine, owner: str, first_id: int = 1) -> Claim | None:
    return in_transaction(db, lambda tx: partitions.claim(tx, 4711, "all", first_id, owner))


def renew(db: sa.Engine, claimed: Claim) -> None:
    in_transaction(db, lambda tx: partitions.renew(tx, claimed))


def test_of_many_workers_that_want_a_range_one_gets_it(bench: Bench) -> None:
    plan_one(bench)
    got: list[Claim | None] = []

    in_threads(6, lambda: got.append(claim(bench.db, threading.current_thread().name)))

    assert len([it for it in got if it is not None]) == 1


def test_a_late_worker_cannot_commit_what_another_took_over(bench: Bench) -> None:
    plan_one(bench)
    late = claim(bench.db, "A")
    assert late is not None
    lapse(bench.db)
    assert claim(bench.db, "B") is not None

    with pytest.raises(RangeLost):
        renew(bench.db, late)


def test_a_late_worker_that_nobody_succeeded_goes_on(bench: Bench) -> None:
    plan_one(bench)
    late = claim(bench.db, "A")
    assert late is not None
    lapse(bench.db)

    renew(bench.db, late)

    assert claim(bench.db, "B") is None


def test_a_worker_cannot_commit_behind_the_place_where_its_range_was_cut(bench: Bench) -> None:
    plan_one(bench)
    claimed = claim(bench.db, "A")
    assert claimed is not None
    behind = in_transaction(bench.db, lambda tx: partitions.cut_off(tx, 4711, claimed.partition, 1000))
    assert behind == partitions.Partition("all", 1001, 1000, 2000)

    with pytest.raises(RangeLost):
        renew(bench.db, claimed)

    shorter = claim(bench.db, "A")
    assert shorter is not None
    assert shorter.partition.last == 1000
    renew(bench.db, shorter)
    assert claim(bench.db, "B", first_id=1001) is not None


def test_a_range_that_was_read_past_the_middle_is_not_cut(bench: Bench) -> None:
    plan_one(bench)
    claimed = claim(bench.db, "A")
    assert claimed is not None
    in_transaction(bench.db, lambda tx: partitions.move_cursor(tx, 4711, claimed.partition, 1500))

    assert in_transaction(bench.db, lambda tx: partitions.cut_off(tx, 4711, claimed.partition, 1000)) is None


def test_whoever_takes_over_waits_for_pages_that_workers_are_committing(bench: Bench) -> None:
    """A worker's transaction shares the leader's lease: a new leader gets it when that is through."""
    order = plan_one(bench)
    begun, order_of_events = threading.Event(), list[str]()

    def successor() -> None:
        begun.set()
        take_over(bench)
        order_of_events.append("taken over")

    with bench.db.begin() as tx:
        leases.share(tx, order.fencing)
        thread = threading.Thread(target=successor)
        thread.start()
        begun.wait()
        while not waiting(bench.db):
            pass
        order_of_events.append("committed")
    thread.join()

    assert order_of_events == ["committed", "taken over"]
    with pytest.raises(LeaseHeld), bench.db.begin() as tx:
        leases.share(tx, order.fencing)


def waiting(db: sa.Engine) -> bool:
    with db.connect() as connection:
        return bool(
            connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one()
        )
