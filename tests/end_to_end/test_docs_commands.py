"""Every `product-sync …` line and SQL block of the pages in docs/ runs as written, in the page's order.

Each page begins with a copy of 300 products in two store views, of which one has left STORE_VIEWS since. The
README's commands are in test_readme.py, the queries of docs/sql-recipes.md in test_docs_recipes.py.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync.sandbox import Sandbox
from tests.command import PRODUCT_SYNC, Running, Shell
from tests.databases import NewDatabase, connected
from tests.receiver import SECRET, Receiver

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^ *```(sh|sql)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

NOT_RUN_HERE = {
    "product-sync init": "asks questions; test_init.py answers them",
    "product-sync worker": "needs a broker; in test_workers.py",
    "--executor celery": "needs a broker; in test_workers.py",
    "--webhook -": "reads its URL from standard input; in test_changes.py",
    "-- postgresql": "in a test of its own below",
}
UNTIL_STOPPED = {  # with the exit code then
    "product-sync daemon": 0,
    "product-sync serve": 0,
    "product-sync sandbox --products": 0,
    "product-sync changes --follow": 130,
    "product-sync events  ": 130,
}
TENANTS = """
[defaults]
IMS_CLIENT_SECRET = { env = "IMS_CLIENT_SECRET" }
[eu]
DATABASE_URL = "sqlite:///products.db"
[us]
DATABASE_URL = "sqlite:///us.db"
"""


def steps(page: Path) -> list[str]:
    """The commands and the blocks of SQL of a page."""
    found = []
    for kind, block in BLOCK.findall(page.read_text()):
        lines = [block] if kind == "sql" else [line.strip() for line in block.splitlines()]
        found += [it for it in lines if kind == "sql" or it.startswith("product-sync ")]
    return [it for it in found if not any(words in it for words in NOT_RUN_HERE)]


PAGES = [it for it in sorted(DOCS.rglob("*.md")) if it.name != "sql-recipes.md" and steps(it)]


@pytest.fixture(scope="module")
def first_copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with Sandbox(300, store_views=("default", "de")) as tenant:
        shell = Shell(tenant, tmp_path_factory.mktemp("copy"))
        for command in ("backfill", "reference", "prices", "stock"):
            ended = shell.run(command, STORE_VIEWS="all,de")
            assert ended.code == 0, ended.err
        yield shell


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_works_as_written(page: Path, first_copy: Shell, tmp_path: Path) -> None:
    shutil.copyfile(first_copy.folder / "products.db", tmp_path / "products.db")
    (tmp_path / "tenants.toml").write_text(TENANTS)
    (tmp_path / "new-url.txt").write_text("sqlite:///new.db\n")
    settings = {
        "STATUS_BIND": f"127.0.0.1:{free_port()}",
        "WEBHOOK_SECRET": SECRET,
        "EVENTS_JOURNAL_URL": first_copy.tenant.journal_url,
    }
    shell = Shell(first_copy.tenant, tmp_path, settings)

    with Receiver() as receiver:
        here = {
            "https://search.example/products": receiver.url,
            "/var/lib/node_exporter/": f"{tmp_path}/",
            "products 2000 --port 8099": "products 2000 --port 0",
            "8099": shell.tenant.host_url.rpartition(":")[2],
            "--since 5000": "--since 20",
        }
        for step in map(partial(replaced, here), steps(page)):
            ended, said = outcome(step, shell, receiver)
            assert ended == 0, f"{step}\n{said}"


def replaced(meant: dict[str, str], step: str) -> str:
    for shown, here in meant.items():
        step = step.replace(shown, here)
    return step


def outcome(step: str, shell: Shell, receiver: Receiver) -> tuple[int, str]:
    """The exit code of a step, and what it printed."""
    if not step.startswith("product-sync "):
        with closing(sqlite3.connect(shell.folder / "products.db")) as copy:
            copy.executescript(step)
        return 0, ""
    words = shlex.split(step, comments=True)[1:]
    if "<" in words:
        return redirected(words, shell)
    code = [code for start, code in UNTIL_STOPPED.items() if step.startswith(start)]
    if code:
        with shell.start(*words) as running:
            wait_until_it_works(words, running, receiver)
            return running.end() - code[0], ""
    with shell.start("daemon") if words[0] == "health" else nullcontext() as daemon:
        if daemon is not None:
            daemon.wait_for("run.finished")
        ended = shell.run(*words)
    return ended.code, ended.out + ended.err


def redirected(words: list[str], shell: Shell) -> tuple[int, str]:
    """The same with a file as standard input."""
    with (shell.folder / words[-1]).open() as file:
        ended = subprocess.run(
            [*PRODUCT_SYNC, *words[: words.index("<")]],
            env=shell.environment({}),
            cwd=shell.folder,
            stdin=file,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    return ended.returncode, ended.stderr


def wait_until_it_works(words: list[str], running: Running, receiver: Receiver) -> None:
    if words[0] == "daemon":
        running.wait_for("run.finished")
    elif words[0] == "serve":
        running.wait_for_words("the status page is at")
    elif words[0] == "events":
        running.wait_for_words("Following the journal")
    elif "--webhook" in words:
        receiver.wait_for(1)
    else:
        assert running.process.stdout is not None
        assert running.process.stdout.readline()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_the_rights_of_a_reader_are_as_written(new_database: NewDatabase) -> None:
    page = (DOCS / "operating.md").read_text()
    (block,) = re.findall(r"-- postgresql: a reader\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    with connected(new_database("postgresql", tables=True)) as db, db.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE product_sync")
        connection.exec_driver_sql(block)
        connection.exec_driver_sql("SET ROLE reader")

        assert connection.scalar(sa.text("SELECT count(*) FROM products_current")) == 0
        connection.rollback()
