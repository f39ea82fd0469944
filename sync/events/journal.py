"""The journal of Adobe I/O Events: one batch of events after the other, each with the link of the next.

    200               events, and the link of the next batch
    204               no events for now: the same link again, after a while
    401               the token is renewed once
    403, 404          stop: the credential, its API or the registration is missing
    410               stop: the position is older than the seven days that events are kept
    429, 5xx          wait for `Retry-After`, else back off

A position is opaque. A link is followed only to the scheme and host of EVENTS_JOURNAL_URL.

Source: Adobe I/O Events, "Journaling API"; links as `aio-lib-events` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import msgspec
import requests
from requests import PreparedRequest
from requests.utils import parse_header_links

from sync.commerce.error_bodies import read_error_body, remedy
from sync.commerce.ims import ImsTokens
from sync.commerce.retry import (
    Retryable,
    RetryDecision,
    RetryPolicy,
    call_with_retries,
    judge_fault,
    retry_after,
    server_time,
)
from sync.commerce.transport import BodyReader, read_body
from sync.errors import AccessDenied, AnswerUnreadable, CommerceUnavailable, SettingsError, SyncError

LIMIT: Final = 100  # events in a batch
LONGEST_BATCH: Final = 3 << 20  # bytes; the service cuts batches at 1.5 MB
TIMEOUTS_S: Final = (10.0, 60.0)
UNREADABLE_TRIES: Final = 4
NAME: Final = "the events journal"


class PositionExpired(SyncError):
    """Events after the position are no longer kept: some may have been missed."""

    exit_code = 69
    fix = "no action needed: a pass finds what they would have named, and following begins anew."


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request returned.

    events    as they came, in the journal's order, which is not the order in which they happened
    next      URL to ask next
    wait_s    how long to wait before that, where the journal has no more; None: at once
    """

    events: tuple[Any, ...]
    next: str
    wait_s: float | None = None

    @property
    def is_end(self) -> bool:
        return self.wait_s is not None


class _Page(msgspec.Struct):
    last: str | None = None


class _Answer(msgspec.Struct):
    events: list[Any] = []
    page: _Page = msgspec.field(default_factory=_Page, name="_page")


_ANSWER = msgspec.json.Decoder(_Answer)


class Journal:
    """The journal of one registration.

    url         EVENTS_JOURNAL_URL
    auth        signs requests, see `JournalAuth`
    session     from `open_session`
    on_retry    receives, before each wait, the reason, the seconds and the number of the failed try
    wait_s      between two looks at the end, at least

    Every method raises PositionExpired, AccessDenied (refused), SettingsError (no such journal),
    CommerceUnavailable, AnswerUnreadable, Interrupted.
    """

    def __init__(
        self,
        url: str,
        auth: JournalAuth,
        *,
        session: requests.Session,
        retry_policy: RetryPolicy,
        on_retry: Callable[[str, float, int], None] = lambda reason, wait_s, attempt: None,
        wait_s: float = 2.0,
    ) -> None:
        self.url = url
        self._auth = auth
        self._session = session
        self._retry_policy = retry_policy
        self._on_retry = on_retry
        self._wait_s = wait_s
        self._answered = False

    @property
    def oldest(self) -> str:
        """The link of the oldest event that is kept."""
        return _with(self.url, limit=str(LIMIT))

    def end(self) -> str:
        """The link behind the newest event."""
        return self.read(_with(self.url, latest="true", limit=str(LIMIT))).next

    def read(self, link: str) -> Batch:
        """The batch at a link: `oldest`, or the `next` of another batch."""

        def report(decision: RetryDecision, wait_s: float, attempt: int) -> None:
            self._on_retry(str(decision.error), wait_s, attempt)

        return call_with_retries(partial(self._once, link), self._retry_policy, report)

    def _once(self, link: str, _attempt: int) -> Batch:
        with BodyReader() as reading:
            try:
                with self._session.get(
                    self._checked(link),
                    auth=self._auth,
                    timeout=TIMEOUTS_S,
                    verify=self._session.verify,
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    body = read_body(response, LONGEST_BATCH, reading).content
            except requests.RequestException as fault:
                raise Retryable(self._judge_fault(fault)) from fault
            self._answered = True
            if decision := _judge(response, body):
                renew = partial(self._auth.renew, response.request) if decision.renew else None
                raise Retryable(decision, renew)
            return self._batch(link, response, body)

    def _judge_fault(self, fault: requests.RequestException) -> RetryDecision:
        host = urlsplit(self.url).hostname or ""
        return judge_fault(
            fault, host=host, setting="EVENTS_JOURNAL_URL", reached=self._answered, patient=True
        )

    def _batch(self, link: str, response: requests.Response, body: bytes) -> Batch:
        after = _next_link(response.headers)
        if response.status_code == 204:
            wait_s = retry_after(response.headers.get("Retry-After"), server_time(response.headers))
            return Batch((), self._resolved(link, after) or link, max(wait_s or 0.0, self._wait_s))
        try:
            answer = _ANSWER.decode(body)
        except (msgspec.DecodeError, RecursionError):
            raise _unreadable(f"{NAME} answered with {read_error_body(body).text}.") from None
        following = self._resolved(link, after)
        if following is None and answer.page.last is None:
            raise _unreadable(f"{NAME} sent events without a position to continue from.")
        position = {} if answer.page.last is None else {"since": answer.page.last}
        return Batch(tuple(answer.events), following or _with(self.url, **position, limit=str(LIMIT)))

    def _resolved(self, link: str, after: str | None) -> str | None:
        return None if after is None else self._checked(urljoin(link, after))

    def _checked(self, link: str) -> str:
        """The link itself. Raises Retryable when it leads away from the journal's host."""
        ours, theirs = urlsplit(self.url), urlsplit(link)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            raise _unreadable(f"{NAME} continues at another host or without TLS, which is not followed.")
        return link


def _with(url: str, **parameters: str) -> str:
    """A URL with these parameters besides its own."""
    parts = urlsplit(url)
    return parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **parameters})).geturl()


def _next_link(headers: Mapping[str, str]) -> str | None:
    """The target of `rel="next"`, of one header or of several that were joined."""
    links = parse_header_links(headers.get("Link", ""))
    return next((link["url"] for link in links if link.get("rel") == "next"), None)


def _judge(response: requests.Response, body: bytes) -> RetryDecision | None:
    """Decide about an answer; None when it is a batch."""
    status = response.status_code
    if status in (200, 204):
        return None
    error_body = read_error_body(body)
    reason = f"{NAME} answered {status}: {error_body.text.rstrip('.')}."
    if status == 410:
        return RetryDecision(PositionExpired(reason), tries=1)
    if status == 401:
        fix = remedy(error_body) or "check EVENTS_CLIENT_ID, EVENTS_CLIENT_SECRET and EVENTS_SCOPES."
        return RetryDecision(AccessDenied(reason, fix), tries=2, retry_after=0, renew=True)
    if status == 403:
        fix = "check EVENTS_IMS_ORG_ID, and that the credential has the API I/O Management."
        return RetryDecision(AccessDenied(reason, fix), tries=1)
    if status == 429 or status >= 500:
        wait_s = retry_after(response.headers.get("Retry-After"), server_time(response.headers))
        fix = "try again later: following goes on where it was."
        return RetryDecision(CommerceUnavailable(reason, fix), retry_after=wait_s)
    fix = "check EVENTS_JOURNAL_URL: the Developer Console shows it at the registration."
    return RetryDecision(SettingsError(reason, fix), tries=1)


def _unreadable(reason: str) -> Retryable:
    fix = "check EVENTS_JOURNAL_URL, and that no proxy answers in its place."
    return Retryable(RetryDecision(AnswerUnreadable(reason, fix), tries=UNREADABLE_TRIES))


class JournalAuth:
    """Signs requests for I/O Events: IMS token, client id, and the organisation in a header of its own."""

    def __init__(self, tokens: ImsTokens, org_id: str) -> None:
        self._tokens = tokens
        self._org_id = org_id

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._tokens.current()}"
        request.headers["x-api-key"] = self._tokens.client_id
        request.headers["x-ims-org-id"] = self._org_id
        return request

    def renew(self, refused: PreparedRequest) -> None:
        """Replace the token unless another thread already did."""
        self._tokens.renew(str(refused.headers["Authorization"]).removeprefix("Bearer "))
