"""The tenant of this copy: its name, and products that distinguish it from another tenant.

The name is from `settings.parsers.tenant_name`, stored in `sync_state`. A copy of an older version has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from sync.db import leases, state
from sync.db.current_views import ALIKE
from sync.db.prices import MEMORY
from sync.db.reference import ASKED, TAKEN
from sync.db.rejected import NOT_COPIED
from sync.db.schema import (
    attributes,
    categories,
    product_prices,
    products,
    rejected_items,
    source_items,
    sync_findings,
    sync_pages,
    sync_partitions,
    sync_state,
    sync_watermarks,
    websites,
)
from sync.errors import AnotherTenant

NAME = "tenant"
SINCE_REVISION = "0003"  # the first schema with every table used here
_FILLED = (products, source_items, product_prices, attributes, categories, websites)
_LEARNED = (
    *("pace", "page_size", "shared_pace", "shared_token", "reference_broken"),
    *(MEMORY, ASKED, TAKEN, ALIKE),
)
_LAST, _FIRST = 10, 5  # products in a sample: last changed; first and last created


def name(connection: sa.Connection) -> str | None:
    """The tenant's name; None for a copy without a stored name."""
    found: str | None = state.load(connection, NAME)
    return found


def remember(tx: sa.Connection, tenant: str, known_as: str | None) -> None:
    """Store the tenant's name. Raises AnotherTenant when the stored one is no longer `known_as`."""
    leases.lock(tx)
    if (found := name(tx)) not in (known_as, tenant):
        raise AnotherTenant(found, tenant)
    state.save(tx, NAME, tenant)


def is_empty(connection: sa.Connection) -> bool:
    """Whether the copy has no data of any tenant, not even tombstones."""
    return not any(connection.scalar(sa.select(sa.exists().select_from(table))) for table in _FILLED)


def adopt(tx: sa.Connection, name: str, at: datetime) -> None:
    """Make this the copy of another tenant.

    Products stay until they are read again. Everything that lets a pass skip them is deleted: watermarks,
    cached pages, unfinished runs, rejections, and state learned about the other tenant. Notes on altered
    values stay with their product.
    """
    for table in (sync_watermarks, sync_pages, sync_partitions, sync_findings):
        tx.execute(table.delete())
    tx.execute(sync_state.delete().where(sync_state.c.name.in_(_LEARNED)))
    rejections = rejected_items.c.resolved_at.is_(None), rejected_items.c.kind.in_(NOT_COPIED)
    tx.execute(rejected_items.update().where(*rejections).values(resolved_at=at))
    state.save(tx, NAME, name)


def view_to_compare(connection: sa.Connection, preferred: Sequence[str]) -> str | None:
    """A store view with live products: `all`, else a preferred one, else any; None without live products."""
    view = products.c.store_view
    for code in ("all", *preferred):
        living = sa.exists().where(view == code, products.c.deleted_at.is_(None))
        if connection.scalar(sa.select(living)):
            return code
    return connection.scalar(sa.select(view).where(products.c.deleted_at.is_(None)).limit(1))


def sample(connection: sa.Connection, store_view: str) -> dict[int, str]:
    """Documents of some live products, by id: the last changed, the first and the last ids."""
    table = products.c
    found: dict[int, str] = {}
    for order, count in (
        (table.updated_at.desc(), _LAST),
        (table.product_id.asc(), _FIRST),
        (table.product_id.desc(), _FIRST),
    ):
        chosen = (
            sa.select(table.product_id)
            .where(table.store_view == store_view, table.deleted_at.is_(None))
            .order_by(order)
            .limit(count)
        )
        ids = connection.execute(chosen).scalars().all()
        rows = sa.select(table.product_id, table.document)
        rows = rows.where(table.store_view == store_view, table.product_id.in_(ids))
        found.update((row.product_id, row.document) for row in connection.execute(rows))
    return found


def count_stamped(connection: sa.Connection, store_view: str, begin: datetime, end: datetime) -> int:
    """The number of live products with `updated_at` in `[begin, end)`."""
    table = products.c
    counted = sa.select(sa.func.count()).where(
        table.store_view == store_view,
        table.deleted_at.is_(None),
        table.updated_at >= begin,
        table.updated_at < end,
    )
    return int(connection.scalar(counted) or 0)
