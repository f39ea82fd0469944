"""The sandbox lets in whom a real tenant would, and refuses the others with the same bodies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests_oauthlib import OAuth1

from sync.sandbox import Sandbox

COUNT = {"searchCriteria[pageSize]": "1", "fields": "total_count"}
UNAUTHORIZED = {
    "message": "The consumer isn't authorized to access %resources.",
    "parameters": {"resources": "Magento_Catalog::products"},
}


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(products=20, store_views=("default", "de")) as running:
        yield running


def form(sandbox: Sandbox) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_id": sandbox.credentials.client_id,
        "client_secret": sandbox.credentials.client_secret,
        "scope": "openid,AdobeID,commerce.accs",
    }


def token_of(sandbox: Sandbox) -> str:
    return str(requests.post(sandbox.token_url, data=form(sandbox), timeout=10).json()["access_token"])


def headers(sandbox: Sandbox, token: str | None = None) -> dict[str, str]:
    """What the gateway wants to see."""
    return {
        "Authorization": f"Bearer {token or token_of(sandbox)}",
        "x-api-key": sandbox.credentials.client_id,
        "x-gw-ims-org-id": sandbox.credentials.org_id,
    }


def count(sandbox: Sandbox, sent: dict[str, str]) -> requests.Response:
    return requests.get(f"{sandbox.endpoint}/V1/products", params=COUNT, headers=sent, timeout=10)


def test_ims_exchanges_the_credential_for_a_token_that_opens_the_tenant(sandbox: Sandbox) -> None:
    granted = requests.post(sandbox.token_url, data=form(sandbox), timeout=10).json()

    assert set(granted) == {"access_token", "token_type", "expires_in"}
    assert (granted["token_type"], granted["expires_in"]) == ("bearer", 86_399)
    assert count(sandbox, headers(sandbox, granted["access_token"])).json() == {"total_count": 20}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"client_id": "someone"}, "invalid_client"),
        ({"client_secret": "guess"}, "invalid_client"),
        ({"scope": "openid"}, "invalid_scope"),
    ],
)
def test_ims_names_what_is_wrong_with_a_credential(
    sandbox: Sandbox, wrong: dict[str, str], error: str
) -> None:
    answer = requests.post(sandbox.token_url, data=form(sandbox) | wrong, timeout=10)

    assert (answer.status_code, answer.json()["error"]) == (400, error)


@pytest.mark.parametrize(
    ("header", "value", "status", "error_code"),
    [
        ("Authorization", None, 401, "401013"),
        ("Authorization", "Bearer guess", 401, "401013"),
        ("x-api-key", None, 403, "403000"),
        ("x-api-key", "someone", 403, "403003"),
        ("x-gw-ims-org-id", None, 400, "400003"),
        ("x-gw-ims-org-id", "another@AdobeOrg", 403, "403025"),
    ],
)
def test_the_gateway_checks_token_client_and_organisation(
    sandbox: Sandbox, header: str, value: str | None, status: int, error_code: str
) -> None:
    sent = headers(sandbox)
    del sent[header]
    if value is not None:
        sent[header] = value

    answer = count(sandbox, sent)

    assert (answer.status_code, answer.json()["error_code"]) == (status, error_code)


def test_a_token_ends_with_its_life_or_when_it_is_revoked() -> None:
    clock = Clock()
    with Sandbox(clock=clock, token_life=60) as sandbox:
        sent = headers(sandbox)

        clock.now += 59
        assert count(sandbox, sent).status_code == 200
        clock.now += 1
        assert count(sandbox, sent).status_code == 401

        sent = headers(sandbox)
        sandbox.faults.revoke_tokens()
        assert count(sandbox, sent).status_code == 401


def test_the_store_header_chooses_the_scope_and_an_unknown_one_has_no_route(sandbox: Sandbox) -> None:
    url = f"{sandbox.endpoint}/V1/products?searchCriteria[pageSize]=1"
    names = {}
    for view in ("all", "default", "de", "nosuch"):
        answer = requests.get(url, headers=headers(sandbox) | {"Store": view}, timeout=10)
        names[view] = answer.json()["items"][0]["name"] if answer.ok else answer.json()

    assert names["all"] == names["default"] != names["de"]
    assert names["nosuch"] == {"message": "Request does not match any route."}


def test_paas_takes_the_integration_token_in_any_case_of_the_word_bearer(sandbox: Sandbox) -> None:
    url = f"{sandbox.rest_endpoint}/V1/products"
    token = sandbox.credentials.integration_token

    for word in ("Bearer", "bearer"):
        sent = {"Authorization": f"{word} {token}"}
        assert requests.get(url, params=COUNT, headers=sent, timeout=10).json() == {"total_count": 20}


@pytest.mark.parametrize("authorization", [None, "Bearer guess", "Bearer ", "Basic YTpi"])
def test_paas_answers_every_lack_of_permission_alike(sandbox: Sandbox, authorization: str | None) -> None:
    sent = {} if authorization is None else {"Authorization": authorization}

    answer = requests.get(f"{sandbox.rest_endpoint}/V1/products", params=COUNT, headers=sent, timeout=10)

    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    assert "WWW-Authenticate" not in answer.headers


def test_paas_names_the_resource_that_was_refused(sandbox: Sandbox) -> None:
    answer = requests.get(f"{sandbox.rest_endpoint}/V1/store/storeViews", timeout=10)

    assert answer.json()["parameters"] == {"resources": "Magento_Backend::store"}


def oauth(sandbox: Sandbox, **changes: str) -> OAuth1:
    known = sandbox.credentials
    keys: dict[str, Any] = {
        "client_key": known.consumer_key,
        "client_secret": known.consumer_secret,
        "resource_owner_key": known.access_token,
        "resource_owner_secret": known.access_token_secret,
    }
    return OAuth1(**{**keys, "signature_method": "HMAC-SHA256", **changes})


def signed_count(sandbox: Sandbox, auth: OAuth1) -> requests.Response:
    query = COUNT | {"searchCriteria[filter_groups][0][filters][0][field]": "name"}
    query["searchCriteria[filter_groups][0][filters][0][value]"] = "Crème & 100 % +1"
    return requests.get(f"{sandbox.rest_endpoint}/all/V1/products", params=query, auth=auth, timeout=10)


def test_paas_verifies_an_oauth_signature_over_the_whole_query(sandbox: Sandbox) -> None:
    assert signed_count(sandbox, oauth(sandbox)).json() == {"total_count": 0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_secret": "guess"},
        {"resource_owner_secret": "guess"},
        {"client_key": "someone"},
        {"signature_method": "HMAC-SHA1"},
        {"timestamp": str(int(time.time()) + 3_600)},
    ],
)
def test_paas_refuses_a_signature_that_is_not_right(sandbox: Sandbox, wrong: dict[str, str]) -> None:
    assert signed_count(sandbox, oauth(sandbox, **wrong)).status_code == 401


def test_paas_accepts_a_nonce_once(sandbox: Sandbox) -> None:
    auth = oauth(sandbox, nonce="made-up-nonce", timestamp=str(int(time.time())))

    assert [signed_count(sandbox, auth).status_code for _ in range(2)] == [200, 401]


def test_paas_does_not_process_an_unknown_store_code(sandbox: Sandbox) -> None:
    sent = {"Authorization": f"Bearer {sandbox.credentials.integration_token}", "Store": "de"}
    url = f"{sandbox.rest_endpoint}/nosuch/V1/products"

    answer = requests.get(url, params=COUNT, headers=sent, timeout=10)

    assert (answer.status_code, answer.json()) == (
        400,
        {"message": "Specified request cannot be processed."},
    )


def test_the_environments_name_every_setting_of_both_forms(sandbox: Sandbox) -> None:
    assert set(sandbox.environment()) == {
        *("API_ENDPOINT", "IMS_CLIENT_ID", "IMS_CLIENT_SECRET", "IMS_ORG_ID", "IMS_TOKEN_URL")
    }
    assert set(sandbox.paas_environment()) == {"API_ENDPOINT", "COMMERCE_ACCESS_TOKEN"}
    assert set(sandbox.paas_environment(oauth=True)) == {
        *("API_ENDPOINT", "COMMERCE_CONSUMER_KEY", "COMMERCE_CONSUMER_SECRET"),
        *("COMMERCE_ACCESS_TOKEN", "COMMERCE_ACCESS_TOKEN_SECRET"),
    }
