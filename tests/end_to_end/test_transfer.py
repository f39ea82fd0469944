"""`product-sync db copy` as its users run it."""

from __future__ import annotations

import subprocess

import pytest

from tests.command import PRODUCT_SYNC, Shell


def test_a_copy_moves_by_the_url_on_standard_input(shell: Shell) -> None:
    assert shell.run("backfill").code == 0

    moved = subprocess.run(
        [*PRODUCT_SYNC, "db", "copy", "-"],
        env=shell.environment({}),
        cwd=shell.folder,
        input="sqlite:///moved.db\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (moved.returncode, moved.stderr) == (0, "")
    assert "rows copied to sqlite:///moved.db and compared: no difference." in moved.stdout
    assert "300 products, 300 changes." in moved.stdout
    again = shell.run("db", "copy", "sqlite:///moved.db")
    assert (again.code, again.out) == (78, "")
    assert "already has rows" in again.err
    shell.tenant.catalogue.edit(5, name="A new name")
    assert shell.run("run", DATABASE_URL="sqlite:///moved.db").code == 0
    (entry,) = shell.run("changes", "--since", "300", DATABASE_URL="sqlite:///moved.db").objects
    assert (entry["change_id"], entry["product_id"]) == (301, 5)


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("-", 64, "standard input has no URL"),
        ("moved.db", 64, "is none of sqlite:///"),
        ("postgresql+psycopg://shop:hunter22@127.0.0.1:1/pim", 69, "the other database: "),
    ],
)
def test_a_url_that_cannot_be_used_is_explained_without_its_password(
    shell: Shell, url: str, code: int, words: str
) -> None:
    shell.run("run", "--sku", "none")

    told = shell.run("db", "copy", url, LOG_LEVEL="DEBUG")

    assert (told.code, told.out) == (code, "")
    assert words in told.err
    assert "hunter22" not in told.err
