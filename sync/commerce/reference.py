"""Reference data: what the values in products refer to, as the tenant lists it.

    attributes, attribute sets, categories    lists, read by key: `<key> gt <last>`, in the order of keys
    websites, store groups, store views       one array each

The key of an attribute is its code: filtering by `attribute_id` is ambiguous in the joins behind that list.
How codes are ordered is the tenant's collation, so it is never compared here: a page that repeats a key, and
counts that do not add up, tell what was lost. The `Store` scope decides the labels of options and the names
of categories; observed on Magento 2.4.7: options carry no `store_labels`, so each store view is read.

Labels are the tenant's: texts in them are hostile. Items are handed on as the bytes that were sent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import msgspec

from sync.commerce.client import Answer, Client
from sync.commerce.decoding import Count, decoded
from sync.commerce.retry import PageTooLarge
from sync.commerce.search import Echo
from sync.errors import AnswerUnreadable, PageFailed

EVERYWHERE: Final = "all"  # the scope of what no store view shows differently
ROUNDS: Final = 3  # how often a list is read while it moves
Key = int | str


@dataclass(frozen=True, slots=True)
class _Listing:
    """An endpoint that pages.

    key          what filters and sorts call the key
    member       what items call it
    page_size    small where the server loads items one by one
    """

    path: str
    key: str
    member: str
    page_size: int
    noun: str


ATTRIBUTES: Final = _Listing("/V1/products/attributes", "attribute_code", "attribute_code", 50, "attributes")
ATTRIBUTE_SETS: Final = _Listing(
    "/V1/products/attribute-sets/sets/list", "attribute_set_id", "attribute_set_id", 300, "attribute sets"
)
CATEGORIES: Final = _Listing("/V1/categories/list", "entity_id", "id", 50, "categories")
MOST_KEYS: Final = 100  # in one filter: keeps the URL below 4 kB for codes of 30 letters


class _Rule(NamedTuple):
    condition: str
    value: str


class _Page(NamedTuple):
    """Items by key, in the order sent, and how many there were from the first of them on."""

    items: dict[Key, bytes]
    total_count: Count


class _Envelope(msgspec.Struct):
    items: list[msgspec.Raw] | None
    search_criteria: Echo
    total_count: Count


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY: msgspec.json.Decoder[Key] = msgspec.json.Decoder(int | str)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


class Reference:
    """The reference data of one tenant. Every method raises what `Client.get` raises.

    Lists come page by page and are complete when they end: AnswerUnreadable tells that a list did not add up
    however often it was read. A list that moved meanwhile is read again, so a page may come twice.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def attributes(self, store_view: str, codes: Collection[str] | None = None) -> Iterator[list[bytes]]:
        """Attributes with their options, labelled as in a store view.

        codes    those of these that exist; None for all
        """
        return self._list(ATTRIBUTES, store_view, codes)

    def categories(self, store_view: str, ids: Collection[int] | None = None) -> Iterator[list[bytes]]:
        """Categories as a store view shows them, the technical root included.

        ids    those of these that exist; None for all
        """
        return self._list(CATEGORIES, store_view, ids)

    def attribute_sets(self) -> Iterator[list[bytes]]:
        return self._list(ATTRIBUTE_SETS, EVERYWHERE, None)

    def websites(self) -> list[bytes]:
        return self._array("/V1/store/websites")

    def store_groups(self) -> list[bytes]:
        return self._array("/V1/store/storeGroups")

    def store_views(self) -> list[bytes]:
        return self._array("/V1/store/storeViews")

    # --- lists -------------------------------------------------------------------------------

    def _list(
        self, listing: _Listing, store_view: str, keys: Collection[Key] | None
    ) -> Iterator[list[bytes]]:
        if keys is None:
            yield from self._rounds(listing, store_view, None)
            return
        named = [str(key) for key in keys]
        for start in range(0, len(named), MOST_KEYS):
            some = _Rule("in", ",".join(named[start : start + MOST_KEYS]))
            yield from self._rounds(listing, store_view, some)

    def _rounds(self, listing: _Listing, store_view: str, some: _Rule | None) -> Iterator[list[bytes]]:
        """Read until the counts add up."""
        for _ in range(ROUNDS):
            adds_up = True
            expected: int | None = None
            for page in self._walk(listing, store_view, some):
                adds_up = adds_up and expected in (None, page.total_count)
                expected = page.total_count - len(page.items)
                if page.items:
                    yield list(page.items.values())
            if adds_up:
                return
        raise AnswerUnreadable(
            f"the tenant counts other {listing.noun} than it lists (store view {store_view}).",
            "try again later; if it stays so, look into the tenant's exception log.",
        )

    def _walk(self, listing: _Listing, store_view: str, some: _Rule | None) -> Iterator[_Page]:
        """Pages by key, until one holds all that it counts. One that fails is asked for in smaller ones."""
        seen: set[Key] = set()
        rules, size = [some] if some else [], listing.page_size
        while True:
            try:
                page = self._page(listing, store_view, rules, size, seen)
            except PageFailed as failure:
                if size == 1:
                    raise
                size = _smaller(size, failure)
                continue
            yield page
            if len(page.items) == page.total_count or not page.items:
                return
            seen.update(page.items)
            rules = [*([some] if some else []), _Rule("gt", str(list(page.items)[-1]))]

    def _page(
        self, listing: _Listing, store_view: str, rules: Sequence[_Rule], size: int, seen: Collection[Key]
    ) -> _Page:
        reader = partial(_read, listing, rules, size, seen)
        return self._client.get(
            listing.path, _params(listing, rules, size), store_view, reader, patient=size == 1
        )

    # --- arrays ------------------------------------------------------------------------------

    def _array(self, path: str) -> list[bytes]:
        return self._client.get(path, [], EVERYWHERE, _read_array)


def _smaller(size: int, failure: PageFailed) -> int:
    return max(1, min(failure.maximum, size - 1) if isinstance(failure, PageTooLarge) else size // 2)


def _params(listing: _Listing, rules: Sequence[_Rule], size: int) -> list[tuple[str, str]]:
    pairs = []
    for number, rule in enumerate(rules):
        name = f"searchCriteria[filterGroups][{number}][filters][0]"
        pairs += [
            (f"{name}[field]", listing.key),
            (f"{name}[conditionType]", rule.condition),
            (f"{name}[value]", rule.value),
        ]
    return [
        *pairs,
        ("searchCriteria[sortOrders][0][field]", listing.key),
        ("searchCriteria[sortOrders][0][direction]", "ASC"),
        ("searchCriteria[pageSize]", str(size)),
        ("searchCriteria[currentPage]", "1"),
    ]


def _read(
    listing: _Listing, rules: Sequence[_Rule], size: int, seen: Collection[Key], answer: Answer
) -> _Page:
    """Read a page, and believe it only if it is about what was asked for.

    Raises PageFailed for a body that is not JSON to its end, AnswerUnreadable for any other misfit.
    """
    envelope = decoded(_ENVELOPE, _whole_characters(answer.body), listing.noun)
    asked = frozenset(frozenset(((listing.key, rule.condition, rule.value),)) for rule in rules)
    if envelope.search_criteria.page_size != size or envelope.search_criteria.asked() != asked:
        raise AnswerUnreadable(f"Commerce answered about other {listing.noun} than it was asked for.")
    sent = envelope.items or []
    if len(sent) > min(size, envelope.total_count) or (envelope.total_count and not sent):
        raise AnswerUnreadable(
            f"Commerce sent {len(sent)} {listing.noun} of {envelope.total_count} for a page of {size}."
        )
    items = {_key(listing, raw): bytes(raw) for raw in sent}
    if len(items) != len(sent) or not items.keys().isdisjoint(seen):
        raise AnswerUnreadable(f"Commerce sent some {listing.noun} twice.")
    return _Page(items, envelope.total_count)


def _key(listing: _Listing, raw: msgspec.Raw) -> Key:
    members = decoded(_MEMBERS, raw, listing.noun)
    if (key := members.get(listing.member)) is None:
        raise AnswerUnreadable(f"Commerce sent {listing.noun} without {listing.member}.")
    return decoded(_KEY, key, listing.noun)


def _read_array(answer: Answer) -> list[bytes]:
    return [bytes(raw) for raw in decoded(_ARRAY, _whole_characters(answer.body), "store views")]


def _whole_characters(body: bytes) -> bytes:
    """The same JSON with U+FFFD for halves of surrogate pairs, which a strict reader takes for the end."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found["half"] else found[0], body)
