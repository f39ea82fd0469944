"""A value that the database cannot hold is a note: the product is copied, and the run has succeeded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sync.compare import CompareMode
from sync.db import rejected, tenant
from sync.db.dialects import utc_now
from sync.db.engine import in_transaction, reading
from sync.db.schema import products, rejected_items, sync_runs
from sync.model import Interval, Page, RawProduct, Tally
from sync.passes.run import Summary
from sync.pipeline import Arrival, sync_pages
from tests.kit import Bench, unfenced

pytestmark = pytest.mark.slow

DATED, NULLED, THIRD = 10, 18, 20  # products of the bench
NUL: dict[str, Any] = {"description": "Mesh\x00bag"}
OLD_DATE: dict[str, Any] = {"created_at": "0000-00-00 00:00:00"}
SWEEPS = [Bench.run, Bench.reconcile, lambda bench: bench.backfill(restart=True)]


@pytest.fixture
def loaded(bench: Bench) -> Bench:
    """Two products hold such values."""
    bench.sandbox.catalogue.edit(DATED, **OLD_DATE)
    bench.sandbox.catalogue.edit(NULLED, **NUL)
    bench.backfill()
    return bench


def counted(summary: Summary) -> tuple[str, int, int, int]:
    return summary.status, summary.exit_code, summary.tally.rejected, summary.tally.altered


def open_rows(bench: Bench) -> list[tuple[int, str]]:
    return sorted((row.product_id, row.kind) for row in bench.open_rejections())


def test_the_load_that_copied_them_has_succeeded(loaded: Bench) -> None:
    (run,) = loaded.rows(sync_runs)
    assert (run.status, run.inserted, run.rejected, run.altered) == ("succeeded", 60, 0, 2)
    assert open_rows(loaded) == [(DATED, "altered"), (NULLED, "altered")]
    assert len(loaded.live()) == 60


@pytest.mark.parametrize("again", SWEEPS)
def test_each_pass_that_writes_such_a_product_counts_it_and_has_succeeded(loaded: Bench, again: Any) -> None:
    """An ERP connector touches it every quarter of an hour."""
    for name in ("One", "Two"):
        loaded.sandbox.catalogue.edit(DATED, name=name)

        summary = again(loaded)

        assert counted(summary) == ("succeeded", 0, 0, 1)
        assert (summary.tally.updated, summary.as_json()["altered"]) == (1, 1)
    assert open_rows(loaded) == [(DATED, "altered"), (NULLED, "altered")]


def test_named_and_dry_runs_count_it_too(loaded: Bench) -> None:
    loaded.sandbox.catalogue.edit(DATED, name="One", touch=False)

    assert counted(loaded.run_named(ids=[DATED])[0]) == ("succeeded", 0, 0, 1)
    loaded.sandbox.catalogue.edit(DATED, name="Two")
    assert counted(loaded.run(dry=True)) == ("succeeded", 0, 0, 1)


@pytest.mark.parametrize("again", SWEEPS)
def test_a_pass_that_finds_it_unchanged_writes_nothing_and_the_note_stays(loaded: Bench, again: Any) -> None:
    assert counted(again(loaded)) == ("succeeded", 0, 0, 0)
    assert open_rows(loaded) == [(DATED, "altered"), (NULLED, "altered")]


@pytest.mark.parametrize("again", SWEEPS)
def test_a_rejected_product_beside_it_makes_the_run_partial(loaded: Bench, again: Any) -> None:
    loaded.sandbox.catalogue.edit(DATED, name="One")
    loaded.sandbox.catalogue.edit_raw(THIRD, {"sku": ["no", "text"]})

    assert counted(again(loaded)) == ("partial", 1, 1, 1)
    assert counted_open(loaded) == ({"all": 1}, {"all": 2})


def counted_open(bench: Bench) -> tuple[dict[str, int], dict[str, int]]:
    kinds = rejected.NOT_COPIED, rejected.ALTERED
    return reading(bench.db, lambda tx: tuple(rejected.count_open(tx, it) for it in kinds))  # type: ignore[return-value]


# --- what settles a note ---------------------------------------------------------------------


@pytest.mark.parametrize("again", SWEEPS)
def test_a_value_that_is_mended_there_resolves_the_note(loaded: Bench, again: Any) -> None:
    loaded.sandbox.catalogue.edit(NULLED, description="Mesh bag")

    assert counted(again(loaded)) == ("succeeded", 0, 0, 0)
    assert open_rows(loaded) == [(DATED, "altered")]


def test_a_deleted_product_resolves_its_note(loaded: Bench) -> None:
    loaded.sandbox.catalogue.delete(NULLED)

    loaded.run()

    assert open_rows(loaded) == [(DATED, "altered")]


def test_a_note_made_and_settled_in_one_run_is_resolved(loaded: Bench) -> None:
    """The product is read twice in one run, which began before there was a note."""
    for description in ("Mesh\x00bag", "Mesh bag"):
        raw = json.dumps({"id": THIRD, "sku": "MESH-BAG", "description": description}).encode()
        page = Page("all", Interval(THIRD - 1, THIRD), [RawProduct(THIRD, raw)], 1, None)
        list(
            sync_pages([[Arrival(page)]], CompareMode(filtered=True), loaded.source(), unfenced(loaded.db, 2))
        )

    assert open_rows(loaded) == [(DATED, "altered"), (NULLED, "altered")]


def test_a_product_that_cannot_be_read_for_a_while_keeps_its_note(loaded: Bench) -> None:
    """The note is about the version that the copy holds; the rejection is about the one it could not get."""
    loaded.sandbox.catalogue.restamp(NULLED)
    loaded.sandbox.faults.poison(NULLED)
    assert loaded.run().tally.rejected == 1
    assert open_rows(loaded) == [(DATED, "altered"), (NULLED, "altered"), (NULLED, "unreadable")]

    loaded.sandbox.faults.cure(NULLED)

    assert loaded.run().exit_code == 0
    assert open_rows(loaded) == [(DATED, "altered"), (NULLED, "altered")]


def test_a_rejected_product_that_is_copied_with_a_value_replaced_is_no_longer_rejected(bench: Bench) -> None:
    bench.sandbox.catalogue.edit_raw(NULLED, {"sku": ["no", "text"]})
    assert bench.backfill().exit_code == 1
    bench.sandbox.catalogue.edit_raw(NULLED, {"sku": "TEAPOT-7"})
    bench.sandbox.catalogue.edit(NULLED, **NUL)

    assert counted(bench.run()) == ("succeeded", 0, 0, 1)
    assert open_rows(bench) == [(NULLED, "altered")]


def test_an_adopted_copy_keeps_the_notes_on_the_products_it_keeps(loaded: Bench) -> None:
    """The shop moved to another host: its products come with the same bytes and are not written again."""
    loaded.sandbox.catalogue.edit_raw(THIRD, {"sku": ["no", "text"]})
    loaded.run()

    in_transaction(loaded.db, lambda tx: tenant.adopt(tx, "elsewhere", utc_now(tx)))

    assert open_rows(loaded) == [(DATED, "altered"), (NULLED, "altered")]


def test_rows_mended_after_an_edit_by_hand_keep_the_note(loaded: Bench) -> None:
    loaded.execute("UPDATE products SET name = 'Edited by hand' WHERE product_id = 18")

    assert counted(loaded.reconcile()) == ("succeeded", 0, 0, 1)
    assert "Edited by hand" not in {row.name for row in loaded.rows(products)}
    assert open_rows(loaded) == [(DATED, "altered"), (NULLED, "altered")]


def test_a_note_is_one_row_however_often_it_is_seen(loaded: Bench) -> None:
    for name in ("One", "Two"):
        loaded.sandbox.catalogue.edit(DATED, name=name)
        loaded.run()

    (note,) = loaded.rows(rejected_items, rejected_items.c.product_id == DATED)
    assert (note.attempts, note.resolved_at) == (3, None)


def test_tallies_add_up_and_subtract() -> None:
    one, other = Tally(fetched=3, rejected=1, altered=2), Tally(fetched=1, altered=1)

    assert one + other == Tally(fetched=4, rejected=1, altered=3)
    assert one - other == Tally(fetched=2, rejected=1, altered=1)
