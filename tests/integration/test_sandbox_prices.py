"""The bulk price endpoints of the sandbox: shapes, oddities and refusals as observed on Magento 2.4.7."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from sync.sandbox import Sandbox

FEEDS = ("base-prices", "special-price", "tier-prices", "cost")
RICH = 8  # the first product with tier prices, a special price and a cost


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(products=60, store_views=("default", "de")) as running:
        yield running


def call(sandbox: Sandbox, route: str, body: Any, method: str = "POST") -> requests.Response:
    return requests.request(
        method,
        f"{sandbox.rest_endpoint}/V1/products/{route}",
        json=body,
        headers={"Authorization": f"Bearer {sandbox.credentials.integration_token}"},
        timeout=10,
    )


def told(sandbox: Sandbox, feed: str, *product_ids: int) -> Any:
    """What a feed tells of products."""
    skus = [sandbox.catalogue.sku(number) for number in product_ids]
    return call(sandbox, f"{feed}-information", {"skus": skus}).json()


def test_each_feed_has_a_shape_of_its_own(sandbox: Sandbox) -> None:
    document = sandbox.catalogue.document(RICH)
    sku = document["sku"]

    answers = {feed: told(sandbox, feed, RICH) for feed in FEEDS}

    assert answers == {
        "base-prices": [{"price": document["price"], "store_id": 0, "sku": sku}],
        "special-price": [
            {
                "price": 3.99,
                "store_id": 0,
                "sku": sku,
                "price_from": "2021-03-01 00:00:00",
                "price_to": None,
            }
        ],
        "tier-prices": [
            {
                "price": 4.5,
                "price_type": "fixed",
                "website_id": 0,
                "sku": sku,
                "customer_group": "General",
                "quantity": 5,
            },
            {
                "price": 15,
                "price_type": "discount",
                "website_id": 0,
                "sku": sku,
                "customer_group": "all groups",
                "quantity": 10,
            },
        ],
        "cost": [{"cost": 1.23456, "store_id": 0, "sku": sku}],
    }
    keys = {feed: list(rows[0]) for feed, rows in answers.items()}
    assert keys["tier-prices"] == [
        *("price", "price_type", "website_id", "sku", "customer_group", "quantity")
    ]
    assert keys["special-price"] == ["price", "store_id", "sku", "price_from", "price_to"]


def test_a_store_view_with_a_base_price_of_its_own_has_a_row_of_its_own(sandbox: Sandbox) -> None:
    """Store ids count from 1 in the order of the store views; every tenth product has one in `de`."""
    own = sandbox.catalogue.document(1, "de")["price"]

    assert [(row["store_id"], row["price"]) for row in told(sandbox, "base-prices", 1)] == [
        (0, sandbox.catalogue.document(1)["price"]),
        (2, own),
    ]

    sandbox.prices.set_base(1, 7.5)
    sandbox.prices.set_base(2, 8.25, store_id=2)

    assert [(row["store_id"], row["price"]) for row in told(sandbox, "base-prices", 1)] == [
        (0, 7.5),
        (2, own),
    ]
    assert told(sandbox, "base-prices", 2)[1]["price"] == 8.25
    assert (sandbox.catalogue.document(1, "de")["price"], sandbox.catalogue.document(2, "de")["price"]) == (
        own,
        8.25,
    )


def test_unknown_skus_and_types_without_such_a_price_are_left_out(sandbox: Sandbox) -> None:
    """17 is configurable, 20 a bundle with a dynamic price, 40 grouped."""
    skus = ["no-such", *map(sandbox.catalogue.sku, (3, 17, 20, 40))]

    assert [row["sku"] for row in call(sandbox, "base-prices-information", {"skus": skus}).json()] == [
        skus[1]
    ]
    assert call(sandbox, "tier-prices-information", {"skus": ["S0", "S1"]}).json() == []


def test_a_tenant_can_be_told_to_refuse_a_list_with_an_unknown_sku(sandbox: Sandbox) -> None:
    sandbox.prices.refuses_unknown = True

    refused = call(sandbox, "cost-information", {"skus": [sandbox.catalogue.sku(RICH), "no-such"]})

    assert (refused.status_code, refused.json()["parameters"]) == (404, {"sku": "no-such"})


@pytest.mark.parametrize("sku", ["A,B", "A/B", 'say "hi"', "Crème brûlée", "<b>", "a\\b"])
def test_skus_of_every_kind_are_found_without_regard_to_case(sandbox: Sandbox, sku: str) -> None:
    sandbox.catalogue.add(sku=sku, price=12.5)

    rows = call(sandbox, "base-prices-information", {"skus": [sku.upper()]}).json()

    assert rows == [{"price": 12.5, "store_id": 0, "sku": sku.upper()}]


def test_a_sku_comes_back_as_it_was_asked_for(sandbox: Sandbox) -> None:
    """Whatever its case and the blanks around it, and once; tier prices take the spelling asked for last."""
    sku = sandbox.catalogue.sku(RICH)
    spellings = [sku.lower(), sku, sku, f"{sku} ", f" {sku}"]

    answers = {feed: call(sandbox, f"{feed}-information", {"skus": spellings}).json() for feed in FEEDS}

    assert {feed: [row["sku"] for row in rows] for feed, rows in answers.items()} == {
        "base-prices": [sku.lower()],
        "special-price": [sku.lower()],
        "tier-prices": [f" {sku}"] * 2,
        "cost": [sku.lower()],
    }


def test_a_list_of_skus_has_no_limit_unless_the_tenant_sets_one(sandbox: Sandbox) -> None:
    many = [f"S{number}" for number in range(301)]

    assert call(sandbox, "cost-information", {"skus": many}).json() == []
    with Sandbox(max_skus=300) as limited:
        refused = call(limited, "cost-information", {"skus": many})
    assert (refused.status_code, refused.json()["parameters"]["max"]) == (400, 300)


def test_special_prices_are_a_cross_product_of_prices_starts_and_ends(sandbox: Sandbox) -> None:
    """Three prices, three starts and two ends are 18 rows, each price with all dates of all scopes."""
    starts = [f"2026-0{month}-01 00:00:00" for month in (1, 2, 3)]
    ends = ["2027-01-01 00:00:00", "2027-02-01 00:00:00"]
    sandbox.prices.set_special(3, 1.11, starts[0], ends[0])
    sandbox.prices.set_special(3, 3.33, starts[1], ends[1], store_id=1)
    sandbox.prices.set_special(3, 2.22, starts[2], ends[0], store_id=2)

    rows = told(sandbox, "special-price", 3)

    assert [(row["store_id"], row["price"], row["price_from"], row["price_to"]) for row in rows] == [
        (scope, price, start, end)
        for scope, price in ((0, 1.11), (1, 3.33), (2, 2.22))
        for start in starts
        for end in ends
    ]


def test_dates_of_store_views_are_told_of_the_default_price(sandbox: Sandbox) -> None:
    """An end that two store views share comes twice."""
    sandbox.prices.set_special(3, 8, "2026-01-01 00:00:00", "2027-01-01 00:00:00")
    for view in ("default", "de"):
        sandbox.catalogue.edit(3, store_view=view, touch=False, special_to_date="2026-12-24 00:00:00")

    rows = told(sandbox, "special-price", 3)

    assert [(row["store_id"], row["price"], row["price_to"][:10]) for row in rows] == [
        (0, 8, "2027-01-01"),
        (0, 8, "2026-12-24"),
        (0, 8, "2026-12-24"),
    ]


def test_price_edits_show_in_the_document_and_move_no_stamp(sandbox: Sandbox) -> None:
    stamps = {number: sandbox.catalogue.document(number)["updated_at"] for number in (3, 4, RICH)}
    tier = {"customer_group_id": 0, "qty": 3, "value": 2.5, "extension_attributes": {"website_id": 1}}

    sandbox.prices.set_base_many({3: 1.5, 4: 2})
    sandbox.prices.set_special(3, 1.25, "2026-01-01 00:00:00", "2027-01-01 00:00:00")
    sandbox.prices.set_cost(3, 0.75)
    sandbox.prices.set_tiers(3, [tier])
    sandbox.prices.remove_special(RICH)

    document = sandbox.catalogue.document(3)
    attributes = {entry["attribute_code"]: entry["value"] for entry in document["custom_attributes"]}
    assert (document["price"], sandbox.catalogue.document(4)["price"]) == (1.5, 2)
    assert attributes["special_price"] == "1.250000"
    assert attributes["special_to_date"] == "2027-01-01 00:00:00"
    assert (attributes["cost"], document["tier_prices"]) == ("0.750000", [tier])
    assert told(sandbox, "tier-prices", 3)[0]["customer_group"] == "NOT LOGGED IN"
    assert told(sandbox, "special-price", RICH) == []
    assert {number: sandbox.catalogue.document(number)["updated_at"] for number in stamps} == stamps


def test_the_writing_siblings_change_prices_and_move_no_stamp(sandbox: Sandbox) -> None:
    before = sandbox.catalogue.document(3)
    place = {"store_id": 0, "sku": before["sku"]}
    dates = {"price_from": "2026-01-01 00:00:00", "price_to": None}
    tier = {
        "price": 2,
        "price_type": "fixed",
        "website_id": 0,
        "sku": before["sku"],
        "customer_group": "ALL GROUPS",
        "quantity": 3,
    }

    answers = [
        call(sandbox, "base-prices", {"prices": [{"price": 13.37, **place}]}),
        call(sandbox, "special-price", {"prices": [{"price": 8.5, **place, **dates}]}),
        call(sandbox, "cost", {"prices": [{"cost": 1.37, **place}]}),
        call(sandbox, "tier-prices", {"prices": [tier]}),
        call(sandbox, "tier-prices", {"prices": [{**tier, "price": 1.5}]}),
    ]

    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, [])] * 5
    assert told(sandbox, "base-prices", 3)[0]["price"] == 13.37
    assert told(sandbox, "special-price", 3) == [{"price": 8.5, **place, **dates}]
    assert told(sandbox, "cost", 3) == [{"cost": 1.37, **place}]
    assert told(sandbox, "tier-prices", 3) == [{**tier, "price": 1.5, "customer_group": "all groups"}]
    call(sandbox, "special-price-delete", {"prices": [{"price": 8.5, **place, **dates}]})
    call(sandbox, "tier-prices-delete", {"prices": [tier]})
    assert (told(sandbox, "special-price", 3), told(sandbox, "tier-prices", 3)) == ([], [])
    assert sandbox.catalogue.document(3)["updated_at"] == before["updated_at"]


def test_put_replaces_every_tier_of_a_product(sandbox: Sandbox) -> None:
    tier = {"price": 1, "price_type": "discount", "sku": sandbox.catalogue.sku(RICH), "quantity": 9}

    call(sandbox, "tier-prices", {"prices": [tier]}, method="PUT")

    assert [(row["quantity"], row["price_type"]) for row in told(sandbox, "tier-prices", RICH)] == [
        (9, "discount")
    ]


def test_a_price_that_cannot_be_written_is_named_and_the_others_are_written(sandbox: Sandbox) -> None:
    sku = sandbox.catalogue.sku(3)
    prices = [
        {"price": 1, "store_id": 0, "sku": "no-such"},
        {"price": -1, "store_id": 0, "sku": sku},
        {"price": 1, "store_id": 9, "sku": sku},
        {"price": 6, "store_id": 0, "sku": sku},
    ]

    failed = call(sandbox, "base-prices", {"prices": prices}).json()

    assert [fault["parameters"] for fault in failed] == [["no-such", "0"], ["Price", "-1"], [sku, "9"]]
    assert sandbox.catalogue.document(3)["price"] == 6


def test_wrong_bodies_are_refused(sandbox: Sandbox) -> None:
    headers = {"Authorization": f"Bearer {sandbox.credentials.integration_token}"}
    url = f"{sandbox.rest_endpoint}/V1/products/cost-information"
    too_many = [{"cost": 1, "store_id": 0, "sku": "S"}] * 21

    form = requests.post(url, data={"skus": "A"}, headers=headers, timeout=10)
    broken = requests.post(url, data="{", headers=headers | {"Content-Type": "application/json"}, timeout=10)

    assert "x-www-form-urlencoded" in form.json()["message"]
    assert broken.json() == {"message": "Decoding error."}
    assert call(sandbox, "cost-information", {}).json()["parameters"] == {"fieldName": "skus"}
    assert call(sandbox, "cost", {"prices": too_many}).json()["parameters"]["max"] == 20
    assert call(sandbox, "cost-information", None, method="GET").status_code == 404


@pytest.mark.parametrize("feed", FEEDS)
def test_prices_can_be_forbidden_and_have_faults_of_their_own(sandbox: Sandbox, feed: str) -> None:
    sandbox.faults.forbid("prices")
    refused = call(sandbox, f"{feed}-information", {"skus": ["S"]})
    sandbox.faults.clear()
    sandbox.faults.fail(502, kind="prices", times=1)
    statuses = [call(sandbox, f"{feed}-information", {"skus": ["S"]}).status_code for _ in range(2)]

    assert (refused.status_code, refused.json()["parameters"]) == (
        401,
        {"resources": "Magento_Catalog::catalog"},
    )
    assert statuses == [502, 200]
    assert [served.kind for served in sandbox.requests] == ["prices"] * 3


def test_the_same_edits_can_be_made_from_another_process(sandbox: Sandbox) -> None:
    def control(edit: str, **body: object) -> int:
        return requests.post(f"{sandbox.host_url}/_sandbox/{edit}", json=body, timeout=10).status_code

    statuses = [
        control("set_base_price", product_id=3, price=1.5),
        control("set_base_prices", prices={"4": 2.5}),
        control("set_special_price", product_id=3, price=1.25, starts="2026-01-01 00:00:00"),
        control("set_cost", product_id=3, cost=0.5),
        control("set_tier_prices", product_id=3, tiers=[]),
        control("remove_special_price", product_id=RICH),
    ]

    assert statuses == [200] * 6
    assert (told(sandbox, "base-prices", 3)[0]["price"], told(sandbox, "base-prices", 4)[0]["price"]) == (
        1.5,
        2.5,
    )
    assert (told(sandbox, "cost", 3)[0]["cost"], told(sandbox, "special-price", RICH)) == (0.5, [])
    assert control("set_base_price", product_id=999, price=1) == 400
