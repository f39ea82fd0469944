"""A command in a process of its own, forked from one that has loaded the program: loading takes a second.

The server is multiprocessing's; it has no threads and no settings, so each command starts as from a shell.
It ends without taking the interpreter down, so what happens at the very end needs a program started afresh.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import IO

LOADED = (
    "alembic.command",
    "apscheduler.triggers.base",
    "celery.worker.control",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "sync.app",
    "sync.cli.checks",
    "sync.cli",
    "sync.service.daemon",
    "sync.passes.incremental",
    "sync.passes.reconcile",
    "sync.settings",
    "sync.cli.text",
    "sync.web.server",
    "sync.service.worker",
)


@dataclass(frozen=True)
class Forked:
    """A command under way, with the words of subprocess.Popen."""

    stdout: IO[str]
    stderr: IO[str]
    _process: ForkServerProcess

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        _kill(self._process)

    def wait(self, timeout: float) -> int:
        """The exit code. Raises TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self._process.exitcode


@contextmanager
def started(arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[Forked]:
    """Start a command, and kill it if it is still there at the end."""
    context = multiprocessing.get_context("forkserver")
    printed, print_to = context.Pipe(duplex=False)
    said, say_to = context.Pipe(duplex=False)
    with printed, said:
        with print_to, say_to:
            process = _process(_be_heard, (arguments, dict(environment), folder, print_to, say_to))
        with (
            open(printed.fileno(), closefd=False) as stdout,
            open(said.fileno(), closefd=False) as stderr,
        ):
            try:
                yield Forked(stdout, stderr, process)
            finally:
                _kill(process)
                process.join()


def run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float
) -> tuple[int, str, str]:
    """Run a command to its end: its exit code, what it printed, what it said on standard error.

    Raises TimeoutExpired, behind which nothing of it is left.
    """
    with tempfile.TemporaryDirectory() as place:
        printed, said = Path(place, "printed"), Path(place, "said")
        process = _process(_be_read, (arguments, dict(environment), folder, printed, said))
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        return process.exitcode, printed.read_text(), said.read_text()


def _kill(process: ForkServerProcess) -> None:
    """Unless it ended: the server has waited for it, so its number may be another process's by now."""
    if process.exitcode is None:
        process.kill()


def _process(target: Callable[..., None], arguments: tuple[object, ...]) -> ForkServerProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LOADED, __name__])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def _be_heard(
    arguments: Sequence[str],
    environment: dict[str, str],
    folder: Path,
    print_to: Connection,
    say_to: Connection,
) -> None:
    with print_to, say_to:
        os.dup2(print_to.fileno(), 1)
        os.dup2(say_to.fileno(), 2)
    _be(arguments, environment, folder)


def _be_read(
    arguments: Sequence[str], environment: dict[str, str], folder: Path, printed: Path, said: Path
) -> None:
    for path, number in ((printed, 1), (said, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    _be(arguments, environment, folder)


def _be(arguments: Sequence[str], environment: dict[str, str], folder: Path) -> None:
    """Be that command."""
    # What the interpreter makes of the three at its start, for as long as the process lives.
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    from sync.cli import main

    sys.exit(main(arguments))
