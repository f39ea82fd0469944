"""What is to be written so that the copy agrees with a page. Pure: no database, no tenant.

a page ──> the same bytes as when it was read last, and the copy still has them: nothing more to do
    │ new
    └──> fingerprint each item ──> same as stored: nothing more to do
                    │ differs
                    └──> decode, map, compare with the stored document ──> insert / update / restore
ids stored in the page's interval that the page does not list ──> missing
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from sync import diff, mapping
from sync.db import fitting, pages
from sync.db.audit import Damage, repairs
from sync.db.changes import FeedEntry
from sync.db.copy import Plan, ProductPlan
from sync.db.prices import ATTRIBUTES
from sync.db.products import Stored, StoredHash, Write
from sync.db.rejected import Reject, RejectKind
from sync.mapping import LIST_KEYS, Note, Rows, Unmappable
from sync.model import Capacity, ChangeKind, Interval, KnownPage, Page, RawProduct, Unreadable

# Where a document differs when its prices do, as `diff` names it.
_PRICED: Final = {
    "price",
    "type_id",
    "custom_attributes",
    *(f"custom_attributes[{name}]" for name in ATTRIBUTES),
}
Mapped = Mapping[int, Rows | Unmappable]  # by product id


@dataclass(frozen=True, slots=True)
class CompareMode:
    """What the pages of a pass may conclude.

    complete    what is stored in the page's interval and not listed is missing there
    filtered    a page lists some products of its interval, those stamped in a window or named
    audit       stored rows are compared with their documents too, so that hand-made edits are found
    report      the copy stays as it is: its differences are noted
    retried     by store view, ids with an open row in `rejected_items`: copying one of them resolves it
    first       store views that are loaded for the first time: former owners of their SKUs are looked up as
                spelled, which an index finds; elsewhere as Commerce compares SKUs
    """

    complete: bool = False
    filtered: bool = False
    audit: bool = False
    report: bool = False
    retried: Mapping[str, Collection[int]] = field(default_factory=dict)
    first: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What the copy has of a page, as it was looked up.

    is_current      the page came in bytes that are known, and the copy agrees with them: the rest is not
                    looked up
    fingerprints    (product id, fingerprint) of the page's products
    hashes          by id, of all products in the page's interval; of those it lists when it is filtered
    documents       by id, of products that came in other bytes than are stored, or are damaged
    damages         by id, rows that are not what their document says, and those that should be there
    missing         ids that live in the page's interval and are not listed
    now             the database's time; None when nothing is to be written
    """

    is_current: bool = False
    fingerprints: Sequence[tuple[int, str]] = ()
    hashes: Mapping[int, StoredHash] = field(default_factory=dict)
    documents: Mapping[int, Stored] = field(default_factory=dict)
    damages: Mapping[int, tuple[Rows, Sequence[Damage]]] = field(default_factory=dict)
    missing: Sequence[int] = ()
    now: datetime | None = None
    capacity: Capacity = Capacity()  # noqa: RUF009 - frozen

    def has(self, product_id: int, digest: str) -> bool:
        """Whether a product lives here as it came, by its fingerprint."""
        return self.hashes.get(product_id) == (digest, False)


def compare(page: Page, known: Known, reading: CompareMode, mapped: Mapped) -> Plan:
    """Plan what is to be written so that the copy agrees with a page.

    mapped    what some of its products map to, where that was worked out ahead
    """
    seen_again = _seen_again(page)
    if known.is_current:
        count = len(page.products)
        return Plan(page.store_view, count, count, seen_again=seen_again, is_report=reading.report)
    plans = [
        _product(page.store_view, item, digest, known, mapped)
        for item, (_, digest) in zip(page.products, known.fingerprints, strict=True)
        if not known.has(item.product_id, digest)
    ]
    restamped = sum(1 for it in plans if it.write is not None and it.change is None)
    same = len(page.products) - len(plans) - len(known.damages)
    plans += [_repaired(page, *found, known) for found in known.damages.items()]
    is_first = not known.hashes and sum(it.is_new for it in plans) == len(page.products)
    is_exact = is_first or (reading.audit and not (plans or known.missing))
    retried = reading.retried.get(page.store_view, ())
    return Plan(
        store_view=page.store_view,
        fetched=len(page.products),
        unchanged=same + restamped,
        now=known.now if plans else None,
        products=plans,
        settled={it.product_id for it in plans if it.write and (not it.is_new or it.product_id in retried)},
        missing=known.missing,
        cache_entry=_cache_entry(page, known) if is_exact or page.known is None else None,
        is_exact=is_exact,
        is_first=is_first,
        seen_again=seen_again,
        is_report=reading.report,
    )


def compare_unreadable(item: Unreadable, known: Known, reading: CompareMode) -> Plan:
    """Plan to keep note of a product that the tenant cannot send, and of what else the copy has there."""
    return Plan(
        store_view=item.store_view,
        now=known.now,
        unreadable=Reject(item.store_view, item.product_id, item.interval, "unreadable", item.reason),
        missing=known.missing,
        is_report=reading.report,
    )


def _seen_again(page: Page) -> KnownPage | None:
    """The known page with the answer that it came in now, where it is not the one remembered."""
    if page.known is None or page.receipt in (None, page.known.receipt):
        return None
    return replace(page.known, receipt=page.receipt)


def _cache_entry(page: Page, known: Known) -> KnownPage | None:
    """What to remember of a page that was read in full."""
    if page.answer_hash is None or not page.products:
        return None
    copy_hash = pages.copy_hash(known.fingerprints)
    return KnownPage(page.interval, len(page.products), page.answer_hash, copy_hash, receipt=page.receipt)


# --- one product -----------------------------------------------------------------------------


def _product(store_view: str, item: RawProduct, digest: str, known: Known, mapped: Mapped) -> ProductPlan:
    """Plan a product whose bytes differ from what is stored: new, changed, stamped anew, or restored."""
    rows = mapped.get(item.product_id) or tried(store_view, item.raw, known.capacity)
    if isinstance(rows, Unmappable):
        payload = item.raw.decode("utf-8", "replace").replace("\x00", "\N{SYMBOL FOR NULL}")
        reject = _reject(store_view, item.product_id, "unmappable", str(rows), payload)
        return ProductPlan(item.product_id, reject=reject)
    stored = known.documents.get(item.product_id)
    if stored is not None:
        was_deleted = known.hashes[item.product_id].is_deleted
        return _update(item, rows, digest, stored, known, was_deleted=was_deleted)
    return ProductPlan(
        item.product_id,
        Write(rows.product, rows.children, digest, _time(known), _time(known)),
        is_new=True,
        change=_change(rows, "insert"),
        reject=_altered(store_view, item.product_id, rows),
        reprice=True,
    )


def _update(
    item: RawProduct, rows: Rows, digest: str, stored: Stored, known: Known, *, was_deleted: bool
) -> ProductPlan:
    store_view = rows.product[0]
    raw = _raw(stored.document)
    children, old_sku = _compared_rows(rows, raw)
    paths = diff.diff(_decoded(raw), _decoded(_raw(rows.document)), LIST_KEYS)
    del raw  # it may have megabytes, of which the feed's entry takes as many again
    is_change = was_deleted or not diff.is_restamp(paths)
    changed_at = _time(known) if is_change else stored.changed_at
    change = None
    if is_change:
        kind: ChangeKind = "restore" if was_deleted else "update"
        change = _change(rows, kind, _fields(paths, known.capacity) if paths else None)
    former_sku = old_sku if is_change and old_sku is not None else rows.product[2]
    return ProductPlan(
        item.product_id,
        Write(
            rows.product, rows.children if was_deleted else children, digest, stored.first_seen_at, changed_at
        ),
        change=change,
        reject=_altered(store_view, item.product_id, rows),
        former_sku=former_sku if former_sku != rows.product[2] else None,
        reprice=was_deleted or old_sku is None or not _PRICED.isdisjoint(paths),
        difference=", ".join(sorted(paths)) or "content_hash",
    )


def _repaired(page: Page, product_id: int, found: tuple[Rows, Sequence[Damage]], known: Known) -> ProductPlan:
    """Plan a product whose bytes are as stored while the rows made from them are not."""
    rows, damage = found
    paths = repairs(damage)
    digest = known.hashes[product_id].content_hash
    former_sku = paths.get("sku", {}).get("old")
    return ProductPlan(
        product_id,
        Write(rows.product, rows.children, digest, known.documents[product_id].first_seen_at, _time(known)),
        change=_change(rows, "update", _fields(paths, known.capacity)),
        reject=_altered(page.store_view, product_id, rows),
        former_sku=former_sku if isinstance(former_sku, str) else None,
        reprice=True,
        difference=", ".join(sorted(paths)),
    )


def _time(known: Known) -> datetime:
    if known.now is None:
        raise ValueError("the time of a change was not looked up")
    return known.now


def _reject(
    store_view: str, product_id: int, kind: RejectKind, reason: str, payload: str | None = None
) -> Reject:
    itself = Interval(product_id - 1, product_id)
    return Reject(store_view, product_id, itself, kind, reason, payload)


def _altered(store_view: str, product_id: int, rows: Rows) -> Reject | None:
    """Which values of a product that is copied were replaced."""
    if not rows.notes:
        return None
    reason = "; ".join(f"{note.path}: {note.reason}" for note in rows.notes)
    return _reject(store_view, product_id, "altered", reason)


def _compared_rows(rows: Rows, raw: bytes) -> tuple[dict[str, list[mapping.Row]], str | None]:
    """The child tables in which a product differs from the stored document, and the SKU of that.

    Every table and None when it is no longer a document.
    """
    try:
        old = mapping.map_product(str(rows.product[0]), raw)
    except Unmappable:
        return rows.children, None
    differing = {table: new for table, new in rows.children.items() if old.children[table] != new}
    return differing, str(old.product[2])


def _decoded(raw: bytes) -> dict[str, object]:
    """A document; an empty one when it is no longer a document."""
    try:
        return mapping.decode(raw)
    except Unmappable:
        return {}


def _raw(document: str) -> bytes:
    return document.encode("utf-8", "surrogatepass")


def _change(rows: Rows, kind: ChangeKind, fields: str | None = None) -> FeedEntry:
    store_view, product_id, sku = rows.product[:3]
    return FeedEntry(store_view, product_id, sku, kind, fields)


def _fields(paths: Mapping[str, Any], capacity: Capacity) -> str:
    """What an entry of the feed holds; marks stand for values that together are too long for a row."""
    text = diff.encode(paths)
    if fitting.fits(text, capacity.row_bytes):
        return text
    shorter = fitting.shorten(paths, capacity.row_bytes or 0)
    return shorter.text.decode() if shorter is not None else diff.encode({"document": {}})


# --- mapping ---------------------------------------------------------------------------------


def map_page(page: Page, capacity: Capacity) -> Mapped:
    """What each product of a page becomes; a reader can work it out before the writer needs it."""
    return map_items(page.store_view, page.products, capacity)


def map_items(store_view: str, items: Iterable[RawProduct], capacity: Capacity) -> Mapped:
    return {item.product_id: tried(store_view, item.raw, capacity) for item in items}


def tried(store_view: str, raw: bytes, capacity: Capacity) -> Rows | Unmappable:
    """Map an item, or say why that cannot be done."""
    try:
        return mapped_item(store_view, raw, capacity)
    except Unmappable as error:
        return error


def mapped_item(store_view: str, raw: bytes, capacity: Capacity) -> Rows:
    """Map an item, with marks in place of what the database cannot take. Raises Unmappable."""
    notes: list[Note] = []
    if not fitting.fits(raw, capacity.document_bytes):
        raw = _shortened(raw, capacity.document_bytes or 0, notes)
    rows = mapping.map_product(store_view, raw)
    if capacity.digits is not None:
        amounts = fitting.inexact({"products": [rows.product], **rows.children}, capacity.digits)
        notes += [Note(path, f"the database keeps {capacity.digits} digits of {it}") for path, it in amounts]
    rows.notes.extend(notes)
    return rows


def _shortened(raw: bytes, room: int, notes: list[Note]) -> bytes:
    shorter = fitting.shorten(mapping.decode(raw), room)
    if shorter is None:
        raise Unmappable(f"document: {len(raw):,} bytes, of which the database takes {room:,} in a row")
    notes += [Note(path, f"left out: a row takes {room:,} bytes") for path in shorter.left_out]
    return shorter.text


def sku_of(item: RawProduct) -> str:
    """The SKU of an item as sent; empty when it has none."""
    try:
        return str(mapping.decode(item.raw).get("sku", ""))
    except Unmappable:
        return ""
