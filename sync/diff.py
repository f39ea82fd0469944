"""What changed between two versions of a document, path by path, and how to apply it.

Pure and generic: JSON values in, `{path: {"old": …, "new": …}}` out. "old" is absent from what was
added, "new" from what was removed. Numbers compare by value: 34 and 34.0 are the same price.

A path names members with dots and entries of a list by their key, so that an entry that moved is not
a change of everything behind it:

    price                                            a member
    custom_attributes[color]                         the value of a named entry
    product_links[related,BAG-1].position            an entry whose key has two parts
    media_gallery_entries[]                          the order of a list; old and new are its keys

A name or key part is written as a JSON string where it holds one of . , [ ] " or is empty. A list that
has no known key, or an entry without one, or one key twice, is a single value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import partial, reduce
from typing import Any, NamedTuple, Protocol, TypedDict

import msgspec

Document = dict[str, object]

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_BARE = re.compile(r'[^.,\[\]"]+')
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_STEP = re.compile(rf'\[(?P<entry>(?:[^\[\]"]|{_QUOTED})*)\]|\.?(?P<member>{_QUOTED}|[^.\[\]"]+)')


class EntryKey(Protocol):
    """What identifies an entry of a list; without fields, the entry itself does.

    fields     member names, dotted where nested
    value      set when an entry is just a named value: the member that holds it
    ordered    False when the order of the entries means nothing
    """

    @property
    def fields(self) -> tuple[str, ...]: ...
    @property
    def value(self) -> str | None: ...
    @property
    def ordered(self) -> bool: ...


Keys = Mapping[str, EntryKey]  # by the list's path without entries, except those of named values


class Change(TypedDict, total=False):
    """The two values of a path; one alone when it was added or removed."""

    old: Any
    new: Any


Changes = dict[str, Change]


def diff(old: Document, new: Document, keys: Keys) -> Changes:
    """Return every path whose value differs, in the order of the documents.

    `apply(old, diff(old, new, keys), keys)` equals `new`, up to the order of unordered lists.
    """
    return dict(_differences(old, new, _Place(), keys))


def apply(old: Document, changes: Changes, keys: Keys) -> Document:
    """Return `old` with `changes` made to it, as `diff` found them with the same `keys`."""
    document = _opened(old, _Place(), keys)
    for path, change in changes.items():
        *parents, last = _steps(path)
        _make(change, last, reduce(lambda node, step: node[step], parents, document))
    return dict(_closed(document))


def is_restamp(changes: Mapping[str, object]) -> bool:
    """Say whether at most the time stamp moved, as imports do to every product."""
    return changes.keys() <= {"updated_at"}


def encode(changes: Mapping[str, Mapping[str, object]]) -> str:
    """Write changes as JSON; a `Decimal` becomes a number with the same digits."""
    return _ENCODER.encode(changes).decode()


class _Place(NamedTuple):
    """Where a value is: its path, and the name that `Keys` has for a list there."""

    path: str = ""
    list_name: str = ""

    def member(self, name: str) -> _Place:
        if not self.path:
            return _Place(_quoted(name), name)
        return _Place(f"{self.path}.{_quoted(name)}", f"{self.list_name}.{name}")

    def entry(self, key_text: str, key: EntryKey) -> _Place:
        entry = f"[{key_text}]"
        return _Place(self.path + entry, self.list_name if key.value is None else self.list_name + entry)


def _differences(old: object, new: object, place: _Place, keys: Keys) -> Iterator[tuple[str, Change]]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _member_differences(old, new, place.member, keys)
    elif (key := keys.get(place.list_name)) and (entries := _both_by_key(old, new, key)):
        yield from _member_differences(*entries, partial(place.entry, key=key), keys)
        yield from _order_difference(*entries, place.path, key)
    elif not _same(old, new):
        yield place.path, {"old": old, "new": new}


def _member_differences(
    old: Document, new: Document, place_of: Callable[[str], _Place], keys: Keys
) -> Iterator[tuple[str, Change]]:
    for name, value in old.items():
        if name not in new:
            yield place_of(name).path, {"old": value}
        elif not _same(value, new[name]):
            yield from _differences(value, new[name], place_of(name), keys)
    for name, value in new.items():
        if name not in old:
            yield place_of(name).path, {"new": value}


def _order_difference(old: Document, new: Document, path: str, key: EntryKey) -> Iterator[tuple[str, Change]]:
    """Yield the order of the keys, where it is not the one that `apply` arrives at by itself."""
    by_itself = [name for name in old if name in new] + [name for name in new if name not in old]
    if key.ordered and by_itself != list(new):
        yield f"{path}[]", {"old": list(old), "new": list(new)}


def _same(old: object, new: object) -> bool:
    """Compare JSON values: numbers by value, but true is not 1, which Python holds equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(map(_same, old.values(), map(new.__getitem__, old)))
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return old == new and isinstance(old, bool) == isinstance(new, bool)


def _both_by_key(old: object, new: object, key: EntryKey) -> tuple[_Entries, _Entries] | None:
    if (old_entries := _by_key(old, key)) is None or (new_entries := _by_key(new, key)) is None:
        return None
    return old_entries, new_entries


class _Entries(dict[str, Any]):
    """The entries of a list by the text of their key, as a path has it between brackets."""

    def __init__(self, key: EntryKey) -> None:
        super().__init__()
        self.key = key


def _by_key(items: object, key: EntryKey) -> _Entries | None:
    """Take a list apart; None when it is no list, or its entries cannot be told apart."""
    if not isinstance(items, list):
        return None
    entries = _Entries(key)
    for item in items:
        text = _key_text(item, key)
        if text is None or text in entries:
            return None
        entries[text] = item if key.value is None else item[key.value]
    return entries


def _key_text(item: Any, key: EntryKey) -> str | None:
    if not key.fields:
        return _key_part(item)
    if not isinstance(item, dict) or (key.value is not None and not _is_named_value(item, key)):
        return None
    parts = [_key_part(_nested(item, field)) for field in key.fields]
    return None if None in parts else ",".join(map(str, parts))


def _is_named_value(item: Document, key: EntryKey) -> bool:
    return item.keys() == {*key.fields, key.value} and isinstance(item[key.fields[0]], str)


def _nested(item: Any, dotted: str) -> object:
    """Return a member's value, None where there is none."""
    for name in dotted.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return item


def _key_part(value: object) -> str | None:
    """Write a scalar so that equal ones read equal; None when it is none, or of absurd size.

    Texts are unique only among values of one type. Where two types meet in one list, as 5 and "5",
    the list is compared whole; where one became the other, the entry is the same and its member changed.
    """
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}" if -20 < value.adjusted() < 20 else None
    return json.dumps(value) if value is None or isinstance(value, int) else None


def _quoted(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _unquoted(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text


def _steps(path: str) -> list[str]:
    """Take a path apart: names of members, key texts of entries, "" for an order."""
    return [
        _unquoted(step["member"]) if step["entry"] is None else step["entry"] for step in _STEP.finditer(path)
    ]


def _opened(value: object, place: _Place, keys: Keys) -> Any:
    """Copy a value, with its keyed lists as `_Entries`, so that every step of a path is a look-up."""
    if isinstance(value, dict):
        return {name: _opened(member, place.member(name), keys) for name, member in value.items()}
    key = keys.get(place.list_name)
    if key is None or (entries := _by_key(value, key)) is None:
        return value
    for text, entry in entries.items():
        entries[text] = _opened(entry, place.entry(text, key), keys)
    return entries


def _closed(value: Any) -> Any:
    """Undo `_opened`."""
    if not isinstance(value, dict):
        return value
    members = {name: _closed(member) for name, member in value.items()}
    if not isinstance(value, _Entries):
        return members
    if value.key.value is None:
        return list(members.values())
    (name_field,) = value.key.fields
    return [{name_field: _unquoted(text), value.key.value: member} for text, member in members.items()]


def _make(change: Change, step: str, parent: Any) -> None:
    if isinstance(parent, _Entries) and not step:
        order = [(text, parent.pop(text)) for text in change["new"]]
        parent.update(order)
    elif "new" in change:
        parent[step] = change["new"]
    else:
        del parent[step]
