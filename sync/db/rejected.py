"""Dead letters: products that were not copied, or copied with a value replaced, with the reason.

A rejection (`unreadable`, `unmappable`) is a product that was not copied; every pass tries it again. A note
(`altered`) is a value replaced in a copied product; it stays open until the product is written without one
or is deleted. A product may have one open row of each: its last version was not copied, and the copied one
has a value replaced.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from sync.db.dialects import capacity
from sync.db.schema import products, rejected_items
from sync.logs.redaction import redacted
from sync.model import Interval

RejectKind = Literal["unreadable", "unmappable", "altered"]
NOT_COPIED: tuple[RejectKind, ...] = ("unreadable", "unmappable")
ALTERED: tuple[RejectKind, ...] = ("altered",)
MAX_PAYLOAD = 1_000_000  # characters; a longer document is cut and marked


@dataclass(frozen=True, slots=True)
class Reject:
    """A product or an id range that a pass could not copy, or copied with a value replaced.

    interval    the requested range
    payload     the tenant's answer, if any
    """

    store_view: str
    product_id: int | None
    interval: Interval
    kind: RejectKind
    reason: str
    payload: str | None = None


def keep(connection: sa.Connection, reject: Reject, at: datetime, run_id: int) -> None:
    """Store a rejection or a note; a known one counts another attempt."""
    table = rejected_items
    longest = _longest(connection)
    same = (
        (table.c.product_id == reject.product_id)
        if reject.product_id is not None
        else sa.and_(table.c.product_id.is_(None), table.c.first_id == reject.interval.after + 1)
    )
    seen = {
        "last_id": reject.interval.last,
        "kind": reject.kind,
        "reason": _cut(redacted(reject.reason), longest),
        "payload": _cut(redacted(reject.payload), longest) if reject.payload is not None else None,
        "last_seen_at": at,
        "run_id": run_id,
    }
    known = connection.execute(
        table.update()
        .where(table.c.store_view == reject.store_view, same, table.c.resolved_at.is_(None))
        .where(table.c.kind.in_(ALTERED if reject.kind in ALTERED else NOT_COPIED))
        .values(attempts=table.c.attempts + 1, **seen)
    )
    if known.rowcount == 0:
        connection.execute(
            table.insert().values(
                store_view=reject.store_view,
                product_id=reject.product_id,
                first_id=reject.interval.after + 1,
                first_seen_at=at,
                attempts=1,
                **seen,
            )
        )


def _longest(connection: sa.Connection) -> int:
    """Maximum characters of a reason or payload; each takes up to 4 bytes, and a row holds both."""
    room = capacity(connection).row_bytes
    return MAX_PAYLOAD if room is None else min(MAX_PAYLOAD, room // 8)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[:longest]} … cut here, {len(text)} characters in all"


def open_ids(connection: sa.Connection, store_view: str) -> set[int]:
    """Product ids of the open rejections and notes of `store_view`."""
    table = rejected_items
    return set(
        connection.execute(
            sa.select(table.c.product_id).where(
                table.c.store_view == store_view,
                table.c.resolved_at.is_(None),
                table.c.product_id.is_not(None),
            )
        ).scalars()
    )


def to_retry(connection: sa.Connection, store_view: str, run_id: int) -> list[Interval]:
    """Id ranges of rejections that run `run_id` has not tried again: `(id - 1, id]` for a known product."""
    table = rejected_items
    rows = connection.execute(
        sa.select(table.c.product_id, table.c.first_id, table.c.last_id)
        .where(table.c.store_view == store_view, table.c.resolved_at.is_(None), table.c.kind.in_(NOT_COPIED))
        .where(table.c.run_id != run_id)
        .order_by(table.c.first_id)
    )
    return [Interval(i - 1, i) if i is not None else Interval(first - 1, last) for i, first, last in rows]


def not_in_copy(connection: sa.Connection, store_view: str, up_to: int) -> list[int]:
    """Ids up to `up_to` that are missing in the copy because they were rejected, ascending."""
    table = rejected_items
    here = sa.and_(
        products.c.store_view == table.c.store_view,
        products.c.product_id == table.c.product_id,
        products.c.deleted_at.is_(None),
    )
    rows = connection.execute(
        sa.select(table.c.product_id)
        .distinct()
        .select_from(table.outerjoin(products, here))
        .where(
            table.c.store_view == store_view,
            table.c.resolved_at.is_(None),
            table.c.kind.in_(NOT_COPIED),
            table.c.product_id <= up_to,
            products.c.product_id.is_(None),
        )
        .order_by(table.c.product_id)
    )
    return list(rows.scalars())


def resolve(
    connection: sa.Connection,
    store_view: str,
    ids: Collection[int],
    at: datetime,
    kinds: Collection[RejectKind] = NOT_COPIED + ALTERED,
) -> None:
    """Resolve rejections and notes of products that were copied or deleted."""
    if ids:
        connection.execute(
            rejected_items.update()
            .where(
                rejected_items.c.store_view == store_view,
                rejected_items.c.product_id.in_(ids),
                rejected_items.c.kind.in_(kinds),
                rejected_items.c.resolved_at.is_(None),
            )
            .values(resolved_at=at)
        )


def resolve_others(connection: sa.Connection, store_view: str, run_id: int, at: datetime) -> None:
    """Resolve rejections that a complete sweep did not repeat."""
    table = rejected_items
    connection.execute(
        table.update()
        .where(table.c.store_view == store_view, table.c.resolved_at.is_(None), table.c.kind.in_(NOT_COPIED))
        .where(table.c.run_id != run_id)
        .values(resolved_at=at)
    )


def count_open(connection: sa.Connection, kinds: Collection[RejectKind]) -> dict[str, int]:
    """The number of open rows of these kinds, by store view."""
    table = rejected_items.c
    rows = connection.execute(
        sa.select(table.store_view, sa.func.count())
        .where(table.resolved_at.is_(None), table.kind.in_(kinds))
        .group_by(table.store_view)
    )
    return {row[0]: row[1] for row in rows}
