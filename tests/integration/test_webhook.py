"""A webhook is posted until its receiver has said 2xx, and what it says otherwise is understood."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from standardwebhooks import Webhook as StandardWebhook
from standardwebhooks import WebhookVerificationError

from sync.commerce.retry import RetryPolicy
from sync.commerce.transport import open_session
from sync.errors import Interrupted, SyncError
from sync.feed.webhook import (
    TIMEOUTS,
    Timeouts,
    Webhook,
    WebhookDenied,
    WebhookRefused,
    WebhookTooLarge,
    WebhookUnavailable,
    signature,
)
from tests.receiver import SECRET, Receiver
from tests.wire import Time

QUICK = Timeouts(connect=5, silence=0.15, whole=0.4, grace=0.1)
Open = Callable[..., Webhook]


class Sender:
    """Posts to receivers by a clock that only waiting moves."""

    def __init__(
        self, max_retry_time: float = 900.0, secret: str = SECRET, timeouts: Timeouts = TIMEOUTS
    ) -> None:
        self.secret = secret
        self.timeouts = timeouts
        self.time = Time(max_retry_time)
        self.stop = threading.Event()
        self.heard: list[str] = []

    def post(self, url: str, body: bytes = b"{}", message_id: str = "1-7") -> None:
        with open_session("product-sync/test", pool_size=1) as session:
            Webhook(
                url,
                lambda: self.secret,
                session=session,
                retry_policy=RetryPolicy(
                    self.time.sleep, self.time.retry_policy.max_retry_time, self.time.clock
                ),
                stop=self.stop,
                on_retry=lambda host, reason, wait_s, number: self.heard.append(reason),
                timeouts=self.timeouts,
            ).post(body, message_id)


def test_a_receiver_can_tell_that_it_comes_from_us() -> None:
    with Receiver() as receiver:
        Sender().post(receiver.url, '{"name": "Größe"}'.encode())

    got = receiver.received[0]
    assert got.is_signed
    assert (got.headers["Content-Type"], got.headers["Idempotency-Key"]) == ("application/json", "1-7")
    assert got.headers["User-Agent"] == "product-sync/test"


@pytest.mark.parametrize(
    ("secret", "receivers"),
    [
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (SECRET, SECRET.encode()),
    ],
)
def test_a_library_of_standard_webhooks_verifies_it(secret: str, receivers: str | bytes) -> None:
    """A secret without `whsec_` is the key itself, which the library takes as bytes."""
    with Receiver() as receiver:
        Sender(secret=secret).post(receiver.url, '{"name": "Größe"}'.encode())

    got, verifier = receiver.received[0], StandardWebhook(receivers)
    assert verifier.verify(got.body, dict(got.headers)) == {"name": "Größe"}
    for changed in (got.body + b" ", got.body.replace(b"name", b"nama")):
        with pytest.raises(WebhookVerificationError):
            verifier.verify(changed, dict(got.headers))


def test_a_retry_has_the_same_id_and_a_signature_of_its_own() -> None:
    """The secret is renewed between two tries, and so is the time."""
    secrets, clock = iter(["old", SECRET]), iter([1.0, 2.0])
    with Receiver(["500"]) as receiver, open_session("product-sync/test") as session:
        Webhook(
            receiver.url,
            lambda: next(secrets),
            session=session,
            retry_policy=Time().retry_policy,
            stop=threading.Event(),
            on_retry=lambda *_: None,
            clock=lambda: next(clock),
        ).post(b"{}", "1-7")

    first, second = (got.headers for got in receiver.received)
    assert (first["webhook-id"], second["webhook-id"]) == ("1-7", "1-7")
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("1", "2")
    assert first["webhook-signature"] == signature("old", "1-7", b"{}", 1)
    assert second["webhook-signature"] == signature(SECRET, "1-7", b"{}", 2)
    assert second["X-Product-Sync-Signature"].startswith("t=2,v1=")


@pytest.mark.parametrize(
    "failure", ["408", "425", "429", "499", "500", "502", "503", "504", "break", "half", "hang", "drip"]
)
def test_a_failure_that_may_pass_is_tried_again_until_it_has(failure: str) -> None:
    sender = Sender(timeouts=QUICK if failure in ("hang", "drip") else TIMEOUTS)
    with Receiver([failure] * 2) as receiver:
        sender.post(receiver.url, b"the body")

    assert [got.action for got in receiver.received] == [failure, failure, "take"]
    assert {got.body for got in receiver.received} == {b"the body"}
    assert len(sender.heard) == 2
    assert all("127.0.0.1" in reason for reason in sender.heard)


def test_a_receiver_says_when_to_come_back() -> None:
    sender = Sender()
    with Receiver(["429 after 7", "503 after 40"]) as receiver:
        sender.post(receiver.url)

    assert sender.time.waits == [7, 40]


def test_a_receiver_that_is_not_there_yet_is_waited_for() -> None:
    with Receiver() as receiver:
        url, port = receiver.url, receiver.port
    sender = Sender()
    came: list[Receiver] = []
    doze = sender.time.sleep

    def start_it(seconds: float) -> bool:
        if len(sender.time.waits) == 2:
            came.append(Receiver(port=port))
        return doze(seconds)

    sender.time.sleep = start_it  # type: ignore[method-assign]
    try:
        sender.post(url)
        assert [got.action for got in came[0].received] == ["take"]
    finally:
        came[0].close()
    assert len(sender.heard) == 3


def test_a_failure_that_does_not_pass_ends_when_the_time_is_spent() -> None:
    sender = Sender(max_retry_time=60)
    with Receiver(["500"] * 100) as receiver, pytest.raises(WebhookUnavailable) as caught:
        sender.post(receiver.url)

    assert sum(sender.time.waits) == pytest.approx(60)
    assert (str(caught.value), caught.value.exit_code) == ("127.0.0.1 answered 500.", 69)


@pytest.mark.parametrize(
    ("answer", "tries", "kind", "code"),
    [
        ("400", 4, WebhookRefused, 69),
        ("404", 4, WebhookRefused, 69),
        ("410", 4, WebhookRefused, 69),
        ("401", 4, WebhookDenied, 77),
        ("403", 4, WebhookDenied, 77),
        ("413", 1, WebhookTooLarge, 69),
        ("redirect", 1, WebhookRefused, 69),
    ],
)
def test_a_receiver_that_does_not_want_it_ends_it(
    answer: str, tries: int, kind: type[SyncError], code: int
) -> None:
    with Receiver([answer] * 10) as receiver, pytest.raises(kind) as caught:
        Sender().post(receiver.url)

    assert [got.path for got in receiver.received] == ["/products"] * tries
    assert (type(caught.value), caught.value.exit_code) == (kind, code)


def test_a_receiver_that_refuses_only_while_it_starts_is_given_the_time() -> None:
    with Receiver(["404", "404", "401"]) as receiver:
        Sender().post(receiver.url)

    assert len(receiver.received) == 4


def test_who_is_told_to_stop_does_not_wait_for_a_receiver_that_hangs() -> None:
    """The silence allowed is half an hour; the stop comes when the request has arrived."""
    stop = threading.Event()

    def stop_when_heard() -> None:
        receiver.wait_for(1)
        stop.set()

    with Receiver(["hang"]) as receiver, open_session("product-sync/test") as session:
        webhook = Webhook(
            receiver.url,
            None,
            session=session,
            retry_policy=RetryPolicy(stop.wait),
            stop=stop,
            on_retry=lambda *_: None,
            timeouts=Timeouts(silence=1800, whole=1800, grace=0.05),
        )
        threading.Thread(target=stop_when_heard).start()
        with pytest.raises(Interrupted):
            webhook.post(b"{}", "1-7")
        with pytest.raises(Interrupted):
            webhook.post(b"{}", "1-7")

    assert len(receiver.received) == 1
    headers = receiver.received[0].headers
    assert (headers["webhook-signature"], headers["X-Product-Sync-Signature"]) == (None, None)


def test_credentials_of_the_url_are_sent_as_such_and_told_to_nobody() -> None:
    sender = Sender(max_retry_time=1)
    with Receiver(["500"] * 10) as receiver:
        url = f"http://shop:p%40ss@127.0.0.1:{receiver.port}/in?token=t0ken#part"
        with pytest.raises(WebhookUnavailable) as caught:
            sender.post(url)

    got = receiver.received[0]
    assert (got.path, got.headers["Authorization"]) == ("/in?token=t0ken", "Basic c2hvcDpwQHNz")
    told = f"{caught.value} {caught.value.fix} {sender.heard}"
    assert not any(secret in told for secret in ("p%40ss", "p@ss", "t0ken", SECRET))


def test_passwords_for_other_programs_are_not_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Receiver() as receiver:
        Sender().post(receiver.url)

    assert receiver.received[0].headers["Authorization"] is None


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", "%zz"])
def test_a_host_that_cannot_be_is_no_fault_of_the_program(host: str) -> None:
    with pytest.raises(SyncError):
        Sender(max_retry_time=1).post(f"https://{host}/in")
