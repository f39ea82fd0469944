"""Law: the feed of any history, replayed by SKU, by id or as a log, gives the products that live."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from sync.sandbox import Sandbox
from tests.consumers import assert_all_end_right, assert_no_sku_is_taken_before_it_is_free
from tests.databases import connected, opened
from tests.kit import Bench, Stopped, stop_at

PRODUCTS = 12
VIEWS = ("all", "de")
LETTERS: dict[str, Callable[[str], str]] = {"same": str, "lower": str.lower, "other": str.swapcase}

places = st.integers(0, PRODUCTS - 1)  # of a product among those that exist
edits = st.one_of(
    st.tuples(st.just("edit"), places),
    st.tuples(st.just("add")),
    st.tuples(st.just("delete"), places),
    st.tuples(st.just("make again"), places, st.sampled_from(sorted(LETTERS)), st.booleans()),
    st.tuples(st.just("move"), places, places),
    st.tuples(st.just("exchange"), st.lists(places, min_size=2, max_size=4, unique=True)),
    st.tuples(st.just("bring back"), places),
)
passes = st.sampled_from(
    ["run", "reconcile", "backfill", "run --sku", "kill run", "kill reconcile", "kill backfill"]
)
histories = st.lists(
    st.one_of(edits, edits, edits, st.tuples(passes, places), st.sampled_from([("back up",), ("restore",)])),
    max_size=25,
)


class Shop:
    """A tenant whose SKUs stay unique, as those of Commerce do, and its copy in a file."""

    def __init__(self, tenant: Sandbox, folder: Path, empty: Path) -> None:
        self.folder = folder
        shutil.copy(empty, folder / "copy.db")
        self.catalogue = tenant.catalogue
        self.gone: list[int] = []
        self._url = f"sqlite:///{folder / 'copy.db'}"
        self._number = 0
        self.bench = Bench(tenant, sa.create_engine("sqlite://"), store_views=VIEWS, page_size=3)
        self.bench.max_delete_fraction = 1.0

    @contextmanager
    def open(self) -> Iterator[Bench]:
        with connected(self._url) as engine:
            self.bench.db = engine
            yield self.bench

    def at(self, place: int) -> int:
        ids = self.catalogue.ids()
        return ids[place % len(ids)]

    def new_sku(self) -> str:
        self._number += 1
        return f"New-{self._number}-Sku"

    # --- on the tenant -----------------------------------------------------------------------

    def edit(self, place: int) -> None:
        self.catalogue.edit(self.at(place), name=self.new_sku())

    def add(self) -> None:
        self.catalogue.add(sku=self.new_sku())

    def delete(self, place: int) -> None:
        if len(self.catalogue.ids()) > 3:
            self.gone.append(self.at(place))
            self.catalogue.delete(self.gone[-1])

    def make_again(self, place: int, letters: str, low: bool) -> None:
        """Under a higher id, or under a lower one that was never used."""
        number = self.at(place)
        sku = LETTERS[letters](self.catalogue.sku(number))
        used = {*self.catalogue.ids(), *self.gone}
        free = [i for i in range(1, max(used)) if i not in used]
        self.catalogue.delete(number)
        self.gone.append(number)
        self.catalogue.add(sku=sku, product_id=free[0] if low and free else None)

    def move(self, giver: int, taker: int) -> None:
        giver, taker = self.at(giver), self.at(taker)
        if giver != taker:
            sku = self.catalogue.sku(giver)
            self.catalogue.edit(giver, sku=self.new_sku())
            self.catalogue.edit(taker, sku=sku)

    def exchange(self, chosen: list[int]) -> None:
        ids = list(dict.fromkeys(self.at(place) for place in chosen))
        skus = [self.catalogue.sku(i) for i in ids]
        for number, sku in zip(ids, [*skus[1:], skus[0]], strict=True):
            self.catalogue.edit(number, sku=sku)

    def bring_back(self, place: int) -> None:
        """A deleted product, in place of the one that has its SKU by now."""
        if self.gone:
            number = self.gone.pop(place % len(self.gone))
            for other in self.catalogue.ids_with_sku(self.catalogue.sku(number)):
                self.gone.append(other)
                self.catalogue.delete(other)
            self.catalogue.restore(number)
            self.catalogue.restamp(number)

    # --- here --------------------------------------------------------------------------------

    def back_up(self) -> None:
        with self.open() as bench:
            bench.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(self.folder / "copy.db", self.folder / "backup.db")

    def restore(self) -> None:
        """Consumers of a restored copy begin anew: each replay here does."""
        if (self.folder / "backup.db").exists():
            for file in self.folder.glob("copy.db*"):
                file.unlink()
            shutil.copy(self.folder / "backup.db", self.folder / "copy.db")

    def read(self, name: str, place: int) -> None:
        with self.open() as bench:
            if name.startswith("kill"):
                bench.watch.at_page = stop_at(1 + place % 5)
            with suppress(Stopped):
                self._pass(bench, name.removeprefix("kill "), place)
            bench.watch.at_page = None
            bench.watch.pages.clear()
            assert_all_end_right(bench)
            assert_no_sku_is_taken_before_it_is_free(bench)

    def _pass(self, bench: Bench, name: str, place: int) -> None:
        if name == "run":
            bench.run()
        elif name == "reconcile":
            bench.reconcile()
        elif name == "backfill":
            bench.backfill()
        else:
            bench.run_named(skus=[self.catalogue.sku(self.at(place))])

    def do(self, name: str, *how: Any) -> None:
        steps: dict[str, Callable[..., None]] = {
            "edit": self.edit,
            "add": self.add,
            "delete": self.delete,
            "make again": self.make_again,
            "move": self.move,
            "exchange": self.exchange,
            "bring back": self.bring_back,
            "back up": self.back_up,
            "restore": self.restore,
        }
        if name in steps:
            steps[name](*how)
        else:
            self.read(name, *how)


TAKEN_OVER = [
    ("move", 1, 8),
    ("run", 0),
    ("exchange", [2, 9, 5]),
    ("kill reconcile", 1),
    ("make again", 3, "other", True),
    ("run", 0),
    ("bring back", 0),
    ("run --sku", 11),
]

IN_A_CIRCLE = [  # of five products on three pages, one of which is made again
    ("exchange", [9, 6, 10, 0]),
    ("exchange", [3, 6]),
    ("make again", 7, "lower", True),
]
ALL_IN_A_CIRCLE = [  # in an order that no two pages have in common
    ("exchange", [0, 3, 6, 9]),
    ("exchange", [9, 1, 4, 7]),
    ("exchange", [7, 10, 2, 5]),
    ("exchange", [5, 8, 11]),
    ("kill run", 0),
    ("move", 3, 5),
    ("kill reconcile", 1),
]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with all its tables and nothing in them."""
    file = tmp_path_factory.mktemp("feed") / "empty.db"
    with opened(f"sqlite:///{file}") as engine, engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return file


@pytest.mark.slow
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # a history that fails is short enough to read
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
@example(history=TAKEN_OVER)
@example(history=IN_A_CIRCLE)
@example(history=ALL_IN_A_CIRCLE)
@given(history=histories)
def test_each_consumer_ends_with_the_products_that_live(empty: Path, history: list[tuple[Any, ...]]) -> None:
    """Whatever happens to 12 products in pages of 3, on the tenant and here."""
    with (
        Sandbox(products=PRODUCTS, store_views=("default", "de"), gap=3) as tenant,
        tempfile.TemporaryDirectory() as folder,
    ):
        shop = Shop(tenant, Path(folder), empty)
        shop.read("run", 0)
        for name, *how in history:
            shop.do(name, *how)
        shop.read("run", 0)
        shop.read("reconcile", 0)
        with shop.open() as bench:
            bench.assert_copy_is_exact()
