"""Whatever ends a pass at whatever moment: what is committed is right, and the next pass completes."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync.db import leases
from sync.db.schema import sync_runs
from sync.errors import AccessDenied, DatabaseUnavailable, Interrupted
from sync.sandbox import Sandbox
from tests.kit import Bench

READERS = 2


@pytest.fixture
def larger(sqlite: sa.Engine) -> Iterator[Bench]:
    """300 products in 30 pages."""
    with Sandbox(products=300) as sandbox:
        yield Bench(sandbox, sqlite, page_size=10, concurrency=READERS)


def once(page: int, act: Callable[[], None]) -> Callable[[int], None]:
    """For `Sightings.at_page`: act when so many pages are written."""
    return lambda number: act() if number == page else None


# --- signals ---------------------------------------------------------------------------------


def test_a_stop_ends_the_run_at_a_page_and_the_next_one_goes_on(bench: Bench) -> None:
    bench.watch.at_page = once(3, bench.stop.set)

    with pytest.raises(Interrupted) as ended:
        bench.backfill()
    assert ended.value.exit_code == 130
    assert bench.rows(sync_runs)[-1].status == "interrupted"
    assert leases.holder(bench.db) is None

    bench.stop.clear()
    bench.backfill()
    assert bench.watch.resumed
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


LOADER = """
import sys
from sync.passes import lease_holder
from sync.db.engine import connect
from tests.kit import Bench, Elsewhere

bench = Bench(Elsewhere(sys.argv[2]), connect(sys.argv[1]), page_size=10)
bench.owner, bench.is_dead = lease_holder.describe("backfill"), lease_holder.is_dead
bench.watch.at_page = lambda page: print(page, flush=True)
bench.backfill()
"""


def load_in_a_process(bench: Bench) -> subprocess.Popen[str]:
    """A backfill of the same tenant into the same database, in a process of its own; it prints each page."""
    return subprocess.Popen(
        [sys.executable, "-c", LOADER, str(bench.db.url), bench.sandbox.host_url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
    )


def kill_after(loader: subprocess.Popen[str], pages: int, delay_s: float) -> None:
    """Wait for so many pages and a moment more, then kill -9; a loader that has finished is left in peace."""
    assert loader.stdout is not None
    for _ in range(pages):
        loader.stdout.readline()
    threading.Event().wait(delay_s)
    os.kill(loader.pid, signal.SIGKILL)
    loader.wait()
    loader.stdout.close()


@pytest.mark.slow
def test_kills_at_any_moment_cost_only_the_pages_in_flight(larger: Bench) -> None:
    """Four kills, each somewhere in the middle of some page."""
    chance = random.Random(7)
    larger.sandbox.faults.slow(0.01)
    kills = 4
    for _ in range(kills):
        kill_after(load_in_a_process(larger), chance.randrange(1, 6), chance.uniform(0, 0.03))
    larger.is_dead = lambda owner: True
    larger.backfill()

    larger.assert_copy_is_exact()
    larger.assert_feed_tells_who_lives()
    assert len(larger.changes()) == 300
    pages_sent = [request for request in larger.sandbox.requests if request.kind == "page"]
    sent = sum(request.items_count or 0 for request in pages_sent)
    assert sent <= 300 + kills * 2 * READERS * larger.page_size


# --- faults in the database ------------------------------------------------------------------


class Explosion(Exception):
    """Thrown in the middle of a transaction."""


@pytest.mark.parametrize(
    "statement", ["INSERT INTO product_attributes", "INSERT INTO product_changes", "COMMIT"]
)
def test_a_fault_in_the_middle_of_a_page_leaves_nothing_of_it(bench: Bench, statement: str) -> None:
    """When its rows are half written, or as its transaction ends."""
    bench.concurrency = 1
    armed = explode(bench.db, statement)

    with pytest.raises(Explosion):
        bench.backfill()
    assert len(bench.live()) == len(bench.changes()) == 20

    armed.clear()
    bench.is_dead = lambda owner: True
    bench.backfill()
    assert bench.watch.resumed
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


def explode(db: sa.Engine, statement: str) -> list[bool]:
    """Raise as the third page is written; emptying the list ends it."""
    armed = [True]
    written = 0  # pages, by their entries in the feed

    def before(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        nonlocal written
        if armed and written == 2 and sql.startswith(statement):
            raise Explosion
        written += sql.startswith("INSERT INTO product_changes")

    def at_commit(_connection: sa.Connection) -> None:
        if armed and written == 3 and statement == "COMMIT":
            raise Explosion

    sa.event.listen(db, "before_cursor_execute", before)
    sa.event.listen(db, "commit", at_commit)
    return armed


def test_a_database_locked_for_a_moment_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    """Another program writes to the same file for a while."""
    other = sqlite3.connect(tmp_path / "copy.db", isolation_level=None, check_same_thread=False)

    def occupy() -> None:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.2, other.execute, ["COMMIT"]).start()

    bench.watch.at_page = once(2, occupy)
    bench.backfill()
    other.close()

    bench.assert_copy_is_exact()


def test_a_full_disk_ends_the_run_with_nothing_half_written(bench: Bench) -> None:
    """The file may not grow beyond what it has after the second page."""
    bench.concurrency = 1
    limits: list[int] = []

    def limit(connection: Any, _record: Any, _proxy: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {limits[0] if limits else 2**30}")

    def fill() -> None:
        with bench.db.connect() as connection:
            limits.append(connection.exec_driver_sql("PRAGMA page_count").scalar_one() + 2)

    sa.event.listen(bench.db, "checkout", limit)
    bench.watch.at_page = once(2, fill)
    with pytest.raises(DatabaseUnavailable, match="full") as ended:
        bench.backfill()
    assert ended.value.exit_code == 69
    assert len(bench.live()) == len(bench.changes()) == 20

    limits.clear()
    bench.is_dead = lambda owner: True
    bench.backfill()
    bench.assert_copy_is_exact()
    bench.assert_feed_tells_who_lives()


@pytest.fixture
def on_postgres(tenant: Sandbox, postgres: sa.Engine) -> Bench:
    return Bench(tenant, postgres, page_size=10)


def test_a_database_that_restarts_is_waited_for(on_postgres: Bench) -> None:
    """Every connection is cut, as a restart does, at each of the first pages."""

    def cut(page: int) -> None:
        if page <= 4:
            cut_connections(on_postgres.db)

    on_postgres.watch.at_page = cut
    on_postgres.backfill()

    on_postgres.assert_copy_is_exact()
    on_postgres.assert_feed_tells_who_lives()


def cut_connections(db: sa.Engine) -> None:
    engine = sa.create_engine(db.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_connection_that_ended_while_nobody_used_it_is_replaced(on_postgres: Bench) -> None:
    on_postgres.backfill()
    cut_connections(on_postgres.db)

    on_postgres.assert_copy_is_exact()


def test_connections_cut_at_any_moment_cost_nothing(on_postgres: Bench) -> None:
    """Another thread cuts them again and again, in the middle of transactions too."""
    ended = threading.Event()

    def keep_cutting() -> None:
        for _ in range(10):
            if not ended.wait(0.15):
                cut_connections(on_postgres.db)

    cutter = threading.Thread(target=keep_cutting)
    cutter.start()
    try:
        on_postgres.backfill()
        on_postgres.sandbox.catalogue.delete_many(on_postgres.sandbox.catalogue.ids()[:3])
        on_postgres.run()
        on_postgres.reconcile()
    finally:
        ended.set()
        cutter.join()

    on_postgres.assert_copy_is_exact()
    on_postgres.assert_feed_tells_who_lives()


# --- the tenant ------------------------------------------------------------------------------


def test_a_token_revoked_in_the_middle_is_replaced(bench: Bench) -> None:
    bench.watch.at_page = once(2, bench.sandbox.faults.revoke_tokens)

    assert bench.backfill().exit_code == 0
    bench.assert_copy_is_exact()


def test_a_permission_taken_away_in_the_middle_ends_the_run_and_the_next_one_goes_on(bench: Bench) -> None:
    bench.watch.at_page = once(2, lambda: bench.sandbox.faults.deny(403, kind=None))
    with pytest.raises(AccessDenied):
        bench.backfill()

    bench.sandbox.faults.clear()
    bench.backfill()

    assert bench.watch.resumed
    bench.assert_copy_is_exact()
