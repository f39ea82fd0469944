"""Source items of the sandbox: a table keyed by text, read as MySQL does; observed on Magento 2.4.7."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.sandbox import Sandbox
from sync.sandbox.catalogue import Catalogue
from sync.sandbox.criteria import ParsedCriteria, ParsedFilter, Sort
from sync.sandbox.generator import Generator
from sync.sandbox.stock import SimulatedStock
from sync.sandbox.values import fold

SOURCES = ("default", "north")
BY_SKU = {
    "searchCriteria[sortOrders][0][field]": "sku",
    "searchCriteria[sortOrders][0][direction]": "ASC",
}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(products=40, sources=SOURCES) as running:
        yield running


def get(sandbox: Sandbox, query: dict[str, str], route: str = "source-items") -> requests.Response:
    return requests.get(
        f"{sandbox.rest_endpoint}/V1/inventory/{route}",
        params=query,
        headers={"Authorization": f"Bearer {sandbox.credentials.integration_token}"},
        timeout=10,
    )


def post(sandbox: Sandbox, route: str, items: list[dict[str, Any]]) -> requests.Response:
    return requests.post(
        f"{sandbox.rest_endpoint}/V1/inventory/{route}",
        json={"sourceItems": items},
        headers={"Authorization": f"Bearer {sandbox.credentials.integration_token}"},
        timeout=10,
    )


def where(*filters: tuple[str, str, str]) -> dict[str, str]:
    """Filters as query parameters, a group each."""
    return {
        f"searchCriteria[filter_groups][{number}][filters][0][{name}]": value
        for number, parts in enumerate(filters)
        for name, value in zip(("field", "condition_type", "value"), parts, strict=True)
    }


def size(number: int, page: int | None = None) -> dict[str, str]:
    query = {"searchCriteria[pageSize]": str(number)}
    return query if page is None else query | {"searchCriteria[currentPage]": str(page)}


def skus(answer: requests.Response) -> list[str]:
    return [row["sku"] for row in answer.json()["items"]]


def test_a_row_has_four_members_and_a_page_the_echo_and_the_total(sandbox: Sandbox) -> None:
    query = where(("sku", "gt", "HM")) | BY_SKU | size(2)

    answer = get(sandbox, query).json()

    assert list(answer["items"][0]) == ["sku", "source_code", "quantity", "status"]
    assert answer["search_criteria"] == {
        "filter_groups": [{"filters": [{"field": "sku", "value": "HM", "condition_type": "gt"}]}],
        "sort_orders": [{"field": "sku", "direction": "ASC"}],
        "page_size": 2,
    }
    assert answer["total_count"] == sum(row["sku"] > "HM" for row in sandbox.stock.rows())


def test_every_product_that_can_have_stock_has_a_row_in_every_source(sandbox: Sandbox) -> None:
    rows = sandbox.stock.rows()
    types = {"simple", "virtual", "downloadable"}
    stocked = {
        sandbox.catalogue.sku(number)
        for number in sandbox.catalogue.ids()
        if sandbox.catalogue.document(number)["type_id"] in types
    }

    assert {(row["source_code"], row["sku"]) for row in rows} == {
        (source, sku) for source in SOURCES for sku in stocked
    }
    assert any(row["quantity"] != int(row["quantity"]) for row in rows)
    assert {row["status"] for row in rows} == {0, 1}


def test_a_seed_always_gives_the_same_quantities() -> None:
    def rows(seed: int) -> list[dict[str, Any]]:
        return Sandbox(40, seed=seed, sources=SOURCES).stock.rows()

    assert rows(1) == rows(1)
    assert [row["quantity"] for row in rows(1)] != [row["quantity"] for row in rows(2)]


def test_beyond_the_last_page_there_are_no_items(sandbox: Sandbox) -> None:
    answer = get(sandbox, size(3, page=9999)).json()

    assert (answer["items"], answer["total_count"]) == ([], len(sandbox.stock.rows()))
    wanted = {"fields": "items[sku],total_count"}
    assert get(sandbox, size(3, page=9999) | wanted).json()["items"] is None


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("eq", "MM", ["mm"]),
        ("eq", "mm ", ["mm"]),
        ("neq", "mm", ["AZ", "A_", "zz", "Ää"]),
        ("in", "MM,az,nope", ["AZ", "mm"]),
        ("nin", "MM,az", ["A_", "zz", "Ää"]),
        ("gt", "MM", ["zz"]),
        ("gteq", "MM", ["mm", "zz"]),
        ("lt", "az", ["Ää"]),
        ("lteq", "AZ", ["AZ", "Ää"]),
        ("like", "a%", ["AZ", "A_", "Ää"]),
    ],
)
def test_skus_are_compared_without_regard_to_case(condition: str, value: str, expected: list[str]) -> None:
    with Sandbox() as sandbox:
        for sku in ("zz", "A_", "mm", "AZ", "Ää"):
            sandbox.stock.set("default", sku, 1)

        assert sorted(skus(get(sandbox, where(("sku", condition, value)) | size(9)))) == expected


def test_the_order_by_sku_is_the_databases_not_pythons() -> None:
    """Case and accents do not count, and an underscore is behind the letters."""
    with Sandbox() as sandbox:
        for sku in ("b", "A_1", "C", "Ab", "ä", "a1", "AZ"):
            sandbox.stock.set("default", sku, 1)

        up = skus(get(sandbox, BY_SKU | size(9)))
        down = skus(get(sandbox, BY_SKU | {"searchCriteria[sortOrders][0][direction]": "DESC"} | size(9)))

    assert up == ["ä", "a1", "Ab", "AZ", "A_1", "b", "C"]
    assert down == up[::-1]


def test_rows_are_filtered_by_source_quantity_and_status(sandbox: Sandbox) -> None:
    rows = sandbox.stock.rows()

    def total(*filters: tuple[str, str, str]) -> int:
        return int(get(sandbox, where(*filters) | size(1)).json()["total_count"])

    assert total(("source_code", "eq", "north")) == len(rows) / 2
    assert total(("source_code", "in", "north,nowhere")) == len(rows) / 2
    assert total(("source_code", "eq", "nowhere")) == 0
    assert total(("source_code", "eq", "north"), ("status", "eq", "0")) == sum(
        row["source_code"] == "north" and row["status"] == 0 for row in rows
    )
    assert total(("quantity", "gt", "100")) == sum(row["quantity"] > 100 for row in rows)
    assert total(("quantity", "gt", "100"), ("quantity", "lteq", "200")) == sum(
        100 < row["quantity"] <= 200 for row in rows
    )


@pytest.mark.parametrize("where_asked", ["filter", "sort"])
def test_there_is_no_id_and_no_stamp_to_ask_for(sandbox: Sandbox, where_asked: str) -> None:
    if where_asked == "filter":
        query = where(("source_item_id", "gt", "0"))
    else:
        query = {"searchCriteria[sortOrders][0][field]": "updated_at"}

    assert get(sandbox, query | size(3)).status_code == 500


def test_numbered_pages_by_sku_of_two_sources_lose_rows(sandbox: Sandbox) -> None:
    """Two rows have the same SKU, and which comes first differs from page to page."""
    total = len(sandbox.stock.rows())

    pages = [get(sandbox, BY_SKU | size(7, page)).json()["items"] for page in range(1, total // 7 + 2)]

    assert sum(map(len, pages)) == total
    assert len({(row["source_code"], row["sku"]) for page in pages for row in page}) < total


def test_search_criteria_are_required_for_items_and_not_for_sources(sandbox: Sandbox) -> None:
    assert get(sandbox, {}).status_code == 400
    assert get(sandbox, size(301)).json()["parameters"] == {"max": 300}

    answer = get(sandbox, {}, "sources").json()

    assert [source["source_code"] for source in answer["items"]] == list(SOURCES)
    assert list(answer["items"][0]) == [
        *("source_code", "name", "enabled", "description", "latitude", "longitude", "country_id", "postcode"),
        *("use_default_carrier_config", "carrier_links", "extension_attributes"),
    ]
    assert (answer["search_criteria"], answer["total_count"]) == ({"filter_groups": []}, 2)


def test_items_are_written_and_deleted_without_moving_a_stamp(sandbox: Sandbox) -> None:
    before = sandbox.catalogue.raw(1)
    sku = sandbox.catalogue.sku(1)
    row = {"sku": sku, "source_code": "north", "quantity": 2.75, "status": 0}

    saved = post(sandbox, "source-items", [{**row, "sku": sku.lower()}])
    assert (saved.status_code, saved.json()) == (200, [])
    assert get(sandbox, where(("source_code", "eq", "north"), ("sku", "eq", sku))).json()["items"] == [row]

    assert post(sandbox, "source-items-delete", [row]).json() == []
    assert skus(get(sandbox, where(("sku", "eq", sku)))) == [sku]
    assert sandbox.catalogue.raw(1) == before


def test_a_write_to_a_source_that_is_none_is_refused_whole(sandbox: Sandbox) -> None:
    rows = sandbox.stock.rows()
    items = [{"sku": "A", "source_code": source, "quantity": 1, "status": 1} for source in ("north", "moon")]

    refused = post(sandbox, "source-items", items)

    assert (refused.status_code, refused.json()["message"]) == (400, "Validation Failed")
    assert post(sandbox, "source-items", items[:1] * 21).json()["parameters"]["max"] == 20
    assert sandbox.stock.rows() == rows


def test_rows_come_and_go_with_their_products(sandbox: Sandbox) -> None:
    sku = sandbox.catalogue.sku(1)
    sandbox.stock.set("default", sku, 5)

    sandbox.catalogue.delete(1)
    added = sandbox.catalogue.add(sku="Brand new")

    found = [row["sku"] for row in sandbox.stock.rows()]
    assert (sku in found, found.count("Brand new")) == (False, len(SOURCES))
    sandbox.stock.set("north", "Brand new", 4.5)
    sandbox.catalogue.edit(added, sku="Renamed")
    of_north = [row["sku"] for row in sandbox.stock.rows() if row["source_code"] == "north"]
    assert (of_north.count("Renamed"), of_north.count("Brand new")) == (1, 1)
    assert of_north == sorted(of_north, key=fold)


def test_rows_stay_in_order_when_a_product_is_hidden_or_its_id_grows_a_digit() -> None:
    """A hidden product keeps its rows; generated SKUs carry the id, with 7 digits or more."""
    with Sandbox(products=60, gap=200_000) as sandbox:
        for number in sandbox.catalogue.ids()[::7]:
            sandbox.catalogue.hide(number)
        rows = [row["sku"] for row in sandbox.stock.rows()]

    assert rows == sorted(rows)
    assert (len(rows), max(map(len, rows))) == (53, len("TP10000000-XL-Cream"))


def test_stock_can_be_forbidden_and_is_remembered_as_such(sandbox: Sandbox) -> None:
    sandbox.faults.forbid("stock")
    refused = get(sandbox, size(1))
    sandbox.faults.clear()
    sandbox.faults.quota(1, 60)
    statuses = [get(sandbox, size(1)).status_code for _ in range(2)]

    assert refused.json()["parameters"] == {"resources": "Magento_InventoryApi::source"}
    assert (refused.status_code, statuses) == (401, [200, 429])
    assert [(served.kind, served.items_count) for served in sandbox.requests] == [
        *(("stock", None), ("stock", 1), ("stock", None))
    ]


def test_the_same_edits_can_be_made_from_another_process(sandbox: Sandbox) -> None:
    def control(edit: str, **body: object) -> Any:
        return requests.post(f"{sandbox.host_url}/_sandbox/{edit}", json=body, timeout=10).json()

    control("set_stock", source_code="north", sku="Odd, one", quantity=0.5, status=0)
    control("remove_stock", source_code="north", sku=sandbox.catalogue.sku(1))

    rows = control("stock_rows")
    assert {"sku": "Odd, one", "source_code": "north", "quantity": 0.5, "status": 0} in rows
    assert sum(row["sku"] == sandbox.catalogue.sku(1) for row in rows) == 1
    assert (
        "there is no source moon" in control("set_stock", source_code="moon", sku="A", quantity=1)["message"]
    )


SKUS = st.text(st.sampled_from("aAbB_1ä "), min_size=1, max_size=3).filter(str.strip)


@settings(max_examples=60)
@given(
    edits=st.lists(st.tuples(st.sampled_from(SOURCES), SKUS, st.booleans()), max_size=30),
    page=st.integers(1, 4),
)
def test_pages_by_key_of_one_source_at_a_time_bring_every_row_once(
    edits: list[tuple[str, str, bool]], page: int
) -> None:
    """`source_code eq S`, `sku gt L`, ascending by SKU: for each source, from the start to an empty page."""
    stock = SimulatedStock(Catalogue(Generator(1, 1, ["default"]), 12, lambda: 0.0), SOURCES, seed=1)
    held: dict[tuple[str, str], str] = {
        (row["source_code"], fold(row["sku"])): row["sku"] for row in stock.rows()
    }
    for source, sku, is_written in edits:
        if is_written:
            stock.set(source, sku, 1)
            held[source, fold(sku)] = sku
        else:
            stock.remove(source, sku)
            held.pop((source, fold(sku)), None)

    seen = [(source, fold(sku)) for source in SOURCES for sku in _walk(stock, source, page)]

    assert seen == sorted(held, key=lambda key: (SOURCES.index(key[0]), key[1]))


def _walk(stock: SimulatedStock, source: str, page: int) -> Iterator[str]:
    last = ""
    while True:
        groups = ((ParsedFilter("source_code", source, "eq"),), (ParsedFilter("sku", last, "gt"),))
        rows, _ = stock.select(ParsedCriteria(groups, (Sort("sku", "ASC"),), page))
        yield from (row["sku"] for row in rows)
        if not rows:
            return
        last = rows[-1]["sku"]
