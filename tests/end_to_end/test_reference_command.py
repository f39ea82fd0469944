"""`product-sync reference`, by hand and by the daemon, as users and their scripts see it."""

from __future__ import annotations

import sqlite3

from tests.command import Shell

DAEMON = {"SYNC_RECONCILE_CRON": "off", "SYNC_PRICES_INTERVAL": "off", "SYNC_STOCK_INTERVAL": "off"}


def test_it_says_what_it_did_and_status_says_when(shell: Shell) -> None:
    first, second = shell.run("reference", "--json"), shell.run("reference")
    status = shell.run("status", "--json").objects[0]

    assert (first.code, second.code) == (0, 0)
    assert first.objects[0]["kind"] == "reference"
    assert first.objects[0]["inserted"] == first.objects[0]["fetched"] > 100
    assert "reference succeeded (all): " in second.err
    assert " unchanged; " in second.err
    assert [(feed["kind"], feed["run_id"]) for feed in status["feeds"]] == [("reference", 2)]


def test_a_missing_right_is_said_with_its_remedy(shell: Shell) -> None:
    shell.tenant.faults.forbid("categories")

    ended = shell.run("reference", LOG_LEVEL="ERROR")

    assert ended.code == 1
    assert ended.err.count("The categories were not read") == 1
    assert "Magento_Catalog::categories" in ended.err
    assert "Traceback" not in ended.err


def test_the_daemon_reads_it_before_its_first_load_and_not_at_every_start(shell: Shell) -> None:
    def kinds() -> list[str]:
        with shell.start("daemon", **DAEMON) as daemon:
            daemon.wait_for("run.finished", outcome="succeeded")
            if daemon.log[-1]["kind"] != "incremental":
                daemon.wait_for("run.finished", outcome="succeeded")
            daemon.end()
            return [seen["kind"] for seen in daemon.log if seen["event"] == "run.finished"]

    assert (kinds(), kinds()) == (["reference", "backfill"], ["incremental"])
    with sqlite3.connect(shell.folder / "products.db") as copy:
        (labels,) = copy.execute("SELECT count(*) FROM attribute_options").fetchone()
    assert labels > 20


def test_the_daemon_leaves_it_out_when_told_to(shell: Shell) -> None:
    with shell.start("daemon", **DAEMON, SYNC_REFERENCE_CRON="off") as daemon:
        loaded = daemon.wait_for("run.finished")

    assert loaded["kind"] == "backfill"
