"""Store views, groups and websites of the tenant, and the legacy stock of a product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sync.sandbox.documents import Document

SHOP = "https://shop.example/"


def answers(store_views: Sequence[str]) -> dict[str, list[Document]]:
    """Route -> the plain array it answers; the admin scope has id 0 and comes second, as observed."""
    views = [_view(number, code) for number, code in enumerate(store_views, start=1)]
    admin = {**_view(0, "admin"), "name": "Admin", "website_id": 0, "store_group_id": 0}
    configs = [_config(number, code) for number, code in enumerate(store_views, start=1)]
    return {
        "V1/store/storeViews": [views[0], admin, *views[1:]],
        "V1/store/storeGroups": [_group(0, "Default", 0), _group(1, "Main Website Store", 2)],
        "V1/store/websites": [
            {"id": 0, "code": "admin", "name": "Admin", "default_group_id": 0},
            {"id": 1, "code": "base", "name": "Main Website", "default_group_id": 1},
        ],
        "V1/store/storeConfigs": configs,
    }


def _view(number: int, code: str) -> Document:
    name = f"{code.replace('_', ' ').title()} Store View"
    return {"id": number, "code": code, "name": name, "website_id": 1, "store_group_id": 1, "is_active": 1}


def _group(number: int, name: str, root_category_id: int) -> Document:
    return {
        "id": number,
        "website_id": number,
        "root_category_id": root_category_id,
        "default_store_id": number,
        "name": name,
        "code": name.lower().replace(" ", "_"),
    }


def _config(number: int, code: str) -> Document:
    urls = {
        f"{prefix}base_{part}url": SHOP + path
        for prefix in ("", "secure_")
        for part, path in (("", ""), ("link_", ""), ("static_", "static/version1/"), ("media_", "media/"))
    }
    return {
        "id": number,
        "code": code,
        "website_id": 1,
        "locale": "en_US",
        "base_currency_code": "EUR",
        "default_display_currency_code": "EUR",
        "timezone": "Europe/Berlin",
        "weight_unit": "kgs",
        **urls,
    }


def with_stock(document: Document) -> Document:
    """The document as a single GET answers it: `stock_item` is what a list lacks.

    It stands behind `category_links` and before what the product's type adds. Observed on Magento 2.4.7.
    """
    extension = document.get("extension_attributes")
    if not isinstance(extension, dict):
        return document
    first = {name: extension[name] for name in ("website_ids", "category_links") if name in extension}
    stocked: dict[str, Any] = {**first, "stock_item": _stock_item(document), **extension}
    return {**document, "extension_attributes": stocked}


def _stock_item(document: Document) -> Document:
    number = document.get("id")
    return {
        "item_id": number,
        "product_id": number,
        "stock_id": 1,
        "qty": 0 if document.get("type_id") in ("configurable", "bundle", "grouped") else 100,
        "is_in_stock": True,
        "is_qty_decimal": False,
        "show_default_notification_message": False,
        "use_config_min_qty": True,
        "min_qty": 0,
        "use_config_min_sale_qty": 1,
        "min_sale_qty": 1,
        "use_config_max_sale_qty": True,
        "max_sale_qty": 10000,
        "use_config_backorders": True,
        "backorders": 0,
        "use_config_notify_stock_qty": True,
        "notify_stock_qty": 1,
        "use_config_qty_increments": True,
        "qty_increments": 0,
        "use_config_enable_qty_inc": True,
        "enable_qty_increments": False,
        "use_config_manage_stock": True,
        "manage_stock": True,
        "low_stock_date": None,
        "is_decimal_divided": False,
        "stock_status_changed_auto": 0,
    }
