"""Writing to the copy: a plan is applied in one transaction, with the cursor, the counters and the feed.

    plan ──> renew the lease ──> rows ──> feed ──> prices ──> rejections ──> cache ──> cursor ──> counters
                 ▲                                                                                   │
                 └── again, from the beginning, while the database is locked or restarts ──── COMMIT ┘

A plan stays valid while it waits or is tried again: it says what the copy lacks in some ids, and only the
holder of their lease writes there. What other writers touch too (the order of the feed, the prices of a
product in other store views) is looked up in the transaction itself, after the feed's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event
from typing import NamedTuple

import sqlalchemy as sa

from sync.db import changes, findings, pages, partitions, prices, products, rejected, runs
from sync.db.changes import FeedEntry
from sync.db.dialects import utc_now
from sync.db.engine import transactions
from sync.db.partitions import Partition
from sync.db.products import Write
from sync.db.rejected import Reject
from sync.db.skus import live_with
from sync.model import KnownPage, Tally, Traffic

WritePrices = Callable[[sa.Connection, Collection[int], datetime], None]


class ProductPlan(NamedTuple):
    """What becomes of one product that differs from the copy.

    write         its rows; None when it cannot be copied
    is_new        the copy never had it
    change        its entry in the feed; None when only its time stamp moved
    reject        why it cannot be copied, or which values were replaced
    former_sku    the SKU that it gives up
    reprice       its rows in `product_prices` may change
    difference    which columns or paths differ, in words
    """

    product_id: int
    write: Write | None = None
    is_new: bool = False
    change: FeedEntry | None = None
    reject: Reject | None = None
    former_sku: str | None = None
    reprice: bool = False
    difference: str = ""

    @property
    def is_copied_first(self) -> bool:
        return self.change is not None and self.change.kind in ("insert", "restore")


class PartitionCursor(NamedTuple):
    """How far a partition is read; None: to its end."""

    partition: Partition
    to: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be written so that the copy agrees with a page.

    fetched, unchanged    products of the page
    now           the database's time, which all rows bear; None when nothing is written
    products      those that differ from the copy
    settled       ids of these whose open rejections end
    unreadable    a product that the tenant cannot send
    gone          ids that leave the copy: they have a SKU that the page gives to another product, and are
                  gone or cannot be read
    missing       ids stored in the page's interval that the page does not list
    cache_entry   the page, to be remembered in place of those it overlaps
    is_exact      every row of the page's interval was compared with its document, or is made from it
    is_first      all of the page is inserted, and the copy knew nothing of its interval
    seen_again    a known page whose products came in another answer, to be remembered with that
    cursor        where the reader stands once this is written
    is_report     only note how the copy differs: no product is written
    """

    store_view: str
    fetched: int = 0
    unchanged: int = 0
    now: datetime | None = None
    products: Sequence[ProductPlan] = ()
    settled: Collection[int] = ()
    unreadable: Reject | None = None
    gone: Collection[int] = ()
    missing: Sequence[int] = ()
    cache_entry: KnownPage | None = None
    is_exact: bool = False
    is_first: bool = False
    seen_again: KnownPage | None = None
    cursor: PartitionCursor | None = None
    is_report: bool = False

    @property
    def is_known(self) -> bool:
        """Nothing is written but how far the reader is, and how the page came."""
        return not (self.products or self.unreadable or self.missing or self.cache_entry)

    @property
    def inserts(self) -> list[Write]:
        return [it.write for it in self.products if it.is_new and it.write is not None]

    @property
    def updates(self) -> list[Write]:
        return [it.write for it in self.products if not it.is_new and it.write is not None]

    @property
    def changes(self) -> list[FeedEntry]:
        return [it.change for it in self.products if it.change is not None]

    @property
    def rejects(self) -> list[Reject]:
        rejects = [it.reject for it in self.products if it.reject is not None]
        return rejects if self.unreadable is None else [*rejects, self.unreadable]

    @property
    def repriced(self) -> list[int]:
        """Ids whose prices may differ from `product_prices`."""
        return [it.product_id for it in self.products if it.reprice]

    @property
    def renamed(self) -> dict[int, str]:
        """By id, the SKU that a product had."""
        return {it.product_id: it.former_sku for it in self.products if it.former_sku is not None}

    @property
    def taken(self) -> dict[int, str]:
        """By id, the SKU that a product takes: it had none, or another one."""
        return {
            it.product_id: it.change.sku
            for it in self.products
            if it.change is not None and (it.is_copied_first or it.former_sku is not None)
        }

    @property
    def not_copied(self) -> set[int]:
        """Ids that were read and cannot become rows."""
        return {it.product_id for it in self.products if it.write is None}

    @property
    def arrived(self) -> list[int]:
        """Ids that the copy gets, or that are rejected instead."""
        ids = [it.product_id for it in self.products if it.is_copied_first]
        unreadable = None if self.unreadable is None else self.unreadable.product_id
        return ids if unreadable is None else [*ids, unreadable]

    @property
    def tally(self) -> Tally:
        """`updated` counts changes; a row that was only stamped anew counts as unchanged."""
        if self.is_report:
            return Tally(self.fetched, unchanged=self.unchanged, rejected=int(self.unreadable is not None))
        kinds = [change.kind for change in self.changes]
        inserted = kinds.count("insert") + kinds.count("restore")
        altered = sum(1 for it in self.products if it.reject is not None and it.write is not None)
        return Tally(
            fetched=self.fetched,
            inserted=inserted,
            updated=kinds.count("update"),
            unchanged=self.unchanged,
            deleted=len(self.gone),
            rejected=len(self.rejects) - altered,
            altered=altered,
        )

    def with_newer(self, ids: Collection[int], gone: Collection[int], living: Plan) -> Plan:
        """Write what is now known of these products, in place of what was known; they do not count as read.

        gone    those that leave the copy
        """
        return replace(
            self,
            gone={*self.gone} - {*ids} | {*gone},
            products=[*(it for it in self.products if it.product_id not in ids), *living.products],
            settled={*self.settled} - {*ids} | {*living.settled},
            now=self.now or living.now,
        )


@dataclass(frozen=True, slots=True)
class CopyWriter:
    """A run's right to write, while it holds its lease.

    renew      renews the lease in a transaction; raises LeaseHeld or RangeLost when somebody has taken over
    stop       ends the waiting for a database that restarts
    is_dry     nothing is written
    traffic    what a worker has asked of the tenant and has not reported yet; it stays unreported when
               the transaction fails
    """

    db: sa.Engine
    run_id: int
    renew: Callable[[sa.Connection], None]
    stop: Event
    is_dry: bool = False
    traffic: Callable[[], AbstractContextManager[Traffic | None]] = nullcontext


def apply(plans: Sequence[Plan], lease: CopyWriter, write_prices: WritePrices) -> None:
    """Write plans in one transaction with the cursors they move and the run's counters.

    write_prices    makes `product_prices` agree with what these products carry now

    Raises LeaseHeld or RangeLost, and keeps nothing, when somebody has taken over; DatabaseUnavailable and
    Interrupted as `in_transaction`.
    """
    tally = sum((plan.tally for plan in plans), Tally())
    cursors = {plan.cursor.partition: plan.cursor.to for plan in plans if plan.cursor is not None}
    with lease.traffic() as traffic:
        for transaction in transactions(lease.db, stop=lease.stop):
            with transaction as tx:
                lease.renew(tx)
                for plan in plans:
                    _write(tx, plan, lease.run_id, write_prices)
                for partition, cursor in cursors.items():
                    partitions.move_cursor(tx, lease.run_id, partition, cursor)
                runs.add(tx, lease.run_id, tally)
                if traffic is not None:
                    runs.add_traffic(tx, lease.run_id, traffic)


def _write(tx: sa.Connection, plan: Plan, run_id: int, write_prices: WritePrices) -> None:
    if plan.is_report:
        _note_differences(tx, plan, run_id)
    elif plan.now is not None:
        view, now = plan.store_view, plan.now
        deletions = _tombstone(tx, view, plan.gone, now, run_id) if plan.gone else []
        if plan.gone:
            findings.settle(tx, run_id, view, plan.gone)
        products.insert(tx, view, plan.inserts, run_id)
        products.update(tx, view, plan.updates, run_id)
        _publish(tx, view, [*deletions, *plan.changes], plan.renamed, now, run_id)
        prices.drop_dead(tx, plan.gone)
        write_prices(tx, plan.repriced, now)  # after the feed's lock: other store views are read too
        _settle_rejections(tx, plan, now, run_id)
    _remember_page(tx, plan)
    extra = ((i, None) for i in plan.missing if i not in plan.gone)
    findings.add(tx, run_id, plan.store_view, "extra", extra)


def _settle_rejections(tx: sa.Connection, plan: Plan, now: datetime, run_id: int) -> None:
    """Keep the plan's rejections and notes, and resolve those of products that are copied now."""
    for reject in plan.rejects:
        rejected.keep(tx, reject, now, run_id)
    altered = {reject.product_id for reject in plan.rejects if reject.kind == "altered"}
    rejected.resolve(tx, plan.store_view, plan.settled, now, rejected.NOT_COPIED)
    rejected.resolve(tx, plan.store_view, set(plan.settled) - altered, now)


def _remember_page(tx: sa.Connection, plan: Plan) -> None:
    if plan.seen_again is not None:
        pages.keep_receipt(tx, plan.store_view, plan.seen_again)
    if plan.cache_entry is not None:
        inserted = plan.inserts if plan.is_first else ()
        pages.keep(tx, plan.store_view, plan.cache_entry, is_exact=plan.is_exact, inserted=inserted)


def _note_differences(tx: sa.Connection, plan: Plan, run_id: int) -> None:
    """Keep as findings what verify reports."""
    absent = [(write.product[1], write.product[2]) for write in plan.inserts]
    findings.add(tx, run_id, plan.store_view, "missing", absent)
    different = [(it.product_id, it.difference) for it in plan.products if it.difference]
    findings.add(tx, run_id, plan.store_view, "different", different)


def tombstone(tx: sa.Connection, store_view: str, ids: Collection[int], run_id: int) -> Tally:
    """Tombstone products whose absence is proven, with an entry in the feed for each."""
    now = utc_now(tx)
    deletions = _tombstone(tx, store_view, ids, now, run_id)
    _publish(tx, store_view, deletions, {}, now, run_id)
    prices.drop_dead(tx, [deletion.product_id for deletion in deletions])
    return Tally(deleted=len(deletions))


def _tombstone(
    tx: sa.Connection, store_view: str, ids: Collection[int], now: datetime, run_id: int
) -> list[FeedEntry]:
    gone = products.tombstone(tx, store_view, ids, now, run_id)
    rejected.resolve(tx, store_view, ids, now)
    return [FeedEntry(store_view, i, sku, "delete") for i, sku in gone]


def _publish(
    tx: sa.Connection,
    store_view: str,
    entries: Sequence[FeedEntry],
    renamed: Mapping[int, str],
    now: datetime,
    run_id: int,
) -> None:
    """Append entries to the feed, a SKU given up before it is taken.

    Where one was given up that another product has had for longer, that product has an entry too, an update
    of nothing: a consumer that keys by SKU has just dropped it.
    """
    ordered = changes.in_order(entries, renamed)
    changes.append(tx, ordered, now, run_id)
    if empty := changes.left_empty(ordered, renamed):
        owners = live_with(tx, store_view, empty, exactly=False)
        again = [FeedEntry(store_view, i, sku, "update", "{}") for i, sku in owners.items()]
        changes.append(tx, again, now, run_id)
