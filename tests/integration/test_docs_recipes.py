"""Every query of docs/sql-recipes.md runs as it stands, and finds rows where it says nothing else.

A block's first line may be a comment: the database it is for, or `-- may be empty`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync.db.engine import reading
from sync.passes.prices import prices
from sync.passes.reference import reference
from sync.passes.stock import stock
from sync.sandbox import Sandbox
from tests.databases import KINDS
from tests.kit import Bench

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs/sql-recipes.md").read_text()
RECIPES = re.findall(r"^## (.+?)\n|^```sql\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)


def recipes() -> Iterator[tuple[str, str]]:
    """Each query with the heading above it."""
    heading = ""
    for title, query in RECIPES:
        heading = title or heading
        if query:
            yield heading, query


def asked(query: str, tx: sa.Connection) -> list[sa.Row[Any]]:
    return list(tx.exec_driver_sql(query))


def test_every_heading_has_a_query() -> None:
    assert {heading for heading, _ in recipes()} == {title for title, _ in RECIPES if title}


def test_the_recipes_run_and_find_what_they_promise(db: sa.Engine) -> None:
    with Sandbox(products=120, store_views=("default", "de")) as tenant:
        bench = Bench(tenant, db, page_size=60, store_views=("all", "de"))
        bench.backfill()
        for feed in (reference, prices, stock):
            feed(bench.sync())

        others = [kind for kind in KINDS if kind != db.dialect.name]
        empty = []
        for heading, query in recipes():
            note = query.splitlines()[0].removeprefix("-- ")
            if note in others:
                continue
            found = reading(db, partial(asked, query))
            if not found and note != "may be empty":
                empty.append(heading)

    assert empty == []
