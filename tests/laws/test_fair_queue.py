"""Fair shares: who is served in which order, who makes room, and that nobody waits for ever."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.service.fair_queue import (
    FIRST_REST_S,
    GRACE_S,
    LONGEST_REST_S,
    MOST_SILENT_S,
    PROBE_S,
    FairQueue,
)

TURN_S = 300.0


@dataclass(frozen=True)
class Pass:
    name: str


RUN, STOCK, PRICES = Pass("run"), Pass("stock"), Pass("prices")


def turns(at_once: int = 1) -> FairQueue[Pass]:
    return FairQueue(at_once, TURN_S)


def told(line: FairQueue[Pass], now: float, **silent: float) -> list[str]:
    """Who is told to make room, where all others at work were heard of just now."""
    return line.due_to_yield(now, dict.fromkeys(line.at_work, 0.0) | silent)


def serve(line: FairQueue[Pass], now: float = 0.0) -> tuple[str, str] | None:
    """Who is served next, with which pass."""
    found = line.next(now)
    return found and (found[0], found[1].name)


# --- order of service --------------------------------------------------------------------------


def test_tenants_are_served_in_the_order_in_which_they_had_work() -> None:
    line = turns(at_once=2)
    for tenant in ("a", "b", "c"):
        line.enqueue(tenant, RUN)

    assert [serve(line), serve(line), serve(line)] == [("a", "run"), ("b", "run"), None]
    line.ended("b", 0.0)
    assert serve(line) == ("c", "run")


def test_one_with_much_to_do_gets_a_pass_a_turn() -> None:
    """Its work is done in the order in which it was due."""
    line = turns()
    for work in (RUN, PRICES, STOCK):
        line.enqueue("big", work)
    line.enqueue("small", RUN)

    order = []
    while found := serve(line):
        order.append(found)
        line.ended(found[0], 0.0)
    assert order == [("big", "run"), ("small", "run"), ("big", "prices"), ("big", "stock")]


def test_a_tenant_is_at_work_once_even_where_slots_are_free() -> None:
    line = turns(at_once=4)
    line.enqueue("a", RUN)
    assert serve(line) == ("a", "run")
    line.enqueue("a", STOCK)

    assert serve(line) is None
    line.ended("a", 0.0)
    assert serve(line) == ("a", "stock")


def test_work_that_waits_or_is_under_way_is_not_due_twice() -> None:
    line = turns()
    line.enqueue("a", RUN)
    line.enqueue("a", RUN)
    assert serve(line) == ("a", "run")
    line.enqueue("a", RUN)
    line.ended("a", 0.0)

    assert serve(line) is None


def test_a_forgotten_tenant_ends_what_it_is_at_and_is_served_no_more() -> None:
    line = turns()
    line.enqueue("a", RUN)
    line.enqueue("a", STOCK)
    line.enqueue("b", RUN)
    assert serve(line) == ("a", "run")

    line.forget("a")
    line.forget("b")
    line.ended("a", 0.0, unfinished=True)

    assert serve(line) is None
    assert line.at_work == {}


# --- making room -------------------------------------------------------------------------------


def test_a_long_pass_makes_room_and_goes_on_behind_the_others_and_behind_its_own_newer_work() -> None:
    """Its stock, due meanwhile, is not kept waiting by an hour-long load either."""
    line = turns()
    line.enqueue("big", RUN)
    assert serve(line) == ("big", "run")
    line.enqueue("big", STOCK)
    line.enqueue("small", RUN)

    assert told(line, TURN_S - 1) == []
    assert told(line, TURN_S) == ["big"]
    assert told(line, TURN_S + 1) == []
    line.ended("big", 0.0, unfinished=True)

    order = []
    for _ in range(3):
        found = serve(line, TURN_S)
        assert found is not None
        order.append(found)
        line.ended(found[0], 0.0)
    assert order == [("small", "run"), ("big", "stock"), ("big", "run")]


def test_nobody_makes_room_while_nobody_waits() -> None:
    line = turns(at_once=2)
    line.enqueue("big", RUN)
    serve(line)

    assert told(line, 10 * TURN_S) == []
    line.enqueue("small", RUN)
    serve(line)
    assert told(line, 10 * TURN_S) == []
    line.enqueue("another", RUN)
    assert told(line, 10 * TURN_S) == ["big"]


def test_a_pass_that_would_begin_anew_pauses_and_goes_on_before_its_newer_work() -> None:
    """Its own run, due meanwhile, would find the lease taken."""
    line = turns()
    line.enqueue("big", PRICES)
    assert serve(line) == ("big", "prices")
    line.enqueue("big", RUN)
    line.enqueue("small", RUN)
    assert told(line, TURN_S) == ["big"]

    line.paused("big")
    order = []
    while found := serve(line, TURN_S):
        order.append(found)
        line.ended(found[0], TURN_S)
    assert order == [("small", "run"), ("big", "prices"), ("big", "run")]


def test_one_that_does_not_make_room_is_written_off_and_its_slot_is_free() -> None:
    """It is served again when it has let go."""
    line = turns()
    line.enqueue("hangs", RUN)
    line.enqueue("b", RUN)
    line.enqueue("c", RUN)
    serve(line)
    line.enqueue("hangs", STOCK)
    assert told(line, TURN_S) == ["hangs"]

    assert line.due_to_lose_slot(TURN_S + GRACE_S - 1) == []
    assert serve(line) is None
    assert line.due_to_lose_slot(TURN_S + GRACE_S) == ["hangs"]
    assert line.due_to_lose_slot(TURN_S + GRACE_S) == []
    assert serve(line) == ("b", "run")
    assert serve(line) is None
    line.ended("b", 0.0)
    assert serve(line) == ("c", "run")
    line.ended("hangs", 0.0)
    assert serve(line) is None
    line.ended("c", 0.0)
    assert serve(line) == ("hangs", "stock")


# --- silence -----------------------------------------------------------------------------------


def silenced(line: FairQueue[Pass], tenant: str, now: float) -> float | None:
    """End a turn in which the tenant did not answer until now, and others wait; its rest."""
    silence_s = line.silence_s(tenant)
    assert told(line, now, **{tenant: silence_s}) == [tenant]
    assert line.due_to_hang_up({**dict.fromkeys(line.at_work, 0.0), tenant: silence_s}) == [tenant]
    return line.ended(tenant, now, unfinished=True, out_of_reach=True)


@pytest.mark.parametrize("turn_s", [20.0, TURN_S])
def test_one_that_hangs_loses_its_slot_within_a_minute_and_within_a_turn(turn_s: float) -> None:
    """However long a turn is: those that answer may use it."""
    line = FairQueue[Pass](1, turn_s)
    for tenant in ("hangs", "b"):
        line.enqueue(tenant, RUN)
    serve(line)

    hung_up_at = min(turn_s, MOST_SILENT_S)
    assert told(line, hung_up_at - 1, hangs=hung_up_at - 1) == []
    assert told(line, hung_up_at, hangs=hung_up_at) == ["hangs"]
    assert line.due_to_hang_up({"hangs": hung_up_at}) == ["hangs"]
    assert line.due_to_lose_slot(60.0) == ["hangs"]
    assert serve(line, 60.0) == ("b", "run")


def test_a_request_is_hung_up_when_others_wait_and_it_lasts_too_long() -> None:
    line = turns()
    line.enqueue("slow", PRICES)
    serve(line)
    assert line.due_to_hang_up({"slow": 10 * TURN_S}) == []

    line.enqueue("b", RUN)
    assert told(line, TURN_S, slow=MOST_SILENT_S - 1) == ["slow"]
    assert line.due_to_hang_up({"slow": MOST_SILENT_S - 1}) == []
    assert line.due_to_hang_up({"slow": MOST_SILENT_S}) == ["slow"]
    assert line.due_to_hang_up({"slow": MOST_SILENT_S + 1}) == []


def test_one_that_did_not_answer_rests_twice_as_long_each_time_until_it_answers() -> None:
    line = turns()
    line.enqueue("mute", RUN)
    now, rests = 0.0, []
    for _ in range(6):
        assert serve(line, now) == ("mute", "run")
        line.enqueue("b", RUN)
        now += line.silence_s("mute")
        rests.append(silenced(line, "mute", now))
        assert serve(line, now) == ("b", "run")
        line.ended("b", now)
        assert serve(line, now) is None
        now += TURN_S + LONGEST_REST_S
    assert rests == [FIRST_REST_S * 2**n for n in range(4)] + [LONGEST_REST_S] * 2

    assert serve(line, now) == ("mute", "run")
    assert line.ended("mute", now) is None
    assert line.silence_s("mute") == MOST_SILENT_S


def test_after_a_rest_it_has_a_moment_to_answer_and_with_an_answer_a_whole_turn() -> None:
    line = turns()
    line.enqueue("mute", RUN)
    line.enqueue("b", RUN)
    serve(line)
    assert silenced(line, "mute", TURN_S) == FIRST_REST_S
    line.enqueue("c", STOCK)
    assert serve(line, TURN_S) == ("b", "run")
    line.ended("b", TURN_S)
    assert serve(line, TURN_S) == ("c", "stock")
    line.ended("c", TURN_S)
    now = TURN_S + FIRST_REST_S
    assert serve(line, now) == ("mute", "run")
    line.enqueue("b", RUN)

    assert told(line, now + PROBE_S - 1, mute=PROBE_S - 1) == []
    assert told(line, now + PROBE_S, mute=0.0) == []
    assert told(line, now + 2 * PROBE_S, mute=PROBE_S) == ["mute"]


def test_a_failure_that_takes_no_time_needs_no_rest_and_the_only_tenant_never_rests() -> None:
    line, alone = turns(), FairQueue[Pass](1, float("inf"))
    for each in (line, alone):
        each.enqueue("a", RUN)
        serve(each)

    assert line.ended("a", PROBE_S - 1, out_of_reach=True) is None
    assert alone.ended("a", 10 * PROBE_S, out_of_reach=True) is None


def test_one_that_rests_is_tried_at_once_where_somebody_asks_for_it() -> None:
    line = turns()
    line.enqueue("mute", RUN)
    serve(line)
    line.ended("mute", TURN_S, unfinished=True, out_of_reach=True)
    assert serve(line, TURN_S) is None
    assert not line.is_idle

    line.end_rest("mute")
    assert serve(line, TURN_S) == ("mute", "run")


# --- laws --------------------------------------------------------------------------------------

PASSES = st.sampled_from([RUN, STOCK, PRICES])
ASKED = st.lists(st.tuples(st.sampled_from("abcdefgh"), PASSES), min_size=1, max_size=40)


@pytest.mark.slow
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
        line.enqueue(tenant, work)
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
        line.ended(ending, 0.0, unfinished=unfinished)
        undone[ending] |= {work} if unfinished else set()
        waited |= {ending: 0} if undone[ending] else {}


@given(asked=ASKED, at_once=st.integers(1, 4))
def test_everything_asked_for_is_done_exactly_once(asked: list[tuple[str, Pass]], at_once: int) -> None:
    line = turns(at_once)
    for tenant, work in asked:
        line.enqueue(tenant, work)

    done = []
    while found := line.next(0.0):
        done.append(found)
        line.ended(found[0], 0.0)
    assert sorted(done, key=str) == sorted(set(asked), key=str)


@given(
    hanging=st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=7),
    at_once=st.integers(1, 4),
    lets_go=st.booleans(),
    turn_s=st.sampled_from([20.0, TURN_S]),
)
def test_however_many_hang_the_others_are_served_and_go_on_being_served(
    hanging: set[str], at_once: int, lets_go: bool, turn_s: float
) -> None:
    """Each that hangs costs the others a minute in one slot, once, and then moments; of it a grace, if its
    thread hangs too. The others have work every minute, which takes no time.
    """
    line = FairQueue[Pass](at_once, turn_s)
    begun: dict[str, float] = {}
    waiting_since: dict[str, float] = {}
    first: dict[str, float] = {}
    hung_up: dict[str, float] = {}
    longest = 0.0  # of the waits that began when each of those that hang had had its turn
    for second in range(int(20 * turn_s)):
        now = float(second)
        for tenant in "abcdefgh" if second % 60 == 0 else "":
            line.enqueue(tenant, RUN)
            waiting_since.setdefault(tenant, now)
        while found := line.next(now):
            tenant = found[0]
            if tenant in hanging:
                begun[tenant] = now
                continue
            line.ended(tenant, now)
            first.setdefault(tenant, now)
            since = waiting_since.pop(tenant)
            if hung_up.keys() == hanging and since > max(hung_up.values()) + GRACE_S:
                longest = max(longest, now - since)
        silent = {tenant: now - begun[tenant] for tenant in line.at_work}
        line.due_to_yield(now, silent)
        for tenant in line.due_to_hang_up(silent):
            hung_up.setdefault(tenant, now)
            if lets_go:
                line.ended(tenant, now, unfinished=True, out_of_reach=True)
        line.due_to_lose_slot(now)

    assert first.keys() == set("abcdefgh") - hanging
    cost = min(turn_s, MOST_SILENT_S) + GRACE_S + 2
    assert max(first.values()) <= -(-len(hanging) // at_once) * cost
    assert longest <= -(-len(hanging) // at_once) * (PROBE_S + 2)
