"""The main data path: pages in; rows, changes and a cursor out.

Read this file first. `commerce/` makes the pages it consumes, `db/` stores what it
writes; neither knows the other.

    a page ──> look up what the copy has of it ──> compare: a plan ──> apply the plan in one transaction
                                                        │
                     a SKU that another product has here ──> ask what became of that one, and plan it too

Invariant: a page's rows, its changes and the cursor commit together, so a crash at
any instant costs at most the pages in flight and never a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from threading import Semaphore
from typing import Final, NamedTuple

import sqlalchemy as sa

from sync.collation import collated
from sync.commerce.products import Products
from sync.compare import (
    CompareMode,
    Known,
    Mapped,
    compare,
    compare_unreadable,
    mapped_item,
)
from sync.db import audit, copy, pages, prices, products
from sync.db.copy import CopyWriter, PartitionCursor, Plan
from sync.db.dialects import capacity, utc_now
from sync.db.engine import reading as read_from
from sync.db.partitions import Partition
from sync.db.skus import live_with
from sync.model import Interval, Page, RawProduct, Tally, Unreadable, fingerprint
from sync.pricing import ROW_KINDS, Scope, kept_rows, shown_in

ROUNDS: Final = 10  # of asking for former owners: one found may have taken the SKU of yet another product
CHUNK: Final = 200  # ids in one question


@dataclass(slots=True)
class Arrival:
    """A page, or a product that cannot be read, as a reader hands it to the writer.

    partition    the range that it is from; None when it was asked for by name
    mapped       what its products map to, where the reader worked that out
    turn         released when the writer takes that: then the next page may be mapped
    """

    item: Page | Unreadable
    partition: Partition | None = None
    mapped: Mapped = field(default_factory=dict)
    turn: Semaphore | None = None

    @property
    def is_known(self) -> bool:
        """Whether a page came as it was read last: probably nothing is written but how far we are."""
        return isinstance(self.item, Page) and self.item.known is not None

    @property
    def size(self) -> int:
        """Bytes of its products."""
        if isinstance(self.item, Unreadable):
            return 0
        if self.item.receipt is not None:
            return self.item.receipt.body_bytes
        return sum(len(product.raw) for product in self.item.products)

    @property
    def cursor(self) -> PartitionCursor | None:
        """Where the partition stands after this; at its end when this reaches it."""
        if self.partition is None:
            return None
        read_to = self.item.interval.last
        return PartitionCursor(self.partition, None if read_to == self.partition.last else read_to)

    def take_mapped(self) -> Mapped:
        mapped, self.mapped = self.mapped, {}
        if self.turn is not None:
            self.turn.release()
            self.turn = None
        return mapped


class PageOutcome(NamedTuple):
    """What became of an arrival: its tally, ids that it shows to be missing, ids it brought or rejected."""

    arrival: Arrival
    tally: Tally
    missing: Sequence[int]
    arrived: Sequence[int]


def sync_pages(
    groups: Iterable[Sequence[Arrival]], reading: CompareMode, source: Products, lease: CopyWriter
) -> Iterator[PageOutcome]:
    """Make the copy agree with every page, move the cursor with it, and yield what became of each.

    groups    arrivals that are written in one transaction; more than one only of known pages
    """
    for group in groups:
        plans = plan_group(group, reading, source, lease)
        if len(group) > 1 and not all(plan.is_known for plan in plans):
            yield from sync_pages([[one] for one in group], reading, source, lease)
            continue
        if not lease.is_dry:
            copy.apply(plans, lease, write_prices)
        outcomes = [
            PageOutcome(arrival, plan.tally, plan.missing, plan.arrived)
            for arrival, plan in zip(group, plans, strict=True)
        ]
        del plans  # the next group may be long in coming, and rows take ten times the memory of their page
        yield from outcomes


def plan_group(
    group: Sequence[Arrival], reading: CompareMode, source: Products, lease: CopyWriter
) -> list[Plan]:
    """What is to be written of each arrival, as if it came alone."""
    look = partial(_look_up_all, items=[arrival.item for arrival in group], reading=reading)
    plans = []
    for arrival, known in zip(group, read_from(lease.db, look, stop=lease.stop), strict=True):
        mapped = arrival.take_mapped()
        if isinstance(arrival.item, Unreadable):
            plan = compare_unreadable(arrival.item, known, reading)
        else:
            plan = compare(arrival.item, known, reading, mapped)
            if plan.changes and not (reading.report or lease.is_dry):
                plan = _with_owners(plan, arrival.item, reading, source, lease)
        plans.append(replace(plan, cursor=arrival.cursor))
    return plans


# --- what the copy has -----------------------------------------------------------------------


def _look_up_all(
    connection: sa.Connection, items: Sequence[Page | Unreadable], reading: CompareMode
) -> list[Known]:
    return [
        _look_up_unreadable(connection, item, reading)
        if isinstance(item, Unreadable)
        else _look_up(connection, item, reading)
        for item in items
    ]


def _look_up(connection: sa.Connection, page: Page, reading: CompareMode) -> Known:
    """Read all that `compare` needs of the copy, and no more."""
    view, room = page.store_view, capacity(connection)
    if page.known is not None and pages.is_current(connection, view, page.known, audit=reading.audit):
        return Known(is_current=True)
    fingerprints = [(item.product_id, fingerprint(item.raw)) for item in page.products]
    if reading.filtered or not page.products:
        hashes = products.known_of(connection, view, [product_id for product_id, _ in fingerprints])
    else:
        hashes = products.known_in(connection, view, page.interval)
    same = {product_id for product_id, digest in fingerprints if hashes.get(product_id) == (digest, False)}
    damages = {}
    if reading.audit and same:
        rows = {
            it.product_id: mapped_item(view, it.raw, room) for it in page.products if it.product_id in same
        }
        damages = {i: (rows[i], found) for i, found in audit.damages(connection, view, rows).items()}
    differing = [i for i, _ in fingerprints if i not in same or i in damages]
    return Known(
        fingerprints=fingerprints,
        hashes=hashes,
        documents=products.stored(connection, view, [i for i in differing if i in hashes]),
        damages=damages,
        missing=_missing(connection, page, hashes) if reading.complete else (),
        now=utc_now(connection) if differing else None,
        capacity=room,
    )


def _missing(
    connection: sa.Connection, page: Page, hashes: Mapping[int, products.StoredHash]
) -> Sequence[int]:
    """Ids that live here in the page's interval and are not listed there.

    An empty page may speak for a whole catalogue: then ids alone are read.
    """
    if not page.products:
        return products.live_ids(connection, page.store_view, page.interval)
    listed = {item.product_id for item in page.products}
    return [i for i, row in hashes.items() if not row.is_deleted and i not in listed]


def _look_up_unreadable(connection: sa.Connection, item: Unreadable, reading: CompareMode) -> Known:
    """What the copy has next to a product that the tenant cannot send: in its interval is no other."""
    here: Sequence[int] = ()
    if reading.complete and item.product_id is not None:
        here = products.live_ids(connection, item.store_view, item.interval)
    return Known(missing=[i for i in here if i != item.product_id], now=utc_now(connection))


# --- SKUs that were taken over ---------------------------------------------------------------


def _with_owners(plan: Plan, page: Page, reading: CompareMode, source: Products, lease: CopyWriter) -> Plan:
    """The plan, with what became of the products that have, here, a SKU which it gives to another one.

    A connector deletes product 7 and makes it again as 40, or gives the SKU of one product to another. The
    page that brings 40 knows nothing of 7, so the tenant is asked: for 7 alone first. When 7 seems to have
    that SKU still, one of the two answers is out of date, and both are asked for at once. All goes into one
    transaction: in the feed, a SKU is given up before it is taken. What is not known after ROUNDS questions
    leaves the copy until it is read: the counts at the end of a pass show that it is missing.
    """
    listed = {item.product_id for item in page.products}
    answers = dict.fromkeys(listed - plan.not_copied, 0)
    asked = set[int]()
    for number in range(1, ROUNDS + 1):
        clashes = _clashes(plan, answers, reading, lease)
        if not clashes:
            return plan
        ids = {owner for _, owner in clashes} | {taker for taker, owner in clashes if owner in asked}
        asked |= ids
        living, gone = _ask(source, page.store_view, sorted(ids), answers.keys() - set(plan.gone))
        found = _plan_living(page.store_view, living, reading, lease)
        gone |= found.not_copied
        plan = plan.with_newer(ids, gone, found)
        answers.update(dict.fromkeys([*(it.product_id for it in living), *gone], number))
        if ids & listed:
            plan = replace(plan, cache_entry=None)
    clashes = _clashes(plan, answers, reading, lease)
    older = {min(clash, key=lambda i: answers.get(i, -1)) for clash in clashes}
    return plan.with_newer(older, older, Plan(page.store_view))


def _clashes(
    plan: Plan, answers: Mapping[int, int], reading: CompareMode, lease: CopyWriter
) -> list[tuple[int, int]]:
    """(taker, owner): after the plan, the owner still has the SKU that the taker takes.

    answers    by id, the number of the answer that a product was read from. Two of one answer that have one
               SKU have it on the tenant too, and keep it
    """
    taken = plan.taken
    if not taken:
        return []
    is_first_load = plan.store_view in reading.first
    look = partial(live_with, store_view=plan.store_view, skus={*taken.values()}, exactly=is_first_load)
    here = read_from(lease.db, look, stop=lease.stop)
    if not here and len({answers.get(taker) for taker in taken}) == 1:
        return []
    takers: dict[str, list[int]] = {}
    for product_id, sku in taken.items():
        takers.setdefault(collated(sku), []).append(product_id)
    becomes = {change.product_id: change.sku for change in plan.changes}
    after = {i: becomes.get(i, sku) for i, sku in here.items() if i not in plan.gone} | taken
    return [
        (taker, owner)
        for owner, sku in after.items()
        for taker in takers.get(collated(sku), ())
        if taker != owner and answers.get(taker) != answers.get(owner)
    ]


def _ask(
    source: Products, store_view: str, asked: Sequence[int], witnesses: Collection[int]
) -> tuple[list[RawProduct], set[int]]:
    """Read products: those that are listed, and those proven gone or impossible to read.

    witnesses    products that the tenant has just listed

    What is not listed while a witness is, is gone. The witness is asked for once more at the end, as for
    any deletion: had it gone meanwhile, one of the others could have been counted in its place.
    """
    living: list[RawProduct] = []
    gone: set[int] = set()
    for start in range(0, len(asked), CHUNK):
        ids = asked[start : start + CHUNK]
        found = list(source.by_ids(store_view, ids))
        living += [it for it in found if isinstance(it, RawProduct)]
        gone |= {it.product_id for it in found if isinstance(it, Unreadable) and it.product_id is not None}
        absent = set(ids) - {it.product_id for it in found}
        witness = max({*witnesses, *(it.product_id for it in living)} - absent, default=None)
        if absent and witness is not None and _is_alone(source, store_view, witness, absent):
            gone |= absent
    return living, gone


def _is_alone(source: Products, store_view: str, witness: int, absent: Collection[int]) -> bool:
    """Whether the tenant counts the witness and none of the absent products."""
    counted = source.count_of(store_view, [*absent, witness])
    return counted == 1 == source.count_of(store_view, [witness])


def _plan_living(
    store_view: str, living: Sequence[RawProduct], reading: CompareMode, lease: CopyWriter
) -> Plan:
    """What is to be written of products that were asked for, as they are now."""
    page = Page(store_view, Interval(), sorted(living), len(living), None)
    named = CompareMode(filtered=True, retried=reading.retried)
    known = read_from(lease.db, partial(_look_up, page=page, reading=named), stop=lease.stop)
    return compare(page, known, named, {})


# --- prices ----------------------------------------------------------------------------------


def write_prices(tx: sa.Connection, ids: Collection[int], now: datetime) -> None:
    """Make `product_prices` agree with what these products carry now, in every store view.

    Only after `prices` has begun to fill it: a first load leaves that to `prices`.
    """
    scopes = {view: Scope(*at) for view, at in prices.compared(tx).items()} if ids else {}
    if not scopes:
        return
    carried = {view: prices.carried(tx, view, ids) for view in scopes}
    known = prices.known(tx, ids)
    rows: dict[prices.Key, set[prices.PriceRow]] = {
        (i, kind): kept_rows(kind, known.get((i, kind), set()), shown_in(i, scopes, carried))
        for i in ids
        for kind in ROW_KINDS
    }
    prices.replace(tx, known, rows, now)
