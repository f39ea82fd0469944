"""The daemon under a service manager: what it tells, how it stops in each phase, what it keeps to itself."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.command import Running, Shell
from tests.receiver import Receiver

WITHIN_S = 10.0


@pytest.fixture(autouse=True)
def _often(shell: Shell) -> None:
    off = ("SYNC_RECONCILE_CRON", "SYNC_PRICES_INTERVAL", "SYNC_STOCK_INTERVAL", "SYNC_REFERENCE_CRON")
    shell.settings |= dict.fromkeys((*off, "STATUS_BIND"), "off") | {"SYNC_INTERVAL": "1s"}


# --- what it tells the service manager ----------------------------------------------------------------


class Manager:
    """A service manager's end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self._wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._wire.bind(str(path))
        self._wire.settimeout(20)

    def wait_for(self, message: str) -> None:
        while not self.told or not self.told[-1].startswith(message):
            self.told.append(self._wire.recv(4096).decode())

    def close(self) -> None:
        self._wire.close()


@pytest.fixture
def manager(shell: Shell) -> Iterator[Manager]:
    path = shell.folder / "notify"
    manager = Manager(path)
    shell.settings |= {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}
    yield manager
    manager.close()


def test_systemd_hears_of_start_life_reload_and_end(shell: Shell, manager: Manager) -> None:
    with shell.start("daemon") as daemon:
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1")
        manager.wait_for("STATUS=idle")
        manager.wait_for("WATCHDOG=1")
        daemon.process.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1\nMONOTONIC_USEC=")
        manager.wait_for("READY=1")
        began = time.monotonic()
        for _ in range(5):
            manager.told.append("")
            manager.wait_for("WATCHDOG=1")
        assert time.monotonic() - began > 0.6
        code = daemon.end()
        manager.wait_for("STOPPING=1")

    assert code == 0


# --- how it stops -------------------------------------------------------------------------------------


def hang_token(shell: Shell) -> str:
    shell.tenant.faults.slow(60, kind="token")
    return "lease"


def hang_page(shell: Shell) -> str:
    shell.tenant.faults.slow(60, kind="page")
    return "run.started"


def retry_after(shell: Shell) -> str:
    shell.tenant.faults.fail(429, headers={"Retry-After": "60"}, kind=None)
    return "request.retried"


def back_off(shell: Shell) -> str:
    shell.tenant.faults.fail(502, kind="count")
    return "request.retried"


@pytest.mark.parametrize("trouble", [hang_page, retry_after, back_off])
def test_it_stops_while_the_tenant_keeps_it_waiting(shell: Shell, trouble: Callable[[Shell], str]) -> None:
    shell.settings |= {"SYNC_MAX_RETRY_TIME": "5m"}
    event = trouble(shell)

    with shell.start("daemon") as daemon:
        daemon.wait_for(event)
        assert seconds_to_end(daemon) < WITHIN_S

    assert "pass.interrupted" in [seen["event"] for seen in daemon.log]
    assert statuses(shell)[-1] == "interrupted"


@pytest.mark.parametrize(
    ("kind", "feed", "often"),
    [
        ("reference", "SYNC_REFERENCE_CRON", "* * * * *"),
        ("prices", "SYNC_PRICES_INTERVAL", "1s"),
        ("stock", "SYNC_STOCK_INTERVAL", "1s"),
    ],
)
def test_it_stops_in_the_middle_of_each_feed(shell: Shell, kind: Any, feed: str, often: str) -> None:
    shell.tenant.faults.slow(60, kind=kind)

    with shell.start("daemon", **{feed: often, "SYNC_INTERVAL": "1h"}) as daemon:
        daemon.wait_for("run.started", kind=kind)
        assert seconds_to_end(daemon) < WITHIN_S

    assert query(shell, f"SELECT status FROM sync_runs WHERE kind = '{kind}'") == [("interrupted",)]


def test_it_stops_while_deletions_are_counted(shell: Shell) -> None:
    """Ten products are gone, and each question after them takes its time."""
    assert shell.run("backfill").code == 0
    shell.tenant.catalogue.delete_many(shell.tenant.catalogue.ids()[::30])
    shell.tenant.faults.slow(0.5, kind="count")

    with shell.start("daemon", LOG_LEVEL="DEBUG") as daemon:
        for _ in range(5):
            daemon.wait_for("request.finished")
        assert seconds_to_end(daemon) < WITHIN_S

    assert statuses(shell)[-1] == "interrupted"
    shell.tenant.faults.clear()
    assert shell.run("run").code == 0
    assert query(shell, "SELECT count(*) FROM products_current") == [(290,)]


def test_it_stops_while_it_waits_for_a_token(shell: Shell) -> None:
    hang_token(shell)

    with shell.start("daemon") as daemon:
        daemon.wait_for("run.started")
        assert seconds_to_end(daemon) < WITHIN_S

    assert statuses(shell) == ["interrupted"]


def test_it_stops_when_idle_and_while_it_writes(shell: Shell) -> None:
    shell.settings |= {"SYNC_PAGE_SIZE": "5", "LOG_LEVEL": "DEBUG"}

    with shell.start("daemon") as daemon:
        daemon.wait_for("page.written")
        assert seconds_to_end(daemon) < WITHIN_S
    written = sum(seen.get("fetched", 0) for seen in daemon.log if seen["event"] == "page.written")
    assert query(shell, "SELECT count(*) FROM products")[0][0] == written

    with shell.start("daemon", SYNC_INTERVAL="1h") as daemon:
        daemon.wait_for("run.finished", outcome="succeeded")
        assert seconds_to_end(daemon) < WITHIN_S
    assert query(shell, "SELECT count(*) FROM products")[0][0] == 300


def test_it_stops_while_another_program_locks_the_database(shell: Shell) -> None:
    shell.settings |= {"LOG_LEVEL": "DEBUG", "SYNC_PAGE_SIZE": "5", "SYNC_CONCURRENCY": "1"}
    shell.tenant.faults.slow(0.2)

    with shell.start("daemon") as daemon:
        daemon.wait_for("page.written")
        with sqlite3.connect(shell.folder / "products.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            daemon.wait_for("request.finished")
            assert seconds_to_end(daemon) < WITHIN_S
            other.execute("ROLLBACK")

    shell.tenant.faults.clear()
    assert shell.run("backfill").code == 0
    assert query(shell, "SELECT count(*), count(DISTINCT product_id) FROM product_changes") == [(300, 300)]


def test_it_stops_while_it_stands_by_for_another(shell: Shell) -> None:
    shell.tenant.faults.slow(60, kind="page")

    with shell.start("daemon") as first:
        first.wait_for("run.started")
        with shell.start("daemon") as second:
            second.wait_for("lease.awaited")
            assert seconds_to_end(second) < WITHIN_S
        first.process.kill()


def test_it_stops_while_it_waits_to_migrate_the_copy(shell: Shell, manager: Manager) -> None:
    """Another program holds the lock at the start: the copy cannot even be made."""
    with sqlite3.connect(shell.folder / "products.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with shell.start("daemon") as daemon:
            manager.wait_for("STATUS=opening the copy")
            assert seconds_to_end(daemon) < WITHIN_S
        other.execute("ROLLBACK")

    assert "READY=1" not in manager.told
    assert shell.run("backfill").code == 0


def seconds_to_end(daemon: Running) -> float:
    began = time.monotonic()
    assert daemon.end() == 0
    return time.monotonic() - began


def query(shell: Shell, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(shell.folder / "products.db") as copy:
        return copy.execute(sql).fetchall()


def statuses(shell: Shell) -> list[object]:
    return [row[0] for row in query(shell, "SELECT status FROM sync_runs ORDER BY run_id")]


# --- what it keeps to itself --------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["told by SIGHUP", "not told"])
def test_a_secret_exchanged_under_a_running_daemon_fails_no_pass_and_is_nowhere_to_be_read(
    shell: Shell, told: bool
) -> None:
    """A token lives for a second; the old secret is refused from the moment the new one is there."""
    old, new = "p8e-0ld/secret+with=odd&signs%", "p8e-n3w/secret+with=odd&signs%"
    credentials = shell.tenant.credentials
    secret = shell.folder / "secret"
    secret.write_text(old)
    shell.tenant.tokens.life = 1
    object.__setattr__(credentials, "client_secret", old)

    shell.settings |= {"IMS_CLIENT_SECRET": "", "IMS_CLIENT_SECRET_FILE": str(secret)}
    shell.settings |= {"LOG_LEVEL": "DEBUG", "STATUS_BIND": "127.0.0.1:0"}
    with shell.start_afresh("daemon") as daemon:
        address = page_of(daemon)
        daemon.wait_for("run.finished", outcome="succeeded")
        secret.write_text(new)
        object.__setattr__(credentials, "client_secret", new)
        shell.tenant.faults.revoke_tokens()
        if told:
            daemon.process.send_signal(signal.SIGHUP)
            address = page_of(daemon)
        for _ in range(2):
            daemon.wait_for("token.refreshed")
            daemon.wait_for("run.finished", outcome="succeeded")
        served = "".join(fetch(f"{address}{path}") for path in every_page(address))
        command_line = " ".join(psutil.Process(daemon.process.pid).cmdline())
        assert daemon.end() == 0

    secret.unlink()
    assert "pass.failed" not in [seen["event"] for seen in daemon.log]
    *ended, last = [row[0] for row in query(shell, "SELECT status FROM sync_runs ORDER BY run_id")]
    assert set(ended) == {"succeeded"}
    assert last in ("succeeded", "interrupted"), "the end of the daemon may interrupt the run in progress"
    kept = b"".join(path.read_bytes() for path in shell.folder.iterdir() if path.is_file())
    everything = f"{daemon.log} {daemon.words} {command_line} {served}".encode() + kept
    for text in (old, new, *shell.tenant.tokens._expires):
        for form in (text.encode(), base64.b64encode(text.encode()).rstrip(b"=")[:-1]):
            assert form not in everything
    assert not re.search(rb"Bearer (?!\*)", everything)


def page_of(daemon: Running) -> str:
    return str(daemon.wait_for("page.served")["url"]).rstrip("/")


def every_page(address: str) -> list[str]:
    """The paths of all that the daemon serves, in HTML and JSON."""
    in_json = [
        path.replace("{run_id:int}", "1").replace("{store_view}/{product_id:int}", "all/1")
        for path in json.loads(fetch(f"{address}/api"))["paths"]
    ]
    in_html = [path.removeprefix("/api").replace("/overview", "/") for path in in_json]
    return [*in_json, *in_html, "/metrics", "/healthz", "/readyz"]


def fetch(url: str) -> str:
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200, f"{url}: {answer.status_code}"
    return answer.text


def test_the_files_of_the_copy_are_for_their_owner_alone(shell: Shell) -> None:
    shell.settings |= {"SYNC_PAGE_SIZE": "5", "LOG_LEVEL": "DEBUG"}

    with shell.start("daemon") as daemon:
        daemon.wait_for("page.written")
        files = [path for path in shell.folder.iterdir() if path.name.startswith("products.db")]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}

    assert modes == {"products.db": 0o600, "products.db-wal": 0o600, "products.db-shm": 0o600}


# --- metrics of a command -----------------------------------------------------------------------------


@pytest.mark.parametrize(("fails", "code"), [(False, 0), (True, 77)])
def test_a_command_leaves_its_metrics_however_it_ends(shell: Shell, fails: bool, code: int) -> None:
    if fails:
        shell.tenant.faults.deny(403, kind=None)

    ended = shell.run("backfill", "--metrics-file", "sync.prom")

    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse((shell.folder / "sync.prom").read_text())
        for sample in family.samples
    }
    status = "failed" if fails else "succeeded"
    assert ended.code == code
    assert samples["product_sync_command_exit_code", "backfill"] == code
    assert samples["product_sync_runs_total", "backfill", status] == 1
    assert not [name for name, *_ in samples if not str(name).startswith("product_sync_")]
    assert samples.get(("product_sync_products_total", "backfill", "inserted"), 0) == (0 if fails else 300)


def test_counters_of_commands_under_cron_go_on(shell: Shell) -> None:
    """Else `increase()` sees nothing: each run sends the same three requests or so."""
    shell.run("backfill")
    counts = []
    for _ in range(2):
        shell.run("run", "--metrics-file", "sync.prom")
        families = parse((shell.folder / "sync.prom").read_text())
        counts.append(
            sum(it.value for f in families for it in f.samples if it.name.endswith("_requests_total"))
        )

    assert counts[0] > 0
    assert counts[1] == 2 * counts[0]


def test_settings_that_are_wrong_are_in_the_metrics_too(shell: Shell) -> None:
    ended = shell.run("run", "--metrics-file", "sync.prom", SYNC_PAGE_SIZE="none")

    assert ended.code == 78
    assert 'command_exit_code{command="run"} 78.0' in (shell.folder / "sync.prom").read_text()


# --- alerts -------------------------------------------------------------------------------------------


def test_a_stale_copy_is_told_once_and_once_when_it_is_fresh_across_a_restart(shell: Shell) -> None:
    """The tenant refuses for a while; the path of the receiver's URL is a secret too."""
    with Receiver() as receiver:
        shell.settings |= {"SYNC_ALERT_WEBHOOK": f"{receiver.url}/hook-s3cret", "SYNC_MAX_LAG": "4s"}
        shell.settings |= {"LOG_LEVEL": "DEBUG"}
        with shell.start("daemon") as first:
            first.wait_for("run.finished", outcome="succeeded")
            shell.tenant.faults.deny(403, kind=None)
            first.wait_for("alert.sent", what="problem")
            for _ in range(4):  # stale by now, and failed three times
                first.wait_for("run.finished", outcome="failed")
            assert first.end() == 0
        shell.tenant.faults.clear()
        with shell.start("daemon") as second:
            second.wait_for("run.finished", outcome="succeeded")
            second.wait_for("alert.sent", what="recovered")
            assert second.end() == 0

    assert [got.batch["event"] for got in receiver.received] == ["problem", "recovered"]
    assert len({got.batch["alert"] for got in receiver.received}) == 1
    assert all(got.batch["text"].startswith("127.0.0.1:") for got in receiver.received)
    assert "hook-s3cret" not in f"{first.log} {second.log} {first.words} {second.words}"


@pytest.mark.parametrize("replaced", [False, True], ids=["", "behind a SIGHUP"])
def test_what_is_being_told_when_the_daemon_ends_is_noted_as_told(shell: Shell, replaced: bool) -> None:
    """Else the next one takes it for a message of a daemon that still posts it, and waits five minutes."""
    shell.tenant.faults.deny(403, kind=None)
    with Receiver(["late"]) as receiver:
        shell.settings |= {"SYNC_ALERT_WEBHOOK": receiver.url}
        with shell.start("daemon") as first:
            receiver.wait_for(1)
            if replaced:
                (shell.folder / ".env").write_text("SYNC_MAX_DELETE_FRACTION=0.3\n")
                first.process.send_signal(signal.SIGHUP)
                first.wait_for("settings.reread", changed=True)
            assert first.end() == 0
        shell.tenant.faults.clear()
        with shell.start("daemon") as second:
            second.wait_for("alert.sent", what="recovered")
            assert second.end() == 0

    assert [got.batch["event"] for got in receiver.received] == ["problem", "recovered"]
