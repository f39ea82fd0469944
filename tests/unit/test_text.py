"""What people read is plain text that says what stands out, and cannot be steered by the catalogue."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sync.cli import text
from sync.db.overview import FeedState, StoreViewState
from sync.model import Tally, Traffic, duration
from sync.passes.reconcile import Drift
from sync.passes.run import Summary

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
RAN = Summary(
    run_id=3,
    kind="incremental",
    status="succeeded",
    store_views=("all", "fr"),
    tally=Tally(fetched=5, updated=2, unchanged=3),
    traffic=Traffic(requests=4),
    seconds=1.25,
)


def test_a_summary_tells_what_happened_and_leaves_out_what_did_not() -> None:
    assert text.summary_line(RAN) == (
        "incremental succeeded (all, fr): 5 read, 2 updated, 3 unchanged; 4 requests, 1.2 s."
    )


def test_one_is_no_plural() -> None:
    one = replace(RAN, tally=Tally(fetched=1), traffic=Traffic(requests=1))

    assert text.summary_line(one).endswith(": 1 read; 1 request, 1.2 s.")
    assert text.drift_report(RAN, [Drift("fr", "different", 1, [(7, None)])]).startswith(
        "store view fr: 1 product that differs\n"
    )


def test_a_dry_run_claims_to_have_written_nothing() -> None:
    told = text.summary_line(replace(RAN, dry=True))

    assert told.startswith("dry run, nothing was written (all, fr): 5 read, 2 would be updated")


def test_a_partial_run_says_why_and_where_to_look() -> None:
    partial = replace(RAN, status="partial", tally=Tally(rejected=1), held_back="Half of it is missing.")

    told = text.summary_line(partial)

    assert "Half of it is missing." in told
    assert "rejected_items" in told


def test_altered_products_are_counted_apart_from_rejected_ones() -> None:
    told = text.summary_line(replace(RAN, tally=Tally(fetched=5, updated=2, unchanged=3, altered=1)))

    assert ": 5 read, 2 updated, 3 unchanged, 1 altered; 4 requests" in told
    assert "rejected_items says which values were replaced" in told
    report = text.status_report(text.Status([], [], 2, None, altered=3))
    assert "Rejected products, not resolved: 2\nAltered products, copied with a value replaced: 3" in report
    assert '"open_rejections":2,' in (facts := text.status_json(text.Status([], [], 2, None, altered=3)))
    assert '"altered":3' in facts


def test_drift_is_told_with_its_first_examples() -> None:
    found = Drift("fr", "different", 12, [(7, "price, name"), (9, None)])

    assert text.drift_report(RAN, [found]).splitlines() == [
        "store view fr: 12 products that differ",
        "    7  price, name",
        "    9",
        "    … and 10 more",
    ]


def test_a_copy_that_was_compared_in_part_is_not_said_to_be_equal() -> None:
    """A store view is unknown to the tenant, or a product cannot be read."""
    assert text.drift_report(RAN, []) == "The copy equals the catalogue."
    said = text.drift_report(replace(RAN, status="partial"), [])
    assert said == "What could be compared (all, fr) equals the catalogue."


def test_a_history_tells_each_path_in_words() -> None:
    change = {
        "change_id": 8,
        "kind": "update",
        "changed_at": NOON,
        "fields": {"price": {"old": 3, "new": 4}, "name": {"new": "Bag"}, "weight": {"old": 1}},
    }

    assert text.history([change]).splitlines() == [
        "  2026-03-01 12:00:00  update  (change 8)",
        "    price: 3 -> 4",
        "    name: added Bag",
        "    weight: removed 1",
    ]


def test_a_product_name_cannot_steer_the_terminal() -> None:
    product = {
        "sku": "A\x1b[2J",
        "store_view": "all",
        "deleted_at": None,
        "left": False,
        "name": "red\x1b[31m",
        "document": "{}",
    }

    card = text.product_card(product, {})

    assert "\x1b" not in card
    assert "red\\x1b[31m" in card


def test_a_status_says_what_was_never_loaded_and_who_writes() -> None:
    views = [StoreViewState("all", 10, 1, NOON, timedelta(minutes=3)), StoreViewState("fr", 2, 0, None, None)]

    report = text.status_report(text.Status(views, [], 0, None))

    assert report.splitlines()[:3] == [
        "store view  products  deleted  complete up to       behind",
        "all         10        1        2026-03-01 12:00:00  3 min",
        "fr          2         0        never",
    ]
    assert report.endswith("Writing now: nobody")


def test_a_status_says_how_old_each_feed_is() -> None:
    feeds = [FeedState("stock", "partial", 7, NOON, timedelta(hours=3))]
    status = text.Status([], [], 0, None, feeds)

    assert "stock  2026-03-01 12:00:00  3 h 0 min  partial  7" in text.status_report(status)
    assert '"kind":"stock","status":"partial","run_id":7' in text.status_json(status)
    assert '"age":10800' in text.status_json(status)


def test_a_tenant_at_work_still_tells_why_its_last_pass_failed() -> None:
    runs: list[dict[str, str | None]] = [
        {"kind": "stock", "status": "running", "error": None},
        {"kind": "backfill", "status": "failed", "error": "Nobody answers."},
        {"kind": "backfill", "status": "failed", "error": "An older story."},
    ]

    report = text.statuses_report({"eu": text.Status([], runs, 0, None)})

    assert report.splitlines()[1:] == [
        "eu      0     never                   0         0        stock     running",
        "eu: Nobody answers.",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (3604, "1 h 0 min"),
        (9000, "2 h 30 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: int, words: str) -> None:
    assert duration(timedelta(seconds=seconds)) == words
