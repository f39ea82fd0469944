"""The command line: one function per command: parse, call, print, exit code.

    options     the application, options of several commands, the settings in force
    console     streams, signals, error messages
    passes · daemon · inspection · feed · files · transfer · sandbox      the commands

Each command imports what it needs, so that `--help` answers at once. Results go to standard output; logs, the
progress bar and the summary of a pass go to standard error. Only `outcome` catches errors and turns them into
a message and an exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from sync import __version__
from sync.cli.console import emit, flush_streams, open_streams, outcome
from sync.cli.options import app
from sync.errors import UsageError
from sync.runtime import end_undisturbed, load_undisturbed, share_one_heap

# isort: off
from sync.cli import passes, daemon, inspection, init, feed, files, transfer, sandbox  # noqa: F401 - in order of --help
# isort: on

__all__ = ["app", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error is one sentence on standard error."""
    share_one_heap()
    load_undisturbed()
    open_streams()
    code = outcome(lambda: _run(sys.argv[1:] if arguments is None else arguments))
    end_undisturbed()
    flush_streams()
    return code


def _run(arguments: Sequence[str]) -> None:
    try:
        "".join(arguments).encode()
    except UnicodeEncodeError:
        raise UsageError("an argument contains bytes that are not UTF-8 text.") from None
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(
            f"the working directory cannot be used: {error.strerror}.", "change to a folder that exists."
        ) from None
    get_command(app).main(args=arguments, prog_name="product-sync")


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            is_eager=True,
            callback=lambda asked: _version(asked),
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Keep a SQL copy of an Adobe Commerce catalogue complete and fresh.

    \b
      product-sync demo        a complete demonstration, without an Adobe account
      product-sync check       try the settings in the environment and .env
      product-sync backfill    load everything
      product-sync run         read what changed since then; `product-sync daemon` repeats it
    """


def _version(asked: bool) -> None:
    if asked:
        emit(f"product-sync {__version__}")
        raise typer.Exit
