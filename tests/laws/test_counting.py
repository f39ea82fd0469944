"""Counting finds exactly the deleted, whatever the gaps, and asks for few counts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import log2

from hypothesis import given, settings
from hypothesis import strategies as st

from sync.model import Interval
from sync.passes.deletions import LISTED, Located, locate

ids = st.lists(st.integers(1, 5_000), min_size=1, max_size=300, unique=True).map(sorted)


class Tenant:
    """Counts and lists the ids it still has, and how often it was asked; a page with a broken id fails."""

    def __init__(self, alive: list[int], broken: frozenset[int] = frozenset()) -> None:
        self.alive = alive
        self.broken = broken
        self.asked = 0

    def count(self, interval: Interval) -> int:
        self.asked += 1
        assert interval.last is not None
        return bisect_right(self.alive, interval.last) - bisect_right(self.alive, interval.after)

    def counts(self, spans: Sequence[Interval]) -> list[int]:
        return [self.count(span) for span in spans]

    def lists(self, groups: Sequence[Sequence[int]]) -> list[set[int] | None]:
        self.asked += len(groups)
        assert all(len(ids) <= LISTED for ids in groups)
        return [None if self.broken & {*ids} else {*ids} & {*self.alive} for ids in groups]


def search(here: list[int], tenant: Tenant, page_size: int = 300) -> Located:
    whole = Interval(0, here[-1])
    missing = len(here) - tenant.count(whole)
    return locate(here, whole, missing, tenant, page_size)


def covered(found: Located) -> set[int]:
    return {i for span in found.unclear for i in range(span.after + 1, (span.last or 0) + 1)}


@given(ids, st.data())
def test_exactly_the_deleted_are_found(here: list[int], data: st.DataObject) -> None:
    deleted = data.draw(st.sets(st.sampled_from(here)))

    found = search(here, Tenant([i for i in here if i not in deleted]))

    assert set(found.gone) <= deleted
    assert deleted <= set(found.gone) | covered(found)
    assert len(found.gone) == len(set(found.gone))


@given(ids, st.data())
def test_what_is_there_and_not_here_is_read_or_found(here: list[int], data: st.DataObject) -> None:
    """Products are deleted and others appear between the known ids, as long as the numbers differ."""
    deleted = data.draw(st.sets(st.sampled_from(here)))
    appeared = data.draw(st.sets(st.integers(1, here[-1])).map(lambda found: found - set(here)))
    alive = sorted({*here, *appeared} - deleted)

    found = search(here, Tenant(alive))

    differs = len(alive) != len(here)
    assert bool(found.gone or found.unclear) == differs
    assert not set(found.gone) & set(alive)


@given(ids)
def test_nothing_deleted_costs_one_count(here: list[int]) -> None:
    tenant = Tenant(here)

    assert search(here, tenant) == Located()
    assert tenant.asked == 1


@settings(max_examples=10)
@given(st.lists(st.integers(0, 999_999), min_size=1, max_size=10, unique=True))
def test_ten_of_a_million_cost_about_a_hundred_and_thirty_requests(deleted: list[int]) -> None:
    tenant = Tenant(A_MILLION)
    here = sorted({*A_MILLION, *(2 * i + 1 for i in deleted)})
    tenant.asked = 0

    found = search(here, tenant)

    assert sorted(found.gone) == sorted(2 * i + 1 for i in deleted)
    assert tenant.asked <= 1 + len(deleted) * (log2(1_000_000 / LISTED) + 2)
    assert found.unclear == []


A_MILLION = list(range(2, 2_000_001, 2))


@settings(max_examples=20)
@given(st.lists(st.integers(0, 46_999), min_size=10, max_size=10, unique=True))
def test_ten_of_47_000_cost_at_most_seventy_requests(deleted: list[int]) -> None:
    tenant = Tenant([i for i in A_MILLION[:47_000] if i not in {2 * n + 2 for n in deleted}])

    found = search(A_MILLION[:47_000], tenant)

    assert sorted(found.gone) == sorted(2 * n + 2 for n in deleted)
    assert tenant.asked <= 70


@given(ids, st.data())
def test_a_broken_product_hides_no_deleted_one(here: list[int], data: st.DataObject) -> None:
    deleted = data.draw(st.sets(st.sampled_from(here)))
    alive = [i for i in here if i not in deleted]
    broken = data.draw(st.frozensets(st.sampled_from(alive))) if alive else frozenset()

    found = search(here, Tenant(alive, broken))

    assert sorted(found.gone) == sorted(deleted) or deleted <= set(found.gone) | covered(found)
    assert not set(found.gone) & set(alive)


@given(st.integers(0, 50))
def test_where_most_is_gone_a_range_is_read_instead_of_counted(offset: int) -> None:
    """Every third of 30,000 products is deleted: halving down to each would cost more than the pages."""
    here = list(range(offset + 1, offset + 30_001))
    tenant = Tenant([i for i in here if i % 3])

    found = search(here, tenant)

    assert {i for i in here if not i % 3} <= set(found.gone) | covered(found)
    assert tenant.asked < 400


@given(ids, st.randoms(use_true_random=False))
def test_a_catalogue_that_moves_between_two_counts_ends_the_search_all_the_same(
    here: list[int], chance: object
) -> None:
    """Each count is about another state: the answer is a suspicion, but there is one."""

    class Restless(Tenant):
        def count(self, interval: Interval) -> int:
            self.alive = [i for i in here if chance.random() < 0.9]  # type: ignore[attr-defined]
            return super().count(interval)

    found = search(here, Restless(here))

    assert set(found.gone) <= set(here)
