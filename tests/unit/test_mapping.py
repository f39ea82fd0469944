"""A Commerce document becomes rows; what cannot be kept as sent is replaced visibly and noted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sync.mapping import Note, Rows, Unmappable, decode, map_product
from sync.model import CHILD_COLUMNS, PRODUCT_COLUMNS


def document(**members: Any) -> dict[str, Any]:
    """A grouped tea set, healthy, with something in every table; `members` replace its own."""
    return {
        "id": 7,
        "sku": "TEA-7",
        "name": "Tea set",
        "attribute_set_id": 4,
        "price": 34,
        "status": 1,
        "visibility": 4,
        "type_id": "grouped",
        "created_at": "2025-01-31 08:00:00",
        "updated_at": "2025-02-01 09:30:15",
        "weight": 1.5,
        "extension_attributes": {
            "website_ids": [1, 2],
            "category_links": [{"position": -3, "category_id": "23"}, {"position": 0, "category_id": "4"}],
            "configurable_product_links": [11, 12],
        },
        "product_links": [
            {
                "sku": "TEA-7",
                "link_type": "associated",
                "linked_product_sku": "CUP-1",
                "linked_product_type": "simple",
                "position": 1,
                "extension_attributes": {"qty": 6},
            }
        ],
        "options": [],
        "media_gallery_entries": [
            {
                "id": 9,
                "media_type": "image",
                "label": None,
                "position": 1,
                "disabled": False,
                "types": ["image", "thumbnail"],
                "file": "/t/e/tea.jpg",
            }
        ],
        "tier_prices": [
            {
                "customer_group_id": 32000,
                "qty": 10,
                "value": 29.95,
                "extension_attributes": {"website_id": 0},
            },
            {
                "customer_group_id": 1,
                "qty": 2.5,
                "value": 30.6,
                "extension_attributes": {"website_id": 1, "percentage_value": 10},
            },
        ],
        "custom_attributes": [
            {"attribute_code": "color", "value": "49"},
            {"attribute_code": "category_ids", "value": ["23", "4"]},
        ],
    } | members


def mapped(sent: dict[str, Any]) -> Rows:
    return mapped_text(json.dumps(sent))


def mapped_text(text: str) -> Rows:
    raw = text.encode("utf-8", "surrogatepass")
    return map_product("all", raw)


def column(rows: Rows, name: str) -> Any:
    return rows.product[PRODUCT_COLUMNS.index(name)]


def children(rows: Rows, table: str) -> list[tuple[Any, ...]]:
    """Rows of a child table without the store view and the product id."""
    return [row[2:] for row in rows.children[table]]


def attributes(sent: object) -> dict[str, str]:
    rows = mapped(document(custom_attributes=sent))
    return dict(row[2:] for row in rows.children["product_attributes"])


# --- a healthy document ----------------------------------------------------------------------


def test_a_healthy_document_fills_every_table_and_needs_no_note() -> None:
    text = json.dumps(document())

    rows = mapped_text(text)

    assert rows.notes == []
    assert rows.product == (
        "all",
        7,
        "TEA-7",
        "Tea set",
        "grouped",
        4,
        1,
        4,
        Decimal("34.000000"),
        Decimal("1.500000"),
        datetime(2025, 1, 31, 8, 0, tzinfo=UTC),
        datetime(2025, 2, 1, 9, 30, 15, tzinfo=UTC),
        text,
    )
    assert rows.children == {
        "product_attributes": [("all", 7, "color", "49"), ("all", 7, "category_ids", '["23","4"]')],
        "product_categories": [("all", 7, 23, -3), ("all", 7, 4, 0)],
        "product_websites": [("all", 7, 1), ("all", 7, 2)],
        "product_media": [
            ("all", 7, 9, "image", None, 1, False, '["image","thumbnail"]', "/t/e/tea.jpg"),
        ],
        "product_tier_prices": [
            ("all", 7, 0, 32000, Decimal(10), Decimal("29.95"), None, 0),
            ("all", 7, 1, 1, Decimal("2.5"), Decimal("30.6"), Decimal(10), 1),
        ],
        "product_links": [("all", 7, "associated", "CUP-1", "simple", 1, Decimal(6))],
        "product_variants": [("all", 7, 11), ("all", 7, 12)],
    }


def test_rows_have_the_columns_that_the_model_names() -> None:
    rows = mapped(document())

    assert len(rows.product) == len(PRODUCT_COLUMNS)
    assert {table: len(found[0]) for table, found in rows.children.items()} == {
        table: len(columns) for table, columns in CHILD_COLUMNS.items()
    }


def test_an_id_and_a_sku_are_enough() -> None:
    rows = mapped({"id": 1, "sku": "X"})

    assert set(rows.product) == {"all", 1, "X", None, '{"id": 1, "sku": "X"}'}
    assert rows.children == {table: [] for table in CHILD_COLUMNS}
    assert rows.notes == []


def test_null_says_the_same_as_nothing() -> None:
    """`fields=` writes empty lists as null (observed)."""
    nothing = dict.fromkeys(document(), None) | {"id": 1, "sku": "X"}

    rows = mapped(nothing)

    assert rows.children == {table: [] for table in CHILD_COLUMNS}
    assert rows.notes == []


def test_unknown_members_and_stock_are_ignored() -> None:
    extension = {"stock_item": {"qty": None, "use_config_min_sale_qty": 1}, "discounts": 5}

    rows = mapped(document(extension_attributes=extension, some_extension={"deep": [1]}))

    assert rows.notes == []
    assert rows.children["product_websites"] == []


# --- numbers, dates, texts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("29.989999999999998", "29.990000"),
        ("0.0000005", "0.000001"),
        ("-0.0000005", "-0.000001"),
        ('"12.5"', "12.500000"),
        ("99999999999999.999999", "99999999999999.999999"),
        ("1e3", "1000.000000"),
    ],
)
def test_money_is_rounded_half_up_to_six_places(sent: str, kept: str) -> None:
    rows = mapped_text(f'{{"id": 1, "sku": "X", "price": {sent}}}')

    assert str(column(rows, "price")) == kept
    assert rows.notes == []


@pytest.mark.parametrize(
    "sent",
    ["1e14", "99999999999999.9999996", "1e999999999999999999999", "9" * 5000, '"NaN"', "true", '"free"'],
)
def test_money_that_no_column_holds_is_null_and_noted(sent: str) -> None:
    rows = mapped_text(f'{{"id": 1, "sku": "X", "price": {sent}, "status": 2}}')

    assert column(rows, "price") is None
    assert column(rows, "status") == 2
    assert [note.path for note in rows.notes] == ["price"]


@pytest.mark.parametrize("sent", [2, "2", 2.0, "2.0"])
def test_integers_may_come_as_text_or_with_a_point(sent: object) -> None:
    assert column(mapped(document(status=sent)), "status") == 2


@pytest.mark.parametrize("sent", [2**63, 1.5, True, "two", [2], {"2": 2}])
def test_what_is_no_integer_is_null_and_noted(sent: object) -> None:
    rows = mapped(document(status=sent))

    assert column(rows, "status") is None
    assert [note.path for note in rows.notes] == ["status"]


def test_an_empty_text_where_a_number_or_date_belongs_says_nothing() -> None:
    rows = mapped(document(price="", status="", updated_at=""))

    assert [column(rows, name) for name in ("price", "status", "updated_at")] == [None, None, None]
    assert rows.notes == []


def test_a_date_with_a_zone_is_brought_to_utc() -> None:
    rows = mapped(document(updated_at="2025-02-01T09:30:15+02:00"))

    assert column(rows, "updated_at") == datetime(2025, 2, 1, 7, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    "sent", ["0000-00-00 00:00:00", "2025-02-30 00:00:00", "yesterday", "0001-01-01T00:00:00+14:00", []]
)
def test_a_date_that_is_none_is_null_and_noted(sent: object) -> None:
    rows = mapped(document(updated_at=sent))

    assert column(rows, "updated_at") is None
    assert [note.path for note in rows.notes] == ["updated_at"]


def test_a_number_where_a_text_belongs_reads_as_written() -> None:
    rows = mapped_text('{"id": 1, "sku": 24, "name": 1.50}')

    assert (column(rows, "sku"), column(rows, "name")) == ("24", "1.50")


def test_a_key_too_long_for_its_column_ends_in_an_ellipsis() -> None:
    rows = mapped(document(sku="s" * 300, product_links=[{"link_type": "t" * 99, "linked_product_sku": "x"}]))

    assert column(rows, "sku") == "s" * 254 + "…"
    assert children(rows, "product_links") == [("t" * 63 + "…", "x", None, None, None)]
    assert rows.notes == [
        Note("sku", "was cut from 300 characters to 255"),
        Note("product_links[0].link_type", "was cut from 99 characters to 64"),
    ]


def test_texts_that_are_no_keys_keep_their_length() -> None:
    assert column(mapped(document(name="n" * 100_000)), "name") == "n" * 100_000


# --- characters that no database stores ------------------------------------------------------


def test_nul_is_shown_and_noted_while_the_document_stays_as_sent() -> None:
    """PostgreSQL refuses it in any text; a real server sends it when it is in a name (observed)."""
    text = (
        r'{"id":1,"sku":"X","name":"a\u0000b","custom_attributes":[{"attribute_code":"c","value":"\u0000"}]}'
    )

    rows = mapped_text(text)

    assert column(rows, "name") == "a␀b"
    assert children(rows, "product_attributes") == [("c", "␀")]
    assert column(rows, "document") == text
    assert [note.path for note in rows.notes] == ["name", "custom_attributes[0].value"]


def test_half_a_surrogate_pair_is_replaced_and_noted() -> None:
    rows = mapped_text(r'{"id":1,"sku":"X","name":"\uD83D!"}')

    assert column(rows, "name") == "\ufffd!"
    assert [note.path for note in rows.notes] == ["name"]


def test_an_emoji_is_no_half_pair() -> None:
    rows = mapped_text(r'{"id":1,"sku":"X","name":"\ud83d\ude00"}')

    assert column(rows, "name") == "😀"
    assert rows.notes == []


def test_a_name_of_a_member_is_cleaned_too() -> None:
    rows = mapped_text(r'{"id":1,"sku":"X","a\u0000":{"b":"\ud800"}}')

    assert [note.path for note in rows.notes] == ["", "a␀.b"]


def test_bytes_that_are_not_utf8_are_replaced_and_noted() -> None:
    raw = b'{"id":1,"sku":"X","name":"\xff"}'

    rows = map_product("all", raw)

    assert column(rows, "name") == "\ufffd"
    assert column(rows, "document") == '{"id":1,"sku":"X","name":"\ufffd"}'
    assert [note.path for note in rows.notes] == ["document"]


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    rows = mapped_text(r'{"id":1,"sku":"X","name":"\\u0000 \\ud800"}')

    assert column(rows, "name") == r"\u0000 \ud800"
    assert rows.notes == []


# --- attributes ------------------------------------------------------------------------------


def test_scalars_read_as_they_are_and_the_rest_as_json() -> None:
    text = """{"id": 1, "sku": "X", "custom_attributes": [
        {"attribute_code": "text", "value": " as is "},
        {"attribute_code": "empty", "value": ""},
        {"attribute_code": "flag", "value": true},
        {"attribute_code": "whole", "value": 52},
        {"attribute_code": "fraction", "value": 29.990000},
        {"attribute_code": "list", "value": ["ü", 29.90, null]},
        {"attribute_code": "object", "value": {"a": {"b": []}}},
        {"attribute_code": "null", "value": null},
        {"attribute_code": "valueless"}
    ]}"""

    rows = mapped_text(text)

    assert dict(children(rows, "product_attributes")) == {
        "text": " as is ",
        "empty": "",
        "flag": "true",
        "whole": "52",
        "fraction": "29.990000",
        "list": '["ü",29.90,null]',
        "object": '{"a":{"b":[]}}',
    }
    assert rows.notes == []


def test_attributes_may_come_as_an_object_with_numeric_keys() -> None:
    """`fields=custom_attributes[…]` makes the list sparse."""
    sent = {"1": {"attribute_code": "color", "value": "49"}, "4": {"attribute_code": "size", "value": "7"}}

    assert attributes(sent) == {"color": "49", "size": "7"}


def test_of_an_attribute_sent_twice_the_last_value_is_kept_and_noted() -> None:
    twice = [{"attribute_code": "color", "value": value} for value in ("1", "2")]

    rows = mapped(document(custom_attributes=twice))

    assert children(rows, "product_attributes") == [("color", "2")]
    assert rows.notes == [Note("custom_attributes", '"color" occurs more than once; the last one was kept')]


def test_an_attribute_without_a_code_is_left_out_and_noted() -> None:
    rows = mapped(document(custom_attributes=[{"value": "lost"}, {"attribute_code": "color", "value": "49"}]))

    assert children(rows, "product_attributes") == [("color", "49")]
    assert [note.path for note in rows.notes] == ["custom_attributes[0]"]


# --- the other children ----------------------------------------------------------------------


def test_without_category_links_the_attribute_stands_in_without_positions() -> None:
    rows = mapped(document(extension_attributes=[]))

    assert children(rows, "product_categories") == [(23, None), (4, None)]
    assert rows.notes == []


def test_children_sent_twice_are_kept_once() -> None:
    link = {"category_id": "4", "position": 1}
    extension = {
        "category_links": [link, link],
        "website_ids": [1, 1],
        "configurable_product_links": [8, 8],
    }

    rows = mapped(document(extension_attributes=extension))

    assert children(rows, "product_categories") == [(4, 1)]
    assert children(rows, "product_websites") == [(1,)]
    assert children(rows, "product_variants") == [(8,)]
    assert rows.notes == []


def test_of_children_with_one_key_that_differ_the_last_is_kept_and_noted() -> None:
    links = [{"category_id": 4, "position": position} for position in (1, 2)]

    rows = mapped(document(extension_attributes={"category_links": links}))

    assert children(rows, "product_categories") == [(4, 2)]
    assert [note.path for note in rows.notes] == ["extension_attributes.category_links"]


def test_a_file_kept_in_aem_assets_is_named_by_its_url() -> None:
    image = {"asset_image": {"media_url": "https://assets.example/a.jpg"}}
    video = {"asset_video": {"video_media_url": "https://assets.example/a.mp4"}}
    extensions: list[dict[str, Any]] = [image, video, {"video_content": {}}]
    entries = [
        {"id": i, "file": "/a.jpg", "extension_attributes": extension}
        for i, extension in enumerate(extensions)
    ]

    rows = mapped(document(media_gallery_entries=entries))

    assert [row[-1] for row in rows.children["product_media"]] == [
        "https://assets.example/a.jpg",
        "https://assets.example/a.mp4",
        "/a.jpg",
    ]


@pytest.mark.parametrize(("sent", "kept"), [(1, True), ("0", False), ("true", True), ("maybe", None)])
def test_a_flag_may_come_as_a_number_or_text(sent: object, kept: bool | None) -> None:
    rows = mapped(document(media_gallery_entries=[{"id": 1, "disabled": sent}]))

    assert children(rows, "product_media") == [(1, None, None, None, kept, "[]", None)]
    assert len(rows.notes) == (kept is None)


@pytest.mark.parametrize(
    ("list_name", "table"),
    [
        ("media_gallery_entries", "product_media"),
        ("tier_prices", "product_tier_prices"),
        ("product_links", "product_links"),
        ("custom_attributes", "product_attributes"),
    ],
)
@pytest.mark.parametrize("sent", ["none", 5, {"a": "b"}])
def test_a_list_that_is_none_empties_its_table_and_no_other(list_name: str, table: str, sent: object) -> None:
    rows = mapped(document(**{list_name: sent}))

    assert [found for found in CHILD_COLUMNS if not rows.children[found]] == [table]
    assert [note.path for note in rows.notes] == [list_name]


def test_an_entry_of_the_wrong_shape_is_left_out_and_its_neighbours_stay() -> None:
    healthy = document()["tier_prices"]

    rows = mapped(document(tier_prices=["odd", healthy[0], {"qty": "many", "value": 5}]))

    assert children(rows, "product_tier_prices") == [
        (0, 32000, Decimal(10), Decimal("29.95"), None, 0),
        (1, None, None, Decimal(5), None, None),
    ]
    assert [note.path for note in rows.notes] == ["tier_prices[0]", "tier_prices[2].qty"]


# --- documents that cannot become rows -------------------------------------------------------


@pytest.mark.parametrize("product_id", [None, 0, -1, 2**63, "seven", 1.5, True, [1]])
def test_without_a_usable_id_a_document_is_unmappable(product_id: object) -> None:
    with pytest.raises(Unmappable, match="id"):
        mapped(document(id=product_id))


@pytest.mark.parametrize("sku", [None, [], {"a": 1}])
def test_without_a_usable_sku_a_document_is_unmappable(sku: object) -> None:
    with pytest.raises(Unmappable, match="sku"):
        mapped(document(sku=sku))


def test_what_is_unmappable_says_which_field_and_why() -> None:
    with pytest.raises(Unmappable, match=r"Expected `int`, got `str` - at `\$\.id`"):
        mapped(document(id="seven"))


def test_an_id_may_come_as_text() -> None:
    assert column(mapped(document(id="7")), "product_id") == 7


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', '{"id": NaN}', '{"id": 1} x', '{"a": "\0"}', "[" * 100_000]
)
def test_what_is_no_json_object_is_unmappable(text: str) -> None:
    with pytest.raises(Unmappable):
        decode(text.encode())


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_document_may_be_a_hundred_levels_deep(opening: str, closing: str) -> None:
    def nested(levels: int) -> str:
        return f'{{"id": 1, "sku": "X", "deep": {opening * levels}1{closing * levels}}}'

    assert mapped_text(nested(99)).notes == []
    with pytest.raises(Unmappable, match="deeper than 100"):
        mapped_text(nested(100))


# --- decoding --------------------------------------------------------------------------------


def test_numbers_are_decoded_exactly_as_written() -> None:
    decoded = decode(b'{"a": 29.989999999999998, "b": 1.10, "c": 123456789012345678901234567890}')

    assert decoded == {
        "a": Decimal("29.989999999999998"),
        "b": Decimal("1.10"),
        "c": 123456789012345678901234567890,
    }
    assert str(decoded["b"]) == "1.10"


def test_of_a_repeated_member_the_last_value_stays() -> None:
    assert decode(b'{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    ("members", "names"),
    [
        (rb'"name":"a","name":"a"', ['"name"']),
        (rb'"x":{"y" : 1,"z":[{"y":1,"y":2}]},"x":1', ['"y"', '"x"']),
        (rb'"\ud800":1,"\ud800":2', ['"\ufffd"']),
        (rb'"name":"\u0022:","name":"b"', ['"name"']),
        (rb'"name":"a","name":"\u003a"', ['"name"']),
        (rb'"name":"a","name":"\u003A"', ['"name"']),
        (rb'"name":"a\":b","x":{"name" :1},"note":"\u0022:"', []),
    ],
)
def test_a_member_that_is_sent_twice_is_noted(members: bytes, names: list[str]) -> None:
    """Whatever else looks like the end of a name; objects next to each other may share names."""
    raw = b'{"id":1,"sku":"A",%b}' % members

    notes = map_product("all", raw).notes

    found = [note.reason.partition(" occurs")[0] for note in notes if "more than once" in note.reason]
    assert found == names
