"""What the README shows is what the program prints and takes."""

from __future__ import annotations

import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

from sync.cli import app
from sync.settings import Settings
from tests.command import Shell

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def masked(text: str) -> list[str]:
    """The lines, with what differs from run to run blanked: times, counts of requests, folders."""
    return [re.sub(r"\d+", "#", line.split(" …")[0]).strip() for line in text.splitlines()]


def test_the_first_screen_is_what_the_demo_prints(shell: Shell) -> None:
    shown = README.split("```console\n")[1].split("```")[0].removeprefix("$ make demo\n")

    demo = shell.run("demo")

    told = "\n".join(masked(demo.out + demo.err))
    for line in masked(shown):
        if line not in ("", "…"):
            assert line in told


def test_a_tenants_first_hour_is_as_shown(shell: Shell) -> None:
    """The sandbox stands in for the tenant, as the README says; then the SQL that is shown."""
    session = README.split("```console\n")[2].split("```")[0]
    for step in session.split("$ product-sync ")[1:]:
        command, *shown = step.replace("product-sync: ", "").strip().splitlines()  # a terminal's prefix

        ended = shell.run(*shlex.split(command))

        assert ended.code == 0, command
        printed = "\n".join(masked(ended.out + ended.err))
        assert [line for line in masked("\n".join(shown)) if line.strip("…") not in printed] == []

    (queries,) = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
    with closing(sqlite3.connect(shell.folder / "products.db")) as copy:
        assert all(copy.execute(query).fetchall() for query in queries.split(";")[:-1])


def test_it_is_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) <= 120


def test_every_command_is_named() -> None:
    manual = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    names = [
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    ]
    assert [name for name in names if f"`{name}" not in manual] == []


def test_every_setting_is_in_the_example_file_or_the_readme() -> None:
    told = README + (ROOT / ".env.example").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if name.upper() not in told] == []
