"""Every command through PgBouncer in transaction mode, while other clients use the same sessions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy as sa

from tests.command import Shell
from tests.databases import NewDatabase
from tests.pooler import pooling
from tests.receiver import SECRET, Receiver

# What we set for ourselves, and another client must not inherit.
SETTINGS = (
    "TimeZone",
    "DateStyle",
    "search_path",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "default_toast_compression",
    "default_transaction_isolation",
    "transaction_read_only",
)


@pytest.fixture
def direct(new_database: NewDatabase) -> str:
    """A database whose defaults are odd."""
    url = new_database("postgresql")
    name = sa.make_url(url).database
    with psycopg.connect(_dsn(url), autocommit=True) as admin:
        for setting in (
            "TimeZone = 'Asia/Kolkata'",
            "DateStyle = 'German, DMY'",
            "IntervalStyle = 'sql_standard'",
            "extra_float_digits = -15",
            "bytea_output = 'escape'",
            "search_path = elsewhere",
            "statement_timeout = '20s'",
            "default_transaction_isolation = 'serializable'",
            "default_transaction_read_only = on",
        ):
            admin.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    return url


@pytest.fixture
def shop(shell: Shell, direct: str) -> Iterator[Shell]:
    with pooling(direct) as pooled:
        shell.settings |= {"DATABASE_URL": pooled, "WEBHOOK_SECRET": SECRET, "SYNC_CONCURRENCY": "4"}
        yield shell


def _dsn(url: str) -> str:
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def settings_of(client: psycopg.Connection) -> list[str]:
    return [client.execute(f"SHOW {name}".encode()).fetchone()[0] for name in SETTINGS]  # type: ignore[index]


@contextmanager
def busy(url: str) -> Iterator[list[list[str]]]:
    """Three other clients that ask all the time; yields the settings that they saw, each kind once."""
    seen: list[list[str]] = []
    ended = threading.Event()

    def ask() -> None:
        with psycopg.connect(_dsn(url), prepare_threshold=None) as client:
            while not ended.wait(0.005):
                found = settings_of(client)
                client.commit()
                if found not in seen:
                    seen.append(found)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join(10)


def test_every_command_works_and_another_client_keeps_its_own_settings(shop: Shell, direct: str) -> None:
    with psycopg.connect(_dsn(direct)) as fresh:
        own = settings_of(fresh)

    with busy(shop.settings["DATABASE_URL"]) as seen, Receiver() as receiver:
        for command in (
            "check",
            "backfill",
            "check",
            "reference",
            "run",
            "prices",
            "stock",
            "reconcile",
            "verify",
            "status",
            "status --json",
            "changes",
            f"changes --webhook {receiver.url}",
            "export products.jsonl",
            "view --name flat --columns sku,name",
            "db upgrade",
        ):
            ended = shop.run(*command.split())
            assert ended.code == 0, (command, ended.out[-2000:], ended.err[-2000:])

        for number in range(1, 250):
            shop.tenant.catalogue.edit(number, name="Anew")
        assert shop.run("run", "--json").objects[0]["updated"] == 249  # so many are merged
        assert shop.run("verify").code == 0

        with shop.start("daemon", SYNC_INTERVAL="1s") as daemon:
            daemon.wait_for("run.finished")
            assert daemon.end() == 0

    assert seen == [own]


def test_nothing_temporary_is_left_in_a_session_of_the_pool(shop: Shell) -> None:
    assert shop.run("backfill").code == 0
    for number in range(1, 250):
        shop.tenant.catalogue.edit(number, name="Anew")
    assert shop.run("run").code == 0

    left = "SELECT relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'"
    with psycopg.connect(_dsn(shop.settings["DATABASE_URL"])) as client:
        assert client.execute(left).fetchall() == []
        assert client.execute("SELECT * FROM pg_prepared_statements").fetchall() == []
