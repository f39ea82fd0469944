"""Whatever happens to catalogue, wire and process: after a run and a reconcile the copy is the catalogue."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sync.errors import SyncError
from sync.sandbox import Sandbox
from tests.databases import opened
from tests.kit import Bench, Stopped, stop_at

pytestmark = pytest.mark.slow

PLACE = st.integers(0, 1_000)  # of a product in the catalogue, wherever that leads
TROUBLES = ("fail", "reset", "truncate", "html", "empty", "shuffle")


class Shop(RuleBasedStateMachine):
    """A tenant that is edited and breaks, and a copy that is kept by passes that crash."""

    @initialize(products=st.integers(0, 40), gap=st.integers(1, 4), views=st.sampled_from([1, 2]))
    def open(self, products: int, gap: int, views: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._sandbox = Sandbox(products, store_views=("default", "de"), gap=gap)
        self._sandbox.start()
        self._database = opened(f"sqlite:///{Path(self._folder.name) / 'copy.db'}")
        self.bench = Bench(
            self._sandbox,
            self._database.__enter__(),
            store_views=("default", "de")[:views],
            page_size=7,
            max_delete_fraction=1.0,
            max_retry_time=0.2,
            is_dead=lambda owner: True,
        )
        self.catalogue = self._sandbox.catalogue
        self.deleted: list[int] = []

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        try:
            self.all_is_well_again()
        finally:
            self._database.__exit__(None, None, None)
            self._sandbox.stop()
            self._folder.cleanup()

    # --- the catalogue -----------------------------------------------------------------------

    def some_id(self, place: int) -> int:
        ids = self.catalogue.ids()
        return ids[place % len(ids)]

    @rule(name=st.sampled_from(["Cup", "Krug", "Vase 😀"]))
    def add(self, name: str) -> None:
        self.catalogue.add(name=name)

    @precondition(lambda self: self.catalogue.ids())
    @rule(place=PLACE, price=st.integers(0, 5), touch=st.booleans(), view=st.sampled_from([None, "de"]))
    def edit(self, place: int, price: int, touch: bool, view: str | None) -> None:
        self.catalogue.edit(self.some_id(place), store_view=view, touch=touch, price=price)

    @precondition(lambda self: self.catalogue.ids())
    @rule(place=PLACE)
    def restamp(self, place: int) -> None:
        self.catalogue.restamp(self.some_id(place))

    @precondition(lambda self: self.catalogue.ids())
    @rule(place=PLACE, number=st.integers(1, 12))
    def delete(self, place: int, number: int) -> None:
        ids = self.catalogue.ids()
        first = place % len(ids)
        self.catalogue.delete_many(ids[first : first + number])
        self.deleted += ids[first : first + number]

    @precondition(lambda self: self.deleted)
    @rule(place=PLACE)
    def restore(self, place: int) -> None:
        self.catalogue.restore(self.deleted.pop(place % len(self.deleted)))

    # --- troubles ----------------------------------------------------------------------------

    @rule(trouble=st.sampled_from(TROUBLES), times=st.integers(1, 3), kind=st.sampled_from(["page", "count"]))
    def trouble(self, trouble: str, times: int, kind: str) -> None:
        getattr(self._sandbox.faults, trouble)(times=times, kind=kind)

    @precondition(lambda self: self.catalogue.ids())
    @rule(place=PLACE)
    def poison(self, place: int) -> None:
        self._sandbox.faults.poison(self.some_id(place))

    @rule()
    def recover(self) -> None:
        self._sandbox.faults.clear()

    @rule()
    def revoke_tokens(self) -> None:
        self._sandbox.faults.revoke_tokens()

    # --- passes ------------------------------------------------------------------------------

    @rule(sweep=st.sampled_from([Bench.backfill, Bench.run, Bench.run, Bench.reconcile, Bench.verify]))
    def sync(self, sweep: Any) -> None:
        with suppress(SyncError):
            sweep(self.bench)

    @rule(sweep=st.sampled_from([Bench.backfill, Bench.run, Bench.reconcile]), page=st.integers(1, 6))
    def crash(self, sweep: Any, page: int) -> None:
        self.bench.watch = type(self.bench.watch)(at_page=stop_at(page))
        with suppress(SyncError, Stopped):
            sweep(self.bench)
        self.bench.watch.at_page = None

    @rule(
        sweep=st.sampled_from([Bench.backfill, Bench.run, Bench.reconcile]),
        page=st.integers(1, 3),
        place=PLACE,
    )
    def edit_meanwhile(self, sweep: Any, page: int, place: int) -> None:
        def interfere(number: int) -> None:
            if number == page and self.catalogue.ids():
                self.delete(place, 2)
                self.add("Passing by")

        self.bench.watch = type(self.bench.watch)(at_page=interfere)
        with suppress(SyncError):
            sweep(self.bench)
        self.bench.watch.at_page = None

    # --- what must hold ----------------------------------------------------------------------

    @invariant()
    def the_feed_tells_who_lives(self) -> None:
        if hasattr(self, "bench"):
            self.bench.assert_feed_tells_who_lives()

    def all_is_well_again(self) -> None:
        self._sandbox.faults.clear()
        self.bench.run()
        self.bench.reconcile(allow_mass_delete=True)
        self.bench.assert_copy_is_exact()
        self.bench.assert_feed_tells_who_lives()
        assert self.bench.open_rejections() == []
        assert self.bench.verify() == []


Shop.TestCase.settings = settings(
    max_examples=8, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestShop = Shop.TestCase
