"""Reference data: the attributes, categories and websites that products refer to.

    attributes, attribute sets, categories    lists, keyset pagination: `<key> gt <last>`, ordered by key
    websites, store groups, store views       one array each

The key of an attribute is its code: filtering by `attribute_id` is ambiguous in the joins behind that list.
Codes are ordered by the tenant's collation, so they are never compared here: a repeated key, or counts that
do not add up, show that something was missed. Labels of options and names of categories depend on the `Store`
scope; observed on Magento 2.4.7: options have no `store_labels`, so each store view is read.

An item that fails every page it is on (an attribute whose extension was removed: observed on Magento 2.4.7)
is isolated by smaller pages, left out, and identified by counting, which does not load it. The tenant must
answer another request meanwhile: in an outage everything fails.

Labels are hostile input. Items are returned as the bytes that were sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import msgspec

from sync.commerce.client import Answer, Client
from sync.commerce.decoding import NonNegativeInteger, decoded
from sync.commerce.retry import PageTooLarge
from sync.commerce.search import Echo
from sync.errors import AccessDenied, AnswerUnreadable, PageFailed, RequestRefused, SettingsError

EVERYWHERE: Final = "all"  # the scope of data that is equal in all store views
ROUNDS: Final = 3  # how often a list is read when it changes meanwhile
Key = int | str


@dataclass(frozen=True, slots=True)
class _Listing:
    """A paged endpoint.

    key          name of the key in filters and sort orders
    member       its name in items
    page_size    small when the server loads items one by one
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
MOST_BROKEN: Final = 20  # consecutive items that fail alone; after more, the items are not the cause
WIDEST_GAP: Final = 1_000  # ids between two readable items that are searched for a broken one
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789_"  # `_` last: in a pattern it matches any letter


@dataclass(frozen=True, slots=True)
class Broken:
    """An item that fails every page it is on.

    key      None when it is unknown; then `place` is its position in the list
    """

    noun: str
    key: str | None
    place: str
    reason: str

    def __str__(self) -> str:
        """The beginning of a sentence."""
        return f"One of the {self.noun}, {self.key or f'the one {self.place}'}, cannot be read"


class _Rule(NamedTuple):
    condition: str
    value: str


_Group = tuple[_Rule, ...]  # any of these


class _Page(NamedTuple):
    """Items by key, in the order sent; `total_count` counts from the first of them to the end.

    skipped    broken items before them, which are not counted
    """

    items: dict[Key, bytes]
    total_count: NonNegativeInteger
    skipped: int = 0


class _Envelope(msgspec.Struct):
    items: list[msgspec.Raw] | None
    search_criteria: Echo
    total_count: NonNegativeInteger


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY: msgspec.json.Decoder[Key] = msgspec.json.Decoder(int | str)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


class Reference:
    """The reference data of one tenant. Every method raises what `Client.get` raises.

    without    keys by noun that are known to be broken: they are not requested
    likely     keys by noun that the copy has: they are searched first for a broken item
    broken     items that were found broken

    Lists are yielded page by page and complete: AnswerUnreadable is raised when the counts never add up. A
    list that changed meanwhile is read again, so a page may be yielded twice.
    """

    def __init__(
        self,
        client: Client,
        without: Mapping[str, Collection[str]] | None = None,
        likely: Mapping[str, Collection[Key]] | None = None,
    ) -> None:
        self._client = client
        self._without = {noun: set(keys) for noun, keys in (without or {}).items()}
        self._likely = likely or {}
        self.broken: list[Broken] = []

    def cannot_show(self, noun: str, key: object) -> bool:
        """Whether this item may be missing from its list because it is broken."""
        if str(key) in self._without.get(noun, ()):
            return True
        return any(it.noun == noun and it.key in (None, str(key)) for it in self.broken)

    def attributes(self, store_view: str, codes: Collection[str] | None = None) -> Iterator[list[bytes]]:
        """Attributes with their options, labelled as in a store view.

        codes    only these, as far as they exist; None for all
        """
        return self._list(ATTRIBUTES, store_view, codes)

    def categories(self, store_view: str, ids: Collection[int] | None = None) -> Iterator[list[bytes]]:
        """Categories as a store view shows them, the technical root included.

        ids    only these, as far as they exist; None for all
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
        without = self._without.get(listing.noun, set())
        named = [str(key) for key in keys if str(key) not in without]
        for start in range(0, len(named), MOST_KEYS):
            yield from self._rounds(listing, store_view, named[start : start + MOST_KEYS])

    def _rounds(
        self, listing: _Listing, store_view: str, keys: Sequence[str] | None
    ) -> Iterator[list[bytes]]:
        """Read until the counts add up."""
        for _ in range(ROUNDS):
            adds_up = True
            expected: int | None = None
            for page in self._walk(listing, store_view, keys):
                adds_up = adds_up and expected in (None, page.total_count + page.skipped)
                expected = page.total_count - len(page.items)
                if page.items:
                    yield list(page.items.values())
            if adds_up:
                return
        raise AnswerUnreadable(
            f"The tenant's count of {listing.noun} contradicts its list (store view {store_view}).",
            "try again later; if it persists, check the tenant's exception log.",
        )

    def _walk(self, listing: _Listing, store_view: str, keys: Sequence[str] | None) -> Iterator[_Page]:
        """Pages by key, until one holds all that it counts. A page that fails is split into smaller ones."""
        seen: dict[Key, None] = {}
        base = self._base_filters(listing, keys)
        rules, size = base, listing.page_size
        left = None if keys is None else len(keys)
        while True:
            try:
                page = self._page(listing, store_view, rules, size, seen)
            except PageFailed as failure:
                if size > 1:
                    size = _smaller(size, failure)
                    continue
                after_broken = self._after_broken(listing, store_view, rules, seen, left)
                if after_broken is None:
                    return
                page, size = after_broken, listing.page_size
                base = self._base_filters(listing, keys)
            yield page
            left = page.total_count - len(page.items)
            if not left or not page.items:
                return
            seen |= dict.fromkeys(page.items)
            rules = [*base, (_Rule("gt", str(list(page.items)[-1])),)]

    def _base_filters(self, listing: _Listing, keys: Sequence[str] | None) -> list[_Group]:
        """The filters of every page of a list."""
        if keys is not None:
            return [(_Rule("in", ",".join(keys)),)]
        without = sorted(self._without.get(listing.noun, ()))
        return [(_Rule("nin", ",".join(without)),)] if without else []

    def _page(
        self,
        listing: _Listing,
        store_view: str,
        rules: Sequence[_Group],
        size: int,
        seen: Collection[Key] = (),
        *,
        number: int = 1,
        direction: str = "ASC",
    ) -> _Page:
        reader = partial(_read, listing, rules, size, number, seen)
        params = _params(listing, rules, size, number, direction)
        return self._client.get(listing.path, params, store_view, reader, patient=False)

    # --- broken items ------------------------------------------------------------------------

    def _after_broken(
        self,
        listing: _Listing,
        store_view: str,
        rules: Sequence[_Group],
        seen: Collection[Key],
        left: int | None,
    ) -> _Page | None:
        """A page of one item after those that fail alone, which are noted; None when nothing follows.

        left    how many items remain, if known
        """
        self._wait_for_tenant()
        reason = ""
        for number in range(1, MOST_BROKEN + 2):
            if left is not None and number > left:
                break
            try:
                page = self._page(listing, store_view, rules, 1, seen, number=number)
            except PageFailed as failure:
                reason = str(failure)
                continue
            if not page.items:
                left = number - 1
                break
            skipped = number - 1
            if skipped:
                self._note_broken(listing, store_view, rules, seen, page.items, skipped, reason)
            return page._replace(total_count=page.total_count - skipped, skipped=skipped)
        self._wait_for_tenant()
        if left is None or left > MOST_BROKEN:
            raise AnswerUnreadable(
                f"More than {MOST_BROKEN} {listing.noun} in a row cannot be read (store view {store_view}).",
                "check the tenant's exception log: something breaks all of them, perhaps an extension.",
            )
        if left:
            self._note_broken(listing, store_view, rules, seen, {}, left, reason)
        return None

    def _wait_for_tenant(self) -> None:
        """Send another request until it is answered; a refusal is an answer."""
        with suppress(AccessDenied, RequestRefused, SettingsError):
            self.store_views()

    def _note_broken(
        self,
        listing: _Listing,
        store_view: str,
        rules: Sequence[_Group],
        seen: Collection[Key],
        following: Collection[Key],
        count: int,
        reason: str,
    ) -> None:
        before, after = next(reversed(list(seen)), None), next(iter(following), None)
        search = _Search(partial(self._page, listing, store_view), rules, before, after)
        try:
            names = search.names(listing, self._likely.get(listing.noun, ()), count)
        except (AnswerUnreadable, RequestRefused):
            names = []
        place = "alone in its list"
        if before is not None or after is not None:
            place = f"before {after}" if before is None else f"after {before}"
        for name in names:
            self._without.setdefault(listing.noun, set()).add(name)
            self.broken.append(Broken(listing.noun, name, place, reason))
        unnamed = Broken(listing.noun, None, place, reason)
        if len(names) < count and unnamed not in self.broken:
            self.broken.append(unnamed)

    # --- arrays ------------------------------------------------------------------------------

    def _array(self, path: str) -> list[bytes]:
        return self._client.get(path, [], EVERYWHERE, _read_array)


def _smaller(size: int, failure: PageFailed) -> int:
    return max(1, min(failure.maximum, size - 1) if isinstance(failure, PageTooLarge) else size // 2)


@dataclass(frozen=True, slots=True)
class _Search:
    """Finds the keys of broken items by counting them together with a readable neighbour.

    Only the neighbour is on the requested page of one, so nothing broken is loaded.

    page      requests a page
    rules     of the list
    before    the readable key before the broken ones, None at the start
    after     the readable key after them, None at the end
    """

    page: Callable[..., _Page]
    rules: Sequence[_Group]
    before: Key | None
    after: Key | None

    def names(self, listing: _Listing, likely: Collection[Key], count: int) -> list[str]:
        """Their keys, as far as they can be found."""
        given = [rule.value.split(",") for group in self.rules for rule in group if rule.condition == "in"]
        if given and len(given[0]) == count:
            return given[0]
        if self.before is None and self.after is None:
            return []
        candidates = list(dict.fromkeys(map(str, [*likely, *self._ids_between()])))
        found: list[str] = []
        for start in range(0, len(candidates), MOST_KEYS):
            found += self._among(candidates[start : start + MOST_KEYS])
        if len(found) < count and isinstance(self.before or self.after, str):
            found += [code for code in self._codes_with_prefix("", count) if code not in found]
        return found

    def _ids_between(self) -> Sequence[int]:
        low = self.before if isinstance(self.before, int) else None
        high = self.after if isinstance(self.after, int) else None
        if low is None and high is None:
            return ()
        low = max(0, (high or 0) - WIDEST_GAP) if low is None else low
        high = low + WIDEST_GAP if high is None else high
        return range(low + 1, high) if high - low <= WIDEST_GAP else ()

    def _among(self, keys: Sequence[str], count: int | None = None) -> list[str]:
        count = self._count([_Rule("in", ",".join(keys))]) if count is None else count
        if not count or len(keys) == 1:
            return list(keys) if count else []
        half = len(keys) // 2
        first = self._count([_Rule("in", ",".join(keys[:half]))])
        return [*self._among(keys[:half], first), *self._among(keys[half:], count - first)]

    def _codes_with_prefix(self, prefix: str, count: int) -> Iterator[str]:
        """The broken codes with this beginning, found letter by letter."""
        longer = self._count([_Rule("like", f"{prefix}_%")])
        if longer < count and prefix:
            yield prefix
        yield from self._codes_with_next_letter(prefix, LETTERS, longer)

    def _codes_with_next_letter(self, prefix: str, letters: str, count: int) -> Iterator[str]:
        if not count:
            return
        if len(letters) == 1:
            yield from self._codes_with_prefix(prefix + letters, count)
            return
        half = len(letters) // 2
        first = self._count([_Rule("like", f"{prefix}{letter}%") for letter in letters[:half]])
        yield from self._codes_with_next_letter(prefix, letters[:half], first)
        yield from self._codes_with_next_letter(prefix, letters[half:], count - first)

    def _count(self, tests: Sequence[_Rule]) -> int:
        """How many broken items pass one of these tests."""
        neighbour, direction = (self.before, "ASC") if self.before is not None else (self.after, "DESC")
        bounds: list[_Group] = [group for group in self.rules if group[0].condition in ("in", "nin")]
        if self.before is not None:
            bounds.append((_Rule("gteq", str(self.before)),))
        if self.after is not None:
            bounds.append((_Rule("lteq" if self.before is None else "lt", str(self.after)),))
        group = (_Rule("eq", str(neighbour)), *tests)
        found = self.page([*bounds, group], 1, direction=direction)
        if [str(key) for key in found.items] != [str(neighbour)]:
            raise AnswerUnreadable("Commerce counted other items than requested.")
        return found.total_count - 1


def _params(
    listing: _Listing, rules: Sequence[_Group], size: int, number: int, direction: str
) -> list[tuple[str, str]]:
    pairs = []
    for place, group in enumerate(rules):
        for index, rule in enumerate(group):
            name = f"searchCriteria[filterGroups][{place}][filters][{index}]"
            pairs += [
                (f"{name}[field]", listing.key),
                (f"{name}[conditionType]", rule.condition),
                (f"{name}[value]", rule.value),
            ]
    return [
        *pairs,
        ("searchCriteria[sortOrders][0][field]", listing.key),
        ("searchCriteria[sortOrders][0][direction]", direction),
        ("searchCriteria[pageSize]", str(size)),
        ("searchCriteria[currentPage]", str(number)),
    ]


def _read(
    listing: _Listing,
    rules: Sequence[_Group],
    size: int,
    number: int,
    seen: Collection[Key],
    answer: Answer,
) -> _Page:
    """Read a page and check it against its request.

    Raises PageFailed for broken or truncated JSON, AnswerUnreadable for any other contradiction.
    """
    envelope = decoded(_ENVELOPE, _whole_characters(answer.body), listing.noun)
    asked = frozenset(
        frozenset((listing.key, rule.condition, rule.value) for rule in group) for group in rules
    )
    if envelope.search_criteria.page_size != size or envelope.search_criteria.asked() != asked:
        raise AnswerUnreadable(f"Commerce sent other {listing.noun} than requested.")
    sent = envelope.items or []
    is_beyond = envelope.total_count <= (number - 1) * size
    if len(sent) > min(size, envelope.total_count) or not (sent or is_beyond):
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
    """Replace halves of surrogate pairs in JSON by U+FFFD, since a strict decoder refuses them."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found["half"] else found[0], body)
