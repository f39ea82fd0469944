"""One request to the tenant: paced, signed, sent, retried and read.

    call_with_retries (retry.py)  ->  Pacer.acquire (pacing.py)  ->  Auth signs  ->  sent (transport.py)
          ^                                                                           |
          └──────────────── a Retryable decides about the next try  <──── judged, then read by `reader`

Events are reported to a Hook; nothing is logged here.
"""

from __future__ import annotations

import threading
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from typing import Final, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
import requests
from requests import PreparedRequest

from sync.commerce.pacing import Kind, Outcome
from sync.commerce.retry import (
    Outage,
    Retryable,
    RetryDecision,
    RetryPolicy,
    call_with_retries,
    http_date,
    judge_answer,
    judge_fault,
    judge_hung_up,
    judge_reading,
    retry_after,
    server_time,
)
from sync.commerce.tenant_memory import TenantMemory
from sync.commerce.transport import Body, BodyReader, BodyTooLarge, read_body
from sync.errors import (
    AccessDenied,
    AnswerUnreadable,
    PageFailed,
    RequestBlocked,
    RequestRefused,
    SettingsError,
)

T = TypeVar("T")

LONGEST_BODY: Final = 10 << 20
LONGEST_LIST: Final = 8 << 20  # that cannot be halved
LONGEST_PAGE: Final = 1 << 20  # of several products: several pages are in memory at once
LONGEST_PRODUCT: Final = 10 << 20  # one alone; less where its text is wide, see transport
LONGEST_ERROR: Final = 1 << 18
WITNESS: Final = "/V1/store/storeViews"  # a small list that every tenant has
NO_BODY: Final = Body(b"")


class Auth(Protocol):
    """Signs requests. One object serves all threads; its repr shows no secret."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest: ...

    def renew(self, refused: PreparedRequest) -> bool:
        """Prepare to repeat a refused request; False when the credential is still the same."""
        ...


class Pacing(Protocol):
    """Decides when a request may start, and learns from its outcome."""

    def acquire(self, stop: threading.Event) -> float: ...

    def release(self, begun: float, outcome: Outcome) -> None: ...


class Hook(Protocol):
    """Receives the events of requests, from every thread.

    request_finished   once per try; status None without a complete answer; seconds and bytes received
    request_retried    before each wait, with the number of the failed try
    throttled          also, when the tenant asked us to slow down
    """

    def request_finished(
        self, path: str, store_view: str, status: int | None, seconds: float, size: int, attempt: int
    ) -> None: ...

    def request_retried(self, path: str, reason: str, wait_s: float, attempt: int) -> None: ...

    def throttled(self, wait_s: float) -> None: ...


class NoHook:
    """A Hook that does nothing."""

    def request_finished(
        self, path: str, store_view: str, status: int | None, seconds: float, size: int, attempt: int
    ) -> None: ...

    def request_retried(self, path: str, reason: str, wait_s: float, attempt: int) -> None: ...

    def throttled(self, wait_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete JSON answer with a status from 200 to 299.

    received      its body
    server_time   its `Date`, None when the server sent none
    seconds       from sending the request to the body's last byte
    """

    received: Body
    server_time: datetime | None
    seconds: float

    @property
    def body(self) -> bytes:
        """Decoded, without a byte order mark: a PHP file that has one puts it before every answer."""
        return self.received.content.removeprefix(BOM_UTF8)


@dataclass(frozen=True, slots=True)
class _Request:
    path: str
    params: Sequence[tuple[str, str]]
    store_view: str
    kind: Kind
    patient: bool
    longest: int
    body: bytes | None = None

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"

    def __str__(self) -> str:
        return f"{self.method} {self.path} (store view {self.store_view})"


@dataclass(frozen=True, slots=True)
class _Try:
    """The result of one try; `status` and the fields after it only with a complete answer."""

    seconds: float
    decision: RetryDecision | None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = NO_BODY
    sent: PreparedRequest | None = field(default=None, repr=False)


class Client:
    """Sends read-only requests to one tenant, from any number of threads.

    endpoint        base URL that `/V1/…` is appended to
    store_in_path   PaaS: the store view is a segment of the path. Otherwise it is the header `Store`
    session         from `open_session`, with room for as many connections as the pacer lets through
    timeouts        (connect, read) seconds; read is the longest silence, not the whole answer
    longest_body    bytes, received and decoded
    on_wait         receives the reason of a wait before a retry (`retry_after` or `backoff`), and its seconds
    before_request  called before each try; it may wait for this tenant's turn, or raise Interrupted
    overdue         while set, requests under way are cut off and not tried again
    known           what an earlier client of the tenant learned; passed on to a later one
    """

    def __init__(
        self,
        endpoint: str,
        auth: Auth,
        *,
        session: requests.Session,
        pacer: Pacing,
        retry_policy: RetryPolicy,
        stop: threading.Event,
        store_in_path: bool = False,
        hook: Hook | None = None,
        timeouts: tuple[float, float] = (10.0, 120.0),
        longest_body: int = LONGEST_BODY,
        on_wait: Callable[[str, float], None] = lambda reason, seconds: None,
        known: TenantMemory | None = None,
        before_request: Callable[[], None] = lambda: None,
        overdue: threading.Event | None = None,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._auth = auth
        self._session = session
        self._pacer = pacer
        self._retry_policy = retry_policy
        self._stop = stop
        self._store_in_path = store_in_path
        self._hook = hook or NoHook()
        self._timeouts = timeouts
        self._longest_body = longest_body
        self._on_wait = on_wait
        self._known = known or TenantMemory()
        self._before_request = before_request
        self._overdue = overdue or threading.Event()
        self._outage = Outage()

    def get(
        self,
        path: str,
        params: Sequence[tuple[str, str]],
        store_view: str,
        reader: Callable[[Answer], T],
        *,
        kind: Kind = "light",
        patient: bool = True,
        longest: int | None = None,
    ) -> T:
        """Send a GET until `reader` understands the answer, and return its result.

        path      below the endpoint, as `/V1/products`
        reader    raises AnswerUnreadable for an answer in an unknown shape, which is then tried again
        kind      for the pacer: a heavy page, or anything else
        patient   False for a request that a smaller one can replace: it fails early, with PageFailed
        longest   bytes of the answer, when a longer one is better requested in parts

        Raises CommerceUnavailable, AnswerUnreadable, AccessDenied, RequestRefused or SettingsError when no
        further try follows, Interrupted when `stop` is set.
        """
        longest = min(longest or LONGEST_LIST, self._longest_body)
        return self._request(_Request(path, params, store_view, kind, patient, longest), reader)

    def post_query(
        self,
        path: str,
        query: object,
        store_view: str,
        reader: Callable[[Answer], T],
        *,
        patient: bool = True,
    ) -> T:
        """POST a query that is too long for a URL to a read-only endpoint; repeated like a GET.

        query    anything that JSON can hold

        Otherwise as `get`.
        """
        body = msgspec.json.encode(query)
        return self._request(
            _Request(path, (), store_view, "light", patient, self._longest_body, body), reader
        )

    def _request(self, request: _Request, reader: Callable[[Answer], T]) -> T:
        try:
            return self._send_until_answered(request, reader)
        except PageFailed:
            if self._outage.is_likely:
                self._check_that_it_answers()
            raise

    def _send_until_answered(self, request: _Request, reader: Callable[[Answer], T]) -> T:
        return call_with_retries(
            partial(self._once, request, reader),
            self._retry_policy,
            partial(self._report_retry, request),
            self._outage,
            repr(request),
        )

    def _check_that_it_answers(self) -> None:
        """Raise CommerceUnavailable if a small request fails too; a refusal is an answer."""
        with suppress(AccessDenied, RequestRefused, RequestBlocked, SettingsError):
            self._send_until_answered(
                _Request(WITNESS, (), "all", "light", True, LONGEST_LIST), lambda answer: None
            )

    def _once(self, request: _Request, reader: Callable[[Answer], T], attempt: int) -> T:
        with BodyReader() as reading:
            return self._read_answer(request, reader, self._exchange(request, attempt, reading))

    def _read_answer(self, request: _Request, reader: Callable[[Answer], T], answer: Answer) -> T:
        try:
            return reader(answer)
        except AnswerUnreadable as drift:
            raise Retryable(judge_reading(drift)) from drift
        except RecursionError:
            too_deep = AnswerUnreadable(f"{request} was answered with JSON that is nested too deep.")
            raise Retryable(judge_reading(too_deep)) from None
        except requests.RequestException as fault:  # the body does not match its Content-Encoding
            raise Retryable(self._judge_fault(request, fault, answer.seconds)) from fault

    def _exchange(self, request: _Request, attempt: int, reading: BodyReader) -> Answer:
        """One try: wait to start, send, report to pacer and hook, judge."""
        tried = self._take_turn(request, reading)
        self._hook.request_finished(
            request.path, request.store_view, tried.status, tried.seconds, len(tried.body.wire), attempt
        )
        if (decision := tried.decision) is not None:
            raise Retryable(decision, partial(self._renew, tried.sent, decision) if decision.renew else None)
        return Answer(tried.body, server_time(tried.headers), tried.seconds)

    def _take_turn(self, request: _Request, reading: BodyReader) -> _Try:
        self._before_request()
        begun = self._pacer.acquire(self._stop)
        outcome = Outcome(None, 0.0, kind=request.kind)  # if no token is available
        try:
            tried = self._try(request, reading)
            outcome = _outcome_of(tried, request.kind)
        finally:
            self._pacer.release(begun, outcome)
        return tried

    def _try(self, request: _Request, reading: BodyReader) -> _Try:
        began = self._retry_policy.clock()
        try:
            prepared = self._prepare(request)
            began = self._retry_policy.clock()  # signing may have waited for a token
            with self._send(prepared) as response:
                try:
                    body = self._read(response, request.longest, reading)
                except BodyTooLarge as fault:  # this does not affect the tenant's pace
                    seconds = self._retry_policy.clock() - began
                    too_large = self._judge_fault(request, fault, seconds)
                    return _Try(seconds, too_large, response.status_code, response.headers)
            seconds = self._retry_policy.clock() - began
            decision = judge_answer(
                str(request),
                response.status_code,
                response.headers,
                body,
                seconds=seconds,
                patient=request.patient,
                halved=request.body is not None,
            )
        except requests.RequestException as fault:
            seconds = self._retry_policy.clock() - began
            return _Try(seconds, self._judge_fault(request, fault, seconds))
        self._known.answered = True
        return _Try(seconds, decision, response.status_code, response.headers, body, prepared)

    def _read(self, response: requests.Response, longest: int, reading: BodyReader) -> Body:
        """The body; that of an error is empty when it exceeds LONGEST_ERROR, since its status is enough."""
        if response.ok:
            return read_body(response, longest, reading)
        try:
            return read_body(response, LONGEST_ERROR)
        except BodyTooLarge:
            return NO_BODY

    def _prepare(self, request: _Request) -> PreparedRequest:
        scope = f"/{quote(request.store_view, safe='')}" if self._store_in_path else ""
        headers = {} if self._store_in_path else {"Store": request.store_view}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        return self._session.prepare_request(
            requests.Request(
                request.method,
                f"{self._endpoint}{scope}{request.path}",
                params=_query(request.params),
                headers=headers,
                data=request.body,
                auth=self._auth,
            )
        )

    def _send(self, prepared: PreparedRequest) -> requests.Response:
        environment = self._session.merge_environment_settings(
            prepared.url, {}, True, self._session.verify, None
        )
        return self._session.send(prepared, timeout=self._timeouts, allow_redirects=False, **environment)

    def _judge_fault(
        self, request: _Request, fault: requests.RequestException, seconds: float
    ) -> RetryDecision:
        host = urlsplit(self._endpoint).hostname or self._endpoint
        if self._overdue.is_set():
            return judge_hung_up(host, seconds)
        return judge_fault(
            fault, host=host, setting="API_ENDPOINT", reached=self._known.answered, patient=request.patient
        )

    def _renew(self, refused: PreparedRequest | None, decision: RetryDecision) -> None:
        """Renew the credential of a refused request; raise the refusal when it is still the same."""
        if refused is None or not self._auth.renew(refused):
            raise decision.error

    def _report_retry(self, request: _Request, decision: RetryDecision, wait_s: float, attempt: int) -> None:
        self._hook.request_retried(request.path, str(decision.error), wait_s, attempt)
        self._on_wait("backoff" if decision.retry_after is None else "retry_after", wait_s)
        if decision.throttled:
            self._hook.throttled(wait_s)


def _outcome_of(tried: _Try, kind: Kind) -> Outcome:
    answered_at, value = server_time(tried.headers), tried.headers.get("Retry-After")
    return Outcome(
        tried.status,
        tried.seconds,
        retry_after(value, answered_at),
        http_date(value),
        answered_at,
        tried.headers,
        kind,
        is_failure=tried.decision is not None and tried.decision.is_failure,
    )


def _query(params: Sequence[tuple[str, str]]) -> str:
    """The query of a URL. Names are long and few, so their percent-encoding is cached.

    A space is %20: older versions of Commerce read a `+` as itself when they verify an OAuth 1.0a signature.
    """
    return "&".join(f"{_encoded_name(name)}={_encoded(value)}" for name, value in params)


_encoded = partial(quote, safe="")
_encoded_name = lru_cache(maxsize=1000)(_encoded)
