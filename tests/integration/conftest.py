"""A tenant, an empty copy in SQLite, and a bench with both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from sync.sandbox import Sandbox
from tests.kit import Bench, TenantClock


@pytest.fixture
def tenant() -> Iterator[Sandbox]:
    """60 products with gaps between their ids, in two store views."""
    with Sandbox(products=60, store_views=("default", "de"), gap=3) as sandbox:
        yield sandbox


@pytest.fixture
def bench(tenant: Sandbox, sqlite: sa.Engine) -> Bench:
    """Pages of 10: six make the catalogue."""
    return Bench(tenant, sqlite, page_size=10)


@pytest.fixture
def clock() -> TenantClock:
    """Stands at noon."""
    return TenantClock()
