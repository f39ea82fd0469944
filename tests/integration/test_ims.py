"""One token for everyone, renewed once, and a refusal that says what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from sync.commerce.ims import ImsAuth
from sync.commerce.transport import open_session
from sync.errors import (
    AccessDenied,
    AnswerUnreadable,
    CommerceUnavailable,
    Interrupted,
    SettingsError,
    SyncError,
)
from sync.sandbox import Sandbox
from tests.wire import Time, connect, ims_tokens, in_threads, oauth1


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def sandbox(time: Time) -> Iterator[Sandbox]:
    """Its clock is ours: tokens end when we let time pass."""
    with Sandbox(products=3, clock=time.clock) as running:
        yield running


def token_requests(sandbox: Sandbox) -> int:
    return sum(served.kind == "token" for served in sandbox.requests)


def refused(ask: Callable[[], object]) -> SyncError:
    with pytest.raises(SyncError) as stopped:
        ask()
    return stopped.value


# --- one token --------------------------------------------------------------------------------------------


def test_threads_that_start_together_ask_for_one_token(sandbox: Sandbox, time: Time) -> None:
    tokens, got = ims_tokens(sandbox, time), []

    in_threads(8, lambda: got.append(tokens.current()))

    assert len(set(got)) == 1
    assert token_requests(sandbox) == 1


def test_a_token_is_renewed_shortly_before_it_ends(sandbox: Sandbox, time: Time) -> None:
    """86,399 s of life: the last minute is not used."""
    tokens = ims_tokens(sandbox, time)
    first = tokens.current()

    time.now += 86_399 - 61
    assert tokens.current() == first

    time.now += 2
    assert tokens.current() != first


@pytest.mark.slow
def test_a_life_of_5_seconds_costs_one_token_each_and_no_failed_request(sandbox: Sandbox, time: Time) -> None:
    """Four threads, 100 requests each, 45 s: renewed every 4.5 s, ten tokens in all."""
    sandbox.tokens.life = 5
    wire = connect(sandbox, time)

    for _ in range(100):
        in_threads(4, lambda: wire.products.count("all"))
        time.now += 0.45

    assert {status for _, _, status, _ in wire.diary.finished} == {200}
    assert token_requests(sandbox) == 10


def test_threads_whose_token_is_revoked_renew_it_once_and_lose_nothing(sandbox: Sandbox, time: Time) -> None:
    wire = connect(sandbox, time)
    wire.products.count("all")

    sandbox.faults.revoke_tokens()
    in_threads(4, lambda: wire.products.count("all"))

    assert token_requests(sandbox) == 2


def test_a_token_that_was_renewed_meanwhile_is_not_renewed_again(sandbox: Sandbox, time: Time) -> None:
    tokens = ims_tokens(sandbox, time)
    old = tokens.current()
    new = tokens.renew(old)

    assert tokens.renew(old) == new
    assert token_requests(sandbox) == 2


def test_a_refresh_is_reported_with_the_token_s_life(sandbox: Sandbox, time: Time) -> None:
    lives = []
    tokens = ims_tokens(sandbox, time, on_refresh=lambda seconds, expires_in: lives.append(expires_in))

    tokens.current()
    tokens.current()

    assert lives == [86_399]


def test_a_secret_that_rotated_is_used_at_the_next_refresh(sandbox: Sandbox, time: Time) -> None:
    secrets = iter(["outdated", sandbox.credentials.client_secret])
    current = next(secrets)
    tokens = ims_tokens(sandbox, time, client_secret=lambda: current)
    refused(tokens.current)

    current = next(secrets)

    assert tokens.current()


def test_the_token_is_asked_for_by_form_with_scopes_between_commas_and_nothing_from_netrc(
    sandbox: Sandbox, time: Time, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    session, sent = open_session("product-sync/test"), []
    session.hooks["response"].append(lambda response, **_: sent.append(response.request))

    ims_tokens(sandbox, time, session=session).current()

    assert "Authorization" not in sent[0].headers
    assert parse_qs(sent[0].body)["scope"] == ["openid,AdobeID,commerce.accs"]
    assert parse_qs(sent[0].body)["grant_type"] == ["client_credentials"]


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"client_id": "somebody-else"}, "IMS_CLIENT_ID"),
        ({"client_secret": lambda: "wr0ng-s3cret"}, "IMS_CLIENT_SECRET"),
        ({"scopes": ("openid",)}, "IMS_SCOPES"),
    ],
)
def test_a_refused_credential_stops_at_once_and_names_the_variable(
    sandbox: Sandbox, time: Time, changes: dict[str, Any], variable: str
) -> None:
    error = refused(ims_tokens(sandbox, time, **changes).current)

    assert isinstance(error, AccessDenied)
    assert variable in error.fix
    assert time.waits == []


def test_the_secret_is_in_no_message_even_if_the_server_repeats_it(sandbox: Sandbox, time: Time) -> None:
    sandbox.faults.fail(
        400, body={"error": "invalid_client", "error_description": "not wr0ng-s3cret"}, kind="token"
    )

    error = refused(ims_tokens(sandbox, time, client_secret=lambda: "wr0ng-s3cret").current)

    assert "invalid_client" in str(error)
    assert "wr0ng" not in f"{error} {error.fix} {error!r} {error.__cause__!r}"


def test_no_secret_is_in_a_repr(sandbox: Sandbox, time: Time) -> None:
    tokens = ims_tokens(sandbox, time)
    token = tokens.current()

    shown = f"{tokens!r} {ImsAuth(tokens, 'org')!r} {oauth1(sandbox)!r} {vars(tokens)!r}"

    assert sandbox.credentials.client_secret not in shown
    assert sandbox.credentials.consumer_secret not in shown
    assert token not in shown


def test_an_address_that_is_no_token_endpoint_is_a_matter_of_settings(sandbox: Sandbox, time: Time) -> None:
    error = refused(ims_tokens(sandbox, time, token_url=f"{sandbox.host_url}/elsewhere").current)

    assert isinstance(error, SettingsError)
    assert "IMS_TOKEN_URL" in error.fix


def test_a_host_that_does_not_exist_is_given_up_after_half_a_minute(sandbox: Sandbox, time: Time) -> None:
    error = refused(ims_tokens(sandbox, time, token_url="http://127.0.0.1:1/ims/token/v3").current)

    assert isinstance(error, CommerceUnavailable)
    assert "IMS_TOKEN_URL" in error.fix
    assert sum(time.waits) == 30


# --- troubles that pass -----------------------------------------------------------------------------------


def test_a_throttled_or_failing_token_endpoint_is_asked_again(sandbox: Sandbox, time: Time) -> None:
    sandbox.faults.fail(429, headers={"Retry-After": "7"}, kind="token", times=1)
    sandbox.faults.fail(500, kind="token", times=1)
    sandbox.faults.reset(kind="token", times=1)

    assert ims_tokens(sandbox, time).current()
    assert time.waits == [7, 1.5, 3.0]


def test_an_outage_ends_as_unavailable_when_the_time_is_spent(sandbox: Sandbox, time: Time) -> None:
    sandbox.faults.fail(503, kind="token")

    error = refused(ims_tokens(sandbox, time).current)

    assert isinstance(error, CommerceUnavailable)
    assert sum(time.waits) == 900


@pytest.mark.parametrize(
    "body",
    [
        "<html><title>Sign in</title></html>",
        {"token_type": "bearer", "expires_in": 86_399},
        {"access_token": "t", "expires_in": 86_399_000},
        {"access_token": "t", "expires_in": 0},
        {"access_token": "t", "expires_in": "86399"},
        {"access_token": "t\r\nX-Evil: 1", "expires_in": 86_399},
        {"access_token": "\u65e5", "expires_in": 86_399},
        {"access_token": "", "expires_in": 86_399},
    ],
)
def test_a_200_without_a_usable_token_is_tried_four_times(
    sandbox: Sandbox, time: Time, body: str | dict[str, Any]
) -> None:
    """A login page, no token, a life in milliseconds, none, one that is text; a token no header can carry."""
    sandbox.faults.fail(200, body=body, kind="token")

    error = refused(ims_tokens(sandbox, time).current)

    assert isinstance(error, AnswerUnreadable)
    assert "IMS_TOKEN_URL" in error.fix
    assert token_requests(sandbox) == 4


def test_a_stop_while_waiting_for_the_token_endpoint_ends_the_wait(sandbox: Sandbox, time: Time) -> None:
    sandbox.faults.fail(503, kind="token")
    time.stop.set()

    assert isinstance(refused(ims_tokens(sandbox, time).current), Interrupted)
    assert len(time.waits) == 1
