"""Reference data: the attributes, categories and websites that products refer to.

    attributes, attribute sets, categories    lists, keyset pagination: `<key> gt <last>`, ordered by key
    websites, store groups, store views       one array each

The key of an attribute is its code: filtering by `attribute_id` is ambiguous in the joins behind that list.
Codes are ordered by the tenant's collation, so they are never compared here: a repeated key, or counts that
do not add up, show that something was missed. Labels of options and names of categories depend on the `Store`
scope; observed on Magento 2.4.7: options have no `store_labels`, so each store view is read.

An item that fails every page it is on (an attribute whose extension was removed: observed on Magento 2.4.7)
is isolated by smaller pages, left out, and identified by counting, which does not load it. The tenant must
answer another request meanwhile, since in an outage everything fails, and a page of this list without items.

Labels are hostile input. Items are returned as the bytes that were sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from sync.commerce.client import Answer, Client
from sync.commerce.decoding import NonNegativeInteger, decoded
from sync.commerce.keyset import Cursor, Keyset, ListPage, equal, until_well
from sync.commerce.search import Echo, Filter, Groups, Key, Listed, ListSpec
from sync.errors import AnswerUnreadable, PageFailed, RequestRefused

EVERYWHERE: Final = "all"  # the scope of data that is equal in all store views
ROUNDS: Final = 3  # how often a list is read when it changes meanwhile
MOST_KEYS: Final = 100  # in one filter: keeps the URL below 4 kB for codes of 30 letters
NO_KEY: Final = "0"  # of no item
WIDEST_GAP: Final = 1_000  # ids between two readable items that are searched for a broken one
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789_"  # `_` last: in a pattern it matches any letter
CONDITIONS: Final = frozenset({"eq", "gt", "gteq", "in", "like", "lt", "lteq", "nin"})

Item = tuple[Key, bytes]


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


def _spec(path: str, noun: str, key: str, member: str, page_size: int) -> ListSpec[Item]:
    """A list whose items are kept as they were sent.

    member    the key's name in items
    """

    def decode(body: bytes) -> Listed[Item]:
        found = decoded(_ENVELOPE, _whole_characters(body), noun)
        items = [(_key(noun, member, raw), bytes(raw)) for raw in found.items or ()]
        return Listed(items, found.search_criteria, found.total_count)

    every = 2**62  # keys: the list is short, and no empty page proves its end
    return ListSpec(
        path, noun, key, {key: CONDITIONS}, decode, _key_of, page_size, remembered=every, is_counted=True
    )


def _key_of(item: Item) -> Key:
    return item[0]


def _key(noun: str, member: str, raw: msgspec.Raw) -> Key:
    members = decoded(_MEMBERS, raw, noun)
    if (key := members.get(member)) is None:
        raise AnswerUnreadable(f"Commerce sent {noun} without {member}.")
    return decoded(_KEY, key, noun)


ATTRIBUTES: Final = _spec("/V1/products/attributes", "attributes", "attribute_code", "attribute_code", 50)
ATTRIBUTE_SETS: Final = _spec(
    "/V1/products/attribute-sets/sets/list", "attribute sets", "attribute_set_id", "attribute_set_id", 300
)
CATEGORIES: Final = _spec("/V1/categories/list", "categories", "entity_id", "id", 50)


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
        self.client = client
        self.without = {noun: set(keys) for noun, keys in (without or {}).items()}
        self.likely = likely or {}
        self.broken: list[Broken] = []

    def cannot_show(self, noun: str, key: object) -> bool:
        """Whether this item may be missing from its list because it is broken."""
        if str(key) in self.without.get(noun, ()):
            return True
        return any(it.noun == noun and it.key in (None, str(key)) for it in self.broken)

    def leave_out(self, noun: str, names: Sequence[str], count: int, place: str, reason: str) -> None:
        """Note so many broken items, of which these are named: they are not requested again."""
        for name in names:
            self.without.setdefault(noun, set()).add(name)
            self.broken.append(Broken(noun, name, place, reason))
        unnamed = Broken(noun, None, place, reason)
        if len(names) < count and unnamed not in self.broken:
            self.broken.append(unnamed)

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
        self, spec: ListSpec[Item], store_view: str, keys: Collection[Key] | None
    ) -> Iterator[list[bytes]]:
        if keys is None:
            yield from self._rounds(spec, store_view, None)
            return
        without = self.without.get(spec.noun, set())
        named = [str(key) for key in keys if str(key) not in without]
        for start in range(0, len(named), MOST_KEYS):
            yield from self._rounds(spec, store_view, named[start : start + MOST_KEYS])

    def _rounds(
        self, spec: ListSpec[Item], store_view: str, keys: Sequence[str] | None
    ) -> Iterator[list[bytes]]:
        """Read until the counts add up."""
        for _ in range(ROUNDS):
            adds_up = True
            expected: int | None = None
            reading = _Reading(self, spec, store_view, keys)
            for page in reading.pages(None if keys is None else len(keys)):
                adds_up = adds_up and expected in (None, page.total_count + page.skipped)
                expected = page.left
                if page.items:
                    yield [raw for _, raw in page.items]
            if adds_up:
                return
        raise AnswerUnreadable(
            f"The tenant's count of {spec.noun} contradicts its list (store view {store_view}).",
            "try again later; if it persists, check the tenant's exception log.",
        )

    def _array(self, path: str) -> list[bytes]:
        return self.client.get(path, [], EVERYWHERE, _read_array)


class _Reading(Keyset[Item]):
    """One walk over a list, or over those of its items that have these keys."""

    def __init__(
        self, reference: Reference, spec: ListSpec[Item], store_view: str, keys: Sequence[str] | None
    ) -> None:
        super().__init__(reference.client, spec, store_view)
        self._reference = reference
        self._keys = keys
        self._is_checked = False

    @property
    def noun(self) -> str:
        return f"{self.spec.noun} of store view {self.store_view}"

    def base(self) -> Groups:
        if self._keys is not None:
            return ((Filter(self.spec.key, "in", ",".join(self._keys)),),)
        without = sorted(self._reference.without.get(self.spec.noun, ()))
        return ((Filter(self.spec.key, "nin", ",".join(without)),),) if without else ()

    def wait(self) -> None:
        until_well(self._reference.store_views)

    def page(self, cursor: Cursor, size: int) -> ListPage[Item]:
        try:
            return super().page(cursor, size)
        except PageFailed as failure:
            if not self._is_checked:
                self._check_list(failure)
            raise

    def _check_list(self, failure: PageFailed) -> None:
        """Raise AnswerUnreadable if a page without items fails too: then no item is to blame."""
        self.wait()
        try:
            self.ask((*self.base(), equal(self.spec.key, NO_KEY)), 1, patient=False)
        except PageFailed:
            raise AnswerUnreadable(
                f"The {self.noun} cannot be read: {failure}",
                "check the tenant's exception log: something breaks the whole list.",
            ) from None
        self._is_checked = True

    def leave_out(self, cursor: Cursor, following: Key | None, count: int, failure: PageFailed) -> None:
        """Name them, and do not request them again."""
        before = cursor.keys[-1] if cursor.keys else None
        search = _Search(partial(self.ask, patient=False), self.spec.key, cursor.base, before, following)
        try:
            names = search.names(self._keys, self._reference.likely.get(self.spec.noun, ()), count)
        except (AnswerUnreadable, RequestRefused):
            names = []
        place = "alone in its list"
        if before is not None or following is not None:
            place = f"before {following}" if before is None else f"after {before}"
        self._reference.leave_out(self.spec.noun, names, count, place, str(failure))


@dataclass(frozen=True, slots=True)
class _Search:
    """Finds the keys of broken items by counting them together with a readable neighbour.

    Only the neighbour is on the requested page of one, so nothing broken is loaded.

    page      requests a page
    key       of the list
    base      the filters of every page
    before    the readable key before the broken ones, None at the start
    after     the readable key after them, None at the end
    """

    page: Callable[..., ListPage[Item]]
    key: str
    base: Groups
    before: Key | None
    after: Key | None

    def names(self, given: Sequence[str] | None, likely: Collection[Key], count: int) -> Sequence[str]:
        """Their keys, as far as they can be found.

        given    the only keys that were requested
        """
        if given is not None and len(given) == count:
            return given
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
        count = self._count([self._rule("in", ",".join(keys))]) if count is None else count
        if not count or len(keys) == 1:
            return list(keys) if count else []
        half = len(keys) // 2
        first = self._count([self._rule("in", ",".join(keys[:half]))])
        return [*self._among(keys[:half], first), *self._among(keys[half:], count - first)]

    def _codes_with_prefix(self, prefix: str, count: int) -> Iterator[str]:
        """The broken codes with this beginning, found letter by letter."""
        longer = self._count([self._rule("like", f"{prefix}_%")])
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
        first = self._count([self._rule("like", f"{prefix}{letter}%") for letter in letters[:half]])
        yield from self._codes_with_next_letter(prefix, letters[:half], first)
        yield from self._codes_with_next_letter(prefix, letters[half:], count - first)

    def _count(self, tests: Sequence[Filter]) -> int:
        """How many broken items pass one of these tests."""
        neighbour, direction = (self.before, "ASC") if self.before is not None else (self.after, "DESC")
        bounds = list(self.base)
        if self.before is not None:
            bounds.append((self._rule("gteq", str(self.before)),))
        if self.after is not None:
            bounds.append((self._rule("lteq" if self.before is None else "lt", str(self.after)),))
        group = (*equal(self.key, str(neighbour)), *tests)
        found = self.page((*bounds, group), 1, direction=direction)
        if [str(key) for key, _ in found.items] != [str(neighbour)]:
            raise AnswerUnreadable("Commerce counted other items than requested.")
        return found.total_count - 1

    def _rule(self, condition: str, value: str) -> Filter:
        return Filter(self.key, condition, value)


def _read_array(answer: Answer) -> list[bytes]:
    return [bytes(raw) for raw in decoded(_ARRAY, _whole_characters(answer.body), "store views")]


def _whole_characters(body: bytes) -> bytes:
    """Replace halves of surrogate pairs in JSON by U+FFFD, since a strict decoder refuses them."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found["half"] else found[0], body)
