"""A command in a process of its own, forked from one that has loaded the program: loading takes a second.

The server is multiprocessing's; it has no threads and no settings, so each command starts as from a shell.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LOADED = (
    "alembic.command",
    "apscheduler.triggers.cron",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "sync.app",
    "sync.check",
    "sync.cli",
    "sync.passes.incremental",
    "sync.passes.reconcile",
    "sync.settings",
    "sync.text",
)


def run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float
) -> tuple[int, str, str]:
    """Run a command to its end: its exit code, what it printed, what it said on standard error.

    Raises TimeoutExpired, behind which nothing of it is left.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LOADED, __name__])
    with tempfile.TemporaryDirectory() as place:
        printed, said = Path(place, "printed"), Path(place, "said")
        process = context.Process(target=_be, args=(arguments, dict(environment), folder, printed, said))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        return process.exitcode, printed.read_text(), said.read_text()


def _be(
    arguments: Sequence[str], environment: dict[str, str], folder: Path, printed: Path, said: Path
) -> None:
    """Be that command."""
    for path, number in ((printed, 1), (said, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123 - for as long as the process lives
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    from sync.cli import main

    sys.exit(main(arguments))
