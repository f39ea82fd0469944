"""What `init` writes to `.env` is read as it was typed, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from dotenv import dotenv_values

from sync.cli.init import quoted
from sync.errors import SettingsError

ODD = ("two words", "a#b", "a # b", "it's", '"in quotes"', "$HOME", "$(id)", "a\\b", "\\'", "\\", "=", "é€")


@pytest.mark.parametrize("value", ODD)
def test_an_odd_value_is_read_as_it_was_typed(tmp_path: Path, value: str) -> None:
    """By the reader that the settings have."""
    file = tmp_path / ".env"
    file.write_text(f"IMS_CLIENT_SECRET={quoted('ims_client_secret', value)}\n", encoding="utf-8")

    assert dotenv_values(file) == {"IMS_CLIENT_SECRET": value}


def test_a_value_that_env_files_cannot_hold_is_refused_with_its_remedy() -> None:
    """Readers of `.env` put a variable's value in its place."""
    with pytest.raises(SettingsError, match="put it into a file that IMS_CLIENT_SECRET_FILE names"):
        quoted("ims_client_secret", "a${HOME}b")
