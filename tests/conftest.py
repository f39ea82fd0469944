"""What every test starts from: no setting in the environment, and a working directory without .env."""

from __future__ import annotations

import gc
from pathlib import Path

import hypothesis
import pytest

from sync.logs import redaction
from sync.settings import Settings

pytest_plugins = ("tests.databases",)

# As the program itself does (app.py), for the same reason: on four files, looking for cycles cost an eighth.
gc.set_threshold(50_000, 20, 100)

# No deadline per example: on a shared machine it fails by chance.
hypothesis.settings.register_profile("laws", deadline=None, print_blob=True)
# The same examples in each run: no change fails by chance. What fails is printed as found, because to make it
# smaller may take minutes. `make laws` tries other examples.
hypothesis.settings.register_profile(
    "project",
    hypothesis.settings.get_profile("laws"),
    derandomize=True,
    database=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)
hypothesis.settings.load_profile("project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what starts the program in processes of its own, or works on a database server."""
    for item in items:
        if "end_to_end" in item.path.parts or needs_server(item):
            item.add_marker(pytest.mark.slow)


def needs_server(item: pytest.Item) -> bool:
    """Whether a test works on PostgreSQL or MariaDB, by its parameters or fixtures."""
    parameters = getattr(item, "callspec", None)
    values = parameters.params.values() if parameters is not None else ()
    on_server = any(it in ("postgresql", "mariadb") for it in values if isinstance(it, str))
    return on_server or any("postgres" in name or "mariadb" in name for name in _fixtures(item))


def _fixtures(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector need not look at it."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that one test hides masks no word of another one's texts."""
    monkeypatch.setattr(redaction, "_secrets", redaction._Secrets())


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
