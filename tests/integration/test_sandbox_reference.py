"""Attributes, attribute sets and categories of the sandbox: every shape was observed on Magento 2.4.7."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from sync.sandbox import Sandbox

VIEWS = ("default", "de", "fr")
NOW = 1_700_000_000.0
COLUMNS = [
    *("is_wysiwyg_enabled", "is_html_allowed_on_front", "used_for_sort_by", "is_filterable"),
    *("is_filterable_in_search", "is_used_in_grid", "is_visible_in_grid", "is_filterable_in_grid"),
    *("position", "apply_to", "is_searchable", "is_visible_in_advanced_search", "is_comparable"),
    *("is_used_for_promo_rules", "is_visible_on_front", "used_in_product_listing", "is_visible", "scope"),
    *("attribute_id", "attribute_code", "frontend_input", "entity_type_id", "is_required", "options"),
    *("is_user_defined", "default_frontend_label", "frontend_labels", "backend_type", "source_model"),
    *("default_value", "is_unique", "validation_rules"),
]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(products=400, store_views=VIEWS, clock=lambda: NOW) as running:
        yield running


def get(sandbox: Sandbox, route: str, scope: str = "all", **query: str) -> requests.Response:
    """GET through the PaaS door; `page_size` and `current_page` go into the search criteria."""
    names = {"page_size": "searchCriteria[pageSize]", "current_page": "searchCriteria[currentPage]"}
    return requests.get(
        f"{sandbox.rest_endpoint}/{scope}/V1/{route}",
        params={names.get(name, name): value for name, value in query.items()},
        headers={"Authorization": f"Bearer {sandbox.credentials.integration_token}"},
        timeout=10,
    )


def where(field: str, condition: str, value: str) -> dict[str, str]:
    place = "searchCriteria[filter_groups][0][filters][0]"
    return {f"{place}[field]": field, f"{place}[condition_type]": condition, f"{place}[value]": value}


def labels(sandbox: Sandbox, code: str, scope: str = "all") -> dict[str, str]:
    options = get(sandbox, f"products/attributes/{code}/options", scope).json()
    return {option["value"]: option["label"] for option in options}


def attributes_of(document: dict[str, Any]) -> dict[str, Any]:
    return {entry["attribute_code"]: entry["value"] for entry in document["custom_attributes"]}


def test_attributes_come_in_pages_with_the_echo_and_the_total(sandbox: Sandbox) -> None:
    answer = get(sandbox, "products/attributes", page_size="3", current_page="1").json()

    assert list(answer) == ["items", "search_criteria", "total_count"]
    assert [item["attribute_code"] for item in answer["items"]] == ["name", "sku", "description"]
    assert answer["search_criteria"] == {"filter_groups": [], "page_size": 3, "current_page": 1}
    assert answer["total_count"] == len(sandbox.reference.attributes())


def test_an_attribute_has_its_members_in_this_order_and_flags_of_two_types(sandbox: Sandbox) -> None:
    listed = get(sandbox, "products/attributes", **where("attribute_code", "eq", "color")).json()["items"][0]
    single = get(sandbox, "products/attributes/color").json()

    assert list(listed) == COLUMNS
    assert list(single) == ["extension_attributes", *COLUMNS]
    assert (listed["is_filterable"], listed["is_searchable"], listed["entity_type_id"]) == (True, "0", "4")
    assert (listed["options"][0], listed["options"][1]["value"]) == ({"label": " ", "value": ""}, "91")


def test_an_attribute_answers_to_its_id_too_and_an_unknown_one_is_not_found(sandbox: Sandbox) -> None:
    fields = "attribute_id,attribute_code"

    assert get(sandbox, "products/attributes/93", fields=fields).json() == {
        "attribute_id": 93,
        "attribute_code": "color",
    }
    missing = get(sandbox, "products/attributes/nope")
    assert (missing.status_code, missing.json()["parameters"]) == (404, ["nope"])
    assert get(sandbox, "products/attributes/nope/options").status_code == 404


def test_only_options_of_a_table_begin_with_a_blank_one(sandbox: Sandbox) -> None:
    first = {
        code: get(sandbox, f"products/attributes/{code}/options").json()[:1]
        for code in ("color", "status", "sale", "name")
    }

    assert first["color"] == [{"label": " ", "value": ""}]
    assert (first["status"][0]["value"], first["sale"][0]["value"], first["name"]) == ("1", "1", [])


def test_labels_follow_the_store_view(sandbox: Sandbox) -> None:
    """The first store view shows what the admin scope shows."""
    shown = {scope: labels(sandbox, "color", scope)["91"] for scope in ("all", *VIEWS)}

    assert shown == {"all": "Moss", "default": "Moss", "de": "Moosgrün", "fr": "Mousse"}


@pytest.mark.parametrize(
    ("route", "wanted"),
    [
        ("products/attributes", "items[attribute_code],total_count"),
        ("products/attribute-sets/sets/list", "items[attribute_set_id],total_count"),
        ("categories/list", "items[id],total_count"),
    ],
)
def test_beyond_the_last_page_there_are_no_items_and_with_fields_null(
    sandbox: Sandbox, route: str, wanted: str
) -> None:
    beyond = {"page_size": "3", "current_page": "9999"}

    plain = get(sandbox, route, **beyond).json()

    assert plain["items"] == []
    assert get(sandbox, route, fields=wanted, **beyond).json() == {
        "items": None,
        "total_count": plain["total_count"],
    }


@pytest.mark.parametrize(
    "route", ["products/attributes", "products/attribute-sets/sets/list", "categories/list"]
)
def test_lists_refuse_what_lists_of_products_refuse(sandbox: Sandbox, route: str) -> None:
    missing = get(sandbox, route)
    too_many = get(sandbox, route, page_size="301")

    assert (missing.status_code, missing.json()["parameters"]) == (400, {"fieldName": "searchCriteria"})
    assert (too_many.status_code, too_many.json()) == (
        400,
        {"message": "Maximum SearchCriteria pageSize is %max", "parameters": {"max": 300}},
    )


def test_a_filter_by_no_column_is_an_error_of_the_database_and_by_no_category_attribute_a_refusal(
    sandbox: Sandbox,
) -> None:
    """`id` is shown and is no column: the key of categories is `entity_id`."""
    assert get(sandbox, "products/attributes", **where("nope", "eq", "1")).status_code == 500
    refused = get(sandbox, "categories/list", **where("id", "eq", "3"))
    assert (refused.status_code, refused.json()["parameters"]) == (400, ["id"])
    found = get(sandbox, "categories/list", **where("entity_id", "gt", "31")).json()["items"]
    assert [item["id"] for item in found] == [32, 33, 34]


def test_attribute_sets_are_listed_in_this_shape(sandbox: Sandbox) -> None:
    answer = get(sandbox, "products/attribute-sets/sets/list", page_size="2").json()

    assert answer["items"] == [
        {"attribute_set_id": 4, "attribute_set_name": "Default", "sort_order": 1, "entity_type_id": 4},
        {"attribute_set_id": 9, "attribute_set_name": "Garden", "sort_order": 0, "entity_type_id": 4},
    ]


def test_a_category_has_these_members_and_the_root_of_all_no_is_active(sandbox: Sandbox) -> None:
    root, goods = get(sandbox, "categories/list", page_size="2").json()["items"]
    category = get(sandbox, "categories/11").json()

    assert list(goods) == [
        *(
            "id",
            "parent_id",
            "name",
            "is_active",
            "position",
            "level",
            "children",
            "created_at",
            "updated_at",
        ),
        *("path", "include_in_menu", "custom_attributes"),
    ]
    assert list(root) == [name for name in goods if name != "is_active"]
    assert (goods["children"], category["level"], category["path"]) == ("3,4,5", 3, "1/2/3/11")
    assert attributes_of(category) == {
        "is_anchor": "1",
        "path": "1/2/3/11",
        "children_count": "1",
        "url_key": "camp-furniture",
        "url_path": "outdoor/camp-furniture",
    }
    assert get(sandbox, "categories/999").json() == {
        "message": "No such entity with %fieldName = %fieldValue",
        "parameters": {"fieldName": "id", "fieldValue": 999},
    }


def test_the_tree_begins_at_the_stores_root_and_ends_at_the_depth_asked_for(sandbox: Sandbox) -> None:
    everything = get(sandbox, "categories").json()
    of_store = get(sandbox, "categories", scope="de", depth="1").json()

    assert (everything["id"], of_store["id"]) == (1, 2)
    assert [child["name"] for child in of_store["children_data"]][:2] == ["Draußen", "Garten"]
    assert not any(child["children_data"] for child in of_store["children_data"])
    assert sum(child["product_count"] for child in of_store["children_data"]) == 400


def test_names_of_categories_are_as_hostile_as_real_ones(sandbox: Sandbox) -> None:
    names = [category["name"] for category in sandbox.reference.categories()]

    assert len(names) > len(set(names))
    assert any("/" in name for name in names)
    assert any("<b>" in name for name in names)
    assert max(category["level"] for category in sandbox.reference.categories()) == 4


def test_products_only_refer_to_what_is_listed_but_for_one_deleted_option(sandbox: Sandbox) -> None:
    """The option 38 of `material` was deleted long ago, and cool boxes still have it."""
    choices = {
        item["attribute_code"]: {option["value"] for option in item["options"]}
        for item in sandbox.reference.attributes()
        if item["options"]
    }
    codes = {item["attribute_code"] for item in sandbox.reference.attributes()}
    categories = {str(item["id"]) for item in sandbox.reference.categories()}
    sets = {item["attribute_set_id"] for item in sandbox.reference.attribute_sets()}
    websites = {site["id"] for site in get(sandbox, "store/websites").json()}

    unknown = set()
    for number in sandbox.catalogue.ids():
        document = sandbox.catalogue.document(number)
        values = attributes_of(document)
        links = document["extension_attributes"]["category_links"]
        assert set(values) <= codes
        assert {link["category_id"] for link in links} == set(values["category_ids"]) <= categories
        assert document["attribute_set_id"] in sets
        assert set(document["extension_attributes"]["website_ids"]) <= websites
        for code in choices.keys() & values.keys():
            unknown |= {(code, value) for value in values[code].split(",")} - {
                (code, value) for value in choices[code]
            }

    assert unknown == {("material", "38")}


def test_edits_of_options_show_at_once_and_move_no_stamp(sandbox: Sandbox) -> None:
    before = sandbox.catalogue.raw(1)

    added = sandbox.reference.add_option("color", "Fern", {"de": "Farn"})
    sandbox.reference.rename_option("color", "92", "Basalt")
    sandbox.reference.delete_option("color", "96")

    assert labels(sandbox, "color")[added] == "Fern"
    assert labels(sandbox, "color", "de")[added] == "Farn"
    assert {labels(sandbox, "color", scope)["92"] for scope in ("all", *VIEWS)} == {"Basalt"}
    assert "96" not in labels(sandbox, "color")
    assert sandbox.catalogue.raw(1) == before


def test_a_new_attribute_is_listed_and_a_deleted_one_takes_its_values_along(sandbox: Sandbox) -> None:
    number = sandbox.reference.add_attribute("scent", label="Scent")
    value = sandbox.reference.add_option("scent", "Pine")
    sandbox.catalogue.edit(5, scent=value)
    stamp = sandbox.catalogue.document(5)["updated_at"]
    assert get(sandbox, "products/attributes/scent").json()["attribute_id"] == number
    assert attributes_of(sandbox.catalogue.document(5))["scent"] == value

    sandbox.reference.delete_attribute("scent")

    assert get(sandbox, "products/attributes/scent").status_code == 404
    assert "scent" not in attributes_of(sandbox.catalogue.document(5))
    assert sandbox.catalogue.document(5)["updated_at"] == stamp


def test_a_category_can_be_added_renamed_and_deleted_with_its_links(sandbox: Sandbox) -> None:
    number = sandbox.reference.add_category(11, "Stools")
    sandbox.reference.rename_category(number, "Hocker", "de")
    found = get(sandbox, f"categories/{number}").json()
    assert (found["path"], found["name"]) == (f"1/2/3/11/{number}", "Stools")
    assert get(sandbox, f"categories/{number}", "de").json()["name"] == "Hocker"

    linked = next(
        n for n in range(1, 401) if "11" in str(sandbox.catalogue.document(n)["extension_attributes"])
    )
    stamp = sandbox.catalogue.document(linked)["updated_at"]
    sandbox.reference.delete_category(11)

    document = sandbox.catalogue.document(linked)
    assert get(sandbox, "categories/11").status_code == 404
    assert get(sandbox, f"categories/{number}").status_code == 404
    assert attributes_of(document)["category_ids"] == ["3"]
    assert [link["category_id"] for link in document["extension_attributes"]["category_links"]] == ["3"]
    assert document["updated_at"] == stamp


def test_renaming_what_is_not_there_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(KeyError):
        sandbox.reference.rename_option("color", "1", "None")
    with pytest.raises(KeyError):
        sandbox.reference.rename_category(999, "None")
    with pytest.raises(KeyError):
        sandbox.reference.rename_attribute_set(1, "None")


@pytest.mark.parametrize(
    ("family", "route", "resource"),
    [
        ("attributes", "products/attributes/color", "Magento_Catalog::attributes_attributes"),
        ("attribute_sets", "products/attribute-sets/sets/list", "Magento_Catalog::sets"),
        ("categories", "categories/3", "Magento_Catalog::categories"),
        ("store", "store/websites", "Magento_Backend::store"),
        ("stock", "inventory/sources", "Magento_InventoryApi::source"),
    ],
)
def test_one_family_can_be_forbidden_while_the_rest_works(
    sandbox: Sandbox, family: str, route: str, resource: str
) -> None:
    sandbox.faults.forbid(family)

    refused = get(sandbox, route, page_size="1")

    assert (refused.status_code, refused.json()["parameters"]) == (401, {"resources": resource})
    assert get(sandbox, "products", page_size="1").status_code == 200
    sandbox.faults.permit(family)
    assert get(sandbox, route, page_size="1").status_code == 200


def test_a_wrong_token_is_refused_with_the_resource_of_the_endpoint(sandbox: Sandbox) -> None:
    answer = requests.get(f"{sandbox.rest_endpoint}/V1/categories", timeout=10)

    assert (answer.status_code, answer.json()["parameters"]) == (
        401,
        {"resources": "Magento_Catalog::categories"},
    )


def test_faults_reach_reference_data_and_requests_are_remembered_as_such(sandbox: Sandbox) -> None:
    sandbox.faults.fail(503, kind="reference", times=1)
    sandbox.faults.empty(kind="reference", times=1)
    sandbox.faults.shuffle(kind="reference", times=1)

    answers = [get(sandbox, "categories/list", page_size="3") for _ in range(4)]

    assert answers[0].status_code == 503
    assert answers[1].json()["items"] == []
    assert [item["id"] for item in answers[2].json()["items"]] == [3, 2, 1]
    assert [(one.kind, one.items_count, one.page_size) for one in sandbox.requests] == [
        ("reference", None, 3),
        ("reference", 0, 3),
        ("reference", 3, 3),
        ("reference", 3, 3),
    ]


def test_the_same_edits_can_be_made_from_another_process(sandbox: Sandbox) -> None:
    def control(edit: str, **body: object) -> Any:
        return requests.post(f"{sandbox.host_url}/_sandbox/{edit}", json=body, timeout=10).json()

    value = control("add_option", attribute_code="color", label="Fern")
    control("rename_category", category_id=3, name="Outside")
    control("rename_attribute_set", attribute_set_id=9, name="Beds")
    control("faults", fault="forbid", family="prices")

    assert {"label": "Fern", "value": value} in control("options", code="color")
    assert control("categories", store_view="default")[2]["name"] == "Outside"
    assert control("attribute_sets")[1]["attribute_set_name"] == "Beds"
    assert sandbox.faults.forbids("prices")
