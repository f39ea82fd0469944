"""The command line as users and their scripts see it: what it prints, where, and its exit code."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sync.sandbox.families import NAMES
from tests.command import LONGEST_S, PRODUCT_SYNC, Ended, Shell, assert_same_fault

SUMMARY = (
    *("run_id", "kind", "status", "store_views", "fetched", "inserted", "updated", "unchanged"),
    *("deleted", "rejected", "altered", "requests", "throttled", "retries", "seconds"),
)


def assert_is_one_clear_sentence(ended: Ended, shell: Shell) -> None:
    """What went wrong and what to do, without a traceback or a secret."""
    said = ended.out + ended.err
    assert "product-sync: " in ended.err
    assert "To do: " in ended.err
    assert "Traceback" not in said
    assert shell.tenant.credentials.client_secret not in said
    assert "Bearer" not in said


# --- when all is well ------------------------------------------------------------------------


def test_a_load_an_edit_and_a_deletion_arrive_and_are_told(shell: Shell) -> None:
    """The story of the demo, by hand."""
    loaded = shell.run("backfill", "--json")
    shell.tenant.catalogue.edit(7, name="A new name")
    shell.tenant.catalogue.delete(8)
    ran = shell.run("run", "--json")

    assert (loaded.code, ran.code) == (0, 0)
    assert tuple(loaded.objects[0]) == SUMMARY
    assert (loaded.objects[0]["inserted"], ran.objects[0]["updated"], ran.objects[0]["deleted"]) == (
        300,
        1,
        1,
    )

    changes = shell.run("changes", "--since", "300").objects
    assert [(change["kind"], change["product_id"]) for change in changes] == [("update", 7), ("delete", 8)]
    assert changes[0]["fields"]["name"]["new"] == "A new name"

    product = shell.run("show", changes[0]["sku"], "--json").objects[0]
    assert (product["name"], product["document"]["name"]) == ("A new name", "A new name")
    assert "-> A new name" in shell.run("show", changes[0]["sku"], "--history").out

    status = shell.run("status", "--json").objects[0]
    assert [(view["store_view"], view["live"], view["deleted"]) for view in status["store_views"]] == [
        ("all", 299, 1)
    ]
    assert shell.run("verify").code == 0


@pytest.mark.parametrize("kind", ["saas", "paas"])
def test_a_store_view_that_is_gone_is_named_once_and_the_others_are_fresh(shell: Shell, kind: str) -> None:
    shell.settings["STORE_VIEWS"] = "all,default"
    if kind == "paas":
        shell.settings |= {"IMS_CLIENT_ID": "", "IMS_CLIENT_SECRET": "", "IMS_ORG_ID": ""}
        shell.settings |= shell.tenant.paas_environment()
    shell.run("backfill")
    shell.tenant.faults.drop_store_view("default")
    shell.tenant.catalogue.edit(7, name="A new name")
    shell.tenant.catalogue.delete(8)

    ran = shell.run("run", "--json", LOG_LEVEL="ERROR")

    told = {"status": "partial", "store_views": ["all"], "updated": 1, "deleted": 1}
    assert (ran.code, ran.objects[0] | told) == (1, ran.objects[0])
    assert ran.err.count("not know store view default.") == 1
    assert "forget --store-view default" in ran.err
    views = shell.run("status", "--json").objects[0]["store_views"]
    assert [(view["store_view"], view["live"]) for view in views] == [("all", 299), ("default", 300)]


def test_a_value_that_the_database_cannot_hold_is_told_and_is_no_failure(shell: Shell) -> None:
    shell.tenant.catalogue.edit(7, created_at="0000-00-00 00:00:00")

    loaded = shell.run("backfill", "--json")

    told = {"status": "succeeded", "inserted": 300, "rejected": 0, "altered": 1}
    assert (loaded.code, loaded.objects[0] | told) == (0, loaded.objects[0])
    assert "300 inserted, 1 altered;" in loaded.err
    status = shell.run("status", "--json").objects[0]
    assert (status["open_rejections"], status["altered"], status["runs"][0]["altered"]) == (0, 1, 1)
    assert "Altered products, copied with a value replaced: 1" in shell.run("status").out
    assert shell.run("verify").code == 0


def test_a_difference_is_named_and_makes_verify_fail(shell: Shell) -> None:
    shell.run("backfill")
    with sqlite3.connect(shell.folder / "products.db") as copy:
        copy.execute("UPDATE products SET name = 'Edited by hand' WHERE product_id = 5")

    verified = shell.run("verify")

    assert verified.code == 1
    assert "1 product" in verified.out
    assert "    5  " in verified.out
    assert "store view all: 1 product that differs" in shell.run("verify", "--json").err


def test_check_says_how_an_integration_is_authenticated(shell: Shell) -> None:
    bearer = {
        "IMS_CLIENT_ID": "",
        "IMS_CLIENT_SECRET": "",
        "IMS_ORG_ID": "",
    } | shell.tenant.paas_environment()
    rest = ("COMMERCE_CONSUMER_KEY", "COMMERCE_CONSUMER_SECRET", "COMMERCE_ACCESS_TOKEN_SECRET")

    assert "sent as Bearer: since 2.4.4 Commerce accepts it only where" in shell.run("check", **bearer).out
    assert "sign each request (OAuth 1.0a)" in shell.run("check", **bearer, **dict.fromkeys(rest, "k")).out


def test_a_run_says_that_it_loads(shell: Shell) -> None:
    loaded, unchanged = shell.run("run"), shell.run("run")

    assert "No load of all has finished yet" in loaded.err
    assert "No load" not in unchanged.err


def test_a_dry_run_says_what_it_would_do_and_leaves_no_trace(shell: Shell) -> None:
    ended = shell.run("backfill", "--dry-run", "--json")

    assert (ended.code, ended.objects[0]["inserted"]) == (0, 300)
    assert "dry run, nothing was written" in ended.err
    assert list(shell.folder.iterdir()) == []


def test_unknown_names_are_a_warning_and_the_known_ones_are_read(shell: Shell) -> None:
    ended = shell.run("run", "--id", "3", "--id", "99999", "--sku", "nowhere", "--json")

    assert (ended.code, ended.objects[0]["fetched"]) == (0, 1)
    assert "99999" in ended.err
    assert "nowhere" in ended.err


def test_nothing_found_is_no_success(shell: Shell) -> None:
    """`run` and `show`, for a product, and `show` for a store view."""
    ended = shell.run("run", "--sku", "nowhere", "--json")
    shell.run("backfill")
    sku = shell.run("export", "-", "--columns", "sku").objects[0]["sku"]
    shown = shell.run("show", "nowhere"), shell.run("show", sku, "--store-view", "fr")

    assert [ended.code, *(it.code for it in shown)] == [64, 64, 64]
    assert "Product nowhere was not found" in ended.err
    assert ended.objects[0]["fetched"] == 0
    assert "no product nowhere" in shown[0].err
    assert "no store view fr" in shown[1].err


def test_on_a_pipe_every_line_is_an_object_of_the_log(shell: Shell) -> None:
    """Messages of a pass, its error, and those of the commands that read the copy."""
    loaded = shell.run("backfill")
    failed = shell.run("run", "--sku", "nowhere")
    written = shell.run("export", "copy.csv")

    events = [json.loads(line) for ended in (loaded, failed, written) for line in ended.err.splitlines()]
    messages = [event["message"] for event in events if event["event"] == "command.message"]
    assert len(messages) == 4  # two summaries, an error, the rows of the export
    assert messages[0].startswith("backfill succeeded (all): 300 read, 300 inserted; ")
    assert "To do: check the SKU" in messages[2]
    assert shell.run("export", "copy.csv", LOG_FORMAT="console").err.startswith("product-sync: 300 rows")


def test_config_shows_its_table_and_marks_what_is_wrong(shell: Shell) -> None:
    ended = shell.run("config", SYNC_PAGE_SIZE="none", IMS_ORG_ID="", DATABASE_URL="hidden:secret@nonsense")

    rows = {line.split()[0]: line for line in ended.out.splitlines()}
    assert ended.code == 78
    assert "wrong" in rows["setting"]
    assert "environment  " in rows["SYNC_PAGE_SIZE"]
    assert "is not set" in rows["IMS_ORG_ID"]
    assert "secret" not in ended.out.replace("client_secret", "").replace("SECRET", "")
    assert rows["SYNC_OVERLAP"].endswith("default")
    assert "SYNC_PAGE_SIZE: " in ended.err


def test_the_sandbox_is_edited_from_the_command_line(shell: Shell) -> None:
    port = shell.tenant.host_url.rpartition(":")[2]
    shell.run("backfill")
    edited, deleted = shell.tenant.catalogue.sku(7), shell.tenant.catalogue.sku(8)

    codes = [
        shell.run("sandbox", "edit", edited, "--name", "New", "--price", "9.5", "--port", port).code,
        shell.run("sandbox", "delete", deleted, "--port", port).code,
        shell.run("sandbox", "add", "--name", "Another", "--port", port).code,
    ]
    unknown = shell.run("sandbox", "delete", "nowhere", "--port", port)
    unreachable = shell.run("sandbox", "delete", "nowhere", "--port", "1")
    ran = shell.run("run", "--json").objects[0]

    assert (codes, unknown.code, unreachable.code) == ([0, 0, 0], 64, 69)
    assert (ran["updated"], ran["deleted"], ran["inserted"]) == (1, 1, 1)


def test_short_options_and_completion(shell: Shell) -> None:
    assert shell.run("-V").out == shell.run("--version").out
    assert shell.run("run", "-h").out == shell.run("run", "--help").out
    words = {"_PRODUCT_SYNC_COMPLETE": "complete_bash", "COMP_WORDS": "product-sync rec", "COMP_CWORD": "1"}
    assert shell.run(**words).out.split() == ["reconcile"]


def test_check_finds_nothing_wrong(shell: Shell) -> None:
    ended = shell.run("check")

    permissions = ["store list", "prices", "stock", "categories", "attributes", "attribute sets"]
    names = ["settings", "token", "API", "products", "store views", *permissions, "clock", "database"]
    assert ended.code == 0
    assert [line[9:23].strip() for line in ended.out.splitlines()] == names
    assert list(shell.folder.iterdir()) == []


def test_check_names_each_permission_that_is_missing_and_what_needs_it(shell: Shell) -> None:
    """Without one that only some commands need, nothing fails."""
    for family in NAMES - {"products"}:
        shell.tenant.faults.forbid(family)

    ended = shell.run("check", "--json")
    shell.tenant.faults.forbid("products")
    refused = shell.run("check", "--json")

    (found,) = ended.objects
    assert (ended.code, found["exit_code"], found["status"]) == (0, 0, "warning")
    missing = [it for it in found["checks"] if it["status"] == "warning"]
    needed = re.compile(r"not granted: (\S+), needed by (\w+)")
    assert {it["name"]: needed.findall(it["words"]) for it in missing} == {
        "store list": [("Magento_Backend::store", "reference")],
        "prices": [("Magento_Catalog::catalog", "prices")],
        "stock": [("Magento_InventoryApi::source", "stock")],
        "categories": [("Magento_Catalog::categories", "reference")],
        "attributes": [("Magento_Catalog::attributes_attributes", "reference")],
        "attribute sets": [("Magento_Catalog::sets", "reference")],
    }
    assert all("allow the resource" in it["fix"] for it in missing)
    (api,) = (it for it in refused.objects[0]["checks"] if it["name"] == "API")
    assert (refused.code, refused.objects[0]["exit_code"], api["status"]) == (77, 77, "failed")
    assert "Magento_Catalog::products" in api["fix"]


def test_a_secret_file_that_everybody_may_read_is_warned_about_once(shell: Shell) -> None:
    with tempfile.TemporaryDirectory() as name:
        secret = Path(name) / "secret"
        secret.write_text(shell.tenant.credentials.client_secret)
        Path(name).chmod(0o755)
        secret.chmod(0o644)
        given = {"IMS_CLIENT_SECRET": "", "IMS_CLIENT_SECRET_FILE": str(secret)}
        checked, run = shell.run("check", **given), shell.run("backfill", **given)

    assert "warning  settings       IMS_CLIENT_SECRET_FILE: other users may read that file" in checked.out
    assert (checked.code, run.code) == (0, 0)
    assert run.err.count("secret_file.exposed") == 1


def test_a_closed_pipe_ends_the_feed_quietly(shell: Shell) -> None:
    shell.run("backfill")

    with shell.start_afresh("changes", "--follow") as feed:
        assert feed.process.stdout is not None
        feed.process.stdout.readline()
        feed.process.stdout.close()
        shell.run("run", "--id", "3")
        shell.tenant.catalogue.edit(3, name="Again")
        shell.run("run")
        assert feed.process.wait(30) == 0
        assert "".join(feed.lines()) == ""


def test_help_is_there_without_any_settings(tmp_path: Path) -> None:
    told = subprocess.run([*PRODUCT_SYNC, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "product-sync backfill" in told.stdout


def test_the_demo_comes_out_right_whatever_the_user_has_set(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("STORE_VIEWS=atlantis\nSYNC_PAGE_SIZE=none\n")
    environment = {"API_ENDPOINT": "https://shop.example/rest", "DATABASE_URL": "nonsense"}

    told = subprocess.run(
        [*PRODUCT_SYNC, "demo", "copy"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "The copy equals the catalogue." in told.stdout
    assert "name: " in told.stdout
    assert (tmp_path / "copy" / "demo.db").exists()


# --- when it is not --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "code", "remedy"),
    [
        ({"IMS_CLIENT_SECRET": "not-the-secret"}, 77, "IMS_CLIENT_SECRET"),
        ({"IMS_ORG_ID": "FEDCBA9876543210@AdobeOrg"}, 77, "IMS_ORG_ID"),
        ({"IMS_SCOPES": "openid,AdobeID"}, 77, "IMS_SCOPES"),
        ({"STORE_VIEWS": "atlantis"}, 78, "STORE_VIEWS"),
        ({"API_ENDPOINT": "http://127.0.0.1:1/sandbox"}, 69, "API_ENDPOINT"),
        ({"API_ENDPOINT": "http://shop.example/rest"}, 78, "unencrypted"),
        ({"DATABASE_URL": "sqlite:///no-such-folder/products.db"}, 69, "DATABASE_URL"),
    ],
)
def test_a_wrong_setting_ends_with_its_code_and_its_remedy(
    shell: Shell, changed: dict[str, str], code: int, remedy: str
) -> None:
    ended = shell.run("backfill", **changed)

    assert ended.code == code
    assert remedy in ended.err.partition("product-sync: ")[2]
    assert_is_one_clear_sentence(ended, shell)


def test_a_port_that_is_taken_is_told_with_a_remedy(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = shell.run("sandbox", "--port", str(taken.getsockname()[1]))

    assert ended.code == 64
    assert "--port" in ended.err
    assert "0 for any" in ended.err


def html_instead_of_json(shell: Shell) -> None:
    shell.tenant.faults.html(kind=None, times=99)


def a_request_refused_as_wrong(shell: Shell) -> None:
    shell.tenant.faults.fail(status=400, body={"message": "Invalid attribute"}, kind="count", times=99)


def a_database_of_a_newer_version(shell: Shell) -> None:
    shell.run("db", "upgrade")
    with sqlite3.connect(shell.folder / "products.db") as copy:
        copy.execute("UPDATE alembic_version SET version_num = '9999'")


@pytest.mark.parametrize(
    ("calamity", "code"),
    [(html_instead_of_json, 69), (a_request_refused_as_wrong, 70), (a_database_of_a_newer_version, 78)],
)
def test_a_fault_ends_with_its_code_and_one_sentence(
    shell: Shell, calamity: Callable[[Shell], None], code: int
) -> None:
    calamity(shell)

    ended = shell.run("backfill")

    assert ended.code == code
    assert_is_one_clear_sentence(ended, shell)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["run", "--frobnicate"],
        ["show"],
        ["backfill", "--first-id", "9", "--last-id", "3"],
    ],
)
def test_a_command_that_cannot_be_understood_ends_with_64(shell: Shell, arguments: list[str]) -> None:
    assert shell.run(*arguments).code == 64


def test_every_fault_of_the_settings_is_told_at_once(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*PRODUCT_SYNC, "run"], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 78
    for name in ("API_ENDPOINT", "IMS_CLIENT_ID", "IMS_CLIENT_SECRET", "IMS_ORG_ID"):
        assert f"{name}: " in ended.stderr


def test_there_is_nothing_to_look_at_before_the_first_load(shell: Shell) -> None:
    ended = shell.run("status")

    assert ended.code == 69
    assert "product-sync backfill" in ended.err
    assert list(shell.folder.iterdir()) == []


@pytest.mark.parametrize(
    "settings", [{"STORE_VIEWS": "fr"}, {"DATABASE_URL": "sqlite:///no-such-folder/products.db"}], ids=str
)
def test_check_and_a_pass_report_a_fault_with_the_same_sentence(
    shell: Shell, settings: dict[str, str]
) -> None:
    checked, run = shell.run("check", **settings), shell.run("run", **settings)

    assert_same_fault(checked, run)


@pytest.mark.parametrize("command", ["run", "backfill", "reconcile", "verify"])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_store_view_that_commerce_does_not_know_is_a_wrong_option(
    shell: Shell, command: str, *, loaded: bool
) -> None:
    if loaded:
        shell.run("backfill")

    ended = shell.run(command, "--store-view", "fr", LOG_FORMAT="console")

    assert ended.code == 64
    assert "product-sync: Commerce does not know store view fr.\n  To do: correct --store-view;" in ended.err


def test_check_names_what_is_wrong_and_goes_on(shell: Shell) -> None:
    """A wrong secret says nothing about the database."""
    ended = shell.run("check", IMS_CLIENT_SECRET="not-the-secret")

    verdicts = {line[9:23].strip(): line.split()[0] for line in ended.out.splitlines()}
    assert ended.code == 77
    assert (verdicts["token"], verdicts["API"], verdicts["prices"]) == ("failed", "skipped", "skipped")
    assert (verdicts["settings"], verdicts["database"]) == ("ok", "ok")


# --- when it is stopped ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_load_keeps_what_is_written_and_goes_on_there(shell: Shell, number: int) -> None:
    """Six pages of 50; from the third on, the tenant is slow."""
    shell.settings |= {"SYNC_PAGE_SIZE": "50", "SYNC_CONCURRENCY": "1", "LOG_LEVEL": "DEBUG"}
    shell.tenant.faults.slow(0.5, after=100, times=99)

    with shell.start_afresh("backfill", "--json") as load:
        load.wait_for("page.written")
        code = load.end(number)
        assert load.process.stdout is not None
        summary = load.process.stdout.read()
    shell.tenant.faults.clear()
    resumed = shell.run("backfill", "--json").objects[0]

    assert code == 130
    assert '"status":"interrupted"' in summary
    assert 0 < resumed["inserted"] < 300
    assert resumed["fetched"] == resumed["inserted"]
    assert shell.run("verify").code == 0


def test_a_second_signal_ends_it_at_once(shell: Shell) -> None:
    """IMS takes the request for a token and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as ims:
        ims.settimeout(LONGEST_S)
        url = f"http://127.0.0.1:{ims.getsockname()[1]}/token"
        with shell.start_afresh("backfill", IMS_TOKEN_URL=url) as load:
            asked, _ = ims.accept()
            with asked:
                asked.recv(1)
                began = time.monotonic()
                load.process.send_signal(signal.SIGINT)
                load.wait_for_words("press Ctrl-C again to quit now")
                code = load.end(signal.SIGINT)

    assert code == -signal.SIGINT  # which shells call 130
    assert time.monotonic() - began < 10


def test_a_second_writer_is_told_who_is_at_work(shell: Shell) -> None:
    shell.settings |= {"SYNC_PAGE_SIZE": "50", "SYNC_CONCURRENCY": "1", "LOG_LEVEL": "DEBUG"}
    shell.tenant.faults.slow(20, after=100, times=99)

    with shell.start("backfill") as load:
        load.wait_for("page.written")
        second = shell.run("run")

        assert second.code == 75
        assert f"process {load.process.pid} " in second.err
        assert_is_one_clear_sentence(second, shell)
