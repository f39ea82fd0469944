"""Search criteria applied to a short list of documents: attributes, attribute sets, categories, sources.

Unlike products these are plain tables: a filter or sort by a column that does not exist is an SQL error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from sync.sandbox import replies
from sync.sandbox.criteria import ParsedCriteria
from sync.sandbox.documents import Document
from sync.sandbox.replies import Refused
from sync.sandbox.search import compare, page_bounds, sort_key


class Listing(NamedTuple):
    """The documents of one page, and how many match in all."""

    items: list[Document]
    total_count: int


def select(documents: Sequence[Document], criteria: ParsedCriteria, columns: Mapping[str, str]) -> Listing:
    """The page that `criteria` ask for; raises Refused when they name no column.

    documents    in the order of their keys, which is the order without a sort
    columns      what can be filtered and sorted by -> the member of the document that shows it
    """
    check_columns(criteria, columns)
    found = [
        document
        for document in documents
        if all(
            any(compare(_plain(document.get(columns[rule.field])), rule) for rule in group)
            for group in criteria.groups
            if group
        )
    ]
    for sort in reversed(criteria.sorts):
        name = columns[sort.field]
        found.sort(key=lambda document: sort_key(_plain(document.get(name))), reverse=sort.direction != "ASC")
    first, last = page_bounds(criteria, len(found))
    return Listing(found[first:last], len(found))


def check_columns(criteria: ParsedCriteria, columns: Mapping[str, str] | frozenset[str]) -> None:
    """Refuse criteria that name anything but a column."""
    named = [rule.field for rule in chain.from_iterable(criteria.groups)]
    if not {*named, *(sort.field for sort in criteria.sorts)} <= set(columns):
        raise Refused(replies.internal_error())


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value
