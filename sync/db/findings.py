"""Findings of a sweep that are not acted upon yet, stored in the page's transaction to survive a crash."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from typing import Literal

import sqlalchemy as sa

from sync.db.schema import sync_findings

FindingKind = Literal["missing", "extra", "different"]
CHUNK = 1_000  # rows per statement: an emptied tenant produces a finding for each product


def add(
    connection: sa.Connection,
    run_id: int,
    store_view: str,
    kind: FindingKind,
    found: Iterable[tuple[int, str | None]],
) -> None:
    """Store findings: (product id, detail). A page that is read twice replaces its own."""
    remaining = iter(found)
    while rows := dict(islice(remaining, CHUNK)):
        settle(connection, run_id, store_view, rows)
        connection.execute(
            sync_findings.insert(),
            [
                {"run_id": run_id, "store_view": store_view, "product_id": i, "kind": kind, "detail": detail}
                for i, detail in rows.items()
            ],
        )


def ids(connection: sa.Connection, run_id: int, store_view: str, kind: FindingKind) -> list[int]:
    """The product ids found, ascending."""
    table = sync_findings
    rows = connection.execute(
        sa.select(table.c.product_id).where(*_where(run_id, store_view, kind)).order_by(table.c.product_id)
    )
    return list(rows.scalars())


def examples(
    connection: sa.Connection, run_id: int, store_view: str, kind: FindingKind, limit: int
) -> list[tuple[int, str | None]]:
    """The first few findings: (product id, detail)."""
    table = sync_findings
    rows = connection.execute(
        sa.select(table.c.product_id, table.c.detail)
        .where(*_where(run_id, store_view, kind))
        .order_by(table.c.product_id)
        .limit(limit)
    )
    return [(row.product_id, row.detail) for row in rows]


def adopt(connection: sa.Connection, old_run: int, new_run: int) -> None:
    """Move an earlier run's findings to a new run."""
    connection.execute(sync_findings.update().where(sync_findings.c.run_id == old_run).values(run_id=new_run))


def drop(connection: sa.Connection, run_id: int) -> None:
    """Delete all findings of a run."""
    connection.execute(sync_findings.delete().where(sync_findings.c.run_id == run_id))


def settle(connection: sa.Connection, run_id: int, store_view: str, ids: Collection[int]) -> None:
    """Delete the findings that were acted upon."""
    table = sync_findings
    connection.execute(
        table.delete().where(
            table.c.run_id == run_id, table.c.store_view == store_view, table.c.product_id.in_(ids)
        )
    )


def _where(run_id: int, store_view: str, kind: FindingKind) -> tuple[sa.ColumnElement[bool], ...]:
    table = sync_findings
    return table.c.run_id == run_id, table.c.store_view == store_view, table.c.kind == kind
