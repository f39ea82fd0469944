"""Single products, writes and store data of the sandbox, as observed on Magento 2.4.7."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests

from sync.sandbox import Sandbox

NOW = 1_700_000_000.0
NOW_TEXT = "2023-11-14 22:13:20"
NO_PRODUCT = {"message": "The product that was requested doesn't exist. Verify the product and try again."}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(products=20, store_views=("default", "de"), clock=lambda: NOW) as running:
        yield running


def call(sandbox: Sandbox, method: str, route: str, body: object = None) -> requests.Response:
    return requests.request(
        method,
        f"{sandbox.rest_endpoint}/{route}",
        json=body,
        headers={"Authorization": f"Bearer {sandbox.credentials.integration_token}"},
        timeout=10,
    )


def test_a_single_product_has_the_stock_item_that_lists_lack(sandbox: Sandbox) -> None:
    listed = sandbox.catalogue.document(17)

    single = call(sandbox, "GET", f"all/V1/products/{listed['sku']}").json()

    assert list(single["extension_attributes"])[:4] == [
        *("website_ids", "category_links", "stock_item", "configurable_product_options")
    ]
    stock = single["extension_attributes"].pop("stock_item")
    assert single == listed
    assert (stock["product_id"], stock["use_config_min_sale_qty"], stock["low_stock_date"]) == (17, 1, None)


@pytest.mark.parametrize("sku", ["A/B", "A+B", "100%", "Crème brûlée", "two words"])
def test_a_sku_in_the_path_is_decoded_and_its_case_ignored(sandbox: Sandbox, sku: str) -> None:
    number = sandbox.catalogue.add(sku=sku)

    found = call(sandbox, "GET", f"V1/products/{quote(sku.lower(), safe='')}").json()

    assert (found["id"], found["sku"]) == (number, sku)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_sku_is_not_found(sandbox: Sandbox, method: str) -> None:
    answer = call(sandbox, method, "V1/products/does-not-exist")

    assert (answer.status_code, answer.json()) == (404, NO_PRODUCT)


def test_put_merges_the_fields_sent_and_moves_updated_at(sandbox: Sandbox) -> None:
    before = sandbox.catalogue.document(3)
    sent = {"name": "Renamed", "custom_attributes": [{"attribute_code": "material", "value": "99"}]}

    answer = call(sandbox, "PUT", f"all/V1/products/{before['sku']}", {"product": sent})

    after = sandbox.catalogue.document(3)
    assert answer.json()["name"] == after["name"] == "Renamed"
    assert (before["updated_at"], after["updated_at"]) == ("2021-03-01 06:00:00", NOW_TEXT)
    assert _attributes(after) == _attributes(before) | {"material": "99"}
    assert after["price"] == before["price"]


def test_put_without_a_store_view_writes_the_default_one(sandbox: Sandbox) -> None:
    sku = sandbox.catalogue.document(3)["sku"]

    call(sandbox, "PUT", f"V1/products/{sku}", {"product": {"name": "Default only"}})

    names = {view: sandbox.catalogue.document(3, view)["name"] for view in ("all", "default", "de")}
    assert names["default"] == "Default only"
    assert "Default only" not in (names["all"], names["de"])


def test_put_with_another_sku_in_the_body_does_not_rename(sandbox: Sandbox) -> None:
    sku = sandbox.catalogue.document(3)["sku"]

    answer = call(sandbox, "PUT", f"all/V1/products/{sku}", {"product": {"sku": "OTHER"}})

    assert answer.json()["sku"] == sku


def test_post_creates_a_product_and_a_second_one_updates_it(sandbox: Sandbox) -> None:
    product = {"sku": "  NEW-1 ", "name": "First", "price": 12.50, "type_id": "virtual"}

    created = call(sandbox, "POST", "all/V1/products", {"product": product}).json()
    again = call(sandbox, "POST", "all/V1/products", {"product": product | {"name": "Second"}}).json()

    assert (created["id"], created["sku"], created["price"]) == (21, "NEW-1", 12.5)
    assert created["created_at"] == created["updated_at"] == NOW_TEXT
    assert (again["id"], again["name"]) == (21, "Second")
    assert sandbox.catalogue.ids()[-1] == 21


@pytest.mark.parametrize(
    ("product", "text"),
    [
        ({"sku": "NEW"}, 'The "Price" attribute value is empty. Set the attribute and try again.'),
        ({"sku": "L" * 65, "price": 1}, "SKU length should be 64 characters maximum."),
    ],
)
def test_post_refuses_what_commerce_refuses(sandbox: Sandbox, product: object, text: str) -> None:
    answer = call(sandbox, "POST", "V1/products", {"product": product})

    assert (answer.status_code, answer.json()) == (400, {"message": text})


def test_a_deleted_product_is_gone_without_a_trace(sandbox: Sandbox) -> None:
    sku = sandbox.catalogue.document(3)["sku"]

    assert call(sandbox, "DELETE", f"V1/products/{sku}").json() is True
    assert call(sandbox, "GET", f"V1/products/{sku}").status_code == 404
    assert 3 not in sandbox.catalogue.ids()


def test_store_data_shows_the_admin_scope_and_every_view(sandbox: Sandbox) -> None:
    views = call(sandbox, "GET", "V1/store/storeViews").json()
    groups = call(sandbox, "GET", "V1/store/storeGroups").json()
    websites = call(sandbox, "GET", "V1/store/websites").json()
    configs = call(sandbox, "GET", "V1/store/storeConfigs").json()

    assert [(view["id"], view["code"]) for view in views] == [(1, "default"), (0, "admin"), (2, "de")]
    assert {view["store_group_id"] for view in views} == {group["id"] for group in groups}
    assert [website["code"] for website in websites] == ["admin", "base"]
    assert [(config["code"], config["timezone"]) for config in configs] == [
        ("default", "Europe/Berlin"),
        ("de", "Europe/Berlin"),
    ]


@pytest.mark.parametrize("route", ["V1/nosuchroute", "V1/orders", "all/V1/store/nothing"])
def test_an_unknown_route_is_not_found(sandbox: Sandbox, route: str) -> None:
    answer = call(sandbox, "GET", route)

    assert (answer.status_code, answer.json()) == (404, {"message": "Request does not match any route."})


def _attributes(document: dict[str, Any]) -> dict[str, Any]:
    return {entry["attribute_code"]: entry["value"] for entry in document["custom_attributes"]}
