"""Source items: the stock of each SKU in each source, read completely.

    GET /V1/inventory/source-items    source_code eq S, sku gt <last>, sorted by sku, page 1

A source item has no id and no time stamp. Within a source its SKU is a key: Commerce has a unique index over
(source_code, sku). The filter `gt`, the order and that index use the same collation, so the order within a
source is total and strict. Keyset pagination by SKU therefore reads every row that stays exactly once, while
others are added and removed; page numbers would shift. Only the server compares SKUs, never this code.
The filter ignores case, and rows have the stored spelling: a row of `Berlin` belongs to the source `berlin`.

The end is an empty page. It is accepted only if it agrees with the count of the page before, or if the last
rows are still listed and a count agrees: an outage can look like an end.

A row that fails even alone is left out, after the tenant has answered another request. A SKU that a firewall
refuses in a URL cannot be a cursor: an earlier one is used, and rows that were read already are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, Generic, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from sync.collation import collated
from sync.commerce.client import Answer, Client
from sync.commerce.decoding import NonNegativeInteger, decoded, is_storable
from sync.commerce.page_size import PageSize
from sync.commerce.retry import PageTooLarge
from sync.commerce.search import Echo
from sync.errors import (
    AccessDenied,
    AnswerUnreadable,
    CommerceError,
    PageFailed,
    RequestBlocked,
    RequestRefused,
    SettingsError,
)

PATH: Final = "/V1/inventory/source-items"
SOURCES_PATH: Final = "/V1/inventory/sources"
SCOPE: Final = "all"
WITNESSES: Final = 5
MOST_BROKEN: Final = 20  # consecutive rows that fail alone; after more, the rows are not the cause
REFUSED: Final = (RequestBlocked, RequestRefused, SettingsError)  # perhaps only because of a SKU in the URL
FILTER_BUDGET: Final = 3_000  # characters of a URL
_RULE_LENGTH: Final = 200  # of them, of the parameter names around one value
CONDITIONS: Final = {"sku": frozenset({"eq", "in", "gt"}), "source_code": frozenset({"eq", "gt"})}


_Code = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]


class SourceItem(NamedTuple):
    """The stock of a SKU in a source."""

    source_code: str
    sku: str
    quantity: Decimal | None
    status: int | None


@dataclass(frozen=True, slots=True)
class StockPage:
    """Consecutive rows of a source; `total_count` counts from the first of them to the end."""

    items: tuple[SourceItem, ...]
    total_count: int


class _Rule(NamedTuple):
    field: str
    condition: str
    value: str


_Group = tuple[_Rule, ...]  # any of these


@dataclass(frozen=True, slots=True)
class _ListRequest:
    """A request for a page of a list: rows that match all of `groups`, in the order of `sort`.

    Raises ValueError for a filter that is not in the whitelist: Commerce would answer with wrong rows.
    """

    path: str
    groups: tuple[_Group, ...]
    sort: str
    page_size: int
    current_page: int = 1

    def __post_init__(self) -> None:
        for rule in (rule for group in self.groups for rule in group):
            if rule.condition not in CONDITIONS[rule.field]:
                raise ValueError(f"no filter {rule.field!r} {rule.condition!r} in the whitelist")

    def params(self) -> list[tuple[str, str]]:
        pairs = []
        for number, group in enumerate(self.groups):
            for place, rule in enumerate(group):
                name = f"searchCriteria[filterGroups][{number}][filters][{place}]"
                pairs += [
                    (f"{name}[field]", rule.field),
                    (f"{name}[conditionType]", rule.condition),
                    (f"{name}[value]", rule.value),
                ]
        return [
            *pairs,
            ("searchCriteria[sortOrders][0][field]", self.sort),
            ("searchCriteria[sortOrders][0][direction]", "ASC"),
            ("searchCriteria[pageSize]", str(self.page_size)),
            ("searchCriteria[currentPage]", str(self.current_page)),
        ]

    def check(self, echo: Echo, sent: int, total: int) -> None:
        """Raise AnswerUnreadable unless such an answer belongs to this request."""
        asked = frozenset(frozenset(map(_trimmed, group)) for group in self.groups)
        echoed = frozenset(frozenset(_trimmed(_Rule(*rule)) for rule in group) for group in echo.asked())
        if echoed != asked or echo.page_size != self.page_size:
            raise AnswerUnreadable(f"Commerce sent other rows of {self.path} than requested.")
        if echo.sort_orders and echo.sorting() != [(self.sort, "ASC")]:
            raise AnswerUnreadable(f"Commerce sorted {self.path} by {echo.sorting()}.")
        if sent > min(self.page_size, total) or (
            total > (self.current_page - 1) * self.page_size and not sent
        ):
            raise AnswerUnreadable(
                f"Commerce sent {sent} rows of {total} for a page of {self.page_size} of {self.path}."
            )


class _Item(msgspec.Struct):
    """A row: its key must be valid, its values are converted."""

    sku: str | int
    source_code: _Code
    quantity: object = None
    status: object = None


class _Source(msgspec.Struct):
    source_code: _Code


T = TypeVar("T")
R = TypeVar("R", bound="_Item | _Source")


class _Envelope(msgspec.Struct, Generic[R]):
    items: list[R]
    search_criteria: Echo
    total_count: NonNegativeInteger


_ITEMS = msgspec.json.Decoder(_Envelope[_Item], strict=False, float_hook=Decimal)
_SOURCES = msgspec.json.Decoder(_Envelope[_Source])


class Stock:
    """The source items of one tenant. One object serves all threads of a pass: they share the page size.

    page_size    first size and ceiling
    unreadable   sentences about rows that were left out

    Every method raises what `Client.get` raises.
    """

    def __init__(self, client: Client, *, page_size: int = 300) -> None:
        self._client = client
        self._size = PageSize(page_size)
        self.unreadable: list[str] = []

    def sources(self) -> list[str]:
        """The codes of all sources, enabled or not."""
        codes: list[str] = []
        while True:
            after = ((_Rule("source_code", "gt", codes[-1]),),) if codes else ()
            found = self._sized(lambda size, b=after: self._some_sources(b, size))  # type: ignore[misc]
            if not found:
                return codes
            if codes and codes[-1] in found:
                raise AnswerUnreadable("Commerce lists the same sources again and again.")
            codes += found

    @property
    def most_named(self) -> int:
        """How many SKUs one call of `listed` may name."""
        return max(1, (self._size.current - 2) // 2)

    def walk(self, source_code: str) -> Iterator[StockPage]:
        """Every row of a source, page by page, without the empty page at the end."""
        previous: StockPage | None = None
        recent: tuple[SourceItem, ...] = ()
        while True:
            try:
                page = self._sized(lambda size, p=previous: self._page(source_code, p, size))  # type: ignore[misc]
            except PageFailed as failure:
                page = self._after_broken(source_code, previous, failure)
            except REFUSED as refusal:
                page = self._from_earlier(source_code, recent, refusal)
            if not page.items:
                return
            yield page
            previous, recent = page, (*recent, *page.items)[-WITNESSES:]

    def wait_until_well(self) -> None:
        """Send another request until it is answered; a refusal is an answer."""
        with suppress(AccessDenied, RequestRefused, SettingsError):
            self._some_sources((), 1)

    def count(self, source_code: str) -> int:
        """How many rows a source has."""
        return self._ask((_equal("source_code", source_code),), 1).total_count

    def listed(self, source_code: str, skus: Sequence[str], witness: SourceItem) -> list[SourceItem]:
        """The rows of these SKUs in a source, read together with a witness: a row that must exist.

        skus    a list from `chunks`

        Raises AnswerUnreadable when the witness is missing: then the answer proves nothing.
        """
        sources = tuple(_Rule("source_code", "eq", code) for code in {source_code, witness.source_code})
        page = self._ask((sources, _any_sku([*skus, witness.sku])), 2 * len(skus) + 2, patient=False)
        if page.total_count > len(page.items):
            raise AnswerUnreadable("Commerce has more rows than the SKUs that were requested.")
        if not any(
            _is_of(witness.source_code, item) and collated(item.sku) == collated(witness.sku)
            for item in page.items
        ):
            raise AnswerUnreadable(
                f"Commerce no longer lists {witness.sku!r} in source {witness.source_code}, which it listed "
                "a moment ago.",
                "check the tenant: this looks like an outage; the next run tries again.",
            )
        ours = (item for item in page.items if _is_of(source_code, item))
        return [item._replace(source_code=source_code) for item in ours]

    # --- pages ---------------------------------------------------------------------------------

    def _sized(self, ask: Callable[[int], T]) -> T:
        """Request a page with the current size, and with smaller ones while that is too large."""
        while True:
            size = self._size.current
            try:
                return ask(size)
            except PageFailed as failure:
                if size == 1:
                    raise
                if isinstance(failure, PageTooLarge):
                    self._size.cap(min(failure.maximum, size - 1))
                else:
                    self._size.failed(size)

    def _page(self, source_code: str, previous: StockPage | None, size: int) -> StockPage:
        rest: tuple[_Group, ...] = (_equal("source_code", source_code),)
        if previous is not None:
            rest = (*rest, (_Rule("sku", "gt", previous.items[-1].sku),))

        read = {item.sku for item in previous.items} if previous is not None else set()

        def check(page: StockPage) -> None:
            if any(not _is_of(source_code, item) or item.sku in read for item in page.items):
                raise AnswerUnreadable(f"Commerce sent rows of source {source_code} that were not requested.")
            if previous is not None:
                self._check_outage(page, previous, source_code, rest)
            elif not page.items and (count := self.count(source_code)):
                raise AnswerUnreadable(f"Commerce counts {count} rows of source {source_code} and sent none.")

        page = self._ask(rest, size, check, patient=False)
        return replace(page, items=tuple(item._replace(source_code=source_code) for item in page.items))

    def _after_broken(self, source_code: str, previous: StockPage | None, failure: PageFailed) -> StockPage:
        """A page of one row after those that fail alone; an empty one when nothing follows."""
        self.wait_until_well()
        rest: tuple[_Group, ...] = (_equal("source_code", source_code),)
        if previous is not None:
            rest = (*rest, (_Rule("sku", "gt", previous.items[-1].sku),))
        left = MOST_BROKEN if previous is None else previous.total_count - len(previous.items)
        for number in range(1, min(left, MOST_BROKEN) + 2):
            try:
                page = self._ask(rest, 1, patient=False, number=number)
            except PageFailed:
                continue
            if number > 1:
                place = "at the start" if previous is None else f"after {previous.items[-1].sku!r}"
                self.unreadable.append(f"{number - 1} rows of source {source_code}, {place}: {failure}")
            items = tuple(item._replace(source_code=source_code) for item in page.items)
            return StockPage(items, page.total_count - number + 1)
        self.wait_until_well()
        raise AnswerUnreadable(
            f"More than {MOST_BROKEN} rows of source {source_code} in a row cannot be read.",
            "check the tenant's exception log: something breaks all of them, perhaps an extension.",
        )

    def _from_earlier(
        self, source_code: str, recent: Sequence[SourceItem], refusal: CommerceError | SettingsError
    ) -> StockPage:
        """The page after the last of these rows, with an earlier SKU as cursor: its own is refused."""
        for back, earlier in enumerate(reversed(recent[:-1]), start=1):
            rest = (_equal("source_code", source_code), (_Rule("sku", "gt", earlier.sku),))
            try:
                page = self._ask(rest, max(self._size.current, back + 1), patient=False)
            except REFUSED:
                continue
            skus = [item.sku for item in page.items]
            read = skus.index(recent[-1].sku) + 1 if recent[-1].sku in skus else 0
            items = tuple(item._replace(source_code=source_code) for item in page.items[read:])
            return StockPage(items, page.total_count - read)
        raise refusal

    def _ask(
        self,
        groups: tuple[_Group, ...],
        size: int,
        check: Callable[[StockPage], None] = lambda page: None,
        *,
        patient: bool = True,
        number: int = 1,
    ) -> StockPage:
        request = _ListRequest(PATH, groups, "sku", size, number)

        def reader(answer: Answer) -> StockPage:
            found = decoded(_ITEMS, answer.body, "stock")
            request.check(found.search_criteria, len(found.items), found.total_count)
            page = StockPage(tuple(map(_item, found.items)), found.total_count)
            check(page)
            self._size.went_well(size, len(answer.body))
            return page

        return self._client.get(PATH, request.params(), SCOPE, reader, patient=patient)

    def _check_outage(
        self, page: StockPage, previous: StockPage, source_code: str, rest: tuple[_Group, ...]
    ) -> None:
        """Raise AnswerUnreadable when many rows seem to be gone, unless that is proven."""
        expected = previous.total_count - len(previous.items)
        slack = 10 + expected // 100 if page.items else 0
        if page.total_count + slack >= expected:
            return
        witnesses = _any_sku([item.sku for item in previous.items[-WITNESSES:]])
        still_there = self._ask((rest[0], witnesses), 1).total_count
        if not still_there or self._ask(rest, 1).total_count > page.total_count + slack:
            raise AnswerUnreadable(
                f"{expected - page.total_count} rows of source {source_code} seem to have vanished at once.",
                "check the tenant: this looks like an outage; the next run reads again.",
            )

    def _some_sources(self, groups: tuple[_Group, ...], size: int) -> list[str]:
        request = _ListRequest(SOURCES_PATH, groups, "source_code", size)

        def reader(answer: Answer) -> list[str]:
            found = decoded(_SOURCES, answer.body, "sources")
            request.check(found.search_criteria, len(found.items), found.total_count)
            return [source.source_code for source in found.items]

        return self._client.get(SOURCES_PATH, request.params(), SCOPE, reader, patient=size == 1)


def chunks(skus: Sequence[str], most: int) -> Iterator[list[str]]:
    """Split SKUs into lists for one request each: short enough for a URL, and at most `most`."""
    chunk: list[str] = []
    used = 0
    for sku in skus:
        length = len(quote(sku)) + (3 if _fits_list(sku) else _RULE_LENGTH)
        if chunk and (used + length > FILTER_BUDGET or len(chunk) == most):
            yield chunk
            chunk, used = [], 0
        chunk.append(sku)
        used += length
    if chunk:
        yield chunk


def _any_sku(skus: Sequence[str]) -> _Group:
    """One `in` list, and an `eq` for each SKU that a list cannot hold, since it is split at commas."""
    together = [sku for sku in dict.fromkeys(skus) if _fits_list(sku)]
    alone = tuple(_Rule("sku", "eq", sku) for sku in dict.fromkeys(skus) if not _fits_list(sku))
    return (*alone, _Rule("sku", "in", ",".join(together))) if together else alone


def _fits_list(sku: str) -> bool:
    return bool(sku) and "," not in sku and sku == sku.strip()


def _is_of(source_code: str, item: SourceItem) -> bool:
    return collated(item.source_code) == collated(source_code)


def _equal(field: str, value: str) -> _Group:
    return (_Rule(field, "eq", value),)


def _trimmed(rule: _Rule) -> _Rule:
    return rule._replace(value=rule.value.strip())


def _item(row: _Item) -> SourceItem:
    status = _number(row.status)
    return SourceItem(
        row.source_code,
        str(row.sku),
        _number(row.quantity),
        int(status) if status is not None and status == status.to_integral_value() else None,
    )


def _number(sent: object) -> Decimal | None:
    """A number, also one in quotes; None for anything else, or a number that cannot be stored.

    >>> _number("12.5000"), _number(True), _number("many"), _number(Decimal("1e999999"))
    (Decimal('12.5000'), Decimal('1'), None, None)
    """
    try:
        number = Decimal(int(sent) if isinstance(sent, bool) else str(sent))
    except (InvalidOperation, ValueError):
        return None
    return number if is_storable(number) else None
