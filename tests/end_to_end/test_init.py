"""`init`: a terminal hides secrets and asks again after a wrong answer; a pipe has an answer a line."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.command import PRODUCT_SYNC, Shell

NAMES = ("API_ENDPOINT", "IMS_CLIENT_ID", "IMS_CLIENT_SECRET", "IMS_ORG_ID")


class Terminal:
    """A command on a terminal of its own, and all that the terminal shows."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid, self.descriptor, self.shown, self._read = pid, descriptor, "", 0

    def answer(self, question: str, text: str) -> None:
        """Wait for a question, and type a line."""
        while (at := self.shown.find(question, self._read)) < 0:
            self._more()
        self._read = at + len(question)
        os.write(self.descriptor, text.encode())

    def end(self) -> int:
        """Read to the end; the exit code."""
        try:
            while True:
                self._more()
        except EOFError:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _more(self) -> None:
        try:
            found = os.read(self.descriptor, 4096)
        except OSError:  # Linux: the command has closed the terminal
            found = b""
        if not found:
            raise EOFError(self.shown)
        self.shown += found.decode()


@contextmanager
def init(shell: Shell) -> Iterator[Terminal]:
    environment = shell.environment(dict.fromkeys(NAMES, ""))
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(shell.folder)
        signal.alarm(int(shell.longest_s))
        os.execvpe(PRODUCT_SYNC[0], [*PRODUCT_SYNC, "init"], environment)  # noqa: S606
    try:
        yield Terminal(pid, descriptor)
    finally:
        os.close(descriptor)


def test_a_wrong_answer_is_asked_for_again_and_no_secret_is_shown(shell: Shell) -> None:
    """A wrong URL at once, a wrong secret after the tests; then Enter keeps the other answers."""
    given = shell.tenant.environment()

    with init(shell) as terminal:
        terminal.answer("API_ENDPOINT (", "not a URL\n")
        terminal.answer("API_ENDPOINT (", f"{given['API_ENDPOINT']}\n")
        terminal.answer("IMS_CLIENT_ID (", f"{given['IMS_CLIENT_ID']}\n")
        terminal.answer("IMS_CLIENT_SECRET (", "\n")
        terminal.answer("IMS_CLIENT_SECRET (", "not-the-secret\n")
        terminal.answer("IMS_ORG_ID (", f"{given['IMS_ORG_ID']}\n")
        terminal.answer("API_ENDPOINT (", "\n")
        terminal.answer("IMS_CLIENT_ID (", "\n")
        terminal.answer("IMS_CLIENT_SECRET (", f"{given['IMS_CLIENT_SECRET']}\n")
        terminal.answer("IMS_ORG_ID (", "\n")
        code = terminal.end()

    assert code == 0, terminal.shown
    assert "IMS_TOKEN_URL is set in the environment only" in terminal.shown
    assert "not-the-secret" not in terminal.shown
    assert given["IMS_CLIENT_SECRET"] not in terminal.shown
    assert shell.run("check", **dict.fromkeys(NAMES, "")).code == 0


@pytest.mark.parametrize(("key", "code"), [("\x04", 64), ("\x03", 130)], ids=["Ctrl-D", "Ctrl-C"])
@pytest.mark.parametrize("at", ["API_ENDPOINT", "IMS_CLIENT_SECRET"])
def test_a_key_that_ends_it_writes_nothing(shell: Shell, key: str, code: int, at: str) -> None:
    given = shell.tenant.environment()

    with init(shell) as terminal:
        for name in NAMES[: NAMES.index(at)]:
            terminal.answer(f"{name} (", f"{given[name]}\n")
        terminal.answer(f"{at} (", key)

        assert terminal.end() == code, terminal.shown

    assert "Traceback" not in terminal.shown
    assert not (shell.folder / ".env").exists()


def test_a_pipe_has_an_answer_a_line_and_a_second_time_is_refused(shell: Shell) -> None:
    given = shell.tenant.environment()
    answers = "".join(f"{given[name]}\n" for name in NAMES)
    unset = dict.fromkeys(NAMES, "")

    first, second = (
        subprocess.run(
            [*PRODUCT_SYNC, "init"],
            env=shell.environment(unset),
            cwd=shell.folder,
            input=answers,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for _ in range(2)
    )

    assert (first.returncode, second.returncode) == (0, 64), first.stdout + second.stderr
    assert (shell.folder / ".env").stat().st_mode & 0o777 == 0o600
    assert shell.run("check", **unset).code == 0
