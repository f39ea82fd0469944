"""After a reference pass the copy knows what values in products refer to, and what changed of it."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from sync.commerce.reference import Reference
from sync.db import overview
from sync.db.engine import reading
from sync.db.schema import (
    attribute_options,
    attribute_sets,
    attributes,
    categories,
    product_attributes,
    product_changes,
    reference_changes,
    store_groups,
    store_views,
    sync_runs,
    websites,
)
from sync.errors import AccessDenied, AnswerUnreadable, CommerceUnavailable, LeaseHeld
from sync.passes.reference import reference
from sync.passes.run import Summary
from sync.sandbox import Sandbox
from tests.kit import Bench, Stopped, stop_at

pytestmark = pytest.mark.slow

TABLES = (attributes, attribute_options, attribute_sets, categories, websites, store_groups, store_views)
GEAR = 3  # a category below the default one that has others below itself


def refresh(bench: Bench, *, allow_mass_delete: bool = False) -> Summary:
    return reference(bench.sync(), allow_mass_delete=allow_mass_delete)


@pytest.fixture
def read(bench: Bench) -> Bench:
    """A copy with products and reference data."""
    refresh(bench)
    bench.backfill()
    return bench


def everything_in(bench: Bench) -> list[list[Any]]:
    return [bench.rows(table) for table in TABLES]


def changes(bench: Bench) -> list[tuple[str, dict[str, Any], str, Any]]:
    return [(row.table_name, row.row_key, row.kind, row.fields) for row in bench.rows(reference_changes)]


def labels(bench: Bench, code: str, store_view: str = "all") -> dict[str, str]:
    where = attribute_options.c.attribute_code == code, attribute_options.c.store_view == store_view
    return {row.option_value: row.label for row in bench.rows(attribute_options, *where)}


def paths(bench: Bench, store_view: str = "all") -> dict[int, str]:
    found = bench.rows(categories, categories.c.store_view == store_view)
    return {row.category_id: row.path for row in found}


def with_value(bench: Bench, code: str, value: str, store_view: str = "all") -> list[int]:
    """Products here that have an option, alone or among others."""
    where = product_attributes.c.attribute_code == code, product_attributes.c.store_view == store_view
    found = bench.rows(product_attributes, *where)
    return [row.product_id for row in found if value in row.value.split(",")]


def asked(bench: Bench, part: str = "/V1/products/attributes") -> int:
    """How many requests the tenant has had for something."""
    return sum(1 for served in bench.sandbox.requests if served.path.endswith(part))


def statuses(bench: Bench) -> list[str]:
    return [row.status for row in bench.rows(sync_runs)]


# --- what is read ----------------------------------------------------------------------------


def assert_reference_is_exact(bench: Bench) -> None:
    tenant = bench.sandbox.reference
    for view in bench.store_views:
        for attribute in tenant.attributes(view):
            options = {it["value"]: it["label"] for it in attribute["options"] if it["value"]}
            assert labels(bench, attribute["attribute_code"], view) == options
        listed = {it["id"]: (it["name"], it["path"], it.get("is_active")) for it in tenant.categories(view)}
        here = bench.rows(categories, categories.c.store_view == view)
        assert {row.category_id: (row.name, row.path_ids, row.is_active) for row in here} == listed
    assert {row.attribute_code: row.attribute_id for row in bench.rows(attributes)} == {
        it["attribute_code"]: it["attribute_id"] for it in tenant.attributes()
    }
    assert {row.attribute_set_id: row.name for row in bench.rows(attribute_sets)} == {
        it["attribute_set_id"]: it["attribute_set_name"] for it in tenant.attribute_sets()
    }


def test_everything_is_here_on_three_databases(tenant: Sandbox, db: sa.Engine) -> None:
    """Read, changed in every way, and read again."""
    bench = Bench(tenant, db, store_views=("all", "de"), max_delete_fraction=1.0)
    summary = refresh(bench)
    assert_reference_is_exact(bench)
    assert (summary.tally.inserted, summary.status) == (len(changes(bench)), "succeeded")

    tenant.reference.add_option("color", "Petrol \x00 \ud83d<b>", {"de": "Ölblau"})
    tenant.reference.rename_option("material", "31", "Stainless", {"de": "Edelstahl"})
    tenant.reference.delete_option("material", "32")
    tenant.reference.add_attribute("fabric")
    tenant.reference.delete_attribute("size")
    tenant.reference.rename_category(GEAR, "Tools")
    tenant.reference.delete_category(tenant.reference.add_category(GEAR, "Gone at once"))
    summary = refresh(bench)

    assert summary.status == "succeeded", summary.held_back
    assert "Ölblau" in labels(bench, "color", "de").values()
    assert "Petrol ␀ \ufffd<b>" in labels(bench, "color").values()
    assert labels(bench, "material", "de")["31"] == "Edelstahl"
    assert labels(bench, "size") == labels(bench, "size", "de") == {}
    assert refresh(bench).tally.unchanged == summary.tally.fetched


def test_what_has_no_store_view_is_here_once(tenant: Sandbox, sqlite: sa.Engine) -> None:
    refresh(Bench(tenant, sqlite, store_views=("default", "de")))
    bench = Bench(tenant, sqlite)

    codes = [row.code for row in bench.rows(store_views)]
    assert sorted(codes) == ["admin", "de", "default"]
    assert {row.website_id for row in bench.rows(store_groups)} <= {
        row.website_id for row in bench.rows(websites)
    }
    assert {row.store_view for row in bench.rows(categories)} == {"default", "de"}


def test_labels_are_those_of_each_store_view_and_no_choice_is_no_option(
    tenant: Sandbox, sqlite: sa.Engine
) -> None:
    bench = Bench(tenant, sqlite, store_views=("all", "de"))
    value = tenant.reference.add_option("color", "Sea green", {"de": "Seegrün"})

    refresh(bench)

    assert (labels(bench, "color")[value], labels(bench, "color", "de")[value]) == ("Sea green", "Seegrün")
    assert not bench.rows(attribute_options, attribute_options.c.option_value == "")


def test_lists_of_many_pages_are_complete(bench: Bench) -> None:
    for number in range(130):
        bench.sandbox.reference.add_attribute(f"size_{number:03}")
        bench.sandbox.reference.add_category(GEAR, f"Shelf {number}")

    refresh(bench)

    assert_reference_is_exact(bench)
    assert asked(bench) >= 4


def test_an_attribute_made_between_two_pages_leaves_nothing_out(bench: Bench) -> None:
    for number in range(60):
        bench.sandbox.reference.add_attribute(f"size_{number:03}")
    pages = Reference(bench.client()).attributes("all")

    listed = next(pages)
    bench.sandbox.reference.add_attribute("aaa")
    bench.sandbox.reference.add_attribute("zzz")
    listed += [item for page in pages for item in page]

    codes = {it["attribute_code"] for it in bench.sandbox.reference.attributes()}
    assert all(any(f'"{code}"'.encode() in item for item in listed) for code in codes)


# --- what changed ----------------------------------------------------------------------------


def test_only_differences_are_written_and_each_is_kept(read: Bench) -> None:
    before = len(changes(read))
    color, old = next(iter(labels(read, "color").items()))
    read.sandbox.reference.rename_option("color", color, "Navy")
    gone = next(iter(labels(read, "material").items()))
    losing = with_value(read, "material", gone[0])
    read.sandbox.reference.delete_option("material", gone[0])
    value = read.sandbox.reference.add_option("size", "Huge")

    summary = refresh(read)

    found = {(entry[0], entry[2]): entry for entry in changes(read)[before:]}
    assert len(found) == 3
    update = found["attribute_options", "update"]
    assert update[1] == {"store_view": "all", "attribute_code": "color", "option_value": color}
    assert update[3] == {"label": {"old": old, "new": "Navy"}}
    assert found["attribute_options", "insert"][1]["option_value"] == value
    assert found["attribute_options", "delete"][3]["label"] == {"old": gone[1]}
    assert (summary.tally.inserted, summary.tally.updated, summary.tally.deleted) == (1, 1 + len(losing), 1)


def test_a_second_pass_writes_nothing(read: Bench) -> None:
    before = everything_in(read), changes(read)

    summary = refresh(read)

    assert summary.tally.fetched == summary.tally.unchanged
    assert (everything_in(read), changes(read)) == before


def test_a_renamed_category_changes_the_paths_below_it(bench: Bench) -> None:
    below = bench.sandbox.reference.add_category(GEAR, "Ropes")
    deeper = bench.sandbox.reference.add_category(below, "Thin")
    refresh(bench)
    assert paths(bench)[deeper].endswith("/Ropes/Thin")

    bench.sandbox.reference.rename_category(below, "Cords")
    refresh(bench)

    renamed = paths(bench)
    assert renamed[1] == "Root Catalog"
    assert renamed[deeper] == f"{renamed[2]}/{renamed[GEAR].split('/')[1]}/Cords/Thin"
    fields = [fields for *_, kind, fields in changes(bench) if kind == "update"]
    assert [("name" in it, "path" in it) for it in fields] == [(True, True), (False, True)]


def test_a_category_may_have_another_name_in_a_store_view(tenant: Sandbox, sqlite: sa.Engine) -> None:
    bench = Bench(tenant, sqlite, store_views=("all", "de"))
    tenant.reference.rename_category(GEAR, "Werkzeug", store_view="de")

    refresh(bench)

    assert paths(bench, "de")[GEAR].endswith("/Werkzeug")
    assert not paths(bench)[GEAR].endswith("/Werkzeug")


def test_an_attribute_that_is_gone_takes_its_options_with_it(read: Bench) -> None:
    count = len(labels(read, "material"))
    read.sandbox.reference.delete_attribute("material")

    summary = refresh(read)

    assert summary.tally.deleted == count + 1
    assert labels(read, "material") == {}
    assert not read.rows(attributes, attributes.c.attribute_code == "material")


# --- what may not be read, or cannot be believed ---------------------------------------------


def test_a_missing_right_is_named_once_and_the_rest_goes_on(bench: Bench) -> None:
    refresh(bench)
    before = paths(bench)
    color = next(iter(labels(bench, "color")))
    bench.sandbox.faults.forbid("categories")
    bench.sandbox.reference.rename_option("color", color, "Navy")

    summary = refresh(bench)

    assert (summary.status, summary.exit_code) == ("partial", 1)
    assert str(summary.held_back).count("The categories were not read") == 1
    assert "Magento_Catalog::categories" in str(summary.held_back)
    assert labels(bench, "color")[color] == "Navy"
    assert paths(bench) == before


def test_where_nothing_may_be_read_the_credential_is_at_fault(bench: Bench) -> None:
    for family in ("attributes", "attribute_sets", "categories", "store"):
        bench.sandbox.faults.forbid(family)

    with pytest.raises(AccessDenied):
        refresh(bench)
    assert statuses(bench) == ["failed"]


def test_an_outage_that_looks_empty_deletes_nothing(read: Bench) -> None:
    before = everything_in(read)
    read.sandbox.faults.empty(kind="reference")

    assert refresh(read).exit_code == 1
    assert everything_in(read) == before


def test_more_deletions_than_allowed_are_held_back_until_they_are_allowed(read: Bench) -> None:
    for value in list(labels(read, "color"))[2:]:
        read.sandbox.reference.delete_option("color", value)
    for value in list(labels(read, "material"))[2:]:
        read.sandbox.reference.delete_option("material", value)
    read.max_delete_fraction = 0.1

    held = refresh(read)
    assert (held.tally.deleted, held.status) == (0, "partial")
    assert "attribute_options" in str(held.held_back)

    assert refresh(read, allow_mass_delete=True).tally.deleted > 10
    assert_reference_is_exact(read)


def test_a_single_row_may_go_however_few_there_are(read: Bench) -> None:
    """One of five attribute sets is a fifth; one more than a tenth."""
    read.max_delete_fraction = 0.0
    read.execute("INSERT INTO attribute_sets VALUES (999, 'Of yesterday', 0)")

    assert refresh(read).tally.deleted == 1


def test_what_is_listed_when_asked_again_stays(bench: Bench) -> None:
    """An attribute is missing from the list, and there when it is asked for by its code."""
    bench.sandbox.reference.add_attribute("fabric")
    refresh(bench)
    bench.sandbox.reference.delete_attribute("fabric")

    def put_back(step: int) -> None:
        if step == 1:
            bench.sandbox.reference.add_attribute("fabric")

    bench.watch = type(bench.watch)(at_page=put_back)
    summary = refresh(bench)

    assert (summary.tally.deleted, summary.status) == (0, "succeeded")
    assert bench.rows(attributes, attributes.c.attribute_code == "fabric")


def test_a_first_answer_that_is_empty_changes_nothing(read: Bench) -> None:
    before = everything_in(read)
    read.sandbox.faults.empty(kind="reference", times=1)

    refresh(read)

    assert everything_in(read) == before


def test_a_tenant_out_of_reach_ends_the_pass(read: Bench) -> None:
    before = everything_in(read)
    read.max_retry_time = 0.2
    read.sandbox.faults.fail(status=503, kind="reference")

    with pytest.raises((CommerceUnavailable, AnswerUnreadable)):
        refresh(read)
    assert everything_in(read) == before


# --- runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_pass_killed_in_the_middle_is_made_up_for_by_the_next(bench: Bench, step: int) -> None:
    bench.watch = type(bench.watch)(at_page=stop_at(step))
    with pytest.raises(Stopped):
        refresh(bench)

    bench.watch = type(bench.watch)()
    assert refresh(bench).status == "succeeded"

    assert_reference_is_exact(bench)
    inserted = [(table, tuple(key.items())) for table, key, kind, _ in changes(bench) if kind == "insert"]
    assert len(inserted) == len(set(inserted)) == sum(map(len, everything_in(bench)))


def test_it_waits_for_nobody(bench: Bench) -> None:
    """Another pass is at work on the same database."""
    other = Bench(bench.sandbox, bench.db, owner="another")

    def meanwhile(page: int) -> None:
        with pytest.raises(LeaseHeld):
            refresh(other)

    bench.watch = type(bench.watch)(at_page=meanwhile)
    refresh(bench)

    assert statuses(bench) == ["succeeded"]


def test_status_tells_when_each_kind_of_pass_last_came_through(read: Bench) -> None:
    read.sandbox.faults.forbid("categories")
    refresh(read)

    feeds = reading(read.db, overview.feeds)

    assert [(feed.kind, feed.status, feed.run_id) for feed in feeds] == [
        ("reference", "partial", 3),
        ("backfill", "succeeded", 2),
    ]
    assert all(feed.age.total_seconds() < 60 for feed in feeds)


# --- options on sight ------------------------------------------------------------------------


def use(bench: Bench, value: str, code: str = "color", place: int = 7) -> None:
    bench.sandbox.catalogue.edit(bench.sandbox.catalogue.ids()[place], **{code: value})


def test_a_new_option_is_fetched_when_a_product_has_it_and_only_once(tenant: Sandbox, db: sa.Engine) -> None:
    bench = Bench(tenant, db, store_views=("all", "de"))
    refresh(bench)
    bench.backfill()
    bench.run()
    value = tenant.reference.add_option("color", "Sea green", {"de": "Seegrün"})
    use(bench, value)
    before = asked(bench)

    bench.run()

    assert (labels(bench, "color")[value], labels(bench, "color", "de")[value]) == ("Sea green", "Seegrün")
    assert asked(bench) - before == 2, "once for each store view"
    use(bench, value, place=8)
    bench.run()
    assert asked(bench) - before == 2


@pytest.mark.parametrize("read_by", ["run", "reconcile", "backfill", "run_named"])
def test_every_pass_over_products_does_so(read: Bench, read_by: str) -> None:
    color = read.sandbox.reference.add_option("color", "Sea green")
    felt = read.sandbox.reference.add_option("material", "Felt")
    use(read, color)
    use(read, f"31,{felt}", "material")
    numbers = {"ids": [read.sandbox.catalogue.ids()[7]]} if read_by == "run_named" else {}

    getattr(read, read_by)(**numbers)

    assert labels(read, "color")[color] == "Sea green"
    assert labels(read, "material")[felt] == "Felt"


def test_a_value_that_is_no_option_is_asked_for_once(read: Bench) -> None:
    value = "999999"
    use(read, value)
    before = asked(read)

    read.run()
    assert asked(read) == before + 1

    use(read, value, place=9)
    read.run()
    refresh(read)
    before = asked(read)
    use(read, value, place=10)
    read.run()
    assert asked(read) == before


def test_without_a_reference_pass_nothing_is_fetched(bench: Bench) -> None:
    bench.backfill()
    use(bench, bench.sandbox.reference.add_option("color", "Sea green"))

    bench.run()

    assert asked(bench) == 0
    assert not bench.rows(attribute_options)


def test_a_run_that_was_killed_before_it_looked_is_made_up_for(read: Bench) -> None:
    value = read.sandbox.reference.add_option("color", "Sea green")
    use(read, value)
    read.watch = type(read.watch)(at_page=stop_at(1))
    with pytest.raises(Stopped):
        read.run()
    assert value not in labels(read, "color")

    read.watch = type(read.watch)()
    read.run()

    assert labels(read, "color")[value] == "Sea green"


def test_options_that_may_not_be_read_cost_the_run_no_product(read: Bench) -> None:
    value = read.sandbox.reference.add_option("color", "Sea green")
    use(read, value)
    read.sandbox.faults.forbid("attributes")

    summary = read.run()

    assert (summary.tally.updated, summary.status) == (1, "partial")
    assert "Magento_Catalog::attributes_attributes" in str(summary.held_back)
    read.assert_copy_is_exact()

    read.sandbox.faults.permit("attributes")
    read.run()
    assert labels(read, "color")[value] == "Sea green"


# --- what the tenant cannot show -------------------------------------------------------------


def codes(bench: Bench) -> set[str]:
    return {row.attribute_code for row in bench.rows(attributes)}


def test_a_broken_attribute_is_named_and_everything_else_is_read(bench: Bench) -> None:
    """Its source class is gone: each page that holds it is 500, for ever; first seen by an empty copy."""
    there = {it["attribute_code"] for it in bench.sandbox.reference.attributes()}
    for code in [*sorted(there)[::6], max(there)]:
        bench.sandbox.faults.break_item("attributes", code)
        bench.execute("DELETE FROM sync_state")

        summary = refresh(bench)

        assert (summary.exit_code, str(summary.held_back).count(code)) == (1, 1), code
        assert codes(bench) >= there - {code}
        assert bench.rows(categories)
        assert bench.rows(websites)
        bench.sandbox.faults.mend_item("attributes", code)


@pytest.mark.parametrize("code", ["a", "zz_9", "my__odd_code_of_a_removed_extension_7"])
def test_a_broken_attribute_that_no_copy_knows_is_spelled_out(bench: Bench, code: str) -> None:
    bench.sandbox.reference.add_attribute(code)
    bench.sandbox.faults.break_item("attributes", code)

    assert f" {code}, " in str(refresh(bench).held_back)


def test_several_broken_attributes_next_to_each_other_are_named_too(bench: Bench) -> None:
    broken = ["brand_a", "brand_b", "brand_b_2", "zzz", "zzzz"]
    for code in broken:
        bench.sandbox.reference.add_attribute(code)
        bench.sandbox.faults.break_item("attributes", code)
    there = {it["attribute_code"] for it in bench.sandbox.reference.attributes()}

    summary = refresh(bench)

    assert codes(bench) == there - set(broken)
    assert all(f" {code}, " in str(summary.held_back) for code in broken)


def test_a_broken_attribute_keeps_its_rows_and_is_asked_for_once_a_day(read: Bench) -> None:
    before = labels(read, "material")
    read.sandbox.faults.break_item("attributes", "material")
    assert refresh(read).exit_code == 1

    requests = len(read.sandbox.requests)
    again = refresh(read)

    assert (again.exit_code, str(again.held_back).count("material")) == (1, 1)
    assert all(served.status == 200 for served in read.sandbox.requests[requests:])
    assert (labels(read, "material"), "material" in codes(read)) == (before, True)

    read.sandbox.faults.mend_item("attributes", "material")
    value = read.sandbox.reference.add_option("material", "Felt")
    assert refresh(read).exit_code == 1
    read.execute("UPDATE sync_state SET value = replace(value, '20', '19') WHERE name = 'reference_broken'")
    assert refresh(read).exit_code == 0
    assert labels(read, "material")[value] == "Felt"
    assert refresh(read).exit_code == 0


def test_a_run_that_meets_options_of_a_broken_attribute_does_not_wait(read: Bench) -> None:
    """Once it is named by whichever pass meets it, further runs neither ask nor speak of it."""
    read.sandbox.faults.break_item("attributes", "color")
    read.sandbox.reference.rename_option("material", "31", "Inox")
    use(read, "998")
    first = read.run()
    assert (first.exit_code, str(first.held_back).count(" color, ")) == (1, 1)

    before = asked(read)
    use(read, "999", place=8)
    second = read.run()

    assert (second.exit_code, second.held_back, asked(read)) == (0, None, before)


def test_broken_categories_and_sets_are_named_and_the_others_are_read(bench: Bench) -> None:
    refresh(bench)
    bench.sandbox.faults.break_item("categories", GEAR)
    bench.sandbox.faults.break_item("attribute_sets", 4)
    other = bench.sandbox.reference.add_category(2, "Other")

    summary = refresh(bench)

    assert summary.exit_code == 1
    assert f"categories, {GEAR}, " in str(summary.held_back)
    assert "attribute sets, 4, " in str(summary.held_back)
    assert {GEAR, other} <= paths(bench).keys()
    assert 4 in {row.attribute_set_id for row in bench.rows(attribute_sets)}


def test_an_outage_is_no_broken_attribute(bench: Bench) -> None:
    """Everything fails after the first page: nothing is named, and the run waits and ends with 69."""
    refresh(bench)
    before = everything_in(bench)
    bench.max_retry_time = 0.2
    bench.sandbox.faults.fail(500, kind=None)

    with pytest.raises(CommerceUnavailable):
        refresh(bench)
    bench.sandbox.faults.clear()

    assert everything_in(bench) == before
    assert refresh(bench).exit_code == 0


def test_lists_that_always_fail_are_named_soon_and_the_rest_is_read(bench: Bench) -> None:
    """Every attribute, set and category; not one item of them is looked for."""
    bench.sandbox.faults.fail(500, kind="reference")

    summary = refresh(bench)

    assert summary.exit_code == 1
    assert len(bench.sandbox.requests) <= 30
    assert bench.rows(store_views)


# --- what products lose ----------------------------------------------------------------------


def test_a_deleted_option_leaves_the_products_and_they_are_read_again(tenant: Sandbox, db: sa.Engine) -> None:
    """Of a select and of a multiselect, in each store view; no stamp moves."""
    bench = Bench(tenant, db, store_views=("all", "de"), page_size=10)
    refresh(bench)
    tenant.catalogue.edit(tenant.catalogue.ids()[7], touch=False, material="31,32")
    bench.backfill()
    color = next(value for value in labels(bench, "color") if with_value(bench, "color", value))
    losing = {*with_value(bench, "color", color), *with_value(bench, "material", "31")}
    tenant.reference.delete_option("color", color)
    tenant.reference.delete_option("material", "31")
    assert bench.run().tally.updated == 0
    last = bench.changes()[-1].change_id

    summary = refresh(bench)

    assert summary.exit_code == 0
    bench.assert_copy_is_exact()
    for view in ("all", "de"):
        assert not with_value(bench, "color", color, view)
        assert not with_value(bench, "material", "31", view)
    entries = bench.rows(product_changes, product_changes.c.change_id > last)
    assert {(it.store_view, it.product_id, it.kind) for it in entries} == {
        (view, number, "update") for view in ("all", "de") for number in losing
    }
    requests = len(tenant.requests)
    refresh(bench)
    assert not any(it.path.endswith("/V1/products") for it in tenant.requests[requests:])


def test_deleted_attributes_and_categories_leave_the_products_too(read: Bench) -> None:
    read.sandbox.reference.delete_attribute("material")
    read.sandbox.reference.delete_category(GEAR)
    read.max_delete_fraction = 1.0

    refresh(read)

    read.assert_copy_is_exact()


def test_products_of_a_deleted_option_are_read_after_a_crash(read: Bench) -> None:
    """The run ended after the option was deleted here and before its products were read."""
    read.sandbox.reference.delete_option("material", "31")
    read.sandbox.faults.deny(kind="page")
    with pytest.raises(AccessDenied):
        refresh(read)
    assert "31" not in labels(read, "material")
    read.sandbox.faults.clear()

    refresh(read)

    read.assert_copy_is_exact()
