"""The log: one event per line on standard error, coloured on a terminal, JSON in a pipe.

    {"at":"2026-03-01T09:30:07Z","level":"info","event":"run.finished","run":41,"inserted":4}

An event is `noun.past_participle`, its facts are keys with units. Facts shared by many events are
bound once, with `structlog.contextvars.bound_contextvars(run=41, store_view="fr")`. Warnings of
libraries have the same form; `logger` names their source.

The last step masks secrets and escapes control characters, so that a product name can neither forge
a line nor control a terminal.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from sync.logs.redaction import hide, redacted

LogFormat = Literal["console", "json"]
HANDLER = "product-sync"


def configure(
    log_format: LogFormat | None, level: str, *, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> LogFormat:
    """Send every log line to `stream` (standard error), and return the format in use.

    Another call replaces the configuration.

    log_format   None: console where `stream` is a terminal, else json
    level        DEBUG, INFO, WARNING or ERROR, for our own events; libraries log from WARNING on
    secrets      texts to mask until the process ends: a rotated secret may still be valid
    """
    hide(secrets)
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)  # a closed pipe ends the log, not the sync
    handler.set_name(HANDLER)
    form: LogFormat = log_format or ("console" if stream.isatty() else "json")
    handler.setFormatter(_formatter(form, stream))
    root = logging.getLogger()
    root.handlers[:] = [other for other in root.handlers if other.name != HANDLER] + [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    logging.getLogger("sync").setLevel(level)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_context(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    return form


def of_tenant(name: str) -> AbstractContextManager[object]:
    """Add `tenant` to the events of this thread; "", the only tenant, is not named."""
    return structlog.contextvars.bound_contextvars(tenant=name) if name else nullcontext()


def _context() -> list[Processor]:
    """Facts of every event, ours or a library's."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%SZ", utc=True, key="at"),
    ]


def _formatter(log_format: LogFormat, stream: TextIO) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, _without_traceback, *_context()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _scrub,
            _ordered,
            _console(stream) if log_format == "console" else _json(),
        ],
    )


def _without_traceback(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Log a library's exception on one line; with its traceback at LOG_LEVEL=DEBUG."""
    raised = event.get("exc_info")
    if isinstance(raised, tuple) and raised[1] is not None:
        event["error"] = f"{type(raised[1]).__name__}: {raised[1]}"
        if not logging.getLogger("sync").isEnabledFor(logging.DEBUG):
            del event["exc_info"]
    return event


def _json() -> Processor:
    return structlog.processors.JSONRenderer(separators=(",", ":"), ensure_ascii=False)


def _console(stream: TextIO) -> Processor:
    """Render tracebacks as plain text: the rich ones print local variables, which may hold secrets."""
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty() and "NO_COLOR" not in os.environ,
        timestamp_key="at",
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _ordered(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put time, level, event and place first; the facts follow in their order."""
    first = [key for key in ("at", "level", "event", "tenant", "run", "store_view") if key in event]
    return {key: event[key] for key in [*first, *event]}


# --- escaping ----------------------------------------------------------------------------------


def _scrub(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask secrets and tokens, and escape unprintable characters."""
    return {
        key: value if key in ("at", "level") else _scrubbed(value, multiline=key == "exception")
        for key, value in event.items()
    }


def _scrubbed(value: Any, *, multiline: bool = False) -> Any:
    """Return numbers unchanged, lists and mappings with scrubbed parts, anything else as scrubbed text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_scrubbed(str(key)): _scrubbed(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_scrubbed(part) for part in value]
    text = redacted(str(value))
    return "\n".join(map(printable, text.split("\n"))) if multiline else printable(text)


def printable(text: str) -> str:
    r"""Escape characters that a terminal would interpret or not show.

    >>> printable("red\x1b[31m\n")
    'red\\x1b[31m\\n'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
