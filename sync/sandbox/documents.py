"""What a product of each kind looks like, with slots for what differs from one to the next.

Documents are plain dicts in the key order and with the types observed on Magento 2.4.7; gift cards
follow Adobe's schema. `"#slot#"` stands for a whole value, `@slot@` for a part of a string.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sync.sandbox import phpjson
from sync.sandbox.texts import ARTICLES, SIZES, Article

Document = dict[str, Any]


def compiled(made: Document) -> bytes:
    """A `%` template: every slot of the document becomes a `%(slot)b`."""
    text = phpjson.dumps(made).replace(b"%", b"%%")
    return re.sub(rb'"#(\w+)#"|@(\w+)@', lambda found: b"%%(%b)b" % (found[1] or found[2]), text)


def document(kind: str, article: Article, view: str) -> Document:
    """The document of a kind of product, with slots for what differs from one to the next."""
    name = _name(article, view) + ("@ending@" if kind == "variant" else "")
    made: Document = {
        "id": "#id#",
        "sku": "@sku@",
        "name": name,
        "attribute_set_id": article.attribute_set_id,
        "price": 0 if kind in ("configurable", "bundle", "giftcard") else "#price#",
        "status": "#status#",
        "visibility": 1 if kind == "variant" else "#visibility#",
        "type_id": TYPES.get(kind, "simple"),
        "created_at": "@created@",
        "updated_at": "@updated@",
        "weight": "#weight#",
        "extension_attributes": _extension_attributes(kind, article, name),
        "product_links": _product_links(kind),
        "options": _custom_options() if kind == "rich" else [],
        "media_gallery_entries": _media(article, name),
        "tier_prices": _tier_prices() if kind == "rich" else [],
        "custom_attributes": _custom_attributes(kind, article, name),
    }
    if kind == "grouped":
        del made["price"]
    if kind in ("configurable", "virtual", "downloadable", "giftcard", "grouped"):
        del made["weight"]
    return made


TYPES = {kind: kind for kind in ("configurable", "virtual", "downloadable", "giftcard", "bundle", "grouped")}


def _name(article: Article, view: str) -> str:
    language = view[:2] if view[:2] in article.nouns else "en"
    noun = article.nouns[language]
    return f"@series@ @finish@ {noun}" + (f" ({view})" if view and language == "en" else "")


def _extension_attributes(kind: str, article: Article, name: str) -> Document:
    links = [
        {"position": index, "category_id": str(number)} for index, number in enumerate(article.categories)
    ]
    parts: dict[str, Callable[[str], Document]] = {
        "configurable": _configurable_parts,
        "bundle": _bundle_parts,
        "downloadable": _downloadable_parts,
        "giftcard": _gift_card_parts,
    }
    return {"website_ids": [1], "category_links": links, **(parts[kind](name) if kind in parts else {})}


def _configurable_parts(_name: str) -> Document:
    colours = [{"value_index": "#colour#"}, {"value_index": "#colour2#"}]
    sizes = [{"value_index": int(value)} for _, value in SIZES]
    colour = {"id": "#media1#", "attribute_id": "93", "label": "Color", "position": 1, "values": colours}
    size = {"id": "#media2#", "attribute_id": "142", "label": "Size", "position": 0, "values": sizes}
    options = [{**option, "product_id": "#id#"} for option in (colour, size)]
    return {"configurable_product_options": options, "configurable_product_links": ["#children#"]}


def _bundle_parts(name: str) -> Document:
    products = [
        {
            "id": f"@id@{number}",
            "sku": f"@link{number}@",
            "option_id": "#id#",
            "qty": 1,
            "position": number + 1,
            "is_default": number == 0,
            "price": 12.5,
            "price_type": None,
            "can_change_quantity": 1,
        }
        for number in range(3)
    ]
    option = {
        "option_id": "#id#",
        "title": f"Choose: {name}",
        "required": True,
        "type": "radio",
        "position": 1,
    }
    return {"bundle_product_options": [{**option, "sku": "@sku@", "product_links": products}]}


def _downloadable_parts(name: str) -> Document:
    link = {
        "id": "#media1#",
        "title": f"Handbook: {name}",
        "sort_order": 1,
        "is_shareable": 2,
        "price": 2.5,
        "number_of_downloads": 0,
        "link_type": "file",
        "link_file": "/h/a/handbook_@id@.pdf",
        "sample_type": None,
    }
    return {"downloadable_product_links": [link], "downloadable_product_samples": []}


def _gift_card_parts(_name: str) -> Document:
    return {
        "giftcard_amounts": [
            {"attribute_id": 134, "website_id": 0, "value": value, "website_value": value}
            for value in (25, 50)
        ]
    }


def _product_links(kind: str) -> list[Document]:
    if kind == "linked":
        return [
            _link(link_type, number) for number, link_type in enumerate(("related", "upsell", "crosssell"))
        ]
    if kind == "grouped":
        return [{**_link("associated", number), "extension_attributes": {"qty": 0}} for number in range(3)]
    return []


def _link(link_type: str, number: int) -> Document:
    return {
        "sku": "@sku@",
        "link_type": link_type,
        "linked_product_sku": f"@link{number}@",
        "linked_product_type": "simple",
        "position": number + 1,
    }


def _custom_options() -> list[Document]:
    engraving = {
        "product_sku": "@sku@",
        "option_id": "#media1#",
        "title": "Engraving",
        "type": "field",
        "sort_order": 1,
        "is_require": False,
        "price": 5,
        "price_type": "fixed",
        "sku": "engraving",
        "max_characters": 20,
    }
    paper = {"title": "Paper", "sort_order": 1, "price": 1.25, "price_type": "fixed"}
    cloth = {"title": "Cloth", "sort_order": 2, "price": 10, "price_type": "percent"}
    wrapping = {
        "product_sku": "@sku@",
        "option_id": "#media2#",
        "title": "Wrapping",
        "type": "drop_down",
        "sort_order": 2,
        "is_require": True,
        "values": [{**paper, "option_type_id": "#media1#"}, {**cloth, "option_type_id": "#media2#"}],
    }
    return [engraving, wrapping]


def _tier_prices() -> list[Document]:
    whole_shop = {"website_id": 0}
    return [
        {"customer_group_id": 1, "qty": 5, "value": 4.5, "extension_attributes": whole_shop},
        {
            "customer_group_id": 32000,
            "qty": 10,
            "value": 4.25,
            "extension_attributes": {"percentage_value": 15, **whole_shop},
        },
    ]


def _media(article: Article, name: str) -> list[Document]:
    entries: list[tuple[str, list[str]]] = [("front", ["image", "small_image", "thumbnail"]), ("detail", [])]
    return [
        {
            "id": f"#media{number}#",
            "media_type": "image",
            "label": name if number == 1 else None,
            "position": number,
            "disabled": False,
            "types": roles,
            "file": _file(article, side),
        }
        for number, (side, roles) in enumerate(entries, start=1)
    ]


def _file(article: Article, side: str) -> str:
    code = article.code.lower()
    return f"/{code[0]}/{code[1]}/{code}_@id@_{side}.jpg"


def _custom_attributes(kind: str, article: Article, name: str) -> list[Document]:
    is_composed = kind in ("configurable", "bundle", "rich")
    front = _file(article, "front")
    values: Document = {
        "image": front,
        "small_image": front,
        "thumbnail": front,
        "options_container": "container2",
        "url_key": f"{article.nouns['en'].lower().replace(' ', '-')}-@id@",
        "msrp_display_actual_price_type": "0",
        "required_options": str(int(is_composed)),
        "has_options": str(int(is_composed)),
        "tax_class_id": "2",
        "category_ids": [str(number) for number in article.categories],
        "short_description": f"<p>The {name}: {article.pitch}.</p>",
        "description": _description(article, name),
        "material": article.material,
        "sale": "@sale@",
        **_OWN_ATTRIBUTES.get(kind, {"color": "@colour@"}),
    }
    return [{"attribute_code": code, "value": value} for code, value in values.items()]


_OWN_ATTRIBUTES: dict[str, dict[str, str]] = {
    "variant": {"size": "@size@", "color": "@colour@"},
    "rich": {"special_price": "3.990000", "special_from_date": "2021-03-01 00:00:00", "cost": "1.234560"},
    "bundle": {
        "shipment_type": "0",
        "price_view": "0",
        "sku_type": "0",
        "price_type": "0",
        "weight_type": "0",
    },
    "downloadable": {"links_title": "Downloads", "links_purchased_separately": "0"},
    "giftcard": {"giftcard_type": "0", "allow_open_amount": "0"},
    "configurable": {},
}


def _description(article: Article, name: str) -> str:
    return (
        f"<p>The {name} {article.pitch}. We drew the first one on the back of an envelope, carried it "
        "through a wet spring and changed what annoyed us: it is a little lighter now, the edges are "
        "rounder, and nothing rattles.</p>\n"
        "<p>&bull; Made in small batches.<br />&bull; Colours that age well &amp; don't fade.<br />&bull; "
        "Spare parts for at least 15 years.</p>\n<ul>\n@feature@\n@feature2@\n</ul>"
    )


def attribute_codes() -> set[str]:
    """Every custom attribute that some kind of product has."""
    kinds = {"simple", "rich", *_OWN_ATTRIBUTES}
    entries = (entry for kind in kinds for entry in _custom_attributes(kind, ARTICLES[0], ""))
    return {entry["attribute_code"] for entry in entries}
