"""The forget pass: remove a store view that left, with a `delete` entry in the feed for each live product."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from sync.db import changes, current_views, products
from sync.db.changes import FeedEntry
from sync.db.dialects import utc_now
from sync.db.engine import reading
from sync.errors import UsageError
from sync.model import Interval, Tally
from sync.passes.reference import remove_rows
from sync.passes.run import Run, Summary, Sync, start

AT_ONCE: Final = 500  # products per transaction


def forget(sync: Sync, view: str) -> Summary:
    """Remove all rows of a store view. After an interruption, another call continues.

    Raises UsageError for a store view that is not in the copy.
    """
    if not reading(sync.db, lambda c: current_views.is_known(c, view)):
        raise UsageError(
            f"the copy has no store view {view}.", "`product-sync status` lists the existing ones."
        )
    with start(sync, "forget") as run:
        while not run.read(lambda c: products.is_empty(c, view, Interval())):
            run.commit(lambda tx: _remove_some(tx, run, view))
        for table in ("attribute_options", "categories"):
            remove_rows(run, table, {"store_view": view})
        run.transact(lambda tx: current_views.remove(tx, view))
    return run.summary()


def _remove_some(tx: sa.Connection, run: Run, view: str) -> Tally:
    living = products.remove_first(tx, view, AT_ONCE)
    entries = [FeedEntry(view, product_id, sku, "delete") for product_id, sku in living]
    changes.append(tx, entries, utc_now(tx), run.run_id)
    return Tally(deleted=len(living))
