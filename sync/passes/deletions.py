"""Finding what is gone: Commerce leaves no trace of a deleted product, so count.

    expected here up to the highest id  −  total_count there  =  how many are gone (idea 5 of the design)

A count costs a tenth of a page or less (observed on Magento 2.4.7: 0.2 s against 1.8 s for 300 products).
So ranges are halved, several at a time, down to what one request can list by id; where so many are gone that
this would cost more than reading, the range is read. No id is tombstoned before the tenant, asked for it by
id together with a product that it must know, lists only the latter.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import log2
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from sync.commerce.listing import HIGHEST_ID
from sync.commerce.products import Extent, Miscount, Products
from sync.db import findings, products, rejected
from sync.db.copy import tombstone
from sync.db.partitions import Partition
from sync.errors import AnswerUnreadable, PageFailed
from sync.model import Interval, Tally, counted
from sync.passes import absence
from sync.passes.prefetch import read_ahead
from sync.passes.run import Run
from sync.passes.sweep import sweep

PAGE_COST = 10  # counts that a page of a few hundred products is worth
CLEAR_GAIN = 200  # counts: below this difference, small requests are the kinder way
SMALL_PAGE = 30  # products, read in about the time of three counts
CHUNK = 200  # ids in one question: keeps the URL below 4 kB
LISTED = 300  # ids that are listed rather than halved further
ROUNDS = 3  # how often to ask again while the catalogue moves
MOST_COUNTED_WRONG = 20  # products: more is no oddity of some but another way to count
WITNESSES = 3  # how many of the newest products may have gone before it looks like an outage


@dataclass(slots=True)
class Located:
    """Where products are gone: ids that nothing is left of, and ranges better read than counted."""

    gone: list[int] = field(default_factory=list)
    unclear: list[Interval] = field(default_factory=list)


class Tenant(Protocol):
    """What `locate` asks; each method sends several small requests at once."""

    def counts(self, spans: Sequence[Interval]) -> list[int]:
        """How many products each span holds."""

    def lists(self, groups: Sequence[Sequence[int]]) -> list[set[int] | None]:
        """Those of the ids of each group that are listed; None when that cannot be read."""


Lacking = tuple[Interval, int]  # a span, and how many products fewer the tenant counts there


def locate(ids: Sequence[int], interval: Interval, missing: int, tenant: Tenant, page_size: int) -> Located:
    """Find which of `ids` are gone, with as few requests as it takes.

    ids        what the copy has in `interval`, ascending
    missing    how many fewer the tenant counts there; negative when it counts more

    The answer is a suspicion: the catalogue may change between two requests.
    """
    found = Located()
    small = _halved(ids, [(interval, missing)], tenant, page_size, found, LISTED)
    _halved(ids, _listed(ids, small, tenant, found), tenant, page_size, found, least=1)
    return found


def _halved(
    ids: Sequence[int], spans: list[Lacking], tenant: Tenant, page_size: int, found: Located, least: int
) -> list[Lacking]:
    """Halve spans until each has at most `least` of `ids`; returns those that are not settled by then."""
    small: list[Lacking] = []
    while spans:
        large: list[Lacking] = []
        for span, lacking in spans:
            here = _between(ids, span)
            if lacking == 0:
                continue
            if lacking >= len(here) > 0:
                found.gone += ids[here.start : here.stop]
            elif not here or _better_read(len(here), lacking, page_size):
                found.unclear.append(span)
            else:
                (small if lacking > 0 and len(here) <= least else large).append((span, lacking))
        spans = _halves(ids, large, tenant)
    return small


def _halves(ids: Sequence[int], spans: Sequence[Lacking], tenant: Tenant) -> list[Lacking]:
    """Both halves of each span."""
    cuts = [_cut_in_two(ids, span) for span, _ in spans]
    lefts = _lacking(ids, [left for left, _ in cuts], tenant)
    rights = [
        (right, all_ - less) for (_, right), (_, all_), (_, less) in zip(cuts, spans, lefts, strict=True)
    ]
    moved = {right for (right, less), (_, all_) in zip(rights, spans, strict=True) if less < 0 < all_}
    recounted = _lacking(ids, [right for right, _ in rights if right in moved], tenant)
    return [*lefts, *(it for it in rights if it[0] not in moved), *recounted]


def _cut_in_two(ids: Sequence[int], span: Interval) -> tuple[Interval, Interval]:
    here = _between(ids, span)
    middle = ids[(here.start + here.stop) // 2 - 1]
    return Interval(span.after, middle), Interval(middle, span.last)


def _lacking(ids: Sequence[int], spans: Sequence[Interval], tenant: Tenant) -> list[Lacking]:
    counts = tenant.counts(spans) if spans else []
    return [(span, len(_between(ids, span)) - n) for span, n in zip(spans, counts, strict=True)]


def _listed(ids: Sequence[int], spans: Sequence[Lacking], tenant: Tenant, found: Located) -> list[Lacking]:
    """Settle spans by listing their ids; returns those that cannot be listed."""
    groups = [ids[here.start : here.stop] for here in (_between(ids, span) for span, _ in spans)]
    answers = tenant.lists(groups) if groups else []
    unlisted = []
    for (span, lacking), group, listed in zip(spans, groups, answers, strict=True):
        if listed is None:
            unlisted.append((span, lacking))
            continue
        gone = [number for number in group if number not in listed]
        if len(gone) == lacking:
            found.gone += gone
        else:  # others appeared there, or something changed between the requests
            found.unclear.append(span)
    return unlisted


def _between(ids: Sequence[int], interval: Interval) -> range:
    """The positions in `ids` that lie in an interval."""
    end = len(ids) if interval.last is None else bisect_right(ids, interval.last)
    return range(bisect_right(ids, interval.after), end)


def _better_read(here: int, lacking: int, page_size: int) -> bool:
    """Whether reading a range costs the tenant clearly less than halving it further."""
    if lacking < 0 and here <= SMALL_PAGE:  # more there than here: they must be read anyway
        return True
    places = abs(lacking)
    least, each = (LISTED, PAGE_COST) if lacking > 0 else (1, 0)
    counting = places * (log2(max(here / least, places) / places) + 1 + each)
    reading = PAGE_COST * (here / page_size + 1)
    return counting - reading > CLEAR_GAIN


# --- in an incremental pass ------------------------------------------------------------------


def settle_deletions(
    run: Run, store_view: str, suspects: Collection[int] = (), top: Extent | None = None
) -> set[int]:
    """Count, and where the copy and the tenant disagree, find out why and make the copy agree.

    suspects    ids that were just found gone in another store view: asked for first
    top         the answer of a store view that lists the same; where the copy disagrees, this one is asked

    Returns the ids tombstoned.
    """
    highest, listed = _read_above(run, store_view, top)
    return _settle(run, store_view, highest, suspects, listed).buried


def settle_all(run: Run, store_view: str) -> None:
    """After a whole catalogue was read: whether that was all the tenant has, and only that.

    Raises AnswerUnreadable when it counts products that it does not list: an outage can look like an end.
    """
    if run.held_back:
        return
    highest, listed = _read_above(run, store_view)
    settled = _settle(run, store_view, highest, listed=listed)
    if settled.agree or run.held_back or run.sync.dry:  # what a dry run reads is not here to be counted again
        return
    _, missing = _shortfall(run, store_view, highest)
    if missing < 0:
        raise AnswerUnreadable(
            f"the tenant counts {counted(-missing, 'product')} of store view {store_view} and does not list "
            "as many: this looks like an outage.",
            "check the tenant; the next run reads again.",
        )


def _read_above(run: Run, store_view: str, top: Extent | None = None) -> tuple[int, int | None]:
    """Read what the tenant has above the highest id of the copy: new, or with a stamp that no window reaches.

    Read first: there it would hide a deletion from the counts. Returns the highest id there or here, up to
    which to count, for a catalogue that grows would keep us here; and how many products the tenant has just
    counted up to it, None when it must be asked again.
    """
    _recheck_uncounted(run, store_view)
    besides = _not_in_copy(run, store_view, HIGHEST_ID)
    here = max([run.read(lambda c: products.highest_live(c, store_view)), *besides])
    top = top or run.sync.source.highest(store_view)
    if top.highest_id <= here:
        return here, top.total
    above = Interval(here, top.highest_id)
    more = top.total - run.read(lambda c: products.count_live(c, store_view))
    sweep(run, [Partition.of(store_view, above, max(0, more))], complete=True)
    return top.highest_id, None


class _Settled(NamedTuple):
    """The ids tombstoned, and whether copy and tenant counted the same at the end."""

    buried: set[int]
    agree: bool


def _settle(
    run: Run, store_view: str, highest: int, suspects: Collection[int] = (), listed: int | None = None
) -> _Settled:
    """Make the copy agree with the tenant's counts up to an id.

    listed    how many the tenant has just counted there, when it was asked already
    """
    buried: set[int] = set()
    for _ in range(ROUNDS):
        ids, missing = _shortfall(run, store_view, highest, listed)
        listed = None  # the next round asks anew
        if missing == 0:
            return _Settled(buried, agree=True)
        if _too_many(run, store_view, missing):
            break
        before, known = run.tally, _counted_wrong(run.sync.source, store_view)
        likely = sorted(set(suspects) & set(ids)) if suspects else []
        if missing == len(likely):
            found = Located(gone=likely)
        else:
            tenant = _StoreView(run, store_view)
            found = locate(ids, Interval(0, highest), missing, tenant, run.sync.page_size)
        sweep(run, _to_read(store_view, found.unclear, ids), complete=True)
        buried |= tombstone_missing(run, store_view, found.gone)
        if run.sync.dry:
            break
        done = run.tally - before
        moved = done.inserted or done.deleted or done.rejected
        moved = moved or known != _counted_wrong(run.sync.source, store_view)
        if not moved and not _is_miscounted(run, store_view, ids, highest, missing) and not done.fetched:
            break
    return _Settled(buried, agree=False)


def _is_miscounted(run: Run, store_view: str, ids: Sequence[int], highest: int, missing: int) -> bool:
    """Whether the tenant's counts are shown to be wrong, so that from now on they are corrected.

    Nothing was found to read or to delete. A single id that is counted twice is proof, for it cannot be; one
    that is listed and not counted is learned from the answer that shows both.
    """
    source = run.sync.source
    if source.calibrate(store_view):
        return True
    known = _counted_wrong(source, store_view)
    if missing > 0:  # one that was counted twice may not be any more
        uncounted = {number: more for number, more in known.items() if more < 0}
        source.learn_products(store_view, uncounted)
        if known == uncounted:
            counted_wrong(ids, Interval(0, highest), -missing, _counter(source, store_view))
        return known != _counted_wrong(source, store_view)
    more = counted_wrong(ids, Interval(0, highest), -missing, _counter(source, store_view))
    source.learn_products(store_view, {**known, **{i: n + known.get(i, 0) for i, n in more.items()}})
    return bool(more)


def _counted_wrong(source: Products, store_view: str) -> Mapping[int, int]:
    return source.miscounts.get(store_view, Miscount()).products


def counted_wrong(
    ids: Sequence[int], interval: Interval, more: int, count: Callable[[Interval], int]
) -> dict[int, int]:
    """The products that make up for what is counted too much, by how many; empty when they do not.

    ids     all that the tenant lists in `interval`, ascending
    more    how many more it counts there; negative when it counts fewer: then each of the products that make
            up for it is counted alone, and `count` may learn from the answer
    """
    if not 0 < abs(more) <= MOST_COUNTED_WRONG:
        return {}
    found: dict[int, int] = {}
    stack = [(interval, more)]
    while stack:
        span, surplus = stack.pop()
        here = _between(ids, span)
        if surplus == 0:
            continue
        if surplus * more < 0 or not here:
            return {}
        if len(here) == 1:
            number = ids[here.start]
            if count(Interval(number - 1, number)) != 1 + surplus and more > 0:
                return {}
            found[number] = surplus
            continue
        middle = ids[(here.start + here.stop) // 2 - 1]
        left, right = Interval(span.after, middle), Interval(middle, span.last)
        surplus_left = count(left) - len(_between(ids, left))
        stack += [(right, surplus - surplus_left), (left, surplus_left)]
    return found


def _to_read(store_view: str, unclear: Iterable[Interval], ids: Sequence[int]) -> list[Partition]:
    """Ranges to be read, with how many products the copy has in each."""
    return [Partition.of(store_view, span, len(_between(ids, span))) for span in unclear]


@dataclass(frozen=True, slots=True)
class _StoreView:
    """Asks the tenant, with as many requests at once as the pass has readers."""

    run: Run
    store_view: str

    def counts(self, spans: Sequence[Interval]) -> list[int]:
        count = _counter(self.run.sync.source, self.store_view)
        found = dict(read_ahead(spans, lambda span: iter([count(span)]), self.run.sync.concurrency))
        return [found[span] for span in spans]

    def lists(self, groups: Sequence[Sequence[int]]) -> list[set[int] | None]:
        places = range(len(groups))
        found = dict(read_ahead(places, lambda i: self._listed(groups[i]), self.run.sync.concurrency))
        return [found.get(i) for i in places]

    def _listed(self, ids: Sequence[int]) -> Iterator[set[int]]:
        """The ids that are listed; nothing when Commerce cannot read one of the products."""
        with suppress(PageFailed):
            yield self.run.sync.source.listed(self.store_view, ids, patient=False)


def _counter(source: Products, store_view: str) -> Callable[[Interval], int]:
    return lambda interval: source.count(store_view, interval).total


def _shortfall(
    run: Run, store_view: str, highest: int, listed: int | None = None
) -> tuple[Sequence[int], int]:
    """The ids the tenant should list up to `highest`, and how many fewer it counts."""
    besides = _not_in_copy(run, store_view, highest)
    live = run.read(lambda c: products.count_live(c, store_view, highest))
    if listed is None:
        listed = run.sync.source.count(store_view, Interval(0, highest)).total
    missing = live + len(besides) - listed
    if missing == 0:
        return [], 0
    ids = run.read(lambda c: products.live_ids(c, store_view, Interval(0, highest)))
    return sorted([*ids, *besides]) if besides else ids, missing


def _not_in_copy(run: Run, store_view: str, highest: int) -> set[int]:
    """Ids that the tenant lists and the copy lacks for a reason: rejected, or a dry run did not keep them."""
    rejects = run.read(lambda c: rejected.not_in_copy(c, store_view, highest))
    arrived = {i for i in run.arrived.get(store_view, ()) if i <= highest}
    here = run.read(lambda c: products.live_of(c, store_view, arrived)) if arrived else set()
    return {*rejects, *arrived} - here


# --- tombstones ------------------------------------------------------------------------------


def tombstone_missing(
    run: Run, store_view: str, suspected: Sequence[int] = (), *, allow_mass_delete: bool = False
) -> set[int]:
    """Tombstone what is proven gone: the suspected ids, and what the run's sweeps did not find listed.

    Holds back, and says so, when it would be too much of the store view at once.
    """
    suspected = sorted({*suspected, *_swept(run, store_view)})
    doubted, buried = set(suspected), set[int]()
    for asked, lost in absence.gone(
        suspected,
        lambda: not allow_mass_delete and _too_many(run, store_view, len(suspected)),
        lambda ids: _still_listed(run, store_view, ids, doubted),
        CHUNK,
    ):
        _bury(run, store_view, asked, lost)
        buried |= lost
    return buried


def _still_listed(run: Run, store_view: str, ids: Sequence[int], doubted: Collection[int]) -> set[int]:
    """Those of `ids` that are counted, or listed nevertheless: the latter are noted as not counted."""
    lost = _proven_gone(run, store_view, ids, doubted)
    listed = run.sync.source.listed(store_view, lost)
    run.sync.source.learn_uncounted(store_view, listed)
    return set(ids) - lost | listed


def _recheck_uncounted(run: Run, store_view: str) -> None:
    """Forget products that were listed and not counted, once they are counted, or gone."""
    source = run.sync.source
    known = _counted_wrong(source, store_view)
    few = {number for number, more in known.items() if more < 0}
    if healed := few - source.uncounted(store_view, few):
        source.learn_products(store_view, {i: n for i, n in known.items() if i not in healed})


def _swept(run: Run, store_view: str) -> list[int]:
    """Ids that the run's sweeps found here and not there."""
    if run.sync.dry:
        return run.extra.pop(store_view, [])
    return run.read(lambda c: findings.ids(c, run.run_id, store_view, "extra"))


def _bury(run: Run, store_view: str, settled: Sequence[int], gone: set[int]) -> None:
    def work(tx: sa.Connection) -> Tally:
        findings.settle(tx, run.run_id, store_view, settled)
        return tombstone(tx, store_view, gone, run.run_id)

    run.commit(work)


def _too_many(run: Run, store_view: str, missing: int) -> bool:
    """Whether so many are missing that the answer is not believed; holds back if so."""
    live = run.read(lambda c: products.count_live(c, store_view))
    noun = f"{counted(live, 'product')} of store view {store_view}"
    return absence.is_too_many(run, missing, live, live - missing, noun, "reconcile")


def _proven_gone(run: Run, store_view: str, ids: Sequence[int], suspected: Collection[int]) -> set[int]:
    """Those of `ids` that the tenant does not list, while it lists a product that it must know.

    The witness is asked for once more at the end: had it gone meanwhile, one of `ids` could have been
    counted in its place.
    """
    for _ in range(ROUNDS):
        witness = _witness(run, store_view, suspected)
        gone = set(_absent(run.sync.source, store_view, ids, witness))
        if not witness or run.sync.source.count_of(store_view, witness) == 1:
            return gone
    raise absence.outage(f"products of store view {store_view}")


def _witness(run: Run, store_view: str, suspected: Collection[int]) -> list[int]:
    """The newest product that is not suspected and that the tenant lists; none when all are suspected."""
    candidates = run.read(lambda c: products.newest_live(c, store_view, suspected, WITNESSES))
    for candidate in candidates:
        if run.sync.source.count_of(store_view, [candidate]) == 1:
            return [candidate]
    if candidates:
        raise absence.outage(f"products of store view {store_view}")
    return []


def _absent(source: Products, store_view: str, ids: Sequence[int], witness: list[int]) -> Iterator[int]:
    """Those of `ids` that the tenant does not list, if it lists the witness all the while."""
    listed = source.count_of(store_view, [*ids, *witness]) - len(witness)
    if listed <= 0:
        yield from ids
    elif listed < len(ids):
        middle = len(ids) // 2
        yield from _absent(source, store_view, ids[:middle], witness)
        yield from _absent(source, store_view, ids[middle:], witness)
