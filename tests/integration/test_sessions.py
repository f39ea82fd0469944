"""The session is ours: defaults of a role, a database, a server or the environment change no value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from sync.db.engine import in_transaction, reading, upgrade
from sync.errors import DatabaseUnavailable, SettingsError
from sync.sandbox import Sandbox
from tests.databases import MARIADB, NewDatabase, connected, opened
from tests.kit import Bench
from tests.oddities import catalogue

pytestmark = pytest.mark.slow

ODD_POSTGRESQL = (
    "TimeZone = 'Asia/Kolkata'",
    "DateStyle = 'SQL, DMY'",
    "IntervalStyle = 'iso_8601'",
    "client_encoding = 'LATIN1'",
    "extra_float_digits = -15",
    "bytea_output = 'escape'",
    "transform_null_equals = on",
    "search_path = elsewhere, public",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_read_only = on",
    "default_transaction_deferrable = on",
    "idle_in_transaction_session_timeout = '1s'",
    "statement_timeout = '1s'",
    "lock_timeout = '1ms'",
)
ODD_MARIADB = {
    "time_zone": "'+05:30'",
    "sql_mode": "'ANSI_QUOTES,PIPES_AS_CONCAT,NO_ZERO_DATE,PAD_CHAR_TO_FULL_LENGTH'",
    "group_concat_max_len": "4",
    "sql_select_limit": "3",
    "sql_safe_updates": "1",
    "max_statement_time": "0.001",
    "tx_isolation": "'SERIALIZABLE'",
    "tx_read_only": "1",
    "autocommit": "1",
}


@pytest.fixture
def tenant() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        for document in catalogue():
            sandbox.catalogue.add_document(document)
        yield sandbox


def load_and_change(tenant: Sandbox, db: sa.Engine) -> Bench:
    """A load, edits, a restamp and deletions; the copy is what the tenant has, by two ways to compare."""
    bench = Bench(tenant, db, page_size=10, concurrency=2)
    bench.backfill()
    ids = tenant.catalogue.ids()
    for number in ids[2:40]:
        tenant.catalogue.edit(number, price=77, name="new 🫖 'name' \\N")
    tenant.catalogue.delete_many(ids[50:60])
    bench.run()
    bench.reconcile()
    assert bench.verify() == []
    bench.assert_feed_tells_who_lives()
    return bench


def test_odd_defaults_of_a_postgresql_database_and_of_the_environment_change_nothing(
    new_database: NewDatabase, tenant: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database("postgresql")
    name = sa.make_url(url).database
    with connected(url) as admin, admin.begin() as connection:
        for setting in ODD_POSTGRESQL:
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET {setting}")
    monkeypatch.setenv("PGTZ", "America/Caracas")
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGCLIENTENCODING", "SJIS")
    monkeypatch.setenv("PGOPTIONS", "-csearch_path=nowhere -cextra_float_digits=-15")

    with opened(url) as db:
        load_and_change(tenant, db)
        assert sa.inspect(db).has_table("products", schema="public")
        with db.connect() as connection:
            shown = connection.exec_driver_sql(_SHOWN).one()
    assert shown[0].endswith("+00")
    assert tuple(shown[1:]) == ("public, pg_temp", "0", "0")


def test_a_copy_where_the_roles_search_path_leads_is_named_before_a_second_one_is_made(
    new_database: NewDatabase,
) -> None:
    url = new_database("postgresql")
    with opened(f"{url}&options=-csearch_path%3Dshop") as first, first.begin() as tx:
        tx.exec_driver_sql(f"ALTER DATABASE {first.url.database} SET search_path = shop, public")

    with connected(url) as db, pytest.raises(SettingsError, match="a copy is in shop") as refused:
        upgrade(db)

    assert "options=-csearch_path=shop" in refused.value.fix
    with opened(f"{url}&options=-csearch_path%3Deu"):
        """Another tenant's, whose schema is named."""


_SHOWN = (
    "SELECT now()::text, current_setting('search_path'), current_setting('statement_timeout'),"
    " current_setting('idle_in_transaction_session_timeout')"
)


def test_a_schema_is_the_one_of_the_url_whatever_the_role_looks_in(new_database: NewDatabase) -> None:
    url = new_database("postgresql")
    with opened(f"{url}&options=-csearch_path%3DShop%20-cwork_mem%3D8MB") as db, db.connect() as connection:
        assert connection.exec_driver_sql("SHOW search_path").scalar_one() == "Shop, pg_temp"
        assert connection.exec_driver_sql("SHOW work_mem").scalar_one() == "8MB"
        assert sa.inspect(connection).has_table("products", schema="shop")
        assert not sa.inspect(connection).has_table("products", schema="public")


def test_nothing_is_set_for_longer_than_a_transaction(new_database: NewDatabase) -> None:
    """Of the same session, after one of ours ended by a commit, one by an error."""
    with opened(new_database("postgresql")) as db:
        shown = "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name <> 'client_encoding'"
        in_transaction(db, lambda tx: tx.exec_driver_sql("SELECT 1"))
        with pytest.raises(DatabaseUnavailable, match="division"):
            in_transaction(db, lambda tx: tx.exec_driver_sql("SELECT 1/0"))
        raw = db.raw_connection()
        try:
            driver: Any = raw.driver_connection
            assert driver.execute(shown).fetchall() == []
        finally:
            raw.close()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_an_encoding_that_cannot_hold_the_texts_is_refused_with_a_remedy(
    postgres_server: str, encoding: str
) -> None:
    name = f"test_{encoding.lower()}"
    made = f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    admin = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(made)
    try:
        with (
            connected(sa.make_url(postgres_server).set(database=name).render_as_string(False)) as db,
            pytest.raises(SettingsError, match=f"encoding {encoding}") as refused,
        ):
            upgrade(db)
        assert "ENCODING 'UTF8'" in refused.value.fix
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_odd_defaults_of_a_mariadb_server_and_database_change_nothing(
    mariadb_server: str, tenant: Sandbox
) -> None:
    """The server's defaults are for all who use it, so here each connection gets them first."""
    name = "test_odd_sessions"
    admin = sa.create_engine(MARIADB, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
        connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET latin1 COLLATE latin1_german1_ci")
    try:
        with connected(sa.make_url(MARIADB).set(database=name).render_as_string(False)) as db:
            sa.event.listen(db, "do_connect", _oddly, insert=True)
            upgrade(db)
            load_and_change(tenant, db)
            shown = "SELECT @@time_zone, @@tx_isolation, @@group_concat_max_len, @@sql_select_limit"
            found = reading(db, lambda c: c.exec_driver_sql(shown).one())
            assert tuple(found) == ("+00:00", "READ-COMMITTED", 1 << 30, (1 << 64) - 1)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")


def _oddly(_dialect: Any, _record: Any, _arguments: Any, options: Any) -> None:
    """Connect as if the server's own defaults were odd: they are set before our statement."""
    odd = ", ".join(f"SESSION {name} = {value}" for name, value in ODD_MARIADB.items())
    if "SESSION" not in options["init_command"]:
        options["init_command"] = f"SET {odd}, {options['init_command'].removeprefix('SET ')}"


def test_a_transaction_may_begin_with_rows_that_are_read_piece_by_piece(db: sa.Engine) -> None:
    numbers = sa.text("SELECT 1 UNION ALL SELECT 2")

    with db.connect() as connection:
        rows = connection.execution_options(yield_per=1).execute(numbers).scalars().all()

    assert rows == [1, 2]
