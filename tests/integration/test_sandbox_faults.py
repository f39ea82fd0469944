"""The sandbox's troubles: each hits the requests it names, as often as it says, and looks real."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from sync.sandbox import Sandbox


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    with Sandbox(products=30, clock=clock) as running:
        yield running


def page(sandbox: Sandbox, after: int = 0, size: int = 10, fields: str = "") -> requests.Response:
    """One keyset page."""
    query = {
        "searchCriteria[filter_groups][0][filters][0][field]": "entity_id",
        "searchCriteria[filter_groups][0][filters][0][condition_type]": "gt",
        "searchCriteria[filter_groups][0][filters][0][value]": str(after),
        "searchCriteria[sortOrders][0][field]": "entity_id",
        "searchCriteria[sortOrders][0][direction]": "ASC",
        "searchCriteria[pageSize]": str(size),
        "fields": fields,
    }
    headers = {"Authorization": f"Bearer {sandbox.credentials.integration_token}"}
    url = f"{sandbox.rest_endpoint}/all/V1/products"
    return requests.get(url, params=query, headers=headers, timeout=10)


def ids(answer: requests.Response) -> list[int]:
    return [item["id"] for item in answer.json()["items"]]


def test_a_failure_lasts_as_many_times_as_it_was_told(sandbox: Sandbox) -> None:
    sandbox.faults.fail(503, times=2, headers={"Retry-After": "7"})

    answers = [page(sandbox) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[0].headers["Content-Type"].startswith("text/html")


def test_failures_are_met_one_by_one_in_the_order_they_were_added(sandbox: Sandbox) -> None:
    sandbox.faults.fail(502, times=1)
    sandbox.faults.fail(504, times=1)

    assert [page(sandbox).status_code for _ in range(3)] == [502, 504, 200]


def test_a_failure_without_times_lasts_until_it_is_cleared(sandbox: Sandbox) -> None:
    sandbox.faults.fail(500, body={"message": "made up"})

    assert page(sandbox).json() == {"message": "made up"}
    assert page(sandbox).status_code == 500
    sandbox.faults.clear()
    assert page(sandbox).status_code == 200


def test_a_failure_can_wait_for_a_cursor_or_for_the_nth_page(sandbox: Sandbox) -> None:
    sandbox.faults.fail(503, after=20)
    assert [page(sandbox, after).status_code for after in (0, 10, 20, 25)] == [200, 200, 503, 503]

    sandbox.faults.clear()
    sandbox.faults.fail(503, page=2)
    assert [page(sandbox).status_code for _ in range(3)] == [200, 503, 200]


def test_a_failure_hits_only_its_kind_of_request(sandbox: Sandbox) -> None:
    sandbox.faults.fail(503, kind="count")

    assert page(sandbox).status_code == 200
    assert page(sandbox, fields="total_count").status_code == 503
    assert page(sandbox, fields="items[id],total_count").status_code == 503

    sandbox.faults.clear()
    sandbox.faults.fail(503, kind=None)
    assert requests.post(sandbox.token_url, timeout=10).status_code == 503


def test_permission_can_be_denied_by_commerce_or_by_the_gateway(sandbox: Sandbox) -> None:
    sandbox.faults.deny(401, times=1)
    sandbox.faults.deny(403, times=1)

    refused, forbidden = page(sandbox), page(sandbox)

    assert refused.json()["parameters"] == {"resources": "Magento_Catalog::products"}
    assert forbidden.json()["error_code"] == "403025"


@pytest.mark.parametrize("fault", ["reset", "truncate"])
def test_a_connection_breaks_in_the_middle_of_the_answer(sandbox: Sandbox, fault: str) -> None:
    getattr(sandbox.faults, fault)(times=1)

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        page(sandbox)
    assert page(sandbox).status_code == 200


def test_a_login_page_comes_with_status_200(sandbox: Sandbox) -> None:
    sandbox.faults.html()

    answer = page(sandbox)

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=UTF-8")


def test_an_outage_can_look_like_an_empty_shop(sandbox: Sandbox) -> None:
    sandbox.faults.empty()

    answer = page(sandbox).json()

    assert (answer["items"], answer["total_count"]) == ([], 0)
    assert answer["search_criteria"]["page_size"] == 10


def test_the_echo_and_the_order_can_be_wrong(sandbox: Sandbox) -> None:
    sandbox.faults.garble({"filter_groups": []}, times=1)
    sandbox.faults.shuffle(times=1)

    garbled, shuffled = page(sandbox), page(sandbox)

    assert garbled.json()["search_criteria"] == {"filter_groups": []}
    assert ids(shuffled) == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_a_delay_comes_on_top_of_what_else_happens(sandbox: Sandbox) -> None:
    sandbox.faults.slow(0.05, times=1)
    sandbox.faults.fail(503, times=1)

    assert page(sandbox).status_code == 503
    assert sandbox.requests[-1].seconds >= 0.05


def test_a_poisoned_product_spoils_every_answer_it_would_be_in(sandbox: Sandbox) -> None:
    sandbox.faults.poison(5)
    single = f"{sandbox.rest_endpoint}/V1/products/{sandbox.catalogue.document(5)['sku']}"
    headers = {"Authorization": f"Bearer {sandbox.credentials.integration_token}"}

    assert page(sandbox).json()["message"].startswith("Internal Error. Details are available in Magento log")
    assert page(sandbox, after=4, size=1, fields="total_count").status_code == 500
    assert requests.get(single, headers=headers, timeout=10).status_code == 500
    assert page(sandbox, after=5).status_code == 200
    sandbox.faults.cure(5)
    assert page(sandbox).status_code == 200


@pytest.mark.parametrize("limit", [{"max_products": 5}, {"max_bytes": 15_000}])
def test_a_page_too_large_for_the_memory_is_a_fatal_error(sandbox: Sandbox, limit: dict[str, int]) -> None:
    sandbox.faults.memory(**limit)

    too_large = page(sandbox, size=10)

    assert too_large.status_code == 500
    assert "Allowed memory size" in too_large.json()["messages"]["error"][0]["message"]
    assert page(sandbox, size=5).status_code == 200


@pytest.mark.parametrize(("kind", "wait"), [("fixed_window", 6), ("sliding", 10), ("token_bucket", 4)])
def test_a_quota_answers_429_until_the_clock_has_moved_on(
    sandbox: Sandbox, clock: Clock, kind: Any, wait: int
) -> None:
    """Three requests in 10 seconds, all of them 4 seconds into a window of the clock."""
    sandbox.faults.quota(3, window=10, kind=kind)
    clock.now += 4

    statuses = [page(sandbox).status_code for _ in range(5)]
    told = int(page(sandbox).headers["Retry-After"])
    clock.now += told

    assert statuses == [200, 200, 200, 429, 429]
    assert told == wait
    assert page(sandbox).status_code == 200


@pytest.mark.parametrize(
    ("kind", "after_a_quarter", "at_the_edge"),
    [("fixed_window", 0, 4), ("sliding", 0, 2), ("token_bucket", 1, 3)],
)
def test_limiters_differ_in_when_they_admit_again(
    sandbox: Sandbox, clock: Clock, kind: Any, after_a_quarter: int, at_the_edge: int
) -> None:
    """Four requests in 10 seconds: two at once, two after 1 second, then as many as it lets through."""
    start = clock.now
    sandbox.faults.quota(4, window=10, kind=kind)

    def admitted(moment: float, tries: int) -> int:
        clock.now = start + moment
        return sum(page(sandbox, size=1).ok for _ in range(tries))

    assert (admitted(0, 2), admitted(1, 2)) == (2, 2)
    assert admitted(2.5, 5) == after_a_quarter
    assert admitted(10, 5) == at_the_edge


def test_retry_after_comes_in_seconds_as_a_date_or_not_at_all(sandbox: Sandbox, clock: Clock) -> None:
    told: list[str | None] = []
    forms: list[Any] = ["seconds", "date", None]
    for form in forms:
        sandbox.faults.quota(0, window=10, retry_after=form)
        answer = page(sandbox)
        told.append(answer.headers.get("Retry-After"))

    assert answer.json() == {"error_code": "429050", "message": "Too many requests"}
    assert told[0] == "10"
    assert parsedate_to_datetime(told[1] or "").timestamp() == clock.now + 10
    assert told[2] is None
    sandbox.faults.quota(None)
    assert page(sandbox).status_code == 200


def test_token_requests_do_not_count_against_the_quota(sandbox: Sandbox) -> None:
    sandbox.faults.quota(1, window=10)

    requests.post(sandbox.token_url, timeout=10)

    assert [page(sandbox).status_code for _ in range(2)] == [200, 429]


def test_more_requests_than_workers_only_queue(sandbox: Sandbox) -> None:
    sandbox.faults.workers(2, seconds_per_page=0.05)
    began = time.perf_counter()

    with ThreadPoolExecutor(6) as clients:
        list(clients.map(lambda _: page(sandbox), range(6)))

    assert time.perf_counter() - began >= 0.15
    assert max(served.seconds for served in sandbox.requests) >= 0.1


def test_service_time_can_grow_with_the_products_on_a_page(sandbox: Sandbox) -> None:
    sandbox.faults.workers(1, seconds_per_request=0.01, seconds_per_product=0.005)

    page(sandbox, size=1)
    page(sandbox, size=20)

    small, large = (served.seconds for served in sandbox.requests)
    assert small < 0.1 <= large


def test_stopping_ends_answers_that_are_still_slow() -> None:
    with Sandbox() as sandbox:
        sandbox.faults.slow(60, kind=None)
        host, port = sandbox.host_url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout=10)
        connection.sendall(b"GET /rest/V1/products HTTP/1.1\r\nHost: sandbox\r\n\r\n")

    with connection, suppress(ConnectionResetError):
        assert b"200 OK" not in connection.recv(1_000)


def test_every_request_is_kept_with_what_it_asked_for(sandbox: Sandbox, clock: Clock) -> None:
    page(sandbox, after=20, size=7)

    served = sandbox.requests[-1]

    assert (served.method, served.path, served.status) == ("GET", "/rest/all/V1/products", 200)
    assert (served.kind, served.store_view, served.at) == ("page", "all", clock.now)
    assert (served.after_id, served.page_size, served.items_count) == (20, 7, 7)
