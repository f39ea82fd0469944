"""stock: every source item of the tenant is here, a page per transaction; what is proven gone is tombstoned.

    the sources ──> each walked by SKU, several at once ──> a page of rows: new, changed, back
                                       └─> rows here that no page named ──> asked for by name ──> tombstones

A row is not believed to be gone because a walk did not show it. It is asked for by its SKU, in one question
with a row that this run has just read: an answer that lacks both is an outage. A source that shows nothing at
all is believed to be empty only while another one lists a row that was just read; when no source shows
anything, nothing is tombstoned.

A row has its SKU as the product here spells it, wherever the source item spells it otherwise: Commerce takes
the two for the same, and SQL can join them. A row of no product keeps its own.

Of the rows read only a 64-bit hash is remembered, 8 bytes each: Commerce's order of SKUs is not this
database's, so the two cannot be merged page by page.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from sync.commerce.stock import REFUSED, SourceItem, Stock, chunks
from sync.db import skus
from sync.db import stock as stored
from sync.db.dialects import MICRO, utc_now
from sync.db.stock import Level
from sync.errors import AccessDenied, AnswerUnreadable, PageFailed, RequestRefused, SettingsError
from sync.model import Interval, Tally
from sync.passes.prefetch import read_ahead
from sync.passes.run import Run, Summary, Sync, start

AT_ONCE: Final = 20_000  # SKUs held in memory while those that were not shown are looked for
BURIED_AT_ONCE: Final = 1_000
LONGEST_SKU: Final = 255


def stock(sync: Sync, *, allow_mass_delete: bool = False) -> Summary:
    """Read every source, and tombstone what is proven gone.

    allow_mass_delete    believe it when no source shows anything any more
    """
    with start(sync, "stock") as run:
        work = _Work(run, Stock(sync.client, page_size=sync.page_size), allow_mass_delete)
        try:
            work.read_sources()
        except (AccessDenied, SettingsError, RequestRefused) as error:
            sync.source.count("all", Interval(0, 0))  # raises if it is the credential as such
            todo = "" if isinstance(error, SettingsError) else f" To do: {error.fix}"
            run.do_without(f"Stock cannot be read: {error}{todo}")
        else:
            work.bury_gone()
    return run.summary()


class Seen:
    """SKUs that were shown, each as 64 bits: enough for a million with one chance in 10⁷ of a mistake."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._is_sorted = True

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, skus: Iterable[str]) -> None:
        self._hashes.extend(map(hash, skus))
        self._is_sorted = False

    def missing(self, skus: Iterable[str]) -> list[str]:
        """Those of these SKUs that were not shown."""
        if not self._is_sorted:
            self._hashes = array("q", sorted(self._hashes))
            self._is_sorted = True
        return [sku for sku in skus if not self._has(hash(sku))]

    def _has(self, digest: int) -> bool:
        place = bisect_left(self._hashes, digest)
        return place < len(self._hashes) and self._hashes[place] == digest


@dataclass(slots=True)
class _Work:
    """A pass under way.

    seen         what each source has shown
    witnesses    the last row that each source has shown, the latest at the end
    products     by SKU; read once a SKU comes that no product has as it is written
    """

    run: Run
    stock: Stock
    allow_mass_delete: bool
    seen: dict[str, Seen] = field(default_factory=dict)
    witnesses: dict[str, SourceItem] = field(default_factory=dict)
    products: skus.Index | None = None

    def read_sources(self) -> None:
        """Walk every source and write what differs."""
        sources = self.stock.sources()
        self.seen = {code: Seen() for code in sources}
        for code, page in read_ahead(sources, self.stock.walk, self.run.sync.concurrency):
            items = self._as_products_spell(page.items)
            self._write(code, items)
            self.seen[code].add(_kept(item.sku) for item in items)
            self.witnesses.pop(code, None)
            self.witnesses[code] = page.items[-1]
        for sentence in self.stock.unreadable:
            self.run.do_without(
                f"{sentence} They stay as they are, all else was read. To do: look into the tenant's "
                "exception log."
            )

    def _as_products_spell(self, items: Sequence[SourceItem]) -> list[SourceItem]:
        named = [item.sku for item in items]
        others = set(named) - self.run.read(lambda c: skus.with_exact_spelling(c, named))
        if not others:
            return list(items)
        index = self.products = self.products or self.run.read(skus.Index)
        spelled = self.run.read(lambda c: index.spellings(c, others))
        return [item._replace(sku=spelled.get(item.sku, item.sku)) for item in items]

    def _write(self, code: str, items: Sequence[SourceItem]) -> None:
        tally = self.run.commit(lambda tx: _save(tx, code, items))
        self.run.sync.watch.rows_written(len(items), tally)

    # --- what is gone -------------------------------------------------------------------------

    def bury_gone(self) -> None:
        """Tombstone what lives here and was not shown, in sources that are gone too."""
        for code in self.run.read(stored.sources):
            seen = self.seen.get(code, Seen())
            if len(seen):
                self._bury_unseen(code, seen)
            elif self._is_empty(code):
                self._bury_source(code)

    def _bury_unseen(self, code: str, seen: Seen) -> None:
        for some in _living(self.run, code):
            for named in chunks(seen.missing(some), self.stock.most_named):
                self._bury_named(code, named)

    def _bury_named(self, code: str, named: Sequence[str]) -> None:
        """Ask for these SKUs, or for halves of them when that fails; a single one that fails stays."""
        try:
            listed = self.stock.listed(code, named, self.witnesses[code])
        except (*REFUSED, PageFailed) as error:
            self.stock.wait_until_well()
            if len(named) == 1:
                self.run.do_without(f"The stock of {named[0]!r} in source {code} cannot be read: {error}")
                return
            half = len(named) // 2
            self._bury_named(code, named[:half])
            self._bury_named(code, named[half:])
        else:
            self._settle(code, named, self._as_products_spell(listed))

    def _settle(self, code: str, asked: Sequence[str], listed: Sequence[SourceItem]) -> None:
        """Keep what is listed after all, tombstone the rest."""
        gone = set(asked) - {_kept(item.sku) for item in listed}

        def work(tx: sa.Connection) -> Tally:
            return _save(tx, code, listed) + Tally(deleted=stored.tombstone(tx, code, gone, utc_now(tx)))

        self.run.commit(work)

    def _is_empty(self, code: str) -> bool:
        """Whether a source that showed nothing has nothing: as long as another one still lists a row."""
        witness = next(reversed(self.witnesses.values()), None)
        if witness is None:
            if not self.allow_mass_delete:
                self.run.hold_back(
                    f"No source shows anything, and the copy has rows of {code}: nothing was deleted. If "
                    "they are really gone, run `product-sync stock --allow-mass-delete`."
                )
            return self.allow_mass_delete and not self.stock.count(code)
        if count := self.stock.count(code):
            raise AnswerUnreadable(f"the tenant counts {count} rows of source {code} that it does not list.")
        self.stock.listed(witness.source_code, [], witness)
        return not self.stock.count(code)

    def _bury_source(self, code: str) -> None:
        for some in _living(self.run, code):
            for begin in range(0, len(some), BURIED_AT_ONCE):
                self._settle(code, some[begin : begin + BURIED_AT_ONCE], ())


def _living(run: Run, code: str) -> Iterator[Sequence[str]]:
    """The SKUs that live in a source of the copy, some at a time."""
    last = ""
    while some := run.read(lambda c: stored.live_after(c, code, last, AT_ONCE)):  # noqa: B023
        yield some
        last = some[-1]


def _save(tx: sa.Connection, code: str, items: Sequence[SourceItem]) -> Tally:
    """Write what differs; of a row that comes twice the last counts."""
    levels = {_kept(item.sku): _level(item) for item in items}
    known = stored.known(tx, code, levels.keys()) if levels else {}
    differing = {
        sku: level
        for sku, level in levels.items()
        if sku not in known or known[sku].is_deleted or known[sku].level != level
    }
    stored.write(tx, code, differing.items(), utc_now(tx))
    inserted = sum(sku not in known or known[sku].is_deleted for sku in differing)
    return Tally(
        fetched=len(items),
        inserted=inserted,
        updated=len(differing) - inserted,
        unchanged=len(items) - len(differing),
    )


def _kept(sku: str) -> str:
    """A SKU as the database can hold it."""
    return sku.replace("\x00", "\N{SYMBOL FOR NULL}")[:LONGEST_SKU]


def _level(item: SourceItem) -> Level:
    """As the database keeps it."""
    return Level(None if item.quantity is None else item.quantity.quantize(MICRO), item.status)
