"""`product-sync init`: asks for the settings of a tenant, tries them, writes `.env`.

standard input     a terminal: secrets are not shown; a pipe: one answer a line
standard error     the questions
"""

from __future__ import annotations

import getpass
import io
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import typer
from dotenv import dotenv_values

from sync.atomic_write import PRIVATE, atomic_write
from sync.cli.console import emit, stoppable
from sync.cli.options import app, configure_logs
from sync.errors import SettingsError, UsageError
from sync.files.export import not_written
from sync.settings import IMS, OAUTH1, Settings, is_secret
from sync.settings.parsers import is_saas

ENV = Path(".env")
NOT_ASKED = ("ims_token_url", "ims_scopes", "store_views", "database_url")
PLAIN = re.compile(r"[\w@.:/+=-]+", re.ASCII)


@app.command(short_help="Ask for the settings and write .env.")
def init() -> None:
    """Ask for the settings of a tenant, test them as `check` does, and write them to `.env`.

    Nothing is written if there is a `.env`. On a terminal, secrets are not shown; a wrong answer is asked for
    again, and so are all if a test fails: then Enter keeps an answer, and Ctrl-C ends. On a pipe, standard
    input has an answer a line, and the command ends at the first fault: API_ENDPOINT, then IMS_CLIENT_ID,
    IMS_CLIENT_SECRET and IMS_ORG_ID; for a PaaS endpoint, the four COMMERCE_ variables of an integration.
    Only the owner can read the file.

    Exit status: 0 written, 64 there is a .env or an answer is missing, 69 out of reach, 77 refused, 78
    settings, 130 interrupted.
    """
    _ensure_absent()
    given = _answers({})
    while code := _try(given):
        if not sys.stdin.isatty():
            emit("Nothing is written. Correct what failed, and run `product-sync init` again.")
            raise typer.Exit(code)
        emit("Nothing is written yet. Correct what failed; Enter keeps an answer, Ctrl-C ends.")
        given = _answers(given)
    _write(given)
    emit(f"{ENV} is written. Next: product-sync backfill")
    for name in given:
        if os.environ.get(name.upper(), given[name]) != given[name]:
            emit(f"{name.upper()} is set in the environment too, which has priority: unset it.")
    for name in NOT_ASKED:
        if os.environ.get(name.upper()):
            emit(f"{name.upper()} is set in the environment only: it was used here, and is not in {ENV}.")


def _ensure_absent() -> None:
    if os.path.lexists(ENV):
        raise UsageError("there is a .env in this folder already; it is not changed.", "edit it, or move it.")


def _answers(former: Mapping[str, str]) -> dict[str, str]:
    """Ask for each setting. Raises what `_answer` raises.

    former    answers that Enter keeps
    """
    given: dict[str, str] = {}
    _ask("api_endpoint", former, given)
    for name in IMS if is_saas(given["api_endpoint"]) else OAUTH1:
        _ask(name, former, given)
    return given


def _ask(name: str, former: Mapping[str, str], given: dict[str, str]) -> None:
    """Add a setting's answer to `given`; on a terminal, ask until it is valid.

    Raises UsageError at the end of the input; on a pipe, SettingsError for an invalid answer.
    """
    while True:
        given[name] = _answer(name) or former.get(name, "")
        fault = _fault(name, given)
        if fault is None:
            return
        if not sys.stdin.isatty():
            raise SettingsError(f"{name.upper()}: {fault}", "run `product-sync init` again.")
        emit(f"{name.upper()}: {fault}")


def _answer(name: str) -> str:
    """One line of input. Raises UsageError at its end."""
    question = f"{name.upper()} ({Settings.model_fields[name].description}): "
    answer = ""
    if sys.stdin.isatty() and is_secret(name):
        with suppress(EOFError):
            answer = getpass.getpass(question, sys.stderr) + "\n"
    else:
        sys.stderr.write(question if sys.stdin.isatty() else "")
        sys.stderr.flush()
        answer = sys.stdin.readline()
    if not answer:
        raise UsageError(f"standard input ended before {name.upper()}.", "give one answer a line.")
    return answer.strip()


def _fault(name: str, given: Mapping[str, str]) -> str | None:
    """What is wrong with the last answer."""
    if not given[name]:
        return "is blank."
    try:
        quoted(name, given[name])
        Settings.load(given)
    except SettingsError as error:
        return error.faults.get(name.upper())
    return None


def _try(given: Mapping[str, str]) -> int:
    """Print the result of each test; returns the exit code of the first failure, 0 without one."""
    from sync.cli.checks import check, exit_code

    settings = Settings.load(given)
    configure_logs(settings)
    findings = []
    with stoppable() as stop:
        for finding in check(settings, stop):
            findings.append(finding)
            emit(str(finding))
    return exit_code(findings)


def _write(given: Mapping[str, str]) -> None:
    content = "".join(f"{name.upper()}={quoted(name, value)}\n" for name, value in given.items())
    try:
        with atomic_write(ENV, PRIVATE, replace=False) as file:
            file.write(content.encode())
    except FileExistsError:
        _ensure_absent()
    except OSError as error:
        raise not_written(str(ENV), error) from None


def quoted(name: str, value: str) -> str:
    """A value as `.env` files hold it. Raises SettingsError for one that would be read as another."""
    if PLAIN.fullmatch(value):
        return value
    text = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if dotenv_values(stream=io.StringIO(f"VALUE={text}\n"))["VALUE"] != value:
        fault = f"cannot be written to .env: put it into a file that {name.upper()}_FILE names."
        raise SettingsError(f"{name.upper()}: {fault}", faults={name.upper(): fault})
    return text
