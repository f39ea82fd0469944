"""Programs run to their end, and what each cost: wall time, processor time, peak memory.

A whole process is measured, interpreter start and imports included, as whoever calls it from cron pays it.
This module and its callers import little: on Linux the peak of a child is never below what its parent held
when it was started.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FLOOR = Path(__file__).with_name("floor.py")
KIB = 1024 if sys.platform == "linux" else 1  # ru_maxrss: KiB on Linux, bytes on macOS


class BenchmarkFailed(RuntimeError):
    """A program under measurement did not do its work."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took, and the last line it printed. `peak_mb` is in 10^6 bytes."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    last_line: str

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON object that a pass of product-sync ends with."""
        found: dict[str, Any] = json.loads(self.last_line)
        return found


def environment(settings: Mapping[str, str], directory: Path) -> dict[str, str]:
    """What a program under measurement sees: these settings, and nobody's own."""
    return {"PATH": os.environ["PATH"], "HOME": str(directory), **settings}


def run(command: Sequence[str], settings: Mapping[str, str], directory: Path) -> Cost:
    """Run a command in `directory`, with no settings but these. Raises BenchmarkFailed."""
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as complaints:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=environment(settings, directory),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=complaints,
        )
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            complaints.seek(0)
            raise BenchmarkFailed(
                f"{' '.join(command)} ended with {process.returncode}:\n{complaints.read()}"
            )
        printed.seek(0)
        lines = printed.read().splitlines()
    peak_mb = used.ru_maxrss * KIB / 1e6
    return Cost(wall_s, used.ru_utime + used.ru_stime, peak_mb, lines[-1] if lines else "")


def product_sync(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sync", *arguments]


def floor(products: int, *arguments: str) -> list[str]:
    return [sys.executable, str(FLOOR), str(products), *arguments]
