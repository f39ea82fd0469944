"""One store view is asked for all while all list the same, and each for itself where they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sync.db.products import differ
from sync.db.schema import products
from sync.passes import alike
from sync.passes.run import start
from sync.sandbox import Sandbox
from tests.kit import NOON, Bench

VIEWS = ("all", "de", "fr", "it")


@pytest.fixture
def four(sqlite: sa.Engine) -> Iterator[Bench]:
    with Sandbox(products=60, gap=3, store_views=("default", *VIEWS[1:])) as sandbox:
        yield Bench(sandbox, sqlite, store_views=VIEWS, page_size=10, overlap=timedelta())


def asked(bench: Bench) -> list[tuple[str, str]]:
    """Which store views a run asks, and what."""
    before = len(bench.sandbox.requests)
    assert bench.run().exit_code == 0
    seen = [it for it in bench.sandbox.requests[before:] if it.kind != "token"]
    return [(it.kind, it.store_view) for it in seen]


def test_a_run_without_changes_takes_three_requests_however_many_store_views(four: Bench) -> None:
    four.backfill()

    runs = [asked(four) for _ in range(2)]

    assert [[kind for kind, _ in run] for run in runs] == [["count"] * 3] * 2
    assert {view for run in runs for _, view in run} == set(VIEWS)


def test_edits_and_deletions_reach_every_store_view(four: Bench) -> None:
    four.backfill()
    catalogue = four.sandbox.catalogue
    first, second, third, *_ = catalogue.ids()
    catalogue.edit(first, name="Another name")
    catalogue.delete(second)
    catalogue.edit(third, name="Nur hier", store_view="de")
    catalogue.add(name="New here")

    four.run()

    four.assert_copy_is_exact()
    assert asked(four)


def test_a_deletion_alone_is_found_in_every_store_view(four: Bench) -> None:
    four.backfill()
    four.sandbox.catalogue.delete(four.sandbox.catalogue.ids()[7])

    assert four.run().tally.deleted == 4

    four.assert_copy_is_exact()


def test_store_views_that_differ_are_each_asked_until_a_reconcile_finds_them_alike(four: Bench) -> None:
    """The difference is made in the copy: the sandbox has one stamp for all store views, as Commerce does."""
    four.backfill()
    one = sa.and_(products.c.store_view == "fr", products.c.product_id == four.sandbox.catalogue.ids()[5])
    with four.db.begin() as tx:
        tx.execute(products.update().where(one).values(updated_at=NOON - timedelta(days=9_000)))
    with start(four.sync(), "backfill") as run:
        run.note_server_time(four.sync().source.count("all").server_time)
        alike.note(run)

    assert Counter(view for _, view in asked(four)) == dict.fromkeys(VIEWS, 3)

    four.reconcile()

    assert len(asked(four)) == 3


@pytest.mark.parametrize("column", ["updated_at", "deleted_at"])
def test_another_stamp_and_another_product_are_differences(four: Bench, column: str) -> None:
    """Either way round; what was stamped during the pass is none."""
    four.backfill()
    one = sa.and_(products.c.store_view == "fr", products.c.product_id == four.sandbox.catalogue.ids()[5])
    with four.db.begin() as tx:
        tx.execute(products.update().where(one).values({column: NOON - timedelta(days=9_000)}))
        found = [
            differ(tx, *pair, NOON + timedelta(days=9_000))
            for pair in (("fr", "de"), ("de", "fr"), ("de", "it"))
        ]
        early = differ(tx, "fr", "de", NOON - timedelta(days=9_999))

    assert (found, early) == ([True, True, False], False)


def test_a_store_view_that_is_gone_shows_within_a_few_runs(four: Bench) -> None:
    four.backfill()
    four.sandbox.faults.drop_store_view("it")

    found = [four.run() for _ in range(2)]

    assert "store view it" in " ".join(str(it.held_back) for it in found)
