"""Search criteria: which items of a list a request selects. Pure, and built from whitelists only.

Commerce answers a misspelt condition or sort field with 200 and wrong items (observed on Magento 2.4.7:
`GT` acts as equality, an unknown sort is ignored, a date in another form matches everything). So names are
checked here before a request is sent, and the criteria that each answer echoes are compared with it.

Sources: Adobe Commerce Web API, "Search using REST endpoints" (groups are ANDed, filters of a group ORed) and
"API security" (the page limit looks at `pageSize` in exactly this spelling).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from sync.model import Interval

T = TypeVar("T")
Key = int | str

DIRECTIONS: Final = frozenset({"ASC", "DESC"})
LIGHT_FIELDS: Final = "items[id],search_criteria,total_count"
ALL_FIELDS: Final = ""
FILTER_BUDGET: Final = 3_000  # characters of a URL: servers refuse from 8 kB on, proxies earlier


@dataclass(frozen=True, slots=True)
class ListSpec(Generic[T]):
    """A list of Commerce: what distinguishes it from the others.

    key           filters and sorts: unique, so that it is a total order, which keyset pagination needs
    filters       conditions that Commerce is known to understand, by field
    decode        splits the body of an answer; raises PageFailed or AnswerUnreadable
    key_of        the key of an item
    page_size     items on a page at most; small when the server loads items one by one
    most_broken   consecutive items that may fail alone; after more, the items are not the cause
    remembered    keys read before that no page may repeat, besides those of the page before
    is_counted    the walk ends with the page that has all it counts; otherwise with an empty page
    is_heavy      pages shrink with their bytes: several are in memory at once
    """

    path: str
    noun: str
    key: str
    filters: Mapping[str, frozenset[str]]
    decode: Callable[[bytes], Listed[T]]
    key_of: Callable[[T], Key]
    page_size: int = 300
    most_broken: int = 20
    remembered: int = 0
    is_counted: bool = False
    is_heavy: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """One comparison."""

    field: str
    condition: str
    value: str


Group = tuple[Filter, ...]  # any of these
Groups = tuple[Group, ...]  # all of these


@dataclass(frozen=True, slots=True)
class Criteria:
    """The criteria of one request: items of a list that match all of `groups`, ordered by key.

    page_size      items per page, at least 1: for Commerce 0 means "everything"
    direction      ASC or DESC; for Commerce none means DESC
    current_page   counts from 1
    fields         ALL_FIELDS or LIGHT_FIELDS; other fields are missing from the answer

    Raises ValueError when a value is out of range or not in a whitelist: a caller's bug, not a sync failure.
    """

    spec: ListSpec[Any]
    groups: Groups
    page_size: int
    direction: str = "ASC"
    current_page: int = 1
    fields: str = ALL_FIELDS

    def __post_init__(self) -> None:
        for group in self.groups:
            for wanted in group:
                if wanted.condition not in self.spec.filters.get(wanted.field, ()):
                    raise ValueError(f"no filter {wanted.field!r} {wanted.condition!r} in the whitelist")
        if self.page_size < 1 or self.current_page < 1:
            raise ValueError(f"page {self.current_page} of {self.page_size} items does not exist")
        if self.direction not in DIRECTIONS:
            raise ValueError(f"no direction {self.direction!r} in the whitelist")
        if self.fields not in (ALL_FIELDS, LIGHT_FIELDS):
            raise ValueError(f"no fields {self.fields!r} in the whitelist")

    def params(self) -> list[tuple[str, str]]:
        """Query parameters, not yet percent-encoded."""
        pairs = []
        for number, group in enumerate(self.groups):
            for place, wanted in enumerate(group):
                name = f"searchCriteria[filterGroups][{number}][filters][{place}]"
                pairs += [
                    (f"{name}[field]", wanted.field),
                    (f"{name}[conditionType]", wanted.condition),
                    (f"{name}[value]", wanted.value),
                ]
        pairs += [
            ("searchCriteria[sortOrders][0][field]", self.spec.key),
            ("searchCriteria[sortOrders][0][direction]", self.direction),
            ("searchCriteria[pageSize]", str(self.page_size)),
            ("searchCriteria[currentPage]", str(self.current_page)),
        ]
        return [*pairs, ("fields", self.fields)] if self.fields else pairs

    def difference(self, echo: Echo) -> str | None:
        """How the criteria that the server applied differ from these, in words; None when they are equal."""
        if echo.page_size != self.page_size:
            return f"a page size of {echo.page_size} instead of {self.page_size}"
        if echo.current_page not in (None, self.current_page):
            return f"page {echo.current_page} instead of {self.current_page}"
        if echo.sort_orders and echo.sorting() != [(self.spec.key, self.direction)]:
            return f"the order {echo.sorting()} instead of {self.spec.key} {self.direction}"
        if echo.asked() != frozenset(
            frozenset((wanted.field, wanted.condition, wanted.value.strip()) for wanted in group)
            for group in self.groups
        ):
            return "other filters than were sent"
        return None

    def contradiction(self, sent: int, total: int) -> str | None:
        """How the number of items sent contradicts the count in the same answer; None when they agree."""
        if sent > min(self.page_size, total):
            return (
                f"Commerce sent {sent} for a page of {self.page_size} {self.spec.noun}, and counts {total}."
            )
        if not sent and total > (self.current_page - 1) * self.page_size:
            return f"Commerce sent no {self.spec.noun}, and counts {total}."
        return None


class _EchoedFilter(msgspec.Struct):
    field: str
    value: str | int | float | None
    condition_type: str = "eq"


class _EchoedGroup(msgspec.Struct):
    filters: list[_EchoedFilter] | None = None


class _EchoedSort(msgspec.Struct):
    field: str
    direction: str


class Echo(msgspec.Struct):
    """The `search_criteria` of an answer; Commerce omits what was not sent."""

    filter_groups: list[_EchoedGroup] | None = None
    sort_orders: list[_EchoedSort] | None = None
    page_size: int | None = None
    current_page: int | None = None

    def asked(self) -> frozenset[frozenset[tuple[str, str, str]]]:
        """The filters as (field, condition, value), in sets: neither groups nor filters have an order."""
        return frozenset(
            frozenset(
                (asked.field, asked.condition_type, str(asked.value).strip()) for asked in group.filters or ()
            )
            for group in self.filter_groups or ()
        )

    def sorting(self) -> list[tuple[str, str]]:
        return [(entry.field, entry.direction.upper()) for entry in self.sort_orders or ()]


class Listed(NamedTuple, Generic[T]):
    """What an answer says: the items, None for a list that was null, the criteria applied, and the count."""

    items: Sequence[T] | None
    search_criteria: Echo
    total_count: int


def after(product_id: int) -> Group:
    """Ids above this one. Sent for 0 too: without it a real server chose a query plan ten times slower."""
    return (Filter("entity_id", "gt", str(product_id)),)


def within(interval: Interval) -> Groups:
    if interval.last is None:
        return (after(interval.after),)
    return after(interval.after), (Filter("entity_id", "lteq", str(interval.last)),)


def updated_since(moment: datetime) -> Group:
    """Updated at this moment or later, in UTC. For Commerce a text that is not a date matches everything."""
    return (Filter("updated_at", "gteq", moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")),)


def any_id(product_ids: Iterable[int]) -> Group:
    return (Filter("entity_id", "in", ",".join(str(product_id) for product_id in product_ids)),)


def any_sku(skus: Sequence[str]) -> Group:
    """One `eq` each: an `in` list is split at every comma, and SKUs may hold commas."""
    return tuple(Filter("sku", "eq", sku) for sku in skus)


def chunks(values: Iterable[T], length: Callable[[T], int], most: int | None = None) -> Iterator[list[T]]:
    """The values in order, in lists for one request each: at most `most`, and within FILTER_BUDGET."""
    chunk: list[T] = []
    used = 0
    for value in values:
        if chunk and (used + length(value) > FILTER_BUDGET or len(chunk) == most):
            yield chunk
            chunk, used = [], 0
        chunk.append(value)
        used += length(value)
    if chunk:
        yield chunk
