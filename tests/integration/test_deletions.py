"""A run finds what is gone by counting, and buries nothing that is not proven gone."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from sync.db.schema import product_attributes, products
from sync.errors import AnswerUnreadable
from sync.sandbox import Sandbox
from tests.kit import Bench

pytestmark = pytest.mark.slow


@pytest.fixture
def loaded(bench: Bench) -> Bench:
    bench.overlap *= 0
    bench.max_delete_fraction = 1.0
    bench.backfill()
    return bench


def requests_since(bench: Bench, before: int) -> list[str]:
    return [request.kind for request in bench.sandbox.requests[before:] if request.kind != "token"]


def tombstones(bench: Bench) -> list[int]:
    return [row.product_id for row in bench.rows(products, products.c.deleted_at.is_not(None))]


@pytest.mark.parametrize("gone", [1, 2, 5, 13, 40, 59])
def test_exactly_the_deleted_are_buried(loaded: Bench, gone: int) -> None:
    """Spread over a catalogue whose ids have gaps, from one product to all but one."""
    ids = loaded.sandbox.catalogue.ids()
    deleted = sorted({ids[i * 60 // gone] for i in range(gone)})
    loaded.sandbox.catalogue.delete_many(deleted)

    summary = loaded.run()

    assert tombstones(loaded) == deleted
    assert summary.tally.deleted == gone
    loaded.assert_copy_is_exact()
    loaded.assert_feed_tells_who_lives()


def test_a_deletion_is_found_beside_products_that_cannot_be_read(loaded: Bench) -> None:
    """Ids cannot be listed there, so they are counted one by one."""
    first, *_, last = ids = loaded.sandbox.catalogue.ids()
    for number in (first, ids[31], last):
        loaded.sandbox.faults.poison(number)
    loaded.sandbox.catalogue.delete(ids[30])

    summary = loaded.run()

    assert (summary.status, tombstones(loaded)) == ("succeeded", [ids[30]])


@pytest.mark.parametrize("place", [0, 30, 59])
def test_the_first_and_the_last_product_are_found_too(loaded: Bench, place: int) -> None:
    number = loaded.sandbox.catalogue.ids()[place]
    loaded.sandbox.catalogue.delete(number)

    loaded.run()

    assert tombstones(loaded) == [number]


def test_one_deletion_costs_a_few_light_requests_and_no_page(loaded: Bench) -> None:
    """log2(60) halvings, two counts of everything, three questions by id, two about the window,
    and its list, which is empty.
    """
    loaded.sandbox.catalogue.delete(loaded.sandbox.catalogue.ids()[17])
    before = len(loaded.sandbox.requests)

    loaded.run()

    asked = requests_since(loaded, before)
    assert set(asked) == {"count"}
    assert len(asked) <= 6 + 2 + 3 + 2 + 1


def test_a_tombstone_keeps_the_document_and_drops_the_children(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.ids()[17]
    document = loaded.live()[number]
    loaded.sandbox.catalogue.delete(number)

    loaded.run()

    (row,) = loaded.rows(products, products.c.product_id == number)
    assert document["sku"] in row.document
    assert loaded.rows(product_attributes, product_attributes.c.product_id == number) == []
    assert (loaded.changes()[-1].kind, loaded.changes()[-1].sku) == ("delete", document["sku"])


def test_a_product_that_comes_back_under_its_id_is_a_restore(loaded: Bench) -> None:
    """With its old stamp, so that no window shows it: the count does."""
    number = loaded.sandbox.catalogue.ids()[17]
    loaded.sandbox.catalogue.delete(number)
    loaded.run()
    loaded.sandbox.catalogue.restore(number)

    summary = loaded.run()

    assert [change.kind for change in loaded.changes()[-2:]] == ["delete", "restore"]
    assert summary.tally.inserted == 1
    assert tombstones(loaded) == []
    loaded.assert_copy_is_exact()
    loaded.assert_feed_tells_who_lives()


def test_a_product_that_was_hidden_at_the_load_is_found_when_it_shows(loaded: Bench) -> None:
    """It was below the highest id all the while, and its stamp is old."""
    number = loaded.sandbox.catalogue.ids()[17]
    loaded.sandbox.catalogue.hide(number)
    loaded.backfill(restart=True)
    loaded.run()
    loaded.execute(f"DELETE FROM products WHERE product_id = {number}")
    loaded.sandbox.catalogue.show(number)

    loaded.run()

    loaded.assert_copy_is_exact()


def test_what_is_newer_than_the_copy_hides_no_deletion(loaded: Bench) -> None:
    """One product is deleted, and one is added while the run is on its way."""
    loaded.sandbox.catalogue.delete(loaded.sandbox.catalogue.ids()[17])
    loaded.watch.at_expectation = lambda: add_once(loaded)

    loaded.run()

    assert len(tombstones(loaded)) == 1


def add_once(bench: Bench) -> None:
    bench.watch.at_expectation = None
    bench.sandbox.catalogue.add(name="Newer than the copy")


@pytest.mark.parametrize("number", [1, 25])
def test_what_carries_an_old_stamp_above_the_highest_id_is_read(loaded: Bench, number: int) -> None:
    """A database restored, a direct import: no window shows it. One product is deleted besides."""
    gone = loaded.sandbox.catalogue.ids()[17]
    loaded.sandbox.catalogue.delete(gone)
    for _ in range(number):
        loaded.sandbox.catalogue.add(updated_at="2019-01-01 00:00:00")

    summary = loaded.run()

    assert (summary.tally.inserted, summary.tally.deleted) == (number, 1)
    loaded.assert_copy_is_exact()
    loaded.assert_feed_tells_who_lives()


def test_what_a_permission_hid_at_both_ends_is_read_once_it_shows(tenant: Sandbox, sqlite: sa.Engine) -> None:
    bench = Bench(tenant, sqlite, page_size=10)
    bench.overlap *= 0
    hidden = [*tenant.catalogue.ids()[3:6], *tenant.catalogue.ids()[-5:]]
    for number in hidden:
        tenant.catalogue.hide(number)
    bench.backfill()
    for number in hidden:
        tenant.catalogue.show(number)

    assert bench.run().tally.inserted == len(hidden)

    bench.assert_copy_is_exact()


def test_an_idle_run_asks_three_light_questions_and_one_more_for_what_is_above(loaded: Bench) -> None:
    before = len(loaded.sandbox.requests)
    loaded.run()
    assert requests_since(loaded, before) == ["count"] * 3

    loaded.sandbox.catalogue.add(updated_at="2019-01-01 00:00:00")
    before = len(loaded.sandbox.requests)
    loaded.run()
    assert requests_since(loaded, before) == ["count", "count", "page", "count", "count"]


def test_a_product_on_top_that_cannot_be_read_is_rejected_once_a_run(loaded: Bench) -> None:
    number = loaded.sandbox.catalogue.add(updated_at="2019-01-01 00:00:00")
    loaded.sandbox.faults.poison(number)

    assert [loaded.run().tally.rejected for _ in range(2)] == [1, 1]
    assert [item.product_id for item in loaded.watch.rejected] == [number] * 2


def test_each_store_view_is_counted(tenant: Sandbox, sqlite: sa.Engine) -> None:
    """What one store view lost is asked for by name in the next."""
    bench = Bench(tenant, sqlite, store_views=("default", "de"), page_size=10)
    bench.overlap *= 0
    bench.backfill()
    deleted = tenant.catalogue.ids()[5:8]
    tenant.catalogue.delete_many(deleted)
    before = len(tenant.requests)

    summary = bench.run()

    assert summary.tally.deleted == 6
    bench.assert_copy_is_exact()
    views = [request.store_view for request in tenant.requests[before:]]
    assert views.count("de") < views.count("default")


@pytest.mark.parametrize("seed", range(4))
def test_the_catalogue_may_move_during_the_search(loaded: Bench, seed: int) -> None:
    """Another thread adds and deletes with every request; when it rests, the next run is right."""
    loaded.sandbox.catalogue.delete_many(loaded.sandbox.catalogue.ids()[seed::7])
    mover = Mover(loaded.sandbox, seed)

    with mover:
        settle(loaded)
    assert not set(loaded.sandbox.catalogue.ids()) & set(tombstones(loaded))
    loaded.run()

    loaded.assert_copy_is_exact()
    loaded.assert_feed_tells_who_lives()


class Mover:
    """Edits the catalogue as long as the context is open."""

    def __init__(self, sandbox: Sandbox, seed: int) -> None:
        self._sandbox = sandbox
        self._victims = sandbox.catalogue.ids()[1::2]
        self._seed = seed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._move)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _move(self) -> None:
        catalogue = self._sandbox.catalogue
        while self._victims and not self._ended.wait(0.004):
            catalogue.delete(self._victims.pop(self._seed % len(self._victims)))
            catalogue.add(name="Passing by")


def settle(bench: Bench) -> None:
    """A run that may find the tenant too restless: then it says so and has buried nothing wrong."""
    try:
        bench.run()
    except AnswerUnreadable:
        return


# --- what is not believed --------------------------------------------------------------------


def test_more_than_the_fraction_allowed_is_held_back(loaded: Bench) -> None:
    loaded.max_delete_fraction = 0.2
    ids = loaded.sandbox.catalogue.ids()
    loaded.sandbox.catalogue.delete_many(ids[:13])

    summary = loaded.run()

    assert (summary.tally.deleted, summary.exit_code) == (0, 1)
    assert "13 of 60" in str(summary.held_back)
    assert "--allow-mass-delete" in loaded.watch.held_back[0]
    assert tombstones(loaded) == []


def test_as_many_as_the_fraction_allows_are_buried(loaded: Bench) -> None:
    loaded.max_delete_fraction = 0.2
    loaded.sandbox.catalogue.delete_many(loaded.sandbox.catalogue.ids()[:12])

    assert loaded.run().tally.deleted == 12


@pytest.mark.parametrize("name", ["run", "reconcile"])
def test_a_shop_of_four_products_may_lose_one_but_not_two(sqlite: sa.Engine, name: str) -> None:
    with Sandbox(products=4) as sandbox:
        bench = Bench(sandbox, sqlite)
        bench.backfill()
        first, second, third, _ = sandbox.catalogue.ids()

        sandbox.catalogue.delete(first)
        assert getattr(bench, name)().tally.deleted == 1

        sandbox.catalogue.delete_many([second, third])
        assert (getattr(bench, name)().exit_code, tombstones(bench)) == (1, [first])


def test_the_last_product_of_a_shop_does_not_go_unasked(sqlite: sa.Engine) -> None:
    """A tenant that lists nothing at all looks like an outage."""
    with Sandbox(products=1) as sandbox:
        bench = Bench(sandbox, sqlite)
        bench.backfill()
        sandbox.catalogue.delete_many(sandbox.catalogue.ids())

        assert (bench.run().exit_code, tombstones(bench)) == (1, [])


def outage(sandbox: Sandbox) -> None:
    sandbox.faults.empty(kind=None)


def outage_of_counts(sandbox: Sandbox) -> None:
    sandbox.faults.empty(kind="count")


def half_awake(sandbox: Sandbox) -> None:
    """A replica that knows every second product."""
    for number in sandbox.catalogue.ids()[::2]:
        sandbox.catalogue.hide(number)


@pytest.mark.parametrize("trouble", [outage, outage_of_counts, half_awake])
def test_an_outage_that_looks_like_deletions_buries_nothing(
    loaded: Bench, trouble: Callable[[Sandbox], None]
) -> None:
    loaded.max_delete_fraction = 0.2
    trouble(loaded.sandbox)

    assert loaded.run().exit_code == 1
    assert tombstones(loaded) == []


@pytest.mark.parametrize("number", range(8))
def test_a_light_answer_that_is_wrong_once_buries_nothing(loaded: Bench, number: int) -> None:
    """One of the first questions of a run is answered with nothing, whatever it was about."""
    deleted = loaded.sandbox.catalogue.ids()[17]
    loaded.sandbox.catalogue.delete(deleted)
    asked = itertools.count()

    def be_wrong_once(_named: list[int]) -> None:
        if next(asked) == number:
            loaded.sandbox.faults.empty(kind="count", times=1)

    loaded.at_question = be_wrong_once
    settle(loaded)
    assert set(tombstones(loaded)) <= {deleted}

    loaded.at_question = lambda named: None
    loaded.run()
    loaded.assert_copy_is_exact()


def test_an_outage_between_suspicion_and_proof_buries_nothing(loaded: Bench) -> None:
    """The tenant goes down when it is asked for products by id."""
    loaded.sandbox.catalogue.delete(loaded.sandbox.catalogue.ids()[17])

    def go_down(named: list[int]) -> None:
        if len(named) > 1:
            outage(loaded.sandbox)

    loaded.at_question = go_down
    with pytest.raises(AnswerUnreadable, match="nothing was deleted"):
        loaded.run()

    assert tombstones(loaded) == []


def test_a_suspect_that_is_back_when_it_is_asked_for_lives_on(loaded: Bench) -> None:
    suspect = loaded.sandbox.catalogue.ids()[17]
    loaded.sandbox.catalogue.hide(suspect)

    def come_back(named: list[int]) -> None:
        if suspect in named:
            loaded.sandbox.catalogue.show(suspect)

    loaded.at_question = come_back
    loaded.run()

    assert tombstones(loaded) == []


def test_a_witness_that_goes_when_the_suspect_comes_back_condemns_nobody(loaded: Bench) -> None:
    """The number of products listed is the one that would prove the suspect gone."""
    suspect = loaded.sandbox.catalogue.ids()[17]
    loaded.sandbox.catalogue.hide(suspect)

    def change_places(named: list[int]) -> None:
        if suspect in named and len(named) > 1:
            loaded.at_question = lambda named: None
            loaded.sandbox.catalogue.show(suspect)
            loaded.sandbox.catalogue.delete(next(i for i in named if i != suspect))

    loaded.at_question = change_places
    loaded.run()
    assert suspect not in tombstones(loaded)

    loaded.run()
    loaded.assert_copy_is_exact()
