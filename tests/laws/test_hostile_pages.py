"""Whatever a tenant puts into its products: nothing crashes, nothing hangs, no row is wrong, none is missing.

HOSTILE_PAGES says how many pages are read; the default keeps the suite quick.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from sync.db.schema import products
from sync.settings import CopySettings
from sync.settings.parsers import Address
from sync.web.app import application
from sync.web.server import serving as serving_page
from tests.hostile import HostileTenant, Item, catalogue, every_oddity, healed, serving
from tests.kit import Bench, Elsewhere

pytestmark = pytest.mark.slow

PAGES = int(os.environ.get("HOSTILE_PAGES", "200"))
PAGE_SIZE = 5
PER_ROUND = 200  # pages
TEXTS = ("sku", "name", "type_id")
INTEGERS = ("attribute_set_id", "status", "visibility")
AMOUNTS = ("price", "weight")
SCALARS = (*TEXTS, *INTEGERS, *AMOUNTS)


@pytest.fixture
def tenant() -> Iterator[HostileTenant]:
    with serving(HostileTenant([])) as tenant:
        yield tenant


def hostile_bench(tenant: HostileTenant, db: sa.Engine) -> Bench:
    return Bench(Elsewhere(tenant.url), db, page_size=PAGE_SIZE)


@pytest.mark.parametrize("seed", range(-(-PAGES // PER_ROUND)))
def test_every_product_is_here_as_sent_or_rejected_with_a_reason(
    tenant: HostileTenant, sqlite: sa.Engine, seed: int
) -> None:
    tenant.items = catalogue(seed, PER_ROUND * PAGE_SIZE, oddity=0.3)
    tenant.noise, tenant.seed = 0.03, seed
    bench = hostile_bench(tenant, sqlite)

    bench.backfill()

    assert tenant.pages >= PER_ROUND
    assert_nothing_is_missing_or_wrong(bench, tenant.items)

    tenant.items = healed(tenant.items)
    bench.backfill(restart=True)

    assert bench.open_rejections() == []
    assert bench.live() == {item.product_id: item.clean for item in tenant.items}
    bench.assert_feed_tells_who_lives()


def test_the_other_databases_end_with_the_same_rows(tenant: HostileTenant, db: sa.Engine) -> None:
    tenant.items = catalogue(seed=4_711, products=400, oddity=0.5)
    bench = hostile_bench(tenant, db)

    bench.backfill()

    assert_nothing_is_missing_or_wrong(bench, tenant.items)


def test_a_byte_order_mark_before_every_answer_costs_nothing(
    tenant: HostileTenant, sqlite: sa.Engine
) -> None:
    """As one PHP file that was saved with it puts there."""
    tenant.items, tenant.prefix = catalogue(seed=1, products=20, oddity=0), b"\xef\xbb\xbf"
    bench = hostile_bench(tenant, sqlite)

    bench.backfill()

    assert bench.live() == {item.product_id: item.clean for item in tenant.items}
    assert bench.open_rejections() == []


def test_the_status_page_shows_whatever_is_in_the_copy(tenant: HostileTenant, sqlite: sa.Engine) -> None:
    """Each value that a product may hold, in HTML and in JSON, and as an entry of its history."""
    tenant.items = every_oddity()
    bench = hostile_bench(tenant, sqlite)
    bench.backfill()
    tenant.items = healed(tenant.items)
    bench.backfill(restart=True)
    tenant.items = every_oddity()
    bench.backfill(restart=True)
    here = {row.product_id for row in bench.rows(products)}
    assert len(here) > len(tenant.items) / 2

    with serving_page(application(sqlite, CopySettings()), Address("127.0.0.1", 0)) as url:
        for product_id in here:
            for path in (f"products/all/{product_id}", f"api/products/all/{product_id}"):
                answer = requests.get(f"{url}{path}", timeout=10)
                assert answer.status_code == 200, (path, answer.text)
            json.loads(answer.text, parse_int=str)
        for path in ("changes", "api/changes", "rejected", "api/rejected", "products", "api/products"):
            assert requests.get(f"{url}{path}", timeout=10).status_code == 200, path


def assert_nothing_is_missing_or_wrong(bench: Bench, items: list[Item]) -> None:
    rows = {row.product_id: row for row in bench.rows(products)}
    rejections: dict[int, Any] = {row.product_id: row for row in bench.open_rejections()}
    assert all(row.reason for row in rejections.values())
    assert rows.keys() | rejections.keys() == {item.product_id for item in items}
    assert set(rejections) <= {item.product_id for item in items if item.member is not None}
    for item in items:
        row = rows.get(item.product_id)
        if row is not None:
            assert_row_says_what_was_sent(row, item, rejections.get(item.product_id))


def assert_row_says_what_was_sent(row: Any, item: Item, rejection: Any) -> None:
    if rejection is None:
        assert row.document.encode() == item.raw
        assert not item.is_doubled
    for name in SCALARS:
        if name != item.member:
            assert getattr(row, name) == plain(name, item.clean[name]), (item.product_id, name)
    if item.member in SCALARS and item.token is not None:
        kept, sent = getattr(row, item.member), natural(item.token)
        if kept is None:
            assert rejection is not None or sent in (None, ""), item.raw
        elif rejection is None and (isinstance(sent, str) or item.member not in TEXTS):
            assert kept == plain(item.member, sent), item.raw


def plain(name: str, value: Any) -> Any:
    """A JSON value as its column has it."""
    if name in AMOUNTS and value is not None:
        return Decimal(str(value)).quantize(Decimal("0.000001"), ROUND_HALF_UP)
    if name in INTEGERS:
        return None if value is None else int(value)
    return value


def natural(token: bytes) -> Any:
    """What an indulgent reader takes the token for."""
    return json.loads(token.decode(errors="replace"), parse_float=Decimal, parse_int=Decimal)
