"""A page that was read before costs a hash, and hides nothing of what changed, there or here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from sync import pipeline
from sync.compare import CompareMode
from sync.db import pages
from sync.db.dialects import Money, UtcDateTime
from sync.db.schema import CHILDREN, product_attributes, products, sync_pages
from sync.model import Interval, Page, RawProduct
from sync.pipeline import Arrival
from sync.sandbox import Sandbox
from tests.kit import Bench, unfenced

PAGES, PAGE_SIZE = 4, 25


@pytest.fixture
def bench(db: sa.Engine) -> Iterator[Bench]:
    """A copy just loaded: every page of it is known, and its rows too."""
    with Sandbox(PAGES * PAGE_SIZE) as sandbox:
        bench = Bench(sandbox, db, page_size=PAGE_SIZE, concurrency=1)
        bench.backfill()
        yield bench


def listen(db: sa.Engine) -> list[str]:
    """The statements that it will get."""
    statements: list[str] = []
    sa.event.listen(db, "before_cursor_execute", lambda _c, _k, statement, *_: statements.append(statement))
    return statements


def assert_rows_are_known(bench: Bench) -> None:
    with bench.db.connect() as connection:
        for row in bench.rows(sync_pages):
            span = Interval(row.after_id, row.last_id)
            assert pages.hash_of_copy(connection, "all", span) == row.copy_hash
            assert pages.hash_of_rows(connection, "all", span) == row.rows_hash
            assert pages.hash_of_rows(connection, "all", span, is_heavy=True) == row.rows_hash


def test_every_page_is_known_with_what_it_says(bench: Bench) -> None:
    known = bench.rows(sync_pages)

    assert [(row.after_id, row.last_id, row.products) for row in known] == [
        (first, first + PAGE_SIZE, PAGE_SIZE) for first in range(0, PAGES * PAGE_SIZE, PAGE_SIZE)
    ]
    assert_rows_are_known(bench)


def test_a_pass_behind_a_load_reads_no_row_of_a_product(bench: Bench) -> None:
    """It asks for a hash of them: what the load wrote it need not compare with its documents."""
    statements = listen(bench.db)

    assert bench.backfill(restart=True).tally.unchanged == PAGES * PAGE_SIZE
    assert bench.reconcile().tally.unchanged == PAGES * PAGE_SIZE

    whole = [s for s in statements if "document" in s and "group_concat" not in s and "hash" not in s.lower()]
    assert whole == []


class Unread(Sequence[RawProduct]):
    """The products of a page that nobody may look at: to split them costs as much as to read them."""

    def __len__(self) -> int:
        return PAGE_SIZE

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("a known page was split into its products")


def test_the_products_of_a_known_page_are_not_looked_at(bench: Bench) -> None:
    with bench.db.connect() as connection:
        known = pages.known(connection, "all")
    found = [page for page in bench.source().walk("all", Interval(), known=known) if isinstance(page, Page)][
        :PAGES
    ]

    for page in found:
        unread = replace(page, products=Unread())
        reading, source = CompareMode(complete=True), bench.source()
        (done,) = pipeline.sync_pages([[Arrival(unread)]], reading, source, unfenced(bench.db))

        assert (done.tally.fetched, done.tally.unchanged) == (PAGE_SIZE, PAGE_SIZE)


def test_a_page_is_remembered_as_it_came_last(bench: Bench) -> None:
    """With one product fewer behind it, each page says another total, of the same products."""
    assert [row.total_count for row in bench.rows(sync_pages)] == [100, 75, 50, 25]

    bench.sandbox.catalogue.delete(PAGES * PAGE_SIZE)
    bench.reconcile()

    assert [row.total_count for row in bench.rows(sync_pages)] == [99, 74, 49, 24]


def test_a_page_that_comes_again_is_remembered_as_it_was(bench: Bench) -> None:
    """Its bytes on the wire are told by their hash, or each pass would remember them anew."""
    before = bench.rows(sync_pages)
    statements = listen(bench.db)

    bench.backfill(restart=True)

    assert [statement for statement in statements if "UPDATE sync_pages" in statement] == []
    assert bench.rows(sync_pages) == before


def test_a_page_of_an_older_version_is_remembered_with_its_answer(bench: Bench) -> None:
    before = bench.rows(sync_pages)
    bench.execute("UPDATE sync_pages SET wire_hash = NULL, total_count = NULL, body_bytes = NULL")

    assert bench.backfill(restart=True).tally.unchanged == PAGES * PAGE_SIZE

    assert bench.rows(sync_pages) == before


EDITS: dict[str, Callable[[Bench], object]] = {
    "edited": lambda bench: bench.sandbox.catalogue.edit(30, name="Renamed"),
    "deleted": lambda bench: bench.sandbox.catalogue.delete(31),
    "added": lambda bench: bench.sandbox.catalogue.add(sku="NEW", price=1),
    "stamped": lambda bench: bench.sandbox.catalogue.restamp(60),
}


def test_what_changed_there_is_seen(bench: Bench) -> None:
    for edit in EDITS.values():
        edit(bench)

        bench.reconcile()

        bench.assert_copy_is_exact()
        bench.assert_feed_tells_who_lives()


HAND_MADE = {
    "a column": "UPDATE products SET name = 'by hand' WHERE product_id = 30",
    "a fingerprint": "UPDATE products SET content_hash = 'x' WHERE product_id = 30",
    "a document": "UPDATE products SET document = '{}' WHERE product_id = 30",
    "a tombstone": "UPDATE products SET deleted_at = changed_at WHERE product_id = 30",
    "a child": "UPDATE product_attributes SET value = 'by hand' WHERE product_id = 30",
    "a null": "UPDATE product_attributes SET value = NULL WHERE product_id = 30",
    "a child gone": "DELETE FROM product_websites WHERE product_id = 30",
    "a product gone": "DELETE FROM products WHERE product_id = 30",
    "a child more": "INSERT INTO product_websites VALUES ('all', 30, 77)",
}


@pytest.mark.slow
def test_what_was_edited_here_is_seen_and_mended(bench: Bench) -> None:
    before = bench.rows(product_attributes)
    for name, sql in HAND_MADE.items():
        bench.execute(sql)

        assert bench.verify(), name
        bench.reconcile()

        assert bench.verify() == [], name
        bench.assert_copy_is_exact()
        assert bench.rows(product_attributes) == before, name


def test_rows_that_were_mended_are_known_once_they_are_compared(bench: Bench) -> None:
    bench.execute(HAND_MADE["a child"])

    bench.reconcile()
    bench.reconcile()

    assert_rows_are_known(bench)


def test_a_load_does_not_vouch_for_what_it_found(bench: Bench) -> None:
    """All that the tenant lists was lost here; what it deleted meanwhile is still here."""
    bench.sandbox.catalogue.delete(30)
    bench.execute("DELETE FROM products WHERE product_id <> 30")

    bench.backfill(interval=Interval(0, PAGES * PAGE_SIZE))

    assert [(drift.kind, drift.examples[0][0]) for drift in bench.verify()] == [("extra", 30)]


def another(kind: sa.types.TypeEngine[object]) -> object:
    """A value of a column's type that no sandbox product has."""
    match kind:
        case Money():
            return Decimal("77.5")
        case UtcDateTime():
            return datetime(2000, 1, 1, tzinfo=UTC)
        case sa.JSON():
            return ["by hand"]
        case sa.Boolean():
            return None
        case sa.String():
            return "by hand"
    return 77


def test_every_column_of_every_table_is_in_the_hash(bench: Bench) -> None:
    """One value of one row is edited, or the row deleted, in a transaction that is undone."""
    everything = Interval(0, PAGES * PAGE_SIZE)
    with bench.db.connect() as connection:
        before = pages.hash_of_rows(connection, "all", everything)
        for table in (products, *CHILDREN):
            row = connection.execute(sa.select(table)).mappings().first()
            assert row is not None, table.name
            this = sa.and_(*(column == row[column.name] for column in table.primary_key))
            edits: list[sa.Update | sa.Delete] = [
                table.update().where(this).values({column.name: another(column.type)})
                for column in table.columns
                if not column.primary_key
            ]
            for edit in (*edits, table.delete().where(this)):
                with connection.begin_nested() as savepoint:
                    connection.execute(edit)
                    after = pages.hash_of_rows(connection, "all", everything)
                    assert after != before, str(edit)
                    assert pages.hash_of_rows(connection, "all", everything, is_heavy=True) == after, str(
                        edit
                    )
                    savepoint.rollback()
        assert pages.hash_of_rows(connection, "all", everything) == before


def test_a_product_that_only_the_copy_has_is_found_among_known_pages(bench: Bench) -> None:
    bench.sandbox.catalogue.delete(30)
    bench.reconcile()
    bench.execute("UPDATE products SET deleted_at = NULL WHERE product_id = 30")

    bench.reconcile()

    assert 30 not in bench.live()


@pytest.mark.parametrize(
    "sql", [HAND_MADE["a product gone"], HAND_MADE["a tombstone"], HAND_MADE["a fingerprint"]]
)
def test_a_load_mends_a_known_page_that_lost_something(bench: Bench, sql: str) -> None:
    bench.execute(sql)

    assert bench.backfill(restart=True).tally.unchanged == PAGES * PAGE_SIZE - ("hash" not in sql)
    bench.assert_copy_is_exact()
    assert {row.content_hash for row in bench.rows(products)} != {"x"}


def test_a_page_replaces_those_it_overlaps(bench: Bench) -> None:
    bench.page_size = 40
    bench.reconcile()
    bench.page_size = PAGE_SIZE
    bench.reconcile()

    known = bench.rows(sync_pages)
    assert [row.after_id for row in known] == list(range(0, PAGES * PAGE_SIZE, PAGE_SIZE))
    assert sum(row.products for row in known) == len(bench.rows(products))
