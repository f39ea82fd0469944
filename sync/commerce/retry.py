"""Whether and when a failed request is tried again: a pure decision for each failure, and the retry loop.

`judge_answer`, `judge_fault` and `judge_reading` turn a failure into a RetryDecision, and
`call_with_retries` follows it:

    429, 503                          wait for Retry-After, else back off, until the time allowed is spent
    5xx, 408, 499, reset, time-out    back off; a page fails after 3 tries, then a smaller one is tried
    504, 413, time-out, memory        a page fails at once: it is too large
    400 for the page size             stop: the answer names the largest page
    400 with a report id              as a 500: newer Commerce answers database faults like that
    401, 403                          renew the token, try once more, then stop
    4xx without message, 402, 451     by a proxy or firewall: 4 tries, a page 3, a list that can be halved 1
    HTML instead of JSON              4 tries, a page 3, then stop
    redirect, 404                     stop: the base URL or the store view is wrong
    any other 4xx of Commerce         stop: our request is wrong
    never reached                     30 s: a typo must not hang for a quarter of an hour
    certificate                       stop: waiting does not repair it

Sources: Adobe Commerce Web API, "Rate limiting" and "Server-to-server authentication"; RFC 9110 section
10.2.3 (Retry-After); Amazon Builders' Library, "Timeouts, retries, and backoff with jitter". Observed on
Magento 2.4.7: maintenance is 503 with HTML, PHP down 502 with HTML, database down 500 with text, memory spent
500 with the fatal handler's JSON.
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from math import inf, isfinite
from typing import Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import requests
import urllib3.exceptions

from sync.commerce.deadlines import UnusableCaBundle
from sync.commerce.error_bodies import ErrorBody, clean, read_error_body, remedy
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

T = TypeVar("T")

PAGE_TRIES: Final = 3
OTHER_TRIES: Final = 4
UNREACHED_S: Final = 30.0
LIKELY: Final = 3  # different requests that fail, and none is answered: an outage, or a broken item
LONGEST_BACKOFF_S: Final = 60.0
LONGEST_RETRY_AFTER_S: Final = 3600.0
SHORTEST_RETRY_AFTER_S: Final = 0.5  # a server that says 0 must not be asked in a tight loop
SLOW_503_S: Final = 30.0
TOO_LARGE: Final = frozenset({413, 504, 524})
OF_COMMERCE: Final = frozenset({400, 405, 406, 409, 413, 414, 415, 422})
TRANSIENT_4XX: Final = frozenset({408, 425, 499})
_NOT_CONNECTED = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
)


class PageTooLarge(PageFailed):
    """The tenant limits its pages to `maximum` products."""

    def __init__(self, message: str, maximum: int) -> None:
        super().__init__(message, too_large=True)
        self.maximum = maximum


class ListTooLong(RequestRefused):
    """The tenant limits the list that was sent to `maximum` entries."""

    def __init__(self, message: str, maximum: int) -> None:
        super().__init__(message)
        self.maximum = maximum


class HungUp(CommerceUnavailable):
    """A request took longer than a tenant may keep others waiting."""

    fix = "check the tenant: it answers slowly, or not at all. It is tried again after a pause."


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What to do after a try without a usable answer.

    error         raised when no further try follows; its text is the reason
    tries         how many tries may end in a decision with a limit; None: until the time allowed is spent
    retry_after   seconds the server asked for; None: jittered exponential backoff
    within_s      seconds after which to give up, even when the time allowed is longer
    renew         the token was refused: the next try needs a new one
    throttled     the server asked us to slow down
    """

    error: SyncError
    tries: int | None = None
    retry_after: float | None = None
    within_s: float | None = None
    renew: bool = False
    throttled: bool = False

    @property
    def is_failure(self) -> bool:
        """The tenant did not do the work; any other decision shows that it answers."""
        if self.throttled or isinstance(self.error, PageTooLarge):
            return False
        return isinstance(self.error, CommerceUnavailable | PageFailed)


class Outage:
    """Requests that failed since the tenant last answered one, in all threads of a client.

    The time allowed for retries runs from the first failure for all of them together.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._failed: set[str] = set()

    def failed(self, request: str, now: float) -> float:
        """Note a failure; returns when the first one was."""
        with self._lock:
            self._since = now if self._since is None else self._since
            self._failed.add(request)
            return self._since

    def answered(self) -> None:
        with self._lock:
            self._since = None
            self._failed.clear()

    @property
    def is_likely(self) -> bool:
        """Whether more failed than one item explains that is on several pages."""
        return len(self._failed) >= LIKELY


class Retryable(Exception):
    """A try failed; `before_next` runs only when another one follows, and may raise to prevent it."""

    def __init__(self, decision: RetryDecision, before_next: Callable[[], None] | None = None) -> None:
        super().__init__(str(decision.error))
        self.decision = decision
        self.before_next = before_next


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long one request is tried, by which clock, and how to wait between tries.

    sleep   waits so many seconds and returns True when it was asked to stop, as `threading.Event.wait` does
    clock   seconds that never go backwards
    rng     uniform in [0, 1)
    """

    sleep: Callable[[float], bool]
    max_retry_time: float = 900.0
    clock: Callable[[], float] = time.monotonic
    rng: Callable[[], float] = random.random


# --- decisions --------------------------------------------------------------------------------------------


def judge_answer(
    request: str,
    status: int,
    headers: Mapping[str, str],
    body: Body,
    *,
    seconds: float,
    patient: bool,
    halved: bool = False,
) -> RetryDecision | None:
    """Decide about an answer; None when it is a JSON body to be read.

    request   how to name it in a sentence: method, path and store view
    seconds   how long the answer took
    patient   True: try until the time allowed is spent. False: a page, which fails early with PageFailed,
              because a smaller page may succeed
    halved    a list: when a firewall refuses it, its halves are requested at once
    """
    if 200 <= status < 300:
        return None if _is_json(headers) else _not_json(request, body.content, patient=patient)
    if 300 <= status < 400:
        return _redirected(request, headers)
    if status < 200:  # Early Hints and the like, which Python's HTTP client takes for the answer
        return _transient(f"{request} was answered {status} and then nothing", patient=patient)
    error_body = read_error_body(_as_far_as_readable(body))
    reason = f"{request} was answered {status}: {error_body.text.rstrip('.')}"
    if status == 429 or (status == 503 and (patient or seconds < SLOW_503_S)):
        wait_s = retry_after(headers.get("Retry-After"), server_time(headers))
        throttled = status == 429 or wait_s is not None
        return RetryDecision(CommerceUnavailable(f"{reason}."), retry_after=wait_s, throttled=throttled)
    if status >= 500 or status in TRANSIENT_4XX or (status == 400 and error_body.is_internal):
        # A 503 after half a minute is the edge's time-out ("first byte timeout" of Fastly, on PaaS).
        too_large = status in TOO_LARGE or error_body.is_fatal or status == 503
        return _transient(reason, patient=patient, too_large=too_large)
    if status == 413 and not patient:
        return _transient(reason, patient=patient, too_large=True)
    tries = OTHER_TRIES if patient else 1 if halved else PAGE_TRIES
    return _refused(reason, status, error_body, blocked_tries=tries)


def judge_fault(fault: Exception, *, host: str, setting: str, reached: bool, patient: bool) -> RetryDecision:
    """Decide about a request without a complete answer.

    host      for the message; `setting` is the variable that names it
    reached   whether this host has answered this process before
    """
    causes = list(_causes(fault))
    if isinstance(fault, BodyTooLarge):
        return _transient(f"{host} sent an answer of {fault}", patient=False, too_large=True)
    if isinstance(fault, requests.exceptions.ContentDecodingError):
        return _transient(f"{host} sent a body that does not match its Content-Encoding", patient=patient)
    if isinstance(fault, UnusableCaBundle):
        fix = "put the file back, or correct SYNC_CA_BUNDLE."
        return _stop(SettingsError("SYNC_CA_BUNDLE: the certificates it names cannot be read.", fix))
    if isinstance(fault, requests.exceptions.InvalidHeader):
        return _stop(
            SettingsError(
                "A credential or a store view contains a character that is not allowed in an HTTP header."
            )
        )
    if isinstance(fault, ValueError):
        named = f"{setting}, or a proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY," if getproxies() else setting
        return _stop(SettingsError(f"{named} is not a usable URL.", "correct it."))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        fix = "if a private CA signed it, set SYNC_CA_BUNDLE to the file of that CA."
        return _stop(CommerceUnavailable(f"The certificate of {host} cannot be verified.", fix))
    if any(isinstance(cause, urllib3.exceptions.ReadTimeoutError | requests.ReadTimeout) for cause in causes):
        return _transient(f"{host} did not answer in time", patient=patient, too_large=True)
    reason = f"{host} cannot be reached: {_system_message(causes)}"
    if any(isinstance(cause, _NOT_CONNECTED) for cause in causes):
        error = CommerceUnavailable(f"{reason}.", f"check {setting}, the network and the proxy settings.")
        return RetryDecision(error, within_s=None if reached else UNREACHED_S)
    return _transient(f"{host} broke the connection: {_system_message(causes)}", patient=patient)


def judge_hung_up(host: str, seconds: float) -> RetryDecision:
    """Decide about a request that was ended after so many seconds because other tenants wait."""
    return _stop(HungUp(f"{host} did not answer within {seconds:.0f} s, and other tenants were waiting."))


def judge_reading(drift: AnswerUnreadable) -> RetryDecision:
    """Decide about a complete answer in an unknown shape: the next one may be right."""
    return RetryDecision(drift, tries=PAGE_TRIES if isinstance(drift, PageFailed) else OTHER_TRIES)


def _stop(error: SyncError) -> RetryDecision:
    return RetryDecision(error, tries=1)


def _transient(reason: str, *, patient: bool, too_large: bool = False) -> RetryDecision:
    if patient:
        return RetryDecision(CommerceUnavailable(f"{reason}."))
    return RetryDecision(PageFailed(f"{reason}.", too_large=too_large), tries=1 if too_large else PAGE_TRIES)


def _as_far_as_readable(body: Body) -> bytes:
    """The body of an error; empty when it cannot be decoded, because status and headers are enough."""
    try:
        return body.content
    except requests.RequestException:
        return b""


def _is_json(headers: Mapping[str, str]) -> bool:
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _not_json(request: str, body: bytes, *, patient: bool) -> RetryDecision:
    reason = f"{request} was answered with {read_error_body(body).text} instead of JSON."
    if patient:
        return RetryDecision(AnswerUnreadable(reason), tries=OTHER_TRIES)
    return RetryDecision(PageFailed(reason), tries=PAGE_TRIES)


def _redirected(request: str, headers: Mapping[str, str]) -> RetryDecision:
    address = clean(_without_credentials(headers.get("Location", "")))
    return _stop(
        SettingsError(
            f"{request} is redirected to {address or 'nowhere'}; redirects are not followed, "
            "so that no credential goes to another address.",
            "set API_ENDPOINT to the address that answers without a redirect: check scheme and host.",
        )
    )


def _without_credentials(location: str) -> str:
    """The target of a redirect, without user name, query and fragment."""
    try:
        target = urlsplit(location)
    except ValueError:
        return "an invalid URL"
    return f"{target.scheme}://{target.hostname}{target.path}" if target.hostname else target.path


def _refused(reason: str, status: int, error_body: ErrorBody, *, blocked_tries: int) -> RetryDecision:
    """Decide about a 4xx that waiting does not resolve."""
    if error_body.maximum is not None:
        return _stop(PageTooLarge(f"{reason}.", error_body.maximum))
    if status in (401, 403) and error_body.is_json:
        kind = AccessDenied if _is_by_the_api(status, error_body) else RequestBlocked
        return RetryDecision(
            kind(f"{reason}.", _access_fix(status, error_body)), tries=2, retry_after=0, renew=True
        )
    if status in (404, 410) or _is_unknown_store_view(status, error_body):
        fix = (
            "check API_ENDPOINT (the base URL that /V1/products is appended to; on PaaS it ends with /rest) "
            "and STORE_VIEWS."
        )
        return _stop(SettingsError(f"{reason}.", fix))
    if error_body.code is not None:
        return _stop(AccessDenied(f"{reason}.", remedy(error_body)))
    if error_body.longest is not None:
        return _stop(ListTooLong(f"{reason}.", error_body.longest))
    if error_body.has_message and status in OF_COMMERCE:
        return _stop(RequestRefused(f"{reason}."))
    return RetryDecision(RequestBlocked(f"{reason}."), tries=blocked_tries)


def _is_by_the_api(status: int, error_body: ErrorBody) -> bool:
    """Whether Commerce or Adobe's gateway refused: their 403 names the permission, or has a code."""
    return status == 401 or error_body.resources is not None or (error_body.code or "").isdigit()


def _access_fix(status: int, error_body: ErrorBody) -> str:
    if known := remedy(error_body):
        return known
    if status == 401:
        return "check the credential: the token is unknown, expired or revoked."
    return "check that the credential has a product profile of this Commerce instance, and IMS_ORG_ID."


def _is_unknown_store_view(status: int, error_body: ErrorBody) -> bool:
    """Observed on Magento 2.4.7: an unknown store code in the path gives this 400 and nothing else.

    The only place that reads the text of a message: a translated one becomes RequestRefused.
    """
    return status == 400 and error_body.text.startswith("Specified request cannot be processed")


def _causes(fault: BaseException) -> Iterator[BaseException]:
    """The fault and everything it wraps, outermost first: requests wraps urllib3 wraps the socket."""
    yield fault
    wrapped = [getattr(fault, "reason", None), *fault.args, fault.__cause__]
    for inner in wrapped:
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _system_message(causes: list[BaseException]) -> str:
    """The operating system's message, else the kind of fault; never the URL or an object's repr."""
    words = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    return clean(words[-1]) if words else type(causes[-1]).__name__


# --- when -------------------------------------------------------------------------------------------------


def server_time(headers: Mapping[str, str]) -> datetime | None:
    """The answer's `Date`, aware UTC; None when it is missing or unreadable."""
    return http_date(headers.get("Date"))


def retry_after(value: str | None, answered_at: datetime | None) -> float | None:
    """Seconds to wait by a `Retry-After` in seconds or as a date, within bounds; None when it is unreadable.

    answered_at   the same answer's `Date`: a date counts by the server's clock, ours may be wrong
    """
    seconds = _number(value)
    if seconds is None and answered_at is not None and (until := http_date(value)):
        seconds = (until - answered_at).total_seconds()
    if seconds is None:
        return None
    return min(max(seconds, SHORTEST_RETRY_AFTER_S), LONGEST_RETRY_AFTER_S)


def backoff(failures: int, rng: Callable[[], float]) -> float:
    """Seconds to wait after so many failures: 0.5 to 1, 1 to 2, 2 to 4, … up to 30 to 60."""
    longest = min(LONGEST_BACKOFF_S, 2.0 ** min(failures - 1, 10))
    return longest * (1 + rng()) / 2


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if isfinite(number) else None


def http_date(value: str | None) -> datetime | None:
    """An HTTP date, aware UTC; None for anything else."""
    try:
        moment = parsedate_to_datetime(value or "")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# --- the loop ---------------------------------------------------------------------------------------------


def call_with_retries(
    once: Callable[[int], T],
    policy: RetryPolicy,
    on_retry: Callable[[RetryDecision, float, int], None],
    outage: Outage | None = None,
    request: str = "",
) -> T:
    """Call `once` with 1, 2, 3, … until it returns; each Retryable it raises decides about the next try.

    on_retry   called before each wait, with the decision, the seconds and the number of the failed try
    outage     shared with other requests; `request` tells this one from them

    The time allowed runs from the first failure, or from that of other requests, if none was answered since.
    Raises the last decision's error when no further try
    follows, Interrupted when a wait is cut short.
    """
    outage, first_failed_at, limited_tries = outage or Outage(), inf, 0
    for attempt in count(1):
        try:
            answer = once(attempt)
        except Retryable as failure:
            decision, before_next = failure.decision, failure.before_next
        else:
            outage.answered()
            return answer
        now = policy.clock()
        first_failed_at = min(first_failed_at, _failed_since(decision, outage, request, now))
        limited_tries += decision.tries is not None
        left_s = first_failed_at + min(policy.max_retry_time, decision.within_s or inf) - now
        wait_s = decision.retry_after
        if (decision.tries is not None and limited_tries >= decision.tries) or left_s <= (wait_s or 0.0):
            break
        if wait_s is None:
            wait_s = min(backoff(attempt, policy.rng), left_s)
        on_retry(decision, wait_s, attempt)
        if before_next is not None:
            before_next()
        if policy.sleep(wait_s):
            raise Interrupted("Stopped while waiting to try a request again.")
    try:
        # `from None`: requests' exceptions hold the request, whose headers are secret.
        raise decision.error from None
    finally:
        del decision, before_next  # a traceback that holds its own error is a cycle


def _failed_since(decision: RetryDecision, outage: Outage, request: str, now: float) -> float:
    if decision.is_failure:
        return outage.failed(request, now)
    if not decision.throttled:
        outage.answered()
    return now
