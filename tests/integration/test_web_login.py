"""With STATUS_PASSWORD, nothing of the copy is shown without it, and guessing it is slow."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
import sqlalchemy as sa

from sync.settings import CopySettings
from sync.settings.parsers import Address
from sync.web.app import application
from sync.web.health import health_routes
from sync.web.login import COOKIE, FREE_GUESSES, LONGEST_PAUSE_S, MOST_CLIENTS, SESSION_S, Guesses, Sessions
from sync.web.server import serving

PASSWORD = "grün und lang"
TOKEN = "the-token"
HOSTILE = ["//evil.example", "/\\evil.example", "https://evil.example", "x", "/a\r\nX: y"]


@contextmanager
def _site(db: sa.Engine) -> Iterator[str]:
    routes = health_routes(lambda: None, list, lambda accept: (b"", "text/plain"))
    settings = CopySettings(status_password=PASSWORD, status_token=TOKEN)
    app = application(db, settings, extra_routes=routes, run_now=lambda: None)
    with serving(app, Address("127.0.0.1", 0)) as url:
        yield url.rstrip("/")


@pytest.fixture
def url(sqlite: sa.Engine) -> Iterator[str]:
    with _site(sqlite) as url:
        yield url


def login(url: str, password: str = PASSWORD, back: str = "/", **headers: str) -> requests.Response:
    fields = {"password": password, "back": back}
    return requests.post(f"{url}/login", data=fields, headers=headers, allow_redirects=False, timeout=9)


def test_nothing_is_shown_without_the_password(url: str) -> None:
    """Not a page, not its JSON, not a run's existence; the probes and the style sheet stay open."""
    for path in ("/", "/runs/1", "/products?q=x", "/nothing", "/api", "/api/overview"):
        answer = requests.get(url + path, timeout=9)
        assert answer.status_code == 401, path
        assert "Overview" not in answer.text
        assert "Set-Cookie" not in answer.headers
    assert requests.get(f"{url}/api/runs", timeout=9).json()["fix"]
    for path in ("/healthz", "/readyz", "/metrics", "/page.css"):
        assert requests.get(url + path, timeout=9).status_code == 200, path
    for method in ("HEAD", "POST", "PUT", "OPTIONS"):
        assert requests.request(method, f"{url}/api/runs", timeout=9).status_code == 401, method


def test_a_login_leads_back_and_lasts_until_logout(url: str) -> None:
    browser = requests.Session()
    asked = browser.get(f"{url}/runs?kind=stock", timeout=9)
    assert 'name="back" value="/runs?kind=stock"' in asked.text

    fields = {"password": PASSWORD, "back": "/runs?kind=stock"}
    answer = browser.post(f"{url}/login", data=fields, allow_redirects=False, timeout=9)

    cookie = answer.headers["Set-Cookie"]
    assert (answer.status_code, answer.headers["Location"]) == (303, "/runs?kind=stock")
    assert {"HttpOnly", "SameSite=strict", f"Max-Age={SESSION_S}"} <= {*cookie.split("; ")}
    assert browser.get(f"{url}/runs", timeout=9).status_code == 200
    assert browser.get(f"{url}/api/runs", timeout=9).status_code == 200
    browser.post(f"{url}/logout", timeout=9)
    assert COOKIE not in browser.cookies
    assert browser.get(f"{url}/runs", timeout=9).status_code == 401


def test_a_program_sends_the_password_with_each_request(url: str) -> None:
    def status(password: str) -> int:
        basic = b64encode(f"any:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}"}
        return requests.get(f"{url}/api/runs", headers=headers, timeout=9).status_code

    assert (status(PASSWORD), status("wrong"), status("")) == (200, 401, 401)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert requests.post(f"{url}/run-now", headers=bearer, timeout=9).status_code == 202


@pytest.mark.parametrize("back", HOSTILE)
def test_a_login_leads_nowhere_else(url: str, back: str) -> None:
    assert login(url, back=back).headers["Location"] == "/"


def test_another_site_cannot_log_somebody_in(url: str) -> None:
    answer = login(url, **{"Sec-Fetch-Site": "cross-site"})

    assert (answer.status_code, "Set-Cookie" in answer.headers) == (403, False)


def test_after_some_wrong_passwords_even_the_right_one_must_wait(url: str) -> None:
    statuses = [login(url, f"guess {number}").status_code for number in range(FREE_GUESSES)]
    refused = login(url)

    assert statuses == [401] * FREE_GUESSES
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert "wait 1 s" in refused.text


def test_each_further_guess_doubles_the_pause_and_a_right_one_ends_it() -> None:
    now = [0.0]
    guesses = Guesses(lambda: now[0])
    pauses = []
    for _ in range(FREE_GUESSES + 12):
        guesses.wrong("10.0.0.1")
        pauses.append(guesses.pause_s("10.0.0.1"))
    assert pauses[FREE_GUESSES - 2 :][:4] == [0, 1, 2, 4]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert guesses.pause_s("10.0.0.2") == 0

    guesses.right("10.0.0.1")
    assert guesses.pause_s("10.0.0.1") == 0


def test_addresses_are_forgotten_before_they_fill_the_memory() -> None:
    guesses = Guesses()
    for number in range(MOST_CLIENTS + 50):
        guesses.wrong(str(number))

    assert len(guesses._wrong) == MOST_CLIENTS


def test_a_session_ends_with_its_time_and_with_the_password_and_cannot_be_made_up() -> None:
    now = [1_000_000.0]
    cookie = Sessions(PASSWORD, lambda: now[0]).new()

    def is_valid(value: str, password: str = PASSWORD) -> bool:
        return Sessions(password, lambda: now[0]).is_valid(value)

    until, _, signature = cookie.partition(".")
    assert is_valid(cookie)
    assert not is_valid(cookie, "another")
    for other in (
        "",
        ".",
        until,
        f"{int(until) + 1}.{signature}",
        f"{until}.{'0' * 64}",
        f"{cookie}0",
        "ä.ö",
    ):
        assert not is_valid(other), other
    now[0] += SESSION_S
    assert not is_valid(cookie)
