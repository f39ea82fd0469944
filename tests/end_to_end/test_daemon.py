"""The daemon keeps the copy fresh until it is told to stop, and survives what goes wrong meanwhile."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests.command import Shell
from tests.receiver import Receiver


@pytest.fixture(autouse=True)
def _often(shell: Shell) -> None:
    shell.settings |= {"SYNC_INTERVAL": "1s", "SYNC_RECONCILE_CRON": "off"}
    shell.settings |= {"SYNC_PRICES_INTERVAL": "off", "SYNC_STOCK_INTERVAL": "off"}
    shell.settings |= {"SYNC_REFERENCE_CRON": "off"}


def test_the_first_pass_comes_at_once_and_the_next_ones_by_themselves(shell: Shell) -> None:
    with shell.start_afresh("daemon") as daemon:
        loaded = daemon.wait_for("run.finished", kind="backfill")
        shell.tenant.catalogue.edit(7, name="A new name")
        changed = daemon.wait_for("run.finished", kind="incremental", updated=1)
        announced = json.loads(shell.run("status", "--json").out)["next_runs"]
        code = daemon.end()

    assert (loaded["inserted"], changed["outcome"]) == (300, "succeeded")
    assert [*announced] == ["incremental"]
    assert json.loads(shell.run("status", "--json").out)["next_runs"] == {}
    assert code == 0
    assert daemon.log[-1]["event"] == "daemon.stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_within_seconds_in_the_middle_of_a_load(shell: Shell, number: int) -> None:
    """A request takes a second; the load would take a minute."""
    shell.settings |= {"SYNC_PAGE_SIZE": "5", "SYNC_CONCURRENCY": "1", "LOG_LEVEL": "DEBUG"}
    shell.tenant.faults.slow(1, times=99)

    with shell.start("daemon") as daemon:
        daemon.wait_for("page.written")
        began = time.monotonic()
        code = daemon.end(number)

    assert code == 0
    assert time.monotonic() - began < 5
    assert "pass.interrupted" in [seen["event"] for seen in daemon.log]


def test_a_failed_pass_is_told_with_its_remedy_and_the_next_one_comes(shell: Shell) -> None:
    shell.tenant.faults.deny(403, kind="count", times=2)  # a request and its repeat with another token

    with shell.start("daemon") as daemon:
        failed = daemon.wait_for("pass.failed")
        daemon.wait_for("run.finished", outcome="succeeded")

    assert failed["error"].startswith("GET /V1/products (store view all) was answered 403: ")
    assert "credential" in failed["fix"]


def test_prices_and_stock_are_read_behind_the_first_pass_and_then_by_themselves(shell: Shell) -> None:
    shell.settings |= {"SYNC_PRICES_INTERVAL": "1s", "SYNC_STOCK_INTERVAL": "1s"}

    with shell.start("daemon") as daemon:
        kinds = [daemon.wait_for("run.finished")["kind"] for _ in range(3)]
        shell.tenant.prices.set_base(7, 4242)
        changed = daemon.wait_for("run.finished", kind="prices", updated=1)

    assert (kinds[0], set(kinds[1:])) == ("backfill", {"prices", "stock"})
    assert changed["outcome"] == "succeeded"


def test_a_feed_that_is_refused_is_a_warning_once_and_no_failure(shell: Shell) -> None:
    shell.settings |= {"SYNC_STOCK_INTERVAL": "1s"}
    shell.tenant.faults.forbid("stock")

    with shell.start("daemon") as daemon:
        for _ in range(3):
            daemon.wait_for("run.finished", kind="stock", outcome="partial")

    told = [seen["level"] for seen in daemon.log if seen["event"] == "feed.missed"]
    assert told[:3] == ["warning", "info", "info"]
    assert "pass.failed" not in [seen["event"] for seen in daemon.log]


def test_settings_are_read_again_on_sighup_and_wrong_ones_change_nothing(shell: Shell) -> None:
    """The copy is kept elsewhere from then on."""
    dotenv = shell.folder / ".env"

    with shell.start("daemon") as daemon:
        daemon.wait_for("run.finished")
        dotenv.write_text("SYNC_PAGE_SIZE=none\n")
        daemon.process.send_signal(signal.SIGHUP)
        refused = daemon.wait_for("settings.refused")
        daemon.wait_for("run.finished", kind="incremental")
        dotenv.write_text("DATABASE_URL=sqlite:///elsewhere.db\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("settings.reread", changed=True)
        loaded = daemon.wait_for("run.finished", kind="backfill")

    assert "SYNC_PAGE_SIZE" in refused["error"]
    assert loaded["inserted"] == 300


def test_a_rotated_secret_is_picked_up_from_its_file(shell: Shell) -> None:
    """The file is filled in late; an access token ends after a second, so that it must be renewed."""
    secret = shell.folder / "secret"
    secret.write_text("not-the-secret")

    with shell.start("daemon", IMS_CLIENT_SECRET="", IMS_CLIENT_SECRET_FILE=str(secret)) as daemon:
        failed = daemon.wait_for("pass.failed")
        secret.write_text(shell.tenant.credentials.client_secret)
        daemon.wait_for("run.finished", outcome="succeeded")

    assert "IMS_CLIENT_SECRET" in failed["fix"]


def test_when_the_one_at_work_is_killed_the_other_takes_over(shell: Shell) -> None:
    """Two daemons on one database; the first is killed in the middle of the load; no pass is due soon."""
    shell.settings |= {"SYNC_INTERVAL": "1h", "SYNC_PAGE_SIZE": "50", "SYNC_CONCURRENCY": "1"}
    shell.settings |= {"LOG_LEVEL": "DEBUG"}
    shell.tenant.faults.slow(30, after=100, times=1)

    with shell.start("daemon") as first:
        first.wait_for("page.written")
        with shell.start("daemon") as second:
            awaited = second.wait_for("lease.awaited")
            first.process.kill()
            continued = second.wait_for("run.started", kind="backfill", resumed=True)
            second.wait_for("run.finished", outcome="succeeded")

    assert f"process {first.process.pid} " in awaited["reason"]
    assert continued["run"] > 1
    with sqlite3.connect(shell.folder / "products.db") as copy:
        kinds = copy.execute(
            "SELECT kind, count(*), count(DISTINCT product_id) FROM product_changes GROUP BY 1"
        )
        assert kinds.fetchall() == [("insert", 300, 300)]


def test_one_that_stood_by_does_not_repeat_what_the_other_did(shell: Shell) -> None:
    """The second daemon asks while the first one waits for the tenant; when it may, nothing is left to do."""
    shell.settings |= {"SYNC_INTERVAL": "1h", "SYNC_MAX_RETRY_TIME": "1m"}
    shell.tenant.faults.fail(status=503, kind="count", times=99)

    with shell.start("daemon") as first:
        first.wait_for("run.started")
        with shell.start("daemon") as second:
            second_waits = second.wait_for("lease.awaited")
            shell.tenant.faults.clear()
            first.wait_for("run.finished")
            second.wait_for("pass.served_by_another")
            code = second.end()

    assert (code, second_waits["job"]) == (0, "run")
    assert "run.started" not in [seen["event"] for seen in second.log]


def test_passes_keep_their_interval_and_ages_are_steady_when_the_wall_clock_is_set(shell: Shell) -> None:
    """An hour forward, then back; no pass is an hour away then, and no alert says that the copy is late."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed: apt-get install faketime")
    offset = shell.folder / "offset"
    offset.write_text("+0s\n")
    shell.settings |= {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(offset)}
    shell.settings |= {"FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    with Receiver() as receiver, shell.start_afresh("daemon", SYNC_ALERT_WEBHOOK=receiver.url) as daemon:
        daemon.wait_for("run.finished", kind="incremental")
        for step, moved in (("+3600s", 3600), ("+0s", -3600)):
            offset.write_text(f"{step}\n")
            noticed = daemon.wait_for("clock.set")
            for _ in range(5):
                daemon.wait_for("run.finished", kind="incremental")

            assert abs(noticed["seconds"] - moved) < 60
        assert receiver.received == []


@pytest.mark.parametrize("zone", ["CET-1CEST,M3.5.0,M10.5.0/3", "Nowhere/At_All", ":", ""])
def test_the_time_zone_of_the_system_is_not_asked_for(shell: Shell, zone: str) -> None:
    shell.settings |= {"SYNC_RECONCILE_CRON": "0 3 * * *", "SYNC_REFERENCE_CRON": "30 2 * * *"}

    with shell.start_afresh("daemon", TZ=zone) as daemon:
        daemon.wait_for("run.finished", kind="incremental")
        code = daemon.end()

    assert (code, daemon.words) == (0, [])
