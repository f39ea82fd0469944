"""Standard streams, signals, and the exit codes of errors."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from threading import Event, Thread
from types import FrameType
from typing import NoReturn, TextIO

import typer

from sync.errors import SyncError
from sync.logs import LogFormat, printable
from sync.logs.redaction import redacted

USAGE, UNAVAILABLE, BUG, INTERRUPTED = 64, 69, 70, 130
REPORT = "run it again with LOG_LEVEL=DEBUG and report the output."


def outcome(work: Callable[[], object]) -> int:
    """Run `work` and return its exit code; an error is one sentence on standard error."""
    try:
        work()
    except typer.Exit as end:
        return end.exit_code
    except SystemExit as end:  # typer's: 2 for a usage error, 1 if the reader of its help has closed the pipe
        if isinstance(end.__context__, BrokenPipeError):
            return 0
        return USAGE if end.code == 2 else int(end.code or 0)
    except SyncError as error:
        complain("\n  ".join([*f"product-sync: {redacted(str(error))}".splitlines(), f"To do: {error.fix}"]))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - nothing above catches it
        if getattr(error.__context__, "exit_code", None) == 2:  # a usage error that typer could not print
            return USAGE
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # no disk space for typer's help
            complain(f"product-sync: {error.strerror}.\n  To do: free some space and run it again.")
            return UNAVAILABLE
        complain(f"product-sync: an internal error: {type(error).__name__}.\n  To do: {REPORT}")
        if logging.getLogger("sync").isEnabledFor(logging.DEBUG):
            complain(redacted(traceback.format_exc()))
        return BUG
    return 0


@contextmanager
def stoppable(notice: str = "") -> Iterator[Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one kills the process, and no page is lost.

    notice    a message for standard error after the first signal
    """
    stop = Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        for number in former:
            signal.signal(number, signal.SIG_DFL)
        Thread(target=obey).start()  # in a thread: this one may be writing, or hold the event's lock

    def obey() -> None:
        stop.set()
        if notice:
            _show_cursor()
            complain(notice)

    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in former:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _show_cursor() -> None:
    """Show the cursor, which the progress bar hides; a killed process could not."""
    if sys.__stderr__ is not None and sys.__stderr__.isatty():
        sys.__stderr__.write("\x1b[?25h")


def open_streams() -> None:
    """Open standard streams that the caller closed; otherwise a database file could get the number of one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 -- lives as long as the process
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a locale without umlauts must not stop the program


def flush_streams() -> None:
    """Flush the streams; otherwise Python does at exit, and exits with 120 if the pipe is closed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            silence(stream)


def silence(stream: TextIO) -> None:
    """Redirect a stream that cannot be written to /dev/null."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def emit(text: str) -> None:
    """Write to standard output. A closed pipe, as after `head`, is ignored."""
    print_out(_spoken(text))


def print_out(text: str) -> bool:
    """Write to standard output unchanged, for programs; False if the pipe is closed.

    Raises NotWritten if it is a file that cannot be written.
    """
    try:
        print(text, flush=True)  # noqa: T201 - this is the command line
    except BrokenPipeError:
        silence(sys.stdout)
        return False
    except OSError as error:
        from sync.files.export import not_written

        silence(sys.stdout)
        raise not_written("standard output", error) from error
    return True


def end_quietly() -> NoReturn:
    """End a command whose output nobody reads any more."""
    silence(sys.stdout)
    raise typer.Exit


def complain(text: str) -> None:
    """Write a message to standard error; as an event of the log where the log is JSON lines.

    So a program that reads standard error finds one JSON object in every line. LOG_LEVEL does not apply.
    """
    line = _as_event(text) if _form == "json" else _spoken(text)
    try:
        sys.stderr.write(f"{line}\n")  # at once: another thread may be logging
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)


_form: LogFormat = "console"


def speak_as(form: LogFormat) -> None:
    """Write messages in the format of the log from now on."""
    global _form
    _form = form


def _as_event(text: str) -> str:
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    tenant = {"tenant": _subject.get()} if _subject.get() else {}
    message = printable(" ".join(line.strip() for line in text.splitlines()))
    event = {"at": at, "level": "info", "event": "command.message", **tenant, "message": message}
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


_subject: ContextVar[str] = ContextVar("subject", default="")


@contextmanager
def speaking_of(name: str) -> Iterator[None]:
    """Prefix every message line with this name."""
    token = _subject.set(name)
    try:
        yield
    finally:
        _subject.reset(token)


def _spoken(text: str) -> str:
    prefix = f"{name}: " if (name := _subject.get()) else ""
    return "\n".join(f"{prefix}{line}" for line in text.split("\n"))
