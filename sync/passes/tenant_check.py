"""Whether the tenant is the one that a copy was made of, where its name does not tell.

A shop that moved to another host answers with the products that are here. So does a clone of it, a staging
system for example, up to the day it was made. They are told apart by what changed since, and in doubt the
answer is no: to refuse costs one command, to mix two catalogues costs the copy.

    a product here that the tenant stamped before the watermark, but otherwise than here      another shop
    more products there than here that were stamped before the watermark, after the oldest
    of the last changes here                                                                  another shop
    fewer than half of the sample there as it is here                                         in doubt
    a copy that knows its tenant, and was not loaded to the end                               in doubt
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

IDENTITY: Final = ("sku", "created_at")  # of a product, for ever
CONTENT: Final = ("name", "type_id", "attribute_set_id")  # until its stamp moves
Facts = dict[str, object]


def is_copy_of(db: sa.Engine, source: Products, preferred: tuple[str, ...], overlap: timedelta) -> bool:
    """Compare some products here with the tenant's; three requests.

    preferred    store views that the tenant is said to have
    overlap      how far before its watermark a copy may be incomplete
    """
    view = reading(db, lambda c: tenant.view_to_compare(c, preferred))
    if view is None:
        return False
    mark = reading(db, lambda c: runs.watermark(c, view))
    if mark is None and reading(db, tenant.name) is not None:  # loaded in part, or adopted just now
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
    """Whether a product of the tenant can be one of the copy's, edited since or not."""
    if here == there:
        return True
    stamps = str(here.get("updated_at")), str(there.get("updated_at"))
    was_edited = stamps[0] < stamps[1] and (complete_to is None or _stamp(complete_to) <= stamps[1])
    return was_edited and all(here.get(name) == there.get(name) for name in IDENTITY)


def _stamp(moment: datetime) -> str:
    """A time as Commerce writes it; such texts are in the order of time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _oldest(here: dict[int, Facts]) -> datetime | None:
    """The stamp of the tenth of the last changes."""
    stamps = sorted((str(facts.get("updated_at")) for facts in here.values()), reverse=True)[:10]
    try:
        return datetime.fromisoformat(stamps[-1]).replace(tzinfo=UTC)
    except ValueError:
        return None


def _has_more(db: sa.Engine, source: Products, view: str, begin: datetime | None, end: datetime) -> bool:
    """Whether the tenant has products stamped in a window that was read to its end, and that are not here."""
    if begin is None or begin >= end:
        return False
    there = source.count(view, updated_from=begin).total - source.count(view, updated_from=end).total
    here = reading(db, lambda c: tenant.count_stamped(c, view, begin, end))
    return there > here + len(reading(db, lambda c: rejected.not_in_copy(c, view, HIGHEST_ID)))


def adopt(db: sa.Engine, name: str, owner: str, is_dead: Callable[[str], bool]) -> None:
    """Make this the copy of the tenant `name`. Raises LeaseHeld while somebody writes."""
    lease = leases.acquire(db, owner, is_dead)

    def work(tx: sa.Connection) -> None:
        leases.renew(tx, lease)
        tenant.adopt(tx, name, utc_now(tx))

    try:
        in_transaction(db, work)
    finally:
        leases.release(db, lease)
