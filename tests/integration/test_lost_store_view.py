"""A store view that the tenant does not know any more costs its own rows their freshness, and no others."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sync.db.schema import sync_watermarks
from sync.errors import SettingsError
from sync.passes.prices import prices
from sync.passes.reconcile import verify
from sync.passes.reference import reference
from sync.passes.run import Summary
from sync.sandbox import Sandbox
from tests.kit import Bench

pytestmark = pytest.mark.slow


@pytest.fixture(params=["all,de", "de,all"])
def loaded(request: pytest.FixtureRequest, tenant: Sandbox, sqlite: sa.Engine) -> Bench:
    bench = Bench(tenant, sqlite, store_views=tuple(request.param.split(",")), page_size=10)
    bench.overlap *= 0
    bench.backfill()
    return bench


def assert_said_once(summary: Summary) -> None:
    assert (summary.status, summary.exit_code, summary.store_views) == ("partial", 1, ("all",))
    assert str(summary.held_back).count("store view de.") == 1
    assert "forget --store-view de" in str(summary.held_back)


def assert_others_are_exact(bench: Bench) -> None:
    catalogue = bench.sandbox.catalogue
    assert bench.live("all") == {i: catalogue.document(i, "all") for i in catalogue.ids()}


@pytest.mark.parametrize("name", ["run", "reconcile", "backfill"])
def test_every_other_store_view_is_fresh_with_its_edits_and_deletions(loaded: Bench, name: str) -> None:
    catalogue = loaded.sandbox.catalogue
    before = {row.store_view: row.watermark for row in loaded.rows(sync_watermarks)}
    edited, deleted, *_ = catalogue.ids()
    was = loaded.live("de")
    loaded.sandbox.faults.drop_store_view("de")
    catalogue.edit(edited, name="Renamed")
    catalogue.delete(deleted)

    assert_said_once(getattr(loaded, name)())

    assert_others_are_exact(loaded)
    assert loaded.live("de") == was
    after = {row.store_view: row.watermark for row in loaded.rows(sync_watermarks)}
    assert after["de"] == before["de"]
    assert after["all"] >= before["all"]


def test_verify_compares_the_others(loaded: Bench) -> None:
    loaded.sandbox.faults.drop_store_view("de")
    edited = loaded.sandbox.catalogue.ids()[3]
    loaded.sandbox.catalogue.edit(edited, name="Renamed")

    summary, drift = verify(loaded.sync())

    assert_said_once(summary)
    assert [(it.store_view, it.kind, it.count) for it in drift] == [("all", "different", 1)]


def test_prices_reads_again_in_the_others(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[3]
    prices(loaded.sync())
    loaded.sandbox.faults.drop_store_view("de")
    loaded.sandbox.prices.set_base(number, 4711)

    assert_said_once(prices(loaded.sync()))

    assert_others_are_exact(loaded)


def test_reference_reads_the_labels_of_the_others(loaded: Bench) -> None:
    loaded.sandbox.faults.drop_store_view("de")

    assert_said_once(reference(loaded.sync()))


def test_products_by_name_are_read_in_the_others(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[3]
    loaded.sandbox.faults.drop_store_view("de")
    loaded.sandbox.catalogue.edit(number, name="Renamed")

    summary, unknown = loaded.run_named(ids=[number])

    assert_said_once(summary)
    assert unknown == []
    assert_others_are_exact(loaded)


@pytest.mark.parametrize("name", ["run", "reconcile"])
def test_a_store_view_may_go_in_the_middle_of_a_pass(loaded: Bench, name: str) -> None:
    for number in loaded.sandbox.catalogue.ids()[::2]:
        loaded.sandbox.catalogue.edit(number, name="Renamed")
    loaded.watch.at_page = lambda number: loaded.sandbox.faults.drop_store_view("de")

    assert_said_once(getattr(loaded, name)())

    assert_others_are_exact(loaded)


def test_a_store_view_that_was_never_there_keeps_no_other_from_being_read(loaded: Bench) -> None:
    loaded.store_views = ("all", "dee")
    loaded.sandbox.catalogue.edit(loaded.sandbox.catalogue.ids()[3], name="Renamed")

    summary = loaded.run()

    assert (summary.exit_code, str(summary.held_back).count("store view dee.")) == (1, 1)
    assert_others_are_exact(loaded)


def test_a_tenant_that_knows_none_of_them_is_a_matter_of_settings(loaded: Bench) -> None:
    loaded.store_views = ("de", "fr")
    loaded.sandbox.faults.drop_store_view("de")

    for work in (loaded.run, loaded.reconcile):
        with pytest.raises(SettingsError, match="store view"):
            work()


def test_it_is_well_again_when_the_code_is_back(loaded: Bench) -> None:
    loaded.sandbox.faults.drop_store_view("de")
    loaded.sandbox.catalogue.edit(loaded.sandbox.catalogue.ids()[3], name="Renamed")
    loaded.run()
    loaded.sandbox.faults.clear()

    assert loaded.run().exit_code == 0

    loaded.assert_copy_is_exact()
