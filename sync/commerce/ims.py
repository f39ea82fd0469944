"""Adobe IMS, OAuth server-to-server: one token for all threads, renewed once, shortly before it expires.

Source: Adobe Developer Console, "Server to Server authentication with IMS": POST of `grant_type`,
`client_id`, `client_secret` and comma-separated `scope`; the answer holds `access_token` and `expires_in` in
seconds, and no refresh token. Adobe throttles integrations that request too many tokens.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
import requests
from requests import PreparedRequest

from sync.commerce.error_bodies import read_error_body, remedy
from sync.commerce.retry import (
    Retryable,
    RetryDecision,
    RetryPolicy,
    call_with_retries,
    judge_fault,
    judge_hung_up,
    retry_after,
    server_time,
)
from sync.commerce.tenant_memory import TenantMemory, Token
from sync.commerce.transport import read_body
from sync.errors import AccessDenied, AnswerUnreadable, CommerceUnavailable, SettingsError

if TYPE_CHECKING:  # takes the extra [celery]
    from sync.commerce.shared_token import SharedToken

LONGEST_LIFE_S: Final = 1_000_000  # the retired JWT flow answered milliseconds: 86,399,000
LONGEST_MARGIN_S: Final = 60.0
LONGEST_ANSWER: Final = 1 << 16
_UNREADABLE_TRIES: Final = 4
_SENDABLE: Final = re.compile(
    r"[!-~]{1,16384}"
)  # RFC 6750, section 2.1, and a few signs more; no server takes longer headers
_FIX_URL: Final = "check IMS_TOKEN_URL, and that no proxy or login page answers in its place."


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: int


_TOKEN_ANSWER = msgspec.json.Decoder(_TokenAnswer)


def _nothing(seconds: float, expires_in: int) -> None:
    """The default for `on_refresh`."""


class ImsTokens:
    """The current access token of one credential.

    client_secret   called at each refresh, so that a rotated secret is picked up
    session         from `open_session`; timeouts are (connect, read) seconds
    on_refresh      receives the seconds of a refresh and the token's life
    on_retry        receives, before each wait, the reason, the seconds and the number of the failed try
    hide            receives each token, so that no log shows it
    known           what an earlier client of the tenant learned; passed on to a later one
    shared          the token that all processes of the tenant share
    overdue         while set, requests under way are cut off and not tried again

    Every method raises AccessDenied when IMS refuses the credential, CommerceUnavailable when it is out of
    reach and SettingsError when IMS_TOKEN_URL is not a token endpoint.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: Callable[[], str],
        scopes: Sequence[str],
        *,
        session: requests.Session,
        retry_policy: RetryPolicy,
        timeouts: tuple[float, float] = (10.0, 30.0),
        on_refresh: Callable[[float, int], None] = _nothing,
        on_retry: Callable[[str, float, int], None] = lambda reason, wait_s, attempt: None,
        hide: Callable[[str], None] = lambda token: None,
        known: TenantMemory | None = None,
        shared: SharedToken | None = None,
        overdue: threading.Event | None = None,
    ) -> None:
        self.client_id = client_id
        self._url = token_url
        self._secret = client_secret
        self._scopes = ",".join(scopes)
        self._session = session
        self._retry_policy = retry_policy
        self._timeouts = timeouts
        self._on_refresh = on_refresh
        self._on_retry = on_retry
        self._hide = hide
        self._lock = threading.Lock()
        self._known = known or TenantMemory()
        self._shared = shared
        self._overdue = overdue or threading.Event()

    def __repr__(self) -> str:
        return f"ImsTokens({self._url!r}, {self.client_id!r})"

    def current(self) -> str:
        """A valid token; while one thread renews it, the others wait for the result."""
        with self._lock:
            token = self._known.token
            if token is None or self._retry_policy.clock() >= token.renew_at:
                token = self._known.token = self._next(None)
            return token.text

    def renew(self, refused: str) -> str:
        """A token other than `refused`; asks IMS only when that is still the current one."""
        with self._lock:
            token = self._known.token
            if token is None or token.text == refused:
                token = self._known.token = self._next(refused)
            return token.text

    def _next(self, refused: str | None) -> Token:
        return self._refresh() if self._shared is None else self._shared.next(refused, self._refresh)

    def _refresh(self) -> Token:
        def report(decision: RetryDecision, wait_s: float, attempt: int) -> None:
            if not isinstance(decision.error, AccessDenied):
                self._on_retry(str(decision.error), wait_s, attempt)

        return call_with_retries(self._ask, self._retry_policy, report)

    def _ask(self, _attempt: int) -> Token:
        asked_at, secret = self._retry_policy.clock(), self._secret()
        try:
            response = self._post(secret)
            with response:
                body = read_body(response, LONGEST_ANSWER).content
        except requests.RequestException as fault:
            host, reached = urlsplit(self._url).hostname or self._url, self._known.ims_answered
            if self._overdue.is_set():
                seconds = self._retry_policy.clock() - asked_at
                raise Retryable(judge_hung_up(f"{host} (IMS)", seconds)) from fault
            raise Retryable(
                judge_fault(fault, host=host, setting="IMS_TOKEN_URL", reached=reached, patient=True)
            ) from fault
        self._known.ims_answered = True
        if decision := self._judge(response, body, secret):
            raise Retryable(decision, partial(self._require_rotation, secret, decision))
        return self._read(body, asked_at)

    def _require_rotation(self, refused: str, decision: RetryDecision) -> None:
        """Raise the refusal unless the secret has changed since."""
        if isinstance(decision.error, AccessDenied) and self._secret() == refused:
            raise decision.error

    def _post(self, secret: str) -> requests.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": secret,
            "scope": self._scopes,
        }
        return self._session.post(
            self._url,
            data=form,
            auth=_unsigned,
            timeout=self._timeouts,
            verify=self._session.verify,
            allow_redirects=False,
            stream=True,
        )

    def _judge(self, response: requests.Response, body: bytes, secret: str) -> RetryDecision | None:
        status = response.status_code
        if status == 200:
            return None
        error_body = read_error_body(body)
        text = error_body.text.replace(secret, "***").rstrip(".")
        reason = f"IMS answered {status} to the request for a token: {text}."
        if status == 429 or status >= 500:
            wait_s = retry_after(response.headers.get("Retry-After"), server_time(response.headers))
            return RetryDecision(CommerceUnavailable(reason), retry_after=wait_s)
        if status in (400, 401, 403) and error_body.code:
            return RetryDecision(AccessDenied(reason, remedy(error_body)), tries=2, retry_after=0)
        return RetryDecision(SettingsError(reason, _FIX_URL), tries=1)

    def _read(self, body: bytes, asked_at: float) -> Token:
        try:
            answer = _TOKEN_ANSWER.decode(body)
        except (msgspec.DecodeError, RecursionError):
            text = (
                read_error_body(body).text if not body.lstrip().startswith(b"{") else "JSON without a token"
            )
            raise _unreadable(f"IMS answered with {text} instead of a token.") from None
        if not _SENDABLE.fullmatch(answer.access_token):
            raise _unreadable("IMS sent a token that is not allowed in an HTTP header.")
        if not 0 < answer.expires_in < LONGEST_LIFE_S:
            raise _unreadable(
                f"IMS sent a token that expires in {answer.expires_in} s, which is implausible."
            )
        self._hide(answer.access_token)
        self._on_refresh(self._retry_policy.clock() - asked_at, answer.expires_in)
        margin = min(LONGEST_MARGIN_S, answer.expires_in / 10)
        return Token(answer.access_token, asked_at + answer.expires_in - margin)


class ImsAuth:
    """Signs requests for Adobe's gateway: the IMS token, the client id as API key, the organisation."""

    def __init__(self, tokens: ImsTokens, org_id: str) -> None:
        self._tokens = tokens
        self._org_id = org_id

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._tokens.current()}"
        request.headers["x-api-key"] = self._tokens.client_id
        request.headers["x-gw-ims-org-id"] = self._org_id
        return request

    def renew(self, refused: PreparedRequest) -> bool:
        """Replace the token unless another thread already did."""
        self._tokens.renew(str(refused.headers["Authorization"]).removeprefix("Bearer "))
        return True


def _unsigned(request: PreparedRequest) -> PreparedRequest:
    """Send no Authorization header: without an `auth`, requests would use `~/.netrc`."""
    return request


def _unreadable(reason: str) -> Retryable:
    return Retryable(RetryDecision(AnswerUnreadable(reason, _FIX_URL), tries=_UNREADABLE_TRIES))
