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

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, NamedTuple
from urllib.parse import quote

import msgspec

from sync.collation import collated
from sync.commerce import search
from sync.commerce.client import Client
from sync.commerce.decoding import is_storable
from sync.commerce.keyset import Cursor, Envelope, Keyset, ListPage, check_outage, equal, rows, until_well
from sync.commerce.page_size import PageSize
from sync.commerce.search import Filter, Group, Groups, Key, ListSpec
from sync.errors import (
    AnswerUnreadable,
    CommerceError,
    PageFailed,
    RequestBlocked,
    RequestRefused,
    SettingsError,
)
from sync.model import counted

SCOPE: Final = "all"
WITNESSES: Final = 5
REFUSED: Final = (RequestBlocked, RequestRefused, SettingsError)  # perhaps only because of a SKU in the URL
_RULE_LENGTH: Final = 200  # characters of the parameter names around one value

_Code = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]


class SourceItem(NamedTuple):
    """The stock of a SKU in a source."""

    source_code: str
    sku: str
    quantity: Decimal | None
    status: int | None


class _Item(msgspec.Struct):
    """A row: its key must be valid, its values are converted."""

    sku: str | int
    source_code: _Code
    quantity: object = None
    status: object = None


class _Source(msgspec.Struct):
    source_code: _Code


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


_ITEMS = msgspec.json.Decoder(Envelope[_Item], strict=False, float_hook=Decimal)
_SOURCES = msgspec.json.Decoder(Envelope[_Source])
SOURCE_ITEMS: Final = ListSpec(
    "/V1/inventory/source-items",
    "source items",
    "sku",
    {"sku": frozenset({"eq", "in", "gt"}), "source_code": frozenset({"eq"})},
    rows(_ITEMS, _item, "stock"),
    lambda item: item.sku,
    remembered=WITNESSES,
    is_heavy=True,
)
SOURCES: Final = ListSpec(
    "/V1/inventory/sources",
    "sources",
    "source_code",
    {"source_code": frozenset({"gt"})},
    rows(_SOURCES, lambda source: source.source_code, "sources"),
    lambda code: code,
    most_broken=0,  # without one of them, its rows would seem to be gone
)


class Stock:
    """The source items of one tenant. One object serves all threads of a pass: they share the page size.

    page_size    first size and ceiling
    unreadable   sentences about rows that were left out

    Every method raises what `Client.get` raises.
    """

    def __init__(self, client: Client, *, page_size: int = 300) -> None:
        self._client = client
        self.size = PageSize(page_size)
        self.unreadable: list[str] = []

    def sources(self) -> list[str]:
        """The codes of all sources, enabled or not."""
        return [code for page in self._sources().pages() for code in page.items]

    @property
    def most_named(self) -> int:
        """How many SKUs one call of `listed` may name."""
        return max(1, (self.size.current - 2) // 2)

    def walk(self, source_code: str) -> Iterator[ListPage[SourceItem]]:
        """Every row of a source, page by page, without the empty page at the end."""
        for page in self._items(source_code).pages():
            if page.items:
                yield replace(page, items=_spelled(source_code, page.items))

    def wait_until_well(self) -> None:
        """Send another request until it is answered; a refusal is an answer."""
        until_well(lambda: self._sources().ask((), 1))

    def count(self, source_code: str) -> int:
        """How many rows a source has."""
        return self._items(source_code).count()

    def listed(self, source_code: str, skus: Sequence[str], witness: SourceItem) -> list[SourceItem]:
        """The rows of these SKUs in a source, read together with a witness: a row that must exist.

        skus    a list from `chunks`

        Raises AnswerUnreadable when the witness is missing: then the answer proves nothing.
        """
        sources = tuple(Filter("source_code", "eq", code) for code in {source_code, witness.source_code})
        wanted = (sources, _any_sku([*skus, witness.sku]))
        page = self._items(source_code).ask(wanted, 2 * len(skus) + 2, patient=False)
        if page.left:
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
        return list(_spelled(source_code, [item for item in page.items if _is_of(source_code, item)]))

    def _items(self, source_code: str) -> _Items:
        return _Items(self, self._client, source_code)

    def _sources(self) -> Keyset[str]:
        return Keyset(self._client, SOURCES, SCOPE, size=self.size)


class _Items(Keyset[SourceItem]):
    """One walk over the rows of a source."""

    def __init__(self, stock: Stock, client: Client, source_code: str) -> None:
        super().__init__(client, SOURCE_ITEMS, SCOPE, (equal("source_code", source_code),), stock.size)
        self._stock = stock
        self._source_code = source_code

    @property
    def noun(self) -> str:
        return f"rows of source {self._source_code}"

    def count(self) -> int:
        return self.ask(self.base(), 1).total_count

    def page(self, cursor: Cursor, size: int) -> ListPage[SourceItem]:
        try:
            return super().page(cursor, size)
        except REFUSED as refusal:
            return self._from_earlier(cursor.keys[-WITNESSES:], size, refusal)

    def check(self, cursor: Cursor, page: ListPage[SourceItem]) -> None:
        if not all(_is_of(self._source_code, item) for item in page.items):
            raise AnswerUnreadable(f"Commerce sent {self.noun} that were not requested.")
        read = [str(sku) for sku in cursor.keys[-WITNESSES:]]
        check_outage(
            self.noun,
            len(page.items),
            page.total_count,
            cursor.left,
            lambda: self.ask((*self.base(), _any_sku(read)), 1).total_count,
            lambda: self.ask(self.after(cursor), 1).total_count,
        )

    def wait(self) -> None:
        self._stock.wait_until_well()

    def leave_out(self, cursor: Cursor, _following: Key | None, count: int, failure: PageFailed) -> None:
        place = f"after {cursor.keys[-1]!r}" if cursor.keys else "at the start"
        self._stock.unreadable.append(
            f"{counted(count, 'row')} of source {self._source_code}, {place}: {failure}"
        )

    def _from_earlier(
        self, recent: Sequence[Key], size: int, refusal: CommerceError | SettingsError
    ) -> ListPage[SourceItem]:
        """The page after the last of these SKUs, with an earlier one as cursor: its own is refused."""
        for back, earlier in enumerate(reversed(recent[:-1]), start=1):
            rest: Groups = (*self.base(), (Filter("sku", "gt", str(earlier)),))
            try:
                page = self.ask(rest, max(size, back + 1), patient=False)
            except REFUSED:
                continue
            skus = [item.sku for item in page.items]
            read = skus.index(str(recent[-1])) + 1 if recent[-1] in skus else 0
            return ListPage(page.items[read:], page.total_count - read)
        raise refusal


def chunks(skus: Sequence[str], most: int) -> Iterator[list[str]]:
    """Split SKUs into lists for one request each: short enough for a URL, and at most `most`."""
    return search.chunks(skus, lambda sku: len(quote(sku)) + (3 if _fits_list(sku) else _RULE_LENGTH), most)


def _any_sku(skus: Sequence[str]) -> Group:
    """One `in` list, and an `eq` for each SKU that a list cannot hold, since it is split at commas."""
    together = [sku for sku in dict.fromkeys(skus) if _fits_list(sku)]
    alone = tuple(Filter("sku", "eq", sku) for sku in dict.fromkeys(skus) if not _fits_list(sku))
    return (*alone, Filter("sku", "in", ",".join(together))) if together else alone


def _fits_list(sku: str) -> bool:
    return bool(sku) and "," not in sku and sku == sku.strip()


def _spelled(source_code: str, items: Sequence[SourceItem]) -> tuple[SourceItem, ...]:
    """The items with the source as its own list spells it."""
    return tuple(item._replace(source_code=source_code) for item in items)


def _is_of(source_code: str, item: SourceItem) -> bool:
    return collated(item.source_code) == collated(source_code)
