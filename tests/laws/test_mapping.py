"""Laws of `mapping`: whatever a document holds, its rows can be stored, and only `Unmappable` is raised."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync.mapping import Rows, Unmappable, decode, map_product
from sync.model import CHILD_COLUMNS, PRODUCT_COLUMNS

# The key columns of each child table, counted behind the store view and the product id.
KEY_WIDTH = dict.fromkeys(CHILD_COLUMNS, 1) | {"product_links": 2}
TYPES = (str, int, bool, Decimal, datetime, type(None))

NUMBERS = (
    st.integers()
    | st.sampled_from([0, -1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30])
    | st.floats(allow_nan=False, allow_infinity=False)
)
TEXTS = (
    st.text()
    | st.text(st.sampled_from("a\0\ud800\udc00😀\\u0"), max_size=4)
    | st.sampled_from(["", "1", "2.0", "-7", "NaN", "Infinity", "1e99", "1_0", "null", "true", "x" * 300])
    | st.sampled_from(["0000-00-00 00:00:00", "2025-01-31 08:00:00", "0001-01-01T00:00:00+14:00"])
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def sent(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of `members`, each healthy or anything else."""
    return st.fixed_dictionaries({}, optional={name: member | ANYTHING for name, member in members.items()})


def some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(sent(**members) | ANYTHING, max_size=3)


IDS = st.integers(1, 3) | st.sampled_from(["1", "2"])
CODES = st.sampled_from(["color", "category_ids", "size", "c" * 300])
SKUS = st.sampled_from(["A", "B", "b"])
DOCUMENTS = sent(
    id=st.integers(1, 2**63 - 1),
    sku=TEXTS,
    name=TEXTS,
    price=NUMBERS,
    weight=NUMBERS,
    status=IDS,
    created_at=TEXTS,
    updated_at=TEXTS,
    custom_attributes=some(attribute_code=CODES, value=ANYTHING | st.lists(IDS)),
    media_gallery_entries=some(
        id=IDS, types=st.lists(TEXTS, max_size=2), file=TEXTS, extension_attributes=ANYTHING
    ),
    tier_prices=some(
        qty=NUMBERS, value=NUMBERS, extension_attributes=sent(website_id=IDS, percentage_value=NUMBERS)
    ),
    product_links=some(
        link_type=SKUS, linked_product_sku=SKUS, position=IDS, extension_attributes=sent(qty=NUMBERS)
    ),
    extension_attributes=sent(
        website_ids=st.lists(IDS),
        category_links=some(category_id=IDS, position=IDS),
        configurable_product_links=st.lists(IDS),
    ),
)


def mapped(document: object) -> Rows:
    raw = json.dumps(document).encode()
    return map_product("all", raw)


def values(rows: Rows) -> Iterator[object]:
    yield from rows.product
    for table in rows.children.values():
        for row in table:
            yield from row


def is_storable(value: object) -> bool:
    """Whether each of the three databases takes the value as it is."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, Decimal):
        return value.as_tuple().exponent == -6 and abs(value) < Decimal(10) ** 14
    if isinstance(value, datetime):
        return value.tzinfo is UTC
    return isinstance(value, TYPES) and (value is None or -(2**63) <= value < 2**63)  # type: ignore[operator]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(DOCUMENTS)
def test_rows_can_be_stored_whatever_the_document_holds(document: dict[str, Any]) -> None:
    try:
        rows = mapped(document)
    except Unmappable:
        return

    assert all(map(is_storable, values(rows)))
    assert all(is_storable(text) for note in rows.notes for text in note)
    assert len(rows.product) == len(PRODUCT_COLUMNS)
    assert list(rows.children) == list(CHILD_COLUMNS)
    for table, found in rows.children.items():
        assert {len(row) for row in found} <= {len(CHILD_COLUMNS[table])}
        keys = Counter(row[: 2 + KEY_WIDTH[table]] for row in found)
        assert set(keys.values()) <= {1}
        assert not any(None in key for key in keys)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(DOCUMENTS, st.integers(1, 2**63 - 1))
def test_a_usable_id_and_sku_always_map(document: dict[str, Any], product_id: int) -> None:
    rows = mapped(document | {"id": product_id, "sku": "X"})

    assert rows.product[:3] == ("all", product_id, "X")


@given(st.binary() | st.text().map(str.encode) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_decoding_raises_nothing_but_its_own_error(raw: bytes) -> None:
    try:
        decode(raw)
    except Unmappable:
        return


HEALTHY = {
    "id": 1,
    "sku": "X",
    "name": "Lamp",
    "price": 12.5,
    "status": 1,
    "updated_at": "2025-01-31 08:00:00",
    "custom_attributes": [{"attribute_code": "color", "value": "4"}],
    "media_gallery_entries": [{"id": 3, "types": [], "file": "/l.jpg"}],
    "tier_prices": [{"customer_group_id": 1, "qty": 2, "value": 11}],
    "product_links": [{"link_type": "related", "linked_product_sku": "Y", "position": 1}],
    "extension_attributes": {"website_ids": [1], "category_links": [{"category_id": "5", "position": 0}]},
}
TABLE_OF = {
    "custom_attributes": "product_attributes",
    "media_gallery_entries": "product_media",
    "tier_prices": "product_tier_prices",
    "product_links": "product_links",
}


@given(st.sampled_from(sorted(HEALTHY.keys() - {"id", "sku", "extension_attributes"})), ANYTHING)
def test_what_is_odd_in_one_member_costs_nothing_elsewhere(name: str, odd: object) -> None:
    healthy, rows = mapped(HEALTHY), mapped(deepcopy(HEALTHY) | {name: odd})

    own_column = {"document", name}
    for column, before, after in zip(PRODUCT_COLUMNS, healthy.product, rows.product, strict=True):
        assert column in own_column or before == after
    for table, found in healthy.children.items():
        assert table == TABLE_OF.get(name) or rows.children[table] == found
    assert all(note.path.startswith(name) for note in rows.notes)


@given(
    st.sampled_from(sorted(HEALTHY)), ANYTHING | st.lists(sent(id=IDS, qty=NUMBERS, position=IDS), max_size=2)
)
def test_a_document_that_needs_care_has_the_rows_it_has_without(name: str, odd: object) -> None:
    """A NUL in a member that no row shows: such a document is not read in one step."""
    document = deepcopy(HEALTHY) | {name: odd}
    try:
        plain = mapped(document)
    except Unmappable:
        with pytest.raises(Unmappable):
            mapped(document | {"elsewhere": "\0"})
        return

    careful = mapped(document | {"elsewhere": "\0"})

    assert careful.product[:-1] == plain.product[:-1]
    assert careful.children == plain.children
    assert [note for note in careful.notes if note.path != "elsewhere"] == plain.notes
