"""reconcile and verify: the copy equals the catalogue, or how it does not.

Both read every page without a filter, so each says of its interval which products exist and that no
others do. That finds what `updated_at` hides: silent changes, deletions, and rows edited by hand here.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from sync.db import findings, rejected
from sync.db.dialects import utc_now
from sync.db.findings import FindingKind
from sync.model import Interval
from sync.passes import alike
from sync.passes.backfill import prove
from sync.passes.deletions import settle_all, tombstone_missing
from sync.passes.reference import fetch_on_sight
from sync.passes.run import Run, Summary, Sync, start
from sync.passes.sweep import read_all, retry_rejected, sweep, todo

EXAMPLES = 10


def reconcile(sync: Sync, *, allow_mass_delete: bool = False, resume: bool = False) -> Summary:
    """Read the whole catalogue and make the copy equal to it, deletions and silent changes included.

    resume    continue one that was interrupted. It is then equal to the catalogue as of that one's start:
              nothing but reading again shows silent changes. For a daemon, which is stopped often, and
              reconciles again soon.

    A range that could not be read stops the pass before any tombstone.
    """
    with start(sync, "reconcile", ",".join(sync.store_views), restart=not resume) as run:
        read_all(run, Interval())
        for view in run.sync.store_views:
            with run.apart(view):
                if run.resumed is not None:
                    retry_rejected(run, view)
                tombstone_missing(run, view, allow_mass_delete=allow_mass_delete)
                if not sync.dry:  # its tombstones are not here to be counted
                    settle_all(run, view)
        run.transact(lambda tx: _resolve(tx, run))
        prove(run, run.sync.store_views)
        alike.note(run)
        fetch_on_sight(run)
    return run.summary()


def _resolve(tx: sa.Connection, run: Run) -> None:
    for view in run.sync.store_views:
        rejected.resolve_others(tx, view, run.run_id, utc_now(tx))


# --- verify ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drift:
    """How one store view's copy differs from the catalogue, in one way.

    kind        missing: the copy lacks it; extra: the tenant lacks it; different: both have it
    examples    (product id, what differs or the SKU)
    """

    store_view: str
    kind: FindingKind
    count: int
    examples: list[tuple[int, str | None]]


def verify(sync: Sync) -> tuple[Summary, list[Drift]]:
    """Read the whole catalogue and report how the copy differs; no product is written.

    Always from the beginning: what an interrupted one has read may differ by now.
    """
    with start(sync, "verify", ",".join(sync.store_views), restart=True) as run:
        sweep(run, todo(run, Interval()), complete=True, audit=True, report=True)
        drift = [found for view in run.sync.store_views for found in _drift(run, view)]
    return run.summary(), drift


def _drift(run: Run, view: str) -> list[Drift]:
    kinds: tuple[FindingKind, ...] = ("missing", "extra", "different")
    report = []
    for kind in kinds:
        ids = run.read(lambda c, kind=kind: findings.ids(c, run.run_id, view, kind))  # type: ignore[misc]
        if ids:
            examples = run.read(
                lambda c, kind=kind: findings.examples(c, run.run_id, view, kind, EXAMPLES)  # type: ignore[misc]
            )
            report.append(Drift(view, kind, len(ids), examples))
    return report
