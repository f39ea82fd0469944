"""The recipes of docs/tools.md: Python beside a copy and its exports, Grafana and dbt on PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from jinja2 import Template

from sync.sandbox import Sandbox
from tests.command import Shell
from tests.kit import Bench

PAGE = (Path(__file__).parents[2] / "docs/tools.md").read_text()
EXPORTS = [line.split() for line in re.findall(r"^product-sync (export .+)$", PAGE, re.MULTILINE)]
BLOCKS = re.findall(r"^```python\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what the page begins with."""
    folder = tmp_path_factory.mktemp("tools")
    with Sandbox(60) as tenant:
        shell = Shell(tenant, folder)
        for command in (["backfill"], *EXPORTS):
            ended = shell.run(*command)
            assert ended.code == 0, ended.err
        yield folder


@pytest.mark.parametrize("block", BLOCKS, ids=[re.search(r"import (\w+)", it)[1] for it in BLOCKS])  # type: ignore[index]
def test_a_block_runs_as_it_stands(block: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in re.findall(r"^import (\w+)", block, re.MULTILINE):
        pytest.importorskip(package)
    monkeypatch.chdir(copy)
    names: dict[str, Any] = {}

    exec(block, names)  # noqa: S102 - our own page

    assert len(names["found"]) > 0


def block_with(words: str) -> str:
    """The block of the page that holds these words."""
    (found,) = (it for it in re.findall(r"^```\w*\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL) if words in it)
    return str(found)


def test_the_panel_of_grafana_finds_each_kind_of_change(postgres: sa.Engine) -> None:
    """With its two macros replaced as Grafana's PostgreSQL data source does."""
    with Sandbox(20) as tenant:
        bench = Bench(tenant, postgres)
        bench.backfill()
        tenant.catalogue.edit(5, name="Edited")
        bench.run()
    panel = block_with("$__timeGroup")
    panel = re.sub(r"\$__timeGroup\((\w+), '1h'\)", r"floor(extract(epoch from \1)/3600)*3600", panel)
    panel = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 BETWEEN '2000-01-01T00:00:00Z' AND now()", panel)

    with postgres.connect() as connection:
        counts = {row.metric: row.value for row in connection.exec_driver_sql(panel)}

    assert counts == {"insert": 20, "update": 1}


def test_the_incremental_model_of_dbt_takes_each_update_once(postgres: sa.Engine) -> None:
    """With the SQL that dbt makes of it. dbt itself cannot be pinned here: it downloads a part of itself."""
    (source,) = yaml.safe_load(block_with("models/commerce.yml"))["sources"]
    declared = {table["name"] for table in source["tables"]}
    model = block_with("models/price_changes.sql")

    def made(*, incremental: bool) -> str:
        sql: str = Template(model).render(
            config=lambda **_: "",
            source=lambda _, table: {it: it for it in declared}[table],
            is_incremental=lambda: incremental,
            this="price_changes",
        )
        return sql

    with Sandbox(20) as tenant:
        bench = Bench(tenant, postgres)
        bench.backfill()
        found = []
        for number, product_id in enumerate((5, 6)):
            tenant.catalogue.edit(product_id, price=product_id)
            bench.run()
            start = "INSERT INTO price_changes" if number else "CREATE TABLE price_changes AS"
            with postgres.begin() as tx:
                tx.exec_driver_sql(f"{start} {made(incremental=bool(number))}")
                ids = tx.exec_driver_sql("SELECT change_id FROM price_changes ORDER BY 1")
                found.append(ids.scalars().all())

    assert found == [[21], [21, 22]]
    with postgres.connect() as connection:
        inspector = sa.inspect(connection)
        assert declared <= {*inspector.get_table_names(), *inspector.get_view_names()}
