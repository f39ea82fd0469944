"""Many tenants in one daemon, and a command for each of them: what is wrong with one is that one's alone."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families as parse

from benchmarks.silent import Mute
from tests.command import Running, Shell
from tests.receiver import Receiver
from tests.shops import SECRET, Shops

KINDS = ("backfill", "prices", "stock")
NOWHERE = "127.0.0.1:9"  # nobody listens on the port of "discard"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@contextmanager
def tenants(folder: Path, *names: str, products: int = 30) -> Iterator[tuple[Shops, Shell]]:
    """Shops by these names, and a shell whose settings lead to none of them."""
    with Shops(folder, names, products) as shops:
        quick = {"SYNC_MAX_RETRY_TIME": "2s", "IMS_CLIENT_ID": "", "IMS_CLIENT_SECRET": "", "IMS_ORG_ID": ""}
        yield shops, Shell(shops[names[0]], folder, quick | {"API_ENDPOINT": "", "IMS_TOKEN_URL": ""})


def page_of(daemon: Running) -> str:
    return str(daemon.wait_for("page.served")["url"]).rstrip("/")


def ready(address: str) -> dict[str, list[str]]:
    """What `/readyz` holds against whom."""
    found: dict[str, list[str]] = {}
    for problem in requests.get(f"{address}/readyz", timeout=10).json()["problems"]:
        found.setdefault(problem["tenant"], []).append(problem["reason"])
    return found


def states(address: str) -> dict[str, str]:
    facts = requests.get(f"{address}/api/tenants", timeout=10).json()
    return {it["name"]: it["state"] for it in facts["tenants"]}


def wait_until_seen(daemon: Running, count: int, event: str, **facts: object) -> None:
    """Until so many different tenants had such an event."""
    seen: set[str] = set()
    while len(seen) < count:
        seen.add(daemon.wait_for(event, **facts)["tenant"])


# --- the daemon --------------------------------------------------------------------------------


def test_broken_tenants_are_reported_by_name_and_reason_and_the_others_are_fresh(folder: Path) -> None:
    """Five that are well, and five ways to be broken; all share four slots."""
    well = [f"well-{n}" for n in range(5)]
    broken = ["wrong-secret", "unreachable", "no-database", "wrong-setting", "login-page"]
    with tenants(folder, *broken, *well) as (shops, shell):
        (folder / "wrong").write_text("not-the-secret")
        shops.tables["wrong-secret"]["IMS_CLIENT_SECRET_FILE"] = "wrong"
        shops.tables["unreachable"]["API_ENDPOINT"] = f"http://{NOWHERE}/tenant"
        shops.tables["no-database"]["DATABASE_URL"] = f"postgresql+psycopg://{NOWHERE}/copy"
        shops.tables["wrong-setting"]["SYNC_INTERVALL"] = "5m"
        shops["login-page"].faults.html(kind=None)
        shops.write()

        with shell.start("daemon", "--tenants", "tenants.toml", STATUS_BIND="127.0.0.1:0") as daemon:
            address = page_of(daemon)
            outcomes: dict[str, str] = {}
            while len(outcomes) < 9:
                told = next(it for it in daemon.events() if it["event"] in ("run.finished", "pass.failed"))
                outcomes[told["tenant"]] = told.get("outcome", "failed")
            early = re.compile("no copy yet|not looked at yet")  # what was done last is seen a moment later
            while set(reasons := ready(address)) != set(broken) or early.search(f"{reasons}"):
                pass
            answer, found = requests.get(f"{address}/readyz", timeout=10), states(address)
            metrics = [*parse(requests.get(f"{address}/metrics", timeout=10).text)]
            listed = requests.get(f"{address}/", timeout=10).text
            assert daemon.end() == 0

    assert {name for name, outcome in outcomes.items() if outcome == "succeeded"} == set(well)
    assert answer.status_code == 503
    words = {name: " ".join(told) for name, told in reasons.items()}
    assert "IMS answered 400" in words["wrong-secret"]
    assert "check IMS_CLIENT_ID and IMS_CLIENT_SECRET" in words["wrong-secret"]
    assert "cannot be reached" in words["unreachable"]
    assert "Connection refused" in words["no-database"]
    assert "did you mean SYNC_INTERVAL?" in words["wrong-setting"]
    assert "login" in words["login-page"].lower() or "Sign in" in words["login-page"]
    assert "wrong-secret: Store view all was never loaded completely." in answer.json()["reason"]
    assert {name: found[name] for name in well} == dict.fromkeys(well, "fresh")
    assert (found["wrong-setting"], found["no-database"]) == ("refused", "unreachable")
    assert all(f'<a href="/tenants/{name}/">{name}</a>' in listed for name in (*well, *broken))
    usable = {
        sample.labels["tenant"]: sample.value
        for family in metrics
        for sample in family.samples
        if sample.name == "product_sync_settings_ok"
    }
    assert usable == {**dict.fromkeys(found, 1.0), "wrong-setting": 0.0}
    assert SECRET not in f"{daemon.log} {daemon.words}"


def test_a_long_load_makes_room_for_the_others_and_goes_on_where_it_was(folder: Path) -> None:
    """One slot, a turn of a second; the other tenant comes early in a load of 24 s."""
    with tenants(folder, "big", "small", products=60) as (shops, shell):
        shops.top = {"at_once": "1", "turn": '"1s"'}
        shops.tables["big"] |= {"SYNC_PAGE_SIZE": "1", "SYNC_CONCURRENCY": "1"}
        small = shops.tables.pop("small")
        shops.write()
        shops["big"].faults.slow(0.4, kind="page", times=None)

        with shell.start("daemon", "--tenants", "tenants.toml", LOG_LEVEL="DEBUG") as daemon:
            daemon.wait_for("page.written", tenant="big")
            shops.tables["small"] = small
            shops.write()
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_for("turn.over", tenant="big", job="run")
            shops["big"].faults.clear()
            daemon.wait_for("run.finished", tenant="small", outcome="succeeded")
            daemon.wait_for("run.started", tenant="big", resumed=True)
            loaded = daemon.wait_for("run.finished", tenant="big", outcome="succeeded")
            assert daemon.end() == 0

    assert 0 < loaded["inserted"] < 60


def test_those_that_never_answer_lose_their_slots_rest_and_are_reported(folder: Path) -> None:
    """They stand first and hold both slots: one drips at the API, one is silent at the token endpoint."""
    well = [f"well-{n}" for n in range(6)]
    api, ims = Mute(drips=True), Mute()
    with tenants(folder, "api", "ims", *well) as (shops, shell):
        shops.top = {"at_once": "2", "turn": '"2s"'}
        shops.defaults = {"SYNC_INTERVAL": "5s", "SYNC_PRICES_INTERVAL": "10s", "SYNC_STOCK_INTERVAL": "10s"}
        shops.tables["api"]["API_ENDPOINT"] = f"http://{api.address}/tenant"
        shops.tables["ims"]["IMS_TOKEN_URL"] = f"http://{ims.address}/token"
        shops.write()

        with shell.start("daemon", "--tenants", "tenants.toml", STATUS_BIND="127.0.0.1:0") as daemon:
            address = page_of(daemon)
            wait_until_seen(daemon, 2, "tenant.resting", seconds=60.0)
            read: set[tuple[str, str]] = set()
            while len(read) < 18:  # the backfill, the prices and the stock of six
                ended = daemon.wait_for("run.finished", outcome="succeeded")
                read |= {(ended["tenant"], ended["kind"])} if ended["kind"] in KINDS else set()
            while set(reasons := ready(address)) != {"api", "ims"} or "within" not in f"{reasons}":
                pass  # looked at a moment later
            found, told = states(address), shell.run("status", "--tenants", "tenants.toml").out
            assert daemon.end() == 0
    api.close()
    ims.close()

    words = {name: " ".join(reasons[name]) for name in reasons}
    assert re.search(r"127\.0\.0\.1 did not answer within \d s, and other tenants", words["api"])
    assert re.search(r"127\.0\.0\.1 \(IMS\) did not answer within \d s, and other tenants", words["ims"])
    assert {name: found[name] for name in well} == dict.fromkeys(well, "fresh")
    assert "(IMS) did not answer within" in told


@pytest.mark.parametrize("job", ["reference", "prices", "stock"])
def test_a_pass_that_would_begin_anew_pauses_for_the_others_and_comes_to_its_end(
    folder: Path, job: str
) -> None:
    """One slot, a turn of 3 s; each answer takes 2.4 s, so no such pass fits into a turn."""
    with tenants(folder, "slow", "quick") as (shops, shell):
        shops.top = {"at_once": "1", "turn": '"3s"'}
        shops.defaults |= {"SYNC_INTERVAL": "1s"}
        setting = f"SYNC_{job.upper()}_" + ("CRON" if job == "reference" else "INTERVAL")
        shops.tables["slow"] |= {setting: "30 2 * * *" if job == "reference" else "1d", "SYNC_INTERVAL": "1d"}
        shops.write()
        shell.run("backfill", "--tenants", "tenants.toml", "--tenant", "slow")
        shops["slow"].faults.slow(2.4, kind=None)

        with shell.start("daemon", "--tenants", "tenants.toml") as daemon:
            daemon.wait_for("turn.paused", tenant="slow", job=job)
            daemon.wait_for("run.finished", tenant="quick", outcome="succeeded")
            daemon.wait_for("run.finished", tenant="slow", kind=job, outcome="succeeded")
            assert daemon.end() == 0

    assert sum(it["event"] == "run.started" and it["kind"] == job for it in daemon.log) == 1


def test_one_that_never_answers_is_reported_and_tried_again_after_a_rest(folder: Path) -> None:
    with tenants(folder, "mute", "well") as (shops, shell):
        shops.top = {"at_once": "1", "turn": '"1s"'}
        shops.defaults |= {"SYNC_INTERVAL": "1s"}
        shops.write()
        shops["mute"].faults.slow(60)

        with shell.start("daemon", "--tenants", "tenants.toml", STATUS_BIND="127.0.0.1:0") as daemon:
            address = page_of(daemon)
            daemon.wait_for("run.finished", tenant="mute", outcome="failed")
            daemon.wait_for("tenant.resting", tenant="mute", seconds=60.0)
            daemon.wait_for("run.finished", tenant="well", outcome="succeeded")
            while states(address) != {"mute": "stale", "well": "fresh"}:
                pass  # looked at a moment later
            assert "answers slowly, or not at all" in " ".join(ready(address)["mute"])
            assert daemon.end() == 0


def test_sighup_takes_up_new_tenants_lets_go_of_others_and_leaves_wrong_ones_as_they_were(
    folder: Path,
) -> None:
    with tenants(folder, "kept", "gone", "new") as (shops, shell):
        new = shops.tables.pop("new")
        shops.defaults |= {"SYNC_INTERVAL": "1s"}
        shops.write()

        with shell.start("daemon", "--tenants", "tenants.toml", STATUS_BIND="127.0.0.1:0") as daemon:
            address = page_of(daemon)
            wait_until_seen(daemon, 2, "run.finished", kind="backfill")
            del shops.tables["gone"]
            shops.tables["new"] = new
            shops.tables["kept"]["SYNC_PAGE_SIZE"] = "many"
            shops.write()
            daemon.process.send_signal(signal.SIGHUP)
            refused = daemon.wait_for("settings.refused", tenant="kept")
            daemon.wait_for("run.finished", tenant="new", kind="backfill")
            daemon.wait_for("run.finished", tenant="kept", kind="incremental")
            found = states(address)
            page = requests.get(f"{address}/tenants/gone/", timeout=10)
            shops.file.write_text("[new\n")
            daemon.process.send_signal(signal.SIGHUP)
            unread = daemon.wait_for("settings.refused")
            daemon.wait_for("run.finished", tenant="new", kind="incremental")
            assert daemon.end() == 0

    after = daemon.log[daemon.log.index(refused) :]
    assert not [it for it in after if it.get("tenant") == "gone" and it["event"] == "run.started"]
    assert "SYNC_PAGE_SIZE" in refused["error"]
    assert found == {"kept": "failing", "new": "fresh"}
    assert page.status_code == 404
    assert "is no TOML" in unread["error"]


def test_a_rotated_secret_is_read_again_for_its_tenant(folder: Path) -> None:
    """A file of its own, exchanged under the daemon; a token lives for a second."""
    with tenants(folder, "a", "b") as (shops, shell):
        (folder / "a").write_text("outdated")
        shops.tables["a"]["IMS_CLIENT_SECRET_FILE"] = "a"
        shops.defaults |= {"SYNC_INTERVAL": "1s"}
        shops.write()

        with shell.start("daemon", "--tenants", "tenants.toml") as daemon:
            daemon.wait_for("pass.failed", tenant="a")
            daemon.wait_for("run.finished", tenant="b", outcome="succeeded")
            (folder / "a").write_text(SECRET)
            daemon.wait_for("run.finished", tenant="a", outcome="succeeded")
            assert daemon.end() == 0

    assert "outdated" not in f"{daemon.log} {daemon.words}"


def test_a_token_is_used_from_pass_to_pass(folder: Path) -> None:
    with tenants(folder, "a") as (shops, shell):
        shops.defaults |= {"SYNC_INTERVAL": "1s"}
        shops.write()

        with shell.start("daemon", "--tenants", "tenants.toml") as daemon:
            for _ in range(3):
                daemon.wait_for("run.finished", outcome="succeeded")
            assert daemon.end() == 0

        assert sum(served.kind == "token" for served in shops["a"].requests) == 1


def test_an_alert_names_the_tenant(folder: Path) -> None:
    with Receiver() as receiver, tenants(folder, "a", "b") as (shops, shell):
        shops.defaults |= {"SYNC_INTERVAL": "1s", "SYNC_MAX_LAG": "2s"}
        shops.write()
        hook = {"SYNC_ALERT_WEBHOOK": f"{receiver.url}/hook-s3cret"}

        with shell.start("daemon", "--tenants", "tenants.toml", **hook) as daemon:
            wait_until_seen(daemon, 2, "run.finished", outcome="succeeded")
            shops["a"].faults.deny(403, kind=None)
            daemon.wait_for("alert.sent", tenant="a", what="problem")
            assert daemon.end() == 0

    bodies = [got.batch for got in receiver.received]
    assert any(body["tenant"] == "a" and body["event"] == "problem" for body in bodies)
    assert all(body["text"].startswith(f"{body['tenant']}: ") for body in bodies)


# --- a command for each ------------------------------------------------------------------------


def test_a_pass_runs_for_each_goes_on_behind_a_failure_and_ends_with_the_worst_code(folder: Path) -> None:
    with tenants(folder, "a", "denied", "b", "wrong") as (shops, shell):
        shops["denied"].faults.deny(403, kind=None)
        shops.tables["wrong"]["SYNC_PAGE_SIZE"] = "many"
        shops.write()

        ended = shell.run("run", "--tenants", "tenants.toml", "--json")
        last = shell.run("run", "--tenants", "tenants.toml", "--tenant", "b", "--json")

    assert [(it["tenant"], it["status"]) for it in ended.objects] == [
        ("a", "succeeded"),
        ("denied", "failed"),
        ("b", "succeeded"),
    ]
    assert ended.code == 78
    events = [json.loads(line) for line in ended.err.splitlines()]
    messages = [(it["tenant"], it["message"]) for it in events if it["event"] == "command.message"]
    messages = [it for it in messages if not it[1].startswith("No load of")]
    assert messages[0][0] == "a"
    assert messages[0][1].startswith("backfill succeeded (all): 30")
    assert any(tenant == "denied" and "403" in message for tenant, message in messages)
    assert any(
        tenant == "wrong" and "product-sync: SYNC_PAGE_SIZE" in message for tenant, message in messages
    )
    assert (last.code, [it["tenant"] for it in last.objects]) == (0, ["b"])
    assert '"tenant":"a"' not in last.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--tenant", "a"], "--tenants FILE"),
        (["run", "--tenants", "tenants.toml", "--tenant", "c"], "name one of a, b"),
        (["export", "-", "--tenants", "tenants.toml"], "add --tenant a"),
        (["show", "X", "--tenants", "tenants.toml"], "add --tenant a"),
    ],
)
def test_a_tenant_that_is_not_there_or_not_named_is_a_usage_error(
    folder: Path, arguments: list[str], says: str
) -> None:
    with tenants(folder, "a", "b") as (_shops, shell):
        ended = shell.run(*arguments)

    assert ended.code == 64
    assert says in ended.err


def test_a_file_that_cannot_be_read_ends_every_command_with_78(folder: Path) -> None:
    with tenants(folder, "a") as (_shops, shell):
        codes = {
            command: shell.run(command, "--tenants", "nowhere.toml").code
            for command in ("daemon", "serve", "status", "run", "check")
        }

    assert set(codes.values()) == {78}, codes


def test_each_copy_is_looked_at_and_worked_on_by_name(folder: Path) -> None:
    of = ("--tenants", "tenants.toml")
    with tenants(folder, "a", "b") as (shops, shell):
        shell.run("backfill", *of, "--tenant", "a")
        shops["b"].catalogue.delete_many(shops["b"].catalogue.ids()[5:])
        shell.run("backfill", *of, "--tenant", "b")
        exported = shell.run("export", "-", *of, "--tenant", "b")
        verified = shell.run("verify", *of)
        checked = shell.run("check", *of)
        configured = shell.run("config", *of)
        revision = shell.run("db", "current", *of)
        viewed = shell.run("view", "--name", "flat", "--columns", "sku,name", *of)

    assert len(exported.objects) == 5
    assert verified.out == "a: The copy equals the catalogue.\nb: The copy equals the catalogue.\n"
    assert (checked.code, checked.out.count("\nb: ok")) == (0, 14)
    assert re.search(rf"^a: DATABASE_URL +sqlite:///{folder}/a.db +tenants$", configured.out, re.MULTILINE)
    assert SECRET not in configured.out
    assert revision.out.startswith("a: ")
    assert viewed.code == 0


def test_status_is_a_line_each_or_an_object_by_name(folder: Path) -> None:
    with tenants(folder, "a", "empty", "wrong") as (shops, shell):
        shell.run("run", "--tenants", "tenants.toml", "--tenant", "a")
        shops.tables["wrong"]["SYNC_PAGE_SIZE"] = "many"
        shops.write()

        told = shell.run("status", "--tenants", "tenants.toml")
        facts: dict[str, Any] = json.loads(shell.run("status", "--tenants", "tenants.toml", "--json").out)
        alone = shell.run("status", "--tenants", "tenants.toml", "--tenant", "a", "--json")

    lines = told.out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["tenant", "a", "empty", "wrong"]
    assert lines[1].split()[1] == "30"
    assert any(line.startswith("empty: there is no copy at ") for line in lines)
    assert told.code == 78
    assert facts["a"]["runs"] == json.loads(alone.out)["runs"]
    assert facts["a"]["store_views"][0]["live"] == 30
    assert "correct [wrong]" in facts["wrong"]["fix"]


def test_metrics_of_a_pass_carry_the_tenants(folder: Path) -> None:
    with tenants(folder, "a", "denied") as (shops, shell):
        shops["denied"].faults.deny(403, kind=None)

        shell.run("backfill", "--tenants", "tenants.toml", "--metrics-file", "sync.prom")

    samples = {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in parse((folder / "sync.prom").read_text())
        for sample in family.samples
    }
    assert samples["product_sync_command_exit_code", frozenset({"a", "backfill"})] == 0
    assert samples["product_sync_command_exit_code", frozenset({"denied", "backfill"})] == 77
    assert samples["product_sync_products_total", frozenset({"a", "backfill", "inserted"})] == 30
    assert [labels for name, labels in samples if name == "product_sync_build_info"]


def test_the_page_alone_is_served_over_the_copies_of_all(folder: Path) -> None:
    with tenants(folder, "a", "wrong") as (shops, shell):
        shell.run("run", "--tenants", "tenants.toml", "--tenant", "a")
        shops.tables["wrong"]["SYNC_PAGE_SIZE"] = "many"
        shops.write()
        with shell.start("serve", "--tenants", "tenants.toml", STATUS_BIND="127.0.0.1:0") as served:
            address = served.wait_for_words("status page is at").split()[-1].rstrip("/")
            fine, wrong = (requests.get(f"{address}/tenants/{it}/", timeout=10) for it in ("a", "wrong"))
            while states(address)["a"] != "fresh":
                pass  # looked at a moment later
            assert states(address)["wrong"] == "refused"

    assert (fine.status_code, wrong.status_code) == (200, 503)
    assert "SYNC_PAGE_SIZE" in wrong.text
