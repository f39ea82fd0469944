"""Store views that are current, and those that left: dropped from STORE_VIEWS or gone from the tenant.

A store view leaves when STORE_VIEWS no longer names it, when the tenant no longer lists it, or when the
tenant refuses it in a pass but answers for another one. Its rows stay until `forget`, but are not current:
`products_current`, the views and `export` omit them. In a copy without a stored list, all are current.
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
ALIKE: Final = "alike_store_views"  # in sync_state: those that list the same products and stamps
_TABLE: Final = sync_store_views.c


def left(connection: sa.Connection) -> dict[str, Reason]:
    """The store views that left, with the reason."""
    rows = connection.execute(
        sa.select(_TABLE.store_view, _TABLE.reason)
        .where(_TABLE.left_at.is_not(None))
        .order_by(_TABLE.store_view)
    )
    return {row.store_view: row.reason for row in rows}


def loaded(connection: sa.Connection) -> list[str]:
    """Every store view that has products in the copy; one index lookup each."""
    found: list[str] = []
    view = products.c.store_view
    following = connection.execute(sa.select(sa.func.min(view))).scalar()
    while following is not None:
        found.append(following)
        following = connection.execute(sa.select(sa.func.min(view)).where(view > following)).scalar()
    return found


def current(connection: sa.Connection) -> list[str]:
    """The loaded store views that did not leave."""
    gone = left(connection)
    return [view for view in loaded(connection) if view not in gone]


def is_known(connection: sa.Connection, view: str) -> bool:
    """Whether the copy has or had data of a store view."""
    return any(
        connection.scalar(sa.select(sa.exists().where(table.c.store_view == view)))
        for table in (sync_store_views, products, sync_watermarks)
    )


def is_list_saved(connection: sa.Connection, named: Sequence[str], extra: Collection[str] = ()) -> bool:
    """Whether `save_list` would change nothing."""
    known = _known(connection)
    others = {view: reason for view, reason in known.items() if view not in named}
    are_left = all(reason == "settings" and view not in extra for view, reason in others.items())
    return are_left and all(view in known and known[view] != "settings" for view in named)


def save_list(tx: sa.Connection, named: Sequence[str], extra: Collection[str] = ()) -> list[str]:
    """Store the list that the settings name now; return the store views that leave with it.

    extra    store views given on the command line: current, whether or not the settings name them
    """
    leases.lock(tx)
    known = _known(tx)
    if not known:  # a copy of an older version, or an empty one
        known = dict.fromkeys(loaded(tx))
        _insert(tx, known)
    _insert(tx, [view for view in named if view not in known])
    _mark(tx, [view for view in named if known.get(view) == "settings"], None)
    for view in extra:
        if view not in named:
            drop(tx, view)
    leaving = [view for view in known if known[view] != "settings" and view not in (*named, *extra)]
    _mark(tx, leaving, "settings")
    return leaving


def listed(connection: sa.Connection) -> set[str]:
    """Codes of the tenant's list of store views, as last read."""
    return set(connection.execute(sa.select(store_views.c.code)).scalars())


def note_list(tx: sa.Connection, before: Collection[str]) -> None:
    """Apply the tenant's newly read list: store views gone from it leave, those listed again return.

    before    the codes of the previous list
    """
    known, now = _known(tx), listed(tx)
    lost = [view for view in before if view not in now and known.get(view, "unknown") is None]
    _mark(tx, lost, "tenant")
    note_found(tx, now)


def note_lost(tx: sa.Connection, view: str) -> None:
    """Mark a store view that the tenant refused as left, until the tenant answers for it again."""
    if _known(tx).get(view, "unknown") is None:
        _mark(tx, [view], "tenant")


def note_found(tx: sa.Connection, views: Collection[str]) -> None:
    """Mark store views that the tenant answered for as current again."""
    known = _known(tx)
    _mark(tx, [view for view in views if known.get(view) == "tenant"], None)


def remove(tx: sa.Connection, view: str) -> None:
    """Remove the remaining rows of a store view whose products were removed."""
    for table in (*CHILDREN, sync_pages, sync_partitions, sync_findings, sync_watermarks, rejected_items):
        tx.execute(table.delete().where(table.c.store_view == view))
    drop(tx, view)


def drop(tx: sa.Connection, view: str) -> None:
    """Remove a store view from the stored list."""
    tx.execute(sync_store_views.delete().where(_TABLE.store_view == view))


def _known(connection: sa.Connection) -> dict[str, Reason | None]:
    """Every store view that the settings ever named, with the reason it left or None."""
    return {row.store_view: row.reason for row in connection.execute(sa.select(sync_store_views))}


def _insert(tx: sa.Connection, views: Collection[str]) -> None:
    for view in views:
        tx.execute(sync_store_views.insert().values(store_view=view))


def _mark(tx: sa.Connection, views: Collection[str], reason: Reason | None) -> None:
    """Mark store views as left for a reason, or with None as current."""
    if views:
        at = None if reason is None else utc_now(tx)
        chosen = sync_store_views.update().where(_TABLE.store_view.in_(views))
        tx.execute(chosen.values(left_at=at, reason=reason))
