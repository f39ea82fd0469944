"""Workers in processes of their own, over a real RabbitMQ and a real Redis: killed, cut off, stopped.

Both brokers are those of this machine; where one is not reachable, its tests skip. Each test has a
database, so a queue, of its own.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from sync.sandbox import Sandbox
from tests.command import Running, Shell
from tests.databases import NewDatabase, connected
from tests.island import Island, island
from tests.kit import Bench
from tests.shops import Shops

BROKERS = {
    "rabbitmq": ("amqp://guest:guest@{}//", 5672),
    "redis": ("redis://{}/0", 6379),
}
VIEWS = ("all", "default", "de")


class Relay:
    """A TCP port that leads to another one, until its connections are cut."""

    def __init__(self, to: tuple[str, int]) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.port = self._listener.getsockname()[1]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(self._to)
                self._sockets += [here, there]
                for ends in ((here, there), (there, here)):
                    self._threads.append(threading.Thread(target=_pump, args=ends, daemon=True))
                    self._threads[-1].start()

    def cut(self) -> None:
        """End every connection under way; new ones are let through."""
        for end in [*self._sockets]:
            _end(end)

    def close(self) -> None:
        _end(self._listener)
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._sockets):
            end.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while some := source.recv(1 << 16):
            target.sendall(some)
    _end(source)  # not closed: the other pump still waits for it
    _end(target)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=BROKERS)
def relay(request: pytest.FixtureRequest) -> Iterator[tuple[str, Relay]]:
    """The URL of a broker, and the relay that leads to it."""
    form, port = BROKERS[request.param]
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        pytest.skip(f"no {request.param} at 127.0.0.1:{port}")
    relay = Relay(("127.0.0.1", port))
    yield form.format(f"127.0.0.1:{relay.port}"), relay
    relay.close()


@pytest.fixture
def shop(relay: tuple[str, Relay], new_database: NewDatabase, tmp_path: Path) -> Iterator[Shell]:
    """300 products with gaps between their ids, in three store views: at 20 a page, 12 ranges."""
    with Sandbox(300, store_views=("default", "de"), gap=3) as tenant:
        yield Shell(
            tenant,
            tmp_path,
            {
                "CELERY_BROKER_URL": relay[0],
                "DATABASE_URL": new_database("postgresql"),
                "STORE_VIEWS": ",".join(VIEWS),
                "SYNC_CONCURRENCY": "2",
                "SYNC_PAGE_SIZE": "20",
            },
            longest_s=240,
        )


@contextmanager
def workers(shop: Shell, count: int, *, afresh: bool = False) -> Iterator[list[Running]]:
    """Workers that are ready."""
    with ExitStack() as running:
        start = shop.start_afresh if afresh else shop.start
        each = [start("worker", LOG_LEVEL="DEBUG") for _ in range(count)]
        started = [running.enter_context(one) for one in each]
        for worker in started:
            worker.wait_for("worker.ready")
        yield started


def assert_whole(shop: Shell) -> None:
    """Document for document, and each product once in the feed."""
    with connected(shop.settings["DATABASE_URL"]) as db:
        bench = Bench(shop.tenant, db, store_views=VIEWS)
        bench.assert_copy_is_exact()
        bench.assert_feed_tells_who_lives()
        assert len(bench.changes()) == 900


@pytest.mark.parametrize("relay", ["rabbitmq"], indirect=True)
def test_two_workers_load_a_catalogue_and_end_when_told(shop: Shell) -> None:
    with workers(shop, 2, afresh=True) as started:
        loaded = shop.run("backfill", "--executor", "celery", "--json")
        compared = shop.run("reconcile", "--executor", "celery", "--json")
        ends = [worker.end() for worker in started]

    assert loaded.code == 0, loaded.err
    assert loaded.objects[0]["inserted"] == 900
    assert compared.code == 0, compared.err
    assert compared.objects[0]["unchanged"] == 900
    assert ends == [0, 0]
    assert_whole(shop)
    assert sum(served.kind == "token" for served in shop.tenant.requests) == 1


@pytest.mark.parametrize("relay", ["redis"], indirect=True)
def test_an_unknown_store_view_ends_as_without_workers(shop: Shell) -> None:
    """No worker is needed to find out."""
    for command in ("backfill", "reconcile"):
        ends = [shop.run(command, "--store-view", "nope", *how) for how in ([], ["--executor", "celery"])]

        assert [ended.code for ended in ends] == [64, 64], ends[1].err
        assert all("Commerce does not know store view nope." in ended.err for ended in ends)


def test_a_killed_worker_and_a_cut_connection_lose_nothing_and_double_nothing(
    shop: Shell, relay: tuple[str, Relay]
) -> None:
    """One of two workers is killed in the middle of a range, and the broker's connections are cut."""
    shop.tenant.faults.slow(0.05, times=None)
    with workers(shop, 2) as (doomed, survivor), shop.start("backfill", "--executor", "celery") as leader:
        doomed.wait_for("page.written")
        doomed.process.send_signal(signal.SIGKILL)
        survivor.wait_for("page.written")
        relay[1].cut()
        finished = leader.wait_for("run.finished")

    assert (finished["outcome"], finished["inserted"]) == ("succeeded", 900)
    assert_whole(shop)


@pytest.mark.parametrize("relay", ["rabbitmq"], indirect=True)
def test_a_worker_that_is_cut_off_is_succeeded_refused_and_welcome_again(
    shop: Shell, relay: tuple[str, Relay]
) -> None:
    """One of two workers lives in a network namespace whose link goes down in the middle of a range, and
    comes up again when the other has read that range.
    """
    shop.tenant.faults.slow(0.4, times=None)
    with island() as there:
        inside = {
            "CELERY_BROKER_URL": at_port(relay[0], there.reach(f"TCP:127.0.0.1:{relay[1].port}")),
            "DATABASE_URL": database_at(shop.settings["DATABASE_URL"], there),
        }
        tenant = urlsplit(shop.tenant.host_url)
        there.reach(f"TCP:{tenant.netloc}", tenant.port)  # under its own name: it is that tenant's copy
        with (
            shop.start_afresh("worker", prefix=there.command([]), LOG_LEVEL="DEBUG", **inside) as exile,
            workers(shop, 1) as (other,),
            shop.start("backfill", "--executor", "celery") as leader,
        ):
            exile.wait_for("worker.ready")
            cut_off = range_of(exile.wait_for("order.received"))
            exile.wait_for("page.written")
            there.cut()
            leader.wait_for("orders.enqueued")
            leader.wait_for("orders.enqueued")  # again
            while range_of(other.wait_for("range.read")) != cut_off:
                pass
            there.mend()
            while range_of(exile.wait_for("range.elsewhere")) != cut_off:
                pass
            loaded = leader.wait_for("run.finished")
            compared = shop.run("reconcile", "--executor", "celery", "--json")
            exile.wait_for("range.read", run=2)

    assert (loaded["outcome"], loaded["inserted"]) == ("succeeded", 900)
    assert compared.objects[0]["unchanged"] == 900
    assert_whole(shop)


def range_of(event: dict[str, Any]) -> tuple[str, int]:
    return event["store_view"], event["first_id"]


def at_port(url: str, port: int) -> str:
    """The same on the island's loopback."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login}{at}127.0.0.1:{port}").geturl()


def database_at(url: str, there: Island) -> str:
    """A database that listens at a socket of this machine, from the island."""
    here = sa.make_url(url)
    folder, port = here.query["host"], here.port or 5432
    reached = there.reach(f"UNIX-CONNECT:{folder}/.s.PGSQL.{port}")
    return here.set(host="127.0.0.1", port=reached, query={}).render_as_string(hide_password=False)


@pytest.mark.parametrize("relay", ["redis"], indirect=True)
def test_a_leader_that_ends_is_succeeded_while_workers_go_on(shop: Shell) -> None:
    """Interrupted, then started again; what is read by then is not read again."""
    shop.tenant.faults.slow(0.05, times=None)
    with workers(shop, 2) as (worker, _):
        with shop.start("backfill", "--executor", "celery") as first:
            worker.wait_for("range.read")
            code = first.end(signal.SIGINT)
        second = shop.run("backfill", "--executor", "celery", "--json")

    assert code == 130
    assert second.code == 0, second.err
    assert second.objects[0]["inserted"] < 900
    assert_whole(shop)


@pytest.mark.parametrize("relay", ["redis"], indirect=True)
def test_a_worker_works_for_every_tenant_of_a_file(
    relay: tuple[str, Relay], new_database: NewDatabase, tmp_path: Path
) -> None:
    """Of three tenants one has a copy that workers cannot share: it is named, and the others are read."""
    with Shops(tmp_path, ("de", "fr", "us"), 60) as shops:
        shops.tables["de"]["DATABASE_URL"] = new_database("postgresql")
        shops.tables["fr"]["DATABASE_URL"] = new_database("postgresql")
        shops.write()
        blank = dict.fromkeys(shops["de"].environment(), "")
        shell = Shell(shops["de"], tmp_path, {**blank, "CELERY_BROKER_URL": relay[0]}, longest_s=240)
        with shell.start("worker", "--tenants", str(shops.file)) as worker:
            refused = worker.wait_for("tenant.refused")
            worker.wait_for("worker.ready")
            options = ("--tenants", str(shops.file), "--executor", "celery", "--json")
            ended = shell.run("backfill", *options)
            assert worker.end() == 0

    assert (refused["tenant"], "PostgreSQL" in refused["error"]) == ("us", True)
    assert ended.code == 78, ended.err
    assert {(it["tenant"], it["inserted"]) for it in ended.objects} == {("de", 60), ("fr", 60)}
    assert {it.get("tenant") for it in worker.log if it["event"] == "range.read"} == {"de", "fr"}


def test_a_tenant_whose_database_is_away_at_the_start_is_worked_for_once_it_is_there(
    relay: tuple[str, Relay], new_database: NewDatabase, tmp_path: Path
) -> None:
    """Also over the next connection to the broker."""
    with Shops(tmp_path, ("de", "fr"), 60) as shops:
        for name in ("de", "fr"):
            shops.tables[name]["DATABASE_URL"] = new_database("postgresql")
        shops.write()
        blank = dict.fromkeys(shops["de"].environment(), "")
        shell = Shell(shops["de"], tmp_path, {**blank, "CELERY_BROKER_URL": relay[0]}, longest_s=240)
        options = ("--tenants", str(shops.file))
        here = sa.make_url(shops.tables["fr"]["DATABASE_URL"])
        rename_database(here, f"{here.database}", f"{here.database}_away")
        with shell.start("worker", *options) as worker:
            refused = worker.wait_for("tenant.refused")
            worker.wait_for("worker.ready")
            rename_database(here, f"{here.database}_away", f"{here.database}")
            worker.wait_for("tenant.joined")
            relay[1].cut()
            ended = shell.run("backfill", *options, "--executor", "celery", "--json")
            assert worker.end() == 0

    assert refused["tenant"] == "fr"
    assert ended.code == 0, ended.err
    assert {(it["tenant"], it["inserted"]) for it in ended.objects} == {("de", 60), ("fr", 60)}
    assert {it.get("tenant") for it in worker.log if it["event"] == "range.read"} == {"de", "fr"}


def rename_database(server: sa.URL, old: str, new: str) -> None:
    with (
        connected(server.set(database="postgres").render_as_string(hide_password=False)) as db,
        db.begin() as connection,
    ):
        connection.exec_driver_sql(f'ALTER DATABASE "{old}" RENAME TO "{new}"')


@pytest.mark.parametrize("relay", ["rabbitmq"], indirect=True)
def test_a_broker_that_is_away_is_one_sentence(shop: Shell) -> None:
    ended = shop.run("backfill", "--executor", "celery", CELERY_BROKER_URL="amqp://u:hunter22@127.0.0.1:1//")

    assert ended.code == 69
    assert "product-sync: the broker cannot be reached" in ended.err
    assert "hunter22" not in ended.err


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"CELERY_BROKER_URL": ""}, "CELERY_BROKER_URL: is not set"),
        ({"DATABASE_URL": "sqlite:///products.db"}, "DATABASE_URL: is not PostgreSQL"),
    ],
)
def test_settings_that_allow_no_workers_are_named(shell: Shell, changed: dict[str, str], words: str) -> None:
    shell.settings |= {"CELERY_BROKER_URL": "redis://127.0.0.1/0", "DATABASE_URL": "postgresql+psycopg:///x"}

    for command in (["worker"], ["backfill", "--executor", "celery"]):
        ended = shell.run(*command, **changed)
        assert (ended.code, words in ended.err) == (78, True), ended.err
    assert not (shell.folder / "products.db").exists()


def test_a_dry_run_is_not_handed_to_workers(shell: Shell) -> None:
    assert shell.run("backfill", "--executor", "celery", "--dry-run").code == 64


@pytest.mark.parametrize(
    "url",
    [
        "amqp://[::1",
        "amqp://guest@127.0.0.1:99999//",
        "redis://127.0.0.1:port/0",
        "redis://127.0.0.1:6379/zero",
        "rediss://127.0.0.1:6379/0?ssl_cert_reqs=perhaps",
        "amqp://guest@127.0.0.1//?heartbeat=often",
    ],
)
@pytest.mark.parametrize("command", [("worker",), ("backfill", "--executor", "celery")])
def test_a_broker_url_that_no_client_can_use_is_refused_by_name(
    shop: Shell, command: tuple[str, ...], url: str
) -> None:
    ended = shop.run(*command, CELERY_BROKER_URL=url)

    assert ended.code == 78
    assert "CELERY_BROKER_URL: " in ended.err
