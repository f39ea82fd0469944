"""One run at a time writes to a database; whoever lost the lease cannot commit."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from sync.db import leases
from sync.db.engine import in_transaction
from sync.db.leases import LIFE, Lease
from sync.db.schema import sync_leases, sync_runs
from sync.errors import AccessDenied, LeaseHeld
from sync.sandbox import Sandbox
from tests.kit import Bench
from tests.wire import in_threads


def alive(_owner: str) -> bool:
    return False


def dead(_owner: str) -> bool:
    return True


def acquire(db: sa.Engine, owner: str = "A") -> Lease:
    return leases.acquire(db, owner, alive)


def renew(db: sa.Engine, lease: Lease) -> None:
    in_transaction(db, lambda tx: leases.renew(tx, lease))


def pass_time(db: sa.Engine, by: timedelta) -> None:
    """As if the database's clock had moved on: the lease ends that much earlier."""
    with db.begin() as connection:
        ends = connection.execute(sa.select(sync_leases.c.expires_at)).scalar_one()
        connection.execute(sync_leases.update().values(expires_at=ends - by))


# --- on each database ------------------------------------------------------------------------


def test_a_second_run_is_told_at_once_who_writes_and_since_when(db: sa.Engine) -> None:
    acquire(db, "backfill on shop-1")

    with pytest.raises(
        LeaseHeld, match=rf"backfill on shop-1 has been writing .* since {datetime.now(UTC):%Y}"
    ):
        acquire(db, "run on shop-2")


def test_a_lease_given_back_can_be_taken(db: sa.Engine) -> None:
    leases.release(db, acquire(db, "A"))

    assert acquire(db, "B").owner == "B"


def test_a_killed_holder_is_succeeded_when_its_lease_has_run_out(db: sa.Engine) -> None:
    acquire(db, "A")
    pass_time(db, LIFE)

    assert acquire(db, "B").owner == "B"


def test_a_holder_known_to_be_dead_is_succeeded_at_once(db: sa.Engine) -> None:
    acquire(db, "A")

    assert leases.acquire(db, "B", dead).owner == "B"


def test_a_late_holder_cannot_renew(db: sa.Engine) -> None:
    late = acquire(db, "A")
    pass_time(db, LIFE)
    acquire(db, "B")

    with pytest.raises(LeaseHeld, match=r"^B "):
        renew(db, late)


def test_a_late_holder_cannot_give_away_its_successor_s_lease(db: sa.Engine) -> None:
    late = acquire(db, "A")
    pass_time(db, LIFE)
    acquire(db, "B")

    leases.release(db, late)

    holder = leases.holder(db)
    assert holder is not None
    assert holder.owner == "B"


def test_a_holder_that_was_slow_but_not_succeeded_goes_on(db: sa.Engine) -> None:
    slow = acquire(db, "A")
    pass_time(db, LIFE)
    assert leases.holder(db) is None

    renew(db, slow)

    with pytest.raises(LeaseHeld):
        acquire(db, "B")


def test_a_database_clock_set_back_keeps_nobody_waiting_for_an_hour(db: sa.Engine) -> None:
    acquire(db, "A")
    pass_time(db, -timedelta(hours=1))

    assert acquire(db, "B").owner == "B"


def test_of_many_that_want_it_at_once_one_gets_it(db: sa.Engine) -> None:
    got: list[str] = []
    refused: list[str] = []

    def want() -> None:
        try:
            got.append(acquire(db, threading.current_thread().name).owner)
        except LeaseHeld as held:
            refused.append(str(held))

    in_threads(5, want)

    assert len(got) == 1
    assert all(message.startswith(got[0]) for message in refused)


# --- in a run --------------------------------------------------------------------------------


@pytest.fixture
def second(tenant: Sandbox, sqlite: sa.Engine) -> Bench:
    return Bench(tenant, sqlite, page_size=10, owner="the second one")


def test_while_one_run_writes_another_ends_at_once(bench: Bench, second: Bench) -> None:
    refused: list[LeaseHeld] = []

    def try_too(page: int) -> None:
        if page == 3:
            with pytest.raises(LeaseHeld) as held:
                second.run()
            refused.append(held.value)

    bench.watch.at_page = try_too
    bench.backfill()

    assert refused[0].exit_code == 75
    assert str(refused[0]).startswith("this test has been writing")
    assert [run.status for run in bench.rows(sync_runs)] == ["succeeded"]


def test_a_run_that_lost_its_lease_commits_no_further_page(bench: Bench, second: Bench) -> None:
    """It slept through its lease; another one took over and finished meanwhile."""
    bench.concurrency = 1

    def oversleep(page: int) -> None:
        if page == 3:
            pass_time(bench.db, LIFE)
            second.backfill()
            bench.sandbox.catalogue.edit(
                bench.sandbox.catalogue.ids()[-1], name="Only the late one reads this"
            )

    bench.watch.at_page = oversleep
    with pytest.raises(LeaseHeld):
        bench.backfill()

    assert len(bench.changes()) == 60
    assert {run.status for run in bench.rows(sync_runs)} == {"interrupted", "succeeded"}
    assert "Only the late one" not in bench.live()[bench.sandbox.catalogue.ids()[-1]]["name"]


def test_the_one_that_takes_over_goes_on_where_the_killed_one_was(bench: Bench, second: Bench) -> None:
    bench.concurrency = second.concurrency = 1

    def take_over(page: int) -> None:
        if page == 3:
            second.is_dead = dead
            second.backfill()

    bench.watch.at_page = take_over
    with pytest.raises(LeaseHeld):
        bench.backfill()

    assert (second.watch.resumed, len(second.watch.pages)) == (True, 3)
    second.assert_copy_is_exact()
    second.assert_feed_tells_who_lives()


def test_a_lease_is_renewed_while_the_tenant_makes_us_wait(bench: Bench, second: Bench) -> None:
    """One page takes many times the life of a lease."""
    bench.lease_life = timedelta(milliseconds=200)
    bench.concurrency = 1
    bench.sandbox.faults.slow(0.8, page=3)
    refused: list[bool] = []
    ended = threading.Event()

    def want_it() -> None:
        while not ended.wait(0.1):
            with pytest.raises(LeaseHeld):
                acquire(second.db, "rival")
            refused.append(True)

    def begin_and_end(page: int) -> None:
        if page == 1:
            rival.start()
        elif page == 6:
            ended.set()
            rival.join()

    rival = threading.Thread(target=want_it)
    bench.watch.at_page = begin_and_end
    bench.backfill()

    assert len(refused) > 4


def test_the_lease_is_given_back_at_the_end_of_every_run(bench: Bench) -> None:
    bench.backfill()
    assert leases.holder(bench.db) is None

    bench.sandbox.faults.deny(403, kind="count")
    with pytest.raises(AccessDenied):
        bench.run()
    assert leases.holder(bench.db) is None


def test_a_shorter_life_is_kept_by_every_renewal(db: sa.Engine) -> None:
    lease = replace(acquire(db), life=timedelta(seconds=5))

    renew(db, lease)
    pass_time(db, timedelta(seconds=5))

    assert leases.holder(db) is None
