"""Decide whether a tenant with another name is the one that the copy was made from.

A shop that moved to another host still has the copied products. So does a clone of it, such as a staging
system, up to the day it was made; later changes distinguish the two. In doubt the answer is no: refusing
costs one command, mixing two catalogues costs the copy.

    a product that the tenant stamped before the watermark differs from the copy's             another shop
    the tenant has more products than the copy with stamps between the oldest of the copy's
    last changes and the watermark                                                             another shop
    fewer than half of the sampled products are the same on the tenant                         in doubt
    the copy has a tenant's name but was not loaded completely                                 in doubt
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from sync.commerce.listing import HIGHEST_ID
from sync.commerce.products import Products
from sync.db import leases, rejected, runs, tenant
from sync.db.dialects import utc_now
from sync.db.engine import in_transaction, reading
from sync.mapping import Unmappable, decode
from sync.model import RawProduct

IDENTITY: Final = ("sku", "created_at")  # members that never change
CONTENT: Final = ("name", "type_id", "attribute_set_id")  # members that change only with `updated_at`
Facts = dict[str, object]


def is_copy_of(db: sa.Engine, source: Products, preferred: tuple[str, ...], overlap: timedelta) -> bool:
    """Compare a sample of the copy's products with the tenant's, in three requests.

    preferred    store views that the settings name
    overlap      span before the watermark in which the copy may be incomplete
    """
    view = reading(db, lambda c: tenant.view_to_compare(c, preferred))
    if view is None:
        return False
    mark = reading(db, lambda c: runs.watermark(c, view))
    if mark is None and reading(db, tenant.name) is not None:  # loaded in part, or just adopted
        return False
    here = {i: _facts(text.encode()) for i, text in reading(db, lambda c: tenant.sample(c, view)).items()}
    found = source.by_ids(view, here)
    there = {item.product_id: _facts(item.raw) for item in found if isinstance(item, RawProduct)}
    complete_to = None if mark is None else mark - overlap
    shared = here.keys() & there.keys()
    if not all(_may_be_one(here[i], there[i], complete_to) for i in shared):
        return False
    if 2 * sum(here[i] == there[i] for i in shared) < len(here):
        return False
    return complete_to is None or not _has_more(db, source, view, _oldest(here), complete_to)


def _facts(raw: bytes) -> Facts:
    try:
        document = decode(raw)
    except Unmappable:
        return {}
    return {name: document.get(name) for name in (*IDENTITY, *CONTENT, "updated_at")}


def _may_be_one(here: Facts, there: Facts, complete_to: datetime | None) -> bool:
    """Whether a product of the tenant can be the copy's, edited since or not."""
    if here == there:
        return True
    stamps = str(here.get("updated_at")), str(there.get("updated_at"))
    was_edited = stamps[0] < stamps[1] and (complete_to is None or _stamp(complete_to) <= stamps[1])
    return was_edited and all(here.get(name) == there.get(name) for name in IDENTITY)


def _stamp(moment: datetime) -> str:
    """A time in Commerce's format, whose texts sort by time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _oldest(here: dict[int, Facts]) -> datetime | None:
    """The stamp of the tenth-last change."""
    stamps = sorted((str(facts.get("updated_at")) for facts in here.values()), reverse=True)[:10]
    try:
        return datetime.fromisoformat(stamps[-1]).replace(tzinfo=UTC)
    except ValueError:
        return None


def _has_more(db: sa.Engine, source: Products, view: str, begin: datetime | None, end: datetime) -> bool:
    """Whether the tenant has products, stamped in a completely read window, that the copy lacks."""
    if begin is None or begin >= end:
        return False
    there = source.count(view, updated_from=begin).total - source.count(view, updated_from=end).total
    here = reading(db, lambda c: tenant.count_stamped(c, view, begin, end))
    return there > here + len(reading(db, lambda c: rejected.not_in_copy(c, view, HIGHEST_ID)))


def adopt(db: sa.Engine, name: str, owner: str, is_dead: Callable[[str], bool]) -> None:
    """Make this the copy of the tenant `name`. Raises LeaseHeld while another process writes."""
    lease = leases.acquire(db, owner, is_dead)

    def work(tx: sa.Connection) -> None:
        leases.renew(tx, lease)
        tenant.adopt(tx, name, utc_now(tx))

    try:
        in_transaction(db, work)
    finally:
        leases.release(db, lease)
