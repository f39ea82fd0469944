"""The page over many tenants: a list, and below it for each the pages that one has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser

import pytest
import requests
import sqlalchemy as sa

from sync.db.engine import connect
from sync.errors import SettingsError
from sync.monitor.freshness import FreshnessPolicy
from sync.monitor.snapshot import look, refused, tenant_status
from sync.sandbox import Sandbox
from sync.settings import CopySettings
from sync.settings.parsers import Address
from sync.web.app import PAGES, application_for
from sync.web.server import serving
from tests.kit import Bench
from tests.tenant_directory import TenantDirectory

TOKEN = "the-status-token"
WRONG = SettingsError("SYNC_PAGE_SIZE: <b>should</b> be a number", "correct [wrong].")
PROMISE = FreshnessPolicy(("all",), timedelta(hours=1))


class Links(HTMLParser):
    """Where a page leads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attributes if name in ("href", "action") and value}


@pytest.fixture
def company(db: sa.Engine) -> Iterator[TenantDirectory]:
    """60 products in the one that is well, wrong settings, and a database that is away; on each server."""
    copies = {"well": db, "away": connect("postgresql+psycopg://127.0.0.1:9/x")}
    with Sandbox(60) as sandbox:
        Bench(sandbox, db, page_size=20).backfill()
        told = [tenant_status(name, look(copy), PROMISE, timedelta()) for name, copy in copies.items()]
        yield TenantDirectory([*told, refused("wrong", WRONG)], {**copies, "wrong": WRONG})


@pytest.fixture
def asked_to_run() -> list[str]:
    return []


@pytest.fixture
def address(company: TenantDirectory, asked_to_run: list[str]) -> Iterator[str]:
    app = application_for(company, CopySettings(status_token=TOKEN), run_now=asked_to_run.append)
    with serving(app, Address("127.0.0.1", 0)) as url:
        yield url.rstrip("/")


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=10, allow_redirects=False)


def test_the_list_has_every_tenant_those_that_need_somebody_first(address: str) -> None:
    facts = get(f"{address}/api/tenants").json()
    page = get(f"{address}/")

    assert (facts["fresh"], [it["name"] for it in facts["tenants"]]) == (1, ["away", "wrong", "well"])
    assert [it["state"] for it in facts["tenants"]] == ["unreachable", "refused", "fresh"]
    assert facts["tenants"][2]["lag"] < 600
    assert "1 of 3 are fresh." in page.text
    assert "&lt;b&gt;should&lt;/b&gt;" in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_every_page_of_a_tenant_leads_to_its_own_pages_only(address: str) -> None:
    given = {"{run_id:int}": "1", "{store_view}": "all", "{product_id:int}": "1"}
    for path in PAGES:
        for name, value in given.items():
            path = path.replace(name, value)
        page = get(f"{address}/tenants/well{path}")
        assert page.status_code == 200, path
        elsewhere = {link for link in Links(page.text).found if not link.startswith("/tenants/well/")}
        assert {link.partition("?")[0] for link in elsewhere} == {"/", "/page.css", "#main", "data:,"}, path
        facts = get(f"{address}/tenants/well/api{path if path != '/' else '/overview'}")
        assert facts.status_code == 200, path


def test_the_address_without_its_last_slash_leads_there_too(address: str) -> None:
    assert requests.get(f"{address}/tenants/well", timeout=10).url == f"{address}/tenants/well/"


def test_programs_find_their_way_from_the_top(address: str) -> None:
    assert get(f"{address}/api").json()["paths"] == ["/api/tenants", "/tenants/{tenant}/api"]
    assert "/api/overview" in get(f"{address}/tenants/well/api").json()["paths"]


def test_a_tenant_that_cannot_be_shown_says_why_on_its_page_and_to_programs(address: str) -> None:
    for tenant, status, says in (
        ("wrong", 503, "correct [wrong]."),
        ("away", 503, "Connection refused"),
        ("nobody", 404, "no tenant nobody"),
    ):
        page, facts = get(f"{address}/tenants/{tenant}/"), get(f"{address}/tenants/{tenant}/api/overview")

        assert (page.status_code, facts.status_code) == (status, status)
        assert says in page.text
        assert says in f"{facts.json()}"
        assert 'href="/"' in page.text


def test_a_run_is_asked_of_the_tenant_whose_page_it_is(asked_to_run: list[str], address: str) -> None:
    def ask(token: str) -> requests.Response:
        url = f"{address}/tenants/well/run-now"
        return requests.post(url, data={"token": token}, timeout=10, allow_redirects=False)

    assert ask("another").status_code == 403
    answer = ask(TOKEN)

    assert (answer.status_code, answer.headers["Location"]) == (303, "/tenants/well/?asked=yes")
    assert asked_to_run == ["well"]
    assert requests.post(f"{address}/run-now", data={"token": TOKEN}, timeout=10).status_code == 404
