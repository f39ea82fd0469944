"""Search criteria applied to the catalogue: which products, in which order, and how many match.

A list of a million answers as fast as one of a hundred: ranges of `entity_id` are found by
bisection, and whatever else a query asks for is worked out once per state of the catalogue.
"""

from __future__ import annotations

import re
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, NamedTuple

from sync.sandbox import values
from sync.sandbox.catalogue import Catalogue
from sync.sandbox.criteria import Group, ParsedCriteria, ParsedFilter, Sort
from sync.sandbox.documents import Document, attribute_codes
from sync.sandbox.replies import Refused, message
from sync.sandbox.values import leading_number

KEPT = 16
NO_END = 2**48

STATIC = {"entity_id", "sku", "type_id", "attribute_set_id", "created_at", "updated_at"}
EAV = attribute_codes() | {"name", "price", "status", "visibility", "weight", "manufacturer", "meta_title"}
DATES = {"created_at", "updated_at"}
RELATIONS = {"category_id", "website_id", "store_id", "store"}
SORTABLE = STATIC | EAV


class FoundItems(NamedTuple):
    """The ids of one page, and how many products match in all."""

    ids: list[int]
    total_count: int


class Search:
    """Answers criteria over one catalogue, and keeps the latest results while nothing is edited."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], Sequence[int]] = OrderedDict()

    def select(self, criteria: ParsedCriteria, store_view: str) -> FoundItems:
        """The page that `criteria` ask for; raises Refused when a filter names no attribute."""
        check_fields(criteria.groups)
        ranges = [group for group in criteria.groups if _is_range(group, "entity_id")]
        others = tuple(group for group in criteria.groups if group and group not in ranges)
        matching = self._matching(others, store_view)
        start, end = _bounds(ranges, leading_number)
        low, high = bisect_left(matching, start), bisect_left(matching, end)
        total = max(0, high - low)
        first, last = page_bounds(criteria, total)
        if first >= last:
            return FoundItems([], total)
        ordered = self._ordered(matching, low, high, criteria, store_view)
        return FoundItems(list(ordered(first, last)), total)

    def _matching(self, groups: tuple[Group, ...], store_view: str) -> Sequence[int]:
        if not groups:
            return self._catalogue.listed()
        key = (self._catalogue.version, groups, store_view)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._find(groups, store_view)
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]

    def _find(self, groups: tuple[Group, ...], store_view: str) -> Sequence[int]:
        """Narrow down with an index where a group has one, test the rest product by product."""
        candidates, used = self._candidates(groups)
        rest = [group for group in groups if group not in used]
        if not rest:
            return array("L", candidates)
        document = self._catalogue.document
        found = (number for number in candidates if _matches_all(document(number, store_view), number, rest))
        return array("L", found)

    def _candidates(self, groups: tuple[Group, ...]) -> tuple[Iterable[int], Sequence[Group]]:
        """Ids among which every match is, and the groups that need no further test."""
        for group in groups:
            rule = group[0]
            if len(group) == 1 and rule.field == "entity_id" and rule.condition in ("eq", "in"):
                return self._listed_among(rule), [group]
            if len(group) == 1 and rule.field == "sku" and rule.condition == "eq":
                found = self._catalogue.ids_with_sku(rule.value or "")
                return filter(self._catalogue.is_listed, found), [group]
        stamped = [group for group in groups if _is_range(group, "updated_at")]
        if stamped:
            first, end = _bounds(stamped, values.seconds)
            return self._catalogue.stamped_between(first, end - 1), stamped
        return self._catalogue.listed(), []

    def _listed_among(self, rule: ParsedFilter) -> list[int]:
        texts = (rule.value or "").split(",") if rule.condition == "in" else [rule.value or ""]
        return sorted(filter(self._catalogue.is_listed, {leading_number(text) for text in texts}))

    def _ordered(
        self, matching: Sequence[int], low: int, high: int, criteria: ParsedCriteria, store_view: str
    ) -> Callable[[int, int], Iterable[int]]:
        """A function from a slice of the order asked for to its ids."""
        sorts = [sort for sort in criteria.sorts if sort.field in SORTABLE]
        if not sorts:
            return lambda first, last: islice(_unsorted(matching, low, high), first, last)
        if sorts[0].field == "entity_id" and sorts[0].direction == "ASC":
            return lambda first, last: matching[low + first : low + last]
        if sorts[0].field == "entity_id":
            return lambda first, last: reversed(matching[high - last : high - first])
        ids = self._sorted(list(matching[low:high]), sorts, criteria, store_view)
        return lambda first, last: ids[first:last]

    def _sorted(
        self, ids: list[int], sorts: list[Sort], criteria: ParsedCriteria, store_view: str
    ) -> list[int]:
        """Ids in an order by other fields.

        Ties come out in another order on every page: numbered pages sorted by `updated_at` alone
        lost and repeated products. Observed on Magento 2.4.7.
        """
        ids.sort(key=lambda number: number * (criteria.current_page or 1) * 2654435761 % 2**32)
        documents = {number: self._catalogue.document(number, store_view) for number in ids}
        for sort in reversed(sorts):
            keys = {number: sort_key(value_of(documents[number], number, sort.field)) for number in ids}
            ids.sort(key=keys.__getitem__, reverse=sort.direction != "ASC")
        return ids


def check_fields(groups: Iterable[Group]) -> None:
    """Refuse a filter on anything but an attribute; `id` is none, the key is `entity_id`."""
    for rule in chain.from_iterable(groups):
        if rule.field not in SORTABLE | RELATIONS:
            text = 'The "%1" attribute name is invalid. Reset the name and try again.'
            raise Refused(message(400, text, [rule.field]))


def value_of(document: Document, product_id: int, field: str) -> Any:
    """A product's value of an attribute, None when it has none."""
    if field == "entity_id":
        return product_id
    if field in document:
        return document[field]
    attributes = document.get("custom_attributes")
    entries = attributes if isinstance(attributes, list) else []
    return next((entry.get("value") for entry in entries if entry.get("attribute_code") == field), None)


def sort_key(value: Any) -> tuple[bool, float, str]:
    """Null first, numbers by size, texts without regard to case."""
    number = float(value) if isinstance(value, int | float) else 0.0
    return value is not None, number, str(value).lower()


def _unsorted(matching: Sequence[int], low: int, high: int) -> Iterable[int]:
    """Without a sort the database picks a stable order of its own, here with some late products first."""
    early = range(high - 1, low - 1, -17)[:12]
    late = (index for index in range(low, high) if index not in early)
    return (matching[index] for index in chain(early, late))


def page_bounds(criteria: ParsedCriteria, total: int) -> tuple[int, int]:
    """First and last index of a page: no size or 0 means all, a negative one acts as 1, as does page 0."""
    size = criteria.page_size
    if not size:
        return 0, total
    size = max(1, size)
    start = (max(1, criteria.current_page or 1) - 1) * size
    return start, min(total, start + size)


def _is_range(group: Group, field: str) -> bool:
    return len(group) == 1 and group[0].field == field and group[0].condition in _RANGES


# condition -> (lowest, end) of whole numbers for a bound of `n`
_RANGES: dict[str, Callable[[int], tuple[int, int]]] = {
    "gt": lambda n: (n + 1, NO_END),
    "gteq": lambda n: (n, NO_END),
    "from": lambda n: (n, NO_END),
    "lt": lambda n: (0, n),
    "lteq": lambda n: (0, n + 1),
    "to": lambda n: (0, n + 1),
}


def _bounds(ranges: Iterable[Group], number: Callable[[str], int]) -> tuple[int, int]:
    """The numbers that all ranges share: the lowest, and the first beyond them."""
    spans = [_RANGES[group[0].condition](number(group[0].value or "")) for group in ranges]
    return max((low for low, _ in spans), default=0), min((end for _, end in spans), default=NO_END)


def _matches_all(document: Document, product_id: int, groups: Iterable[Group]) -> bool:
    return all(any(_matches(document, product_id, rule) for rule in group) for group in groups)


def _matches(document: Document, product_id: int, rule: ParsedFilter) -> bool:
    if rule.field in RELATIONS:
        return _is_related(document, rule)
    if rule.field == "sku":
        folded = replace(rule, value=",".join(map(values.fold, (rule.value or "").split(","))))
        return compare(values.fold(str(document.get("sku", ""))), folded)
    return compare(value_of(document, product_id, rule.field), rule)


def compare(have: Any, rule: ParsedFilter) -> bool:
    """Whether a value passes a filter."""
    if rule.condition in ("null", "notnull"):
        return (have is None) == (rule.condition == "null")
    if have is None or rule.value is None:
        return False
    test = CONDITIONS.get(rule.condition)
    cast = _caster(rule.field, have)
    if test is None:
        # An unknown name falls through to equality with the filter's own parts, with status 200.
        return cast(have) in (cast(rule.field), cast(rule.value))
    return test(cast, have, rule.value)


def _is_related(document: Document, rule: ParsedFilter) -> bool:
    extension = document.get("extension_attributes") or {}
    wanted = {leading_number(text) for text in (rule.value or "").split(",")}
    if rule.field == "category_id":
        return bool(wanted & {int(link["category_id"]) for link in extension.get("category_links", ())})
    if rule.field == "website_id":
        return bool(wanted & set(extension.get("website_ids", ())))
    return True


def _caster(field: str, have: Any) -> Callable[[Any], Any]:
    """How both sides of a comparison are read: as moments, as numbers, or as texts without case."""
    if field in DATES:
        return lambda text: values.seconds(str(text))
    if isinstance(have, int | float):
        return lambda text: values.number(str(text))
    return lambda text: str(text).lower()


def _like(_cast: Callable[[Any], Any], have: Any, pattern: str) -> bool:
    parts = ({"%": ".*", "_": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch("".join(parts), str(have), re.IGNORECASE | re.DOTALL) is not None


def _within(cast: Callable[[Any], Any], have: Any, listed: str) -> bool:
    """The value is split at every comma, so a SKU with a comma cannot be in the list."""
    return cast(have) in [cast(part) for part in listed.split(",")]


CONDITIONS: dict[str, Callable[[Callable[[Any], Any], Any, str], bool]] = {
    "eq": lambda cast, have, want: bool(cast(have) == cast(want)),
    "neq": lambda cast, have, want: bool(cast(have) != cast(want)),
    "gt": lambda cast, have, want: bool(cast(have) > cast(want)),
    "gteq": lambda cast, have, want: bool(cast(have) >= cast(want)),
    "from": lambda cast, have, want: bool(cast(have) >= cast(want)),
    "lt": lambda cast, have, want: bool(cast(have) < cast(want)),
    "lteq": lambda cast, have, want: bool(cast(have) <= cast(want)),
    "to": lambda cast, have, want: bool(cast(have) <= cast(want)),
    "in": _within,
    "nin": lambda cast, have, want: not _within(cast, have, want),
    "like": _like,
    "nlike": lambda cast, have, want: not _like(cast, have, want),
    "finset": lambda cast, have, want: cast(want) in [cast(part) for part in str(have).split(",")],
}
