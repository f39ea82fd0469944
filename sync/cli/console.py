"""What every command shares with whoever called it: streams, signals, and the exit code of an error."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event, Thread
from types import FrameType
from typing import NoReturn, TextIO

import typer

from sync.errors import SyncError
from sync.logs.redaction import redacted

USAGE, UNAVAILABLE, BUG, INTERRUPTED = 64, 69, 70, 130
REPORT = "run it again with LOG_LEVEL=DEBUG, and report what that prints."


def outcome(work: Callable[[], object]) -> int:
    """The exit code of a piece of work; what went wrong is one sentence on standard error."""
    try:
        work()
    except typer.Exit as end:
        return end.exit_code
    except SystemExit as end:  # typer's: 2 for a usage error, 1 when the reader of its help has left
        if isinstance(end.__context__, BrokenPipeError):
            return 0
        return USAGE if end.code == 2 else int(end.code or 0)
    except SyncError as error:
        complain("\n  ".join([*f"product-sync: {redacted(str(error))}".splitlines(), f"To do: {error.fix}"]))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last one to see it
        if getattr(error.__context__, "exit_code", None) == 2:  # a usage error that typer could not print
            return USAGE
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # no place for typer's help
            complain(f"product-sync: {error.strerror}.\n  To do: free some space, and run it again.")
            return UNAVAILABLE
        complain(f"product-sync: a fault of its own: {type(error).__name__}.\n  To do: {REPORT}")
        if logging.getLogger("sync").isEnabledFor(logging.DEBUG):
            complain(redacted(traceback.format_exc()))
        return BUG
    return 0


@contextmanager
def stoppable(notice: str = "") -> Iterator[Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one kills the process, which loses no page.

    notice    what is said about it on standard error
    """
    stop = Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        for number in former:
            signal.signal(number, signal.SIG_DFL)
        Thread(target=obey).start()  # not here: this thread may be writing, or hold the event's lock

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
    """The progress bar hides it, and a killed process cannot show it again."""
    if sys.__stderr__ is not None and sys.__stderr__.isatty():
        sys.__stderr__.write("\x1b[?25h")


def open_streams() -> None:
    """Open the standard streams that the caller closed: else a database file could take the place of one."""
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
            stream.reconfigure(errors="backslashreplace")  # a locale without umlauts is no reason to stop


def flush_streams() -> None:
    """Write what is left; else Python tries at its end, and exits with 120 where the reader has left."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            silence(stream)


def silence(stream: TextIO) -> None:
    """Let nothing more go to a stream that cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def emit(text: str) -> None:
    """Write to standard output. A reader that has left, as `head` does, changes nothing else."""
    print_out(_spoken(text))


def print_out(text: str) -> bool:
    """Write to standard output as it is, for programs; False when the reader has left.

    Raises NotWritten where it is a file that cannot be written.
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
    """End a command whose only work is to write for a reader that has left."""
    silence(sys.stdout)
    raise typer.Exit


def complain(text: str) -> None:
    """Write to standard error, where somebody reads it."""
    try:
        print(_spoken(text), file=sys.stderr, flush=True)  # noqa: T201 - this is the command line
    except OSError:
        silence(sys.stderr)


_subject: ContextVar[str] = ContextVar("subject", default="")


@contextmanager
def speaking_of(name: str) -> Iterator[None]:
    """Let every line for people begin with this name."""
    token = _subject.set(f"{name}: ")
    try:
        yield
    finally:
        _subject.reset(token)


def _spoken(text: str) -> str:
    return "\n".join(f"{_subject.get()}{line}" for line in text.split("\n"))
