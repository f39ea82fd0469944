"""The sandbox answers lists as a real tenant does: every rule here was observed on Magento 2.4.7."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from sync.sandbox import Sandbox

ID_ASC = {
    "searchCriteria[sortOrders][0][field]": "entity_id",
    "searchCriteria[sortOrders][0][direction]": "ASC",
}
BRIEF = {"fields": "items[id],total_count"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(products=60, store_views=("default", "de")) as running:
        yield running


def get(sandbox: Sandbox, query: dict[str, Any] | str, scope: str = "all") -> requests.Response:
    """GET /V1/products through the PaaS door."""
    return requests.get(
        f"{sandbox.rest_endpoint}/{scope}/V1/products",
        params=query,
        headers={"Authorization": f"Bearer {sandbox.credentials.integration_token}"},
        timeout=10,
    )


def where(*filters: tuple[str, str, str], group: int | None = None) -> dict[str, str]:
    """Filters as query parameters: a group each, so all must hold, or all in one `group`, so any may."""
    query = {}
    for number, parts in enumerate(filters):
        place = (number, 0) if group is None else (group, number)
        for name, value in zip(("field", "condition_type", "value"), parts, strict=True):
            query[f"searchCriteria[filter_groups][{place[0]}][filters][{place[1]}][{name}]"] = value
    return query


def ids(answer: requests.Response) -> list[int]:
    return [item["id"] for item in answer.json()["items"] or []]


def test_a_page_holds_the_documents_the_echo_of_the_criteria_and_the_total(sandbox: Sandbox) -> None:
    query = where(("entity_id", "gt", "20")) | ID_ASC | {"searchCriteria[pageSize]": "3"}

    answer = get(sandbox, query).json()

    assert answer["items"] == [sandbox.catalogue.document(number) for number in (21, 22, 23)]
    assert answer["search_criteria"] == {
        "filter_groups": [{"filters": [{"field": "entity_id", "value": "20", "condition_type": "gt"}]}],
        "sort_orders": [{"field": "entity_id", "direction": "ASC"}],
        "page_size": 3,
    }
    assert answer["total_count"] == 40


def test_bodies_are_ascii_and_compact_with_escaped_slashes(sandbox: Sandbox) -> None:
    body = get(sandbox, where(("entity_id", "eq", "18"))).content

    assert body.isascii()
    assert b"\\u00e9" in body
    assert b"<\\/p>" in body
    assert b'": ' not in body.split(b'"search_criteria"')[1]


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("eq", "7", [7]),
        ("neq", "7", [number for number in range(1, 61) if number != 7]),
        ("gt", "57", [58, 59, 60]),
        ("gteq", "58", [58, 59, 60]),
        ("from", "58", [58, 59, 60]),
        ("lt", "4", [1, 2, 3]),
        ("lteq", "3", [1, 2, 3]),
        ("to", "3", [1, 2, 3]),
        ("in", "9,3,999,7", [3, 7, 9]),
        ("nin", ",".join(map(str, range(1, 59))), [59, 60]),
        ("like", "5_", list(range(50, 60))),
        ("nlike", "%", []),
        ("null", "", []),
        ("notnull", "1", list(range(1, 61))),
        ("finset", "7", [7]),
    ],
)
def test_every_condition_selects_what_its_sql_selects(
    sandbox: Sandbox, condition: str, value: str, expected: list[int]
) -> None:
    answer = get(sandbox, where(("entity_id", condition, value)) | ID_ASC | BRIEF)

    assert ids(answer) == expected
    assert answer.json()["total_count"] == len(expected)


@pytest.mark.parametrize("condition", ["GT", "gte", "moreq", "between"])
def test_an_unknown_condition_silently_acts_as_equality(sandbox: Sandbox, condition: str) -> None:
    answer = get(sandbox, where(("entity_id", condition, "50")) | BRIEF)

    assert (answer.status_code, ids(answer)) == (200, [50])


def test_groups_must_all_hold_and_filters_of_one_group_need_not(sandbox: Sandbox) -> None:
    both = where(("entity_id", "gt", "10"), ("entity_id", "lteq", "12"))
    either = where(("entity_id", "eq", "3"), ("sku", "eq", sandbox.catalogue.document(5)["sku"]), group=0)

    assert ids(get(sandbox, both | ID_ASC | BRIEF)) == [11, 12]
    assert ids(get(sandbox, either | ID_ASC | BRIEF)) == [3, 5]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("type_id", "configurable", [17, 37, 57]),
        ("category_id", "3", None),
        ("website_id", "1", list(range(1, 61))),
        ("color", "94", None),
    ],
)
def test_filters_reach_static_fields_attributes_and_relations(
    sandbox: Sandbox, field: str, value: str, expected: list[int] | None
) -> None:
    found = ids(get(sandbox, where((field, "eq", value)) | ID_ASC))

    if expected is None:
        documents = {number: sandbox.catalogue.document(number) for number in range(1, 61)}
        expected = [number for number, document in documents.items() if _has(document, field, value)]
    assert found == expected
    assert found


def _has(document: dict[str, Any], field: str, value: str) -> bool:
    attributes = {entry["attribute_code"]: entry["value"] for entry in document["custom_attributes"]}
    return value in attributes["category_ids"] if field == "category_id" else attributes.get(field) == value


def test_a_sku_filter_ignores_case(sandbox: Sandbox) -> None:
    sku = sandbox.catalogue.document(12)["sku"]

    assert ids(get(sandbox, where(("sku", "eq", sku.lower())))) == [12]


@pytest.mark.parametrize("field", ["id", "qty", "sku' or '1"])
def test_an_unknown_filter_field_is_refused(sandbox: Sandbox, field: str) -> None:
    answer = get(sandbox, where((field, "eq", "1")))

    assert answer.status_code == 400
    assert answer.json() == {
        "message": 'The "%1" attribute name is invalid. Reset the name and try again.',
        "parameters": [field],
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-05-01 12:00:00", [2, 3]),
        ("2024-05-01T12:00:00Z", [2, 3]),
        ("2024-05-01T12:00:00.000Z", [2, 3]),
        ("2024-05-01T13:00:00+01:00", []),
        ("2024-05-01", [1, 2, 3]),
        ("01.05.2024", [1, 2, 3, 4]),
        ("1714564800", [1, 2, 3, 4]),
    ],
)
def test_a_date_is_read_as_the_database_reads_it(value: str, expected: list[int]) -> None:
    """An offset is ignored, and what is no date at all is earlier than everything."""
    with Sandbox() as sandbox:
        stamps = ["2024-05-01 11:59:59", "2024-05-01 12:00:00", "2024-05-01 12:00:01", "2024-04-30 00:00:00"]
        for stamp in stamps:
            sandbox.catalogue.add(updated_at=stamp)

        assert ids(get(sandbox, where(("updated_at", "gteq", value)) | ID_ASC)) == expected


def test_a_window_of_two_bounds_on_updated_at_selects_what_lies_between() -> None:
    now = 1_700_000_000.0
    with Sandbox(products=500, clock=lambda: now) as sandbox:
        sandbox.catalogue.edit(400, name="Edited")
        sandbox.catalogue.edit(3, updated_at="2021-03-01 06:00:01")

        edited = get(sandbox, where(("updated_at", "gteq", "2023-01-01 00:00:00")) | BRIEF)
        second = where(
            ("updated_at", "gt", "2021-03-01 06:00:00"), ("updated_at", "lteq", "2021-03-01 06:00:01")
        )
        in_second = get(sandbox, second | ID_ASC | BRIEF)

    assert ids(edited) == [400]
    assert ids(in_second) == [3, *range(201, 400)]


def test_without_a_sort_the_order_is_stable_but_not_by_id(sandbox: Sandbox) -> None:
    query = {"searchCriteria[pageSize]": "60"} | BRIEF

    first, second = ids(get(sandbox, query)), ids(get(sandbox, query))

    assert first == second
    assert first != sorted(first)
    assert sorted(first) == list(range(1, 61))


def test_an_unknown_sort_field_is_ignored_in_silence(sandbox: Sandbox) -> None:
    unsorted = {"searchCriteria[pageSize]": "20"} | BRIEF
    wrong = {"searchCriteria[sortOrders][0][field]": "id", "searchCriteria[sortOrders][0][direction]": "ASC"}

    assert ids(get(sandbox, unsorted | wrong)) == ids(get(sandbox, unsorted))


def test_a_missing_direction_sorts_descending_and_echoes_null(sandbox: Sandbox) -> None:
    query = {"searchCriteria[sortOrders][0][field]": "entity_id", "searchCriteria[pageSize]": "2"}

    answer = get(sandbox, query)

    assert ids(answer) == [60, 59]
    assert answer.json()["search_criteria"]["sort_orders"] == [{"field": "entity_id", "direction": None}]


def test_a_direction_in_lower_case_is_fine_and_echoed_in_upper_case(sandbox: Sandbox) -> None:
    answer = get(sandbox, ID_ASC | {"searchCriteria[sortOrders][0][direction]": "asc"})

    assert ids(answer)[0] == 1
    assert answer.json()["search_criteria"]["sort_orders"][0]["direction"] == "ASC"


def test_numbered_pages_sorted_by_a_field_with_ties_lose_products(sandbox: Sandbox) -> None:
    """`updated_at` is the same for all 60 here; with the id as second sort every product comes once."""
    query = {
        "searchCriteria[sortOrders][0][field]": "updated_at",
        "searchCriteria[sortOrders][0][direction]": "ASC",
        "searchCriteria[pageSize]": "20",
    }
    tie_breaker = {
        "searchCriteria[sortOrders][1][field]": "entity_id",
        "searchCriteria[sortOrders][1][direction]": "ASC",
    }

    def seen(query: dict[str, str]) -> set[int]:
        pages = [get(sandbox, query | BRIEF | {"searchCriteria[currentPage]": n}) for n in (1, 2, 3)]
        return {number for page in pages for number in ids(page)}

    assert len(seen(query)) < 60
    assert len(seen(query | tie_breaker)) == 60


@pytest.mark.parametrize("page", ["0", "-1"])
def test_page_0_and_below_act_as_page_1(sandbox: Sandbox, page: str) -> None:
    answer = get(sandbox, ID_ASC | {"searchCriteria[pageSize]": "5", "searchCriteria[currentPage]": page})

    assert ids(answer) == [1, 2, 3, 4, 5]
    assert answer.json()["search_criteria"]["current_page"] == int(page)


def test_beyond_the_last_page_there_are_no_items_and_the_true_total(sandbox: Sandbox) -> None:
    answer = get(sandbox, {"searchCriteria[pageSize]": "20", "searchCriteria[currentPage]": "9"}).json()

    assert (answer["items"], answer["total_count"]) == ([], 60)


@pytest.mark.parametrize("query", ["searchCriteria=", "searchCriteria[pageSize]=0"])
def test_no_page_size_means_the_whole_catalogue(sandbox: Sandbox, query: str) -> None:
    assert len(ids(get(sandbox, query))) == 60


def test_both_spellings_work_in_every_name(sandbox: Sandbox) -> None:
    snake = (
        "search_criteria[filter_groups][0][filters][0][field]=entity_id"
        "&search_criteria[filter_groups][0][filters][0][condition_type]=gt"
        "&search_criteria[filter_groups][0][filters][0][value]=58&search_criteria[page_size]=5"
    )
    camel = (
        "searchCriteria[filterGroups][0][filters][0][field]=entity_id"
        "&searchCriteria[filterGroups][0][filters][0][conditionType]=gt"
        "&searchCriteria[filterGroups][0][filters][0][value]=58&searchCriteria[pageSize]=5"
    )

    assert get(sandbox, snake).json() == get(sandbox, camel).json()


REFUSALS = [
    ("", '"%fieldName" is required. Enter and try again.', {"fieldName": "searchCriteria"}),
    (
        "searchCriteria[bogus]=1",
        '"%fieldName" is not supported. Correct the field name and try again.',
        {"fieldName": "Bogus"},
    ),
    (
        "searchCriteria[]=",
        '"%fieldName" is not supported. Correct the field name and try again.',
        {"fieldName": "0"},
    ),
    ("searchCriteria[pageSize]=301", "Maximum SearchCriteria pageSize is %max", {"max": 300}),
    (
        "searchCriteria[pageSize]=abc",
        'Error occurred during "pageSize" processing. The "abc" value\'s type is invalid. '
        'The "int" type was expected. Verify and try again.',
        None,
    ),
    (
        "searchCriteria[currentPage]=",
        'Error occurred during "currentPage" processing. The "" value\'s type is invalid. '
        'The "int" type was expected. Verify and try again.',
        None,
    ),
    (
        "searchCriteria[sortOrders][0][field]=sku&searchCriteria[sortOrders][0][direction]=UP",
        "The sort order has to be specified as %1 for ascending order or %2 for descending order.",
        ["ASC", "DESC"],
    ),
    (
        "searchCriteria[filter_groups][0][filters][0][value][0]=x",
        'Error occurred during "value" processing. The "array" value\'s type is invalid. '
        'The "string" type was expected. Verify and try again.',
        None,
    ),
]


@pytest.mark.parametrize(("query", "text", "parameters"), REFUSALS)
def test_wrong_criteria_are_refused_with_placeholders_left_open(
    sandbox: Sandbox, query: str, text: str, parameters: object
) -> None:
    answer = get(sandbox, query)

    assert answer.status_code == 400
    assert answer.json()["message"] == text
    assert answer.json().get("parameters") == parameters


def test_a_url_beyond_8_kilobytes_is_too_long(sandbox: Sandbox) -> None:
    fits = get(sandbox, where(("entity_id", "in", ",".join(map(str, range(10_000, 11_000))))))
    too_long = get(sandbox, where(("entity_id", "in", ",".join(map(str, range(10_000, 12_000))))))

    assert (fits.status_code, too_long.status_code) == (200, 414)
    assert too_long.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    ("wanted", "body"),
    [
        ("items[id],total_count", '{"items":[{"id":2}],"total_count":1}'),
        ("total_count", '{"total_count":1}'),
        ("items[id,nope]", '{"items":[{"id":2}]}'),
        ("items[id,tier_prices[qty]]", '{"items":[{"id":2,"tier_prices":null}]}'),
        ("items[id,tier_prices]", '{"items":[{"id":2,"tier_prices":[]}]}'),
        ("items[extension_attributes[giftcard_amounts]]", '{"items":[{"extension_attributes":[]}]}'),
        (
            "items[custom_attributes[tax_class_id]]",
            '{"items":[{"custom_attributes":{"8":{"attribute_code":"tax_class_id","value":"2"}}}]}',
        ),
        ("nope", "[]"),
        ("items[id,sku", "[]"),
        ("items[id, sku]", "[]"),
    ],
)
def test_fields_shape_the_answer_with_every_oddity(sandbox: Sandbox, wanted: str, body: str) -> None:
    assert get(sandbox, where(("entity_id", "eq", "2")) | {"fields": wanted}).text == body


def test_fields_turn_an_empty_list_into_null(sandbox: Sandbox) -> None:
    query = where(("entity_id", "gt", "60"))

    assert get(sandbox, query).json()["items"] == []
    assert get(sandbox, query | BRIEF).json() == {"items": None, "total_count": 0}


def test_every_scope_lists_every_product_with_its_own_values(sandbox: Sandbox) -> None:
    query = where(("entity_id", "eq", "3"))

    everywhere = get(sandbox, query).json()["items"]
    german = get(sandbox, query, scope="de").json()["items"]

    assert everywhere[0]["name"].endswith("Trellis")
    assert german[0]["name"].endswith("Rankgitter")
    assert german[0]["sku"] == everywhere[0]["sku"]


def test_the_answer_carries_the_tenants_clock_and_no_validators() -> None:
    with Sandbox(products=20, clock=lambda: 1_700_000_000.0) as sandbox:
        headers = get(sandbox, "searchCriteria[pageSize]=20").headers

    assert headers["Date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Transfer-Encoding"] == "chunked"
    assert headers["Set-Cookie"].startswith("PHPSESSID=")
    assert not {"ETag", "Last-Modified"} & set(headers)


def test_html_is_refused_and_other_methods_are_not_known(sandbox: Sandbox) -> None:
    url = f"{sandbox.rest_endpoint}/V1/products?searchCriteria[pageSize]=1"
    headers = {"Authorization": f"Bearer {sandbox.credentials.integration_token}"}

    assert requests.get(url, headers=headers | {"Accept": "text/html"}, timeout=10).status_code == 500
    assert requests.head(url, headers=headers, timeout=10).status_code == 405
    patched = requests.patch(url, headers=headers, timeout=10)
    assert json.loads(patched.content) == {"message": "The PATCH HTTP method is not supported."}
