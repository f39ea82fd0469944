"""Events are hints: what they name is read and written like any page, whatever the journal does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from sync.commerce.ims import ImsTokens
from sync.commerce.retry import RetryPolicy
from sync.commerce.transport import open_session
from sync.db import state
from sync.errors import AccessDenied, AnswerUnreadable, CommerceUnavailable, SettingsError, SyncError
from sync.events.journal import Journal, JournalAuth, PositionExpired
from sync.events.reader import Reader
from sync.passes.events import EVENTS, follow
from sync.sandbox import Sandbox
from sync.sandbox.journal import CODES
from tests.consumers import assert_all_end_right
from tests.kit import Bench


@pytest.fixture
def shop() -> Iterator[Sandbox]:
    with Sandbox(products=40) as sandbox:
        sandbox.journal.is_on = True
        yield sandbox


def reader(shop: Sandbox, patience_s: float = 20.0, **members: Any) -> Reader:
    session = open_session("product-sync/test")
    policy = RetryPolicy(lambda seconds: False, patience_s)
    secret = shop.credentials.client_secret
    tokens = ImsTokens(
        shop.token_url,
        shop.credentials.client_id,
        lambda: secret,
        ["adobeio_api"],
        session=session,
        retry_policy=policy,
    )
    auth = JournalAuth(tokens, shop.credentials.org_id)
    return Reader(Journal(shop.journal_url, auth, session=session, retry_policy=policy), **members)


@pytest.fixture
def bench(shop: Sandbox, sqlite: sa.Engine) -> Bench:
    """A loaded copy that has begun to follow."""
    bench = Bench(shop, sqlite)
    follow(bench.sync(), reader(shop), once=True)
    return bench


def told(bench: Bench) -> Reader:
    """Follow to the journal's end; returns the reader."""
    found = reader(bench.sandbox)
    follow(bench.sync(), found, once=True)
    return found


def position(bench: Bench) -> dict[str, Any]:
    with bench.db.connect() as connection:
        kept: dict[str, Any] = state.load(connection, EVENTS)
    return kept


# --- what events lead to ---------------------------------------------------------------------


def test_edits_additions_and_deletions_arrive_without_a_pass(shop: Sandbox, db: sa.Engine) -> None:
    bench = Bench(shop, db)
    told(bench)
    shop.catalogue.edit(7, name="A new name")
    shop.catalogue.delete(8)
    added = shop.catalogue.add(name="New")
    before = len(shop.requests)

    told(bench)

    assert bench.live("all")[7]["name"] == "A new name"
    assert (8 in bench.live("all"), added in bench.live("all")) == (False, True)
    assert len(shop.requests) - before <= 7  # two tokens, one page, four to prove what is gone
    assert_all_end_right(bench)


def test_nothing_new_asks_the_tenant_for_nothing(bench: Bench, shop: Sandbox) -> None:
    before = len(shop.requests)

    told(bench)

    assert [it for it in shop.requests[before:] if it.kind != "token"] == []


def test_order_repetition_and_unknown_products_do_no_harm(bench: Bench, shop: Sandbox) -> None:
    journal = shop.journal
    shop.catalogue.edit(7, name="A new name")
    journal.publish(CODES["delete"], {"id": 7})  # still answers: made again, or out of order
    journal.publish(CODES["save"], {"entity_id": "8", "sku": "whatever"})
    journal.publish(CODES["save"], {"id": 4_000_000}, eventid="twice")
    journal.publish(CODES["save"], {"id": 4_000_000}, eventid="twice")
    journal.publish(CODES["stock"], {"product_id": "9"})

    counts = told(bench).counts

    assert (counts.read, counts.duplicate, counts.unknown) == (6, 1, 0)
    assert len(bench.live("all")) == 40
    assert [(it.kind, it.product_id) for it in bench.changes()[40:]] == [("update", 7)]


@pytest.mark.parametrize(
    "record",
    [None, 5, "text", [], {}, {"type": 7, "data": "x"}, {"type": CODES["save"]}]
    + [
        {"type": CODES["save"], "data": {"value": {"id": bad}}}
        for bad in (0, -1, 2**40, "x", None, True, [1])
    ]
    + [{"type": "com.adobe.commerce.observer.something_else", "data": {"value": {"id": 7}}}],
)
def test_what_is_not_understood_is_counted_and_passed_over(bench: Bench, shop: Sandbox, record: Any) -> None:
    shop.journal.append_raw(record)
    shop.catalogue.edit(7, name="A new name")

    counts = told(bench).counts

    assert (counts.read, counts.unknown) == (2, 1)
    assert bench.live("all")[7]["name"] == "A new name"


def test_codes_with_a_prefix_or_an_alias_are_understood(bench: Bench, shop: Sandbox) -> None:
    shop.journal.is_on = False
    shop.catalogue.edit(7, name="A new name")
    shop.catalogue.delete(8)
    shop.journal.publish("com.adobe.commerce.app.observer.catalog_product_save_commit_after", {"id": 7})
    shop.journal.publish("com.example.gone", {"sku": bench.live("all")[8]["sku"]})

    follow(bench.sync(), reader(shop, codes={"com.example.gone": "product-delete"}), once=True)

    assert bench.live("all")[7]["name"] == "A new name"
    assert 8 not in bench.live("all")


def test_events_of_another_instance_are_not_ours(bench: Bench, shop: Sandbox) -> None:
    shop.journal.source = "merchant.other"
    shop.catalogue.edit(7, name="A new name")

    follow(bench.sync(), reader(shop, source="merchant.sandbox"), once=True)

    assert bench.live("all")[7]["name"] != "A new name"


def test_a_burst_is_read_in_whole_pages(bench: Bench, shop: Sandbox) -> None:
    for number in range(1, 41):
        for _ in range(5):
            shop.catalogue.edit(number, name=f"Name {number}")
    before = len(shop.requests)

    told(bench)

    assert {document["name"] for document in bench.live("all").values()} == {
        f"Name {i}" for i in range(1, 41)
    }
    assert sum(it.kind == "page" for it in shop.requests[before:]) <= 2


# --- positions -------------------------------------------------------------------------------


def test_the_end_of_the_journal_is_noted_before_a_first_load(shop: Sandbox, sqlite: sa.Engine) -> None:
    bench = Bench(shop, sqlite, max_retry_time=0.1)
    shop.faults.fail(503, kind="count")
    shop.faults.fail(503, kind="page")

    with pytest.raises(SyncError):
        told(bench)
    shop.faults.clear()
    shop.catalogue.edit(7, name="Since then")

    assert position(bench)["link"]
    assert told(bench).counts.read == 1


def test_a_position_moves_only_with_its_effect(bench: Bench, shop: Sandbox) -> None:
    """A run that fails leaves it, and the next one reads the same events again."""
    before = position(bench)
    shop.catalogue.edit(7, name="A new name")
    shop.faults.fail(503, kind="count")
    shop.faults.fail(503, kind="page")
    bench.max_retry_time = 0.1
    with pytest.raises(SyncError):
        told(bench)
    assert position(bench) == before

    shop.faults.clear()
    told(bench)

    assert bench.live("all")[7]["name"] == "A new name"
    assert position(bench) != before


def test_an_expired_position_is_a_gap_that_a_pass_closes(bench: Bench, shop: Sandbox) -> None:
    shop.catalogue.edit(7, name="A new name")
    shop.catalogue.delete(8)
    shop.journal.expire()

    told(bench)

    assert bench.live("all")[7]["name"] == "A new name"
    assert 8 not in bench.live("all")
    assert position(bench)["state"] == "following"
    assert "gap, caught up by run" in position(bench)["reason"]


def test_a_position_of_another_journal_is_not_used(bench: Bench, shop: Sandbox) -> None:
    with bench.db.begin() as tx:
        state.save(tx, EVENTS, position(bench) | {"journal": "https://events.example/other"})
    shop.catalogue.edit(7, name="A new name")

    assert told(bench).counts.read == 0  # it begins at the end; the next pass finds the edit


# --- the journal's answers -------------------------------------------------------------------


@pytest.mark.parametrize("statuses", [[500], [503, 502], [429], [401]])
def test_a_passing_refusal_is_waited_for(bench: Bench, shop: Sandbox, statuses: list[int]) -> None:
    shop.catalogue.edit(7, name="A new name")
    shop.journal.failures += statuses

    told(bench)

    assert bench.live("all")[7]["name"] == "A new name"


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, AccessDenied), (404, SettingsError), (401, AccessDenied), (500, CommerceUnavailable)],
)
def test_a_lasting_refusal_names_what_to_check(
    bench: Bench, shop: Sandbox, status: int, error: type[SyncError]
) -> None:
    shop.journal.failures += [status] * 100_000

    with pytest.raises(error) as stopped:
        follow(bench.sync(), reader(shop, patience_s=0.1), once=True)

    assert "journal" in str(stopped.value)
    assert "EVENTS_" in stopped.value.fix or status == 500


@pytest.mark.parametrize("link", ["http://other.example/events", "//other.example/x", "ftp://127.0.0.1/x"])
def test_a_link_to_another_host_is_not_followed(shop: Sandbox, link: str) -> None:
    with pytest.raises(AnswerUnreadable, match="not followed"):
        reader(shop).journal.read(link)


def test_expired_positions_are_told_apart(shop: Sandbox) -> None:
    shop.catalogue.edit(7, name="A new name")
    journal = reader(shop).journal
    link = journal.read(journal.oldest).next
    shop.catalogue.edit(7, name="Another")
    shop.catalogue.edit(7, name="Yet another")
    shop.journal.expire()

    with pytest.raises(PositionExpired):
        journal.read(link)
