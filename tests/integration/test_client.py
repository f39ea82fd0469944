"""A GET of the tenant either brings an answer that makes sense or one sentence about why not."""

from __future__ import annotations

import time as time_of_day
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync.commerce.client import Answer
from sync.commerce.ims import ImsAuth
from sync.commerce.oauth import BearerAuth
from sync.commerce.reference import Reference
from sync.commerce.retry import RetryPolicy
from sync.commerce.store_views import store_views
from sync.errors import (
    AccessDenied,
    AnswerUnreadable,
    CommerceError,
    CommerceUnavailable,
    Interrupted,
    PageFailed,
    SettingsError,
    SyncError,
)
from sync.model import Interval, Page, Unreadable
from sync.sandbox import Sandbox
from tests.wire import Diary, Time, Wire, connect, connect_paas, ims_tokens, in_threads, oauth1


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def sandbox(time: Time) -> Iterator[Sandbox]:
    with Sandbox(products=3, store_views=("default", "de"), clock=time.clock) as running:
        yield running


@pytest.fixture
def wire(sandbox: Sandbox, time: Time) -> Wire:
    return connect(sandbox, time)


def stopped(ask: Callable[[], object]) -> SyncError:
    with pytest.raises(SyncError) as error:
        ask()
    return error.value


def count(wire: Wire) -> int:
    return wire.products.count("all").total


def page(wire: Wire, reader: Callable[[Answer], str] = str) -> str:
    everything = [("searchCriteria", "")]
    return wire.client.get("/V1/products", everything, "all", reader, kind="page", patient=False)


def tries(sandbox: Sandbox) -> int:
    return sum(served.kind != "token" for served in sandbox.requests)


# --- what is sent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 400])
def test_a_tenant_that_answers_nothing_is_left_within_the_time_of_one_request(
    sandbox: Sandbox, status: int
) -> None:
    """Several requests share the time allowed, and a small one shows that the size of a page is no cause."""
    wire = connect(sandbox, Time(max_retry_time=30.0))
    reported = {
        "message": "Internal Error. Details are available in Magento log file. Report ID: webapi-65f0"
    }
    for kind in ("reference", "other"):
        sandbox.faults.fail(status, body=reported, kind=kind)

    error = stopped(lambda: list(Reference(wire.client).attributes("all")))

    assert isinstance(error, CommerceUnavailable)
    assert sum(wire.time.waits) <= 30
    assert len(wire.diary.finished) <= 10
    assert wire.diary.finished[-1][0] == "/V1/store/storeViews"


def test_what_fails_alone_does_not_use_up_the_time_of_others(sandbox: Sandbox) -> None:
    """A product that fails each of its pages, longer than the time allowed for one request, is left out."""
    wire = connect(sandbox, Time(max_retry_time=1.0))
    sandbox.faults.poison(1)

    found = list(wire.products.walk("all", Interval()))

    assert [it.product_id for it in found if isinstance(it, Unreadable)] == [1]
    assert [it.product_id for page in found if isinstance(page, Page) for it in page.products] == [2, 3]


def test_saas_gets_the_store_view_as_a_header(sandbox: Sandbox, wire: Wire) -> None:
    wire.products.count("de")

    assert sandbox.requests[-1].path == "/sandbox/V1/products"
    assert sandbox.requests[-1].store_view == "de"


def test_paas_gets_the_store_view_in_the_path(sandbox: Sandbox) -> None:
    wire = connect_paas(sandbox)

    assert (wire.products.count("all").total, wire.products.count("de").total) == (3, 3)
    assert [served.path for served in sandbox.requests] == ["/rest/all/V1/products", "/rest/de/V1/products"]


def test_requests_are_signed_with_oauth_1(sandbox: Sandbox) -> None:
    """Brackets, commas and spaces in the query are part of the signature."""
    wire = connect_paas(sandbox, oauth1(sandbox))
    sandbox.catalogue.add(sku="a, b+c/é [1]")

    assert len(list(wire.products.by_skus("all", ["a, b+c/é [1]"]))) == 1


def test_a_slash_behind_the_base_url_changes_nothing(sandbox: Sandbox, time: Time) -> None:
    assert count(connect(sandbox, time, endpoint=f"{sandbox.endpoint}/")) == 3


def test_netrc_does_not_overwrite_the_token(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    assert count(wire) == 3


def test_cookies_are_not_kept(wire: Wire) -> None:
    count(wire)

    assert not list(wire.session.cookies)


def test_store_views_are_listed_without_the_admin_scope(wire: Wire) -> None:
    assert sorted(store_views(wire.client)) == ["de", "default"]


# --- who is refused, and why ------------------------------------------------------------------------------


def test_a_wrong_organisation_names_the_variable(sandbox: Sandbox, time: Time) -> None:
    auth = ImsAuth(ims_tokens(sandbox, time), "other@AdobeOrg")

    error = stopped(lambda: count(connect(sandbox, time, auth)))

    assert isinstance(error, AccessDenied)
    assert "IMS_ORG_ID" in error.fix


def test_a_refused_token_is_renewed_and_the_request_repeated_once(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.deny(401, kind="count", times=1)

    assert count(wire) == 3
    assert [served.kind for served in sandbox.requests] == ["token", "count", "token", "count"]
    assert wire.time.waits == [0]


def test_a_second_refusal_stops_and_names_the_missing_permission(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.deny(401, kind="count")

    error = stopped(lambda: count(wire))

    assert isinstance(error, AccessDenied)
    assert "Magento_Catalog::products" in error.fix
    assert tries(sandbox) == 2


@pytest.mark.parametrize("oauth", [False, True])
def test_an_integration_that_is_not_known_is_refused_without_a_repeat(sandbox: Sandbox, oauth: bool) -> None:
    auth = oauth1(sandbox, access_token_secret="wr0ng") if oauth else BearerAuth(lambda: "wr0ng")

    error = stopped(lambda: count(connect_paas(sandbox, auth)))

    assert isinstance(error, AccessDenied)
    assert "wr0ng" not in f"{error} {error.fix} {auth!r}"
    assert tries(sandbox) == 1


@pytest.mark.parametrize("paas", [False, True])
def test_an_unknown_store_view_is_a_matter_of_settings(sandbox: Sandbox, time: Time, paas: bool) -> None:
    wire = connect_paas(sandbox) if paas else connect(sandbox, time)

    error = stopped(lambda: wire.products.count("fr"))

    assert isinstance(error, SettingsError)
    assert "store view fr" in str(error)
    assert "STORE_VIEWS" in error.fix


def test_a_wrong_tenant_is_a_matter_of_settings(sandbox: Sandbox, time: Time) -> None:
    error = stopped(lambda: count(connect(sandbox, time, endpoint=f"{sandbox.host_url}/other-tenant")))

    assert isinstance(error, SettingsError)
    assert "API_ENDPOINT" in error.fix


def test_a_redirect_is_not_followed(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.fail(302, headers={"Location": f"{sandbox.host_url}/_sandbox/stats"}, kind="count")

    error = stopped(lambda: count(wire))

    assert isinstance(error, SettingsError)
    assert "redirect" in str(error)
    assert tries(sandbox) == 1


@pytest.mark.parametrize("location", ["http://[::1", "//", "http://:80:80/", "\\\\", "", "javascript:0"])
def test_a_redirect_to_nowhere_is_a_matter_of_settings_too(
    sandbox: Sandbox, wire: Wire, location: str
) -> None:
    sandbox.faults.fail(307, headers={"Location": location}, kind="count")

    error = stopped(lambda: count(wire))

    assert isinstance(error, SettingsError)
    assert "API_ENDPOINT" in error.fix


@pytest.mark.slow
@pytest.mark.parametrize("opening", ["[", '{"error":', '{"items":[', '{"items":[{"a":', '{"message":'])
@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize("depth", [900, 100_000])
def test_an_answer_that_is_nested_too_deep_is_an_answer_that_cannot_be_read(
    sandbox: Sandbox, wire: Wire, opening: str, status: int, depth: int
) -> None:
    """Closed as JSON wants it: the depth is all that is wrong."""
    closing = "".join({"[": "]", "{": "}"}[sign] for sign in reversed(opening) if sign in "[{")
    body = opening * depth + "0" + closing * depth
    sandbox.faults.fail(status, body=body, kind="count")

    assert isinstance(stopped(lambda: count(wire)), CommerceError)


def test_a_large_error_tells_its_status_and_no_more(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.fail(403, body="x" * (2 << 20), content_type="text/html", kind="count")

    assert "was answered 403" in str(stopped(lambda: count(wire)))


@pytest.mark.parametrize(
    ("ahead_s", "changes", "remedy"),
    [
        (660, {}, "clock"),
        (0, {"consumer_secret": "wrong"}, "proxy"),
        (0, {"access_token_secret": "wrong"}, "COMMERCE_ACCESS_TOKEN_SECRET"),
        (0, {"consumer_key": "wrong"}, "COMMERCE_CONSUMER_KEY"),
    ],
)
def test_a_refused_signature_has_the_remedy_of_its_cause(
    ahead_s: float, changes: dict[str, str], remedy: str
) -> None:
    """A clock eleven minutes ahead is refused as a nonce: the remedy is the clock, not the token."""
    with Sandbox(products=3, clock=lambda: time_of_day.time() - ahead_s) as sandbox:
        error = stopped(lambda: count(connect_paas(sandbox, oauth1(sandbox, **changes))))

    assert isinstance(error, AccessDenied)
    assert remedy in error.fix


# --- what is tried again ----------------------------------------------------------------------------------


def test_a_throttled_request_waits_as_long_as_it_is_told(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.fail(429, headers={"Retry-After": "7"}, kind="count", times=2)

    assert count(wire) == 3
    assert wire.time.waits == [7, 7]
    assert wire.diary.throttled_s == [7, 7]


def test_a_date_to_wait_for_is_read_on_the_server_s_clock(sandbox: Sandbox, wire: Wire) -> None:
    """The tenant's clock says 2030; ours does not matter."""
    sandbox.faults.quota(1, window=20, retry_after="date")

    assert (count(wire), count(wire)) == (3, 3)
    assert wire.time.waits == [20]


def test_maintenance_is_waited_for_until_the_time_is_spent(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.fail(503, kind="count")

    error = stopped(lambda: count(wire))

    assert isinstance(error, CommerceUnavailable)
    assert sum(wire.time.waits) == 900


def test_troubles_that_pass_are_waited_out(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.fail(502, kind="other", times=1)
    sandbox.faults.reset(kind="other", times=1)
    sandbox.faults.truncate(kind="other", times=1)
    sandbox.faults.html(kind="other", times=1)
    sandbox.faults.fail(400, body={"message": "Report ID: webapi-0123456789ab"}, kind="other", times=1)

    assert store_views(wire.client)
    assert len(wire.diary.retried) == 5


def test_html_in_place_of_json_ends_after_four_tries(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.html(kind="other")

    error = stopped(lambda: store_views(wire.client))

    assert isinstance(error, AnswerUnreadable)
    assert "HTML" in str(error)
    assert tries(sandbox) == 4


def test_json_in_a_shape_we_do_not_know_ends_after_four_tries(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.fail(200, body={"views": []}, kind="other")

    assert isinstance(stopped(lambda: store_views(wire.client)), AnswerUnreadable)
    assert tries(sandbox) == 4


def test_a_page_that_keeps_failing_is_left_to_its_caller_after_three_tries(
    sandbox: Sandbox, wire: Wire
) -> None:
    sandbox.faults.fail(500)

    error = stopped(lambda: page(wire))

    assert isinstance(error, PageFailed)
    assert tries(sandbox) == 3


def test_a_page_that_takes_too_long_is_too_large(sandbox: Sandbox, time: Time) -> None:
    wire = connect(sandbox, time, timeouts=(1.0, 0.05))
    sandbox.faults.slow(0.3)

    error = stopped(lambda: page(wire))

    assert isinstance(error, PageFailed)
    assert error.too_large


def test_a_body_behind_the_limit_is_not_read_however_well_packed(sandbox: Sandbox, time: Time) -> None:
    """A megabyte of spaces is a kilobyte of gzip."""
    wire = connect(sandbox, time, longest_body=100_000)
    sandbox.faults.fail(200, body="[" + " " * 1_000_000 + "]", kind="other")

    error = stopped(lambda: store_views(wire.client))

    assert isinstance(error, PageFailed)
    assert error.too_large


BROKEN_GZIP = {"Content-Encoding": "gzip"}


def test_a_page_that_is_not_in_the_coding_it_says_is_asked_for_again(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.fail(200, body="{}", headers=BROKEN_GZIP)

    error = stopped(lambda: page(wire, lambda answer: answer.body.decode()))

    assert isinstance(error, PageFailed)
    assert "127.0.0.1 sent a body that does not match its Content-Encoding" in str(error)
    assert tries(sandbox) == 3


def test_an_error_that_cannot_be_decoded_still_says_when_to_come_back(
    sandbox: Sandbox, wire: Wire, time: Time
) -> None:
    sandbox.faults.fail(429, body="{}", headers={**BROKEN_GZIP, "Retry-After": "7"}, kind="count", times=1)

    assert count(wire) == 3
    assert time.waits == [7]


def test_a_host_that_does_not_exist_is_given_up_after_half_a_minute(sandbox: Sandbox, time: Time) -> None:
    wire = connect(sandbox, time, endpoint="http://127.0.0.1:1/tenant")

    error = stopped(lambda: count(wire))

    assert isinstance(error, CommerceUnavailable)
    assert "127.0.0.1 cannot be reached: Connection refused." in str(error)
    assert sum(time.waits) == 30


def test_a_host_that_answered_before_is_waited_for(time: Time) -> None:
    with Sandbox(products=3, clock=time.clock) as sandbox:
        wire = connect(sandbox, time)
        count(wire)

    error = stopped(lambda: count(wire))

    assert isinstance(error, CommerceUnavailable)
    assert sum(time.waits) == 900


# --- stopping, reporting ----------------------------------------------------------------------------------


def test_a_stop_ends_a_wait_at_once(sandbox: Sandbox, time: Time) -> None:
    """With the real `Event.wait`: an hour to wait, and the stop comes as it begins."""

    class StopsAtTheFirstRetry(Diary):
        def request_retried(self, path: str, reason: str, wait_s: float, attempt: int) -> None:
            time.stop.set()

    time.retry_policy = RetryPolicy(time.stop.wait, max_retry_time=7200.0)
    wire = connect(sandbox, time, hook=StopsAtTheFirstRetry())
    sandbox.faults.fail(503, headers={"Retry-After": "3600"}, kind="count")

    assert isinstance(stopped(lambda: count(wire)), Interrupted)


def test_no_request_starts_after_a_stop(sandbox: Sandbox, wire: Wire) -> None:
    wire.time.stop.set()

    assert isinstance(stopped(lambda: count(wire)), Interrupted)
    assert sandbox.requests == []


def test_every_try_is_told_to_hook_and_pacer(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.fail(503, headers={"Retry-After": "2"}, kind="count", times=1)
    sandbox.faults.reset(kind="count", times=1)

    count(wire)

    assert [(status, attempt) for _, _, status, attempt in wire.diary.finished] == [
        (503, 1),
        (None, 2),
        (200, 3),
    ]
    assert [(told.status, told.retry_after, told.kind) for told in wire.pacer.outcomes] == [
        (503, 2, "light"),
        (None, None, "light"),
        (200, None, "light"),
    ]
    assert wire.diary.retried[0].startswith("GET /V1/products (store view all) was answered 503")


def test_a_token_that_cannot_be_had_gives_the_turn_back(sandbox: Sandbox, wire: Wire) -> None:
    sandbox.faults.fail(400, body={"error": "invalid_client"}, kind="token")

    assert isinstance(stopped(lambda: count(wire)), AccessDenied)
    assert wire.pacer.in_flight == 0


def test_threads_share_a_client(sandbox: Sandbox, wire: Wire) -> None:
    in_threads(8, lambda: [count(wire) for _ in range(5)])

    assert tries(sandbox) == 40
    assert wire.pacer.in_flight == 0


def test_an_answer_carries_the_server_s_clock(wire: Wire) -> None:
    answered = wire.products.count("all").server_time

    assert answered is not None
    assert answered.timestamp() == wire.time.now
