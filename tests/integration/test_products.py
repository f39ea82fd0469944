"""The extractor reads every product once, and believes nothing that it did not ask for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, pairwise

import pytest

from sync.commerce.products import EVERY_ID, MOST_IN_A_ROW
from sync.errors import AnswerUnreadable, CommerceUnavailable
from sync.model import Interval, Page, RawProduct, Unreadable
from sync.sandbox import Sandbox, Served
from tests.wire import Time, Wire, connect, in_threads


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def sandbox(time: Time) -> Iterator[Sandbox]:
    """250 products; ids have gaps."""
    with Sandbox(products=250, store_views=("default", "de"), clock=time.clock, gap=3) as running:
        yield running


@pytest.fixture
def wire(sandbox: Sandbox, time: Time) -> Wire:
    return connect(sandbox, time, page_size=100)


def walked(wire: Wire, interval: Interval = EVERY_ID, store_view: str = "all") -> list[Page | Unreadable]:
    return list(wire.products.walk(store_view, interval))


def ids_of(found: Iterable[Page | Unreadable]) -> list[int]:
    return [product.product_id for page in found if isinstance(page, Page) for product in page.products]


def unreadable_in(found: Iterable[object]) -> list[int | None]:
    return [item.product_id for item in found if isinstance(item, Unreadable)]


def pages(sandbox: Sandbox) -> list[Served]:
    return [served for served in sandbox.requests if served.kind == "page"]


def assert_seamless(found: list[Page | Unreadable], interval: Interval = EVERY_ID) -> None:
    """What was found speaks for every id of the interval exactly once."""
    edges = [(step.interval.after, step.interval.last) for step in found]
    assert [edges[0][0], *(last for _, last in edges)] == [*(after for after, _ in edges), interval.last]


# --- walking ----------------------------------------------------------------------------------------------


def test_every_product_comes_once_as_the_bytes_commerce_sent(sandbox: Sandbox, wire: Wire) -> None:
    found = walked(wire)

    assert ids_of(found) == sandbox.catalogue.ids()
    assert_seamless(found)
    for page in found:
        assert isinstance(page, Page)
        for product_id, raw in page.products:
            assert raw == sandbox.catalogue.raw(product_id)


def test_pages_are_asked_for_by_key_and_the_first_says_so_too(sandbox: Sandbox, wire: Wire) -> None:
    found = walked(wire)

    cursors = [0, *(page.interval.last for page in found[:-1])]
    assert [served.after_id for served in pages(sandbox)] == cursors
    assert [served.items_count for served in pages(sandbox)] == [100, 100, 50, 0]


def test_the_empty_page_at_the_end_speaks_for_all_ids_behind(wire: Wire) -> None:
    last = walked(wire)[-1]

    assert isinstance(last, Page)
    assert (last.products, last.interval.last) == ((), None)


def test_a_bounded_walk_ends_where_its_interval_does(sandbox: Sandbox, wire: Wire) -> None:
    """Once at a product's id, once in a gap."""
    ids = sandbox.catalogue.ids()
    gap = next(a + 1 for a, b in pairwise(ids[60:]) if b > a + 1)

    for last in (ids[120], gap):
        interval = Interval(ids[20], last)
        found = walked(wire, interval)
        assert ids_of(found) == [product_id for product_id in ids if ids[20] < product_id <= last]
        assert_seamless(found, interval)


def test_an_interval_without_ids_is_not_asked_for(sandbox: Sandbox, wire: Wire) -> None:
    assert walked(wire, Interval(7, 7)) == []
    assert pages(sandbox) == []


def test_a_store_view_has_its_own_values(sandbox: Sandbox, wire: Wire) -> None:
    product_id = sandbox.catalogue.ids()[0]
    sandbox.catalogue.edit(product_id, store_view="de", name="Gartenschere")

    names = {}
    for view in ("all", "de"):
        found = next(iter(wire.products.by_ids(view, [product_id])))
        assert isinstance(found, RawProduct)
        names[view] = json.loads(found.raw)["name"]

    assert names["de"] == "Gartenschere"
    assert names["all"] != "Gartenschere"


def test_only_what_was_stamped_since_is_read(sandbox: Sandbox, wire: Wire) -> None:
    ids = sandbox.catalogue.ids()
    for product_id in (ids[3], ids[200]):
        sandbox.catalogue.edit(product_id, name="Renamed")
    since = datetime.fromtimestamp(wire.time.now, UTC)

    assert ids_of(wire.products.walk("all", Interval(), updated_from=since)) == [ids[3], ids[200]]
    assert wire.products.count("all", updated_from=since).total == 2
    assert wire.products.highest("all", updated_from=since).highest_id == ids[200]


def test_edits_during_a_walk_neither_skip_nor_repeat_a_product(sandbox: Sandbox, wire: Wire) -> None:
    """A product in front of the cursor goes, one behind it comes; nobody else shifts."""
    ids = sandbox.catalogue.ids()
    walk = wire.products.walk("all", Interval())
    found = [next(walk)]
    sandbox.catalogue.delete_many(ids[:5])
    sandbox.catalogue.delete(ids[240])
    added = sandbox.catalogue.add()

    found += walk

    assert ids_of(found) == [*ids[:240], *ids[241:], added]


# --- page size --------------------------------------------------------------------------------------------


def test_the_page_size_the_tenant_allows_is_learned_from_one_refusal(time: Time) -> None:
    with Sandbox(products=250, max_page_size=80, clock=time.clock) as sandbox:
        wire = connect(sandbox, time, page_size=300)

        assert len(ids_of(walked(wire))) == 250
        assert [served.status for served in pages(sandbox)].count(400) == 1
        assert max(served.page_size or 0 for served in pages(sandbox)[1:]) == 80


def test_a_server_short_of_memory_gets_smaller_pages_and_loses_nothing(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.memory(max_products=30)

    found = walked(wire)

    assert ids_of(found) == sandbox.catalogue.ids()
    assert unreadable_in(found) == []
    assert wire.time.waits == []


def test_pages_grow_back_when_the_trouble_is_over(sandbox: Sandbox, time: Time) -> None:
    wire = connect(sandbox, time, page_size=40)
    sandbox.faults.fail(504, times=2)

    walked(wire)
    walked(wire)

    sizes = [served.page_size for served in pages(sandbox)]
    assert sizes[:3] == [40, 20, 10]
    assert sizes[-1] == 40


def test_threads_share_what_one_of_them_learned(time: Time) -> None:
    with Sandbox(products=400, max_page_size=50, clock=time.clock) as sandbox:
        wire = connect(sandbox, time)

        in_threads(4, lambda: walked(wire))

        assert [served.status for served in pages(sandbox)].count(400) <= 4


# --- one bad product --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 130, 249])
def test_one_broken_product_costs_one_product(sandbox: Sandbox, wire: Wire, place: int) -> None:
    """The first, one in the middle, the last."""
    ids = sandbox.catalogue.ids()
    sandbox.faults.poison(ids[place])

    found = walked(wire)

    assert unreadable_in(found) == [ids[place]]
    assert ids_of(found) == [*ids[:place], *ids[place + 1 :]]
    assert_seamless(found)


def test_the_reason_is_kept_and_the_interval_is_the_product_s_own(sandbox: Sandbox, wire: Wire) -> None:
    ids = sandbox.catalogue.ids()
    sandbox.faults.poison(ids[7])

    bad = next(step for step in walked(wire) if isinstance(step, Unreadable))

    assert bad.interval == Interval(ids[6], ids[7])
    assert "Report ID" in bad.reason


def test_broken_neighbours_are_told_apart_and_pages_are_large_again_behind_them(
    sandbox: Sandbox, wire: Wire
) -> None:
    ids = sandbox.catalogue.ids()
    for product_id in ids[50:53]:
        sandbox.faults.poison(product_id)

    found = walked(wire)

    assert unreadable_in(found) == ids[50:53]
    assert ids_of(found) == [*ids[:50], *ids[53:]]
    assert pages(sandbox)[-1].page_size == 100


def test_an_outage_is_waited_for_and_blames_no_product(sandbox: Sandbox, wire: Wire) -> None:
    """Down for about three minutes of retries, in the middle of the walk."""
    walk = wire.products.walk("all", Interval())
    found = [next(walk)]
    sandbox.faults.fail(500, kind=None, times=18)

    found += walk

    assert unreadable_in(found) == []
    assert ids_of(found) == sandbox.catalogue.ids()


def test_an_outage_that_lasts_ends_as_unavailable(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.fail(500, kind="page")
    sandbox.faults.fail(500, kind="count")

    with pytest.raises(CommerceUnavailable):
        walked(wire)
    assert sum(wire.time.waits) > 900


def test_a_tenant_that_cannot_show_any_product_stops_the_walk(sandbox: Sandbox, wire: Wire) -> None:
    """Counts work, pages do not: an extension that breaks everything is not 250 bad products."""
    for product_id in sandbox.catalogue.ids():
        sandbox.faults.poison(product_id)

    found: list[Page | Unreadable] = []
    with pytest.raises(AnswerUnreadable, match="in a row"):
        found.extend(wire.products.walk("all", Interval()))
    assert len(found) <= MOST_IN_A_ROW + 1


def test_products_that_no_reader_can_read_are_counted_together(sandbox: Sandbox, wire: Wire) -> None:
    """Each would try 50 alone: several requests for each of 200 products that are not to blame."""
    for product_id in sandbox.catalogue.ids():
        sandbox.faults.poison(product_id)
    readers = [wire.products.walk("all", Interval(after, after + 60)) for after in range(0, 240, 60)]

    found: list[Page | Unreadable] = []
    with pytest.raises(AnswerUnreadable, match="in a row"):
        found.extend(chain.from_iterable(zip(*readers, strict=True)))
    assert len(found) <= MOST_IN_A_ROW + len(readers)


# --- never trust an answer --------------------------------------------------------------------------------


def test_an_answer_to_another_question_is_asked_again_and_then_refused(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.garble({"filter_groups": [], "page_size": 100}, times=3)
    assert ids_of(walked(wire)) == sandbox.catalogue.ids()

    sandbox.faults.garble({"filter_groups": [], "page_size": 100})
    with pytest.raises(AnswerUnreadable, match="other filters"):
        walked(wire)


def test_a_page_out_of_order_is_sorted_once_a_count_proves_that_none_is_missing(
    sandbox: Sandbox, wire: Wire
) -> None:
    """Always: 250 products in three pages, the last of which holds all that its request matched."""
    sandbox.faults.shuffle()

    found = walked(wire, Interval(0, sandbox.catalogue.ids()[-1]))

    assert ids_of(found) == sandbox.catalogue.ids()
    assert [served.kind for served in sandbox.requests[1:]] == ["page", "count", "page", "count", "page"]


def test_a_tenant_that_ignores_the_order_is_read_by_ranges_that_fill_a_page(
    sandbox: Sandbox, wire: Wire
) -> None:
    """Late products come first, so a page has others between its ids: none of them is skipped."""
    sandbox.faults.unsort()

    found = walked(wire)

    assert ids_of(found) == sandbox.catalogue.ids()
    assert_seamless(found)
    assert {served.page_size for served in pages(sandbox)} == {100}


def test_pages_cut_short_reset_or_replaced_by_html_are_read_again(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.truncate(page=1)
    sandbox.faults.reset(page=3)
    sandbox.faults.html(page=4)

    assert ids_of(walked(wire)) == sandbox.catalogue.ids()


def test_an_emptiness_that_passes_is_not_the_end(sandbox: Sandbox, wire: Wire) -> None:
    """Page 2 is empty while everything else is well, just when a few products really go."""
    sandbox.faults.empty(page=2)
    walk = wire.products.walk("all", Interval())
    found = [next(walk)]
    sandbox.catalogue.delete_many(sandbox.catalogue.ids()[240:])

    found += walk

    assert ids_of(found) == sandbox.catalogue.ids()


def test_an_emptiness_that_even_the_counts_confirm_for_a_moment_is_not_the_end(
    sandbox: Sandbox, wire: Wire
) -> None:
    sandbox.faults.empty(page=2)
    sandbox.faults.empty(kind="count", times=1)

    assert ids_of(walked(wire)) == sandbox.catalogue.ids()


def test_a_catalogue_that_vanishes_behind_the_cursor_is_an_outage(sandbox: Sandbox, wire: Wire) -> None:
    walk = wire.products.walk("all", Interval())
    next(walk)
    sandbox.faults.empty(kind=None)

    with pytest.raises(AnswerUnreadable, match="vanished"):
        next(walk)


def test_a_mass_deletion_behind_the_cursor_is_believed(sandbox: Sandbox, wire: Wire) -> None:
    ids = sandbox.catalogue.ids()
    walk = wire.products.walk("all", Interval())
    found = [next(walk)]
    sandbox.catalogue.delete_many(ids[100:])

    found += walk

    assert ids_of(found) == ids[:100]


# --- light requests ---------------------------------------------------------------------------------------


def test_a_count_loads_no_page(sandbox: Sandbox, wire: Wire) -> None:
    ids = sandbox.catalogue.ids()

    assert wire.products.count("all", Interval(ids[9], ids[19])).total == 10
    assert wire.products.count("all").total == 250
    assert pages(sandbox) == []


def test_a_count_does_not_depend_on_the_product_it_shows(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.poison(sandbox.catalogue.ids()[0])

    assert wire.products.count("all").total == 250


def test_the_end_of_the_catalogue_is_one_request_away(sandbox: Sandbox, wire: Wire) -> None:
    extent = wire.products.highest("all")

    assert (extent.highest_id, extent.total) == (sandbox.catalogue.ids()[-1], 250)
    assert len([served for served in sandbox.requests if served.kind == "count"]) == 1


def test_the_end_is_found_though_the_last_products_are_broken(sandbox: Sandbox, wire: Wire) -> None:
    ids = sandbox.catalogue.ids()
    for product_id in ids[-3:]:
        sandbox.faults.poison(product_id)

    assert wire.products.highest("all").highest_id == ids[-1]


def test_an_empty_catalogue_ends_at_0(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.catalogue.delete_many(sandbox.catalogue.ids())

    extent = wire.products.highest("all")

    assert (extent.highest_id, extent.total) == (0, 0)


def test_existence_of_many_ids_is_counted_in_short_urls(sandbox: Sandbox, wire: Wire) -> None:
    ids = sandbox.catalogue.ids()

    assert wire.products.count_of("all", [*ids, *range(100_000, 101_000)]) == 250
    assert max(len(served.path) + len(served.query) for served in sandbox.requests) < 4_000


def test_products_named_by_id_come_in_order_and_only_those(sandbox: Sandbox, wire: Wire) -> None:
    """More than fit one URL, some of them deleted, one of them broken."""
    ids = sandbox.catalogue.ids()
    sandbox.catalogue.delete_many(ids[10:20])
    sandbox.faults.poison(ids[30])

    found = list(wire.products.by_ids("all", [*reversed(ids), 999_999]))

    read = [item.product_id for item in found if isinstance(item, RawProduct)]
    assert read == [*ids[:10], *ids[20:30], *ids[31:]]
    assert unreadable_in(found) == [ids[30]]


def test_products_named_by_sku_are_found_whatever_signs_it_holds(sandbox: Sandbox, wire: Wire) -> None:
    skus = ["a,b", "AB/CD", "A+B", "100%", "50%25", "Größe-Ü", "a&b", 'q"x', "[1]", "x" * 64]
    added = [sandbox.catalogue.add(sku=sku) for sku in skus]

    found = list(wire.products.by_skus("all", [*skus, "no such product"]))

    assert sorted(item.product_id for item in found if item.product_id) == added
    assert max(len(served.path) + len(served.query) for served in sandbox.requests) < 4_000
