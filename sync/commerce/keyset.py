"""Read a list by key: the one walk, and what every list on it does about answers that fail or contradict.

    the next page is `<key> gt <last>`, in the order of the key    never a page number: those shift
    a page fails        smaller ones, until the item that fails is alone; then that item is left out
    an answer           is compared with its request: criteria, count, and keys that were read before
    the rest is gone    believed only while items just read are still listed: otherwise it is an outage

A list with text keys is read by `Keyset`: only the server compares such keys, whose collation it alone knows.
Products, whose ids are numbers, supply steps of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from sync.commerce.client import Answer, Client
from sync.commerce.decoding import NonNegativeInteger, decoded
from sync.commerce.page_size import PageSize, WalkSize
from sync.commerce.search import Criteria, Echo, Filter, Group, Groups, Key, Listed, ListSpec
from sync.errors import AccessDenied, AnswerUnreadable, PageFailed, RequestRefused, SettingsError

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)
P = TypeVar("P")
R = TypeVar("R")
T = TypeVar("T")

SLACK: Final = 10  # items, and 1 %, that may go between two pages


class Steps(Protocol[C, P]):
    """What the walk asks of a list. A cursor is a value that says where the next page begins."""

    sizes: WalkSize

    def size(self, cursor: C) -> int:
        """Items of the next page."""

    def page(self, cursor: C, size: int) -> P:
        """The page at the cursor. Raises PageFailed when a smaller one may succeed."""

    def alone(self, cursor: C, failure: PageFailed) -> P | None:
        """What comes in place of a page of one that failed; None when nothing follows."""

    def rest(self, cursor: C, page: P) -> C | None:
        """Where the page after this one begins; None at the end."""


def walk(steps: Steps[C, P], cursor: C | None) -> Iterator[P]:
    """Every page from the cursor on, each in smaller parts while it fails."""
    while cursor is not None:
        size = steps.size(cursor)
        try:
            page: P | None = steps.page(cursor, size)
        except PageFailed as failure:
            if size > 1:
                steps.sizes.failed(failure, size)
                continue
            page = steps.alone(cursor, failure)
        if page is None:
            return
        yield page
        cursor = steps.rest(cursor, page)


# --- an answer -------------------------------------------------------------------------------


class Miscounted(AnswerUnreadable):
    """`total_count` contradicts the list in the same answer.

    listed    ids of that list, when it is longer than counted
    """

    def __init__(self, message: str, listed: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.listed = listed


@dataclass(frozen=True, slots=True)
class ListPage(Generic[T]):
    """Consecutive items; `total_count` counts from the first of them to the end.

    skipped    broken items before them, which are not counted
    """

    items: tuple[T, ...]
    total_count: int
    skipped: int = 0

    @property
    def left(self) -> int:
        """How many items follow."""
        return self.total_count - len(self.items)


class Envelope(msgspec.Struct, Generic[R]):
    """An answer, with rows of one shape."""

    items: list[R]
    search_criteria: Echo
    total_count: NonNegativeInteger


def rows(
    decoder: msgspec.json.Decoder[Envelope[R]], item: Callable[[R], T], noun: str
) -> Callable[[bytes], Listed[T]]:
    """The `decode` of a list whose rows have one shape."""

    def decode(body: bytes) -> Listed[T]:
        found = decoded(decoder, body, noun)
        return Listed(list(map(item, found.items)), found.search_criteria, found.total_count)

    return decode


def read_list(criteria: Criteria, spec: ListSpec[T], body: bytes) -> ListPage[T]:
    """Read an answer and check it against its request.

    Raises PageFailed for broken or truncated JSON, AnswerUnreadable for any other contradiction.
    """
    found = spec.decode(body)
    if difference := criteria.difference(found.search_criteria):
        raise AnswerUnreadable(f"Commerce applied {difference} to {spec.noun}.")
    items = tuple(found.items or ())
    if contradiction := criteria.contradiction(len(items), found.total_count):
        raise Miscounted(contradiction)
    return ListPage(items, found.total_count)


def check_outage(
    noun: str,
    sent: int,
    total: int,
    expected: int | None,
    witnesses: Callable[[], int],
    count_again: Callable[[], int],
) -> None:
    """Raise AnswerUnreadable when many items seem to be gone, unless that is proven.

    expected     how many follow the page before; None for the first page
    witnesses    how many of some items just read are still listed

    A mass deletion looks like a tenant that is going down or coming up. Proven means: items just read are
    still listed, and a count after that agrees with the page. A list that begins with an empty page is
    counted too.
    """
    if expected is None:
        if not sent and (count := count_again()):
            raise AnswerUnreadable(f"Commerce sent an empty page of {noun}, and counts {count} there.")
        return
    slack = SLACK + expected // 100 if sent else 0
    if total + slack >= expected:
        return
    if not witnesses() or count_again() > total + slack:
        raise AnswerUnreadable(
            f"Some {noun} seem to have vanished at once: {expected - total} of {expected}.",
            "check the tenant: this looks like an outage; the next run continues here.",
        )


def too_many_broken(most: int, noun: str) -> AnswerUnreadable:
    return AnswerUnreadable(
        f"More than {most} {noun} in a row cannot be read.",
        "check the tenant's exception log: something breaks all of them, perhaps an extension.",
    )


def until_well(ask: Callable[[], object]) -> None:
    """Send a request until it is answered; a refusal is an answer."""
    with suppress(AccessDenied, RequestRefused, SettingsError):
        ask()


# --- a list with text keys -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins.

    base    the filters of every page
    keys    read before, the last one at the end
    left    how many items remain, if known
    """

    base: Groups = ()
    keys: tuple[Key, ...] = ()
    left: int | None = None


class Keyset(Generic[T]):
    """One walk over a list.

    base    the filters of every page
    size    shared with other walks over the same list

    Every method raises what `Client.get` raises.
    """

    def __init__(
        self,
        client: Client,
        spec: ListSpec[T],
        store_view: str,
        base: Groups = (),
        size: PageSize | None = None,
    ) -> None:
        self.spec = spec
        self.sizes = WalkSize(size or PageSize(spec.page_size))
        self.store_view = store_view
        self._client = client
        self._base = base

    # --- what a list may do in its own way ---

    @property
    def noun(self) -> str:
        """What is listed, for messages."""
        return self.spec.noun

    def base(self) -> Groups:
        """The filters of every page, asked for again after items were left out."""
        return self._base

    def check(self, cursor: Cursor, page: ListPage[T]) -> None:
        """Raise AnswerUnreadable for a page that contradicts the one before."""

    def wait(self) -> None:
        """Send another request until the tenant answers it."""

    def leave_out(self, cursor: Cursor, following: Key | None, count: int, failure: PageFailed) -> None:
        """Note that so many items fail alone, between the cursor and a key; None at the end."""

    # --- the walk ---

    def pages(self, left: int | None = None) -> Iterator[ListPage[T]]:
        """Every page, in the order of the key.

        left    how many items there are at most, if known
        """
        return walk(self, Cursor(self.base(), (), left))

    def size(self, _cursor: Cursor) -> int:
        return self.sizes.current

    def page(self, cursor: Cursor, size: int) -> ListPage[T]:
        check = partial(self.check, cursor)
        patient = size == 1 and not self.spec.most_broken  # what may be left out is not waited for
        page = self.ask(self.after(cursor), size, cursor, check, patient=patient)
        self.sizes.went_well(size)
        return page

    def alone(self, cursor: Cursor, failure: PageFailed) -> ListPage[T] | None:
        """A page of one item after those that fail alone, which are left out; None when nothing follows."""
        if not self.spec.most_broken:
            raise failure
        self.wait()
        left = cursor.left
        for skipped in range(self.spec.most_broken + 1):
            if skipped == left:
                break
            try:
                page = self.ask(self.after(cursor), 1, cursor, patient=False, number=skipped + 1)
            except PageFailed as another:
                failure = another
                continue
            if not page.items:
                left = skipped
                break
            if skipped:
                self.leave_out(cursor, self.spec.key_of(page.items[0]), skipped, failure)
            self.sizes.went_well(1)
            return replace(page, total_count=page.total_count - skipped, skipped=skipped)
        self.wait()
        if left is None or left > self.spec.most_broken:
            raise too_many_broken(self.spec.most_broken, self.noun)
        if left:
            self.leave_out(cursor, None, left, failure)
        return None

    def rest(self, cursor: Cursor, page: ListPage[T]) -> Cursor | None:
        if not page.items or (self.spec.is_counted and not page.left):
            return None
        keys = (*cursor.keys, *map(self.spec.key_of, page.items))
        kept = max(len(page.items), self.spec.remembered)
        return Cursor(self.base() if page.skipped else cursor.base, keys[-kept:], page.left)

    # --- requests ---

    def after(self, cursor: Cursor) -> Groups:
        if not cursor.keys:
            return cursor.base
        return (*cursor.base, (Filter(self.spec.key, "gt", str(cursor.keys[-1])),))

    def ask(
        self,
        groups: Groups,
        size: int,
        cursor: Cursor | None = None,
        check: Callable[[ListPage[T]], None] = lambda page: None,
        *,
        patient: bool = True,
        number: int = 1,
        direction: str = "ASC",
    ) -> ListPage[T]:
        """Request one page.

        cursor    whose keys it must not repeat
        """
        criteria = Criteria(self.spec, groups, size, direction, number)

        def reader(answer: Answer) -> ListPage[T]:
            page = read_list(criteria, self.spec, answer.body)
            if cursor is not None:
                keys = set(map(self.spec.key_of, page.items))
                if len(keys) < len(page.items) or not keys.isdisjoint(cursor.keys):
                    raise AnswerUnreadable(f"Commerce sent some {self.noun} twice.")
            check(page)
            self.sizes.shared.went_well(size, len(answer.body) if self.spec.is_heavy else 0)
            return page

        return self._client.get(self.spec.path, criteria.params(), self.store_view, reader, patient=patient)


def equal(field: str, value: str) -> Group:
    return (Filter(field, "eq", value),)
