"""Every way a request can fail has one verdict: again, when, or which error ends it."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
import urllib3.exceptions
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from sync.commerce.retry import (
    LONGEST_BACKOFF_S,
    LONGEST_RETRY_AFTER_S,
    PAGE_TRIES,
    PageTooLarge,
    Retryable,
    RetryDecision,
    backoff,
    call_with_retries,
    judge_answer,
    judge_fault,
    judge_reading,
    retry_after,
    server_time,
)
from sync.commerce.transport import Body, BodyTooLarge
from sync.errors import (
    AccessDenied,
    AnswerUnreadable,
    CommerceUnavailable,
    Interrupted,
    PageFailed,
    RequestBlocked,
    RequestRefused,
    SettingsError,
    SyncError,
)
from tests.wire import Time

JSON = {"Content-Type": "application/json; charset=utf-8"}
HTML = {"Content-Type": "text/html; charset=UTF-8"}
REPORT = b'{"message":"Internal Error. Report ID: webapi-6b046ede83c68"}'
MEMORY = b'{"messages":{"error":[{"code":500,"message":"Allowed memory size of 792723456 bytes exhausted"}]}}'
PAGE = b"<html><head><title>Sorry</title></head></html>"


def decision_on(
    status: int, body: bytes = b"{}", headers: dict[str, str] = JSON, *, seconds: float = 0.1, patient: bool
) -> RetryDecision | None:
    lowered = CaseInsensitiveDict(headers)
    return judge_answer("GET /V1/products", status, lowered, Body(body), seconds=seconds, patient=patient)


def judged(status: int, body: bytes = b"{}", headers: dict[str, str] = JSON, **more: Any) -> RetryDecision:
    decision = decision_on(status, body, headers, **{"patient": True} | more)
    assert decision is not None
    return decision


# --- answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/JSON; charset=utf-8", "application/hal+json"]
)
def test_json_with_200_proceeds(content_type: str) -> None:
    assert decision_on(200, headers={"Content-Type": content_type}, patient=True) is None


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("patient", [True, False])
def test_a_tenant_that_asks_for_time_gets_all_there_is(status: int, patient: bool) -> None:
    decision = judged(status, PAGE, HTML, patient=patient)

    assert isinstance(decision.error, CommerceUnavailable)
    assert decision.tries is None


def test_retry_after_is_part_of_the_verdict() -> None:
    assert judged(429, headers=JSON | {"Retry-After": "7"}).retry_after == 7


def test_only_a_request_to_slow_down_counts_as_throttled() -> None:
    assert judged(429).throttled
    assert judged(503, headers=HTML | {"Retry-After": "5"}).throttled
    assert not judged(503, PAGE, HTML).throttled
    assert not judged(500).throttled


@pytest.mark.parametrize(
    ("status", "body"), [(500, REPORT), (502, PAGE), (520, PAGE), (408, b""), (499, b""), (400, REPORT)]
)
def test_a_server_error_ends_a_page_after_three_tries_and_anything_else_when_time_is_spent(
    status: int, body: bytes
) -> None:
    page, other = judged(status, body, patient=False), judged(status, body)

    assert isinstance(page.error, PageFailed)
    assert (page.error.too_large, page.tries) == (False, PAGE_TRIES)
    assert isinstance(other.error, CommerceUnavailable)
    assert other.tries is None


@pytest.mark.parametrize(("status", "body"), [(504, PAGE), (524, PAGE), (413, PAGE), (500, MEMORY)])
def test_a_page_that_is_too_large_is_not_asked_for_twice(status: int, body: bytes) -> None:
    decision = judged(status, body, patient=False)

    assert isinstance(decision.error, PageFailed)
    assert (decision.error.too_large, decision.tries) == (True, 1)


def test_a_503_after_half_a_minute_is_a_time_out_of_the_edge() -> None:
    decision = judged(503, PAGE, HTML, seconds=60.0, patient=False)

    assert isinstance(decision.error, PageFailed)
    assert decision.error.too_large


def test_the_page_size_the_tenant_allows_is_read_from_its_refusal() -> None:
    body = b'{"message":"Maximum SearchCriteria pageSize is %max","parameters":{"max":100}}'

    decision = judged(400, body, patient=False)

    assert isinstance(decision.error, PageTooLarge)
    assert (decision.error.maximum, decision.tries) == (100, 1)


def test_html_with_200_is_asked_again_a_few_times() -> None:
    page, other = judged(200, PAGE, HTML, patient=False), judged(200, PAGE, HTML)

    assert (type(page.error), page.tries) == (PageFailed, 3)
    assert (type(other.error), other.tries) == (AnswerUnreadable, 4)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_renewed_once_and_the_request_repeated_once_at_once(status: int) -> None:
    decision = judged(status, b'{"error_code":"401013","message":"Oauth token is not valid"}')

    assert isinstance(decision.error, AccessDenied)
    assert (decision.renew, decision.tries, decision.retry_after) == (True, 2, 0)


def test_a_missing_permission_is_named() -> None:
    body = (
        b'{"message":"The consumer isn\'t authorized to access %resources.",'
        b'"parameters":{"resources":"Magento_Catalog::products"}}'
    )

    decision = judged(401, body)

    assert "Magento_Catalog::products" in str(decision.error)
    assert "Magento_Catalog::products" in decision.error.fix


@pytest.mark.parametrize("status", [403, 405, 406])
def test_a_firewall_that_answers_html_is_not_asked_for_a_new_token(status: int) -> None:
    decision = judged(status, PAGE, HTML)

    assert isinstance(decision.error, AccessDenied)
    assert not decision.renew
    assert "User-Agent" in decision.error.fix


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"message":"Request does not match any route.","trace":null}'),
        (400, b'{"message":"Specified request cannot be processed."}'),
    ],
)
def test_a_wrong_base_url_or_store_view_is_a_matter_of_settings(status: int, body: bytes) -> None:
    decision = judged(status, body)

    assert isinstance(decision.error, SettingsError)
    assert "STORE_VIEWS" in decision.error.fix
    assert "API_ENDPOINT" in decision.error.fix


def test_a_missing_organisation_is_a_matter_of_credentials() -> None:
    decision = judged(400, b'{"error_code":"400003","message":"Missing header"}')

    assert isinstance(decision.error, AccessDenied)
    assert "IMS_ORG_ID" in decision.error.fix


def test_a_redirect_is_refused_without_repeating_its_query() -> None:
    headers = {"Location": "https://other.example/login?next=secret"}

    decision = judged(302, b"", headers)

    assert isinstance(decision.error, SettingsError)
    assert "https://other.example/login;" in str(decision.error)
    assert "secret" not in str(decision.error)
    assert "API_ENDPOINT" in decision.error.fix


def test_any_other_4xx_is_our_fault() -> None:
    assert isinstance(judged(400, b'{"message":"The sort order has to be specified."}').error, RequestRefused)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b"<html>Request Header Or Cookie Too Large</html>"),
        (402, b"{}"),
        (411, b""),
        (426, b""),
        (451, b"[]"),
        (400, b"{}"),
        (400, b"null"),
        (405, b'["message"]'),
        (409, b'"message"'),
        (422, b'{"message": 5}'),
        (422, b'{"message": "\\u0007 "}'),
        (422, b'{"message": null, "errors": [{"message": []}, 7]}'),
    ],
)
def test_a_4xx_that_commerce_did_not_write_is_not_our_fault(status: int, body: bytes) -> None:
    decision = judged(status, body)

    assert isinstance(decision.error, RequestBlocked)
    assert decision.error.exit_code == 77
    assert "firewall or proxy" in decision.error.fix


@given(st.integers(300, 599), st.binary(max_size=50), st.booleans())
def test_no_answer_is_without_a_verdict(status: int, body: bytes, patient: bool) -> None:
    assert decision_on(status, body, HTML, patient=patient) is not None


# --- faults -----------------------------------------------------------------------------------------------


def fault_decision(
    fault: requests.RequestException, *, reached: bool = True, patient: bool = True
) -> RetryDecision:
    return judge_fault(fault, host="shop.example", setting="API_ENDPOINT", reached=reached, patient=patient)


def connection_error(reason: Exception) -> requests.ConnectionError:
    pool: Any = None
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/V1/products?secret", reason))


def refused() -> requests.ConnectionError:
    pool: Any = None
    reason = urllib3.exceptions.NewConnectionError(pool, "Failed to establish a new connection")
    reason.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return connection_error(reason)


def test_a_host_that_never_answered_is_given_up_after_half_a_minute() -> None:
    decision = fault_decision(refused(), reached=False)

    assert isinstance(decision.error, CommerceUnavailable)
    assert decision.within_s == 30
    assert str(decision.error) == "shop.example cannot be reached: Connection refused."
    assert "API_ENDPOINT" in decision.error.fix


def test_a_host_that_has_answered_before_gets_all_the_time_there_is() -> None:
    decision = fault_decision(refused(), patient=False)

    assert isinstance(decision.error, CommerceUnavailable)
    assert (decision.within_s, decision.tries) == (None, None)


def test_a_certificate_that_cannot_be_verified_stops_at_once() -> None:
    wrong = urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed certificate"))

    decision = fault_decision(requests.exceptions.SSLError(urllib3.exceptions.MaxRetryError(Any, "/", wrong)))  # type: ignore[arg-type]

    assert isinstance(decision.error, CommerceUnavailable)
    assert decision.tries == 1
    assert "SYNC_CA_BUNDLE" in decision.error.fix


@pytest.mark.parametrize("during_body", [False, True])
def test_a_page_that_does_not_come_in_time_is_too_large(during_body: bool) -> None:
    pool: Any = None
    late = urllib3.exceptions.ReadTimeoutError(pool, "/", "Read timed out.")
    fault = requests.ConnectionError(late) if during_body else requests.ReadTimeout(late)

    page, other = fault_decision(fault, patient=False), fault_decision(fault)

    assert isinstance(page.error, PageFailed)
    assert (page.error.too_large, page.tries) == (True, 1)
    assert isinstance(other.error, CommerceUnavailable)


@pytest.mark.parametrize(
    "fault",
    [
        requests.ConnectionError(
            urllib3.exceptions.ProtocolError("aborted", ConnectionResetError(104, "reset"))
        ),
        requests.exceptions.ChunkedEncodingError(urllib3.exceptions.ProtocolError("IncompleteRead")),
        requests.exceptions.ContentDecodingError("not gzip"),
    ],
)
def test_a_connection_that_breaks_off_is_tried_again(fault: requests.RequestException) -> None:
    page, other = fault_decision(fault, patient=False), fault_decision(fault)

    assert (type(page.error), page.tries) == (PageFailed, PAGE_TRIES)
    assert (type(other.error), other.tries) == (CommerceUnavailable, None)


def test_a_body_behind_the_limit_is_too_large() -> None:
    decision = fault_decision(BodyTooLarge())

    assert isinstance(decision.error, PageFailed)
    assert decision.error.too_large


@pytest.mark.parametrize(
    "fault", [requests.exceptions.InvalidURL("x"), requests.exceptions.MissingSchema("x")]
)
def test_a_url_that_is_none_is_a_matter_of_settings(fault: requests.RequestException) -> None:
    assert isinstance(fault_decision(fault).error, SettingsError)


def test_a_header_that_cannot_be_sent_does_not_show_its_value() -> None:
    fault = requests.exceptions.InvalidHeader("Invalid header value: 'Bearer s3cr3t\\n'")

    decision = fault_decision(fault)

    assert isinstance(decision.error, SettingsError)
    assert "s3cr3t" not in str(decision.error) + decision.error.fix


def test_an_answer_that_makes_no_sense_is_asked_for_again() -> None:
    assert judge_reading(AnswerUnreadable("drift")).tries == 4
    assert judge_reading(PageFailed("cut short")).tries == 3


# --- when -------------------------------------------------------------------------------------------------

ANSWERED = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("1.5", 1.5),
        ("0", 0.5),
        ("-3", 0.5),
        ("Mon, 23 Nov 2026 12:00:40 GMT", 40.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.5),
        ("99999999", LONGEST_RETRY_AFTER_S),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_on_the_server_s_own_clock(
    value: str | None, seconds: float | None
) -> None:
    assert retry_after(value, ANSWERED) == seconds


def test_a_date_means_nothing_without_the_server_s_clock() -> None:
    assert retry_after("Mon, 23 Nov 2026 12:00:40 GMT", None) is None


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("Mon, 23 Nov 2026 12:00:00 GMT", ANSWERED),
        ("Mon, 23 Nov 2026 13:00:00 +0100", ANSWERED),
        ("Mon, 23 Nov 2026 12:00:00", ANSWERED),
        ("yesterday", None),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None),
        ("Tue, 24 Nov 99999999999 10:00:00 GMT", None),
    ],
)
def test_the_server_s_clock_is_aware_utc_or_unknown(value: str, moment: datetime | None) -> None:
    assert server_time({"Date": value}) == moment


def test_backoff_doubles_up_to_a_minute() -> None:
    assert [backoff(failures, lambda: 1.0) for failures in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 32, 60, 60]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_jittered_within_bounds(failures: int, luck: float) -> None:
    waited = backoff(failures, lambda: luck)

    assert 0.5 <= waited <= LONGEST_BACKOFF_S
    assert backoff(failures, lambda: 0.0) * 2 == backoff(failures, lambda: 1.0)


# --- the loop ---------------------------------------------------------------------------------------------


def failing(*decisions: RetryDecision) -> Callable[[int], str]:
    """Fails with these verdicts in turn, the last one for ever."""

    def once(attempt: int) -> str:
        raise Retryable(decisions[min(attempt, len(decisions)) - 1])

    return once


def ignore(decision: RetryDecision, wait_s: float, attempt: int) -> None: ...


BUSY = RetryDecision(CommerceUnavailable("busy"))
BROKEN = RetryDecision(PageFailed("broken"), tries=3)


def spent(time: Time, once: Callable[[int], str]) -> SyncError:
    with pytest.raises(SyncError) as stopped:
        call_with_retries(once, time.retry_policy, ignore)
    return stopped.value


def test_a_try_that_succeeds_is_the_last() -> None:
    time = Time()

    assert call_with_retries(lambda attempt: f"try {attempt}", time.retry_policy, ignore) == "try 1"
    assert time.waits == []


def test_nothing_is_given_up_before_the_time_is_spent_and_nothing_tried_after() -> None:
    time = Time(max_retry_time=900)

    assert spent(time, failing(BUSY)) is BUSY.error
    assert sum(time.waits) == 900


def test_the_server_s_wait_is_obeyed_to_the_second() -> None:
    time = Time(max_retry_time=60)

    spent(time, failing(RetryDecision(CommerceUnavailable("busy"), retry_after=25)))

    assert time.waits == [25, 25]


def test_a_wait_beyond_the_time_allowed_is_not_begun() -> None:
    time = Time(max_retry_time=60)

    spent(time, failing(RetryDecision(CommerceUnavailable("busy"), retry_after=61)))

    assert time.waits == []


def test_a_verdict_with_a_number_of_tries_ends_there() -> None:
    time = Time()

    assert spent(time, failing(BROKEN)) is BROKEN.error
    assert len(time.waits) == 2


def test_waiting_for_a_busy_tenant_does_not_use_up_the_tries_of_a_broken_page() -> None:
    time = Time()

    assert spent(time, failing(BUSY, BUSY, BUSY, BROKEN)) is BROKEN.error
    assert len(time.waits) == 5


def test_a_shorter_limit_than_the_time_allowed_is_kept() -> None:
    time = Time(max_retry_time=900)

    spent(time, failing(RetryDecision(CommerceUnavailable("no such host"), within_s=30)))

    assert sum(time.waits) == 30


def test_a_stop_during_a_wait_ends_it_at_once() -> None:
    time = Time()
    time.stop.set()

    assert isinstance(spent(time, failing(BUSY)), Interrupted)
    assert len(time.waits) == 1


def test_what_must_come_before_the_next_try_happens_only_if_there_is_one() -> None:
    time, renewed = Time(), []

    def once(attempt: int) -> str:
        decision = RetryDecision(AccessDenied("no"), tries=2, retry_after=0, renew=True)
        raise Retryable(decision, lambda: renewed.append(attempt))

    spent(time, once)

    assert renewed == [1]


def test_every_wait_is_reported_before_it_begins() -> None:
    time, told = Time(), []

    with pytest.raises(PageFailed):
        call_with_retries(
            failing(BROKEN),
            time.retry_policy,
            lambda decision, wait_s, attempt: told.append((attempt, wait_s)),
        )

    assert told == [(1, 0.75), (2, 1.5)]


@pytest.mark.parametrize("tries", [2, 5])
def test_retries_leave_no_reference_cycles(tries: int) -> None:
    """Neither a request that succeeds at the third try nor one that fails."""

    def once(attempt: int) -> str:
        if attempt == 3:
            return "done"
        decision = RetryDecision(PageFailed("broken"), tries=tries)
        raise Retryable(decision, lambda: None)

    time = Time()
    gc.collect()
    gc.disable()
    try:
        with suppress(PageFailed):
            call_with_retries(once, time.retry_policy, ignore)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_any_other_error_passes_through() -> None:
    def once(attempt: int) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call_with_retries(once, Time().retry_policy, ignore)


@pytest.mark.parametrize("status", [101, 102, 103, 199])
def test_what_precedes_an_answer_is_no_answer(status: int) -> None:
    assert isinstance(judged(status).error, CommerceUnavailable)
