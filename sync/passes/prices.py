"""The prices pass: copy the four price feeds, and read products again whose prices changed without a stamp.

    SKUs of the copy, 900 at a time ──> four feeds ──> the product has the same prices: store the rows
                                                └────> it has others: read the product again, then store

A product is read again when its prices differ from the feeds' answer and that answer has changed; permanent
differences (a scope without a price of its own, an attribute that documents lack) are therefore read again
once. A special price with the dates of several scopes is read again whenever its answer changes: the feed
pairs every price with every date, and only the product shows which belong together. Rows are stored after
that reading, so a crash in between costs a repetition and loses nothing.

An outage can look like a tenant without prices. When products are read again because a feed no longer lists
their price, and most of them, and more than DOUBTFUL, still have it, the feed is not believed: their rows
stay, no further product is read for it, and the run ends as partial.

Scheduled passes leave out the feeds of costs and tier prices while these find nothing: they are read in every
second pass after six readings in vain, in every fourth at most, until one finds a change. A pass by hand
reads all four.

Counters: fetched are the products whose prices were compared; those read again count once per store view.
Inserted are products with their first rows in `product_prices`, updated those whose document or rows changed.
Changed rows have an entry in the change feed, except on the first reading of a kind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

import sqlalchemy as sa

from sync import diff
from sync.commerce import store_views
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
from sync.db import changes, state
from sync.db import prices as stored
from sync.db.changes import FeedEntry
from sync.db.dialects import utc_now
from sync.db.prices import MEMORY, Carried, Key, Known, Moved, PriceRow
from sync.errors import AccessDenied, CommerceError, RequestRefused, SettingsError
from sync.model import ADMIN, Interval, Tally, counted
from sync.passes.named import read_named
from sync.passes.prefetch import read_ahead
from sync.passes.run import Run, Summary, Sync, start
from sync.pricing import (
    Scope,
    Shown,
    agrees,
    agrees_tiers,
    digest,
    is_certain,
    kept_rows,
    price_rows,
    shown_in,
)

DOUBTFUL: Final = 10  # with more contradicting products and none that confirms, a feed is not believed
MOST_AT_ONCE: Final = 1_000  # products queued before they are read again
MOST_NAMED: Final = 10  # SKUs named in a message
NOUNS: Final[Mapping[PriceKind, str]] = {
    "base": "base prices",
    "special": "special prices",
    "cost": "costs",
    "tier": "tier prices",
}

Doubt = tuple[PriceKind, bool]  # a kind, and whether it concerns prices that the feed no longer lists


def prices(sync: Sync, *, is_scheduled: bool = False) -> Summary:
    """Read the four feeds for every product of the copy, and read products again that they contradict.

    is_scheduled    leave out what found nothing lately
    """
    with start(sync, "prices") as run:
        if len(sync.store_views) > 1:
            run.leave_out_unknown()
        scopes = _scopes(run)
        has_joined = bool(scopes.keys() - run.read(stored.compared).keys())
        may_rest = is_scheduled and not has_joined
        resting = run.read(lambda c: stored.resting(c, utc_now(c))) if may_rest else []
        kinds = [kind for kind in KINDS if kind not in resting]
        work = _Work(run, Prices(sync.client), scopes, _read_before(run), has_joined)
        work.remember()
        intervals = _intervals(run)
        for interval, chunk in read_ahead(
            intervals, partial(_read, run, work.feeds, kinds), sync.concurrency
        ):
            work.take(interval, chunk)
        work.read_again()
        work.remember(set(kinds) - work.closed)
    return run.summary()


# --- before ----------------------------------------------------------------------------------


def _intervals(run: Run) -> list[Interval]:
    """Intervals of the copy's products that each fill a request; the last one has no upper end."""
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
    """The price scopes of the copy's store views; those that the tenant does not report are missing."""
    views = run.sync.store_views
    found: dict[str, tuple[int, int | None]] = {}
    if set(views) != {ADMIN}:
        found = run.read(stored.scopes)
        if not found.keys() >= set(views) - {ADMIN}:
            found = _told_scopes(run)
    found = found | {ADMIN: (0, None)}
    return {view: Scope(*found[view]) for view in views if view in found}


def _told_scopes(run: Run) -> dict[str, tuple[int, int | None]]:
    try:
        return store_views.scopes(run.sync.client)
    except (AccessDenied, SettingsError, RequestRefused) as error:
        _make_sure(run)
        run.do_without(f"The prices of store views cannot be distinguished: {error.advice}")
        return {}


def _read_before(run: Run) -> set[str]:
    """The kinds that an earlier run read completely."""
    return set((run.read(lambda c: state.load(c, MEMORY)) or {}).get("read", ()))


def _make_sure(run: Run) -> None:
    """Raise the tenant's error when the credential itself is refused."""
    run.sync.source.count(ADMIN, Interval(0, 0))


# --- reading ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Chunk:
    """The feeds' answers for the products of an interval; closed feeds are missing.

    refused    products that a feed refused, with its reason
    """

    products: list[tuple[int, str]]
    quotes: dict[PriceKind, dict[int, list[Quote]]] = field(default_factory=dict)
    tiers: dict[int, list[Tier]] | None = None
    refused: dict[tuple[int, PriceKind], str] = field(default_factory=dict)
    closed: list[FeedClosed] = field(default_factory=list)


def _read(run: Run, feeds: Prices, kinds: Sequence[PriceKind], interval: Interval) -> Iterator[_Chunk]:
    """Read the feeds, in a reader's thread."""
    chunk = _Chunk(run.read(lambda c: stored.skus(c, run.sync.store_views, interval)))
    skus = list(dict.fromkeys(sku for _, sku in chunk.products))
    for kind in kinds if skus else ():
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
    """A product to be read again, with the feeds' answers.

    rows       by kind, for kinds in which it differs
    agreed     by kind, for the others
    refused    reason of a feed that refused it
    """

    sku: str
    rows: dict[PriceKind, list[PriceRow]] = field(default_factory=dict)
    agreed: dict[PriceKind, list[PriceRow]] = field(default_factory=dict)
    tiers: list[Tier] | None = None
    refused: str | None = None

    @property
    def is_settled(self) -> bool:
        return not self.rows and self.tiers is None and self.refused is None


@dataclass(slots=True)
class _Copy:
    """The copy's data of some products.

    carried    prices in the products' own rows, by store view
    known      the rows of `product_prices`
    answers    digests of the feeds' last answers, where they differ from the rows
    """

    scopes: Mapping[str, Scope]
    carried: dict[str, dict[int, Carried]]
    known: Known
    answers: dict[Key, str]

    @classmethod
    def of(
        cls, tx: sa.Connection, views: Iterable[str], scopes: Mapping[str, Scope], which: Interval | list[int]
    ) -> _Copy:
        carried = {view: stored.carried(tx, view, which) for view in views}
        return cls(scopes, carried, stored.known(tx, which), stored.answers(tx, which))

    def live(self) -> set[int]:
        return set(chain.from_iterable(self.carried.values()))

    def sku(self, product_id: int) -> str:
        return next(found[product_id].sku for found in self.carried.values() if product_id in found)

    def shown(self, product_id: int) -> Shown:
        return shown_in(product_id, self.scopes, self.carried)

    def agrees(self, product_id: int, kind: PriceKind, named: list[PriceRow]) -> bool:
        shown = self.shown(product_id)
        return all(agrees(kind, named, carried, scope) for scope, carried in shown)

    def has_seen(self, key: Key, named: list[PriceRow]) -> bool:
        """Whether the feed gave the same answer when the product was last compared with it."""
        if key in self.answers:
            return self.answers[key] == digest(named)
        return self.known.get(key, set()) == set(named)


@dataclass(slots=True)
class _Settled:
    """Data to store: rows of `product_prices`, and digests of answers that differ from the rows."""

    rows: dict[Key, set[PriceRow]] = field(default_factory=dict)
    answers: dict[Key, str | None] = field(default_factory=dict)

    def add_all(self, product_id: int, named: Mapping[PriceKind, list[PriceRow]], copy: _Copy) -> None:
        """Add answers for a product that the product does not contradict."""
        shown = copy.shown(product_id)
        for kind, rows in named.items():
            key = (product_id, kind)
            self.rows[key] = kept_rows(kind, rows, shown)
            self.answers[key] = None if self.rows[key] == set(rows) else digest(rows)


@dataclass(slots=True)
class _Work:
    """A pass in progress.

    scopes       of the store views that can be distinguished
    read         kinds that an earlier run read completely
    has_joined   whether one of these store views is new since the last run
    changed      kinds in which a change was found
    waiting      products to be read again, by id
    doubts       answers that are no longer compared in this run
    """

    run: Run
    feeds: Prices
    scopes: dict[str, Scope]
    read: set[str]
    has_joined: bool
    changed: set[str] = field(default_factory=set)
    waiting: dict[int, _Open] = field(default_factory=dict)
    doubts: set[Doubt] = field(default_factory=set)
    closed: set[PriceKind] = field(default_factory=set)
    groups: dict[str, int] | None = None
    asked_groups: bool = False

    def take(self, interval: Interval, chunk: _Chunk) -> None:
        """Compare a chunk with the copy; store the rows of products that agree with it."""
        self._note_closed(chunk.closed)
        self._learn_groups(chunk.tiers or {})
        found: list[dict[int, _Open]] = []

        def work(tx: sa.Connection) -> Tally:
            copy = self._copy(tx, interval)
            settled, still_open = self._compare(chunk, copy)
            found.append(still_open)
            written = self._keep(tx, copy, settled)
            stored.drop(tx, {i for i, _ in copy.known} - copy.live())
            done = len(chunk.products) - len(still_open)
            return written + Tally(fetched=done, unchanged=done)

        tally = self.run.commit(work)
        self.waiting |= found[-1]
        self.run.sync.watch.rows_written(tally.fetched, tally)
        if len(self.waiting) >= MOST_AT_ONCE:
            self.read_again()

    def _copy(self, tx: sa.Connection, which: Interval | list[int]) -> _Copy:
        return _Copy.of(tx, self.run.sync.store_views, self.scopes, which)

    def _keep(self, tx: sa.Connection, copy: _Copy, settled: _Settled, told: Collection[int] = ()) -> Tally:
        """Store the settled rows; return the products that move from `unchanged` to another counter.

        told    products that this run has already counted as changed
        """
        now = utc_now(tx)
        moved = stored.replace(tx, copy.known, settled.rows, now)
        self.changed |= {kind for _, kind in moved}
        stored.remember(tx, copy.answers, settled.answers)
        changes.append(tx, list(self._entries(copy, moved)), now, self.run.run_id)
        had_rows = {product_id for product_id, _ in copy.known}
        written = {product_id for product_id, _ in moved} - set(told)
        updated = len(written & had_rows)
        return Tally(inserted=len(written) - updated, updated=updated, unchanged=-len(written))

    def _entries(self, copy: _Copy, moved: Moved) -> Iterator[FeedEntry]:
        """Change feed entries of changed rows, except those of a kind that is read for the first time."""
        by_id: dict[int, Moved] = {}
        for (product_id, kind), rows in moved.items():
            if kind in self.read:
                by_id.setdefault(product_id, {})[product_id, kind] = rows
        for product_id, rows_of in sorted(by_id.items()):
            view = next(view for view, carried in copy.carried.items() if product_id in carried)
            old, new = (
                [
                    {"price_kind": kind, **row._asdict()}
                    for (_, kind), rows in rows_of.items()
                    for row in sorted(rows[i])
                ]
                for i in (0, 1)
            )
            fields = diff.encode({"product_prices": {"old": old, "new": new}})
            yield FeedEntry(view, product_id, copy.sku(product_id), "update", fields)

    def _compare(self, chunk: _Chunk, copy: _Copy) -> tuple[_Settled, dict[int, _Open]]:
        settled = _Settled()
        still_open: dict[int, _Open] = {}
        for product_id, sku in chunk.products:
            product = _Open(sku)
            for kind, quotes in chunk.quotes.items():
                if (product_id, kind) not in chunk.refused:
                    named = price_rows(quotes.get(product_id, ()))
                    self._compare_rows(product_id, kind, named, copy, product)
            if chunk.tiers is not None and (product_id, "tier") not in chunk.refused:
                self._compare_tiers(product_id, chunk.tiers.get(product_id, []), copy, product, settled)
            reasons = [chunk.refused[product_id, k] for k in KINDS if (product_id, k) in chunk.refused]
            product.refused = reasons[0] if reasons else None
            if product.is_settled:
                settled.add_all(product_id, product.agreed, copy)
            else:
                still_open[product_id] = product
                self.changed |= product.rows.keys() | ({"tier"} if product.tiers is not None else set())
        return settled, still_open

    def _compare_rows(
        self, product_id: int, kind: PriceKind, named: list[PriceRow], copy: _Copy, product: _Open
    ) -> None:
        key = (product_id, kind)
        is_seen, was_read = copy.has_seen(key, named), key in copy.known or key in copy.answers
        is_clear = is_seen or (is_certain(named) and not (was_read and self._is_blind()))
        if copy.agrees(product_id, kind, named) and is_clear:
            product.agreed[kind] = named
        elif (kind, not named) in self.doubts:
            if named:
                product.agreed[kind] = named
        elif not is_seen or self.has_joined or not (was_read or kind in self.read):
            product.rows[kind] = named

    def _is_blind(self) -> bool:
        """Whether a changed price may belong to a store view that cannot be distinguished."""
        return any(view not in self.scopes for view in self.run.sync.store_views)

    def _compare_tiers(
        self, product_id: int, tiers: list[Tier], copy: _Copy, product: _Open, settled: _Settled
    ) -> None:
        key: Key = (product_id, "tier")
        if self._agrees_tiers(product_id, tiers, copy):
            settled.answers[key] = None
        elif ("tier", not tiers) not in self.doubts and copy.answers.get(key) != digest(tiers):
            product.tiers = tiers

    def _agrees_tiers(self, product_id: int, tiers: list[Tier], copy: _Copy) -> bool:
        shown = copy.shown(product_id)
        return all(agrees_tiers(tiers, carried, scope, self.groups) for scope, carried in shown)

    # --- feeds that cannot be read ------------------------------------------------------------

    def _note_closed(self, found: Iterable[FeedClosed]) -> None:
        for closed in found:
            if closed.kind not in self.closed:
                _make_sure(self.run)
                self.closed.add(closed.kind)
                self.run.do_without(_in_words(closed))

    def _learn_groups(self, tiers: Mapping[int, list[Tier]]) -> None:
        """Read the customer groups with the first tier prices, which contain only their names."""
        if tiers and not self.asked_groups:
            self.asked_groups = True
            try:
                self.groups = self.feeds.groups()
            except (CommerceError, SettingsError):
                self.groups = None

    # --- reading again ------------------------------------------------------------------------

    def read_again(self) -> None:
        """Read the waiting products in every store view, then store the feeds' answers for them."""
        waiting, self.waiting = self.waiting, {}
        if not waiting:
            return
        for view in self.run.sync.store_views:
            with self.run.apart(view):
                read_named(self.run, view, list(waiting))
        results: list[_Verdict] = []

        def work(tx: sa.Connection) -> Tally:
            copy = self._copy(tx, list(waiting))
            verdict = self._judge(waiting, copy)
            results.append(verdict)
            told = changes.changed_by(tx, self.run.run_id, copy.carried.keys(), list(waiting))
            written = self._keep(tx, copy, verdict.settled, told)
            stored.drop(tx, waiting.keys() - copy.live())
            return written

        self.run.commit(work)
        self._conclude(results[-1])

    def _judge(self, waiting: Mapping[int, _Open], copy: _Copy) -> _Verdict:
        """Compare the feeds with the products read again; one with a new SKU waits for the next run."""
        verdict = _Verdict()
        live = copy.live()
        for product_id, product in waiting.items():
            if product_id not in live or copy.sku(product_id) != product.sku:
                continue
            verdict.settled.add_all(product_id, product.agreed, copy)
            for kind, named in product.rows.items():
                agreed = copy.agrees(product_id, kind, named)
                verdict.votes.append(_Vote(product_id, kind, named, (product_id, kind) in copy.known, agreed))
            if product.tiers is not None:
                is_carried = self._agrees_tiers(product_id, product.tiers, copy)
                verdict.named.append((bool(product.tiers), is_carried))
                verdict.settled.answers[product_id, "tier"] = None if is_carried else digest(product.tiers)
            if product.refused is not None:
                verdict.refused[product.sku] = product.refused
        for vote in verdict.believed():
            verdict.settled.add_all(vote.product_id, {vote.kind: vote.named}, copy)
        return verdict

    def _conclude(self, verdict: _Verdict) -> None:
        doubts = verdict.doubts()
        kept = {v.kind for v in verdict.votes if v.had_rows and not v.named and not v.agrees}
        for kind, is_gone in sorted(doubts - self.doubts):
            if is_gone and kind in kept:
                self.run.do_without(
                    f"The feed of {NOUNS[kind]} lists none for products that have one: it is not believed, "
                    "and its rows stay. To do: check the tenant; the next run asks again."
                )
        self.doubts |= doubts
        if verdict.refused:
            named = ", ".join(repr(sku) for sku in list(verdict.refused)[:MOST_NAMED])
            self.run.do_without(
                f"The price feeds refuse {counted(len(verdict.refused), 'SKU')} of products: {named}"
                f"{', …' if len(verdict.refused) > MOST_NAMED else ''}. Reason for the first: "
                f"{next(iter(verdict.refused.values()))}"
            )

    def remember(self, read: Collection[str] = ()) -> None:
        """Store the scopes whose prices pages write, and what is known of the feeds.

        read    the kinds that this pass has read completely; at its beginning none
        """
        views = self.run.sync.store_views  # without those that left the tenant
        scopes = {view: astuple(scope) for view, scope in self.scopes.items() if view in views}

        def store(tx: sa.Connection) -> None:
            now = utc_now(tx)
            records = {
                kind: record.after(now, read=kind in read, found=kind in self.changed) if read else record
                for kind, record in stored.feed_records(tx).items()
            }
            memory = {"read": sorted({*self.read, *read}), "scopes": scopes, "records": records}
            state.save(tx, MEMORY, memory)

        self.run.transact(store)


class _Vote(NamedTuple):
    """A product read again: whether it now agrees with a feed.

    had_rows    whether rows were stored before
    """

    product_id: int
    kind: PriceKind
    named: list[PriceRow]
    had_rows: bool
    agrees: bool


@dataclass(slots=True)
class _Verdict:
    """The result of reading products again.

    named    for each product with other tier prices: whether the feed still lists any, and whether they agree
    """

    votes: list[_Vote] = field(default_factory=list)
    settled: _Settled = field(default_factory=_Settled)
    named: list[tuple[bool, bool]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[Doubt, list[int]]:
        """How many products contradict and how many confirm, by kind and whether the price is gone."""
        found: dict[Doubt, list[int]] = {}
        for vote in self.votes:
            found.setdefault((vote.kind, not vote.named), [0, 0])[vote.agrees] += 1
        for is_named, is_carried in self.named:
            found.setdefault(("tier", not is_named), [0, 0])[is_carried] += 1
        return found

    def doubts(self) -> set[Doubt]:
        """Answers in doubt: most products still have an unlisted price, or none has a listed one.

        When one kind is in doubt, deletions of another kind are not believed on a smaller majority either.
        """
        counts = self.counts()
        lies = any(is_gone and no > max(yes, DOUBTFUL) for (_, is_gone), (no, yes) in counts.items())
        return {
            (kind, is_gone)
            for (kind, is_gone), (no, yes) in counts.items()
            if (no > yes and lies if is_gone else no > DOUBTFUL and not yes)
        }

    def believed(self) -> list[_Vote]:
        """All votes except those on deleted prices that are in doubt and still in the product."""
        doubts = self.doubts()
        return [vote for vote in self.votes if vote.named or vote.agrees or (vote.kind, True) not in doubts]


def _in_words(closed: FeedClosed) -> str:
    """Why a feed is missing, and the remedy. For a 404 it is not API_ENDPOINT: products are found there."""
    todo = "" if isinstance(closed.cause, SettingsError) else f" To do: {closed.cause.fix}"
    return f"The feed of {NOUNS[closed.kind]} cannot be read: {closed.cause}{todo}"
