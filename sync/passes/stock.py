"""The stock pass: copy every source item, a page per transaction, and tombstone those proven gone.

    sources ──> each paged by SKU, several at once ──> pages of rows: new, changed, restored
                                  └─> rows of the copy that no page listed ──> asked for by SKU ──> tombstones

A row is not deleted merely because no page listed it. The pass asks for it by SKU, together with a row that
this run has just read as a witness: an answer that lacks both is an outage. A source that lists nothing
counts as empty only while another source still lists a witness; when no source lists anything, nothing is
tombstoned.

A row is stored with the product's spelling of its SKU, so that SQL can join them: Commerce considers both
spellings equal. A row without a product keeps its own spelling.

Only a 64-bit hash of each row read is kept in memory, 8 bytes each: Commerce and the database order SKUs
differently, so the two cannot be merged page by page.
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
from sync.model import Interval, Tally, counted
from sync.passes import absence
from sync.passes.prefetch import read_ahead
from sync.passes.run import Run, Summary, Sync, start

AT_ONCE: Final = 20_000  # SKUs of the copy in memory while searching for unlisted ones
TOMBSTONES_AT_ONCE: Final = 1_000
LONGEST_SKU: Final = 255


def stock(sync: Sync, *, allow_mass_delete: bool = False) -> Summary:
    """Read every source, and tombstone what is proven gone.

    allow_mass_delete    accept that no source lists anything
    """
    with start(sync, "stock") as run:
        work = _Work(run, Stock(sync.client, page_size=sync.page_size), allow_mass_delete)
        try:
            work.read_sources()
        except (AccessDenied, SettingsError, RequestRefused) as error:
            sync.source.count("all", Interval(0, 0))  # raises if the credential itself is refused
            todo = "" if isinstance(error, SettingsError) else f" To do: {error.fix}"
            run.do_without(f"Stock cannot be read: {error}{todo}")
        else:
            work.tombstone_gone()
    return run.summary()


class Seen:
    """Hashes of listed SKUs, 64 bits each: for a million, the chance of a collision is one in 10⁷."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._is_sorted = True

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, skus: Iterable[str]) -> None:
        self._hashes.extend(map(hash, skus))
        self._is_sorted = False

    def missing(self, skus: Iterable[str]) -> list[str]:
        """The SKUs among these that were not listed."""
        if not self._is_sorted:
            self._hashes = array("q", sorted(self._hashes))
            self._is_sorted = True
        return [sku for sku in skus if not self._has(hash(sku))]

    def _has(self, digest: int) -> bool:
        place = bisect_left(self._hashes, digest)
        return place < len(self._hashes) and self._hashes[place] == digest


@dataclass(slots=True)
class _Work:
    """A pass in progress.

    seen         listed SKUs by source
    witnesses    the last row listed by each source, the most recent at the end
    products     products by SKU, read on the first SKU that no product spells the same way
    """

    run: Run
    stock: Stock
    allow_mass_delete: bool
    seen: dict[str, Seen] = field(default_factory=dict)
    witnesses: dict[str, SourceItem] = field(default_factory=dict)
    products: skus.Index | None = None

    def read_sources(self) -> None:
        """Page through every source and write the differences."""
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
                f"{sentence} The copy keeps what it has of that; everything else was read. To do: "
                "check the tenant's exception log."
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

    # --- deletions ----------------------------------------------------------------------------

    def tombstone_gone(self) -> None:
        """Tombstone live rows that were not listed, including those of deleted sources."""
        for code in self.run.read(stored.sources):
            seen = self.seen.get(code, Seen())
            if len(seen):
                self._tombstone_unlisted(code, seen)
            elif self._is_empty(code):
                self._tombstone_source(code)

    def _tombstone_unlisted(self, code: str, seen: Seen) -> None:
        for some in _living(self.run, code):
            for named in chunks(seen.missing(some), self.stock.most_named):
                self._tombstone_if_gone(code, named)

    def _tombstone_if_gone(self, code: str, named: Sequence[str]) -> None:
        """Ask for these SKUs, in halves when that fails; a single SKU that fails stays unchanged."""
        try:
            listed = self.stock.listed(code, named, self.witnesses[code])
        except (*REFUSED, PageFailed) as error:
            self.stock.wait_until_well()
            if len(named) == 1:
                self.run.do_without(f"The stock of {named[0]!r} in source {code} cannot be read: {error}")
                return
            half = len(named) // 2
            self._tombstone_if_gone(code, named[:half])
            self._tombstone_if_gone(code, named[half:])
        else:
            self._settle(code, named, self._as_products_spell(listed))

    def _settle(self, code: str, asked: Sequence[str], listed: Sequence[SourceItem]) -> None:
        """Write the rows that are listed after all, tombstone the rest."""
        gone = set(asked) - {_kept(item.sku) for item in listed}

        def work(tx: sa.Connection) -> Tally:
            return _save(tx, code, listed) + Tally(deleted=stored.tombstone(tx, code, gone, utc_now(tx)))

        self.run.commit(work)

    def _is_empty(self, code: str) -> bool:
        """Whether a source that listed nothing is empty, proven by a witness of another source."""
        witness = next(reversed(self.witnesses.values()), None)
        if witness is None:
            if not self.allow_mass_delete:
                what = f"No source lists anything, but the copy has rows of {code}"
                absence.hold_back(self.run, what, "stock")
            return self.allow_mass_delete and not self.stock.count(code)
        if count := self.stock.count(code):
            raise AnswerUnreadable(
                f"the tenant counts {counted(count, 'row')} of source {code} that it does not list."
            )
        self.stock.listed(witness.source_code, [], witness)
        return not self.stock.count(code)

    def _tombstone_source(self, code: str) -> None:
        for some in _living(self.run, code):
            for begin in range(0, len(some), TOMBSTONES_AT_ONCE):
                self._settle(code, some[begin : begin + TOMBSTONES_AT_ONCE], ())


def _living(run: Run, code: str) -> Iterator[Sequence[str]]:
    """The live SKUs of a source in the copy, in chunks."""
    last = ""
    while some := run.read(lambda c: stored.live_after(c, code, last, AT_ONCE)):  # noqa: B023
        yield some
        last = some[-1]


def _save(tx: sa.Connection, code: str, items: Sequence[SourceItem]) -> Tally:
    """Write the differences; the last of repeated rows wins."""
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
    """A SKU as the database can store it."""
    return sku.replace("\x00", "\N{SYMBOL FOR NULL}")[:LONGEST_SKU]


def _level(item: SourceItem) -> Level:
    """The level as the database stores it."""
    return Level(None if item.quantity is None else item.quantity.quantize(MICRO), item.status)
