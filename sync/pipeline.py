"""The main data path: pages in; rows, changes and a cursor out.

Read this file first. `commerce/` makes the pages it consumes, `db/` stores what it
writes; neither knows the other.

    a page ──> the same bytes as when it was read last, and the copy still has them: nothing more to do
        │ new
        └──> fingerprint each item ──> same as stored: nothing more to do
                        │ differs
                        └──> decode, map, compare with the stored document ──> insert / update / restore
    ids stored in the page's interval that the page does not list ──> missing
    a SKU that another product has here ──> ask what became of that one, and write it in the same transaction

Invariant: everything here happens in one transaction that the caller opens and that also moves
the cursor, so a crash at any instant costs at most the pages in flight and never a row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from sync import diff, mapping
from sync.db import changes, findings, fitting, pages, prices, products, rejected
from sync.db.changes import Change
from sync.db.dialects import capacity, utc_now
from sync.db.products import Damage, Known, Stored, Write
from sync.db.rejected import Reject, RejectKind
from sync.db.skus import live_with
from sync.mapping import LIST_KEYS, Note, Rows, Unmappable
from sync.model import (
    CHILD_COLUMNS,
    PRODUCT_COLUMNS,
    Capacity,
    ChangeKind,
    Interval,
    KnownPage,
    Page,
    RawProduct,
    Tally,
    Unreadable,
    fingerprint,
)
from sync.pricing import ROW_KINDS, Scope, kept_rows, shown_in

# Where a document differs when its prices do, as `diff` names it.
_PRICED = {
    "price",
    "type_id",
    "custom_attributes",
    *(f"custom_attributes[{name}]" for name in prices.ATTRIBUTES),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a page of this pass may conclude.

    run_id      of the run that reads
    complete    what is stored in the page's interval and not listed is missing there: take note of it
    filtered    the page lists some products of its interval, those stamped in a window or named
    audit       also compare stored rows with their documents, so that hand-made edits are found
    retried     ids with an open row in `rejected_items`: copying one of them resolves it
    """

    run_id: int
    complete: bool = False
    filtered: bool = False
    audit: bool = False
    retried: Collection[int] = ()


Mapped = Mapping[int, Rows | Unmappable]  # by product id
Ahead = Callable[[], Mapped]  # hands over products that are mapped already; asked when they are to be written


@dataclass(slots=True)
class Former:
    """What the tenant says of products whose SKUs others have taken, by store view and id.

    asked     those it was asked about; it may have no clear answer
    living    those it lists, as they are now
    gone      those proven gone
    is_all    it is asked about no more: what is still unknown is left to the rest of the pass
    """

    asked: set[tuple[str, int]] = field(default_factory=set)
    living: dict[tuple[str, int], RawProduct] = field(default_factory=dict)
    gone: set[tuple[str, int]] = field(default_factory=set)
    is_all: bool = False


class SkuTaken(Exception):
    """Raised in a page's transaction: the tenant is to be asked about the former owners of its SKUs first.

    witness    a product that the tenant has just listed
    """

    def __init__(self, store_view: str, ids: Sequence[int], witness: int) -> None:
        super().__init__(f"{len(ids)} SKUs of store view {store_view} were taken over")
        self.store_view = store_view
        self.ids = ids
        self.witness = witness


@dataclass(slots=True)
class Comparison:
    """A page held against the copy: what is to be written so that they agree."""

    fetched: int = 0
    unchanged: int = 0
    inserts: list[Write] = field(default_factory=list)
    updates: list[Write] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    repriced: list[int] = field(default_factory=list)  # ids whose prices may differ from `product_prices`
    renamed: dict[int, str] = field(default_factory=dict)  # id -> the SKU it had
    gone: set[int] = field(default_factory=set)  # whose SKUs the page takes, proven gone
    missing: Sequence[int] = ()
    differing: dict[int, str] = field(default_factory=dict)  # id -> which columns or paths, in words
    is_new: bool = False  # all of it is inserted, and the copy knew nothing of the page's interval
    memo: KnownPage | None = None  # of a page read in full: what it said, should the same bytes come again
    _now: datetime | None = None

    def now(self, tx: sa.Connection) -> datetime:
        """The database's time, which is asked for once a page: all that a page writes bears it."""
        if self._now is None:
            self._now = utc_now(tx)
        return self._now

    @property
    def tally(self) -> Tally:
        """`updated` counts changes; a row that was only stamped anew counts as unchanged."""
        updated = sum(1 for change in self.changes if change.kind == "update")
        restored = sum(1 for change in self.changes if change.kind == "restore")
        inserted = len(self.inserts) + restored
        altered = sum(1 for reject in self.rejects if reject.kind == "altered")
        return Tally(
            fetched=self.fetched,
            inserted=inserted,
            updated=updated,
            unchanged=self.unchanged,
            deleted=len(self.gone),
            rejected=len(self.rejects) - altered,
            altered=altered,
        )

    def add(self, other: Comparison) -> None:
        """Write also what `other` found; its products are not counted as read."""
        self.inserts += other.inserts
        self.updates += other.updates
        self.changes += other.changes
        self.rejects += other.rejects
        self.repriced += other.repriced
        self.renamed |= other.renamed


def map_page(page: Page, room: Capacity) -> Mapped:
    """What each product of a page becomes. Asks no database: whoever read the page can do it ahead.

    room    `capacity` of the copy
    """
    return {item.product_id: _tried(page.store_view, item.raw, room) for item in page.products}


def nothing_ahead() -> Mapped:
    """No product of the page is mapped yet."""
    return {}


def sync_page(
    tx: sa.Connection,
    page: Page,
    reading: Reading,
    ahead: Ahead = nothing_ahead,
    former: Former | None = None,
) -> Comparison:
    """Make the copy agree with a page, in the transaction `tx`; what is missing there becomes a finding.

    former    what is known of products whose SKUs others have taken; None: they are not looked for

    One answer that lacks a product is no proof that it is gone: only those of `former.gone` are tombstoned.
    Raises SkuTaken when the tenant has to be asked about others: nothing may be kept then.
    """
    found = compare(tx, page, reading, ahead)
    if former is not None and found.changes:  # else nothing took a SKU, and a known page stays unread
        _add_former(tx, page, reading, former, found)
    write(tx, page.store_view, found, reading)
    _remember(tx, page, found, audited=reading.audit)
    extra = ((i, None) for i in found.missing if i not in found.gone)
    findings.add(tx, reading.run_id, page.store_view, "extra", extra)
    return found


def _add_former(tx: sa.Connection, page: Page, reading: Reading, former: Former, found: Comparison) -> None:
    """Add what became of the products that have, here, a SKU which the page gives to another one."""
    view, settled = page.store_view, {item.product_id for item in page.products}
    is_first_load = not (reading.complete or reading.filtered)
    entries = found.changes
    while skus := [it.sku for it in entries if it.kind != "update" or it.product_id in found.renamed]:
        here = live_with(tx, view, skus, exactly=is_first_load)
        owners = sorted(here.keys() - settled)
        if not owners:
            return
        unknown = [i for i in owners if (view, i) not in former.asked]
        if unknown and not former.is_all:
            raise SkuTaken(view, unknown, witness=max(entry.product_id for entry in entries))
        settled.update(owners)
        found.gone.update(i for i in owners if (view, i) in former.gone)
        living = [former.living[view, i] for i in owners if (view, i) in former.living]
        others = Page(view, Interval(), living, len(living), None)
        more = compare(tx, others, Reading(reading.run_id, filtered=True), nothing_ahead)
        found.add(more)
        entries = more.changes


def verify_page(tx: sa.Connection, page: Page, reading: Reading, ahead: Ahead = nothing_ahead) -> Comparison:
    """Note how the copy differs from a page, and change nothing."""
    found = compare(tx, page, reading, ahead)
    view = page.store_view
    findings.add(tx, reading.run_id, view, "extra", ((i, None) for i in found.missing))
    findings.add(
        tx,
        reading.run_id,
        view,
        "missing",
        ((int(str(w.product[1])), str(w.product[2])) for w in found.inserts),
    )
    findings.add(tx, reading.run_id, view, "different", found.differing.items())
    return found


def reject_unreadable(tx: sa.Connection, item: Unreadable, reading: Reading) -> Tally:
    """Keep note of a product that the tenant cannot send."""
    reject = Reject(item.store_view, item.product_id, item.interval, "unreadable", item.reason)
    rejected.keep(tx, reject, utc_now(tx), reading.run_id)
    return verify_unreadable(tx, item, reading)


def verify_unreadable(tx: sa.Connection, item: Unreadable, reading: Reading) -> Tally:
    """Note what the copy has next to a product that the tenant cannot send: in its interval is no other."""
    if reading.complete and item.product_id is not None:
        here = products.live_ids(tx, item.store_view, item.interval)
        extra = ((i, None) for i in here if i != item.product_id)
        findings.add(tx, reading.run_id, item.store_view, "extra", extra)
    return Tally(rejected=1)


def tombstone(tx: sa.Connection, store_view: str, ids: Collection[int], run_id: int) -> Tally:
    """Tombstone products whose absence is proven, with an entry in the feed for each."""
    now = utc_now(tx)
    deletions = _tombstone(tx, store_view, ids, now, run_id)
    _publish(tx, store_view, deletions, {}, now, run_id)
    prices.drop_dead(tx, [deletion.product_id for deletion in deletions])
    return Tally(deleted=len(deletions))


def _tombstone(
    tx: sa.Connection, store_view: str, ids: Collection[int], now: datetime, run_id: int
) -> list[Change]:
    gone = products.tombstone(tx, store_view, ids, now, run_id)
    rejected.resolve(tx, store_view, ids, now)
    return [Change(store_view, i, sku, "delete") for i, sku in gone]


def _publish(
    tx: sa.Connection,
    store_view: str,
    entries: Sequence[Change],
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
        again = [Change(store_view, i, sku, "update", "{}") for i, sku in owners.items()]
        changes.append(tx, again, now, run_id)


def sku_of(item: RawProduct) -> str:
    """The SKU of an item as sent; empty when it has none."""
    try:
        return str(mapping.decode(item.raw).get("sku", ""))
    except Unmappable:
        return ""


# --- comparing -------------------------------------------------------------------------------


def compare(tx: sa.Connection, page: Page, reading: Reading, ahead: Ahead) -> Comparison:
    """Hold a page against the copy; reads only."""
    if page.known is not None and _agrees(tx, page.store_view, page.known, audit=reading.audit):
        return Comparison(fetched=len(page.products), unchanged=len(page.products))
    known = _known(tx, page, reading)
    fingerprints = [(item.product_id, fingerprint(item.raw)) for item in page.products]
    same: list[RawProduct] = []
    touched: list[tuple[RawProduct, str]] = []
    for item, (_, digest) in zip(page.products, fingerprints, strict=True):
        if known.get(item.product_id) == (digest, False):
            same.append(item)
        else:
            touched.append((item, digest))
    found = Comparison(fetched=len(page.products), unchanged=len(same))
    if reading.complete:
        found.missing = _missing(tx, page, known)
    if touched:
        _compare_touched(tx, page.store_view, touched, known, ahead(), found)
    found.is_new = not known and len(found.inserts) == len(page.products)
    if reading.audit and same:
        _audit(tx, page, same, found)
    if page.answer_hash is not None and page.products:
        copy_hash = pages.copy_hash(fingerprints)
        found.memo = KnownPage(
            page.interval, len(page.products), page.answer_hash, copy_hash, receipt=page.receipt
        )
    return found


def _agrees(tx: sa.Connection, store_view: str, page: KnownPage, *, audit: bool) -> bool:
    """Whether the copy holds what a known page lists, and nothing else of its interval.

    audit    and whether its rows are those that were last compared with their documents
    """
    if audit:
        return page.rows_hash is not None and page.rows_hash == pages.hash_of_rows(
            tx, store_view, page.interval
        )
    return pages.hash_of_copy(tx, store_view, page.interval) == page.copy_hash


def _remember(tx: sa.Connection, page: Page, found: Comparison, *, audited: bool) -> None:
    """Keep note of a page that was read in full, unless what is kept says as much already.

    Where every row was just made from its document, or compared with it, a hash of the rows stands for
    that next time.

    audited    every row that stayed was compared with its document
    """
    if page.known is not None and page.receipt not in (None, page.known.receipt):
        pages.keep_receipt(tx, page.store_view, page.known, page.receipt)
    if found.memo is None:
        return
    is_clean = audited and not (found.updates or found.inserts or found.rejects or found.missing)
    is_exact = found.is_new or is_clean
    if not is_exact and page.known is not None:
        return
    rows_hash = _hash_of_rows(tx, page, found) if is_exact else None
    pages.keep(tx, page.store_view, replace(found.memo, rows_hash=rows_hash))


def _hash_of_rows(tx: sa.Connection, page: Page, found: Comparison) -> str:
    if found.is_new and (made := pages.hash_of_new_rows(tx, found.inserts)):
        return made
    return pages.hash_of_rows(tx, page.store_view, page.interval)


def _known(tx: sa.Connection, page: Page, reading: Reading) -> dict[int, Known]:
    if reading.filtered or not page.products:
        return products.known_of(tx, page.store_view, [item.product_id for item in page.products])
    return products.known_in(tx, page.store_view, page.interval)


def _missing(tx: sa.Connection, page: Page, known: Mapping[int, Known]) -> Sequence[int]:
    """Ids that live here in the page's interval and are not listed there.

    An empty page may speak for a whole catalogue: then ids alone are read.
    """
    if not page.products:
        return products.live_ids(tx, page.store_view, page.interval)
    listed = {item.product_id for item in page.products}
    return [i for i, row in known.items() if not row.is_deleted and i not in listed]


def _compare_touched(
    tx: sa.Connection,
    store_view: str,
    touched: Iterable[tuple[RawProduct, str]],
    known: Mapping[int, Known],
    mapped: Mapped,
    found: Comparison,
) -> None:
    now, room = found.now(tx), capacity(tx)
    before = products.stored(
        tx, store_view, [item.product_id for item, _ in touched if item.product_id in known]
    )
    for item, digest in touched:
        rows = mapped.get(item.product_id) or _tried(store_view, item.raw, room)
        if isinstance(rows, Unmappable):
            payload = item.raw.decode("utf-8", "replace").replace("\x00", "\N{SYMBOL FOR NULL}")
            found.rejects.append(_reject(store_view, item, "unmappable", str(rows), payload))
            continue
        _note(store_view, item, rows, found)
        stored = before.get(item.product_id)
        if stored is None:
            _insert(rows, digest, now, found)
        else:
            was = known[item.product_id]
            _update(rows, digest, stored, was_deleted=was.is_deleted, now=now, room=room, found=found)


def _reject(
    store_view: str, item: RawProduct, kind: RejectKind, reason: str, payload: str | None = None
) -> Reject:
    itself = Interval(item.product_id - 1, item.product_id)
    return Reject(store_view, item.product_id, itself, kind, reason, payload)


def _note(store_view: str, item: RawProduct, rows: Rows, found: Comparison) -> None:
    """Keep in mind which values of a product that is copied were replaced."""
    if rows.notes:
        reason = "; ".join(f"{note.path}: {note.reason}" for note in rows.notes)
        found.rejects.append(_reject(store_view, item, "altered", reason))


def _tried(store_view: str, raw: bytes, room: Capacity) -> Rows | Unmappable:
    try:
        return _mapped(store_view, raw, room)
    except Unmappable as error:
        return error


def _mapped(store_view: str, raw: bytes, room: Capacity) -> Rows:
    """Map an item, with marks in place of what the database cannot take. Raises Unmappable."""
    notes: list[Note] = []
    if not fitting.fits(raw, room.document_bytes):
        raw = _shortened(raw, room.document_bytes or 0, notes)
    rows = mapping.map_product(store_view, raw)
    if room.digits is not None:
        amounts = fitting.inexact({"products": [rows.product], **rows.children}, room.digits)
        notes += [Note(column, f"the database keeps {room.digits} digits of {it}") for column, it in amounts]
    rows.notes.extend(notes)
    return rows


def _shortened(raw: bytes, room: int, notes: list[Note]) -> bytes:
    shorter = fitting.shorten(mapping.decode(raw), room)
    if shorter is None:
        raise Unmappable(f"document: {len(raw):,} bytes, of which the database takes {room:,} in a row")
    notes += [Note(path, f"left out: a row takes {room:,} bytes") for path in shorter.left_out]
    return shorter.text


def _insert(rows: Rows, digest: str, now: datetime, found: Comparison) -> None:
    found.inserts.append(Write(rows.product, rows.children, digest, now, now))
    found.changes.append(_change(rows, "insert"))
    found.repriced.append(int(str(rows.product[1])))


def _update(
    rows: Rows,
    digest: str,
    stored: Stored,
    *,
    was_deleted: bool,
    now: datetime,
    room: Capacity,
    found: Comparison,
) -> None:
    """A product whose bytes differ from what is stored: changed, stamped anew, or back from the dead."""
    old, old_rows = _as_stored(rows, stored)
    paths = diff.diff(old, mapping.decode(_raw(rows.document)), LIST_KEYS)
    is_change = was_deleted or not diff.is_restamp(paths)
    children = {
        table: new
        for table, new in rows.children.items()
        if was_deleted or old_rows is None or old_rows.children[table] != new
    }
    changed_at = now if is_change else stored.changed_at
    found.updates.append(Write(rows.product, children, digest, stored.first_seen_at, changed_at))
    product_id = rows.product[1]
    if was_deleted or old_rows is None or _PRICED & paths.keys():
        found.repriced.append(product_id)
    if is_change:
        kind: ChangeKind = "restore" if was_deleted else "update"
        found.changes.append(_change(rows, kind, _fields(paths, room) if paths else None))
        if old_rows is not None and old_rows.product[2] != rows.product[2]:
            found.renamed[product_id] = old_rows.product[2]
    else:
        found.unchanged += 1
    found.differing[product_id] = ", ".join(sorted(paths)) or "content_hash"


def _note_renamed(paths: Mapping[str, Any], product_id: int, found: Comparison) -> None:
    former = paths.get("sku", {}).get("old")
    if isinstance(former, str):
        found.renamed[product_id] = former


def _as_stored(rows: Rows, stored: Stored) -> tuple[dict[str, object], Rows | None]:
    """The stored document and its rows; nothing to compare with when it is no longer a document."""
    raw = _raw(stored.document)
    try:
        return mapping.decode(raw), mapping.map_product(str(rows.product[0]), raw)
    except Unmappable:
        return {}, None


def _raw(document: str) -> bytes:
    return document.encode("utf-8", "surrogatepass")


def _change(rows: Rows, kind: ChangeKind, fields: str | None = None) -> Change:
    store_view, product_id, sku = rows.product[:3]
    return Change(store_view, product_id, sku, kind, fields)


def _fields(paths: Mapping[str, Any], room: Capacity) -> str:
    """What an entry of the feed holds; marks stand for values that together are too long for a row."""
    text = diff.encode(paths)
    if fitting.fits(text, room.row_bytes):
        return text
    shorter = fitting.shorten(paths, room.row_bytes or 0)
    return shorter.text.decode() if shorter is not None else diff.encode({"document": {}})


# --- auditing --------------------------------------------------------------------------------


class _Expected(NamedTuple):
    rows: dict[int, Rows]
    by_table: dict[str, list[tuple[Any, ...]]]


def _audit(tx: sa.Connection, page: Page, items: Iterable[RawProduct], found: Comparison) -> None:
    """Find products whose bytes are as stored while the rows made from them are not, and mend them."""
    room = capacity(tx)
    expected = _expected(page.store_view, items, room)
    span = Interval(min(expected.rows) - 1, max(expected.rows))
    damages = products.audit(tx, page.store_view, span, expected.by_table, expected.rows.keys())
    if not damages:
        return
    now = found.now(tx)
    stored = products.stored(tx, page.store_view, damages.keys())
    by_id = {item.product_id: item for item in page.products}
    for product_id, damage in damages.items():
        item, rows = by_id[product_id], expected.rows[product_id]
        _note(page.store_view, item, rows, found)
        first_seen_at = stored[product_id].first_seen_at
        mended = Write(rows.product, rows.children, fingerprint(item.raw), first_seen_at, now)
        found.updates.append(mended)
        found.changes.append(_change(rows, "update", _fields(_repairs(damage), room)))
        _note_renamed(_repairs(damage), product_id, found)
        found.differing[product_id] = ", ".join(sorted(_repairs(damage)))
        found.repriced.append(product_id)
        found.unchanged -= 1


def _expected(store_view: str, items: Iterable[RawProduct], room: Capacity) -> _Expected:
    rows = {item.product_id: _mapped(store_view, item.raw, room) for item in items}
    by_table: dict[str, list[tuple[Any, ...]]] = {"products": [r.product for r in rows.values()]}
    for table in CHILD_COLUMNS:
        by_table[table] = [row for r in rows.values() for row in r.children[table]]
    return _Expected(rows, by_table)


def _repairs(damage: Iterable[Damage]) -> dict[str, dict[str, Any]]:
    """The feed's entry for a repair: the columns, or the table, that somebody had edited."""
    paths: dict[str, dict[str, Any]] = {}
    for table, stored, expected in damage:
        if table == "products" and stored and expected:
            for column, old, new in zip(PRODUCT_COLUMNS, stored[0], expected[0], strict=True):
                if old != new and column != "document":
                    paths[column] = {"old": _plain(old), "new": _plain(new)}
            if not paths:
                paths["document"] = {}
        else:
            paths[table] = {
                "old": [_plain(row[2:]) for row in stored],
                "new": [_plain(row[2:]) for row in expected],
            }
    return paths


def _plain(value: Any) -> Any:
    """A column's value as JSON can hold it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, Decimal, type(None))) else str(value)


# --- writing ---------------------------------------------------------------------------------


def write(tx: sa.Connection, store_view: str, found: Comparison, reading: Reading) -> None:
    """Write what a comparison found, with its entries in the feed, its rejections and its notes."""
    if not (found.inserts or found.updates or found.rejects):
        return
    now = found.now(tx)
    deletions: list[Change] = []
    if found.gone:
        deletions = _tombstone(tx, store_view, found.gone, now, reading.run_id)
        findings.settle(tx, reading.run_id, store_view, found.gone)
    products.insert(tx, store_view, found.inserts, reading.run_id)
    products.update(tx, store_view, found.updates, reading.run_id)
    _publish(tx, store_view, [*deletions, *found.changes], found.renamed, now, reading.run_id)
    prices.drop_dead(tx, found.gone)
    _write_prices(tx, found.repriced, now)  # after the feed's lock: pages of other store views are read too
    for reject in found.rejects:
        rejected.keep(tx, reject, now, reading.run_id)
    updated = {write.product[1] for write in found.updates}
    inserted = {write.product[1] for write in found.inserts}
    written = updated | (inserted & set(reading.retried))
    altered = {reject.product_id for reject in found.rejects if reject.kind == "altered"}
    rejected.resolve(tx, store_view, written, now, rejected.NOT_COPIED)
    rejected.resolve(tx, store_view, written - altered, now)


def _write_prices(tx: sa.Connection, ids: Collection[int], now: datetime) -> None:
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
