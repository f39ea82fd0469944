"""Each file of findings/ says in its first lines what it shows, and pins what it installs; none runs here."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

FINDINGS = Path(__file__).parents[2] / "findings"
FILES = sorted(FINDINGS.glob("*.sh"))
PARTS = ["Versions", "Expected", "Seen", "Why it matters"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_finding_says_what_it_shows_and_pins_what_it_installs(file: Path) -> None:
    head, _, script = file.read_text().partition("\n\n")
    (packages,) = re.findall(r"pip\" install .*\n +(.+) \|\| exit 2$", script, re.MULTILINE)

    assert re.findall(r"^# ([A-Z][a-z ]+):", head, re.MULTILINE) == PARTS
    assert all(re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", package) for package in packages.split())
    assert "product-sync" not in script
    assert os.access(file, os.X_OK)


def test_the_list_names_every_finding_once() -> None:
    listed = re.findall(r"^\| \[[^]]+\]\((.+)\) \|", (FINDINGS / "README.md").read_text(), re.MULTILINE)

    assert listed == [file.name for file in FILES]
