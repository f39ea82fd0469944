"""What every test starts from: no setting in the environment, and a working directory without .env."""

from __future__ import annotations

import gc
from pathlib import Path

import hypothesis
import pytest

from sync.settings import Settings

pytest_plugins = ("tests.databases",)

# As the program itself does (app.py), for the same reason: on four files, looking for cycles cost an eighth.
gc.set_threshold(50_000, 20, 100)

# No deadline per example: on a shared machine it fails by chance.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector need not look at it."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
