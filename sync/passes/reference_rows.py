"""Map reference data to rows, and compare rows with stored ones. Pure.

Values that cannot be stored are adapted: an invalid number becomes NULL, a text that is too long is cut, a
row whose key is too long is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from sync import diff
from sync.db import fitting
from sync.db.reference import Difference, Key, Row, key_of
from sync.mapping import LIST_KEYS, MAX_INTEGER, Unmappable, decode
from sync.model import Capacity, Tally

Document = dict[str, object]
LONGEST_KEY: Final = 255
LONGEST_TEXT: Final = 65_535  # characters of a label or a name


# --- rows ------------------------------------------------------------------------------------


def attribute_rows(documents: Iterable[Document], room: Capacity) -> list[Row]:
    """A row for each attribute; its options have their own rows and are not in `document`."""
    return [_attribute_row(document, room) for document in documents if code_of(document)]


def _attribute_row(document: Document, room: Capacity) -> Row:
    rest = {name: value for name, value in document.items() if name != "options"}
    return {
        "attribute_code": code_of(document),
        "attribute_id": _integer(document.get("attribute_id")),
        "frontend_input": _short(document.get("frontend_input"), 64),
        "backend_type": _short(document.get("backend_type"), 64),
        "scope": _short(document.get("scope"), 16),
        "label": _text(document.get("default_frontend_label")),
        "is_required": _flag(document.get("is_required")),
        "document": _document_text(rest, room),
    }


def option_rows(store_view: str, documents: Iterable[Document]) -> list[Row]:
    """The options of attributes, without the blank one for "no choice"."""
    return [
        {
            "store_view": store_view,
            "attribute_code": code_of(document),
            "option_value": value,
            "label": _text(option.get("label")),
            "sort_order": _integer(option.get("sort_order")),
        }
        for document in documents
        if code_of(document)
        for option in _options(document.get("options"))
        if (value := _text(option.get("value"))) and len(value) <= LONGEST_KEY
    ]


def _options(listed: object) -> Iterator[Document]:
    """Flatten options; a group of options has a list as its value."""
    for option in listed if isinstance(listed, list) else ():
        if isinstance(option, dict):
            value = option.get("value")
            yield from _options(value) if isinstance(value, list) else (option,)


def set_row(document: Document) -> Row:
    return {
        "attribute_set_id": _integer(document.get("attribute_set_id")),
        "name": _text(document.get("attribute_set_name")),
        "sort_order": _integer(document.get("sort_order")),
    }


def category_rows(store_view: str, documents: Collection[Document], room: Capacity) -> list[Row]:
    """All categories of one store view; their paths consist of each other's names."""
    names = {str(document.get("id")): _text(document.get("name")) for document in documents}
    return [_category_row(store_view, document, names, room) for document in documents]


def _category_row(
    store_view: str, document: Document, names: Mapping[str, str | None], room: Capacity
) -> Row:
    path_ids = _text(document.get("path"))
    return {
        "store_view": store_view,
        "category_id": _integer(document.get("id")),
        "parent_id": _integer(document.get("parent_id")),
        "name": _text(document.get("name")),
        "path": None if path_ids is None else _path(path_ids.split("/"), names),
        "path_ids": path_ids,
        "level": _integer(document.get("level")),
        "position": _integer(document.get("position")),
        "is_active": _flag(document.get("is_active")),
        "document": _document_text(document, room),
    }


def _path(ids: list[str], names: Mapping[str, str | None]) -> str:
    """Names from the root category on, without the technical root above it, except in its own path.

    A category without a name is shown by its id.

    >>> _path(["1", "2", "14"], {"1": "Root Catalog", "2": "Default Category", "14": "Bags"})
    'Default Category/Bags'
    """
    return "/".join(names.get(number) or number for number in (ids[1:] or ids))


def website_row(document: Document) -> Row:
    return {
        "website_id": _integer(document.get("id")),
        "code": _short(document.get("code"), 255),
        "name": _text(document.get("name")),
        "default_group_id": _integer(document.get("default_group_id")),
    }


def store_group_row(document: Document) -> Row:
    return {
        "store_group_id": _integer(document.get("id")),
        "code": _short(document.get("code"), 255),
        "name": _text(document.get("name")),
        "website_id": _integer(document.get("website_id")),
        "root_category_id": _integer(document.get("root_category_id")),
        "default_store_id": _integer(document.get("default_store_id")),
    }


def store_view_row(document: Document) -> Row:
    return {
        "store_view_id": _integer(document.get("id")),
        "code": _short(document.get("code"), 64),
        "name": _text(document.get("name")),
        "website_id": _integer(document.get("website_id")),
        "store_group_id": _integer(document.get("store_group_id")),
        "is_active": _flag(document.get("is_active")),
    }


def code_of(document: Document) -> str | None:
    """An attribute's code; None for one that is too long to store."""
    code = document.get("attribute_code")
    return code if isinstance(code, str) and 0 < len(code) <= LONGEST_KEY else None


# --- one value -------------------------------------------------------------------------------


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        value = int(value)
    if value is None or isinstance(value, dict | list):
        return None
    return _short(str(value), LONGEST_TEXT)


def _short(value: object, length: int) -> str | None:
    if value is None or isinstance(value, dict | list):
        return None
    text = str(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _integer(value: object) -> int | None:
    """An integer; Commerce sends half of them as text."""
    try:
        number = int(str(value))
    except ValueError:
        return None
    return number if abs(number) <= MAX_INTEGER else None


def _flag(value: object) -> bool | None:
    """A boolean from true, 1 or "1": endpoints send the same member differently."""
    return {"True": True, "1": True, "False": False, "0": False}.get(str(value))


def _document_text(document: Document, room: Capacity) -> str:
    """A document as JSON, with marks in place of texts that are too large for a row."""
    text = diff.encode(document)  # type: ignore[arg-type]
    if fitting.fits(text, room.document_bytes):
        return text
    shorter = fitting.shorten(document, room.document_bytes or 0)
    return "{}" if shorter is None else shorter.text.decode()


# --- comparison ------------------------------------------------------------------------------


@dataclass(slots=True)
class Comparison:
    """The result of comparing listed rows with stored ones.

    stamped    rows that differ only in their time stamp: written, but not counted as changes
    """

    fetched: int = 0
    unchanged: int = 0
    differences: list[Difference] = field(default_factory=list)
    stamped: list[Row] = field(default_factory=list)

    @property
    def tally(self) -> Tally:
        kinds = [difference.kind for difference in self.differences]
        return Tally(
            fetched=self.fetched,
            inserted=kinds.count("insert"),
            updated=kinds.count("update"),
            unchanged=self.unchanged + len(self.stamped),
            deleted=kinds.count("delete"),
        )


def compare(here: Mapping[Key, Row], listed: Mapping[Key, Row], gone: Collection[Key]) -> Comparison:
    """Compare the rows that the tenant lists with the stored ones.

    gone    keys of stored rows that are proven gone; other unlisted rows stay
    """
    found = Comparison(fetched=len(listed))
    for key, row in listed.items():
        before = here.get(key)
        if before is None:
            found.differences.append(Difference("insert", row))
        elif fields := _fields(before, row):
            found.differences.append(Difference("update", row, diff.encode(fields)))
        elif before != row:
            found.stamped.append(row)
        else:
            found.unchanged += 1
    found.differences += [_deletion(here[key]) for key in gone if key in here]
    return found


def by_key(table: str, rows: Iterable[Row]) -> dict[Key, Row]:
    """Rows by key; the last of repeated keys wins, rows with an incomplete key are left out."""
    keyed = {key_of(table, row): row for row in rows}
    return {key: row for key, row in keyed.items() if None not in key}


def _fields(before: Row, row: Row) -> diff.Changes:
    """Changed columns, and paths of `document` without a column; empty if only a time stamp changed."""
    changes: diff.Changes = {
        name: {"old": before[name], "new": row[name]}
        for name in row
        if name != "document" and before[name] != row[name]
    }
    if before.get("document") != row.get("document"):
        paths = _document_changes(before["document"], row["document"])
        shown = {"default_frontend_label", "path", "custom_attributes[path]", *row}
        if changes or not diff.is_restamp(paths):
            changes |= {_in_document(path): it for path, it in paths.items() if path not in shown}
    return changes


def _in_document(path: str) -> str:
    return f"document.{path}" if path else "document"


def _document_changes(before: str, after: str) -> diff.Changes:
    try:
        return diff.diff(decode(before.encode("utf-8", "replace")), decode(after.encode()), LIST_KEYS)
    except Unmappable:  # edited by hand: cannot be compared
        return {"": {}}


def _deletion(row: Row) -> Difference:
    """The deletion of a row, with its last values."""
    last: diff.Changes = {
        name: {"old": value} for name, value in row.items() if name != "document" and value is not None
    }
    return Difference("delete", row, diff.encode(last))
