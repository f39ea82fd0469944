"""Products that a database, a driver or a format of theirs may trip over: one catalogue of all of them.

Every document is one that a tenant could serve; what no database can hold (NUL, an amount beyond
numeric(20,6), a date in the year 0) is in there too.
"""

from __future__ import annotations

from typing import Any

KETTLE = 1  # the plain one, to be edited
NOVEL = 2  # 5 MB of description
FIRST_ID = 100
UNMAPPABLE = 2**32 - 2  # it has no SKU

_TEXTS = {
    "emoji": "kettle 🫖 with 👩‍👩‍👧‍👦 and 𐍈",
    "nul": "before\x00after",
    "markup": '<p class="x">It\'s &amp; "that"</p>',
    "tabs": "tab\tnewline\ncarriage\r\\n \\t \\N \\. backslash\\",
    "copy_end": "\\.",
    "copy_null": "\\N",
    "format": "100 % off %s %(name)s %% :name ::text ? ?1 {x} ${y} $1",
    "quotes": "''''; DROP TABLE products; -- \"\" `` \\' \\\"",
    "spaces": "  around  ",
    "empty": "",
    "zero": "0",
    "control": "\x01\x1a\x1b\x7f\x85\u2028\ufeff",
    "composed": "é",
    "decomposed": "e\u0301",
    "long": "ä" * 64_000,
    "right_to_left": "שלום עולם",
}


def product(number: int, **members: Any) -> dict[str, Any]:
    """A small healthy simple product; `members` replace its own."""
    return {
        "id": number,
        "sku": f"ODD-{number}",
        "name": f"Odd thing {number}",
        "attribute_set_id": 4,
        "price": 12.5,
        "status": 1,
        "visibility": 4,
        "type_id": "simple",
        "created_at": "2024-05-01 08:00:00",
        "updated_at": "2024-05-01 08:00:00",
        "weight": 0.25,
        "extension_attributes": {
            "website_ids": [1, 2],
            "category_links": [{"position": 3, "category_id": "23"}],
        },
        "product_links": [],
        "options": [],
        "media_gallery_entries": [],
        "tier_prices": [],
        "custom_attributes": attributes({"color": "49"}),
    } | members


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"attribute_code": code, "value": value} for code, value in values.items()]


def catalogue() -> list[dict[str, Any]]:
    """Every oddity, ascending by id; KETTLE and NOVEL are the first two."""
    described = product(
        NOVEL, custom_attributes=attributes({"description": "Chapter. It's 5 MB.\n" * 262_144})
    )
    odd = [*_texts(), *_names_and_keys(), *_numbers(), *_dates(), *_lists()]
    return [
        product(KETTLE),
        described,
        *(product(FIRST_ID + i, **it) for i, it in enumerate(odd)),
        *_far_away(),
    ]


def _texts() -> list[dict[str, Any]]:
    """The same texts wherever a text can stand."""
    return [
        {"name": None, "custom_attributes": attributes(_TEXTS)},
        *({"name": text} for text in _TEXTS.values()),
        {
            "media_gallery_entries": [
                _media(i, label=text, file=text) for i, text in enumerate(_TEXTS.values(), 1)
            ]
        },
        {"custom_attributes": attributes({"nested": [{"deep": text} for text in _TEXTS.values()]})},
        {"options": [{"option_id": 1, "title": _TEXTS["long"]}]},
    ]


def _names_and_keys() -> list[dict[str, Any]]:
    """What is, or becomes part of, a key in SQL: equal only when every byte is."""
    skus: tuple[str, ...] = (
        "CASE-1",
        "case-1",
        "Case-1",
        "PAD-1",
        "PAD-1 ",
        " PAD-1",
        "ÄPFEL",
        "äpfel",
        "STRASSE",
        "STRAßE",
    )
    skus += ("🫖-1", "🫖-2", "e\u0301", "é", "50% :off", "a'b\"c\\d", "tab\tbed", "x" * 255, "y" * 300)
    codes = ("Color", "color", "COLOR", "color ", "größe", "grösse", "%s", "c" * 255, "c" * 300)
    links = ("LINK-1", "link-1", "LINK-1 ", "ÄPFEL", "äpfel", "🫖-1", "🫖-2", "z" * 300)
    return [
        *({"sku": sku} for sku in skus),
        {"custom_attributes": attributes({code: str(i) for i, code in enumerate(codes)})},
        {"product_links": [_link(sku, i) for i, sku in enumerate(links)]},
        {"product_links": [_link("GROUPED", 1, "associated", 2.5), _link("GROUPED", 1, "related")]},
    ]


def _numbers() -> list[dict[str, Any]]:
    big = 2**63 - 1
    return [
        {"attribute_set_id": 2**31, "status": 2**40, "visibility": -(2**40)},
        {"attribute_set_id": big, "status": -big, "visibility": big + 1},
        {"media_gallery_entries": [_media(2**33, position=2**34)]},
        {"extension_attributes": {"website_ids": [2**35], "category_links": [_category(2**36, -(2**37))]}},
        {"extension_attributes": {"configurable_product_links": [2**38, 1]}, "type_id": "configurable"},
        *(
            {"price": price}
            for price in (0, -1.5, 29.989999999999998, 1e-7, 5e-7, 0.000001, 1e13, 1e14, 1e300)
        ),
        *({"price": price} for price in ("12.3456785", "999999999.999999", "", "free")),
        {"price": "-999999999.999999", "weight": "1e3"},
        {"price": True, "weight": None, "status": "2", "visibility": "4.0"},
        {"tier_prices": [_tier(i, qty=i + 0.5, value=str(i) + ".123456") for i in range(200)]},
        {"tier_prices": [_tier(1), _tier(1), _tier(32000, qty="123456789.123456", value=None)]},
    ]


def _dates() -> list[dict[str, Any]]:
    stamps: tuple[str, ...] = (
        "0000-00-00 00:00:00",
        "0001-01-01 00:00:00",
        "1000-01-01 00:00:00",
        "9999-12-31 23:59:59",
    )
    stamps += ("2024-02-29 23:59:59", "2023-02-29 00:00:00", "2024-03-31 02:30:00", "2024-05-01", "", "soon")
    stamps += ("2024-05-01T08:00:00.123456+02:00", "2038-01-19 03:14:08", "1969-12-31 23:59:59")
    return [{"created_at": stamp} for stamp in stamps]


def _lists() -> list[dict[str, Any]]:
    nested: Any = "the bottom"
    for _ in range(60):
        nested = [nested]
    values = {
        "ids": ["23", "4"],
        "empty_list": [],
        "empty_object": {},
        "object": {"b": 1.10, "a": [None, True, False, 1e20]},
        "deep": nested,
        "number": 7,
        "fraction": 7.10,
        "flag": True,
        "nothing": None,
    }
    twice = [
        *attributes({"color": "1"}),
        *attributes({"color": "2"}),
        *attributes({"same": "1", "other": "2"}),
    ]
    return [
        {"custom_attributes": attributes(values)},
        {"custom_attributes": [*twice, *attributes({"same": "1"})]},
        {"media_gallery_entries": [_media(1), _media(1, label="another"), _media(2), _media(2)]},
        {"product_links": [_link("L", 1), _link("L", 2), _link("M", 1)]},
        {
            "extension_attributes": {
                "website_ids": [1, 1, 2],
                "category_links": [_category(5, 1), _category(5, 2)],
            }
        },
        {"extension_attributes": [], "custom_attributes": [], "product_links": None},
        {"extension_attributes": {}, "media_gallery_entries": [_media(1, types=["image", "é\x00", "🫖"])]},
        {"media_gallery_entries": [_media(1, types=[nested])]},
        {"custom_attributes": attributes({f"attribute_{i}": "x" * i for i in range(400)})},
        {
            "type_id": None,
            "name": None,
            "price": None,
            "weight": None,
            "status": None,
            "custom_attributes": None,
        },
    ]


def _far_away() -> list[dict[str, Any]]:
    """Ids that need 32 bits, up to the last that Commerce can give; and one that cannot be a row."""
    last = 2**32 - 1
    return [product(2**31), product(2**31 + 5), product(UNMAPPABLE, sku=None), product(last, sku="")]


def _media(number: int, **members: Any) -> dict[str, Any]:
    file = f"/o/d/{number}.jpg"
    return {
        "id": number,
        "media_type": "image",
        "label": None,
        "position": 1,
        "disabled": False,
        "types": [],
        "file": file,
    } | members


def _link(sku: str, position: int, kind: str = "related", qty: float | None = None) -> dict[str, Any]:
    link: dict[str, Any] = {
        "sku": "ODD",
        "link_type": kind,
        "linked_product_sku": sku,
        "linked_product_type": "simple",
        "position": position,
    }
    return link if qty is None else link | {"extension_attributes": {"qty": qty}}


def _category(number: int, position: int) -> dict[str, Any]:
    return {"category_id": str(number), "position": position}


def _tier(group: int, qty: Any = 1, value: Any = 9.99) -> dict[str, Any]:
    extension = {"website_id": 0, "percentage_value": 12.5}
    return {"customer_group_id": group, "qty": qty, "value": value, "extension_attributes": extension}
