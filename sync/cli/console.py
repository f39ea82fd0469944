"""What every command shares with whoever called it: streams, signals, and the exit code of an error."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from threading import Event, Thread
from types import FrameType
from typing import NoReturn

import typer

from sync.errors import SyncError

USAGE, BUG, INTERRUPTED = 64, 70, 130
REPORT = "run it again with LOG_LEVEL=DEBUG, and report what that prints."


def outcome(work: Callable[[], object]) -> int:
    """The exit code of a piece of work; what went wrong is one sentence on standard error."""
    try:
        work()
    except typer.Exit as end:
        return end.exit_code
    except SystemExit as end:  # 2 is how typer ends on a usage error
        return USAGE if end.code == 2 else int(end.code or 0)
    except SyncError as error:
        from sync.logs import redacted

        complain("\n  ".join([*redacted(f"product-sync: {error}").splitlines(), f"To do: {error.fix}"]))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last one to see it
        complain(f"product-sync: a fault of its own: {type(error).__name__}.\n  To do: {REPORT}")
        if logging.getLogger("sync").isEnabledFor(logging.DEBUG):
            from sync.logs import redacted

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


def emit(text: str) -> None:
    """Write to standard output; a reader that left, as `head` does, ends the command quietly."""
    emit_as_is(_spoken(text))


def emit_as_is(text: str) -> None:
    """The same for programs: whatever is spoken of, no line begins with its name."""
    try:
        print(text, flush=True)  # noqa: T201 - this is the command line
    except BrokenPipeError:
        end_quietly()


def end_quietly() -> NoReturn:
    silence()
    raise typer.Exit


def silence() -> None:
    """Let nothing more go to standard output: else the flush at exit fails again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """Write to standard error, whoever listens."""
    with suppress(BrokenPipeError):
        print(_spoken(text), file=sys.stderr, flush=True)  # noqa: T201 - this is the command line


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
