"""The status page in a real browser: no script of a product runs, nothing leaves the host, all can use it.

Needs Chromium (`apt-get install chromium`) and Playwright. With SCREENSHOTS=folder, pictures are kept there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from sync.errors import SettingsError
from sync.monitor.freshness import FreshnessPolicy
from sync.monitor.snapshot import look, refused, tenant_status
from sync.passes.backfill import backfill
from sync.passes.prices import prices
from sync.passes.reference import reference
from sync.passes.stock import stock
from sync.sandbox import Sandbox
from sync.settings import CopySettings
from sync.settings.parsers import Address
from sync.web.app import application, application_for
from sync.web.server import serving
from tests.databases import opened
from tests.kit import Bench
from tests.tenant_directory import TenantDirectory

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no Chromium at {CHROMIUM}")

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
QUIET += ["--disable-component-update", "--disable-sync"]
HOSTILE = '<script>window.owned=1</script><img src=//evil.example/x onerror="window.owned=2">Bag'
TOKEN = "a-status-token"
PASSWORD = "a long password"
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}


class Visit:
    """A browser tab, and what it saw go wrong or go elsewhere."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.elsewhere.append(request.url)

    def open(self, path: str) -> None:
        assert self.page.goto(self.url.rstrip("/") + path).ok

    def keep(self, name: str) -> None:
        if "SCREENSHOTS" in os.environ:
            self.page.screenshot(path=f"{os.environ['SCREENSHOTS']}/{name}.png", full_page=True)

    def assert_harmless(self) -> None:
        assert self.page.evaluate("window.owned") is None
        assert self.complaints == []
        assert self.elsewhere == []

    def assert_accessible(self) -> None:
        found = axe.Axe().run(self.page).response["violations"]
        bad = [(it["id"], it["nodes"][0]["html"]) for it in found if it["impact"] in ("serious", "critical")]
        assert bad == []

    def assert_fits(self) -> None:
        """Tables scroll in their own frame; the page itself never goes sideways."""
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield started
        started.close()


class Shop:
    """A tenant with a hostile product and one that it cannot send, its copy, and the page over that."""

    def __init__(self, bench: Bench, url: str) -> None:
        self.bench, self.sandbox, self.url = bench, bench.sandbox, url
        self.hostile, self.broken, self.deleted = bench.sandbox.catalogue.ids()[4:7]


@contextmanager
def _shop(folder: Path) -> Iterator[Shop]:
    with (
        Sandbox(400, store_views=("default", "de")) as sandbox,
        opened(f"sqlite:///{folder / 'copy.db'}") as db,
    ):
        app = application(db, CopySettings(status_token=TOKEN), run_now=Event().set)
        with serving(app, Address("127.0.0.1", 0)) as url:
            yield Shop(Bench(sandbox, db, store_views=("default", "de"), page_size=40), url)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """The copy is empty."""
    with _shop(tmp_path) as shop:
        yield shop


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Everything was read; then the hostile product was edited and another one deleted."""
    with _shop(tmp_path_factory.mktemp("shop")) as shop:
        catalogue, bench = shop.sandbox.catalogue, shop.bench
        catalogue.edit(shop.hostile, name=HOSTILE)
        shop.sandbox.faults.poison(shop.broken)
        for work in (reference, backfill, prices, stock):
            work(bench.sync())
        catalogue.edit(shop.hostile, name=f"{HOSTILE} in green", price=19.5)
        catalogue.edit(catalogue.ids()[20], name="A quiet name", price=42)
        catalogue.delete(shop.deleted)
        bench.run()
        yield shop


@pytest.fixture
def visit(browser: Any, loaded: Shop) -> Iterator[Visit]:
    context = browser.new_context(viewport=DESK)
    yield Visit(context.new_page(), loaded.url)
    context.close()


def paths(tenant: Shop) -> dict[str, str]:
    return {
        "overview": "/",
        "runs": "/runs",
        "run": "/runs/2",
        "changes": "/changes?kind=update",
        "products": "/products",
        "search": "/products?q=script",
        "product": f"/products/default/{tenant.hostile}",
        "deleted": f"/products/de/{tenant.deleted}",
        "rejected": "/rejected",
    }


@pytest.mark.parametrize(("look", "size"), [("dark", DESK), ("light", PHONE)])
def test_every_page_is_harmless_accessible_and_fits(
    browser: Any, loaded: Shop, look: str, size: dict[str, int]
) -> None:
    context = browser.new_context(viewport=size, color_scheme=look)
    visit = Visit(context.new_page(), loaded.url)

    for name, path in paths(loaded).items():
        visit.open(path)
        visit.keep(f"{name}-{look}-{size['width']}")
        visit.assert_fits()
        visit.assert_accessible()
        visit.assert_harmless()
    context.close()


def test_the_hostile_name_is_read_as_text(visit: Visit, loaded: Shop) -> None:
    visit.open(f"/products/default/{loaded.hostile}")

    assert visit.page.locator("h1").inner_text().startswith("<script>window.owned=1</script>")
    assert visit.page.locator("main img, main script, main iframe").count() == 0
    visit.assert_harmless()


def test_a_load_in_progress_has_a_bar_that_moves_by_itself(browser: Any, shop: Shop) -> None:
    """Looked at from within the load: opened at its second page, loaded again by itself at its ninth."""
    context = browser.new_context(viewport=DESK)
    visit = Visit(context.new_page(), shop.url)
    shares: list[float] = []

    def look(page: int) -> None:
        if page in (2, 9):
            visit.open("/") if page == 2 else visit.page.wait_for_event("load", timeout=20_000)
            shares.append(float(visit.page.locator("progress").get_attribute("value")))
            visit.keep(f"backfill-{page}")
            visit.assert_accessible()

    shop.bench.watch.at_page = look
    shop.bench.backfill()

    assert 0 < shares[0] < shares[1] < 100
    visit.assert_harmless()
    context.close()


def test_the_keyboard_is_enough(visit: Visit, loaded: Shop) -> None:
    """Skip link first, then the pages; a search is typed and sent without a mouse."""
    visit.open("/products")
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.textContent") == "Skip to content"
    visit.page.keyboard.press("Enter")
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.id") == "q"
    visit.page.keyboard.type(loaded.sandbox.catalogue.sku(loaded.hostile))
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url("**q=*")

    assert "<script>" in visit.page.locator("tbody").inner_text()
    visit.assert_harmless()


def test_a_run_is_asked_for_by_the_button(visit: Visit) -> None:
    visit.open("/")
    visit.page.get_by_label("STATUS_TOKEN").fill(TOKEN)
    visit.page.get_by_role("button", name="Run now").click()
    visit.page.wait_for_url("**/?asked=yes")

    assert "A run was requested" in visit.page.get_by_role("status").inner_text()
    visit.assert_harmless()


def test_it_works_without_javascript(browser: Any, loaded: Shop) -> None:
    context = browser.new_context(viewport=DESK, java_script_enabled=False)
    visit = Visit(context.new_page(), loaded.url)
    visit.open("/changes")
    visit.page.get_by_label("Kind").select_option("delete")
    visit.page.get_by_role("button", name="Show").click()
    visit.page.wait_for_url("**kind=delete*")

    assert visit.page.locator(".changes .change").count() == 2
    context.close()


def test_a_login_needs_no_mouse_and_no_javascript(browser: Any, loaded: Shop) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme="dark")
    with serving(
        application(loaded.bench.db, CopySettings(status_password=PASSWORD)), Address("127.0.0.1", 0)
    ) as url:
        visit = Visit(context.new_page(), url)
        visit.page.goto(f"{url}changes?kind=delete")
        visit.keep("login")
        visit.assert_accessible()
        visit.assert_fits()
        visit.page.keyboard.type(PASSWORD)
        visit.page.keyboard.press("Enter")
        visit.page.get_by_role("button", name="Log out").wait_for()
        visit.keep("login-done")
        assert visit.page.url.endswith("/changes?kind=delete")
        visit.assert_accessible()
        visit.page.get_by_role("button", name="Log out").click()
        visit.page.get_by_label("Password").wait_for()

        assert visit.elsewhere == []
    context.close()


# --- many tenants ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(loaded: Shop) -> Iterator[str]:
    """A tenant that is well among fifty, some of them wrong in words that are hostile."""
    promise = FreshnessPolicy(("default", "de"), timedelta(hours=1))
    well = tenant_status("well", look(loaded.bench.db), promise, timedelta())
    wrong = SettingsError(f"STORE_VIEWS: {HOSTILE} {'long' * 60}")
    told = [well, *(refused(f"tenant-with-a-long-name-{n}", wrong) for n in range(3))]
    told += [well._replace(name=f"shop-{n}") for n in range(46)]
    app = application_for(TenantDirectory(told, {"well": loaded.bench.db}), CopySettings())
    with serving(app, Address("127.0.0.1", 0)) as url:
        yield url


@pytest.mark.parametrize(("look", "size"), [("light", DESK), ("dark", PHONE)])
def test_the_list_of_tenants_and_the_pages_below_it_are_harmless_accessible_and_fit(
    browser: Any, loaded: Shop, many: str, look: str, size: dict[str, int]
) -> None:
    context = browser.new_context(viewport=size, color_scheme=look)
    visit = Visit(context.new_page(), many)

    for name, path in {"tenants": "/", **paths(loaded)}.items():
        visit.open(path if name == "tenants" else f"/tenants/well{path}")
        visit.keep(f"many-{name}-{look}-{size['width']}")
        visit.assert_fits()
        visit.assert_accessible()
        visit.assert_harmless()
    context.close()


def test_a_tenant_is_reached_from_the_list_and_left_for_it(browser: Any, many: str) -> None:
    context = browser.new_context(viewport=DESK)
    visit = Visit(context.new_page(), many)
    visit.open("/")
    visit.page.get_by_role("link", name="well", exact=True).click()
    visit.page.get_by_role("link", name="Changes", exact=True).click()
    visit.page.wait_for_url("**/tenants/well/changes")
    visit.page.get_by_role("link", name="Tenants", exact=True).click()

    assert "47 of 50 are fresh." in visit.page.locator("main").inner_text()
    visit.assert_harmless()
    context.close()
