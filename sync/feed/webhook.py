"""Post JSON to a webhook: signed, retried, and delivered only once the whole 2xx answer has arrived.

    2xx, whole answer                    accepted
    408, 425, 429, 499, 5xx              retry after `Retry-After`, else with backoff
    no connection, reset, time-out       retry with backoff
    413                                  too large: the caller may send less
    redirect, certificate                stop: the URL or the CA is wrong
    any other                            4 tries, for a receiver that is just starting, then stop

Requests are signed as Standard Webhooks, so its libraries verify them: `webhook-id`, `webhook-timestamp` and
`webhook-signature: v1,<base64 HMAC-SHA256 of "<id>.<timestamp>.<body>">`. For one more version they also have
the former header, in Stripe's format: `t=<seconds since 1970>,v1=<hex HMAC-SHA256 of "<t>.<body>">`.

Source: Standard Webhooks specification 1.0, github.com/standard-webhooks/standard-webhooks.
"""

from __future__ import annotations

import hmac
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from threading import Event, Thread
from typing import Final, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
import urllib3.exceptions
from requests.auth import HTTPBasicAuth

from sync.commerce.retry import (
    Retryable,
    RetryDecision,
    RetryPolicy,
    call_with_retries,
    judge_fault,
    retry_after,
    server_time,
)
from sync.commerce.transport import BodyTooLarge, read_body
from sync.errors import Interrupted, SyncError
from sync.settings.parsers import webhook_key

T = TypeVar("T")

FORMER_SIGNATURE: Final = "X-Product-Sync-Signature"
LARGEST_ANSWER: Final = 65_536  # bytes; the content is not used, but it must arrive whole
REFUSED_TRIES: Final = 4
TRANSIENT: Final = frozenset({408, 425, 429, 499})
_POLL_S = 0.1

OnRetry = Callable[[str, str, float, int], None]


class Timeouts(NamedTuple):
    """Seconds to connect, of silence, for a whole try, and for the current answer once `stop` is set."""

    connect: float = 10.0
    silence: float = 30.0
    whole: float = 60.0
    grace: float = 2.0


TIMEOUTS: Final = Timeouts()


class WebhookUnavailable(SyncError):
    """The receiver could not be reached, or failed, until the time for retries was spent."""

    exit_code = 69
    fix = "check the receiver, then start again; it resumes after the last acknowledged batch."


class WebhookRefused(SyncError):
    """The receiver rejects what is posted."""

    exit_code = 69
    fix = "check the URL and the receiver, then start again; nothing was skipped, the same batch is posted."


class WebhookDenied(WebhookRefused):
    """401 or 403."""

    exit_code = 77
    fix = "check WEBHOOK_SECRET, the URL and the receiver's requirements; nothing was skipped."


class WebhookTooLarge(WebhookRefused):
    """413: the receiver may accept a smaller body."""

    fix = "allow larger bodies at the receiver; nothing was skipped."


def signature(secret: str, message_id: str, body: bytes, at: int) -> str:
    """The value of `webhook-signature`.

    secret    as `webhook_key` reads it
    at        seconds since 1970, part of the signature, so that a receiver can refuse a replay

    >>> signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1614265330)
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """  # noqa: E501 -- the example of the specification's libraries
    signed = f"{message_id}.{at}.".encode() + body
    return f"v1,{b64encode(hmac.digest(webhook_key(secret), signed, 'sha256')).decode()}"


def _former_signature(secret: str, body: bytes, at: int) -> str:
    """The value of FORMER_SIGNATURE, signed with the text of the secret as it stands."""
    mac = hmac.new(secret.encode(errors="surrogateescape"), b"%d." % at + body, "sha256")
    return f"t={at},v1={mac.hexdigest()}"


class Webhook:
    """One receiver.

    url         its user name and password are sent as Basic authorization; it appears in no message
    secret      called before each try, so that a rotated secret is picked up; None: nothing is signed
    session     from `open_session`
    stop        once set, no further try follows
    on_retry    called with host, reason, seconds to wait and number of the failed try
    clock       seconds since 1970, for the signature
    """

    def __init__(
        self,
        url: str,
        secret: Callable[[], str] | None,
        *,
        session: requests.Session,
        retry_policy: RetryPolicy,
        stop: Event,
        on_retry: OnRetry,
        timeouts: Timeouts = TIMEOUTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        self._auth = _Authorization(parts.username, parts.password)
        self._secret = secret
        self._session = session
        self._retry_policy = retry_policy
        self._stop = stop
        self._on_retry = on_retry
        self._timeouts = timeouts
        self._clock = clock

    def post(self, body: bytes, message_id: str) -> None:
        """Post until the receiver answers with 2xx.

        message_id    the same in every try, so that a receiver can discard a repetition

        Raises WebhookUnavailable, WebhookRefused and its subclasses, Interrupted.
        """

        def once(_number: int) -> None:
            if self._stop.is_set():
                raise Interrupted("Stopped before a request.")
            try:
                decision = _run_interruptibly(lambda: self._try(body, message_id), self._stop, self._timeouts)
            except TimeoutError:
                decision = RetryDecision(
                    WebhookUnavailable(f"{self.host} did not finish its answer in time.")
                )
            if decision is not None:
                raise Retryable(decision)

        def report(decision: RetryDecision, wait_s: float, number: int) -> None:
            self._on_retry(self.host, str(decision.error), wait_s, number)

        call_with_retries(once, self._retry_policy, report)

    def _try(self, body: bytes, message_id: str) -> RetryDecision | None:
        """Try once; None when the receiver accepted it."""
        try:
            with self._session.post(
                self._url,
                data=body,
                headers=self._headers(body, message_id),
                auth=self._auth,
                timeout=self._timeouts[:2],
                allow_redirects=False,
                stream=True,
            ) as answer:
                with suppress(BodyTooLarge):
                    read_body(answer, LARGEST_ANSWER)
                return judge(self.host, answer.status_code, answer.headers)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as fault:
            return self._fault(fault)

    def _headers(self, body: bytes, message_id: str) -> dict[str, str]:
        at = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message_id,
            "webhook-id": message_id,
            "webhook-timestamp": str(at),
        }
        if self._secret is not None:
            secret = self._secret()
            headers["webhook-signature"] = signature(secret, message_id, body, at)
            headers[FORMER_SIGNATURE] = _former_signature(secret, body, at)
        return headers

    def _fault(self, fault: Exception) -> RetryDecision:
        """Decide about a try without a whole answer: `judge_fault`, with the errors of a webhook."""
        found = judge_fault(fault, host=self.host, setting="the webhook", reached=True, patient=True)
        kind = WebhookUnavailable if found.error.exit_code == WebhookUnavailable.exit_code else WebhookRefused
        certain = "SYNC_CA_BUNDLE" in found.error.fix
        return RetryDecision(kind(str(found.error), found.error.fix if certain else None), tries=found.tries)


def judge(host: str, status: int, headers: Mapping[str, str]) -> RetryDecision | None:
    """Decide about a whole answer; None when the receiver accepted it."""
    if 200 <= status < 300:
        return None
    reason = f"{host} answered {status}."
    if status >= 500 or status in TRANSIENT:
        wait_s = retry_after(headers.get("Retry-After"), server_time(headers))
        return RetryDecision(WebhookUnavailable(reason), retry_after=wait_s)
    if status == 413:
        return RetryDecision(WebhookTooLarge(reason), tries=1)
    if status in (401, 403):
        return RetryDecision(WebhookDenied(reason), tries=REFUSED_TRIES)
    if 300 <= status < 400:
        fix = "use the URL that it redirects to; nothing was skipped."
        return RetryDecision(WebhookRefused(f"{reason} Redirects are not followed.", fix), tries=1)
    return RetryDecision(WebhookRefused(reason), tries=REFUSED_TRIES)


class _Authorization(requests.auth.AuthBase):
    """The URL's user name and password, or nothing: by default, requests would read ~/.netrc."""

    def __init__(self, user: str | None, password: str | None) -> None:
        self._user, self._password = unquote(user or ""), unquote(password or "")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if not self._user and not self._password:
            return request
        HTTPBasicAuth(self._user.encode(), self._password.encode())(request)
        return request


def _run_interruptibly(work: Callable[[], T], stop: Event, timeouts: Timeouts) -> T:
    """Run `work` in a thread that can be abandoned, so that `stop` works while the receiver hangs.

    Raises Interrupted when `stop` is set before there is a result, TimeoutError after `timeouts.whole`.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised by `result()`
            result.set_exception(error)

    Thread(target=run, daemon=True).start()
    deadline = time.monotonic() + timeouts.whole
    while not wait([result], _POLL_S).done:
        if stop.is_set() and not wait([result], timeouts.grace).done:
            raise Interrupted("Stopped while waiting for an answer.")
        if time.monotonic() >= deadline:
            raise TimeoutError
    return result.result()
