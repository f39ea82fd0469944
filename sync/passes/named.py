"""Products by name: read just these, whatever their stamps; those proven gone are tombstoned."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sync.collation import collated
from sync.compare import CompareMode, sku_of
from sync.db import products
from sync.errors import RequestBlocked, RequestRefused, SettingsError
from sync.model import Interval, Page, RawProduct, Unreadable
from sync.passes.deletions import tombstone_missing
from sync.passes.run import Run
from sync.pipeline import Arrival, sync_pages


def read_named(
    run: Run,
    view: str,
    ids: Collection[int],
    skus: Collection[str] = (),
    *,
    allow_mass_delete: bool = True,
) -> set[str]:
    """Read these products of a store view; returns the names that are unknown in it."""
    source = run.sync.source
    here = run.read(lambda c: products.named(c, view, ids, skus))
    by_sku, blocked = _by_skus(run, view, sorted(skus))
    blocked_ids = [i for i, sku in here.items() if _is_among(sku, blocked)]
    read = [*source.by_ids(view, {*ids, *blocked_ids}), *by_sku]
    found = {item.product_id: item for item in read if isinstance(item, RawProduct)}
    page = Page(view, Interval(), tuple(found[i] for i in sorted(found)), len(found), None)
    broken = [item for item in read if isinstance(item, Unreadable)]
    _write(run, [page, *broken])
    failed = {item.product_id for item in broken}
    missing = [i for i in here if i not in found and i not in failed]
    tombstone_missing(run, view, missing, allow_mass_delete=allow_mass_delete)
    unknown_ids = set(ids) - found.keys() - here.keys() - failed
    named = [*here.values(), *(sku_of(item) for item in found.values())]
    unknown = [sku for sku in skus if not _is_among(sku, named) and sku not in blocked]
    if len(by_sku) and unknown:  # found under a name that Commerce alone takes for the same
        unknown = [sku for sku in unknown if not any(True for _ in source.by_skus(view, [sku]))]
    return {*map(str, unknown_ids), *unknown}


def _is_among(sku: str, others: Collection[str]) -> bool:
    return collated(sku) in map(collated, others)


def _by_skus(run: Run, view: str, skus: Sequence[str]) -> tuple[list[RawProduct | Unreadable], list[str]]:
    """The products with these SKUs, and the SKUs that something in between does not let us ask for."""
    try:
        return list(run.sync.source.by_skus(view, skus)), []
    except (RequestBlocked, RequestRefused, SettingsError) as error:
        run.sync.source.count(view, Interval(0, 0))  # raises when it is no matter of SKUs
        if len(skus) == 1:
            run.do_without(f"Product {skus[0]} cannot be asked for by its SKU: {error.advice}")
            return [], list(skus)
    half = len(skus) // 2
    (some, blocked), (others, more) = _by_skus(run, view, skus[:half]), _by_skus(run, view, skus[half:])
    return some + others, blocked + more


def _write(run: Run, items: Sequence[Page | Unreadable]) -> None:
    reading = CompareMode(filtered=True, retried=run.retried)
    for outcome in sync_pages([[Arrival(item)] for item in items], reading, run.sync.source, run.writer):
        if isinstance(outcome.arrival.item, Unreadable):
            run.sync.watch.product_rejected(outcome.arrival.item)
        run.note(outcome)
