"""What a database cannot take is replaced by a mark: the longest texts, no more of them than needed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.db.fitting import fits, inexact, shorten

texts = st.text(max_size=30) | st.text("a'é🫖", min_size=150, max_size=400)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def quoted(value: Any) -> int:
    """Bytes in a statement."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("'", "''").encode())


@given(values, st.integers(0, 2000))
def test_what_was_shortened_fits_and_differs_in_marks_only(value: Any, room: int) -> None:
    shorter = shorten(value, room)

    if shorter is not None:
        assert quoted(shorter.value) <= room
        assert json.loads(shorter.text) == shorter.value
        assert same_but_for_marks(value, shorter.value) == len(shorter.left_out)


def same_but_for_marks(before: Any, after: Any) -> int:
    """The number of marks in `after`; fails where anything else differs."""
    if isinstance(before, dict):
        assert before.keys() == after.keys()
        return sum(same_but_for_marks(before[name], after[name]) for name in before)
    if isinstance(before, list):
        return sum(same_but_for_marks(one, other) for one, other in zip(before, after, strict=True))
    if before == after:
        return 0
    assert isinstance(before, str)
    assert after.startswith(f"[left out: {len(before.encode()):,} bytes, fingerprint ")
    return 1


def test_the_longest_texts_go_first_and_the_paths_name_them() -> None:
    value = {"id": 7, "values": [{"value": "b" * 5_000}, {"value": "c" * 2_000}], "name": "n" * 900}

    shorter = shorten(value, 1_500)

    assert shorter is not None
    assert shorter.left_out == ["values[0].value", "values[1].value"]
    assert shorter.value["name"] == value["name"]


def test_another_text_of_the_same_length_has_another_mark() -> None:
    one, other = shorten({"a": "x" * 500}, 200), shorten({"a": "y" * 500}, 200)

    assert one is not None
    assert other is not None
    assert one.value != other.value


def test_a_value_that_is_large_for_other_reasons_cannot_be_shortened() -> None:
    assert shorten({"numbers": list(range(1_000))}, 1_000) is None


@pytest.mark.parametrize(
    ("text", "room", "expected"),
    [
        ("x" * 10, None, True),
        ("x" * 10, 10, True),
        ("x" * 10, 9, False),
        ("é" * 5, 9, False),
        ("''''", 7, False),
    ],
)
def test_a_text_counts_in_bytes_and_an_apostrophe_twice(text: str, room: int | None, expected: bool) -> None:
    assert fits(text, room) is expected
    assert fits(text.encode(), room) is expected


@pytest.mark.parametrize(
    ("price", "is_inexact"),
    [
        ("999999999.999999", False),
        ("-999999999.999999", False),
        ("1000000000.000001", True),
        ("12345678901234.500000", False),
        ("-12345678901234.560000", True),
    ],
)
def test_an_amount_with_more_than_15_digits_is_inexact(price: str, is_inexact: bool) -> None:
    row = ("all", 7, "SKU", "name", "simple", 4, 1, 4, Decimal(price), None, None, None, "{}")
    tables: dict[str, list[tuple[Any, ...]]] = {
        "products": [row],
        "product_tier_prices": [],
        "product_links": [],
    }

    assert list(inexact(tables, 15)) == ([("price", Decimal(price))] if is_inexact else [])
