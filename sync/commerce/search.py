"""Search criteria: which products a request selects. Pure, and built from whitelists only.

Commerce answers a misspelt condition or sort field with 200 and wrong products (observed on Magento 2.4.7:
`GT` acts as equality, an unknown sort is ignored, a date in another form matches everything). So names are
checked here before a request is sent, and the criteria that each answer echoes are compared with it.

Sources: Adobe Commerce Web API, "Search using REST endpoints" (groups are ANDed, filters of a group ORed) and
"API security" (the page limit looks at `pageSize` in exactly this spelling).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from sync.model import Interval

CONDITIONS: Final = {
    "entity_id": frozenset({"gt", "lteq", "in"}),
    "sku": frozenset({"eq"}),
    "updated_at": frozenset({"gteq"}),
}
SORT_FIELD: Final = "entity_id"  # the only total order, which keyset pagination needs
DIRECTIONS: Final = frozenset({"ASC", "DESC"})
LIGHT_FIELDS: Final = "items[id],search_criteria,total_count"
ALL_FIELDS: Final = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """One comparison. Raises ValueError for a field or a condition that is not in the whitelist."""

    field: str
    condition: str
    value: str

    def __post_init__(self) -> None:
        if self.condition not in CONDITIONS.get(self.field, ()):
            raise ValueError(f"no filter {self.field!r} {self.condition!r} in the whitelist")


Group = tuple[Filter, ...]  # any of these


@dataclass(frozen=True, slots=True)
class Criteria:
    """The criteria of one request: products that match all of `groups`, ordered by id.

    page_size      products per page, at least 1: for Commerce 0 means "everything"
    direction      ASC or DESC; for Commerce none means DESC
    current_page   counts from 1
    fields         ALL_FIELDS or LIGHT_FIELDS; other fields are missing from the answer

    Raises ValueError when a value is out of range: a caller's bug, not a sync failure.
    """

    groups: tuple[Group, ...]
    page_size: int
    direction: str = "ASC"
    current_page: int = 1
    fields: str = ALL_FIELDS

    def __post_init__(self) -> None:
        if self.page_size < 1 or self.current_page < 1:
            raise ValueError(f"page {self.current_page} of {self.page_size} products does not exist")
        if self.direction not in DIRECTIONS:
            raise ValueError(f"no direction {self.direction!r} in the whitelist")
        if self.fields not in (ALL_FIELDS, LIGHT_FIELDS):
            raise ValueError(f"no fields {self.fields!r} in the whitelist")

    def params(self) -> list[tuple[str, str]]:
        """Query parameters, not yet percent-encoded.

        >>> Criteria((after(1200),), page_size=300).params()[:2]
        [('searchCriteria[filterGroups][0][filters][0][field]', 'entity_id'), \
('searchCriteria[filterGroups][0][filters][0][conditionType]', 'gt')]
        """
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
            ("searchCriteria[sortOrders][0][field]", SORT_FIELD),
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
        if echo.sort_orders and echo.sorting() != [(SORT_FIELD, self.direction)]:
            return f"the order {echo.sorting()} instead of {SORT_FIELD} {self.direction}"
        if echo.asked() != frozenset(
            frozenset((wanted.field, wanted.condition, wanted.value) for wanted in group)
            for group in self.groups
        ):
            return "other filters than were sent"
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
            frozenset((asked.field, asked.condition_type, str(asked.value)) for asked in group.filters or ())
            for group in self.filter_groups or ()
        )

    def sorting(self) -> list[tuple[str, str]]:
        return [(entry.field, entry.direction.upper()) for entry in self.sort_orders or ()]


def after(product_id: int) -> Group:
    """Ids above this one. Sent for 0 too: without it a real server chose a query plan ten times slower."""
    return (Filter("entity_id", "gt", str(product_id)),)


def within(interval: Interval) -> tuple[Group, ...]:
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
