"""What every test starts from: no setting in the environment, and a working directory without .env."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

from sync.settings import Settings

pytest_plugins = ("tests.databases",)

# No deadline per example: on a shared machine it fails by chance.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
