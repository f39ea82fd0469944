"""A copy belongs to one tenant: another one's settings are refused before anything is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sync.sandbox import Sandbox
from tests.command import Ended, Shell

PASSES = (
    ("backfill",),
    ("backfill", "--restart", "--dry-run"),
    ("run",),
    ("run", "--dry-run"),
    ("run", "--sku", "AA0000001"),
    ("run", "--id", "1"),
    ("reconcile",),
    ("reconcile", "--dry-run"),
    ("verify",),
    ("prices",),
    ("stock",),
    ("reference",),
    ("daemon",),
)


@pytest.fixture
def other() -> Iterator[Sandbox]:
    """Another shop whose ids and stamps are those of the first, as those of any two shops may be."""
    with Sandbox(20, seed=2) as tenant:
        yield tenant


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shell]:
    """20 products, all here."""
    with Sandbox(20) as tenant:
        shell = Shell(tenant, tmp_path, {"SYNC_MAX_RETRY_TIME": "2s"})
        assert shell.run("backfill").code == 0
        yield shell


def dump(shell: Shell) -> list[str]:
    with closing(sqlite3.connect(shell.folder / "products.db")) as copy:
        return list(copy.iterdump())


def rows(shell: Shell, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(shell.folder / "products.db")) as copy:
        return list(copy.execute(sql))


def forget_the_tenant(shell: Shell) -> None:
    """Leave the copy as an older version would have made it."""
    with closing(sqlite3.connect(shell.folder / "products.db")) as copy:
        copy.execute("DELETE FROM sync_state WHERE name = 'tenant'")
        copy.commit()


def assert_is_refused(ended: Ended, shell: Shell, other: Sandbox) -> None:
    assert ended.code == 78, ended
    assert "product-sync adopt" in ended.err
    assert other.endpoint.removeprefix("http://") in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", PASSES, ids=" ".join)
def test_another_shops_settings_are_refused_before_anything_is_written(
    shop: Shell, other: Sandbox, command: tuple[str, ...]
) -> None:
    before = dump(shop)

    ended = shop.run(*command, **other.environment())

    assert_is_refused(ended, shop, other)
    assert shop.tenant.endpoint.removeprefix("http://") in ended.err
    assert dump(shop) == before


def test_another_tenant_id_is_refused_without_asking_it(shop: Shell) -> None:
    """On SaaS two tenant ids are two shops, even where every product is the same."""
    asked = len(shop.tenant.requests)

    ended = shop.run("run", API_ENDPOINT=f"{shop.tenant.host_url}/another")

    assert (ended.code, len(shop.tenant.requests)) == (78, asked)


def test_check_has_a_line_for_it(shop: Shell, other: Sandbox) -> None:
    well, wrong = shop.run("check"), shop.run("check", **other.environment())

    assert f"ok       copy           of {shop.tenant.endpoint.removeprefix('http://')}" in well.out
    assert (well.code, wrong.code) == (0, 78)
    assert "failed   copy" in wrong.out
    assert "product-sync adopt" in wrong.out


def test_status_says_whose_copy_it_is_whatever_the_settings_name(shop: Shell, other: Sandbox) -> None:
    name = shop.tenant.endpoint.removeprefix("http://")

    assert f"Copy of: {name}" in shop.run("status", **other.environment()).out
    assert shop.run("status", "--json").objects[0]["copy_of"] == name


def test_a_host_that_moved_is_the_same_shop(shop: Shell) -> None:
    """The same products answer under another name: it is remembered, and said in the log."""
    moved = f"http://localhost:{shop.tenant.host_url.rpartition(':')[2]}/sandbox"
    shop.tenant.catalogue.edit(7, name="Edited while it moved")
    shop.tenant.catalogue.delete(20)

    ran = shop.run("run", API_ENDPOINT=moved)
    again = shop.run("run", "--json", API_ENDPOINT=moved)

    assert (ran.code, again.code) == (0, 0)
    assert "tenant.recognised" in ran.err
    assert "tenant.recognised" not in again.err
    assert again.objects[0]["requests"] <= 3
    assert shop.run("verify", API_ENDPOINT=moved).code == 0


def test_a_clone_that_went_its_own_way_is_another_shop(shop: Shell) -> None:
    """Staging is a clone of production; here, an edit was made and copied that production does not have."""
    shop.tenant.catalogue.edit(7, name="Only on staging")
    assert shop.run("run").code == 0

    with Sandbox(20) as production:
        assert_is_refused(shop.run("run", **production.environment()), shop, production)


def test_products_that_the_copy_should_have_make_it_another_shop(shop: Shell) -> None:
    """Production has one that was made before the copy was, and that the copy lacks."""
    with Sandbox(21) as production:
        assert_is_refused(shop.run("run", **production.environment()), shop, production)


def test_a_tenant_out_of_reach_is_no_reason_to_take_it_for_the_same(shop: Shell, other: Sandbox) -> None:
    before = dump(shop)
    other.stop()

    ended = shop.run("run", **other.environment())

    assert ended.code == 69
    assert dump(shop) == before


def test_a_copy_of_an_older_version_goes_on_where_the_products_are_the_tenants(
    shop: Shell, other: Sandbox
) -> None:
    forget_the_tenant(shop)

    refused = shop.run("run", **other.environment())
    ran = shop.run("run")

    assert (refused.code, ran.code) == (78, 0)
    assert "products of another tenant" in refused.err
    assert shop.run("status", "--json").objects[0]["copy_of"] is not None


def test_a_first_load_that_failed_binds_nobody(tmp_path: Path, other: Sandbox) -> None:
    with Sandbox(20) as tenant:
        shell = Shell(tenant, tmp_path, {"SYNC_MAX_RETRY_TIME": "1s"})
        tenant.faults.fail(status=503)
        assert shell.run("backfill").code == 69

        assert shell.run("backfill", **other.environment()).code == 0


def test_adopted_the_copy_becomes_the_other_shops(shop: Shell, other: Sandbox) -> None:
    adopted = shop.run("adopt", **other.environment())
    mine = shop.run("run")
    reconciled = shop.run("run", **other.environment())

    assert adopted.code == 0
    assert "reconcile" in adopted.out
    assert (mine.code, reconciled.code) == (78, 0)
    assert shop.run("verify", **other.environment()).code == 0
    assert rows(shop, "SELECT count(*) FROM products WHERE deleted_at IS NULL") == [(20,)]
    assert shop.run("adopt", **other.environment()).out.endswith("already.\n")


def test_a_shop_without_the_products_of_the_adopted_copy_deletes_none_unasked(shop: Shell) -> None:
    with Sandbox(5, seed=2) as smaller:
        shop.run("adopt", **smaller.environment())

        held_back = shop.run("reconcile", **smaller.environment())
        allowed = shop.run("reconcile", "--allow-mass-delete", **smaller.environment())

        assert (held_back.code, allowed.code) == (1, 0)
        assert rows(shop, "SELECT count(*) FROM products WHERE deleted_at IS NULL") == [(5,)]


def test_nobody_adopts_while_somebody_writes(shop: Shell, other: Sandbox) -> None:
    shop.tenant.faults.slow(5.0)
    with shop.start("reconcile") as reconcile:
        reconcile.wait_for("run.started")

        assert shop.run("adopt", **other.environment()).code == 75


def test_a_daemon_that_is_given_another_shop_keeps_the_first(shop: Shell, other: Sandbox) -> None:
    """SIGHUP, with another API_ENDPOINT in .env: refused in words, and the first shop is served on."""
    dotenv = shop.folder / ".env"
    hidden = dict.fromkeys(shop.tenant.environment(), "")
    dotenv.write_text("\n".join(f"{name}={text}" for name, text in shop.tenant.environment().items()))
    with shop.start("daemon", SYNC_INTERVAL="1s", SYNC_RECONCILE_CRON="off", **hidden) as daemon:
        daemon.wait_for("run.finished", kind="incremental")
        dotenv.write_text("\n".join(f"{name}={text}" for name, text in other.environment().items()))
        daemon.process.send_signal(1)

        refused = daemon.wait_for("settings.refused")
        daemon.wait_for("run.finished", kind="incremental", outcome="succeeded")

        assert "product-sync adopt" in refused["fix"]
        assert daemon.end() == 0
    assert rows(shop, "SELECT count(*) FROM product_changes") == [(20,)]


def test_of_many_tenants_one_refusal_is_its_own(shop: Shell, other: Sandbox) -> None:
    """Both name the first shop's host by now: `us` is refused, `eu` is not."""

    def table(name: str, settings: dict[str, str], database: str) -> str:
        lines = [f'{key} = "{value}"' for key, value in settings.items() if key != "IMS_CLIENT_SECRET"]
        secret = 'IMS_CLIENT_SECRET = { env = "SECRET" }'
        return "\n".join([f"[{name}]", *lines, secret, f'DATABASE_URL = "sqlite:///{database}"', ""])

    secret = {"SECRET": shop.tenant.credentials.client_secret}
    file = shop.folder / "tenants.toml"
    file.write_text(
        table("us", other.environment(), "products.db") + table("eu", shop.tenant.environment(), "eu.db")
    )

    ran = shop.run("run", "--tenants", str(file), **secret)

    assert ran.code == 78
    assert '"tenant":"us"' in ran.err
    assert rows(shop, "SELECT count(*) FROM product_changes") == [(20,)]
    with closing(sqlite3.connect(shop.folder / "eu.db")) as copy:
        assert list(copy.execute("SELECT count(*) FROM products")) == [(20,)]
