"""The app is built from settings: what is left behind, what is recalled, how requests are signed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from sync.app import copy_of, opened
from sync.cli.checks import check
from sync.commerce.pacing import Outcome
from sync.errors import AccessDenied, DatabaseUnavailable
from sync.passes.backfill import backfill
from sync.passes.incremental import incremental
from sync.passes.prices import prices
from sync.passes.reconcile import reconcile
from sync.passes.reference import reference
from sync.passes.stock import stock
from sync.sandbox import Sandbox
from sync.sandbox.access import Verifier
from sync.settings import Settings


@pytest.fixture
def tenant() -> Iterator[Sandbox]:
    with Sandbox(20, store_views=("default", "de")) as sandbox:
        yield sandbox


def configure(monkeypatch: pytest.MonkeyPatch, **settings: str) -> Settings:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return Settings.load()


def load(settings: Settings) -> int:
    """How many products a backfill inserts."""
    with opened(settings, threading.Event()) as app:
        return backfill(app.sync("backfill")).tally.inserted


def test_a_saas_tenant_is_asked_with_a_token(tenant: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = configure(monkeypatch, **tenant.environment(), STORE_VIEWS="default,de")

    assert load(settings) == 40
    assert {served.store_view for served in tenant.requests if served.kind == "page"} == {"default", "de"}


@pytest.mark.parametrize("oauth", [False, True])
def test_a_paas_tenant_is_asked_with_the_integration(
    tenant: Sandbox, monkeypatch: pytest.MonkeyPatch, oauth: bool
) -> None:
    settings = configure(monkeypatch, **tenant.paas_environment(oauth=oauth), STORE_VIEWS="de")

    assert load(settings) == 20
    assert {served.path for served in tenant.requests} == {"/rest/de/V1/products"}


@pytest.mark.parametrize("verifier", get_args(Verifier))
def test_each_verifier_of_commerce_takes_our_signatures(
    tenant: Sandbox, monkeypatch: pytest.MonkeyPatch, verifier: Verifier
) -> None:
    """Signs that a verifier may read in another way: in SKUs, between date and time, in brackets."""
    for number, sku in enumerate(("a/b c+d", "[10]=&%2F", "Größe 5", "x,y")):
        tenant.catalogue.edit(tenant.catalogue.ids()[number], sku=sku)
    tenant.integration.verifier = verifier
    settings = configure(monkeypatch, **tenant.paas_environment(oauth=True), STORE_VIEWS="default,de")

    with opened(settings, threading.Event()) as app:
        for run in (backfill, incremental, stock, prices, reference, reconcile):
            assert run(app.sync("test")).status == "succeeded"

    assert 401 not in {served.status for served in tenant.requests}
    assert any("updated_at" in served.query and "%20" in served.query for served in tenant.requests)


def test_a_paas_tenant_takes_tokens_of_ims_where_the_technical_account_is_an_admin_user(
    tenant: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = tenant.environment() | {"API_ENDPOINT": tenant.rest_endpoint}
    settings = configure(monkeypatch, **environment, STORE_VIEWS="de")

    assert load(settings) == 20
    assert {served.path for served in tenant.requests} == {"/ims/token/v3", "/rest/de/V1/products"}

    tenant.integration.has_ims_user = False
    found = {finding.name: finding for finding in check(settings, threading.Event())}

    assert (found["token"].status, found["API"].exit_code) == ("ok", AccessDenied.exit_code)
    assert "the Admin user that has the technical account's e-mail address" in (found["API"].fix or "")


def test_a_rotated_token_is_used_after_the_first_refusal(
    tenant: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The integration was given a new token, and its file was exchanged under a running daemon."""
    secret = tmp_path / "token"
    secret.write_text("no-longer-valid")
    environment = tenant.paas_environment()
    token = environment.pop("COMMERCE_ACCESS_TOKEN")
    settings = configure(monkeypatch, **environment, COMMERCE_ACCESS_TOKEN_FILE=str(secret))

    with opened(settings, threading.Event()) as app:
        with pytest.raises(AccessDenied):
            app.tenant.products.count("all")
        secret.write_text(token)
        assert app.tenant.products.count("all").total == 20


def test_what_the_pacer_learned_outlives_the_process(
    tenant: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configure(monkeypatch, **tenant.environment())

    with opened(settings, threading.Event()) as app:
        for status in (200, 429):
            begun = app.tenant.pacer.acquire(app.stop)
            app.tenant.pacer.release(begun, Outcome(status, 0.0, retry_after=0.5 if status == 429 else None))
        learned = app.tenant.pacer.learned
    with opened(settings, threading.Event()) as app:
        recalled = app.tenant.pacer.learned

    assert learned.rate is not None
    assert recalled.rate == pytest.approx(learned.rate)


def test_a_dry_app_leaves_no_file(tenant: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = configure(monkeypatch, **tenant.environment())

    with opened(settings, threading.Event(), dry=True) as app:
        assert backfill(app.sync("backfill")).tally.inserted == 20

    assert list(tmp_path.iterdir()) == []


def test_looking_at_a_copy_that_is_not_there_creates_nothing(
    tenant: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = configure(monkeypatch, **tenant.environment())

    with pytest.raises(DatabaseUnavailable), copy_of(settings):
        pass

    assert list(tmp_path.iterdir()) == []


def test_a_pass_leaves_nothing_behind_in_a_process_that_runs_on(
    tenant: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon's memory grew by 50 kB with each, 300 times a day for each tenant."""
    settings = configure(monkeypatch, **tenant.environment())
    engines, frozen = [], []
    for _ in range(3):
        with opened(settings, threading.Event()) as app:
            engines.append(weakref.ref(app.db))
            frozen.append(gc.get_freeze_count())
        del app
    gc.collect()

    assert frozen[-1] <= frozen[0]
    assert [engine() for engine in engines] == [None] * 3
