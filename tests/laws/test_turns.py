"""Fair shares: who is served in which order, who makes room, and that nobody waits for ever."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from sync.turns import GRACE_S, Turns

TURN_S = 300.0


@dataclass(frozen=True)
class Pass:
    name: str
    resumes: bool = True


RUN, STOCK, PRICES = Pass("run"), Pass("stock", resumes=False), Pass("prices", resumes=False)


def turns(at_once: int = 1) -> Turns[Pass]:
    return Turns(at_once, TURN_S)


def serve(line: Turns[Pass], now: float = 0.0) -> tuple[str, str] | None:
    """Who is served next, with which pass."""
    found = line.next(now)
    return found and (found[0], found[1].name)


# --- order of service --------------------------------------------------------------------------


def test_tenants_are_served_in_the_order_in_which_they_had_work() -> None:
    line = turns(at_once=2)
    for tenant in ("a", "b", "c"):
        line.due(tenant, RUN)

    assert [serve(line), serve(line), serve(line)] == [("a", "run"), ("b", "run"), None]
    line.ended("b")
    assert serve(line) == ("c", "run")


def test_one_with_much_to_do_gets_a_pass_a_turn() -> None:
    """Its work is done in the order in which it was due."""
    line = turns()
    for work in (RUN, PRICES, STOCK):
        line.due("big", work)
    line.due("small", RUN)

    order = []
    while found := serve(line):
        order.append(found)
        line.ended(found[0])
    assert order == [("big", "run"), ("small", "run"), ("big", "prices"), ("big", "stock")]


def test_a_tenant_is_at_work_once_even_where_slots_are_free() -> None:
    line = turns(at_once=4)
    line.due("a", RUN)
    assert serve(line) == ("a", "run")
    line.due("a", STOCK)

    assert serve(line) is None
    line.ended("a")
    assert serve(line) == ("a", "stock")


def test_work_that_waits_or_is_under_way_is_not_due_twice() -> None:
    line = turns()
    line.due("a", RUN)
    line.due("a", RUN)
    assert serve(line) == ("a", "run")
    line.due("a", RUN)
    line.ended("a")

    assert serve(line) is None


def test_a_forgotten_tenant_ends_what_it_is_at_and_is_served_no_more() -> None:
    line = turns()
    line.due("a", RUN)
    line.due("a", STOCK)
    line.due("b", RUN)
    assert serve(line) == ("a", "run")

    line.forget("a")
    line.forget("b")
    line.ended("a", unfinished=True)

    assert serve(line) is None
    assert line.at_work == {}


# --- making room -------------------------------------------------------------------------------


def test_a_long_pass_makes_room_and_goes_on_behind_the_others_and_behind_its_own_newer_work() -> None:
    """Its stock, due meanwhile, is not kept waiting by an hour-long load either."""
    line = turns()
    line.due("big", RUN)
    assert serve(line) == ("big", "run")
    line.due("big", STOCK)
    line.due("small", RUN)

    assert line.to_stop(TURN_S - 1) == []
    assert line.to_stop(TURN_S) == ["big"]
    assert line.to_stop(TURN_S + 1) == []
    line.ended("big", unfinished=True)

    order = []
    for _ in range(3):
        found = serve(line, TURN_S)
        assert found is not None
        order.append(found)
        line.ended(found[0])
    assert order == [("small", "run"), ("big", "stock"), ("big", "run")]


def test_nobody_makes_room_while_nobody_waits() -> None:
    line = turns(at_once=2)
    line.due("big", RUN)
    serve(line)

    assert line.to_stop(10 * TURN_S) == []
    line.due("small", RUN)
    serve(line)
    assert line.to_stop(10 * TURN_S) == []
    line.due("another", RUN)
    assert line.to_stop(10 * TURN_S) == ["big"]


def test_a_pass_that_would_begin_anew_keeps_its_slot_to_the_end() -> None:
    line = turns()
    line.due("big", PRICES)
    line.due("small", RUN)
    serve(line)

    assert line.to_stop(100 * TURN_S) == []


def test_one_that_does_not_make_room_is_written_off_and_its_slot_is_free() -> None:
    """It is served again when it has let go."""
    line = turns()
    line.due("hangs", RUN)
    line.due("b", RUN)
    line.due("c", RUN)
    serve(line)
    line.due("hangs", STOCK)
    assert line.to_stop(TURN_S) == ["hangs"]

    assert line.to_write_off(TURN_S + GRACE_S - 1) == []
    assert serve(line) is None
    assert line.to_write_off(TURN_S + GRACE_S) == ["hangs"]
    assert line.to_write_off(TURN_S + GRACE_S) == []
    assert serve(line) == ("b", "run")
    assert serve(line) is None
    line.ended("b")
    assert serve(line) == ("c", "run")
    line.ended("hangs")
    assert serve(line) is None
    line.ended("c")
    assert serve(line) == ("hangs", "stock")


def test_one_that_is_stuck_is_told_before_its_turn_is_over_whatever_its_work() -> None:
    line = turns()
    line.due("stuck", PRICES)
    line.due("b", RUN)
    serve(line)

    assert line.to_stop(10.0, stuck=["stuck", "elsewhere"]) == ["stuck"]


# --- laws --------------------------------------------------------------------------------------

PASSES = st.sampled_from([RUN, STOCK, PRICES])
ASKED = st.lists(st.tuples(st.sampled_from("abcdefgh"), PASSES), min_size=1, max_size=40)


@given(asked=ASKED, at_once=st.integers(1, 4), data=st.data())
def test_nobody_waits_for_more_turns_than_there_are_tenants(
    asked: list[tuple[str, Pass]], at_once: int, data: st.DataObject
) -> None:
    """Whoever ends first, with more work coming all the time, and some that never finish."""
    line = turns(at_once)
    undone: dict[str, set[Pass]] = {tenant: set() for tenant, _ in asked}
    at_work: dict[str, Pass] = {}
    waited: dict[str, int] = {}  # turns that others began, for each that waits
    for step in range(150):
        tenant, work = asked[step % len(asked)]
        line.due(tenant, work)
        if at_work.get(tenant) != work:
            undone[tenant].add(work)
        waited |= {name: 0 for name in undone if undone[name] and name not in at_work and name not in waited}
        while found := line.next(float(step)):
            assert found[0] not in at_work
            assert waited.pop(found[0]) < len(undone)
            waited = {name: count + 1 for name, count in waited.items()}
            at_work[found[0]] = found[1]
            undone[found[0]].remove(found[1])
        assert len(at_work) <= at_once
        assert len(at_work) == at_once or not waited
        ending = data.draw(st.sampled_from(sorted(at_work)))
        unfinished, work = data.draw(st.booleans()), at_work.pop(ending)
        line.ended(ending, unfinished=unfinished)
        undone[ending] |= {work} if unfinished else set()
        waited |= {ending: 0} if undone[ending] else {}


@given(asked=ASKED, at_once=st.integers(1, 4))
def test_everything_asked_for_is_done_exactly_once(asked: list[tuple[str, Pass]], at_once: int) -> None:
    line = turns(at_once)
    for tenant, work in asked:
        line.due(tenant, work)

    done = []
    while found := line.next(0.0):
        done.append(found)
        line.ended(found[0])
    assert sorted(done, key=str) == sorted(set(asked), key=str)


@given(hanging=st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=7), at_once=st.integers(1, 4))
def test_however_many_hang_the_others_are_served(hanging: set[str], at_once: int) -> None:
    """Each that hangs costs the others a turn and its grace in one slot, once."""
    line = turns(at_once)
    for tenant in "abcdefgh":
        line.due(tenant, RUN)

    served: set[str] = set()
    now = 0.0
    while served != set("abcdefgh") - hanging:
        while found := line.next(now):
            if found[0] not in hanging:
                served.add(found[0])
                line.ended(found[0])
        now += 10.0
        line.to_stop(now)
        line.to_write_off(now)
        assert now <= len(hanging) * (TURN_S + GRACE_S + 20)
