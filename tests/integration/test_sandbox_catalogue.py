"""The sandbox's catalogue: made up, the same for the same seed, and edited as a real one is."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from typing import Any

import pytest

from sync.sandbox import Catalogue, Sandbox

NOW = 1_700_000_000.0
NOW_TEXT = "2023-11-14 22:13:20"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalogue(clock: Clock) -> Catalogue:
    return Sandbox(products=40, store_views=("default", "de"), clock=clock).catalogue


def attributes(document: dict[str, Any]) -> dict[str, Any]:
    return {entry["attribute_code"]: entry["value"] for entry in document["custom_attributes"]}


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others() -> None:
    first, same, other = (Sandbox(products=40, seed=seed).catalogue for seed in (1, 1, 2))

    assert [first.raw(number) for number in first.ids()] == [same.raw(number) for number in same.ids()]
    assert first.raw(3) != other.raw(3)


def test_all_types_are_there_and_four_in_five_are_simple() -> None:
    catalogue = Sandbox(products=400).catalogue

    types = Counter(catalogue.document(number)["type_id"] for number in catalogue.ids())

    assert types["simple"] == 320
    assert set(types) == {
        *("simple", "configurable", "bundle", "grouped", "virtual", "downloadable", "giftcard")
    }


def test_every_document_has_the_keys_of_a_real_one_in_their_order() -> None:
    catalogue = Sandbox(products=200).catalogue
    order = [
        *("id", "sku", "name", "attribute_set_id", "price", "status", "visibility", "type_id", "created_at"),
        *("updated_at", "weight", "extension_attributes", "product_links", "options"),
        *("media_gallery_entries", "tier_prices", "custom_attributes"),
    ]
    optional = {"price", "weight"}

    for number in catalogue.ids():
        document = catalogue.document(number)
        assert [name for name in order if name in document] == list(document)
        assert set(order) - set(document) <= optional
        assert document["id"] == number
        assert 1_000 < len(catalogue.raw(number)) < 4_000
        assert len(document["custom_attributes"]) >= 12


def test_a_configurable_product_names_its_variants() -> None:
    catalogue = Sandbox(products=40, gap=3).catalogue
    parents = [
        document
        for document in map(catalogue.document, catalogue.ids())
        if document["type_id"] == "configurable"
    ]

    for parent in parents:
        children = parent["extension_attributes"]["configurable_product_links"]
        assert len(children) == 8
        for child in map(catalogue.document, children):
            assert (child["visibility"], child["name"].startswith(parent["name"])) == (1, True)


@pytest.mark.parametrize("gap", [1, 2, 7])
def test_a_sku_is_unique_and_leads_back_to_its_product(gap: int) -> None:
    catalogue = Sandbox(products=200, gap=gap).catalogue
    numbers = catalogue.ids()
    skus = [catalogue.document(number)["sku"] for number in numbers]

    assert len(set(skus)) == len(set(numbers)) == 200
    assert numbers == sorted(numbers)
    assert [catalogue.ids_with_sku(sku) for sku in skus] == [[number] for number in numbers]


def test_an_edit_changes_the_document_and_its_stamp(catalogue: Catalogue) -> None:
    before = catalogue.document(3)

    catalogue.edit(3, name="Renamed", price=20.0, color="99")

    after = catalogue.document(3)
    assert after == before | {
        "name": "Renamed",
        "price": 20,
        "updated_at": NOW_TEXT,
        "custom_attributes": after["custom_attributes"],
    }
    assert attributes(after) == attributes(before) | {"color": "99"}
    assert b'"price":20,' in catalogue.raw(3)


def test_a_silent_edit_leaves_the_stamp(catalogue: Catalogue) -> None:
    stamp = catalogue.document(3)["updated_at"]

    catalogue.edit(3, touch=False, price=1.5)

    assert (catalogue.document(3)["price"], catalogue.document(3)["updated_at"]) == (1.5, stamp)


def test_a_re_stamp_moves_updated_at_and_nothing_else(catalogue: Catalogue) -> None:
    before = catalogue.document(3)

    catalogue.restamp(3)

    assert catalogue.document(3) == before | {"updated_at": NOW_TEXT}


def test_a_stamp_can_be_set_and_still_moves_with_the_next_edit(catalogue: Catalogue) -> None:
    catalogue.edit(3, updated_at="2022-02-02 02:02:02")
    assert catalogue.document(3)["updated_at"] == "2022-02-02 02:02:02"

    catalogue.edit(3, name="Renamed")

    assert catalogue.document(3)["updated_at"] == NOW_TEXT


def test_none_removes_a_field_or_an_attribute(catalogue: Catalogue) -> None:
    catalogue.edit(3, weight=None, description=None)

    document = catalogue.document(3)
    assert "weight" not in document
    assert "description" not in attributes(document)


def test_an_edit_in_one_store_view_stays_there(catalogue: Catalogue) -> None:
    catalogue.edit(3, name="Everywhere")
    catalogue.edit(3, store_view="de", name="Nur hier")
    catalogue.edit(3, name="Everywhere again")

    names = {view: catalogue.document(3, view)["name"] for view in ("all", "default", "de")}
    assert names == {"all": "Everywhere again", "default": "Everywhere again", "de": "Nur hier"}


def test_objects_are_merged_deeply_and_lists_replaced(catalogue: Catalogue) -> None:
    before = catalogue.document(3)["extension_attributes"]

    catalogue.edit_raw(3, {"extension_attributes": {"website_ids": [1, 2]}})

    assert catalogue.document(3)["extension_attributes"] == before | {"website_ids": [1, 2]}


def test_a_new_product_is_simple_and_gets_the_next_id(catalogue: Catalogue) -> None:
    catalogue.delete(40)

    number = catalogue.add(name="New")

    document = catalogue.document(number)
    assert (number, document["type_id"], document["name"]) == (41, "simple", "New")
    assert document["created_at"] == document["updated_at"] == NOW_TEXT


def test_a_hand_made_document_is_served_as_it_is(catalogue: Catalogue) -> None:
    odd = {"id": "77", "sku": None, "custom_attributes": {"3": "sparse"}, "price": "free"}

    number = catalogue.add_document(odd, product_id=77)

    assert number in catalogue.ids()
    assert json.loads(catalogue.raw(77)) == odd


def test_deleted_products_leave_the_list_and_come_back_unchanged(catalogue: Catalogue) -> None:
    before = catalogue.raw(3)

    catalogue.delete_many([2, 3, 4])
    assert catalogue.ids()[:3] == [1, 5, 6]
    catalogue.restore(3)

    assert catalogue.ids()[:3] == [1, 3, 5]
    assert catalogue.raw(3) == before
    catalogue.keep_only([3, 5])
    assert catalogue.ids() == [3, 5]


def test_a_hidden_product_is_in_no_list_but_still_exists(catalogue: Catalogue) -> None:
    catalogue.hide(3)

    assert 3 not in catalogue.ids()
    assert catalogue.exists(3)
    catalogue.show(3)
    assert catalogue.ids()[:3] == [1, 2, 3]


def test_a_late_commit_appears_with_a_stamp_from_before(catalogue: Catalogue, clock: Clock) -> None:
    catalogue.late_commit(3, stamp=NOW + 5, visible_at=NOW + 12, name="Late")
    catalogue.late_commit(99, stamp=NOW + 6, visible_at=NOW + 12, name="Late and new")

    clock.now = NOW + 11
    assert catalogue.document(3)["name"] != "Late"
    assert 99 not in catalogue.ids()

    clock.now = NOW + 12
    assert (catalogue.document(3)["name"], catalogue.document(3)["updated_at"]) == (
        "Late",
        "2023-11-14 22:13:25",
    )
    assert catalogue.document(99)["created_at"] == "2023-11-14 22:13:26"


def test_editing_what_does_not_exist_is_an_error(catalogue: Catalogue) -> None:
    with pytest.raises(KeyError):
        catalogue.edit(999, name="Nobody")
    with pytest.raises(ValueError, match="exists already"):
        catalogue.restore(3)


def test_half_a_million_products_take_a_few_megabytes() -> None:
    tracemalloc.start()
    try:
        catalogue = Sandbox(products=500_000).catalogue
        for number in range(1, 500_000, 500):
            catalogue.raw(number)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 20_000_000
