"""`searchCriteria` from a query string: what was asked, refused as Commerce refuses it, and the echo.

Observed on Magento 2.4.7: both spellings of every name work, an unknown name is refused, and
so is a number that is none; an unknown condition or sort field is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from sync.sandbox.replies import Refused, message
from sync.sandbox.values import leading_number

Tree = dict[str, Any]


@dataclass(frozen=True)
class ParsedFilter:
    field: str
    value: str | None
    condition: str

    def echo(self) -> dict[str, Any]:
        return {"field": self.field, "value": self.value, "condition_type": self.condition}


Group = tuple[ParsedFilter, ...]


@dataclass(frozen=True)
class Sort:
    """`direction` is ASC or DESC, None when it was not sent: then Commerce sorts descending."""

    field: str
    direction: str | None

    def echo(self) -> dict[str, Any]:
        return {"field": self.field, "direction": self.direction}


@dataclass(frozen=True)
class ParsedCriteria:
    """Groups are joined with AND, the filters of a group with OR; sizes are None when not sent."""

    groups: tuple[Group, ...] = ()
    sorts: tuple[Sort, ...] = ()
    page_size: int | None = None
    current_page: int | None = None

    @cached_property
    def after_id(self) -> int | None:
        """The cursor of a keyset page."""
        bounds = (rule for group in self.groups for rule in group if rule.field == "entity_id")
        return next((leading_number(rule.value or "") for rule in bounds if rule.condition == "gt"), None)

    def echo(self) -> dict[str, Any]:
        """`search_criteria` of the answer: what was not sent is left out, `filter_groups` excepted."""
        echoed: dict[str, Any] = {
            "filter_groups": [{"filters": [rule.echo() for rule in group]} for group in self.groups]
        }
        if self.sorts:
            echoed["sort_orders"] = [sort.echo() for sort in self.sorts]
        if self.page_size is not None:
            echoed["page_size"] = self.page_size
        if self.current_page is not None:
            echoed["current_page"] = self.current_page
        return echoed


def parse(query: str, max_page_size: int, *, is_required: bool = True) -> ParsedCriteria:
    """The criteria of a query string; raises Refused with the answer Commerce gives."""
    tree = _tree(parse_qsl(query, keep_blank_values=True))
    sent = tree.get("searchCriteria", tree.get("search_criteria"))
    if sent is None and is_required:
        raise Refused(
            message(400, '"%fieldName" is required. Enter and try again.', {"fieldName": "searchCriteria"})
        )
    if not isinstance(sent, dict):
        return ParsedCriteria()
    parts = _known(sent, {"filter_groups", "sort_orders", "page_size", "current_page"})
    criteria = ParsedCriteria(
        groups=tuple(_group(group) for group in _entries(parts.get("filter_groups"))),
        sorts=tuple(_sort(sort) for sort in _entries(parts.get("sort_orders"))),
        page_size=_integer("pageSize", parts.get("page_size")),
        current_page=_integer("currentPage", parts.get("current_page")),
    )
    if criteria.page_size is not None and criteria.page_size > max_page_size:
        raise Refused(message(400, "Maximum SearchCriteria pageSize is %max", {"max": max_page_size}))
    return criteria


def _tree(pairs: Iterable[tuple[str, str]]) -> Tree:
    """`a[b][0]=x` pairs as nested dicts, as PHP reads them; `a[]` counts up."""
    tree: Tree = {}
    for name, value in pairs:
        first, *rest = re.split(r"\[", name.replace("]", ""))
        node = tree
        key = first
        for deeper in rest:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
            key = deeper or str(len(node))
        node[key] = value
    return tree


def _known(sent: Tree, names: set[str]) -> Tree:
    """The parts of `sent` under their snake-case names; raises Refused on any other name."""
    parts = {}
    for name, value in sent.items():
        snake = re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
        if snake not in names:
            camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
            raise Refused(
                message(
                    400,
                    '"%fieldName" is not supported. Correct the field name and try again.',
                    {"fieldName": camel},
                )
            )
        parts[snake] = value
    return parts


def _entries(numbered: Any) -> list[Tree]:
    entries = numbered.values() if isinstance(numbered, dict) else ()
    return [entry for entry in entries if isinstance(entry, dict)]


def _group(sent: Tree) -> Group:
    return tuple(_filter(entry) for entry in _entries(_known(sent, {"filters"}).get("filters")))


def _filter(sent: Tree) -> ParsedFilter:
    parts = _known(sent, {"field", "value", "condition_type"})
    value = parts.get("value")
    if isinstance(value, dict):
        raise Refused(_wrong_type("value", "array", "string"))
    return ParsedFilter(str(parts.get("field", "")), value, parts.get("condition_type") or "eq")


def _sort(sent: Tree) -> Sort:
    parts = _known(sent, {"field", "direction"})
    field, direction = str(parts.get("field", "")), parts.get("direction")
    if re.search(r"[^a-z0-9_]", field, re.IGNORECASE):
        raise Refused(message(400, "Sort order field %1 contains restricted symbols", [field]))
    if direction is not None and direction.upper() not in ("ASC", "DESC"):
        text = "The sort order has to be specified as %1 for ascending order or %2 for descending order."
        raise Refused(message(400, text, ["ASC", "DESC"]))
    return Sort(field, direction and direction.upper())


def _integer(name: str, text: Any) -> int | None:
    if text is None:
        return None
    if not isinstance(text, str) or not re.fullmatch(r"-?\d+", text):
        raise Refused(_wrong_type(name, "array" if isinstance(text, dict) else text, "int"))
    return int(text)


def _wrong_type(name: str, value: str, expected: str) -> Any:
    text = f'Error occurred during "{name}" processing. The "{value}" value\'s type is invalid. '
    return message(400, text + f'The "{expected}" type was expected. Verify and try again.')
