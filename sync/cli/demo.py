"""`product-sync demo`: a complete demonstration on one screen, with a simulated tenant in this process.

Each step is a real command with settings for the simulated tenant. The user's environment and `.env` have no
effect.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path

from sync.sandbox import Sandbox

PRODUCTS = 300
STORE_VIEWS = ("default", "de")
EDITED, DELETED = 42, 77
KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TERM", "COLUMNS", "NO_COLOR")  # what a terminal needs

Command = Callable[[Sequence[str]], int]


def play(command: Command, folder: Path | None) -> int:
    """Run the demonstration. Returns 0 if the copy is correct, else the exit code of the failed step.

    command    runs `product-sync` with these arguments
    folder     where the copy is kept; None makes a temporary folder, which is not removed
    """
    folder = folder or Path(tempfile.mkdtemp(prefix="product-sync-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    database = folder.resolve() / "demo.db"
    database.unlink(missing_ok=True)
    with Sandbox(PRODUCTS, store_views=STORE_VIEWS) as tenant:
        settings = {
            **tenant.environment(),
            "STORE_VIEWS": ",".join(STORE_VIEWS),
            "DATABASE_URL": f"sqlite:///{database}",
            "LOG_LEVEL": "WARNING",
            "LOG_FORMAT": "console",
        }
        with _surroundings(settings):
            return _play(command, tenant, database)


def _play(command: Command, tenant: Sandbox, database: Path) -> int:
    sku = str(tenant.catalogue.document(EDITED)["sku"])
    _say(
        f"A simulated tenant with {PRODUCTS} products and two store views is up; its copy goes to {database}."
    )
    code = _type(command, ["check"], ["backfill"], ["show", sku, "--store-view", STORE_VIEWS[0]])
    if code:
        return code
    _say(f"Now product {sku} is edited on the tenant, and another one is deleted.")
    tenant.catalogue.edit(EDITED, name="Edited in the demo", price=12.5)
    tenant.catalogue.delete(DELETED)
    loaded = PRODUCTS * len(STORE_VIEWS)  # one feed entry for each
    feed = ["changes", "--since", str(loaded)]
    code = _type(command, ["run"], feed, ["show", sku, "--history"], ["status"], ["verify"])
    query = "SELECT sku, name, price FROM products_current LIMIT 5"
    _say(f'The copy stays, for you to look into:\n  sqlite3 {database} "{query}"')
    return code


def _type(command: Command, *steps: Sequence[str]) -> int:
    """Print and run each command. Stops at the first failure and returns its exit code."""
    for step in steps:
        _say(f"$ product-sync {shlex.join(step)}")
        if code := command(step):
            return code
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")
    sys.stdout.flush()


@contextmanager
def _surroundings(settings: dict[str, str]) -> Iterator[None]:
    """An environment with these settings alone, in an empty folder; restored afterwards."""
    environment = dict(os.environ)
    kept = {name: environment[name] for name in KEPT if name in environment}
    os.environ.clear()
    os.environ.update(kept | settings)
    try:
        with tempfile.TemporaryDirectory() as empty, chdir(empty):
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
