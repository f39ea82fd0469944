"""The `fields` parameter: which parts of an answer are sent.

Odd results are Commerce's own, observed on Magento 2.4.7: a malformed filter gives `[]`, an empty
list that was asked for in parts gives `null`, an object without any part asked for gives `[]`.
"""

from __future__ import annotations

import re
from typing import Any

Wanted = dict[str, "Wanted | None"]


def parse(text: str) -> Wanted | None:
    """`a,b[c]` as nested dicts, where None stands for "all of it"; None when it is malformed."""
    if re.search(r"[^\w\[\],]", text) or not _is_balanced(text):
        return None
    root: Wanted = {}
    stack = [root]
    name = ""
    for word in re.findall(r"\w+|[\[\]]", text):
        if word == "[":
            deeper: Wanted = {}
            stack[-1][name] = deeper
            stack.append(deeper)
        elif word == "]":
            stack.pop()
        else:
            name = word
            stack[-1][name] = None
    return root


def _is_balanced(text: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == "[") - (char == "]")
        if depth < 0:
            return False
    return depth == 0


def apply(value: Any, wanted: Wanted | None) -> Any:
    """`value` without what is not wanted."""
    if wanted is None:
        return value
    if isinstance(value, list):
        return [apply(entry, wanted) for entry in value] or None
    kept = {name: _part(name, part, wanted[name]) for name, part in value.items() if name in wanted}
    return kept or []


def _part(name: str, value: Any, wanted: Wanted | None) -> Any:
    if name == "custom_attributes" and wanted and isinstance(value, list):
        codes = set(wanted) - {"attribute_code", "value"}
        if codes:
            return _by_code(value, codes)
    return apply(value, wanted) if isinstance(value, dict | list) else value


def _by_code(entries: list[dict[str, Any]], codes: set[str]) -> Any:
    """Attributes chosen by code keep their positions: PHP prints a list with holes as an object."""
    chosen = {index: entry for index, entry in enumerate(entries) if entry.get("attribute_code") in codes}
    if list(chosen) == list(range(len(chosen))):
        return list(chosen.values())
    return {str(index): entry for index, entry in chosen.items()}
