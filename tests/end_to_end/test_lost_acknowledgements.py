"""A commit that was carried out, and whose answer got lost, is recognised as ours: nothing is done twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from sync.db.engine import alembic_config, current_revision, newest_revision
from sync.sandbox import Sandbox
from tests.command import Ended, Shell
from tests.cutting import cutting
from tests.databases import Kind, NewDatabase, connected
from tests.receiver import SECRET, Receiver

COMMANDS = ("backfill", "run", "reconcile", "prices", "stock", "reference", "changes --webhook")
EACH = "LOSE_EACH" in os.environ  # each commit of each command alone, too: minutes


@pytest.fixture(params=["postgresql", "mariadb"])
def shop(request: pytest.FixtureRequest, new_database: NewDatabase, tmp_path: Path) -> Iterator[Shell]:
    """60 products, and an empty copy with its tables."""
    kind: Kind = request.param
    with Sandbox(60) as tenant:
        url = new_database(kind, tables=True)
        yield Shell(tenant, tmp_path, {"DATABASE_URL": url, "WEBHOOK_SECRET": SECRET, "SYNC_PAGE_SIZE": "20"})


def prepare(shop: Shell, command: str) -> None:
    """Leave `command` something to do: changes and deletions there, or a whole feed to post."""
    if command != "backfill":
        assert shop.run("backfill").code == 0
    if command in ("run", "reconcile"):
        for number in (3, 30, 50):
            shop.tenant.catalogue.edit(number, name=f"Edited before {command}")
        shop.tenant.catalogue.delete_many([7])


def run(shop: Shell, command: str, receiver: Receiver) -> Ended:
    arguments = [*command.split(), receiver.url] if "--webhook" in command else command.split()
    return shop.run(*arguments)


def assert_done_once(shop: Shell, command: str, receiver: Receiver) -> None:
    with connected(shop.settings["DATABASE_URL"]) as db, db.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT kind, status, inserted, updated, deleted FROM sync_runs ORDER BY run_id"
        ).all()
        feed = connection.exec_driver_sql("SELECT product_id, kind FROM product_changes").all()
        last = connection.exec_driver_sql("SELECT last_change_id FROM sync_feed").scalar_one()
    of_products = [tuple(row) for row in feed if row[1] in ("insert", "delete")]
    assert len(of_products) == len(set(of_products)), "a change is there twice"
    assert last == len(feed), "a change_id was given to nothing"
    kinds = [row[0] for row in rows]
    if command in ("backfill", "run", "reconcile"):
        assert kinds == ["backfill"] if command == "backfill" else kinds[0] == "backfill"
        expected = (60, 0, 0) if command == "backfill" else (0, 3, 1)
        done = rows[:1] if command == "backfill" else rows[1:]
        assert tuple(sum(row[i] for row in done) for i in (2, 3, 4)) == expected
    assert {row[1] for row in rows} == {"succeeded"}
    if "--webhook" in command:
        told = [change["change_id"] for one in receiver.received for change in one.batch["changes"]]
        assert told == list(range(1, 61))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_answer_to_every_commit_is_lost(shop: Shell, command: str) -> None:
    prepare(shop, command)
    with Receiver() as receiver, cutting(shop.settings["DATABASE_URL"], lambda _: True) as relay:
        ended = run(replace(shop, settings=shop.settings | {"DATABASE_URL": relay.url}), command, receiver)

        assert ended.code == 0, ended.err[-3000:]
        assert relay.lost == relay.commits > 0
        assert_done_once(shop, command, receiver)


def test_the_answer_to_the_commit_of_a_view_is_lost(shop: Shell) -> None:
    """When it is created, replaced and dropped."""
    prepare(shop, "view")
    shop.run("reference")
    for words, columns in (
        ("--columns sku,name", ["store_view", "product_id", "sku", "name"]),
        ("--columns sku,price", ["store_view", "product_id", "sku", "price"]),
        ("--drop", []),
    ):
        with cutting(shop.settings["DATABASE_URL"], lambda _: True) as relay:
            through = replace(shop, settings=shop.settings | {"DATABASE_URL": relay.url})
            ended = through.run("view", "--name", "bags", *words.split())

        assert ended.code == 0, ended.err[-3000:]
        assert relay.lost > 0
        with connected(shop.settings["DATABASE_URL"]) as db:
            views = sa.inspect(db).get_view_names()
            found = [it["name"] for it in sa.inspect(db).get_columns("bags")] if "bags" in views else []
        assert found == columns


@pytest.mark.parametrize("revision", [None, "before"])
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_the_answer_to_the_commits_of_a_migration_is_lost(
    kind: Kind, revision: str | None, new_database: NewDatabase, tmp_path: Path
) -> None:
    """Of an empty database, and of one that is one revision behind."""
    url = new_database(kind, tables=revision is not None)
    with Sandbox(1) as tenant, cutting(url, lambda _: True) as relay:
        if revision is not None:
            with connected(url) as db, db.begin() as connection:
                command.downgrade(alembic_config(connection), "-1")
        ended = Shell(tenant, tmp_path, {"DATABASE_URL": relay.url}).run("db", "upgrade")

        assert ended.code == 0, ended.err[-3000:]
        assert relay.lost == relay.commits > 0
        with connected(url) as db:
            assert current_revision(db) == newest_revision()


@pytest.mark.skipif(not EACH, reason="takes minutes: set LOSE_EACH=1")
@pytest.mark.parametrize("command", COMMANDS)
def test_the_answer_to_one_commit_is_lost(
    command: str, new_database: NewDatabase, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each in turn."""
    for kind in ("postgresql", "mariadb"):
        number, commits = 1, 1
        while number <= commits:
            with Sandbox(60) as tenant, Receiver() as receiver:
                url = new_database(kind, tables=True)
                settings = {"DATABASE_URL": url, "WEBHOOK_SECRET": SECRET, "SYNC_PAGE_SIZE": "20"}
                shop = Shell(tenant, tmp_path, settings)
                prepare(shop, command)
                with cutting(url, lambda it, lost=number: it == lost) as relay:  # type: ignore[misc]
                    through = replace(shop, settings=settings | {"DATABASE_URL": relay.url})
                    ended = run(through, command, receiver)
                assert (ended.code, relay.lost) == (0, 1), (kind, number, ended.err[-3000:])
                assert_done_once(shop, command, receiver)
                number, commits = number + 1, relay.commits
