"""Laws of `diff`: what it finds leads from one version to the other, is small, and reads well."""

from __future__ import annotations

import json
from copy import deepcopy
from decimal import Decimal
from fractions import Fraction
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.diff import Change, Changes, apply, diff, encode, is_restamp
from sync.mapping import LIST_KEYS

JSON = dict[str, Any]

# Values that are easily taken for one another, and names that a path must quote.
SCALARS = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        34,
        Decimal("34.0"),
        Decimal("0.10"),
        -1,
        "",
        "1",
        "true",
        "null",
        "34",
        "ü",
        "😀",
    ]
)
NAMES = st.text(st.sampled_from('ab.,[]"\\ 1\n'), max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
IDS = st.lists(st.sampled_from([1, 2, 3, "3", "a.b", Decimal("2.5")]), max_size=4)


def entries(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[list[JSON]]:
    """Lists of objects, most of them with keys that differ, some with one key twice or none."""
    return st.lists(st.fixed_dictionaries({}, optional=members), max_size=4)


CODES = st.sampled_from(["color", "category_ids", "a.b", "x[1]", "", '"'])
ATTRIBUTES: st.SearchStrategy[JSON] = st.fixed_dictionaries({"attribute_code": CODES, "value": IDS | VALUES})
DOCUMENTS: st.SearchStrategy[JSON] = st.fixed_dictionaries(
    {},
    optional={
        "updated_at": st.sampled_from(["2025-01-01 00:00:00", "2025-01-02 00:00:00"]),
        "price": SCALARS,
        "other": VALUES,
        "": VALUES,
        "custom_attributes": st.lists(ATTRIBUTES, max_size=4, unique_by=itemgetter("attribute_code"))
        | st.lists(ATTRIBUTES, max_size=3)
        | VALUES,
        "media_gallery_entries": entries(id=SCALARS, types=IDS, label=SCALARS),
        "product_links": entries(link_type=SCALARS, linked_product_sku=NAMES, position=SCALARS),
        "tier_prices": entries(qty=SCALARS, extension_attributes=st.just([]) | st.just({"website_id": 1})),
        "extension_attributes": st.fixed_dictionaries(
            {},
            optional={"website_ids": IDS, "category_links": entries(category_id=SCALARS, position=SCALARS)},
        ),
    },
)


def canonical(value: object, place: str = "", *, ordered: bool = True) -> object:
    """A value such that equal means the same: 34 is 34.0, true is not 1, unordered lists are sorted.

    ordered    False sorts every list that has a key
    """
    if isinstance(value, dict):
        return {
            name: canonical(value[name], inner(place, name, value), ordered=ordered) for name in sorted(value)
        }
    if isinstance(value, list):
        items = [canonical(item, place, ordered=ordered) for item in value]
        key = LIST_KEYS.get(place)
        return sorted(items, key=repr) if key and not (ordered and key.ordered) else items
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        return type(value), value
    return Fraction(value)


def inner(place: str, name: str, owner: JSON) -> str:
    """Where `LIST_KEYS` looks for a member of `owner`."""
    if place == "custom_attributes" and name == "value":
        return f"{place}[{owner.get('attribute_code')}]"
    return f"{place}.{name}" if place else name


def gallery(ids: list[int]) -> JSON:
    return {"media_gallery_entries": [{"id": i, "label": "front"} for i in ids]}


def swapped(changes: Changes) -> Changes:
    return {path: swap(change) for path, change in changes.items()}


def swap(change: Change) -> Change:
    back = Change()
    if "old" in change:
        back["new"] = change["old"]
    if "new" in change:
        back["old"] = change["new"]
    return back


# --- laws ------------------------------------------------------------------------------------


@given(DOCUMENTS)
def test_a_document_does_not_differ_from_itself(document: JSON) -> None:
    assert diff(document, deepcopy(document), LIST_KEYS) == {}


@given(DOCUMENTS, DOCUMENTS)
def test_changes_lead_from_the_old_version_to_the_new(old: JSON, new: JSON) -> None:
    before = deepcopy(old)

    assert canonical(apply(old, diff(old, new, LIST_KEYS), LIST_KEYS)) == canonical(new)
    assert old == before


@given(DOCUMENTS, DOCUMENTS)
def test_changes_lead_back_too_but_for_the_order_of_entries(old: JSON, new: JSON) -> None:
    back = apply(new, swapped(diff(old, new, LIST_KEYS)), LIST_KEYS)

    assert canonical(back, ordered=False) == canonical(old, ordered=False)


@given(DOCUMENTS, DOCUMENTS)
def test_no_changes_means_the_same(old: JSON, new: JSON) -> None:
    assert (diff(old, new, LIST_KEYS) == {}) == (canonical(old) == canonical(new))


@given(DOCUMENTS, DOCUMENTS)
def test_changes_survive_being_written_as_json(old: JSON, new: JSON) -> None:
    changes = diff(old, new, LIST_KEYS)

    assert json.loads(encode(changes), parse_float=Decimal) == changes


@given(DOCUMENTS, st.text(), st.text())
def test_a_restamp_moves_updated_at_and_nothing_else(document: JSON, old: str, new: str) -> None:
    changes = diff(document | {"updated_at": old}, document | {"updated_at": new}, LIST_KEYS)

    assert is_restamp(changes)
    assert is_restamp(changes | {"price": Change(old=1, new=2)}) is False


@given(st.lists(st.integers(), min_size=2, unique=True), st.data())
def test_an_entry_that_moved_is_one_path_however_long_the_list(ids: list[int], data: st.DataObject) -> None:
    moved = list(ids)
    moved.insert(data.draw(st.integers(0, len(ids) - 1)), moved.pop(data.draw(st.integers(0, len(ids) - 1))))

    changes = diff(gallery(ids), gallery(moved), LIST_KEYS)

    assert set(changes) == ({"media_gallery_entries[]"} if ids != moved else set())


@given(st.sets(st.integers(0, 99), min_size=1), st.data())
def test_as_many_paths_as_edits(ids: set[int], data: st.DataObject) -> None:
    """Of the entries some are edited, some removed, and some more are added."""
    fate = {i: data.draw(st.sampled_from(["kept", "edited", "removed"])) for i in ids}
    added = data.draw(st.sets(st.integers(100, 199)))
    old = [{"option_id": i, "title": "old"} for i in ids]
    new = [{"option_id": i, "title": fate[i]} for i in ids if fate[i] != "removed"]
    new = [entry | {"title": "old"} if entry["title"] == "kept" else entry for entry in new]
    new += [{"option_id": i, "title": "new"} for i in added]

    changes = diff({"options": old}, {"options": new}, LIST_KEYS)

    assert len(changes) == len(added) + sum(1 for what in fate.values() if what != "kept")


# --- how it reads ----------------------------------------------------------------------------


def attribute(code: str, value: object) -> JSON:
    return {"attribute_code": code, "value": value}


def link(sku: str, **members: object) -> JSON:
    return {"link_type": "related", "linked_product_sku": sku, **members}


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({"price": 34}, {"price": Decimal("29.9")}, {"price": {"old": 34, "new": Decimal("29.9")}}),
        ({"weight": 1}, {}, {"weight": {"old": 1}}),
        ({}, {"weight": None}, {"weight": {"new": None}}),
        ({"required": True}, {"required": 1}, {"required": {"old": True, "new": 1}}),
        ({"a.b": 1}, {"a.b": 2}, {'"a.b"': {"old": 1, "new": 2}}),
        (
            {"custom_attributes": [attribute("size", "7"), attribute("color", "49")]},
            {"custom_attributes": [attribute("color", "50"), attribute("new", "1")]},
            {
                "custom_attributes[size]": {"old": "7"},
                "custom_attributes[color]": {"old": "49", "new": "50"},
                "custom_attributes[new]": {"new": "1"},
            },
        ),
        (
            {"custom_attributes": [attribute("category_ids", ["3", "4"])]},
            {"custom_attributes": [attribute("category_ids", ["5", "3"])]},
            {
                "custom_attributes[category_ids][4]": {"old": "4"},
                "custom_attributes[category_ids][5]": {"new": "5"},
            },
        ),
        (
            {"extension_attributes": {"category_links": [{"category_id": "23", "position": 1}]}},
            {"extension_attributes": {"category_links": [{"category_id": "23", "position": 2}]}},
            {"extension_attributes.category_links[23].position": {"old": 1, "new": 2}},
        ),
        (
            {"product_links": [link("A,1", position=1), link("B")]},
            {"product_links": [link("B"), link("A,1", position=2)]},
            {
                'product_links[related,"A,1"].position': {"old": 1, "new": 2},
                "product_links[]": {
                    "old": ['related,"A,1"', "related,B"],
                    "new": ["related,B", 'related,"A,1"'],
                },
            },
        ),
        (
            {"tier_prices": [{"customer_group_id": 1, "qty": 10, "value": 5}]},
            {"tier_prices": [{"customer_group_id": 1, "qty": Decimal("10.0"), "value": 6}]},
            {"tier_prices[1,10,null].value": {"old": 5, "new": 6}},
        ),
        (
            {"unknown_list": [{"id": 1}, {"id": 2}]},
            {"unknown_list": [{"id": 2}]},
            {"unknown_list": {"old": [{"id": 1}, {"id": 2}], "new": [{"id": 2}]}},
        ),
        (
            {"options": [{"option_id": 1}, {"option_id": 1}]},
            {"options": [{"option_id": 1}]},
            {"options": {"old": [{"option_id": 1}, {"option_id": 1}], "new": [{"option_id": 1}]}},
        ),
    ],
)
def test_paths_read_like_the_document(old: JSON, new: JSON, changes: Changes) -> None:
    assert diff(old, new, LIST_KEYS) == changes
    assert canonical(apply(old, changes, LIST_KEYS)) == canonical(new)


def test_a_decimal_is_written_with_its_digits() -> None:
    changes: Changes = {"price": {"old": Decimal("29.989999999999998"), "new": Decimal("29.90")}}

    assert encode(changes) == '{"price":{"old":29.989999999999998,"new":29.90}}'
