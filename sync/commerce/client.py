"""One request to the tenant: paced, signed, tried again as long as it makes sense, and read.

A request passes four stations, all here:

    persist (retry.py)  ->  Pacer.acquire (pacing.py)  ->  Auth signs  ->  the wire (transport.py)
          ^                                                                        |
          └──────────────── a Retryable: again, and when  <─────────  judged, then read by the caller's reader

What happens is told to a Hook; nothing is logged here.
"""

from __future__ import annotations

import threading
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from typing import Final, Protocol, TypeVar
from urllib.parse import quote, quote_plus, urlsplit

import msgspec
import requests
from requests import PreparedRequest

from sync.commerce.pacing import Kind, Outcome
from sync.commerce.retry import (
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
from sync.commerce.transport import Body, BodyTooLarge, Reading, read_body
from sync.errors import AnswerUnreadable

T = TypeVar("T")

LONGEST_BODY: Final = 10 << 20  # a single product, or a list that cannot be halved
LONGEST_PAGE: Final = 2 << 20
LONGEST_ERROR: Final = 1 << 18
NO_BODY: Final = Body(b"")


class Auth(Protocol):
    """Signs requests. One object serves all threads, and shows no secret in its repr."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest: ...

    def renew(self, refused: PreparedRequest) -> bool:
        """Prepare for a repeat of a request that was refused; False when that would be refused again."""
        ...


class Pacer(Protocol):
    """Decides when a request may start, and learns from how it ended."""

    def acquire(self, stop: threading.Event) -> float: ...

    def release(self, begun: float, outcome: Outcome) -> None: ...


class Hook(Protocol):
    """What the rest of the program hears about the wire. Called from every thread.

    request_finished   once per try; status None when no whole answer came; seconds and bytes on the wire
    request_retried    before each wait, with the number of the try that failed
    throttled          besides, when the tenant asked us to slow down
    """

    def request_finished(
        self, path: str, store_view: str, status: int | None, seconds: float, size: int, attempt: int
    ) -> None: ...

    def request_retried(self, path: str, reason: str, wait_s: float, attempt: int) -> None: ...

    def throttled(self, wait_s: float) -> None: ...


class Silence:
    """The Hook nobody listens to."""

    def request_finished(
        self, path: str, store_view: str, status: int | None, seconds: float, size: int, attempt: int
    ) -> None: ...

    def request_retried(self, path: str, reason: str, wait_s: float, attempt: int) -> None: ...

    def throttled(self, wait_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole JSON answer, of a status from 200 to 299.

    received      its body
    server_time   its `Date`, None when the server sent none
    seconds       from sending the request to the body's last byte
    """

    received: Body
    server_time: datetime | None
    seconds: float

    @property
    def body(self) -> bytes:
        """Decoded, without the byte order mark that a PHP file with one puts before every answer."""
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
    """What came of one try; `status` and what follows it only when an answer arrived whole."""

    seconds: float
    decision: RetryDecision | None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = NO_BODY
    sent: PreparedRequest | None = field(default=None, repr=False)


class Client:
    """Requests that change nothing, to one tenant, from any number of threads.

    endpoint        base URL that `/V1/…` is appended to
    store_in_path   PaaS: the store view is a segment of the path. Otherwise it is the header `Store`
    session         from `open_session`, with room for as many connections as the pacer lets through
    timeouts        (connect, read) seconds; read is the longest silence, not the whole answer
    longest_body    bytes, as it comes and decoded
    on_wait         told why a repeat waits (`retry_after`: as the tenant asked; `backoff`), and the seconds
    before_request  called before each try; it may wait for this tenant's turn, or raise Interrupted
    overdue         while set, requests under way are hung up: what fails then is not tried again
    known           what an earlier one learned, and a later one may know
    """

    def __init__(
        self,
        endpoint: str,
        auth: Auth,
        *,
        session: requests.Session,
        pacer: Pacer,
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
        self._hook = hook or Silence()
        self._timeouts = timeouts
        self._longest_body = longest_body
        self._on_wait = on_wait
        self._known = known or TenantMemory()
        self._before_request = before_request
        self._overdue = overdue or threading.Event()

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
        """Ask until an answer comes that `reader` can make sense of, and return what it made of it.

        path      below the endpoint, as `/V1/products`
        reader    raises AnswerUnreadable for an answer in a wrong shape: then it is asked for again
        kind      what the pacer learns from: a heavy page, or anything else
        patient   False for a request that a smaller one can replace: it gives up early, with PageFailed
        longest   bytes of the answer, where a longer one is to be asked for in parts

        Raises CommerceUnavailable, AnswerUnreadable, AccessDenied, RequestRefused or SettingsError once there
        is nothing left to try, Interrupted when `stop` is set meanwhile.
        """
        longest = min(longest or self._longest_body, self._longest_body)
        return self._call_with_retries(_Request(path, params, store_view, kind, patient, longest), reader)

    def ask(
        self,
        path: str,
        question: object,
        store_view: str,
        reader: Callable[[Answer], T],
        *,
        patient: bool = True,
    ) -> T:
        """POST a question too long for a URL, to an endpoint that only reads: it may be repeated like a GET.

        question    anything JSON can hold

        The rest is as for `get`.
        """
        body = msgspec.json.encode(question)
        return self._call_with_retries(
            _Request(path, (), store_view, "light", patient, self._longest_body, body), reader
        )

    def _call_with_retries(self, request: _Request, reader: Callable[[Answer], T]) -> T:
        return call_with_retries(
            partial(self._once, request, reader), self._retry_policy, partial(self._report_retry, request)
        )

    def _once(self, request: _Request, reader: Callable[[Answer], T], attempt: int) -> T:
        with Reading() as reading:
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

    def _exchange(self, request: _Request, attempt: int, reading: Reading) -> Answer:
        """One try: wait for our turn, send, tell pacer and hook how it went, judge."""
        tried = self._take_turn(request, reading)
        self._hook.request_finished(
            request.path, request.store_view, tried.status, tried.seconds, len(tried.body.wire), attempt
        )
        if (decision := tried.decision) is not None:
            raise Retryable(decision, partial(self._renew, tried.sent, decision) if decision.renew else None)
        return Answer(tried.body, server_time(tried.headers), tried.seconds)

    def _take_turn(self, request: _Request, reading: Reading) -> _Try:
        self._before_request()
        begun = self._pacer.acquire(self._stop)
        outcome = Outcome(None, 0.0, kind=request.kind)  # when the token cannot be had
        try:
            tried = self._try(request, reading)
            outcome = _outcome_of(tried, request.kind)
        finally:
            self._pacer.release(begun, outcome)
        return tried

    def _try(self, request: _Request, reading: Reading) -> _Try:
        began = self._retry_policy.clock()
        try:
            prepared = self._prepare(request)
            began = self._retry_policy.clock()  # signing may have waited for a token
            with self._send(prepared) as response:
                try:
                    body = self._read(response, request.longest, reading)
                except BodyTooLarge as fault:  # that is no matter of the tenant's pace
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

    def _read(self, response: requests.Response, longest: int, reading: Reading) -> Body:
        """The body; of an error, what fits in LONGEST_ERROR bytes or nothing: its status says enough."""
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
        """Before the repeat of a request that was refused: another token, or the end of it."""
        if refused is None or not self._auth.renew(refused):
            raise decision.error

    def _report_retry(self, request: _Request, decision: RetryDecision, wait_s: float, attempt: int) -> None:
        self._hook.request_retried(request.path, str(decision.error), wait_s, attempt)
        self._on_wait("backoff" if decision.retry_after is None else "retry_after", wait_s)
        if decision.throttled:
            self._hook.throttled(wait_s)


def _outcome_of(tried: _Try, kind: Kind) -> Outcome:
    answered_at, told = server_time(tried.headers), tried.headers.get("Retry-After")
    return Outcome(
        tried.status,
        tried.seconds,
        retry_after(told, answered_at),
        http_date(told),
        answered_at,
        tried.headers,
        kind,
    )


def _query(params: Sequence[tuple[str, str]]) -> str:
    """The query of a URL; the names, which are long and few, are percent-encoded once."""
    return "&".join(f"{_encoded(name)}={quote_plus(value)}" for name, value in params)


_encoded = lru_cache(maxsize=1000)(quote_plus)
