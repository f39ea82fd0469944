"""The benchmarks measure what they say: the floor does the same work, and a miss is a miss."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from benchmarks import floor, pacing
from benchmarks.loads import Pair, pairs
from benchmarks.processes import Cost
from benchmarks.results import Result, save, table
from benchmarks.tenant import Request
from sync.db.schema import CHILDREN, product_changes, products
from sync.sandbox import Sandbox
from tests.databases import Kind, NewDatabase, opened
from tests.kit import Bench

PRODUCTS = 340  # two pages, and every kind of product
OWN_TO_A_RUN = {"first_seen_at", "changed_at", "run_id", "change_id"}


@pytest.fixture
def tenant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A tenant that the floor finds in the environment."""
    with Sandbox(products=PRODUCTS) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        yield sandbox


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_floor_writes_the_rows_that_a_backfill_writes(
    tenant: Sandbox, new_database: NewDatabase, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = new_database(kind), new_database(kind)
    monkeypatch.setenv("DATABASE_URL", theirs)

    with opened(ours) as db:
        Bench(tenant, db, page_size=300).backfill()
        expected = _rows(db)
    with opened(theirs) as db:
        floor.main(PRODUCTS, throw_away=False)
        assert _rows(db) == expected

    assert all(expected.values())


def test_the_floor_that_throws_pages_away_downloads_every_page_once(tenant: Sandbox) -> None:
    floor.main(PRODUCTS, throw_away=True)

    pages = [request for request in tenant.requests if request.kind == "page"]
    assert sorted((page.after_id, page.items_count) for page in pages) == [(0, 300), (300, 40)]


def _rows(db: sa.Engine) -> dict[str, list[str]]:
    """Every product table's rows without what differs from run to run, in an order of their own."""
    found = {}
    with db.connect() as connection:
        for each in (products, *CHILDREN, product_changes):
            columns = [column for column in each.c if column.name not in OWN_TO_A_RUN]
            found[each.name] = sorted(str(tuple(row)) for row in connection.execute(sa.select(*columns)))
    return found


# --- verdicts --------------------------------------------------------------------------------

MEASURED = Result("first load", "x wall", 1.6, 1.5, "8 s", "5 s", {})


def test_a_result_above_its_limit_does_not_hold() -> None:
    assert not MEASURED.holds
    assert dataclasses.replace(MEASURED, value=1.5).holds


def test_a_result_that_must_be_reached_holds_from_there_on() -> None:
    used = dataclasses.replace(MEASURED, value=0.95, limit=0.95, at_least=True)

    assert used.holds
    assert not dataclasses.replace(used, value=0.94).holds


def test_a_result_without_a_target_is_only_reported() -> None:
    assert dataclasses.replace(MEASURED, limit=None).holds


def test_the_report_says_what_held_in_the_table_and_in_the_file(tmp_path: Path) -> None:
    save([MEASURED], tmp_path / "new" / "out.json", "smoke")

    assert "| first load | 8 s          | 5 s   | 1.6 x wall | ≤ 1.5  | NO    |" in table([MEASURED])
    (saved,) = json.loads((tmp_path / "new" / "out.json").read_text())["results"]
    assert (saved["value"], saved["limit"], saved["holds"]) == (1.6, 1.5, False)


def test_both_programs_take_turns_at_going_first() -> None:
    """Whatever warms up or slows down the machine meets both."""
    order: list[str] = []

    def program(name: str) -> Any:
        def run() -> Cost:
            order.append(name)
            return Cost(1.0 if name == "ours" else 2.0, 0.0, 0.0, "")

        return run

    found = pairs(2, program("ours"), program("floor"))

    assert order == ["floor", "ours", "ours", "floor"]
    assert found == [Pair(Cost(1.0, 0, 0, ""), Cost(2.0, 0, 0, ""))] * 2


def test_requests_in_flight_are_counted_over_the_settled_part_of_a_run() -> None:
    """Four at once at the start; from then on one request of a second after the other."""
    burst = [Request(200, 0.0, 1.0)] * 4
    steady = [Request(200, float(at), 1.0) for at in range(1, 11)]

    assert pacing.in_flight([*burst, *steady], from_s=0.0) == pytest.approx(1.3)
    assert pacing.in_flight([*burst, *steady], from_s=4.0) == pytest.approx(1.0)
