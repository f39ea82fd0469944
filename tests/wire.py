"""What the tests of the wire stand on: a clock that only waiting moves, and a client that writes down."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from sync.commerce.client import Auth, Client
from sync.commerce.ims import ImsAuth, ImsTokens
from sync.commerce.oauth import BearerAuth, OAuth1Auth
from sync.commerce.pacing import Outcome
from sync.commerce.products import Products
from sync.commerce.retry import RetryPolicy
from sync.commerce.transport import open_session
from sync.errors import Interrupted
from sync.sandbox import Sandbox

SCOPES = ("openid", "AdobeID", "commerce.accs")
START = 1_900_000_000.0


class Time:
    """A clock that only `sleep` moves, for both sides of the wire."""

    def __init__(self, max_retry_time: float = 900.0) -> None:
        self.now = START
        self.waits: list[float] = []
        self.stop = threading.Event()
        self.retry_policy = RetryPolicy(self.sleep, max_retry_time, self.clock, lambda: 0.5)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return self.stop.is_set()


class FreePacer:
    """Lets every request start at once, and keeps what it was told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.in_flight = 0

    def acquire(self, stop: threading.Event) -> float:
        if stop.is_set():
            raise Interrupted("stopped")
        self.in_flight += 1
        return 0.0

    def release(self, begun: float, outcome: Outcome) -> None:
        self.in_flight -= 1
        self.outcomes.append(outcome)


@dataclass
class Diary:
    """A Hook that remembers."""

    finished: list[tuple[str, str, int | None, int]] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)
    throttled_s: list[float] = field(default_factory=list)

    def request_finished(
        self, path: str, store_view: str, status: int | None, seconds: float, size: int, attempt: int
    ) -> None:
        self.finished.append((path, store_view, status, attempt))

    def request_retried(self, path: str, reason: str, wait_s: float, attempt: int) -> None:
        self.retried.append(reason)

    def throttled(self, wait_s: float) -> None:
        self.throttled_s.append(wait_s)


@dataclass
class Wire:
    """One client of one tenant, with everything around it in reach."""

    time: Time
    session: requests.Session
    pacer: FreePacer
    diary: Diary
    client: Client
    products: Products


def ims_tokens(sandbox: Sandbox, time: Time, **changes: Any) -> ImsTokens:
    """Tokens of the sandbox's credential, or of one with `changes`."""
    credentials = sandbox.credentials
    arguments: dict[str, Any] = {
        "token_url": sandbox.token_url,
        "client_id": credentials.client_id,
        "client_secret": lambda: credentials.client_secret,
        "scopes": SCOPES,
        "session": open_session("product-sync/test"),
        "retry_policy": time.retry_policy,
    }
    return ImsTokens(**arguments | changes)


def connect(
    sandbox: Sandbox,
    time: Time | None = None,
    auth: Auth | None = None,
    *,
    page_size: int = 300,
    **changes: Any,
) -> Wire:
    """A client of the sandbox as SaaS, with IMS, unless `auth` and `changes` to Client say otherwise."""
    time = time or Time()
    session, pacer, diary = open_session("product-sync/test"), FreePacer(), Diary()
    arguments: dict[str, Any] = {
        "endpoint": sandbox.endpoint,
        "auth": auth or ImsAuth(ims_tokens(sandbox, time), sandbox.credentials.org_id),
        "session": session,
        "pacer": pacer,
        "retry_policy": time.retry_policy,
        "stop": time.stop,
        "hook": diary,
    }
    client = Client(**arguments | changes)
    return Wire(time, session, pacer, diary, client, Products(client, page_size=page_size))


def connect_paas(sandbox: Sandbox, auth: Auth | None = None) -> Wire:
    """A client of the sandbox as PaaS: an integration's token, the store view in the path."""
    auth = auth or BearerAuth(lambda: sandbox.credentials.integration_token)
    return connect(sandbox, auth=auth, endpoint=sandbox.rest_endpoint, store_in_path=True)


def oauth1(sandbox: Sandbox, **changes: str) -> OAuth1Auth:
    credentials = sandbox.credentials
    arguments = {
        "consumer_key": credentials.consumer_key,
        "consumer_secret": credentials.consumer_secret,
        "access_token": credentials.access_token,
        "access_token_secret": credentials.access_token_secret,
    }
    return OAuth1Auth(**arguments | changes)


def in_threads(count: int, work: Callable[[], object]) -> None:
    """Run `work` in so many threads at once, and raise the first error any of them met."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - carried over to the test's thread
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
