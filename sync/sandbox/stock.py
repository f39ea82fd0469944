"""Source items: how many of a SKU lie in each source.

A table of its own, keyed by source and SKU as text: a row needs no product, has no id, no stamp, and no write
moves `updated_at`. Only edits are stored; the quantities of generated products are worked out when asked for.
"""

from __future__ import annotations

import heapq
import threading
from array import array
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from sync.sandbox.catalogue import Catalogue
from sync.sandbox.criteria import Group, ParsedCriteria, ParsedFilter
from sync.sandbox.documents import Document
from sync.sandbox.lists import Listing, check_columns
from sync.sandbox.search import compare, page_bounds, sort_key
from sync.sandbox.values import fold

STOCKED = frozenset({"simple", "virtual", "downloadable"})
LAST_OF_7_DIGITS = 9_999_999
COLUMNS = frozenset({"sku", "source_code", "quantity", "status"})
SOURCE_COLUMNS = {"source_code": "source_code", "name": "name", "enabled": "enabled"}


class _Edit(NamedTuple):
    """A row that was written, or deleted when its quantity is None; of a product, as long as that exists."""

    sku: str
    quantity: float | None
    status: int
    product_id: int | None
    source_code: str


class SimulatedStock:
    """Rows of every source, in the order of their SKUs.

    An entry of an order is a product's id, or -1, -2, … for the SKUs in `_strangers`, which no product had.
    """

    def __init__(self, catalogue: Catalogue, sources: Sequence[str], seed: int) -> None:
        self._catalogue = catalogue
        self._sources = tuple(sources)
        self._seed = seed
        self._lock = threading.RLock()
        self._edits: dict[str, dict[str, _Edit]] = {source: {} for source in sources}
        self._strangers: list[str] = []
        self._orders: dict[str, array[int]] = {}
        self._population: tuple[object, int] | None = None

    def set(self, source_code: str, sku: str, quantity: float, status: int = 1) -> None:
        """Write the row of a SKU, which need not be a product's; a new row keeps both codes as written.

        Both are compared without regard to case, so `Berlin` and `sku-1` name a row of `berlin` and `SKU-1`.
        """
        self._write(source_code, sku, quantity, status)

    def remove(self, source_code: str, sku: str) -> None:
        """Delete the row of a SKU; nothing happens when there is none."""
        self._write(source_code, sku, None, 0)

    def rows(self) -> list[Document]:
        """Every row, by source and then by SKU."""
        with self._lock:
            self._settle()
            return [self._row(source, entry) for source in self._sources for entry in self._orders[source]]

    def sources(self) -> list[Document]:
        return [_source(code) for code in self._sources]

    def knows(self, source_code: object) -> bool:
        return source_code in self._sources

    def select(self, criteria: ParsedCriteria) -> Listing:
        """The page that `criteria` ask for; raises Refused when they name no column."""
        check_columns(criteria, COLUMNS)
        with self._lock:
            self._settle()
            found = self._find(criteria.groups)
            total = sum(map(len, found.values()))
            first, last = page_bounds(criteria, total)
            rows = islice(self._ordered(found, criteria), first, last) if first < last else ()
            return Listing([self._row(source, entry) for source, entry in rows], total)

    # Under the lock

    def _write(self, source_code: str, sku: str, quantity: float | None, status: int) -> None:
        with self._lock:
            self._settle()
            source = next((code for code in self._sources if fold(code) == fold(source_code)), None)
            if source is None:
                raise KeyError(f"there is no source {source_code}")
            owners = self._catalogue.ids_with_sku(sku)
            row = self._existing(source, fold(sku))
            names = (row["sku"], row["source_code"]) if row is not None else (sku, source_code)
            edit = _Edit(names[0], quantity, status, owners[0] if owners else None, names[1])
            self._edits[source][fold(sku)] = edit
            self._apply(source, fold(sku), edit)

    def _settle(self) -> None:
        """Put every source in order again when products have come, gone or changed their SKU."""
        population = self._catalogue.population
        if self._population is not None and _is_same(self._population, population):
            return
        self._population = population
        base = self._in_sku_order(
            number for number in self._catalogue.existing() if self._catalogue.type_id(number) in STOCKED
        )
        self._strangers.clear()
        for source, edits in self._edits.items():
            self._orders[source] = base[:] if edits else base
            for folded, edit in list(edits.items()):
                if edit.product_id is not None and not self._catalogue.exists(edit.product_id):
                    del edits[folded]
                else:
                    self._apply(source, folded, edit)

    def _in_sku_order(self, numbers: Iterable[int]) -> array[int]:
        """Ids by SKU, without a million texts at once: generated SKUs of an article grow with the id."""
        buckets: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
        own = []
        for number in numbers:
            if self._catalogue.has_own_sku(number):
                own.append(number)
            else:
                buckets[self._catalogue.sku(number)[:2]].append(number)
        ordered = array("q")
        for start in sorted(buckets):
            has_one_width = max(buckets[start]) <= LAST_OF_7_DIGITS
            ordered.extend(buckets[start] if has_one_width else sorted(buckets[start], key=self._key))
        for number in own:
            insort(ordered, number, key=self._key)
        return ordered

    def _apply(self, source: str, folded: str, edit: _Edit) -> None:
        order = self._orders[source]
        index = bisect_left(order, folded, key=self._key)
        is_there = index < len(order) and self._key(order[index]) == folded
        if is_there == (edit.quantity is not None):
            return
        if sum(order is other for other in self._orders.values()) > 1:
            order = self._orders[source] = order[:]
        if is_there:
            del order[index]
        else:
            order.insert(index, self._entry(edit))

    def _existing(self, source: str, folded: str) -> Document | None:
        order = self._orders[source]
        index = bisect_left(order, folded, key=self._key)
        is_there = index < len(order) and self._key(order[index]) == folded
        return self._row(source, order[index]) if is_there else None

    def _entry(self, edit: _Edit) -> int:
        owner = edit.product_id
        is_stocked = owner is not None and self._catalogue.type_id(owner) in STOCKED
        if owner is not None and is_stocked and self._key(owner) == fold(edit.sku):
            return owner
        self._strangers.append(edit.sku)
        return -len(self._strangers)

    def _sku(self, entry: int) -> str:
        return self._strangers[-entry - 1] if entry < 0 else self._catalogue.sku(entry)

    def _key(self, entry: int) -> str:
        return fold(self._sku(entry))

    def _row(self, source: str, entry: int) -> Document:
        sku = self._sku(entry)
        edit = self._edits[source].get(fold(sku))
        if edit is None or edit.quantity is None:
            quantity, status = self._generated(source, entry)
        else:
            sku, source, quantity, status = edit.sku, edit.source_code, edit.quantity, edit.status
        return {"sku": sku, "source_code": source, "quantity": quantity, "status": status}

    def _generated(self, source: str, product_id: int) -> tuple[float, int]:
        """A quantity and a status that are always the same for a seed: every fifth is no whole number."""
        mixed = (product_id * 0x9E3779B1 + self._seed * 0x85EBCA6B + self._sources.index(source)) & 0xFFFFFFFF
        dice = (mixed ^ mixed >> 15) * 0x2C1B3C6D >> 4 & 0xFFFFFF
        quantity = dice % 480 + (dice % 7 / 8 if dice % 5 == 0 else 0)
        return quantity, int(quantity > 0 and dice % 23 != 0)

    def _find(self, groups: Iterable[Group]) -> dict[str, Sequence[int]]:
        """Positions in the order of each source that `groups` leave, ascending."""
        wanted, bounds, rest = set(self._sources), [], []
        for group in filter(None, groups):
            rule = group[0]
            if len(group) == 1 and rule.field == "source_code" and rule.condition in ("eq", "in"):
                wanted &= {source for source in wanted if compare(fold(source), _folded(rule))}
            elif len(group) == 1 and rule.field == "sku" and rule.condition in _BOUNDS:
                bounds.append(rule)
            else:
                rest.append(group)
        found = {source: self._span(source, bounds) for source in self._sources if source in wanted}
        return {source: self._passing(source, span, rest) if rest else span for source, span in found.items()}

    def _span(self, source: str, rules: Iterable[ParsedFilter]) -> Sequence[int]:
        order = self._orders[source]
        low, high = 0, len(order)
        for rule in rules:
            folded = fold(rule.value or "")
            start = bisect_left(order, folded, key=self._key)
            end = bisect_right(order, folded, key=self._key)
            at_least, below = _BOUNDS[rule.condition](start, end, len(order))
            low, high = max(low, at_least), min(high, below)
        return range(low, max(low, high))

    def _passing(self, source: str, span: Sequence[int], groups: Sequence[Group]) -> Sequence[int]:
        order = self._orders[source]
        listed = next(
            (g[0] for g in groups if len(g) == 1 and g[0].field == "sku" and g[0].condition == "in"), None
        )
        if listed is not None:
            positions = {
                bisect_left(order, fold(sku), key=self._key) for sku in (listed.value or "").split(",")
            }
            span = sorted(position for position in positions if position in span)
        return [
            position
            for position in span
            if all(
                any(_passes(self._row(source, order[position]), rule) for rule in group) for group in groups
            )
        ]

    def _ordered(
        self, found: dict[str, Sequence[int]], criteria: ParsedCriteria
    ) -> Iterator[tuple[str, int]]:
        """Source and entry of what was found, in the order asked for.

        Rows that a sort leaves equal come in another order on every page.
        """
        sorts = criteria.sorts
        turn = (criteria.current_page or 1) % max(1, len(found))
        sources = [*list(found)[turn:], *list(found)[:turn]]
        if not sorts:
            return iter(sorted(self._pairs(found, list(found)), key=lambda pair: _age(pair[1])))
        if sorts[0].field == "sku" and len(sorts) == 1:
            step = 1 if sorts[0].direction == "ASC" else -1
            runs = [self._pairs({source: found[source][::step]}, [source]) for source in sources]
            return heapq.merge(*runs, key=lambda pair: self._key(pair[1]), reverse=step < 0)
        pairs = list(self._pairs(found, sources))
        for sort in reversed(sorts):
            pairs.sort(
                key=lambda pair: _row_key(self._row(*pair), sort.field), reverse=sort.direction != "ASC"
            )
        return iter(pairs)

    def _pairs(self, found: dict[str, Sequence[int]], sources: Iterable[str]) -> Iterator[tuple[str, int]]:
        return ((source, self._orders[source][position]) for source in sources for position in found[source])


# condition -> (first position, position behind the last), from those of an equal SKU and the number of rows
_BOUNDS: dict[str, Callable[[int, int, int], tuple[int, int]]] = {
    "eq": lambda start, end, rows: (start, end),
    "gt": lambda start, end, rows: (end, rows),
    "gteq": lambda start, end, rows: (start, rows),
    "from": lambda start, end, rows: (start, rows),
    "lt": lambda start, end, rows: (0, start),
    "lteq": lambda start, end, rows: (0, end),
    "to": lambda start, end, rows: (0, end),
}


def _is_same(one: tuple[object, int], other: tuple[object, int]) -> bool:
    return one[0] is other[0] and one[1] == other[1]


def _passes(row: Document, rule: ParsedFilter) -> bool:
    if rule.field not in ("sku", "source_code"):
        return compare(row[rule.field], rule)
    return compare(fold(row[rule.field]), _folded(rule))


def _folded(rule: ParsedFilter) -> ParsedFilter:
    return replace(rule, value=",".join(map(fold, (rule.value or "").split(","))))


def _row_key(row: Document, field: str) -> tuple[bool, float, str]:
    return sort_key(fold(row["sku"]) if field == "sku" else row[field])


def _age(entry: int) -> tuple[bool, int]:
    """Rows of products in the order of their ids, then the others as they came."""
    return entry < 0, abs(entry)


def _source(code: str) -> Document:
    name = "Default Source" if code == "default" else f"{code.replace('_', ' ').title()} Warehouse"
    return {
        "source_code": code,
        "name": name,
        "enabled": True,
        "description": name,
        "latitude": 0,
        "longitude": 0,
        "country_id": "DE",
        "postcode": "00000",
        "use_default_carrier_config": True,
        "carrier_links": [],
        "extension_attributes": {"is_pickup_location_active": False, "frontend_name": ""},
    }
