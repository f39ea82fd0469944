"""Writing pages whose products have taken SKUs over from others.

A connector deletes product 7 and makes it again as 40, or gives the SKU of one product to another. The page
that brings 40 knows nothing of 7. So the tenant is asked what became of 7 before the page is kept, and both
go into one transaction: in the feed, a SKU is given up before it is taken.

    a page ──> its SKUs, looked up in an index of the copy ──> nobody else has one: written
                   │ another live row has one
                   └──> read that product ──> listed: its new state is written with the page
                             └──> not listed, while the product that took the SKU is: tombstoned with it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from sync.model import RawProduct, Tally
from sync.passes.run import Run
from sync.pipeline import Former, SkuTaken

ROUNDS: Final = 3  # of asking: an owner found may have taken the SKU of yet another product
CHUNK: Final = 200  # ids in one question


def commit(run: Run, work: Callable[[sa.Connection, Former | None], Tally]) -> Tally:
    """As `run.commit`, once what became of the former owners of SKUs is known.

    work    may raise SkuTaken, and then runs again

    A dry run keeps no tombstone that a later page could see, so it looks for none here.
    """
    if run.sync.dry:
        return run.commit(lambda tx: work(tx, None))
    former = Former()
    for _ in range(ROUNDS):
        try:
            return run.commit(lambda tx: work(tx, former))
        except SkuTaken as taken:
            _ask(run, taken, former)
    former.is_all = True
    return run.commit(lambda tx: work(tx, former))


def _ask(run: Run, taken: SkuTaken, former: Former) -> None:
    """Read the former owners; those that are not listed while the witness is are gone.

    The witness is asked for once more at the end, as for any deletion: had it gone meanwhile, one of the
    others could have been counted in its place.
    """
    view, source = taken.store_view, run.sync.source
    former.asked.update((view, i) for i in taken.ids)
    for start in range(0, len(taken.ids), CHUNK):
        ids = taken.ids[start : start + CHUNK]
        absent = set(ids)
        for found in source.by_ids(view, ids):
            if isinstance(found, RawProduct):
                former.living[view, found.product_id] = found
            if found.product_id is not None:
                absent.discard(found.product_id)
        if absent and source.count_of(view, [*absent, taken.witness]) == 1 == source.count_of(
            view, [taken.witness]
        ):
            former.gone.update((view, i) for i in absent)
