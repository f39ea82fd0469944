"""The cache of known pages: when a page comes in the same bytes again, the copy is compared by one hash.

An entry says how an answer hashed, and how the copy hashed once it agreed with it. Both stay true whatever is
written: whether the copy still hashes to the same is asked each time, for all products of the page at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final

import sqlalchemy as sa

from sync.db.dialects import joined, new_rows_hash, rows_hash
from sync.db.products import Write
from sync.db.schema import CHILDREN, products, sync_pages
from sync.model import AnswerFingerprint, Interval, KnownPage, fingerprint

HEAVY: Final = 1 << 20  # bytes of an answer


def known(connection: sa.Connection, store_view: str) -> dict[int, KnownPage]:
    """The pages of a store view, by the id after which they begin: 500 bytes each."""
    rows = connection.execute(_KNOWN, {"view": store_view})
    return {
        after: KnownPage(
            Interval(after, last),
            count,
            answer,
            copy,
            made,
            None if wire is None else AnswerFingerprint(wire, *rest),
        )
        for after, last, count, answer, copy, made, wire, *rest in rows
    }


def is_current(connection: sa.Connection, store_view: str, page: KnownPage, *, audit: bool) -> bool:
    """Whether the copy holds what a known page lists, and nothing else of its interval.

    audit    and whether its rows are those that were last compared with their documents
    """
    if not audit:
        return hash_of_copy(connection, store_view, page.interval) == page.copy_hash
    return page.rows_hash is not None and page.rows_hash == hash_of_rows(
        connection, store_view, page.interval, is_heavy=_is_heavy(page)
    )


def keep(
    tx: sa.Connection,
    store_view: str,
    page: KnownPage,
    *,
    is_exact: bool = False,
    inserted: Sequence[Write] = (),
) -> None:
    """Remember a page in place of those that begin inside it, once its rows are written.

    is_exact    every row of its interval was just made from its document, or compared with it: a hash of the
                rows stands for that next time
    inserted    every product of its interval, where `tx` inserted them all
    """
    interval = page.interval
    rows_hash = None
    if is_exact:
        made = hash_of_new_rows(tx, inserted) if inserted else None
        rows_hash = made or hash_of_rows(tx, store_view, interval, is_heavy=_is_heavy(page))
    tx.execute(_FORGET, {"view": store_view, "first": interval.after, "last": interval.last})
    tx.execute(
        _KEEP,
        {
            "store_view": store_view,
            "after_id": interval.after,
            "last_id": interval.last,
            "products": page.products,
            "answer_hash": page.answer_hash,
            "copy_hash": page.copy_hash,
            "rows_hash": rows_hash,
            **(page.receipt._asdict() if page.receipt else {}),
        },
    )


def keep_receipt(tx: sa.Connection, store_view: str, page: KnownPage) -> None:
    """Remember in what answer, `page.receipt`, the products of a known page came last."""
    known = {"view": store_view, "first": page.interval.after, "answer": page.answer_hash}
    tx.execute(_CAME, known | (page.receipt._asdict() if page.receipt else {}))


_KNOWN = sa.select(
    *(column for column in sync_pages.c if column.name != "store_view"),
).where(sync_pages.c.store_view == sa.bindparam("view"))
_FORGET = sync_pages.delete().where(
    sync_pages.c.store_view == sa.bindparam("view"),
    sync_pages.c.after_id >= sa.bindparam("first"),
    sync_pages.c.after_id < sa.bindparam("last"),
)
_KEEP = sync_pages.insert()
_CAME = (
    sync_pages.update()
    .where(
        sync_pages.c.store_view == sa.bindparam("view"),
        sync_pages.c.after_id == sa.bindparam("first"),
        sync_pages.c.answer_hash == sa.bindparam("answer"),
    )
    .values({name: sa.bindparam(name) for name in AnswerFingerprint._fields})
)


def copy_hash(fingerprints: Iterable[tuple[int, str]]) -> str:
    """What a copy hashes to that holds these products, ascending by id, with these fingerprints."""
    return fingerprint(" ".join(f"{product_id} {digest}" for product_id, digest in fingerprints).encode())


def hash_of_copy(connection: sa.Connection, store_view: str, interval: Interval) -> str:
    """What the copy's live products of an interval hash to."""
    bounds = {"view": store_view, "after": interval.after, "last": interval.last}
    lines = connection.execute(_lines(connection.dialect.name), bounds).scalar_one()
    return fingerprint((lines or "").encode())


@cache
def _lines(dialect: str) -> sa.Select[Any]:
    """The ids and fingerprints of an interval as one text: a row for each product takes 20 times as long."""
    product = products.c
    line = sa.cast(product.product_id, sa.String(20)) + " " + product.content_hash
    listed = (
        sa.select(line.label("line"), product.product_id)
        .where(
            product.store_view == sa.bindparam("view"),
            product.product_id > sa.bindparam("after"),
            product.product_id <= sa.bindparam("last"),
            product.deleted_at.is_(None),
        )
        .order_by(product.product_id)
        .subquery()
    )
    return sa.select(joined(dialect, listed.c.line, listed.c.product_id))


def hash_of_rows(
    connection: sa.Connection, store_view: str, interval: Interval, *, is_heavy: bool = False
) -> str:
    """What all rows of an interval hash to, tombstones included: another value after any edit of one.

    is_heavy    as in `rows_hash`
    """
    return rows_hash(connection, (products, *CHILDREN), store_view, interval, is_heavy=is_heavy)


def _is_heavy(page: KnownPage) -> bool:
    return page.receipt is not None and page.receipt.body_bytes > HEAVY


def hash_of_new_rows(tx: sa.Connection, writes: Sequence[Write]) -> str | None:
    """`hash_of_rows` of an interval whose every row is of these products, and was inserted by `tx`.

    None where the rows have to be read for that.
    """
    children = (sum(len(write.children[table.name]) for write in writes) for table in CHILDREN)
    return new_rows_hash(tx, chain([len(writes)], children))
