"""The status page shows what is in the copy, on each database, and takes nothing from strangers."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
import requests
import sqlalchemy as sa

from sync.db import web_queries
from sync.db.engine import in_transaction
from sync.db.schema import product_changes, products
from sync.db.tenant import remember
from sync.errors import AccessDenied, SettingsError
from sync.model import Page
from sync.sandbox import Sandbox
from sync.settings import CopySettings
from sync.settings.parsers import Address
from sync.web.app import application
from sync.web.server import serving
from tests.kit import Bench, Stopped, stop_at

ANYWHERE = Address("127.0.0.1", 0)
HOSTILE = '<script>window.owned=1</script><img src="//evil.example/x">'
TOKEN = "the-status-token"


class Site:
    """The page over a bench's copy, asked by real HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked_to_run = 0

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url.rstrip("/") + path, timeout=10, **options)

    def facts(self, path: str) -> dict[str, Any]:
        answer = self.get(f"/api{path}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def counted(self) -> dict[str, Any]:
        """The overview, once the products are counted: an answer waits for that, but not for long."""
        return next(facts for _ in range(100) if (facts := self.facts("/overview"))["counted_at"])

    def post(self, **options: Any) -> requests.Response:
        return requests.post(f"{self.url}run-now", timeout=10, allow_redirects=False, **options)

    def ask_to_run(self) -> None:
        self.asked_to_run += 1


@pytest.fixture
def copy(tenant: Sandbox, db: sa.Engine) -> Bench:
    """60 products in two store views, on each server in turn."""
    return Bench(tenant, db, store_views=("default", "de"), page_size=20)


@pytest.fixture
def site(copy: Bench) -> Iterator[Site]:
    with _site_over(copy.db) as site:
        yield site


@contextmanager
def _site_over(db: sa.Engine, **settings: Any) -> Iterator[Site]:
    site = Site("")
    app = application(db, CopySettings(**settings), run_now=site.ask_to_run)
    with serving(app, ANYWHERE) as url:
        site.url = url
        yield site


# --- what is shown ---------------------------------------------------------------------------


def test_every_page_and_its_json_answers_over_an_empty_copy(site: Site) -> None:
    for path in (
        "/",
        "/runs",
        "/changes",
        "/products",
        "/rejected",
        "/products?q=x",
        "/products?q=x&by=name",
    ):
        assert site.get(path).status_code == 200, path
        assert site.get(f"/api{path}" if path != "/" else "/api/overview").status_code == 200, path


def test_a_loaded_copy_is_fresh_and_counted_by_store_view(copy: Bench, site: Site) -> None:
    copy.backfill()
    copy.sandbox.catalogue.delete(copy.sandbox.catalogue.ids()[0])
    copy.run()

    facts = site.counted()

    counts = {
        view["store_view"]: (view["live"], view["deleted"], view["state"]) for view in facts["store_views"]
    }
    assert counts == {"default": (59, 1, "fresh"), "de": (59, 1, "fresh")}
    assert [run["kind"] for run in facts["runs"]] == ["incremental", "backfill"]
    assert (facts["running"], facts["open_rejections"]) == (None, 0)
    assert "59" in site.get("/").text


def test_failed_runs_are_the_first_thing_said_and_no_card_says_that_their_kind_succeeded(
    copy: Bench, site: Site
) -> None:
    """Since when, why and what to do; also of a kind that never succeeded."""
    copy.backfill()
    copy.run()
    for _ in range(4):
        copy.sandbox.faults.deny(403, kind="count", times=2)
        with pytest.raises(AccessDenied):
            copy.run()
    copy.sandbox.faults.deny(403, times=9)
    with pytest.raises(AccessDenied):
        copy.reconcile()
    copy.sandbox.faults.clear()

    facts, page = site.counted(), site.get("/").text

    streaks = {it["kind"]: it for it in facts["failing"]}
    first = next(run for run in facts["runs"][::-1] if run["status"] == "failed")
    assert {kind: it["runs"] for kind, it in streaks.items()} == {"incremental": 4, "reconcile": 1}
    assert streaks["incremental"]["since"] == first["finished_at"]
    assert "answered 403" in streaks["incremental"]["reason"]
    assert "To do" not in streaks["incremental"]["reason"]
    assert {it["kind"]: it["state"] for it in facts["feeds"]} == {
        "incremental": "failing",
        "reconcile": "failing",
        "backfill": "succeeded",
    }
    assert page.index("The last 4 incremental runs failed") < page.index("No run in progress")
    assert f"<strong>To do:</strong> {streaks['incremental']['fix']}" in page


def test_the_page_says_whose_copy_it_is_and_where_without_user_and_password(copy: Bench) -> None:
    copy.backfill()
    in_transaction(copy.db, lambda tx: remember(tx, "shop.example/rest", None))

    with _site_over(copy.db) as site:
        facts, page = site.counted(), site.get("/").text

    url, place = copy.db.url, facts["database"]["place"]
    assert (
        facts["database"]["kind"]
        == {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MariaDB"}[copy.db.dialect.name]
    )
    assert str(url.database) in place
    assert "@" not in place
    assert 50_000 < facts["database"]["size"] < 50_000_000
    assert "<h1>shop.example/rest" in page
    assert place in page


def test_a_run_in_progress_tells_how_far_it_is_and_the_page_loads_itself_again(
    copy: Bench, site: Site
) -> None:
    seen: list[tuple[dict[str, Any], str | None]] = []

    def look(page: int) -> None:
        if page == 3:
            seen.append((site.facts("/overview")["running"], site.get("/").headers.get("Refresh")))

    copy.watch.at_page = look
    copy.backfill()

    ((running, refresh),) = seen
    read = sum(len(item.products) for item in copy.watch.pages[:3] if isinstance(item, Page))
    assert (running["expected"], running["fetched"], running["share"]) == (120, read, read / 120)
    assert refresh == "5"
    assert "Refresh" not in site.get("/").headers


def test_a_continued_load_expects_what_the_one_before_left(copy: Bench, site: Site) -> None:
    copy.watch.at_page = stop_at(page=2)
    with pytest.raises(Stopped):
        copy.backfill()
    copy.watch.at_page = None

    copy.backfill()

    newest, former = site.facts("/runs")["runs"]
    assert (former["expected"], newest["fetched"]) == (120, 120 - former["fetched"])
    assert newest["expected"] == newest["fetched"]


def test_the_feed_is_filtered_by_kind_product_store_view_and_time(copy: Bench, site: Site) -> None:
    copy.backfill()
    edited, deleted = copy.sandbox.catalogue.ids()[:2]
    copy.sandbox.catalogue.edit(edited, name="A new name")
    copy.sandbox.catalogue.delete(deleted)
    copy.run()
    sku = copy.sandbox.catalogue.sku(edited)

    def kinds(query: str) -> list[tuple[str, int]]:
        return [(it["kind"], it["product_id"]) for it in site.facts(f"/changes?{query}")["changes"]]

    assert kinds("kind=update") == [("update", edited)] * 2
    assert kinds("kind=delete&store_view=de") == [("delete", deleted)]
    assert kinds(f"product={quote(sku)}&store_view=de") == [("update", edited), ("insert", edited)]
    assert kinds(f"product={deleted}&store_view=de") == [("delete", deleted), ("insert", deleted)]
    assert kinds("since=2999-01-01") == []
    assert len(kinds("since=1h&kind=insert")) == web_queries.PAGE


def test_the_changes_of_a_run_of_a_day_and_of_a_product_are_a_table_with_names(
    copy: Bench, site: Site
) -> None:
    """Days are ranges of the feed: found by halving it, so an old day costs what today does."""
    copy.backfill()
    edited = copy.sandbox.catalogue.ids()[0]
    copy.sandbox.catalogue.edit(edited, name="A new name", price=77)
    copy.run()
    with copy.db.begin() as tx:
        a_day = timedelta(days=1)
        rows = tx.execute(sa.select(product_changes.c.change_id, product_changes.c.changed_at)).all()
        for row in rows[:40]:
            old = product_changes.update().where(product_changes.c.change_id == row.change_id)
            tx.execute(old.values(changed_at=row.changed_at - a_day))
    today = rows[0].changed_at.date()

    def found(query: str) -> list[dict[str, Any]]:
        changes: list[dict[str, Any]] = []
        asked = f"/changes?{query}"
        while True:
            facts = site.facts(asked)
            changes += facts["changes"]
            if facts["next"] is None:
                return changes
            asked = f"/changes?{query}&before={facts['next']}"

    assert [(it["kind"], it["name"]) for it in found("run=2")] == [("update", "A new name")] * 2
    assert len(found(f"day={today - a_day}")) == 40
    assert len(found(f"day={today}")) == 82
    assert len(found(f"day={today}&run=1")) == 80
    assert found(f"day={today + a_day}") == found("day=0001-01-01") == []
    page = site.get("/changes").text
    assert page.index(f">{today}</a></th>") < page.index(">A new name</a>")
    assert "<del>" in page
    assert 'href="/changes?run=2&amp;kind=update">2</a>' in site.get("/runs").text
    assert site.get("/changes?run=99").status_code == 404
    assert site.get("/changes?day=tomorrow").status_code == 400


def test_pages_by_key_show_every_row_once(copy: Bench, site: Site) -> None:
    copy.backfill()
    for path in ("/changes", "/products?store_view=de", "/products?q=a&by=name&store_view=de"):
        _assert_every_row_is_shown_once(site, path)


def _assert_every_row_is_shown_once(site: Site, path: str) -> None:
    key, cursor = ("change_id", "before") if "changes" in path else ("product_id", "after")
    rows, asked, turned = [], path, 0

    while True:
        facts = site.facts(asked)
        rows += [row[key] for row in facts["changes" if "changes" in path else "products"]]
        if facts["next"] is None:
            break
        asked, turned = f"{path}{'&' if '?' in path else '?'}{cursor}={facts['next']}", turned + 1

    assert turned >= 1
    assert rows == sorted(set(rows), reverse=key == "change_id")
    assert len(rows) == {"/changes": 120}.get(path, len(rows))


def test_a_stretch_of_the_feed_without_a_match_says_where_to_look_further(
    copy: Bench, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_queries, "CHANGES_LOOKED_THROUGH", 50)
    copy.backfill()
    found, asked = [], "/changes?store_view=default&kind=insert"

    while True:
        facts = site.facts(asked)
        found += facts["changes"]
        if facts["next"] is None:
            break
        asked = f"/changes?store_view=default&kind=insert&before={facts['next']}"

    assert len(found) == 60


def test_products_are_found_by_sku_name_and_id(copy: Bench, site: Site) -> None:
    number = copy.sandbox.catalogue.ids()[7]
    copy.sandbox.catalogue.edit(number, name="Überwurf 100% Wolle", sku="XY-Mixed 7")
    copy.backfill()

    def found(query: str) -> set[int]:
        return {it["product_id"] for it in site.facts(f"/products?{query}")["products"]}

    assert found("q=XY-Mi&by=sku") == {number}
    assert found("q=xy-mixed 7&by=sku") == set()
    for part in ("xy-mi", "mixed 7", "wolle", "über wolle", "WOLLE xy-", "0%25 w", str(number)):
        assert number in found(f"q={part}&store_view=de"), part
    copy.sandbox.catalogue.edit(number, store_view="de", name="Zeltplane")
    copy.run()
    assert found("q=über") == found("q=zeltp") == {number}
    assert found("q=wolle tarp") == found("q=0%25_W") == found("q=wolle&store_view=none") == set()
    assert found("q=mixed 7") == {number}
    page = site.get("/products?q=mixed 7").text
    assert "Part of a name or SKU, or an id" in page
    assert "Überwurf 100% Wolle" in page
    assert found("q=ÜBERWURF&by=name&store_view=default") == {number}
    assert found("q=100%25 w&by=name") == {number}
    assert found("q=0%25_W&by=name") == set()
    assert found(f"q={number}&by=id") == {number}


def test_a_sku_is_found_by_its_beginning_in_capitals_and_in_small_letters(copy: Bench, site: Site) -> None:
    first, second = copy.sandbox.catalogue.ids()[:2]
    copy.sandbox.catalogue.edit(first, sku="QQ-1")
    copy.sandbox.catalogue.edit(second, sku="qq-2")
    copy.backfill()

    found = site.facts("/products?q=qq&store_view=de")["products"]

    assert [it["sku"] for it in found] == ["QQ-1", "qq-2"]


def test_a_long_text_is_cut_by_the_database_and_the_page_says_how_to_read_it(copy: Bench, site: Site) -> None:
    number = copy.sandbox.catalogue.ids()[3]
    copy.sandbox.catalogue.edit(number, name="Short")
    copy.backfill()
    text: Any = {"custom_attributes": [{"attribute_code": "description", "value": "é" * 150_000}]}
    copy.sandbox.catalogue.edit(number, **text)
    copy.run()

    changed = site.facts("/changes?kind=update&store_view=de")["changes"][0]
    facts, page = site.facts(f"/products/de/{number}"), site.get(f"/products/de/{number}").text
    (value,) = (it for it in facts["attributes"] if it["attribute_code"] == "description")

    assert (changed["fields"], len(changed["fields_beginning"])) == (None, 500)
    assert changed["fields_length"] > 150_000
    assert f"product-sync changes --since {changed['change_id'] - 1} --limit 1" in page
    assert facts["product"]["document"] is None
    assert facts["product"]["document_length"] > 150_000
    assert len(value["value"]) <= 100_000
    assert value["value_length"] >= 150_000
    assert "product-sync show --json" in page


def test_a_products_page_has_its_fields_labels_and_history_and_says_when_it_is_gone(
    copy: Bench, site: Site
) -> None:
    copy.backfill()
    number = copy.sandbox.catalogue.ids()[3]
    copy.sandbox.catalogue.edit(number, name="First & last")
    copy.run()
    copy.sandbox.catalogue.delete(number)
    copy.run()

    facts, page = site.facts(f"/products/de/{number}"), site.get(f"/products/de/{number}").text

    assert [it["kind"] for it in facts["history"]] == ["delete", "update", "insert"]
    assert facts["history"][1]["fields"]["name"]["new"] == "First & last"
    assert facts["product"]["document"]["name"] == "First & last"
    assert "<ins>First &amp; last</ins>" in page
    assert "Deleted on the tenant" in page


def test_rejected_items_are_shown_with_their_reason_until_they_are_resolved(copy: Bench, site: Site) -> None:
    number = copy.sandbox.catalogue.ids()[5]
    copy.sandbox.faults.poison(number)
    copy.backfill()
    (item, _) = site.facts("/rejected")["items"]
    copy.sandbox.faults.cure(number)
    copy.run()

    assert (item["product_id"], item["kind"], "payload" in item) == (number, "unreadable", False)
    assert "500" in item["reason"]
    assert site.facts("/rejected")["items"] == []
    assert len(site.facts("/rejected?resolved=yes")["items"]) == 2


def test_altered_products_are_counted_apart_from_rejected_ones(copy: Bench, site: Site) -> None:
    ids = copy.sandbox.catalogue.ids()
    copy.sandbox.catalogue.edit(ids[5], created_at="0000-00-00 00:00:00")
    copy.sandbox.faults.poison(ids[6])
    copy.backfill()

    facts = site.counted()

    assert (facts["open_rejections"], facts["altered"]) == (2, 2)
    (run,) = facts["runs"]
    assert (run["rejected"], run["altered"]) == (2, 2)
    assert {it["kind"] for it in site.facts("/rejected")["items"]} == {"unreadable", "altered"}
    assert {it["product_id"] for it in site.facts("/rejected?kind=altered")["items"]} == {ids[5]}
    assert 'href="/rejected?kind=altered">Altered</a>' in site.get("/").text
    assert "<dt>altered</dt><dd>2</dd>" in site.get(f"/runs/{run['run_id']}").text


# --- hostile texts and strangers -------------------------------------------------------------


def test_texts_of_products_are_escaped_wherever_they_are_shown(copy: Bench, site: Site) -> None:
    number = copy.sandbox.catalogue.ids()[0]
    copy.sandbox.catalogue.edit(number, name=HOSTILE, sku='"><b>x')
    copy.backfill()
    copy.sandbox.catalogue.edit(number, name=HOSTILE + "2\x1b[31m")
    copy.run()
    paths = [
        f"/products/de/{number}",
        "/products",
        "/products?q=script&by=name",
        "/changes",
        "/products?q=%22%3E",
    ]
    paths += ["/products?q=%3Cscript%3E", "/changes?product=%3Cscript%3E", "/changes?since=%3Cscript%3E"]

    for path in paths:
        text = site.get(path).text
        assert "<script" not in text, path
        assert "<b>x" not in text, path
        assert "<img" not in text, path
        assert "\x1b" not in text, path
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text), path
    assert "application/json" in site.get("/api/products").headers["Content-Type"]


def test_every_answer_forbids_scripts_frames_and_sniffing(site: Site) -> None:
    for path in ("/", "/nothing", "/page.css", "/api/overview", "/changes?since=nonsense", "/run-now"):
        headers = site.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "script-src" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8321", 200),
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("[::1]:8321", 200),
        ("10.1.2.3", 200),
        ("page.example", 200),
        ("evil.example", 421),
        ("evil.example:8321", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_only_our_own_host_names_are_answered(sqlite: sa.Engine, host: str, status: int) -> None:
    """A stranger's name that points here is how another site would read this one."""
    with _site_over(sqlite, status_hosts="page.example") as site:
        assert site.get("/", headers={"Host": host}).status_code == status


NONSENSE = [
    ("/runs?before=x", 400),
    ("/runs?kind=nonsense", 400),
    ("/runs?before=99999999999999999999999999", 200),
    ("/runs/99999999999999999999", 404),
    ("/changes?product=%00", 200),
    ("/products?q=%00%ED%A0%80", 200),
    ("/products?q=" + 3000 * "a", 200),
    ("/products/none/1", 404),
    ("/products/a%2Fb/1", 404),
    ("/nothing", 404),
    ("/api/nothing", 404),
]


def test_a_query_that_makes_no_sense_is_told_in_words(site: Site) -> None:
    for query, status in NONSENSE:
        answer = site.get(query)

        assert answer.status_code == status, query[:99]
        assert "Traceback" not in answer.text, query[:99]


def test_a_database_out_of_reach_is_an_answer_with_a_remedy(sqlite: sa.Engine) -> None:
    with _site_over(sqlite) as site:
        with sqlite.begin() as connection:
            connection.exec_driver_sql("DROP TABLE sync_runs")

        page, facts = site.get("/"), site.get("/api/runs")

    assert (page.status_code, facts.status_code) == (503, 503)
    assert "DATABASE_URL" in page.text
    assert "DATABASE_URL" in facts.json()["fix"]


# --- run now ---------------------------------------------------------------------------------


def test_without_a_token_nobody_can_ask_for_a_run(sqlite: sa.Engine) -> None:
    with _site_over(sqlite) as site:
        assert site.post(data={"token": ""}).status_code == 404
        assert "Run now" not in site.get("/").text
        assert site.asked_to_run == 0


def test_a_run_is_asked_for_with_the_token_in_the_form_or_as_bearer(sqlite: sa.Engine) -> None:
    with _site_over(sqlite, status_token=TOKEN) as site:
        assert "Run now" in site.get("/").text
        assert site.post(data={"token": TOKEN}).status_code == 303
        assert site.post(headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 202
        assert site.asked_to_run == 2
        assert TOKEN not in site.get("/").text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"data": {"token": "wrong"}},
        {"data": {"token": "ä"}},
        {"data": {"token": TOKEN + " "}},
        {"data": "token=" + 9000 * "x"},
        {"headers": {"Authorization": "Bearer "}},
        {"headers": {"Authorization": f"Basic {TOKEN}"}},
        {"data": {"token": TOKEN}, "headers": {"Origin": "https://evil.example"}},
        {"data": {"token": TOKEN}, "headers": {"Origin": "null"}},
        {"data": {"token": TOKEN}, "headers": {"Sec-Fetch-Site": "cross-site"}},
        {"data": {"token": TOKEN}, "headers": {"Sec-Fetch-Site": "same-site"}},
    ],
)
def test_nobody_else_can_ask(sqlite: sa.Engine, options: dict[str, Any]) -> None:
    with _site_over(sqlite, status_token=TOKEN) as site:
        assert site.post(**options).status_code == 403
        assert site.get("/run-now").status_code == 405
        assert site.asked_to_run == 0


# --- the server ------------------------------------------------------------------------------


def test_an_address_that_is_taken_is_told_with_a_remedy(sqlite: sa.Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])

        with (
            pytest.raises(SettingsError, match="cannot listen") as refused,
            serving(application(sqlite, CopySettings()), address),
        ):
            pass

    assert "STATUS_BIND" in refused.value.fix


def test_the_address_is_free_again_when_the_page_is_closed(sqlite: sa.Engine) -> None:
    app = application(sqlite, CopySettings())
    with serving(app, ANYWHERE) as url:
        address = Address("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))
        kept = requests.Session()
        assert kept.get(url, timeout=5).status_code == 200

    with serving(app, address) as url:
        assert requests.get(url, timeout=5).status_code == 200


# --- how it asks -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/products?store_view=de&after=5",
        "/products?q=A",
        "/products?q=9&by=id",
        "/changes",
        "/changes?product=9",
        "/changes?day=2999-01-01",
        "/changes?run=1",
    ],
)
def test_no_page_reads_a_table_from_end_to_end(bench: Bench, path: str) -> None:
    """SQLite says so: a SCAN without an index, or a sort of what was found, would grow with the copy."""
    bench.backfill()
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        asked.append((statement, parameters))

    with _site_over(bench.db) as site:
        sa.event.listen(bench.db, "before_cursor_execute", note)
        site.facts(path)
        sa.event.remove(bench.db, "before_cursor_execute", note)

    big = (products.name, "product_changes", "product_attributes")
    with bench.db.connect() as connection:
        for statement, parameters in asked:
            if statement.startswith("SELECT") and "FROM" in statement and "count(" not in statement:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                steps = [row[3] for row in plan]
                assert not [it for it in steps for name in big if it == f"SCAN {name}"], (statement, steps)
                assert "USE TEMP B-TREE FOR ORDER BY" not in steps or "product_id = " in statement, statement


def test_json_is_json_for_every_path_it_names(copy: Bench, site: Site) -> None:
    copy.backfill()

    for path in site.facts("")["paths"]:
        address = path.replace("{run_id:int}", "1").replace("{store_view}", "de")
        number = str(copy.sandbox.catalogue.ids()[0])
        assert json.loads(site.get(address.replace("{product_id:int}", number)).text)
