"""Store views that the settings name, and those that left: renamed or deleted on the tenant, or not wanted.

A store view leaves when STORE_VIEWS named it and does not any more, when the tenant's list loses it, or
when the tenant refuses it in a pass while it answers for another one. Its rows stay until `forget`, but are
not current: `products_current`, the views and `export` do not show them.
A copy that was never given a list shows everything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal

import sqlalchemy as sa

from sync.db import leases
from sync.db.dialects import utc_now
from sync.db.schema import (
    CHILDREN,
    products,
    rejected_items,
    store_views,
    sync_findings,
    sync_pages,
    sync_partitions,
    sync_store_views,
    sync_watermarks,
)

Reason = Literal["settings", "tenant"]
LEFT_SQL: Final = "(SELECT store_view FROM sync_store_views WHERE left_at IS NOT NULL)"
_TABLE: Final = sync_store_views.c


def left(connection: sa.Connection) -> dict[str, Reason]:
    """Store views that left, and why."""
    rows = connection.execute(
        sa.select(_TABLE.store_view, _TABLE.reason)
        .where(_TABLE.left_at.is_not(None))
        .order_by(_TABLE.store_view)
    )
    return {row.store_view: row.reason for row in rows}


def loaded(connection: sa.Connection) -> list[str]:
    """Every store view that has products here. One index probe each."""
    found: list[str] = []
    view = products.c.store_view
    following = connection.execute(sa.select(sa.func.min(view))).scalar()
    while following is not None:
        found.append(following)
        following = connection.execute(sa.select(sa.func.min(view)).where(view > following)).scalar()
    return found


def current(connection: sa.Connection) -> list[str]:
    """Those that did not leave."""
    gone = left(connection)
    return [view for view in loaded(connection) if view not in gone]


def is_known(connection: sa.Connection, view: str) -> bool:
    """Whether the copy has, or had, anything of a store view."""
    return any(
        connection.scalar(sa.select(sa.exists().where(table.c.store_view == view)))
        for table in (sync_store_views, products, sync_watermarks)
    )


def is_settled(connection: sa.Connection, named: Sequence[str], besides: Collection[str] = ()) -> bool:
    """Whether `settle` has nothing to do."""
    known = _known(connection)
    others = {view: reason for view, reason in known.items() if view not in named}
    are_left = all(reason == "settings" and view not in besides for view, reason in others.items())
    return are_left and all(view in known and known[view] != "settings" for view in named)


def settle(tx: sa.Connection, named: Sequence[str], besides: Collection[str] = ()) -> list[str]:
    """Keep the list that the settings name now; returns the store views that left with it.

    besides    store views that a command was given by hand: current, whether the settings name them or not
    """
    leases.lock(tx)
    known = _known(tx)
    if not known:  # a copy of an older version, or an empty one
        known = dict.fromkeys(loaded(tx))
        _insert(tx, known)
    _insert(tx, [view for view in named if view not in known])
    _mark(tx, [view for view in named if known.get(view) == "settings"], None)
    for view in besides:
        if view not in named:
            drop(tx, view)
    leaving = [view for view in known if known[view] != "settings" and view not in (*named, *besides)]
    _mark(tx, leaving, "settings")
    return leaving


def listed(connection: sa.Connection) -> set[str]:
    """Codes of the tenant's own list of store views, as it was read last."""
    return set(connection.execute(sa.select(store_views.c.code)).scalars())


def note_list(tx: sa.Connection, before: Collection[str]) -> None:
    """The tenant's list of store views was read: what it lost has left, what it has again is back.

    before    the codes that it had
    """
    known, now = _known(tx), listed(tx)
    lost = [view for view in before if view not in now and known.get(view, "unknown") is None]
    _mark(tx, lost, "tenant")
    note_found(tx, now)


def note_lost(tx: sa.Connection, view: str) -> None:
    """The tenant refused a store view that the settings name: it has left, until it answers again."""
    if _known(tx).get(view, "unknown") is None:
        _mark(tx, [view], "tenant")


def note_found(tx: sa.Connection, views: Collection[str]) -> None:
    """The tenant answered for these store views: those that it had lost are back."""
    known = _known(tx)
    _mark(tx, [view for view in views if known.get(view) == "tenant"], None)


def remove(tx: sa.Connection, view: str) -> None:
    """Remove what is remembered of a store view whose products are gone."""
    for table in (*CHILDREN, sync_pages, sync_partitions, sync_findings, sync_watermarks, rejected_items):
        tx.execute(table.delete().where(table.c.store_view == view))
    drop(tx, view)


def drop(tx: sa.Connection, view: str) -> None:
    """Take a store view off the list: the settings never named it."""
    tx.execute(sync_store_views.delete().where(_TABLE.store_view == view))


def _known(connection: sa.Connection) -> dict[str, Reason | None]:
    """Every store view that the settings named once: None, or why it left."""
    return {row.store_view: row.reason for row in connection.execute(sa.select(sync_store_views))}


def _insert(tx: sa.Connection, views: Collection[str]) -> None:
    for view in views:
        tx.execute(sync_store_views.insert().values(store_view=view))


def _mark(tx: sa.Connection, views: Collection[str], reason: Reason | None) -> None:
    """Say that these left for a reason, or with None that they are in force."""
    if views:
        at = None if reason is None else utc_now(tx)
        chosen = sync_store_views.update().where(_TABLE.store_view.in_(views))
        tx.execute(chosen.values(left_at=at, reason=reason))
