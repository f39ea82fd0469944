"""Whatever a tenant sends as reference data becomes rows that a database takes; changes are told apart."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sync.db.reference import TABLES
from sync.model import Capacity
from sync.passes import reference_rows as rows

ROOM = Capacity()
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
)
SENT = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))
NAMES = (
    *("attribute_code", "attribute_id", "frontend_input", "options", "default_frontend_label"),
    *("id", "name", "path", "is_active", "code"),
)
DOCUMENTS = st.dictionaries(st.sampled_from(NAMES), SENT)


def options(*listed: dict[str, Any]) -> list[tuple[str, str]]:
    made = rows.option_rows("all", [{"attribute_code": "color", "options": list(listed)}])
    return [(row["option_value"], row["label"]) for row in made]


def category(number: int, path: str, name: str | None) -> dict[str, Any]:
    return {"id": number, "path": path, "name": name, "updated_at": "2026-01-01 00:00:00"}


@settings(max_examples=50)
@given(st.lists(DOCUMENTS, max_size=4))
def test_every_document_becomes_rows_with_the_columns_of_their_tables(documents: list[Any]) -> None:
    made = {
        "attributes": rows.attribute_rows(documents, ROOM),
        "attribute_options": rows.option_rows("all", documents),
        "attribute_sets": [rows.set_row(it) for it in documents],
        "categories": rows.category_rows("all", documents, ROOM),
        "websites": [rows.website_row(it) for it in documents],
        "store_groups": [rows.store_group_row(it) for it in documents],
        "store_views": [rows.store_view_row(it) for it in documents],
    }

    for table, some in made.items():
        for row in rows.by_key(table, some).values():
            assert row.keys() == set(TABLES[table].columns.keys())


def test_the_blank_option_is_none_and_groups_are_taken_apart() -> None:
    nested = {"label": "Themes", "value": [{"label": "Light", "value": "7"}]}

    assert options({"label": " ", "value": ""}, {"label": "None", "value": "0"}, nested) == [
        ("0", "None"),
        ("7", "Light"),
    ]


def test_a_category_without_a_name_goes_by_its_id_in_paths() -> None:
    documents = [category(1, "1", "Root"), category(2, "1/2", None), category(14, "1/2/14", "Bags")]

    made = rows.category_rows("all", documents, ROOM)

    assert [row["path"] for row in made] == ["Root", "2", "2/Bags"]


def test_a_time_stamp_alone_is_no_change_but_is_kept() -> None:
    (before,) = rows.category_rows("all", [category(2, "1/2", "Bags")], ROOM)
    (after,) = rows.category_rows("all", [category(2, "1/2", "Bags") | {"updated_at": "later"}], ROOM)

    found = rows.compare({(2,): before}, {(2,): after}, ())

    assert (found.differences, found.stamped, found.tally.unchanged) == ([], [after], 1)


def test_a_change_names_columns_and_what_no_column_shows() -> None:
    (before,) = rows.category_rows("all", [category(2, "1/2", "Bags") | {"children": "3"}], ROOM)
    (after,) = rows.category_rows("all", [category(2, "1/2", "Sacks") | {"children": "3,4"}], ROOM)

    (change,) = rows.compare({(2,): before}, {(2,): after}, ()).differences

    assert change.fields == (
        '{"name":{"old":"Bags","new":"Sacks"},"path":{"old":"Bags","new":"Sacks"},'
        '"document.children":{"old":"3","new":"3,4"}}'
    )
