"""Whatever a tenant says of prices, stock, attributes, categories and store views: nothing crashes, nothing
hangs, and once it makes sense again the copy is as if it always had.

HOSTILE_PASSES says how many passes are made; the default keeps the suite quick.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa

from sync.db.schema import (
    attribute_options,
    attributes,
    categories,
    product_prices,
    source_items,
    store_views,
)
from sync.errors import SyncError
from sync.passes.prices import prices
from sync.passes.reference import reference
from sync.passes.run import Summary, Sync
from sync.passes.stock import stock
from sync.sandbox import Sandbox
from tests.bending import Bender, bending
from tests.kit import Bench, Elsewhere

pytestmark = pytest.mark.slow

PASSES = int(os.environ.get("HOSTILE_PASSES", "3"))
TABLES = (product_prices, source_items, attributes, attribute_options, categories, store_views)
WORKS = (reference, prices, stock)
STAMPS = {"changed_at", "deleted_at", "run_id"}

Contents = dict[str, set[tuple[Any, ...]]]


def test_a_pass_over_odd_answers_ends_in_words_and_the_next_one_mends_the_copy(db: sa.Engine) -> None:
    with Sandbox(60, store_views=("default", "de")) as sandbox, bending(sandbox.host_url) as bender:
        bench = Bench(Elsewhere(bender.url), db, store_views=("default", "de"), max_retry_time=0.2)
        bench.backfill()
        for each in WORKS:
            each(bench.sync())
        before = contents(bench)

        for work in WORKS:
            _assert_it_is_mended(bench, bender, work, before)


def _assert_it_is_mended(
    bench: Bench, bender: Bender, work: Callable[[Sync], Summary], before: Contents
) -> None:
    bent = bender.bent
    for seed in range(PASSES):
        bender.share, bender.chance = 0.7, random.Random(seed)
        with suppress(SyncError):
            work(bench.sync())
    bender.share = 0.0
    work(bench.sync())

    assert bender.bent >= bent + PASSES
    assert contents(bench) == before, work.__name__


def contents(bench: Bench) -> Contents:
    """What lives in the tables, without when it was written."""
    found = {}
    for table in TABLES:
        columns = [column.name for column in table.columns if column.name not in STAMPS]
        rows = [row for row in bench.rows(table) if getattr(row, "deleted_at", None) is None]
        found[table.name] = {tuple(getattr(row, name) for name in columns) for row in rows}
    return found
