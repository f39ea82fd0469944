"""A store view that left STORE_VIEWS is not current, and `forget` removes it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sync.sandbox import Sandbox
from tests.command import Shell

BOTH, ALL = {"STORE_VIEWS": "all,de"}, {"STORE_VIEWS": "all"}
FORGET = ("forget", "--store-view", "de")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shell]:
    """20 products in `all` and in `de`, one of them deleted by now; a flat view; reference data."""
    with Sandbox(20, store_views=("default", "de")) as tenant:
        shell = Shell(tenant, tmp_path, {"SYNC_MAX_RETRY_TIME": "2s"})
        assert shell.run("backfill", **BOTH).code == 0
        assert shell.run("reference", **BOTH).code == 0
        tenant.catalogue.delete(3)
        assert shell.run("run", **BOTH).code == 0
        assert shell.run("view", "--name", "flat", "--columns", "sku,name").code == 0
        yield shell


def rows(shell: Shell, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(shell.folder / "products.db")) as copy:
        return list(copy.execute(sql))


def shown(shell: Shell) -> set[tuple[str, ...]]:
    """Store views that each thing shows products of."""
    found = {
        (name, *sorted(str(view) for (view,) in rows(shell, f"SELECT DISTINCT store_view FROM {name}")))
        for name in ("products_current", "product_attribute_labels", "flat")
    }
    overrides = rows(shell, "SELECT DISTINCT store_view FROM product_overrides")
    exported = {it["store_view"] for it in shell.run("export", "-").objects}
    return found | {
        ("product_overrides", *(str(view) for (view,) in overrides)),
        ("export", *sorted(exported)),
    }


def everything(*views: str) -> set[tuple[str, ...]]:
    names = ("products_current", "product_attribute_labels", "flat", "export")
    return {(name, *views) for name in names} | {("product_overrides", *(it for it in views if it != "all"))}


def test_a_store_view_that_left_is_not_shown_as_current_until_it_is_back(shop: Shell) -> None:
    assert shown(shop) == everything("all", "de")

    left = shop.run("run", **ALL)

    assert left.code == 0
    assert "store_view.left" in left.err
    assert shown(shop) == everything("all")
    assert shop.run("export", "-", "--store-view", "de").code == 64

    shop.run("run", **BOTH)
    assert shown(shop) == everything("all", "de")


def test_status_and_verify_say_which_left_and_what_to_do(shop: Shell) -> None:
    shop.run("run", **ALL)

    status, verified = shop.run("status"), shop.run("verify", **ALL)
    facts = {it["store_view"]: it["left"] for it in shop.run("status", "--json").objects[0]["store_views"]}

    assert "its 19 products are not current" in status.out
    assert "product-sync forget --store-view de" in status.out
    assert "product-sync forget --store-view de" in verified.err
    assert verified.code == 0
    assert facts == {"all": None, "de": "settings"}
    assert "forget" in json.dumps(shop.run("verify", "--json", **ALL).objects[0]["left"])


def test_a_pass_over_one_store_view_is_no_leaving(shop: Shell) -> None:
    assert shop.run("run", "--store-view", "all", **BOTH).code == 0

    assert shown(shop) == everything("all", "de")


def test_a_store_view_that_was_only_given_by_hand_does_not_leave(shop: Shell) -> None:
    """STORE_VIEWS never named it."""
    shop.run("backfill", "--store-view", "default", **BOTH)

    shop.run("run", **BOTH)

    assert ("products_current", "all", "de", "default") in shown(shop)


def test_a_store_view_that_the_tenant_deleted_leaves_when_its_list_is_read(shop: Shell) -> None:
    """The list had it once. `forget` waits until STORE_VIEWS has let it go, too."""
    with closing(sqlite3.connect(shop.folder / "products.db")) as copy:
        copy.execute("INSERT INTO store_views (store_view_id, code) VALUES (99, 'fr')")
        copy.execute("INSERT INTO sync_store_views (store_view) VALUES ('fr')")
        copy.execute("UPDATE products SET store_view = 'fr' WHERE store_view = 'de'")
        copy.commit()
    named = {"STORE_VIEWS": "all,fr"}
    assert shown(shop) >= {("products_current", "all", "fr")}

    read = shop.run("reference", "--allow-mass-delete", **named)

    assert read.code == 1
    assert "forget --store-view fr" in read.err
    assert shown(shop) >= {("products_current", "all"), ("export", "all")}
    assert "Store view fr is not on the tenant any more" in shop.run("status").out
    assert shop.run("forget", "--store-view", "fr", **named).code == 64
    assert shop.run("forget", "--store-view", "fr", **ALL).code == 0


def test_forgotten_it_is_gone_with_a_deletion_for_each_product_and_comes_back_as_new(shop: Shell) -> None:
    last = rows(shop, "SELECT max(change_id) FROM product_changes")[0][0]

    forgotten = shop.run(*FORGET, "--json", **ALL)
    entries = rows(
        shop, f"SELECT store_view, kind, count(*) FROM product_changes WHERE change_id > {last} GROUP BY 1, 2"
    )

    assert (forgotten.code, forgotten.objects[0]["deleted"]) == (0, 19)
    assert entries == [("de", "delete", 19)]
    for table in ("products", "product_attributes", "sync_watermarks", "attribute_options", "categories"):
        assert rows(shop, f"SELECT count(*) FROM {table} WHERE store_view = 'de'") == [(0,)], table
    assert rows(shop, "SELECT count(*) FROM products WHERE store_view = 'all'") == [(20,)]

    assert shop.run("run", **BOTH).code == 0
    again = rows(shop, "SELECT kind, count(*) FROM product_changes WHERE store_view = 'de' GROUP BY 1")
    assert again == [("delete", 20), ("insert", 39)]
    assert shown(shop) == everything("all", "de")
    assert shop.run("verify", **BOTH).code == 0


def test_forget_refuses_what_is_in_force_and_what_it_does_not_know(shop: Shell) -> None:
    in_force, unknown = shop.run(*FORGET, **BOTH), shop.run("forget", "--store-view", "fr", **BOTH)

    assert (in_force.code, unknown.code) == (64, 64)
    assert "STORE_VIEWS" in in_force.err
    assert "has no store view fr" in unknown.err
    assert rows(shop, "SELECT count(*) FROM products") == [(40,)]


def test_forget_refuses_a_copy_of_another_tenant(shop: Shell) -> None:
    ended = shop.run(*FORGET, API_ENDPOINT=f"{shop.tenant.host_url}/another", **ALL)

    assert ended.code == 78
    assert rows(shop, "SELECT count(*) FROM products") == [(40,)]


def test_what_the_tenant_refuses_is_not_current_until_it_answers_again(shop: Shell) -> None:
    """Deleted on the tenant with its code still in STORE_VIEWS; reference data is not read in between."""
    shop.tenant.faults.drop_store_view("de")

    ended = shop.run("run", **BOTH)
    status, verified, prices = shop.run("status"), shop.run("verify", **BOTH), shop.run("prices", **BOTH)

    assert (ended.code, verified.code, prices.code) == (1, 1, 1)
    assert verified.out == "What could be compared (all) equals the catalogue.\n"
    assert shown(shop) == everything("all")
    for said in (status.out, verified.err):
        assert "Store view de is not on the tenant any more: its 19 products are not current" in said
    assert "Commerce does not know store view de. It was not read" in prices.err

    shop.tenant.faults.clear()
    assert shop.run("run", **BOTH).code == 0
    assert shown(shop) == everything("all", "de")
    assert "not current" not in shop.run("status").out


def test_a_product_of_a_store_view_that_left_is_shown_last_and_as_that(shop: Shell) -> None:
    sku = str(rows(shop, "SELECT sku FROM products WHERE product_id = 5")[0][0])
    shop.run("run", **{"STORE_VIEWS": "de"})

    said = shop.run("show", sku).out
    facts = [(it["store_view"], it["left"]) for it in shop.run("show", sku, "--json").objects]

    assert f"{sku} in store view all, not current: the store view left" in said
    assert facts == [("de", None), ("all", "settings")]


def test_a_new_store_view_is_loaded_though_all_others_are_gone(shop: Shell) -> None:
    shop.tenant.faults.drop_store_view("de")
    shop.run("run", **{"STORE_VIEWS": "de"})

    ended = shop.run("run", **{"STORE_VIEWS": "de,default"})

    assert ended.code == 1
    assert "Commerce does not know store view de. It was not read" in ended.err
    assert {view[1:] for view in shown(shop) if view[0] == "export"} == {("default",)}
