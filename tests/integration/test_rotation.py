"""A credential is exchanged while requests are under way: the old one is refused, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.app import opened
from sync.commerce.oauth import BearerAuth
from sync.errors import AccessDenied
from sync.sandbox import Sandbox
from sync.settings import Settings
from tests.wire import Time, connect_paas, ims_tokens, in_threads


@pytest.fixture
def tenant() -> Iterator[Sandbox]:
    with Sandbox(products=3) as sandbox:
        yield sandbox


def exchange(tenant: Sandbox, **secrets: str) -> None:
    """The tenant knows these from now on, and not the former ones."""
    for name, secret in secrets.items():
        object.__setattr__(tenant.credentials, name, secret)


def test_a_secret_that_was_exchanged_while_it_was_on_its_way_is_asked_for_again(tenant: Sandbox) -> None:
    """Read before the exchange, refused behind it."""
    secrets = iter(["outdated", *["new"] * 9])
    exchange(tenant, client_secret="new")
    time = Time()

    assert ims_tokens(tenant, time, client_secret=lambda: next(secrets)).current()
    assert [served.status for served in tenant.requests] == [400, 200]


def test_a_secret_that_is_still_the_same_is_sent_once(tenant: Sandbox) -> None:
    with pytest.raises(AccessDenied):
        ims_tokens(tenant, Time(), client_secret=lambda: "outdated").current()

    assert len(tenant.requests) == 1


def test_two_secrets_that_are_refused_end_it(tenant: Sandbox) -> None:
    secrets = iter(str(n) for n in range(99))

    with pytest.raises(AccessDenied):
        ims_tokens(tenant, Time(), client_secret=lambda: next(secrets)).current()

    assert len(tenant.requests) == 2


@pytest.mark.parametrize("name", ["access_token_secret", "consumer_secret", "access_token"])
def test_keys_of_an_integration_are_exchanged_under_all_threads(
    tenant: Sandbox, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = tenant.paas_environment(oauth=True)
    variable = f"COMMERCE_{name.upper()}"
    secret = tmp_path / "secret"
    secret.write_text(environment.pop(variable))
    for key, value in {**environment, f"{variable}_FILE": str(secret)}.items():
        monkeypatch.setenv(key, value)

    with opened(Settings.load(), threading.Event()) as app:
        assert app.tenant.products.count("all").total == 3
        exchange(tenant, **{name: "exchanged"})
        with pytest.raises(AccessDenied):
            app.tenant.products.count("all")
        secret.write_text("exchanged")
        in_threads(4, lambda: app.tenant.products.count("all"))


def test_a_bearer_token_is_read_again_only_after_a_refusal(tenant: Sandbox) -> None:
    reads: list[str] = []

    def read_token() -> str:
        reads.append(tenant.credentials.integration_token)
        return reads[-1]

    wire = connect_paas(tenant, BearerAuth(read_token))
    for _ in range(3):
        assert wire.products.count("all").total == 3
    assert len(reads) == 1

    exchange(tenant, integration_token="exchanged")
    assert wire.products.count("all").total == 3
    assert reads[1:] == ["exchanged"]
