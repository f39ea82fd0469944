"""`product-sync` as its users run it: a process of its own, with these settings and no others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from sync.sandbox import Sandbox
from tests import forked

PRODUCT_SYNC = [sys.executable, "-m", "sync"]
LONGEST_S = 60.0  # a hanging process fails the test instead of the suite


@dataclass(frozen=True)
class Ended:
    """A command that ended: its exit code, what it printed, what it said on standard error."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def assert_same_fault(checked: Ended, run: Ended) -> None:
    """`check` and a pass end with the same exit code, sentence and remedy; what a driver adds may differ."""
    (failed,) = (line for line in checked.out.splitlines() if line.startswith("failed"))
    said = json.loads(run.err.splitlines()[-1])["message"].removeprefix("product-sync: ")
    told = failed[len("failed   store views    ") :]
    assert checked.code == run.code
    assert [part.split(":")[0].split(";")[0] for part in told.split(" To do: ")] == [
        part.split(":")[0].split(";")[0] for part in said.split(" To do: ")
    ]


class Running:
    """A command under way whose log is JSON lines, read as they come: a full pipe would stop it."""

    def __init__(self, process: subprocess.Popen[str] | forked.Forked) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self.words: list[str] = []
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with suppress(ValueError):  # closed behind a command that was killed
            for line in self.process.stderr:
                self._lines.put(line)
        self._lines.put(None)

    def lines(self) -> Iterator[str]:
        """What it says on standard error, as it comes, until it ends."""
        while (line := self._lines.get()) is not None:
            yield line
        self._lines.put(None)  # for whoever asks again

    def events(self) -> Iterator[dict[str, Any]]:
        """The log as it comes, until the command ends; lines that are no events go to `words`."""
        for line in self.lines():
            if line.startswith("{"):
                self.log.append(json.loads(line))
                yield self.log[-1]
            else:
                self.words.append(line)

    def wait_for(self, event: str, **facts: object) -> dict[str, Any]:
        """The next event of this name with these facts. Fails when the command ends without it."""
        for seen in self.events():
            if seen["event"] == event and facts.items() <= seen.items():
                return seen
        ended = f"ended with {self.process.wait(LONGEST_S)} and without {event} {facts}"
        raise AssertionError("\n".join([ended, *map(str, self.log[-30:]), *self.words]))

    def wait_for_words(self, words: str) -> str:
        """The next message that holds these words; from a log of JSON lines, without what is around it."""
        for line in self.lines():
            if words in line:
                return str(json.loads(line)["message"]) if line.startswith("{") else line
        raise AssertionError(f"ended without saying {words!r}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        for _ in self.events():
            pass
        return self.process.wait(LONGEST_S)


@dataclass
class Shell:
    """A folder to work in, and settings that lead to a tenant.

    longest_s    a command that takes longer hangs
    pipe_size    bytes that one started afresh can print before somebody reads; -1 is the system's choice
    """

    tenant: Sandbox
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    longest_s: float = LONGEST_S
    pipe_size: int = -1

    def run(self, *arguments: str, **changed: str) -> Ended:
        """Run a command to its end, with some settings changed."""
        environment = self.environment(changed)
        if any(name.startswith("PYTHON") for name in changed):  # what the interpreter reads at its start
            ended = subprocess.run(
                [*PRODUCT_SYNC, *arguments],
                env=environment,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=self.longest_s,
                check=False,
            )
            return Ended(ended.returncode, ended.stdout, ended.stderr)
        return Ended(*forked.run(arguments, environment, self.folder, self.longest_s))

    def start(self, *arguments: str, **changed: str) -> AbstractContextManager[Running]:
        """Start a command, and kill it if it is still there at the end."""
        return self._running(forked.started(arguments, self.environment(changed), self.folder))

    def start_afresh(
        self, *arguments: str, prefix: Sequence[str] = (), **changed: str
    ) -> AbstractContextManager[Running]:
        """The same in a new interpreter: where the start or the very end of one may make a difference.

        prefix    a command that runs it
        """
        process = subprocess.Popen(
            [*prefix, *PRODUCT_SYNC, *arguments],
            env=self.environment(changed),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pipesize=self.pipe_size,
        )
        return self._running(process)

    @contextmanager
    def _running(
        self, started: AbstractContextManager[subprocess.Popen[str] | forked.Forked]
    ) -> Iterator[Running]:
        with started as process:
            overdue = threading.Timer(self.longest_s, process.kill)
            overdue.start()
            try:
                yield Running(process)
            finally:
                overdue.cancel()
                process.kill()

    def environment(self, changed: dict[str, str]) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        quiet = {"LOG_FORMAT": "json", "STATUS_BIND": "off"}
        return inherited | self.tenant.environment() | quiet | self.settings | changed
