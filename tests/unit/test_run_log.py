"""The journal: a pipe hears of a long load every few seconds, and every request is counted."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest

from sync import logs
from sync.hooks.run_log import PROGRESS_S, RunLog
from sync.model import Interval, Page, RawProduct, Tally

PAGE = Page("all", Interval(0, 1), (RawProduct(1, b"{}"),), 1, None)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.configure("json", "INFO", stream=stream)
    yield stream
    logs.configure("json", "INFO", stream=io.StringIO())


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_pages_are_told_in_sum_every_few_seconds(stream: io.StringIO) -> None:
    """A page a second, for a minute."""
    clock = Clock()
    journal = RunLog(clock)

    journal.run_started(4, "backfill", ["all"], resumed=False)
    journal.products_expected(6000)
    for _ in range(60):
        clock.now += 1
        journal.page_written("all", PAGE, Tally(fetched=100, inserted=100))

    progress = [event for event in events(stream) if event["event"] == "run.progressed"]
    assert len(progress) == 60 / PROGRESS_S
    assert {event["run"] for event in progress} == {4}
    assert {"fetched": 6000, "inserted": 6000, "expected": 6000, "per_second": 100.0}.items() <= progress[
        -1
    ].items()


def test_a_worker_reports_no_progress_its_leader_does(stream: io.StringIO) -> None:
    clock = Clock()
    log = RunLog(clock, progress_s=inf)

    log.run_started(4, "backfill", ["all"], resumed=False)
    for _ in range(60):
        clock.now += 60
        log.page_written("all", PAGE, Tally(fetched=100, inserted=100))

    assert [event["event"] for event in events(stream)] == ["run.started"]


def test_every_try_is_a_request_and_refusals_and_repeats_are_counted(stream: io.StringIO) -> None:
    journal = RunLog()

    journal.request_finished("/V1/products", "all", 429, 0.1, 20, attempt=1)
    journal.request_finished("/V1/products", "all", 503, 0.1, 20, attempt=2)
    journal.request_finished("/V1/products", "all", None, 0.1, 0, attempt=3)
    journal.request_finished("/V1/products", "all", 200, 0.1, 900, attempt=4)
    journal.token_refreshed(0.2, 86_399)

    traffic = journal.traffic()
    assert (traffic.requests, traffic.throttled, traffic.retries) == (4, 2, 3)
    assert traffic.answer_seconds == pytest.approx(0.4)
    assert [event["event"] for event in events(stream)] == ["token.refreshed"]
