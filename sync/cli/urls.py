"""URLs on the command line. Every user of the machine can read arguments, so `-` reads one that is secret."""

from __future__ import annotations

import sys

import structlog

from sync.errors import UsageError


def given_url(argument: str, noun: str) -> str:
    """The URL of an argument, or after `-` that of standard input, typed unseen on a terminal.

    noun    whose URL it is
    """
    from sync.settings.parsers import looks_secret

    if argument == "-":
        return _from_standard_input(noun)
    if looks_secret(argument):
        structlog.stdlib.get_logger("sync").warning(
            "secret.in_arguments",
            reason=f"The URL of {noun} seems to hold a secret, and other users can read arguments.",
            fix="write - for it, and the URL to standard input.",
        )
    return argument


def _from_standard_input(noun: str) -> str:
    if sys.stdin.isatty():
        from getpass import getpass

        line = getpass(f"URL of {noun}: ")
    else:
        line = sys.stdin.readline()
    if not line.strip():
        raise UsageError("standard input has no URL.", f"write the URL of {noun} to it.")
    return line.strip()
