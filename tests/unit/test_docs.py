"""The manual says what the program does: its settings, commands, errors, metrics and links."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer
from typer.main import get_command

from sync import errors
from sync.cli import app
from sync.cli.tenants import WORSE_AND_WORSE
from sync.db.schema import metadata
from sync.feed import positions, webhook
from sync.files import export
from sync.metrics import Metrics
from sync.settings import Settings
from sync.settings.tenants import load
from tests import data_dictionary

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def named(page: str) -> str:
    return (DOCS / page).read_text()


def example_defaults() -> dict[str, str]:
    """What `.env.example` shows, which a test of the settings holds to the model."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = (line.lstrip("#").partition("=") for line in lines if "=" in line and not line.startswith("# "))
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described_with_its_default(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name.upper()}` \|(.*)$", named("settings.md"), re.MULTILINE)
    default = row.split("|")[0].strip()
    field = Settings.model_fields[name]

    if field.is_required():
        assert default == "required"
    elif field.default in (None, ()):
        assert default == ""
    elif not name.endswith("_scopes"):
        assert default == f"`{example_defaults()[name.upper()]}`"


def test_no_setting_is_described_that_there_is_not() -> None:
    described = re.findall(r"^\| `([A-Z_]+)` \|", named("settings.md"), re.MULTILINE)
    assert sorted(described) == sorted(name.upper() for name in Settings.model_fields)


def test_the_data_dictionary_says_what_the_schema_says() -> None:
    head, made = data_dictionary.written()

    assert made.strip() == data_dictionary.tables().strip(), "run `make docs`"
    assert {name for name in metadata.tables if not name.startswith("sync_")} - set(
        re.findall(r"\w+", head)
    ) == {
        "reference_changes",
        "rejected_items",
    }


@pytest.mark.parametrize("table", metadata.tables.values(), ids=str)
def test_every_table_and_column_is_described(table: sa.Table) -> None:
    assert table.comment
    assert [it.name for it in table.columns if not it.comment or it.comment.endswith(".")] == []


def commands() -> Iterator[str]:
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for line in block.splitlines():
                command = line.removeprefix("$ ").strip()
                if command.startswith("product-sync "):
                    yield command


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_that_is_shown_can_be_called(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = get_command(app)
    with command.make_context("product-sync", list(words)) as context:
        while isinstance(command, typer.core.TyperGroup):
            name, found, words = command.resolve_command(context, words)
            assert found is not None
            context = found.make_context(name, list(words), parent=context)
            command, words = found, [*context._protected_args, *context.args]
            if not words:
                break


def every_error(kind: type[errors.SyncError] = errors.SyncError) -> set[type[errors.SyncError]]:
    found = set(kind.__subclasses__())
    return found.union(*map(every_error, found))


ABSTRACT = {errors.CommerceError, errors.DatabaseError}
OURS = {error for error in every_error() if error.__module__.startswith("sync.")}
ERRORS = sorted(OURS - ABSTRACT, key=lambda error: error.__name__)


@pytest.mark.parametrize("error", ERRORS, ids=[error.__name__ for error in ERRORS])
def test_every_error_has_a_remedy_under_its_exit_status(error: type[errors.SyncError]) -> None:
    assert {webhook.WebhookRefused, positions.PositionInUse, export.NotWritten} <= set(ERRORS)
    (row,) = re.findall(rf"^\| `{error.__name__}` \|(.*)$", named("errors.md"), re.MULTILINE)
    status, happened, remedy, _ = (cell.strip() for cell in row.split("|"))
    assert status == str(error.exit_code)
    assert happened
    assert remedy


def test_every_exit_status_is_explained() -> None:
    explained = re.findall(r"^\| (\d+) \| \w", named("errors.md"), re.MULTILINE)
    assert {int(status) for status in explained} == {0, 1, *(error.exit_code for error in ERRORS), 70}


def test_every_metric_is_named() -> None:
    families = Metrics("0", process=False).registry.collect()
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    assert names <= set(re.findall(r"product_sync_\w+", named("operating.md")))


def test_the_file_of_tenants_that_is_shown_can_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the secrets it refers to in their places, as the page says."""
    (example,) = re.findall(r"^```toml\n(.*?)^```", named("many-tenants.md"), re.MULTILINE | re.DOTALL)
    (tmp_path / "secrets").mkdir()
    for path in re.findall(r'"(secrets/\w+)"', example):
        (tmp_path / path).write_text("a-secret")
    monkeypatch.setenv("US_CLIENT_SECRET", "another")
    monkeypatch.setenv("US_DATABASE_URL", "postgresql+psycopg://sync:hidden@db.example/us")
    (tmp_path / "tenants.toml").write_text(example)

    tenants = load(tmp_path / "tenants.toml")

    settings = {name: tenants.settings(name) for name in tenants.names}
    assert [*settings] == ["eu", "us", "outlet"]
    assert settings["us"].sync_max_rps == 10
    assert settings["eu"].store_views == ("all", "default")


def test_the_worst_exit_status_is_found_in_the_order_that_is_described() -> None:
    told = re.search(r"worst, in this order: ([\d,\s]+)\.", named("many-tenants.md"))
    assert told is not None
    assert tuple(map(int, re.findall(r"\d+", told[1]))) == WORSE_AND_WORSE
    assert {error.exit_code for error in ERRORS} <= set(WORSE_AND_WORSE)


def test_every_page_is_in_the_index() -> None:
    listed = set(LINK.findall(named("README.md")))
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= listed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if not link.startswith(("http://", "https://", "#")):
            assert (page.parent / link.partition("#")[0]).exists(), link


FILE = re.compile(r"[\w/]+\.py\b|\b(?:sync|migrations|tests|benchmarks|deploy|passes)/(?:\w+/)*(?![\w.])")
ROW_TO_CODE = re.compile(r"^\| [^|]+\? \| `([^`]+)` \| (?:`([^`]+)` )?\|$", re.MULTILINE)


FOR_CONTRIBUTORS = [
    ROOT / "CONTRIBUTING.md",
    DOCS / "architecture.md",
    DOCS / "glossary.md",
    *sorted((DOCS / "decisions").glob("*-*.md")),
]


@pytest.mark.parametrize("page", FOR_CONTRIBUTORS, ids=lambda page: page.name)
def test_every_file_and_folder_that_is_named_exists(page: Path) -> None:
    """Below `sync/` where that is left out."""
    for name in FILE.findall(page.read_text()):
        assert (ROOT / name).exists() or (ROOT / "sync" / name).exists(), name


def test_every_decision_is_in_the_index_and_fits_on_a_screen() -> None:
    listed = LINK.findall(named("decisions/README.md"))
    pages = sorted((DOCS / "decisions").glob("*-*.md"))
    assert listed == [page.name for page in pages]
    assert all(len(page.read_text().splitlines()) <= 40 for page in pages)


def defined(source: str) -> set[str]:
    """What a module defines at its top, and the methods of its classes as `Class.method`."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}.{it.name}" for it in ast.walk(node) if isinstance(it, ast.FunctionDef)}
    return names


def test_every_question_leads_to_code_that_exists() -> None:
    rows = ROW_TO_CODE.findall(named("architecture.md"))
    assert len(rows) > 15
    for file, begin in rows:
        assert not begin or begin in defined((ROOT / file).read_text()), (file, begin)


def test_the_folders_of_the_program_are_all_described() -> None:
    described = named("architecture.md").partition("## The folders")[2]
    folders = {f"sync/{it.name}/" for it in (ROOT / "sync").iterdir() if (it / "__init__.py").exists()}
    assert {folder for folder in folders if f"`{folder}`" not in described} == set()


def test_the_glossary_names_tables_that_exist() -> None:
    assert set(re.findall(r"`(sync_\w+)", named("glossary.md"))) <= {*metadata.tables}
