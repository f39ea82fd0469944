"""The project's own files agree with each other: settings, .env.example, dependencies, locks, version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from dotenv import dotenv_values

import sync
from sync.settings import Settings, example

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REQUIRED = ("api_endpoint", "ims_client_id", "ims_client_secret", "ims_org_id")


def pins(lock: str) -> dict[str, str]:
    """Name and version of what a lock installs."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0] for requirement in requirements}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_env_example_with_its_meaning(name: str) -> None:
    line = f"{name.upper()}=" if name in REQUIRED else f"#{name.upper()}={example(name)}"

    assert f"# {Settings.model_fields[name].description}\n{line}\n" in (ROOT / ".env.example").read_text()


def test_env_example_names_no_variable_that_is_none() -> None:
    named = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert named == [name.upper() for name in Settings.model_fields]


def test_a_copy_of_env_example_only_lacks_the_four_required_values(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text((ROOT / ".env.example").read_text())
    monkeypatch.setenv("API_ENDPOINT", example("api_endpoint"))
    for name in REQUIRED:
        monkeypatch.setenv(name.upper(), example(name))

    assert Settings.load().sync_page_size == 300
    assert [*dotenv_values(".env")] == [name.upper() for name in REQUIRED]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock", "requirements-release.lock"])
def test_a_lock_pins_by_hash_and_names_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.split(r"\n(?=\w)", text)

    assert all(re.match(r"[\w.-]+==[^\n]+ \\\n    --hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert "://" not in text
    assert "--index-url" not in text


def test_both_locks_hold_what_pyproject_asks_for() -> None:
    groups = PROJECT["dependency-groups"]
    runtime, development = pins("requirements.lock"), pins("requirements-dev.lock")

    assert names(PROJECT["project"]["dependencies"] + groups["build"]) <= {*runtime}
    assert names([item for item in groups["dev"] if isinstance(item, str)]) <= {*development}
    assert runtime.items() <= development.items()


def test_nothing_sends_its_reader_to_the_package_of_another_company() -> None:
    """On the package index, product-sync is another program."""
    (script,) = PROJECT["project"]["scripts"]
    folders = ("sync", "docs", "deploy", ".ci")
    files = [*ROOT.glob("*.md"), *(it for folder in folders for it in (ROOT / folder).rglob("*"))]
    texts = {it: it.read_text() for it in files if it.is_file() and it.suffix not in (".pyc", ".png")}

    assert script != PROJECT["project"]["name"] == "commerce-product-sync"
    wrong = re.compile(
        rf"(?:install|==|download)[^\n|;]*[\s'\"]{script}(?:\[|==|\s*$)|(?<![-\w]){script}\[", re.MULTILINE
    )
    assert [str(it) for it, text in texts.items() if wrong.search(text)] == []


def test_the_changelog_has_the_version() -> None:
    assert f"\n## [{sync.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_contributing_names_the_coverage_that_is_required() -> None:
    (named,) = re.findall(r"`make coverage` .* (\d+) % of the lines", (ROOT / "CONTRIBUTING.md").read_text())

    assert int(named) == PROJECT["tool"]["coverage"]["report"]["fail_under"]
