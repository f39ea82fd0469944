"""Search criteria name only what Commerce is known to understand, and notice when it understood otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from sync.commerce.listing import PRODUCTS
from sync.commerce.search import (
    LIGHT_FIELDS,
    Criteria,
    Echo,
    Filter,
    after,
    any_id,
    any_sku,
    updated_since,
    within,
)
from sync.model import Interval


def echo_of(criteria: Criteria, **changes: Any) -> Echo:
    """What a server echoes that understood."""
    groups = [
        {"filters": [{"field": f.field, "value": f.value, "condition_type": f.condition} for f in group]}
        for group in criteria.groups
    ]
    honest = {"filter_groups": groups, "page_size": criteria.page_size, "current_page": criteria.current_page}
    return msgspec.convert(honest | changes, Echo)


PAGE = Criteria(PRODUCTS, within(Interval(1200, 1500)), page_size=300)


def test_a_page_is_asked_for_by_key_in_camel_case() -> None:
    assert dict(PAGE.params()) == {
        "searchCriteria[filterGroups][0][filters][0][field]": "entity_id",
        "searchCriteria[filterGroups][0][filters][0][conditionType]": "gt",
        "searchCriteria[filterGroups][0][filters][0][value]": "1200",
        "searchCriteria[filterGroups][1][filters][0][field]": "entity_id",
        "searchCriteria[filterGroups][1][filters][0][conditionType]": "lteq",
        "searchCriteria[filterGroups][1][filters][0][value]": "1500",
        "searchCriteria[sortOrders][0][field]": "entity_id",
        "searchCriteria[sortOrders][0][direction]": "ASC",
        "searchCriteria[pageSize]": "300",
        "searchCriteria[currentPage]": "1",
    }


def test_a_light_request_names_the_total_and_the_echo_too() -> None:
    params = dict(Criteria(PRODUCTS, (after(0),), 1, fields=LIGHT_FIELDS).params())

    assert params["fields"] == "items[id],search_criteria,total_count"


def test_an_interval_without_an_end_sends_only_its_beginning_and_sends_it_for_0_too() -> None:
    assert within(Interval(0)) == ((Filter("entity_id", "gt", "0"),),)


def test_a_moment_is_sent_in_utc_in_the_one_form_commerce_reads() -> None:
    moment = datetime(2026, 3, 1, 10, 30, 7, 999, tzinfo=timezone(timedelta(hours=1)))

    assert updated_since(moment) == (Filter("updated_at", "gteq", "2026-03-01 09:30:07"),)


def test_skus_with_commas_are_told_apart() -> None:
    assert any_sku(["a,b", "c"]) == (Filter("sku", "eq", "a,b"), Filter("sku", "eq", "c"))


@pytest.mark.parametrize(
    ("field", "condition"), [("entity_id", "GT"), ("entity_id", "moreq"), ("id", "gt"), ("updated_at", "gte")]
)
def test_a_name_commerce_would_misunderstand_silently_is_refused_here(field: str, condition: str) -> None:
    with pytest.raises(ValueError, match="whitelist"):
        Criteria(PRODUCTS, ((Filter(field, condition, "1"),),), page_size=1)


@pytest.mark.parametrize(
    "wrong", [{"page_size": 0}, {"current_page": 0}, {"direction": "UP"}, {"fields": "items[id"}]
)
def test_a_page_that_means_something_else_is_refused_here(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"whitelist|does not exist"):
        replace(Criteria(PRODUCTS, (after(0),), page_size=1), **wrong)


def test_an_honest_echo_makes_no_difference() -> None:
    sort = [{"field": "entity_id", "direction": "asc"}]

    assert PAGE.difference(echo_of(PAGE)) is None
    assert PAGE.difference(echo_of(PAGE, sort_orders=sort, current_page=None)) is None


def test_the_order_of_groups_in_an_echo_means_nothing() -> None:
    groups = msgspec.to_builtins(echo_of(PAGE))["filter_groups"]

    assert PAGE.difference(echo_of(PAGE, filter_groups=groups[::-1])) is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"page_size": 20}, "page size of 20"),
        ({"page_size": None}, "page size of None"),
        ({"current_page": 2}, "page 2"),
        ({"filter_groups": []}, "other filters"),
        ({"sort_orders": [{"field": "name", "direction": "ASC"}]}, "order"),
        ({"sort_orders": [{"field": "entity_id", "direction": "DESC"}]}, "order"),
    ],
)
def test_an_echo_of_something_else_is_named(changes: dict[str, Any], named: str) -> None:
    assert named in (PAGE.difference(echo_of(PAGE, **changes)) or "")


def test_a_condition_that_became_equality_is_noticed() -> None:
    asked = Criteria(PRODUCTS, (any_id([1, 2]),), page_size=2)
    groups = [{"filters": [{"field": "entity_id", "value": "1,2", "condition_type": "eq"}]}]

    assert asked.difference(echo_of(asked, filter_groups=groups)) == "other filters than were sent"
