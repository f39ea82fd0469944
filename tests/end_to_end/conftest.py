"""A simulated tenant, and a folder with nothing in it to run commands in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.sandbox import Sandbox
from tests.command import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """300 products; a request that fails is tried again for two seconds."""
    with Sandbox(300) as tenant:
        yield Shell(tenant, tmp_path, {"SYNC_MAX_RETRY_TIME": "2s"})
