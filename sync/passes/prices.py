"""prices: what the light price feeds name is here, and products whose prices moved in silence are read again.

    SKUs of the copy, 300 at a time ──> four feeds ──> the product carries what they name: keep the rows
                                                └────> it does not: read the product again, then keep the rows

A product is read again when it carries other prices than the feeds name and they named others before; so
what differs by nature (a scope that shows no price of its own, an attribute that documents lack) is read
again once. Rows are kept only behind that reading, so a crash in between costs a repeat and forgets nothing.

An outage can look like a tenant without prices. Where products are read again because a feed no longer
names their price, and most of them, and more than DOUBTFUL, carry it still, the feed is not believed: their
rows stay, no further product is read for it, and the run ends as partial.

A run counts as fetched the products whose prices it compared; those it read again, once for each store view.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

import sqlalchemy as sa

from sync.commerce import stores
from sync.commerce.prices import (
    KINDS,
    MOST_SKUS,
    FeedClosed,
    PriceKind,
    Prices,
    Quote,
    Tier,
    Told,
    by_product,
)
from sync.db import prices as stored
from sync.db import state
from sync.db.dialects import utc_now
from sync.db.prices import Carried, Known, PriceRow
from sync.errors import AccessDenied, CommerceError, RequestRefused, SettingsError
from sync.model import Interval, Tally
from sync.passes.incremental import read_named
from sync.passes.pricing import Scope, agrees, agrees_tiers, digest, price_rows
from sync.passes.readahead import read_ahead
from sync.passes.run import Run, Summary, Sync, start

ADMIN: Final = "all"
DOUBTFUL: Final = 10  # products that contradict a feed and none that confirms it: then it is not believed
MOST_AT_ONCE: Final = 1_000  # products to be read again that wait for each other
MOST_REMEMBERED: Final = 10_000  # products whose tier prices differ by nature
MOST_NAMED: Final = 10  # SKUs in one sentence
MEMORY: Final = "prices"  # the name under which sync_state keeps what was read before
NOUNS: Final[Mapping[PriceKind, str]] = {
    "base": "base prices",
    "special": "special prices",
    "cost": "costs",
    "tier": "tier prices",
}

Key = tuple[int, PriceKind]
Doubt = tuple[PriceKind, bool]  # a kind, and whether it is about prices that are named no more


def prices(sync: Sync) -> Summary:
    """Read the four feeds for every product of the copy, and again each product that they contradict."""
    with start(sync, "prices") as run:
        work = _Work(run, Prices(sync.client), _scopes(run), *_remembered(run))
        intervals = _intervals(run)
        for interval, chunk in read_ahead(intervals, partial(_read, run, work.feeds), sync.concurrency):
            work.take(interval, chunk)
        work.read_again()
        work.remember()
    return run.summary()


# --- before ----------------------------------------------------------------------------------


def _intervals(run: Run) -> list[Interval]:
    """The products of the copy in intervals that fill a request; the last one has no upper end."""
    ends, total = [0], 0
    while some := _behind(run, ends[-1]):
        total += len(some)
        ends.append(some[-1][0])
    run.expect(total)
    return [Interval(after, last) for after, last in zip(ends[:-1] or [0], [*ends[1:-1], None], strict=True)]


def _behind(run: Run, product_id: int) -> list[tuple[int, str]]:
    views = run.sync.store_views
    return run.read(lambda c: stored.skus(c, views, Interval(product_id), MOST_SKUS))


def _scopes(run: Run) -> dict[str, Scope]:
    """The store views of the copy as prices know them; one that the tenant will not tell of is missing."""
    views = run.sync.store_views
    found: dict[str, tuple[int, int | None]] = {}
    if set(views) != {ADMIN}:
        found = run.read(stored.scopes)
        if not found.keys() >= set(views) - {ADMIN}:
            found = _told_scopes(run)
    return {ADMIN: Scope(0, None)} | {view: Scope(*found[view]) for view in views if view in found}


def _told_scopes(run: Run) -> dict[str, tuple[int, int | None]]:
    try:
        return stores.scopes(run.sync.client)
    except (AccessDenied, SettingsError, RequestRefused) as error:
        _make_sure(run)
        run.do_without(f"The prices of store views cannot be told apart: {error} To do: {error.fix}")
        return {}


def _remembered(run: Run) -> tuple[set[str], dict[int, str]]:
    """The kinds read before, and digests of the tier prices that products are known not to carry."""
    found = run.read(lambda c: state.load(c, MEMORY)) or {}
    return set(found.get("read", ())), {int(i): text for i, text in found.get("differing", {}).items()}


def _make_sure(run: Run) -> None:
    """Raise what the tenant says of the credential as such, when it is that which is refused."""
    run.sync.source.count(ADMIN, Interval(0, 0))


# --- reading ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Chunk:
    """What the feeds named for the products of an interval; a feed that is closed is missing.

    refused    products about which a feed would say nothing, with its reason
    """

    products: list[tuple[int, str]]
    quotes: dict[PriceKind, dict[int, list[Quote]]] = field(default_factory=dict)
    tiers: dict[int, list[Tier]] | None = None
    refused: dict[Key, str] = field(default_factory=dict)
    closed: list[FeedClosed] = field(default_factory=list)


def _read(run: Run, feeds: Prices, interval: Interval) -> Iterator[_Chunk]:
    """Ask the feeds, in a reader's thread."""
    chunk = _Chunk(run.read(lambda c: stored.skus(c, run.sync.store_views, interval)))
    skus = list(dict.fromkeys(sku for _, sku in chunk.products))
    for kind in KINDS if skus else ():
        try:
            if kind == "tier":
                tiers = feeds.tiers(skus)
                chunk.tiers = by_product(tiers.rows, chunk.products)
                _note_refused(chunk, kind, tiers)
            else:
                quotes = feeds.quotes(kind, skus)
                chunk.quotes[kind] = by_product(quotes.rows, chunk.products)
                _note_refused(chunk, kind, quotes)
        except FeedClosed as closed:
            chunk.closed.append(closed)
    yield chunk


def _note_refused(chunk: _Chunk, kind: PriceKind, told: Told[Quote] | Told[Tier]) -> None:
    for product_id, sku in chunk.products if told.refused else ():
        if sku in told.refused:
            chunk.refused[product_id, kind] = told.refused[sku]


# --- comparing -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A product to be read again, and what the feeds named for it.

    rows       by kind, of the kinds in which it differs
    refused    why a feed would say nothing about it
    """

    sku: str
    rows: dict[PriceKind, set[PriceRow]] = field(default_factory=dict)
    tiers: list[Tier] | None = None
    refused: str | None = None

    @property
    def is_settled(self) -> bool:
        return not self.rows and self.tiers is None and self.refused is None


@dataclass(slots=True)
class _Copy:
    """What the copy holds of some products: the prices they carry, by store view, and the stored rows."""

    carried: dict[str, dict[int, Carried]]
    known: Known

    @classmethod
    def of(cls, tx: sa.Connection, views: Iterable[str], which: Interval | list[int]) -> _Copy:
        carried = {view: stored.carried(tx, view, which) for view in views}
        return cls(carried, stored.known(tx, which))

    def live(self) -> set[int]:
        return set(chain.from_iterable(self.carried.values()))

    def sku(self, product_id: int) -> str:
        return next(found[product_id].sku for found in self.carried.values() if product_id in found)


Settled = list[tuple[tuple[int, str], set[PriceRow]]]


@dataclass(slots=True)
class _Work:
    """A pass under way.

    scopes       of the store views that could be told apart
    read         kinds that an earlier run read to the end
    differing    digests of tier prices that products do not carry, and did not when they were read again
    waiting      products to be read again, by id
    doubts       what is no longer compared in this run
    """

    run: Run
    feeds: Prices
    scopes: dict[str, Scope]
    read: set[str]
    differing: dict[int, str]
    waiting: dict[int, _Open] = field(default_factory=dict)
    doubts: set[Doubt] = field(default_factory=set)
    closed: set[PriceKind] = field(default_factory=set)
    groups: dict[str, int] | None = None
    asked_groups: bool = False

    def take(self, interval: Interval, chunk: _Chunk) -> None:
        """Compare a chunk with the copy; keep the rows of products that carry what it names."""
        self._note_closed(chunk.closed)
        self._learn_groups(chunk.tiers or {})
        found: list[dict[int, _Open]] = []

        def work(tx: sa.Connection) -> Tally:
            copy = _Copy.of(tx, self.run.sync.store_views, interval)
            settled, still_open = self._compare(chunk, copy)
            found.append(still_open)
            stored.replace(tx, copy.known, settled, utc_now(tx))
            stored.drop(tx, {i for i, _ in copy.known} - copy.live())
            done = len(chunk.products) - len(still_open)
            return Tally(fetched=done, unchanged=done)

        tally = self.run.commit(work)
        self.waiting |= found[-1]
        self.run.sync.watch.rows_written(tally.fetched, tally)
        if len(self.waiting) >= MOST_AT_ONCE:
            self.read_again()

    def _compare(self, chunk: _Chunk, copy: _Copy) -> tuple[Settled, dict[int, _Open]]:
        settled: Settled = []
        still_open: dict[int, _Open] = {}
        for product_id, sku in chunk.products:
            product = _Open(sku)
            for kind, quotes in chunk.quotes.items():
                if (product_id, kind) not in chunk.refused:
                    rows = price_rows(quotes.get(product_id, ()))
                    self._compare_rows(product_id, kind, rows, copy, product, settled)
            if chunk.tiers is not None and (product_id, "tier") not in chunk.refused:
                self._compare_tiers(product_id, chunk.tiers.get(product_id, []), copy, product)
            reasons = [chunk.refused[product_id, k] for k in KINDS if (product_id, k) in chunk.refused]
            product.refused = reasons[0] if reasons else None
            if not product.is_settled:
                still_open[product_id] = product
        return settled, still_open

    def _compare_rows(
        self,
        product_id: int,
        kind: PriceKind,
        rows: set[PriceRow],
        copy: _Copy,
        product: _Open,
        settled: Settled,
    ) -> None:
        before = copy.known.get((product_id, kind), set())
        if self._agrees(product_id, kind, rows, copy) and not self._moved_unseen(before, rows):
            settled.append(((product_id, kind), rows))
        elif (kind, not rows) in self.doubts:
            if rows:
                settled.append(((product_id, kind), rows))
        elif rows != before or not (before or kind in self.read):
            product.rows[kind] = rows

    def _compare_tiers(self, product_id: int, tiers: list[Tier], copy: _Copy, product: _Open) -> None:
        if self._agrees_tiers(product_id, tiers, copy):
            self.differing.pop(product_id, None)
        elif ("tier", not tiers) not in self.doubts and self.differing.get(product_id) != digest(tiers):
            product.tiers = tiers

    def _agrees(self, product_id: int, kind: PriceKind, rows: set[PriceRow], copy: _Copy) -> bool:
        return all(
            agrees(kind, rows, copy.carried[view][product_id], scope)
            for view, scope in self._shown(product_id, copy)
        )

    def _agrees_tiers(self, product_id: int, tiers: list[Tier], copy: _Copy) -> bool:
        return all(
            agrees_tiers(tiers, copy.carried[view][product_id], scope, self.groups)
            for view, scope in self._shown(product_id, copy)
        )

    def _shown(self, product_id: int, copy: _Copy) -> Iterator[tuple[str, Scope]]:
        """The store views in which the copy has this product, and which can be told apart."""
        for view, carried in copy.carried.items():
            if product_id in carried and view in self.scopes:
                yield view, self.scopes[view]

    def _moved_unseen(self, before: set[PriceRow], rows: set[PriceRow]) -> bool:
        """Whether prices moved that may be those of a store view that cannot be told apart."""
        is_blind = any(view not in self.scopes for view in self.run.sync.store_views)
        return is_blind and bool(before) and before != rows

    # --- what cannot be read ------------------------------------------------------------------

    def _note_closed(self, found: Iterable[FeedClosed]) -> None:
        for closed in found:
            if closed.kind not in self.closed:
                _make_sure(self.run)
                self.closed.add(closed.kind)
                self.run.do_without(_in_words(closed))

    def _learn_groups(self, tiers: Mapping[int, list[Tier]]) -> None:
        """Ask for the customer groups when the first tier prices come, which only name them."""
        if tiers and not self.asked_groups:
            self.asked_groups = True
            try:
                self.groups = self.feeds.groups()
            except (CommerceError, SettingsError):
                self.groups = None

    # --- reading again ------------------------------------------------------------------------

    def read_again(self) -> None:
        """Read the products that wait for it in every store view, then keep what the feeds named for them."""
        waiting, self.waiting = self.waiting, {}
        if not waiting:
            return
        for view in self.run.sync.store_views:
            with self.run.apart(view):
                read_named(self.run, view, list(waiting))
        results: list[_Verdict] = []

        def work(tx: sa.Connection) -> Tally:
            copy = _Copy.of(tx, self.run.sync.store_views, list(waiting))
            verdict = self._judge(waiting, copy)
            results.append(verdict)
            stored.replace(tx, copy.known, verdict.believed(), utc_now(tx))
            stored.drop(tx, waiting.keys() - copy.live())
            return Tally()

        self.run.commit(work)
        self._conclude(results[-1])

    def _judge(self, waiting: Mapping[int, _Open], copy: _Copy) -> _Verdict:
        """Hold the feeds against the products as they are now; one whose SKU changed is asked about later."""
        verdict = _Verdict()
        live = copy.live()
        for product_id, product in waiting.items():
            if product_id not in live or copy.sku(product_id) != product.sku:
                continue
            for kind, rows in product.rows.items():
                agreed = self._agrees(product_id, kind, rows, copy)
                before = copy.known.get((product_id, kind), set())
                verdict.votes.append(_Vote((product_id, kind), rows, before, agreed))
            if product.tiers is not None:
                is_carried = self._agrees_tiers(product_id, product.tiers, copy)
                verdict.named.append((bool(product.tiers), is_carried))
                verdict.tiers[product_id] = None if is_carried else digest(product.tiers)
            if product.refused is not None:
                verdict.refused[product.sku] = product.refused
        return verdict

    def _conclude(self, verdict: _Verdict) -> None:
        doubts = verdict.doubts()
        kept = {vote.key[1] for vote in verdict.votes if vote.before and not vote.rows and not vote.agrees}
        for kind, is_gone in sorted(doubts - self.doubts):
            if is_gone and kind in kept:
                self.run.do_without(
                    f"The feed of {NOUNS[kind]} names none for products that carry one: it is not believed, "
                    "and its rows stay. To do: check the tenant; the next run asks again."
                )
        self.doubts |= doubts
        for product_id, text in verdict.tiers.items():
            self.differing.pop(product_id, None)
            if text is not None and len(self.differing) < MOST_REMEMBERED:
                self.differing[product_id] = text
        if verdict.refused:
            named = ", ".join(repr(sku) for sku in list(verdict.refused)[:MOST_NAMED])
            self.run.do_without(
                f"The price feeds refuse {len(verdict.refused)} SKUs that products carry: {named}"
                f"{', …' if len(verdict.refused) > MOST_NAMED else ''}. The first because: "
                f"{next(iter(verdict.refused.values()))}"
            )

    def remember(self) -> None:
        """Keep which kinds have been read to the end, for the next run."""
        memory = {
            "read": sorted(self.read | (set(KINDS) - self.closed)),
            "differing": {str(i): text for i, text in self.differing.items()},
        }
        self.run.transact(lambda tx: state.save(tx, MEMORY, memory))


class _Vote(NamedTuple):
    """A product read again: whether it now carries the rows that a feed named for it, or named before."""

    key: Key
    rows: set[PriceRow]
    before: set[PriceRow]
    agrees: bool


@dataclass(slots=True)
class _Verdict:
    """What a second reading says of the feeds.

    tiers    of each product with other tier prices: None where they agree now, else their digest
    named    for each of these whether the feed still names any, and whether they agree
    """

    votes: list[_Vote] = field(default_factory=list)
    tiers: dict[int, str | None] = field(default_factory=dict)
    named: list[tuple[bool, bool]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[Doubt, list[int]]:
        """How many products contradict and how many confirm, by kind and whether the price is gone."""
        found: dict[Doubt, list[int]] = {}
        for vote in self.votes:
            found.setdefault((vote.key[1], not vote.rows), [0, 0])[vote.agrees] += 1
        for is_named, is_carried in self.named:
            found.setdefault(("tier", not is_named), [0, 0])[is_carried] += 1
        return found

    def doubts(self) -> set[Doubt]:
        """Prices in doubt: most who should have lost theirs have it still, or none carries what is named.

        A feed that lies about one kind is not believed about the little it says of another.
        """
        counts = self.counts()
        lies = any(is_gone and no > max(yes, DOUBTFUL) for (_, is_gone), (no, yes) in counts.items())
        return {
            (kind, is_gone)
            for (kind, is_gone), (no, yes) in counts.items()
            if (no > yes and lies if is_gone else no > DOUBTFUL and not yes)
        }

    def believed(self) -> Settled:
        """The rows to be kept: all but those of prices said to be gone, in doubt, and carried still."""
        doubts = self.doubts()
        return [
            (vote.key, vote.rows)
            for vote in self.votes
            if vote.rows or vote.agrees or (vote.key[1], True) not in doubts
        ]


def _in_words(closed: FeedClosed) -> str:
    """Why a feed is missing, and what to do; a 404 is no matter of API_ENDPOINT: products are found there."""
    todo = "" if isinstance(closed.cause, SettingsError) else f" To do: {closed.cause.fix}"
    return f"The feed of {NOUNS[closed.kind]} cannot be read: {closed.cause}{todo}"
