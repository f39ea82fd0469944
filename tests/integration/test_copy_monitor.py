"""A copy is looked at every so often, by a thread of its own that keeps nothing open."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sync.app import unpooled_copy
from sync.errors import DatabaseUnavailable
from sync.sandbox import Sandbox
from sync.service.copy_monitor import CopyMonitor
from sync.settings import CopySettings
from tests.databases import NewDatabase, connected
from tests.kit import Bench

pytestmark = pytest.mark.slow

WITHIN_S = 20.0


def monitor(copy: sa.Engine, name: str = "eu", on_look: Callable[[], None] | None = None) -> CopyMonitor:
    return CopyMonitor(name, CopySettings(), copy, on_look)


def ended(it: CopyMonitor) -> None:
    """Its thread is done with the copy."""
    for thread in threading.enumerate():
        if thread.name == f"monitor {it.name}":
            thread.join(WITHIN_S)


def test_no_connection_is_kept_between_looks(postgres: sa.Engine) -> None:
    """Fifty tenants that idle would hold fifty."""
    url = postgres.url.render_as_string(hide_password=False)
    copy = unpooled_copy(CopySettings(database_url=url))
    opened, closed = [], []
    sa.event.listen(copy, "connect", lambda connection, _: opened.append(id(connection)))
    sa.event.listen(copy, "close", lambda connection, _: closed.append(id(connection)))

    monitor(copy).look()

    assert opened
    assert closed == opened


def test_what_was_seen_grows_older(postgres: sa.Engine) -> None:
    with Sandbox(5) as sandbox:
        Bench(sandbox, postgres).backfill()
    it = monitor(postgres)

    first = it.look().found
    assert first is not None
    assert first.lags["all"] <= it.freshness().lags["all"] < first.lags["all"] + timedelta(minutes=1)


def test_a_copy_that_is_not_there_yet_is_looked_for_again(new_database: NewDatabase) -> None:
    """Nothing is created by looking."""
    with connected(new_database("postgresql")) as copy:
        it = monitor(copy)
        with pytest.raises(DatabaseUnavailable, match="not checked"):
            it.freshness()

        assert it.look().problems(it.policy, timedelta())[0].reason == "There is no copy yet."
        with copy.connect() as connection:
            assert sa.inspect(connection).get_table_names() == []


def test_news_are_looked_at_and_told_at_once_whatever_goes_wrong(postgres: sa.Engine) -> None:
    """Telling breaks; it comes again all the same, and no minute is waited for."""
    told = threading.Semaphore(0)

    def on_look() -> None:
        told.release()
        it.news()
        raise ZeroDivisionError

    it = monitor(postgres, on_look=on_look)
    it.start()
    it.news()

    assert told.acquire(timeout=WITHIN_S)
    assert told.acquire(timeout=WITHIN_S)
    it.close()
    ended(it)
