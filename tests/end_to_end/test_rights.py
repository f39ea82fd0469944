"""What a user may do: one who may only read the copy reads it, and `check` says who may not write."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from sync.sandbox import Sandbox
from tests.command import Ended, Shell, assert_same_fault
from tests.databases import MARIADB, NewDatabase, connected

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
READING = ("status", "status --json", "show {sku}", "changes", "export out.jsonl", "export -")


@pytest.fixture(scope="module")
def tenant() -> Iterator[Sandbox]:
    with Sandbox(30) as sandbox:
        yield sandbox


# --- a SQLite copy that may only be read ---------------------------------------------------------------


@pytest.fixture
def shared(tenant: Sandbox) -> Iterator[Shell]:
    """A copy in a folder of root's that everybody may read, and a shell in another folder."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("another user's commands take root and setpriv")
    folder = Path(tempfile.gettempdir()) / f"product-sync-{uuid4().hex}"  # pytest's own is closed to others
    (folder / "own").mkdir(parents=True)
    (folder / "own").chmod(0o777)
    shell = Shell(tenant, folder / "own", {"DATABASE_URL": f"sqlite:///{folder}/products.db"})
    try:
        assert shell.run("backfill").code == 0
        (folder / "products.db").chmod(0o644)
        yield shell
    finally:
        shutil.rmtree(folder)


def as_nobody(shell: Shell, command: str) -> Ended:
    with shell.start_afresh(*command.split(), prefix=NOBODY, PYTHONDONTWRITEBYTECODE="1") as running:
        assert running.process.stdout is not None
        out = str(running.process.stdout.read())
        err = "".join(running.lines())
        return Ended(running.process.wait(30), out, err)


@pytest.mark.parametrize("command", READING)
def test_a_reader_needs_no_right_to_write(shared: Shell, command: str) -> None:
    ended = as_nobody(shared, command.format(sku=shared.tenant.catalogue.document(1)["sku"]))

    assert ended.code == 0, ended.err
    assert {it.name for it in shared.folder.parent.iterdir()} == {"own", "products.db"}


def test_a_reader_sees_what_a_writer_has_not_merged_yet(shared: Shell) -> None:
    """The file has its -wal and -shm next to it, of the same mode."""
    path = shared.folder.parent / "products.db"
    with sqlite3.connect(path) as writer:
        writer.execute("UPDATE products SET name = 'In the log' WHERE product_id = 1")
        writer.commit()

        ended = as_nobody(shared, "export - --columns name")
    writer.close()

    assert ended.code == 0, ended.err
    assert "In the log" in ended.out


def test_changes_that_cannot_be_reached_are_said_not_left_out(shared: Shell) -> None:
    """A killed writer leaves its -wal; without its -shm only somebody who may write there can read it."""
    path = shared.folder.parent / "products.db"
    Path(f"{path}-wal").write_bytes(b"x" * 100)

    ended = as_nobody(shared, "status")

    assert ended.code == 69
    assert "products.db-wal" in ended.err
    assert "let the owner" in ended.err


def test_check_says_that_a_file_cannot_be_written(shared: Shell) -> None:
    ended, run = as_nobody(shared, "check"), as_nobody(shared, "run")

    assert ended.code == 69
    assert "may not write to it" in ended.out
    assert_same_fault(ended, run)


@pytest.mark.parametrize("place", ["products.db", "missing/products.db"])
def test_a_folder_that_may_not_be_entered_is_named(shared: Shell, place: str) -> None:
    folder = shared.folder.parent / "closed"
    folder.mkdir(mode=0o700)
    shared.settings["DATABASE_URL"] = f"sqlite:///{folder}/{place}"

    ended, run = as_nobody(shared, "check"), as_nobody(shared, "run")

    assert (ended.code, run.code) == (69, 69)
    assert f"{folder}/{place} cannot be opened: Permission denied. To do: check its name" in ended.out
    assert_same_fault(ended, run)
    assert [as_nobody(shared, command).code for command in ("status", "db current", "changes")] == [69] * 3


# --- roles -----------------------------------------------------------------------------------


@pytest.fixture
def role(postgres_server: str) -> str:
    """A role of PostgreSQL without any right; what was granted to it goes with its databases."""
    name = f"role_{uuid4().hex}"
    admin = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
    return name


def _as(url: str, role: str) -> str:
    return sa.make_url(url).set(username=role).render_as_string(hide_password=False)


def _execute(url: str, *statements: str) -> None:
    with connected(url) as db, db.begin() as tx:
        for statement in statements:
            tx.exec_driver_sql(statement)


def test_check_tries_to_make_a_table(
    tenant: Sandbox, tmp_path: Path, new_database: NewDatabase, role: str
) -> None:
    url = new_database("postgresql")
    _execute(url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    shell = Shell(tenant, tmp_path, {"DATABASE_URL": _as(url, role)})

    refused, run = shell.run("check"), shell.run("run")
    _execute(url, f"GRANT USAGE, CREATE ON SCHEMA public TO {role}")
    allowed = shell.run("check")

    assert refused.code == 69
    assert f'GRANT USAGE, CREATE ON SCHEMA "public" TO "{role}"' in refused.out
    assert_same_fault(refused, run)
    assert allowed.code == 0, allowed.out
    with connected(url) as db:
        assert sa.inspect(db).get_table_names(schema="public") == []


def test_check_tries_to_write_to_a_copy_that_is_there(
    tenant: Sandbox, tmp_path: Path, new_database: NewDatabase, role: str
) -> None:
    url = new_database("postgresql", tables=True)
    _execute(
        url,
        f"GRANT USAGE, CREATE ON SCHEMA public TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    )
    shell = Shell(tenant, tmp_path, {"DATABASE_URL": _as(url, role)})

    refused, run = shell.run("check"), shell.run("run")
    _execute(url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    allowed = shell.run("check")

    assert refused.code == 69
    assert f'GRANT ALL ON ALL TABLES IN SCHEMA "public" TO "{role}"' in refused.out
    assert_same_fault(refused, run)
    assert allowed.code == 0, allowed.out


def test_check_tries_mariadb_too(tenant: Sandbox, tmp_path: Path, new_database: NewDatabase) -> None:
    url, user = new_database("mariadb"), f"u{uuid4().hex[:12]}"
    name = sa.make_url(url).database
    _execute(MARIADB, f"CREATE USER {user}@'%%'", f"GRANT SELECT ON {name}.* TO {user}@'%%'")
    try:
        shell = Shell(tenant, tmp_path, {"DATABASE_URL": _as(url, user)})

        refused, run = shell.run("check"), shell.run("run")
        _execute(MARIADB, f"GRANT ALL ON {name}.* TO {user}@'%%'")
        allowed = shell.run("check")
    finally:
        _execute(MARIADB, f"DROP USER {user}@'%%'")

    assert refused.code == 69
    assert f"GRANT ALL ON `{name}`.*" in refused.out
    assert_same_fault(refused, run)
    assert allowed.code == 0, allowed.out
    with connected(url) as db:
        assert sa.inspect(db).get_table_names() == []
