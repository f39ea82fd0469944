"""The extractor: reads every product of a range of ids, page by page, and counts them.

Keyset pagination: a walk requests `entity_id gt <cursor>`, ascending, until a page is empty. Failures:

    a page is too large        smaller pages for all threads, growing back
    a page fails for good      this walk halves it until one product is alone, which is reported
    a page is out of order     sorted, when a count proves that nothing between its ids is missing
    everything fails           the walk waits for the tenant, then CommerceUnavailable; no product is reported
    the rest seems to be gone  accepted only while products just read are still listed: else it is an outage

Observed on Magento 2.4.7: one product that throws fails its whole page, and a page number far beyond the end
answers with the true `total_count` without loading a single product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

from sync.commerce.client import LONGEST_PAGE, LONGEST_PRODUCT, Answer, Client
from sync.commerce.keyset import Miscounted, check_outage, too_many_broken, walk
from sync.commerce.listing import EXACT, HIGHEST_ID, PRODUCTS, OutOfOrder, Surplus, read_count, read_page
from sync.commerce.page_size import LearnedSize, PageSize, WalkSize
from sync.commerce.retry import HungUp
from sync.commerce.search import (
    LIGHT_FIELDS,
    Criteria,
    Group,
    any_id,
    any_sku,
    chunks,
    updated_since,
    within,
)
from sync.errors import PageFailed, RequestRefused, SettingsError
from sync.model import Count, Interval, KnownPage, Page, RawProduct, Unreadable

T = TypeVar("T")

EVERY_ID: Final = Interval()
FAR_PAGE: Final = 1_000_000_000
WITNESSES: Final = 10
MOST_IN_A_ROW: Final = PRODUCTS.most_broken  # also while no thread reads any other
_SKU_NAMES: Final = 240  # characters of the parameter names around one SKU


@dataclass(frozen=True, slots=True)
class Extent:
    """The highest id (0 for none), the number of products, and the server's clock."""

    highest_id: int
    total: int
    server_time: datetime | None


@dataclass(frozen=True, slots=True)
class Miscount:
    """A constant error of a tenant's counts in a store view: by how much `total_count` is too high.

    ranges      in lists by ranges of ids
    named       in lists by ids or SKUs
    products    in lists that contain these products, by id: 1 for one that is counted twice, -1 for one
                that is listed and not counted
    """

    ranges: Surplus = EXACT
    named: Surplus = EXACT
    products: Mapping[int, int] = field(default_factory=dict)

    @property
    def most(self) -> int:
        """By how much the count of all products is too high."""
        return self.ranges.filled + sum(self.products.values())

    def within(self, interval: Interval) -> int:
        """How many products of a range are counted twice."""
        return sum(max(0, self.products[number]) for number in self._among(interval))

    def uncounted(self, interval: Interval) -> int:
        """How many products of a range are listed and not counted."""
        return sum(self.products[number] < 0 for number in self._among(interval))

    def _among(self, interval: Interval) -> list[int]:
        end = HIGHEST_ID if interval.last is None else interval.last
        return [number for number in self.products if interval.after < number <= end]

    def as_json(self) -> Any:
        return [list(self.ranges[:2]), list(self.named[:2]), [[i, more] for i, more in self.products.items()]]

    @classmethod
    def from_json(cls, kept: Any) -> Self:
        ranges, named, products = kept
        return cls(Surplus(*ranges), Surplus(*named), {int(i): more for i, more in products})


@dataclass(frozen=True, slots=True)
class _Scope:
    """A selection of products: a store view, and the filters besides the ids.

    is_named    they are requested by ids or SKUs
    """

    store_view: str
    filters: tuple[Group, ...] = ()
    is_named: bool = False

    @classmethod
    def since(cls, store_view: str, moment: datetime | None) -> Self:
        return cls(store_view, () if moment is None else (updated_since(moment),))

    def within(self, interval: Interval) -> tuple[Group, ...]:
        return (*within(interval), *self.filters)


class Products:
    """GET /V1/products. One object serves all threads of a pass: they share the page size.

    page_size   first size and ceiling
    size        shared by all walks
    miscounts   by store view, the known error of the tenant's counts; all counts are corrected by it
    unreadable  products, since any thread last read a page

    Every method raises what `Client.get` raises.
    """

    def __init__(self, client: Client, *, page_size: int = 300, learned: LearnedSize | None = None) -> None:
        self._client = client
        self.size = PageSize(page_size, learned)
        self.miscounts: dict[str, Miscount] = {}
        self.unreadable = 0

    @property
    def learned(self) -> LearnedSize:
        """The learned page sizes, for the next process."""
        return self.size.learned

    def walk(
        self,
        store_view: str,
        interval: Interval,
        *,
        updated_from: datetime | None = None,
        known: Mapping[int, KnownPage] | None = None,
        expected: int | None = None,
        counted_later: bool = False,
    ) -> Iterator[Page | Unreadable]:
        """Every product of an interval, ascending, without gaps or overlaps.

        updated_from    only products updated then or later
        known           pages read before, by the id they begin after
        expected        how many products it was said to hold
        counted_later   the caller makes sure that no product was left out

        A page with fewer products than fit is the last one if that many were expected; otherwise an empty one
        follows. Without an upper end an empty page always does, and covers all further ids.
        """
        scope = _Scope.since(store_view, updated_from)
        yield from self._walk(scope, interval, known, expected=expected, counted_later=counted_later)

    def by_ids(self, store_view: str, product_ids: Iterable[int]) -> Iterator[RawProduct | Unreadable]:
        """Those of the products that exist, ascending."""
        for ids in chunks(sorted(set(product_ids)), _id_length):
            span = Interval(ids[0] - 1, ids[-1])
            yield from _flat(self._walk(_Scope(store_view, (any_id(ids),), is_named=True), span))

    def by_skus(self, store_view: str, skus: Iterable[str]) -> Iterator[RawProduct | Unreadable]:
        """The products with these SKUs; Commerce ignores case, and a SKU can match more than one."""
        for some in chunks(sorted(set(skus)), _sku_length):
            yield from _flat(self._walk(_Scope(store_view, (any_sku(some),), is_named=True), EVERY_ID))

    def count(
        self, store_view: str, interval: Interval = EVERY_ID, *, updated_from: datetime | None = None
    ) -> Count:
        """How many products an interval holds, counting those updated at `updated_from` or later."""
        found = self._count(_Scope.since(store_view, updated_from), interval)
        more = self._miscount(store_view).within(interval) if updated_from is None else 0
        return replace(found, total=max(0, found.total - more))

    def knows(self, store_view: str) -> bool:
        """Whether the store view exists in Commerce."""
        try:
            self.count(store_view, Interval(0, 0))
        except (SettingsError, RequestRefused):
            return False
        return True

    def count_of(self, store_view: str, product_ids: Iterable[int]) -> int:
        """How many of these products exist; those that are counted wrong are listed instead."""
        asked, odd = set(product_ids), self._miscount(store_view).products.keys()
        return sum(
            self._count(self._named(store_view, ids), EVERY_ID).total
            for ids in chunks(sorted(asked - odd), _id_length)
        ) + len(self.listed(store_view, asked & odd))

    def listed(self, store_view: str, product_ids: Iterable[int], *, patient: bool = True) -> set[int]:
        """Those of the products that the tenant lists, whatever it counts.

        patient    as in `Client.get`: False where one of them may be broken, so that it fails early
        """
        asked = chunks(sorted(product_ids), _id_length)
        return {n for ids in asked for n in self._count_and_list(store_view, ids, patient=patient)[1]}

    def uncounted(self, store_view: str, product_ids: Iterable[int]) -> set[int]:
        """Those of the products that the tenant lists and does not count, found by halving."""
        found, filled = set[int](), self._miscount(store_view).named.filled
        stack = list(chunks(sorted(product_ids), _id_length))
        while stack:
            asked = stack.pop()
            total, listed = self._count_and_list(store_view, asked)
            if total - filled >= len(listed):
                continue
            if len(asked) == 1:
                found.update(listed)
            else:
                middle = len(asked) // 2
                stack += [asked[:middle], asked[middle:]]
        return found

    def _count_and_list(
        self, store_view: str, ids: Sequence[int], *, patient: bool = True
    ) -> tuple[int, list[int]]:
        """How many of the products the tenant counts, and which it lists."""
        criteria = Criteria(PRODUCTS, (any_id(ids),), len(ids), fields=LIGHT_FIELDS)
        return self._client.get(PRODUCTS.path, criteria.params(), store_view, read_count, patient=patient)

    @staticmethod
    def _named(store_view: str, product_ids: Iterable[int]) -> _Scope:
        return _Scope(store_view, (any_id(product_ids),), is_named=True)

    def highest(
        self, store_view: str, interval: Interval = EVERY_ID, *, updated_from: datetime | None = None
    ) -> Extent:
        """The extent of an interval, of the products updated at `updated_from` or later.

        One request, unless the last products cannot be read.
        """
        scope = _Scope.since(store_view, updated_from)
        for skipped in range(MOST_IN_A_ROW):
            page = self._from_the_end(scope, interval, skipped)
            if page is None:
                continue
            top = page.products[0].product_id if page.products else 0
            if skipped:
                unread = Interval(max(top, interval.after), interval.last)
                top = self._nth_id(scope, unread, skipped) or top
            more = self._miscount(store_view).within(interval) if updated_from is None else 0
            return Extent(top, max(0, page.total_count - more), page.server_time)
        raise too_many_broken(MOST_IN_A_ROW, f"products of store view {store_view}")

    # --- a tenant that miscounts --------------------------------------------------------------------------

    def calibrate(self, store_view: str) -> bool:
        """Count lists whose length is known; returns whether the known error has changed.

        The interval (0, 0] is empty, and the first and the last id listed have one product each. An error
        that both of these show is the tenant's, and not that of a product.
        """
        before = self._miscount(store_view)
        ids = {number for way in ("ASC", "DESC") for number in self._raw(store_view, EVERY_ID, way)[1]}
        nothing = Interval(0, 0)
        by_range = [self._raw(store_view, Interval(number - 1, number))[0] - 1 for number in ids]
        by_name = [self._raw(store_view, EVERY_ID, number=number)[0] - 1 for number in ids]
        found = replace(
            before,
            ranges=Surplus(_common(by_range), self._raw(store_view, nothing)[0]),
            named=Surplus(_common(by_name), self._raw(store_view, nothing, number=HIGHEST_ID)[0]),
        )
        self.miscounts[store_view] = found
        return found != before

    def learn_products(self, store_view: str, products: Mapping[int, int]) -> None:
        """Note how much too high the counts of these products are, by id."""
        self.miscounts[store_view] = replace(self._miscount(store_view), products=products)

    def learn_uncounted(self, store_view: str, product_ids: Iterable[int]) -> bool:
        """Note those of the products that are listed and not counted; returns whether any are new."""
        known = self._miscount(store_view).products
        found = self.uncounted(store_view, set(product_ids) - known.keys())
        self.learn_products(store_view, {**known, **dict.fromkeys(found, -1)})
        return bool(found)

    def _miscount(self, store_view: str) -> Miscount:
        return self.miscounts.get(store_view, Miscount())

    def _surplus(self, scope: _Scope, interval: Interval) -> Surplus:
        miscount = self._miscount(scope.store_view)
        known = miscount.named if scope.is_named else miscount.ranges
        few = miscount.uncounted(interval)
        if scope.filters:  # they may or may not be in this list
            return known._replace(uncounted=few)
        return known._replace(filled=known.filled - few)

    def _raw(
        self, store_view: str, interval: Interval, direction: str = "ASC", number: int | None = None
    ) -> tuple[int, list[int]]:
        """The tenant's count of an interval, or of one product in it, and the first id that it lists."""
        groups = within(interval) if number is None else (*within(interval), any_id([number]))
        criteria = Criteria(PRODUCTS, groups, 1, direction, fields=LIGHT_FIELDS)
        return self._client.get(PRODUCTS.path, criteria.params(), store_view, read_count)

    # --- pages --------------------------------------------------------------------------------------------

    def _walk(
        self,
        scope: _Scope,
        interval: Interval,
        known: Mapping[int, KnownPage] | None = None,
        *,
        expected: int | None = None,
        counted_later: bool = False,
    ) -> Iterator[Page | Unreadable]:
        """Pages until one is empty or reaches the end of the interval."""
        steps = _Walk(self, scope, known, expected, counted_later)
        return walk(steps, None if interval.is_empty else interval)

    def page(
        self,
        scope: _Scope,
        interval: Interval,
        size: int,
        previous: Page | None = None,
        *,
        patient: bool = False,
        known: Mapping[int, KnownPage] | None = None,
        counted_later: bool = False,
    ) -> Page:
        criteria = Criteria(PRODUCTS, scope.within(interval), size)

        def reader(answer: Answer) -> Page:
            try:
                page = read_page(
                    criteria, scope.store_view, interval, answer, known, self._surplus(scope, interval)
                )
            except OutOfOrder as found:
                page = self._sorted(scope, interval, size, found)
            else:
                if previous is not None or not counted_later:
                    self._check_outage(scope, interval, page, previous)
            self.size.went_well(size, page.receipt.body_bytes if page.receipt else len(answer.body))
            return page

        ask = partial(
            self._client.get,
            PRODUCTS.path,
            criteria.params(),
            scope.store_view,
            reader,
            kind="page",
            longest=LONGEST_PAGE if size > 1 else LONGEST_PRODUCT,
        )
        try:
            return self._counted(scope, partial(ask, patient=patient))
        except HungUp:  # a smaller page may be fast enough
            self.size.failed(size)
            raise

    def _counted(self, scope: _Scope, ask: Callable[[], Page]) -> Page:
        """Send the request; when count and list contradict each other, learn the error and send it again."""
        try:
            return ask()
        except Miscounted as found:
            if not self.calibrate(scope.store_view) and not self.learn_uncounted(
                scope.store_view, found.listed
            ):
                raise
            return ask()

    def _sorted(self, scope: _Scope, interval: Interval, size: int, found: OutOfOrder) -> Page:
        """A page in another order than requested, when nothing between its ids is missing.

        Otherwise the first `size` ids of the interval, found by counting, are requested alone: they fill a
        page in any order.
        """
        page, sent = found.page, len(found.page.products)
        if page.total_count == sent or self._count(scope, page.interval).total == sent:
            return page
        end = self._nth_id(scope, interval, size)
        if end is None or end == interval.last:
            raise found
        return self.page(scope, Interval(interval.after, end), size)

    def _check_outage(self, scope: _Scope, interval: Interval, page: Page, previous: Page | None) -> None:
        read = previous.products if previous else ()
        check_outage(
            f"products of store view {scope.store_view}",
            len(page.products),
            page.total_count,
            previous.total_count - len(read) if previous else None,
            lambda: self.count_of(scope.store_view, [it.product_id for it in read[-WITNESSES:]]),
            lambda: self._count(scope, interval).total,
        )

    def isolate(self, scope: _Scope, rest: Interval) -> Page | Unreadable:
        """The first product of `rest`, whose page of one failed: read after all, or reported as unreadable.

        1. Find its id by counting, which loads no product and waits for a tenant that is down.
        2. Read it once more: the tenant may have failed, not the product.
        """
        first = self._nth_id(scope, rest, 1)
        if first is None:  # deleted meanwhile
            return self.page(scope, rest, 1, patient=True)
        alone = Interval(rest.after, first)
        try:
            return self.page(scope, alone, 1)
        except PageFailed as failure:
            return Unreadable(scope.store_view, alone, first, str(failure))

    def _nth_id(self, scope: _Scope, interval: Interval, rank: int) -> int | None:
        """The id of the product with this rank in an interval, by counting; None when there are fewer."""
        end = HIGHEST_ID if interval.last is None else interval.last
        low, high = interval.after, min(interval.after + 1, end)
        while self._count_far(scope, Interval(interval.after, high)).total < rank:
            if high >= end:
                return None
            low, high = high, min(2 * high - interval.after, end)
        while high - low > 1:
            middle = (low + high) // 2
            enough = self._count_far(scope, Interval(interval.after, middle)).total >= rank
            low, high = (low, middle) if enough else (middle, high)
        return high

    # --- light requests -----------------------------------------------------------------------------------

    def _count(self, scope: _Scope, interval: Interval) -> Count:
        """Count with a page of one product; when that product is unreadable, with an empty page."""
        try:
            page = self._read_light(scope, interval)
        except PageFailed:
            return self._count_far(scope, interval)
        return Count(page.total_count, page.server_time)

    def _count_far(self, scope: _Scope, interval: Interval) -> Count:
        """Count with a page far beyond the end: slower to find, but no product is loaded."""
        page = self._read_light(scope, interval, current_page=FAR_PAGE, patient=True)
        return Count(page.total_count, page.server_time)

    def _from_the_end(self, scope: _Scope, interval: Interval, skipped: int) -> Page | None:
        """The last product after skipping so many; None when it is unreadable and the tenant is up."""
        last_but = partial(self._read_light, scope, interval, direction="DESC", current_page=skipped + 1)
        try:
            return last_but()
        except PageFailed:
            self._count_far(scope, Interval(0, 0))  # waits for the tenant if it is down
        try:
            return last_but()
        except PageFailed:
            return None

    def _read_light(
        self,
        scope: _Scope,
        interval: Interval,
        *,
        direction: str = "ASC",
        current_page: int = 1,
        patient: bool = False,
    ) -> Page:
        """The id of one product, and how many match: the fastest request."""
        criteria = Criteria(PRODUCTS, scope.within(interval), 1, direction, current_page, LIGHT_FIELDS)

        def reader(answer: Answer) -> Page:
            return read_page(
                criteria, scope.store_view, interval, answer, surplus=self._surplus(scope, interval)
            )

        ask = partial(self._client.get, PRODUCTS.path, criteria.params(), scope.store_view, reader)
        return self._counted(scope, partial(ask, patient=patient))


@dataclass(slots=True)
class _Walk:
    """The steps of one walk. Its cursor is the interval that is left.

    A page of one product that was isolated is verified: a wrong id would hide the ids before it.
    """

    products: Products
    scope: _Scope
    known: Mapping[int, KnownPage] | None
    expected: int | None = None
    counted_later: bool = False
    sizes: WalkSize = field(init=False)
    previous: Page | None = None
    in_a_row: int = 0

    def __post_init__(self) -> None:
        self.sizes = WalkSize(self.products.size)

    def size(self, left: Interval) -> int:
        return min(self.sizes.current, _width(left))

    def page(self, left: Interval, size: int) -> Page | Unreadable:
        if self.sizes.is_isolating:
            return self._isolated(left)
        page = self.previous = self.products.page(
            self.scope, left, size, self.previous, known=self.known, counted_later=self.counted_later
        )
        self.sizes.went_well(size)
        is_last = self._is_last(page, left, size)
        self.expected = page.total_count - len(page.products)
        return replace(page, interval=left) if is_last else page

    def _is_last(self, page: Page, left: Interval, size: int) -> bool:
        """Whether a page speaks for all that is left, although its products end before."""
        if left.last is None or page.known is not None or not len(page.products) == page.total_count < size:
            return False
        return self.counted_later or (self.expected is not None and page.total_count >= self.expected)

    def alone(self, left: Interval, _failure: PageFailed) -> Page | Unreadable:
        return self._isolated(left)

    def _isolated(self, left: Interval) -> Page | Unreadable:
        found = self.products.isolate(self.scope, left)
        if isinstance(found, Page):
            self.sizes.went_well(1)
        return found

    def rest(self, left: Interval, found: Page | Unreadable) -> Interval | None:
        self._count_unreadable(found)
        if found.interval.last is None:
            return None
        rest = Interval(found.interval.last, left.last)
        return None if rest.is_empty else rest

    def _count_unreadable(self, found: Page | Unreadable) -> None:
        if isinstance(found, Page):
            self.in_a_row = self.products.unreadable = 0
            return
        self.in_a_row += 1
        self.products.unreadable += 1
        if max(self.in_a_row, self.products.unreadable) > MOST_IN_A_ROW:
            raise too_many_broken(MOST_IN_A_ROW, f"products of store view {self.scope.store_view}")


def _common(surplus: Sequence[int]) -> int:
    """The common value; 0 when they differ, or there is none."""
    return surplus[0] if surplus and len(set(surplus)) == 1 else 0


def _width(interval: Interval) -> int:
    """How many products an interval can hold: larger pages only make a broken one harder to find."""
    return HIGHEST_ID if interval.last is None else interval.last - interval.after


def _flat(found: Iterable[Page | Unreadable]) -> Iterator[RawProduct | Unreadable]:
    for step in found:
        if isinstance(step, Page):
            yield from step.products
        else:
            yield step


def _id_length(product_id: int) -> int:
    return len(f"{product_id}%2C")


def _sku_length(sku: str) -> int:
    return _SKU_NAMES + len(quote(sku))
