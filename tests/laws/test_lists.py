"""Every list is read by one walk: each key once, whatever the gaps and page sizes; never a silent loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.commerce.client import Answer, Client
from sync.commerce.keyset import Keyset
from sync.commerce.products import Products
from sync.commerce.reference import ATTRIBUTE_SETS, ATTRIBUTES, CATEGORIES
from sync.commerce.retry import PageTooLarge
from sync.commerce.search import Key, ListSpec
from sync.commerce.stock import Stock
from sync.commerce.transport import Body
from sync.errors import AnswerUnreadable, PageFailed
from sync.model import Interval, Page

T = TypeVar("T")

# What happens to an answer, or before it.
BENDS = ["as it is", "short", "reversed", "twice"]
Event = tuple[str, int]
events = st.lists(
    st.tuples(st.sampled_from(["add", "delete", *BENDS]), st.integers(1, 200)), min_size=1, max_size=30
)
ids = st.sets(st.integers(1, 200), max_size=60)
sizes = st.integers(1, 25)


class Tenant:
    """A list of numbered items that answers as Commerce does, in place of a `Client`.

    broken    items that fail each page they are on
    most      items that a page may have
    """

    def __init__(self, numbers: set[int], broken: set[int], most: int, events: Sequence[Event] = ()) -> None:
        self.numbers, self.always, self.ever = set(numbers), set(numbers), set(numbers)
        self.broken, self.most = broken, most
        self._events = iter(events)
        self._is_down = False

    def get(
        self,
        path: str,
        params: list[tuple[str, str]],
        _view: str,
        reader: Callable[[Answer], Any],
        **_: object,
    ) -> Any:
        """Answer, and once more, unbent, when the answer is not believed."""
        criteria = _criteria(params)
        if criteria["page_size"] > self.most:
            raise PageTooLarge("too many", self.most)
        items, total = self._page(path, criteria)
        try:
            bent = self._bent(items)
            return reader(_answer(bent, 0 if self._is_down else total, criteria))
        except PageFailed:
            raise
        except AnswerUnreadable:
            return reader(_answer(*self._page(path, criteria), criteria))

    def _page(self, path: str, criteria: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
        rows = [_row(path, number) for number in sorted(self.numbers)]
        groups = [group["filters"] for group in criteria["filter_groups"]]
        rows = [row for row in rows if all(any(_passes(row, it) for it in group) for group in groups)]
        if criteria["sort_orders"][0]["direction"] == "DESC":
            rows.reverse()
        begin = (criteria["current_page"] - 1) * criteria["page_size"]
        page = rows[begin : begin + criteria["page_size"]]
        if not path.endswith("/sources") and any(row["number"] in self.broken for row in page):
            raise PageFailed("500")
        return page, len(rows)

    def _bent(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kind, number = next(self._events, ("as it is", 0))
        self._is_down = kind == "down"
        if kind == "add":
            self.numbers.add(number)
            self.ever.add(number)
        elif kind == "delete":
            self.numbers.discard(number)
            self.always.discard(number)
        bent = {"down": [], "short": items[: number % (len(items) + 1)], "reversed": items[::-1]}
        return [*items[1:], *items[-1:]] if kind == "twice" else bent.get(kind, items)


def _criteria(params: list[tuple[str, str]]) -> dict[str, Any]:
    sent = dict(params)
    name = "searchCriteria[filterGroups][{}][filters][{}]"
    groups: list[dict[str, Any]] = []
    while f"{name.format(len(groups), 0)}[field]" in sent:
        filters: list[dict[str, str]] = []
        while (place := name.format(len(groups), len(filters))) + "[field]" in sent:
            filters.append(
                {
                    "field": sent[f"{place}[field]"],
                    "condition_type": sent[f"{place}[conditionType]"],
                    "value": sent[f"{place}[value]"],
                }
            )
        groups.append({"filters": filters})
    sort = "searchCriteria[sortOrders][0]"
    return {
        "filter_groups": groups,
        "sort_orders": [{"field": sent[f"{sort}[field]"], "direction": sent[f"{sort}[direction]"]}],
        "page_size": int(sent["searchCriteria[pageSize]"]),
        "current_page": int(sent["searchCriteria[currentPage]"]),
    }


def _answer(items: list[dict[str, Any]], total: int, criteria: dict[str, Any]) -> Answer:
    body = {"items": items, "search_criteria": criteria, "total_count": total}
    return Answer(Body(json.dumps(body, separators=(",", ":")).encode()), None, 0.0)


def _row(path: str, number: int) -> dict[str, Any]:
    """An item with the keys of every list."""
    code = f"k{number:03}"
    source = "default" if path.endswith("source-items") else code
    row = {"number": number, "id": number, "entity_id": number, "attribute_set_id": number}
    return {**row, "sku": code, "attribute_code": code, "source_code": source}


def _passes(row: dict[str, Any], wanted: dict[str, str]) -> bool:
    value = row[wanted["field"]]
    asked = [type(value)(part) for part in wanted["value"].split(",")]
    tests = {"eq": value == asked[0], "gt": value > asked[0], "lteq": value <= asked[0], "in": value in asked}
    return bool(tests[wanted["condition_type"]])


# --- the lists -------------------------------------------------------------------------------


def products(client: Client, size: int) -> Iterator[Key]:
    for page in Products(client, page_size=size).walk("all", Interval()):
        yield from [it.product_id for it in page.products] if isinstance(page, Page) else ()


def source_items(client: Client, size: int) -> Iterator[Key]:
    for page in Stock(client, page_size=size).walk("default"):
        yield from [item.sku for item in page.items]


def sources(client: Client, size: int) -> Iterator[Key]:
    yield from Stock(client, page_size=size).sources()


def of(spec: ListSpec[Any]) -> Callable[[Client, int], Iterator[Key]]:
    def read(client: Client, size: int) -> Iterator[Key]:
        for page in Keyset(client, replace(spec, page_size=size), "all").pages():
            yield from map(spec.key_of, page.items)

    return read


LISTS = {
    "products": products,
    "source items": source_items,
    "sources": sources,
    "attributes": of(ATTRIBUTES),
    "attribute sets": of(ATTRIBUTE_SETS),
    "categories": of(CATEGORIES),
}
every_list = pytest.mark.parametrize("read", LISTS.values(), ids=LISTS.keys())


def numbers(keys: Iterator[Key]) -> list[int]:
    return [int(str(key).lstrip("k")) for key in keys]


@every_list
@settings(deadline=None, max_examples=40)
@given(ids, st.sets(st.integers(1, 200), max_size=3), sizes, sizes)
def test_every_key_is_read_once_in_order(
    read: Callable[[Client, int], Iterator[Key]], there: set[int], broken: set[int], size: int, most: int
) -> None:
    """Whatever page size the server allows; the items that it cannot show are left out."""
    broken = set() if read is sources else broken  # of which none is left out: the walk ends
    tenant = Tenant(there, broken, most)

    assert numbers(read(cast(Client, tenant), size)) == sorted(there - broken)


@every_list
@settings(deadline=None, max_examples=80)
@given(ids, events, sizes)
def test_nothing_is_lost_in_silence(
    read: Callable[[Client, int], Iterator[Key]], there: set[int], events: list[Event], size: int
) -> None:
    """Items are added and deleted, answers are short, reversed, or have an item twice: read, or refused."""
    tenant = Tenant(there, set(), 25, events)

    try:
        found = numbers(read(cast(Client, tenant), size))
    except AnswerUnreadable:
        return

    assert len(found) == len(set(found))
    assert tenant.always <= set(found) <= tenant.ever


@pytest.mark.parametrize("read", [products, source_items])
@settings(deadline=None, max_examples=40)
@given(ids, sizes, st.integers(0, 5))
def test_one_answer_that_looks_like_an_end_is_not_believed(
    read: Callable[[Client, int], Iterator[Key]], there: set[int], size: int, place: int
) -> None:
    """An empty list that counts none, in place of any page: asked again, and read to its end."""
    tenant = Tenant(there, set(), 25, [*[("as it is", 0)] * place, ("down", 0)])

    assert numbers(read(cast(Client, tenant), size)) == sorted(there)
