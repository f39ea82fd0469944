"""Each Python block of docs/tools.md runs beside a copy and its exports, and finds every product."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync.sandbox import Sandbox
from tests.command import Shell

PAGE = (Path(__file__).parents[2] / "docs/tools.md").read_text()
EXPORTS = [line.split() for line in re.findall(r"^product-sync (export .+)$", PAGE, re.MULTILINE)]
BLOCKS = re.findall(r"^```python\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what the page begins with."""
    folder = tmp_path_factory.mktemp("tools")
    with Sandbox(60) as tenant:
        shell = Shell(tenant, folder)
        for command in (["backfill"], *EXPORTS):
            ended = shell.run(*command)
            assert ended.code == 0, ended.err
        yield folder


@pytest.mark.parametrize("block", BLOCKS, ids=[re.search(r"import (\w+)", it)[1] for it in BLOCKS])  # type: ignore[index]
def test_a_block_runs_as_it_stands(block: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in re.findall(r"^import (\w+)", block, re.MULTILINE):
        pytest.importorskip(package)
    monkeypatch.chdir(copy)
    names: dict[str, Any] = {}

    exec(block, names)  # noqa: S102 - our own page

    assert len(names["found"]) > 0
