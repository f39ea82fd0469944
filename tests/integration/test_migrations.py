"""Migrations make what schema.py says, on every database; going back and forth loses nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from sync.db.engine import alembic_config, current_revision, newest_revision, upgrade
from sync.db.schema import CHILDREN, metadata, product_changes, products, rejected_items
from sync.errors import DatabaseUnavailable, SettingsError
from sync.sandbox import Sandbox
from tests.command import Shell
from tests.databases import Kind, NewDatabase, connected, opened
from tests.kit import Bench

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
KEPT = (products, *CHILDREN, product_changes, rejected_items)

# Waits for a line on standard input before it upgrades, so that several start together.
UPGRADE = """
import sys
from sync.db.engine import connect, current_revision, upgrade
engine = connect(sys.argv[1])
sys.stdout.write("ready\\n"), sys.stdout.flush()
sys.stdin.readline()
upgrade(engine)
sys.stdout.write(str(current_revision(engine)))
"""


# --- what they make --------------------------------------------------------------------------


def test_migrations_from_empty_equal_the_schema(db: sa.Engine) -> None:
    """Tables, columns, types, server defaults, indexes and keys; the view is in no metadata."""

    def compared(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        if kind == "foreign_key_constraint":
            return db.dialect.name == "sqlite"  # the only one that gets them: see schema.py
        return (kind, name) != ("table", "products_current")

    with db.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_object": compared}
        context = MigrationContext.configure(connection, opts=options)

        assert compare_metadata(context, metadata) == []


def test_columns_come_in_the_schemas_order(db: sa.Engine) -> None:
    inspector = sa.inspect(db)

    made = {name: [column["name"] for column in inspector.get_columns(name)] for name in metadata.tables}

    assert made == {name: list(table.columns.keys()) for name, table in metadata.tables.items()}


def test_no_text_of_a_product_is_compared_loosely_on_mariadb(new_database: NewDatabase) -> None:
    """A collation that ignores case or trailing spaces would take two SKUs for one."""
    with opened(new_database("mariadb")) as db, db.connect() as connection:
        columns = connection.exec_driver_sql(
            "SELECT DISTINCT collation_name FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND table_name <> 'alembic_version' "
            "AND collation_name IS NOT NULL"
        )

        assert list(columns.scalars()) == ["utf8mb4_nopad_bin"]


def test_products_current_shows_who_lives(db: sa.Engine) -> None:
    with Sandbox(products=10) as sandbox:
        bench = Bench(sandbox, db)
        bench.backfill()
        sandbox.catalogue.delete(2)
        bench.run()

    with db.connect() as connection:
        current = connection.exec_driver_sql("SELECT * FROM products_current ORDER BY product_id")
        assert list(current.keys()) == list(products.c.keys())
        assert [row.product_id for row in current] == [1, *range(3, 11)]
    assert len(bench.rows(products)) == 10


def test_no_revision_imports_what_can_change() -> None:
    """It has to make the same tables when the program it was written with is long gone."""
    for path in ROOT.glob("migrations/versions/*.py"):
        tree = ast.parse(path.read_text())
        found = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        found |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

        assert {name.partition(".")[0] for name in found}.isdisjoint({"sync", "tests"}), path.name


# --- down and up again -----------------------------------------------------------------------


def test_every_revision_down_and_up_again_loses_no_product_and_no_change(db: sa.Engine) -> None:
    with Sandbox(products=40) as sandbox:
        bench = Bench(sandbox, db)
        sandbox.catalogue.add_document({**sandbox.catalogue.document(7), "sku": None})
        bench.backfill()
        sandbox.catalogue.delete(3)
        sandbox.catalogue.edit(5, price=77)
        bench.run()
        before = {table.name: bench.rows(table) for table in KEPT}
        assert all(before.values())

        for _ in ScriptDirectory.from_config(alembic_config()).walk_revisions():
            step(db, "-1")
            assert {table.name: bench.rows(table) for table in KEPT} == before
        assert current_revision(db) is None
        upgrade(db)
        sandbox.catalogue.edit(6, price=78)
        bench.reconcile()

    *earlier, latest = bench.changes()
    assert earlier == before["product_changes"]
    assert (latest.change_id, latest.kind, latest.product_id) == (earlier[-1].change_id + 1, "update", 6)


def step(db: sa.Engine, revision: str) -> None:
    with db.begin() as connection:
        command.downgrade(alembic_config(connection), revision)


def test_amounts_of_an_older_sqlite_copy_become_floats(sqlite: sa.Engine) -> None:
    """Some libraries take a column's type from its first values: whole prices made 10.50 a 10."""
    with Sandbox(products=2) as sandbox:
        sandbox.catalogue.edit(1, price=10)
        sandbox.catalogue.edit(2, price=10.5)
        step(sqlite, "0012")
        Bench(sandbox, sqlite).backfill()
    assert amounts(sqlite) == [("integer", 10), ("real", 10.5)]

    upgrade(sqlite)

    assert amounts(sqlite) == [("real", 10), ("real", 10.5)]
    with sqlite.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def amounts(db: sa.Engine) -> list[tuple[str, float]]:
    with db.connect() as connection:
        rows = connection.exec_driver_sql("SELECT typeof(price), price FROM products ORDER BY product_id")
        return [tuple(row) for row in rows]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_upgrade_that_fails_leaves_the_database_as_it_was(kind: Kind, new_database: NewDatabase) -> None:
    """The last revision trips over a view of somebody else's."""
    with connected(new_database(kind)) as db:
        with db.begin() as connection:
            connection.exec_driver_sql("CREATE VIEW sync_feed AS SELECT 1 AS name")

        with pytest.raises(DatabaseUnavailable):
            upgrade(db)

        assert current_revision(db) is None
        assert sa.inspect(db).get_table_names() == []


def test_a_migration_that_was_cut_short_is_finished_by_the_next_attempt(new_database: NewDatabase) -> None:
    """MariaDB commits every DDL statement, so what a killed process made is there, without its revision."""
    with opened(new_database("mariadb")) as db:
        with db.begin() as connection:
            connection.exec_driver_sql("DELETE FROM alembic_version")

        upgrade(db)

        assert current_revision(db) == newest_revision()
        with db.connect() as connection:
            assert connection.exec_driver_sql("SELECT COUNT(*) FROM sync_feed").scalar_one() == 1


# --- who may migrate -------------------------------------------------------------------------


def test_two_processes_may_upgrade_an_empty_database_at_once(database_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    for process in processes:
        assert process.stdin is not None
        process.stdin.write("now\n")
        process.stdin.flush()

    assert [process.communicate(timeout=30) for process in processes] == [(newest_revision(), "")] * 2


def test_one_upgrade_leaves_nothing_that_another_has_to_wait_for(db: sa.Engine) -> None:
    """The first engine keeps its connection, as a daemon does, and MariaDB's lock belongs to that."""
    with connected(db.url.render_as_string(hide_password=False)) as other:
        step(other, "base")

        upgrade(other)

        assert current_revision(other) == newest_revision()


def test_a_database_of_a_newer_version_is_refused(database_url: str, tmp_path: Path) -> None:
    with opened(database_url) as db, db.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with Sandbox() as sandbox:
        ended = Shell(sandbox, tmp_path).run("db", "upgrade", DATABASE_URL=database_url)

    assert ended.code == 78
    assert "at revision 9999, which this product-sync does not know" in ended.err


def test_a_shops_own_products_table_is_left_alone(database_url: str) -> None:
    with connected(database_url) as engine:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE products (id INTEGER PRIMARY KEY, title VARCHAR(20))")

        with pytest.raises(SettingsError, match="a table `products` of another program"):
            upgrade(engine)

        assert not sa.inspect(engine).has_table("product_attributes")


# --- a schema of its own, in PostgreSQL ------------------------------------------------------


def test_two_tenants_share_a_database_in_a_schema_each(new_database: NewDatabase) -> None:
    """Also where the one's schema stands in the other's search path, and the other's is not there yet."""
    url = new_database("postgresql")
    with (
        opened(url) as first,
        opened(f"{url}&options=-csearch_path%3Dtenant_b,public") as second,
        Sandbox(products=30) as here,
        Sandbox(products=5, seed=2) as there,
    ):
        one, other = Bench(here, first, page_size=10), Bench(there, second, page_size=2)
        one.backfill()
        other.backfill()
        there.catalogue.edit(1, price=77)
        other.run()
        other.reconcile()
        one.run()

        one.assert_copy_is_exact()
        other.assert_copy_is_exact()
        for bench in (one, other):
            with bench.db.connect() as connection:
                counted = connection.exec_driver_sql("SELECT COUNT(*) FROM products_current").scalar_one()
            assert counted == len(bench.sandbox.catalogue.ids())


def test_a_copy_is_not_looked_for_in_another_schema_of_the_search_path(new_database: NewDatabase) -> None:
    """Its own is not there yet; looking creates none."""
    url = new_database("postgresql")
    with opened(url), connected(f"{url}&options=-csearch_path%3DShop-1,public") as second:
        assert current_revision(second) is None
        with second.connect() as connection:
            assert "shop-1" not in sa.inspect(connection).get_schema_names()


def test_a_schema_that_the_role_may_not_create_is_asked_for_with_the_statement(
    new_database: NewDatabase,
) -> None:
    url, role = new_database("postgresql"), f"reader_{uuid4().hex}"
    with connected(url) as admin:
        with admin.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {role}")
        with (
            connected(f"{url}&options=-csearch_path%3Dshop%20-crole%3D{role}") as second,
            pytest.raises(DatabaseUnavailable) as caught,
        ):
            upgrade(second)
        with admin.begin() as connection:
            connection.exec_driver_sql(f"DROP ROLE {role}")

    assert f'CREATE SCHEMA "shop" AUTHORIZATION "{role}";' in caught.value.fix


def test_copies_of_many_tenants_are_made_at_the_same_time_in_one_process(new_database: NewDatabase) -> None:
    """As a daemon does when it starts with new tenants."""
    urls = [new_database("sqlite") for _ in range(8)]

    def make(url: str) -> str | None:
        with opened(url) as engine:
            return current_revision(engine)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(make, urls)) == [newest_revision()] * 8


# --- as installed ----------------------------------------------------------------------------


def test_an_installed_wheel_brings_its_migrations(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = "import sync.db.engine as e, sys; db = e.connect(sys.argv[1]); e.upgrade(db);"
    script += "print(e.migrations_path(), e.current_revision(db))"

    ran = subprocess.run(
        [sys.executable, "-c", script, f"sqlite:///{tmp_path / 'copy.db'}"],
        env={"PYTHONPATH": str(site)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )

    assert ran.stdout.split() == [str(site / "sync" / "_migrations"), newest_revision()]
