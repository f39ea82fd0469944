"""Law: `verify` after a command that ended with 0 names nothing that was true at its start.

Whatever is edited between commands and during them, and however many commands before were killed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sync.collation import collated
from sync.db.schema import product_prices, products, source_items
from sync.passes.prices import prices
from sync.passes.reference import reference
from sync.passes.run import Summary
from sync.passes.stock import stock
from sync.sandbox import Sandbox
from tests.databases import opened
from tests.kit import Bench, Sightings, Stopped

pytestmark = pytest.mark.slow

VIEWS = ("all", "de")
STORE_IDS = (0, 2)  # theirs
NEW_OPTIONS = 4

# What each command promises of the edits before its start. `stamped` moved `updated_at`; the others did not.
PROMISES = {
    "backfill": {"stamped"},
    "run": {"stamped"},
    "reconcile": {"stamped", "silent", "price", "option"},
    "prices": {"price"},
    "reference": {"option"},
    "stock": {"stock"},
    "run --sku": {"stamped", "silent", "price", "option"},  # of that product
}
EDITS = ("edit", "view", "add", "delete", "make again", "silent", "price", "special", "option", "stock")


class Edit(NamedTuple):
    kind: str
    place: int


class Step(NamedTuple):
    """Some edits, the minutes that pass, and a command that is killed at some moment, 0 for not at all.

    meanwhile    edits during the command, by moment: a page written, or a question about to be sent
    """

    edits: list[Edit]
    minutes: int
    command: str
    place: int
    killed: int
    meanwhile: dict[int, Edit]


class Debt(NamedTuple):
    """An edit that the copy may not have yet; `what` is a product's id, or a SKU with stock."""

    number: int
    reason: str
    what: int | str


edits = st.builds(Edit, st.sampled_from(EDITS), st.integers(0, 999))
steps = st.builds(
    Step,
    st.lists(edits, max_size=4),
    st.sampled_from([0, 1, 60]),
    st.sampled_from(sorted(PROMISES)),
    st.integers(0, 999),
    st.sampled_from([0, 0, 0, 1, 2, 3, 5, 8]),
    st.dictionaries(st.integers(1, 12), edits, max_size=3),
)


class Shop:
    """A tenant whose clock stands still between steps, and its copy."""

    def __init__(self, sandbox: Sandbox, bench: Bench) -> None:
        self.sandbox, self.bench, self.catalogue = sandbox, bench, sandbox.catalogue
        self.options = [sandbox.reference.add_option("color", f"Color {i}") for i in range(NEW_OPTIONS)]
        for i, value in enumerate(self.options):
            self.catalogue.edit(self.catalogue.ids()[5 * i], color=value)
        self.debts: list[Debt] = []
        self.edited = 0

    # --- on the tenant -----------------------------------------------------------------------

    def do(self, edit: Edit) -> None:
        self.edited += 1
        ids = self.catalogue.ids()
        number = ids[edit.place % len(ids)]
        edits: dict[str, Callable[[int], None]] = {
            "edit": lambda i: self.stamped(i, name=self.text()),
            "view": lambda i: self.stamped(i, store_view="de", name=self.text()),
            "add": lambda _: self.add(f"New {self.edited}"),
            "delete": self.delete,
            "make again": self.make_again,
            "silent": self.silent,
            "price": self.price,
            "special": self.special,
            "option": lambda _: self.delete_option(),
            "stock": self.stock,
        }
        edits[edit.kind](number)

    def text(self) -> str:
        return f"Edited {self.edited}"

    def owe(self, reason: str, what: int | str) -> None:
        self.debts.append(Debt(len(self.debts), reason, what))

    def stamped(self, number: int, **fields: Any) -> None:
        self.catalogue.edit(number, **fields)
        self.owe("stamped", number)

    def add(self, sku: str) -> None:
        self.owe("stamped", self.catalogue.add(sku=sku, price=20 + self.edited))
        self.owe("stock", collated(sku))

    def delete(self, number: int) -> None:
        if len(self.catalogue.ids()) > 10:
            self.owe("stock", collated(self.catalogue.sku(number)))
            self.catalogue.delete(number)
            self.owe("stamped", number)

    def make_again(self, number: int) -> None:
        sku = self.catalogue.sku(number)
        self.catalogue.delete(number)
        self.owe("stamped", number)
        self.add(sku.swapcase())

    def silent(self, number: int) -> None:
        self.catalogue.edit(number, touch=False, name=self.text())
        self.owe("silent", number)

    def price(self, number: int) -> None:
        if self.sandbox.prices.takes("base-prices", number):
            self.sandbox.prices.set_base(number, 100 + self.edited, store_id=STORE_IDS[self.edited % 2])
            self.owe("price", number)

    def special(self, number: int) -> None:
        if self.sandbox.prices.takes("special-price", number):
            ends = f"2027-01-{1 + self.edited % 28:02} 00:00:00"
            self.sandbox.prices.set_special(
                number, 5 + self.edited, ends=ends, store_id=STORE_IDS[self.edited % 2]
            )
            self.owe("price", number)

    def delete_option(self) -> None:
        if self.options:
            value = self.options.pop()
            for number in self.catalogue.ids():
                carried = self.catalogue.document(number)["custom_attributes"]
                if {"attribute_code": "color", "value": value} in carried:
                    self.owe("option", number)
            self.sandbox.reference.delete_option("color", value)

    def stock(self, number: int) -> None:
        sku = self.catalogue.sku(number)
        self.sandbox.stock.set("default", sku, float(self.edited))
        self.owe("stock", collated(sku))

    # --- here --------------------------------------------------------------------------------

    def command(self, step: Step) -> bool:
        """Run it; whether it ended with 0."""
        named = self.catalogue.ids()[step.place % len(self.catalogue.ids())]
        due = {
            debt
            for debt in self.debts
            if debt.reason in PROMISES[step.command] and (step.command != "run --sku" or debt.what == named)
        }
        moment = 0

        def pass_moment() -> None:
            nonlocal moment
            moment += 1
            if moment in step.meanwhile:
                self.do(step.meanwhile[moment])
            if moment == step.killed:
                raise Stopped

        self.bench.watch = Sightings(at_page=lambda _: pass_moment())
        self.bench.at_question = lambda _: pass_moment()
        summary = None
        with suppress(Stopped):
            summary = self._pass(step.command, named)
        self.bench.watch, self.bench.at_question = Sightings(), lambda _: None
        if summary is None or summary.exit_code != 0:
            return False
        self.debts = [debt for debt in self.debts if debt not in due]
        return True

    def _pass(self, command: str, named: int) -> Summary:
        passes: dict[str, Callable[[], Summary]] = {
            "backfill": self.bench.backfill,
            "run": self.bench.run,
            "reconcile": self.bench.reconcile,
            "prices": lambda: prices(self.bench.sync()),
            "reference": lambda: reference(self.bench.sync()),
            "stock": lambda: stock(self.bench.sync()),
            "run --sku": lambda: self.bench.run_named(skus=[self.catalogue.sku(named)])[0],
        }
        return passes[command]()

    def owed(self, *, stock: bool) -> set[int | str]:
        return {debt.what for debt in self.debts if (debt.reason == "stock") == stock}

    def unseen_products(self) -> set[int | str]:
        return {number for drift in self.bench.verify() for number, _ in drift.examples}

    def unseen_stock(self) -> set[int | str]:
        there = {(collated(row["sku"]), row["quantity"]) for row in self.sandbox.stock.rows()}
        live = self.bench.rows(source_items, source_items.c.deleted_at.is_(None))
        here = {(collated(row.sku), float(row.quantity)) for row in live}
        return {sku for sku, _ in here ^ there}

    def contradictions(self) -> list[tuple[Any, Any]]:
        """Base prices in `product_prices` that the product does not have."""
        of = {row.product_id: row.price for row in self.bench.rows(products, products.c.store_view == "all")}
        rows = self.bench.rows(
            product_prices, product_prices.c.price_kind == "base", product_prices.c.scope_id == 0
        )
        return [(row.price, of[row.product_id]) for row in rows if row.price != of[row.product_id]]


@contextmanager
def shop(now: list[datetime], overlap: int) -> Iterator[Shop]:
    """A shop whose copy is complete."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(30, gap=2, store_views=("default", "de"), clock=lambda: now[0].timestamp()) as sandbox,
        opened(f"sqlite:///{Path(folder) / 'copy.db'}") as db,
    ):
        bench = Bench(
            sandbox, db, store_views=VIEWS, page_size=6, concurrency=1, overlap=timedelta(minutes=overlap)
        )
        bench.max_delete_fraction, bench.is_dead = 1.0, lambda owner: True
        it = Shop(sandbox, bench)
        for command in ("backfill", "reference", "prices", "stock"):
            assert it.command(Step([], 0, command, 0, 0, {}))
        yield it


ALL_KINDS = [Edit(kind, place) for place, kind in enumerate(EDITS)]
ONE_AFTER_THE_OTHER = [Step(ALL_KINDS, 60, command, 3, 0, {}) for command in PROMISES]
KILLED_AND_RESUMED = [
    step
    for command in PROMISES
    for step in (
        Step(ALL_KINDS, 60, command, 3, 3, {2: Edit("edit", 0), 3: Edit("make again", 1)}),
        Step(
            [Edit("edit", 0), Edit("delete", 4)], 60, command, 3, 0, {1: Edit("price", 7), 5: Edit("edit", 2)}
        ),
    )
]


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@example(history=ONE_AFTER_THE_OTHER, overlap=0)
@example(history=KILLED_AND_RESUMED, overlap=10)
@given(history=st.lists(steps, min_size=3, max_size=8), overlap=st.sampled_from([0, 10]))
def test_verify_after_success_finds_only_what_that_command_does_not_promise(
    history: list[Step], overlap: int
) -> None:
    now = [datetime(2026, 3, 1, 12, tzinfo=UTC)]
    with shop(now, overlap) as it:
        for number, step in enumerate(history):
            for edit in step.edits:
                it.do(edit)
            now[0] += timedelta(minutes=step.minutes)
            if it.command(step):
                assert it.unseen_products() <= it.owed(stock=False), (number, step)
                assert it.unseen_stock() <= it.owed(stock=True), (number, step)
                assert it.contradictions() == [], (number, step)
