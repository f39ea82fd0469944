"""The log: its form on a terminal and in a pipe, and what never gets into it."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import structlog

from sync import logs

log = structlog.get_logger("sync.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _leave_no_trace() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def pipe() -> io.StringIO:
    """A stream that is no terminal, with the log going to it."""
    stream = io.StringIO()
    logs.configure(None, "INFO", secrets=["hunter2/x", "no"], stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_pipe_gets_one_json_object_a_line(pipe: io.StringIO) -> None:
    log.info("page.written", inserted=4, seconds=7.5, price=Decimal("9.90"), skus=["a", "b"])
    log.info("run.finished")

    first, second = lines(pipe)
    assert first.pop("at").endswith("Z")
    assert first == {
        "level": "info",
        "event": "page.written",
        "inserted": 4,
        "seconds": 7.5,
        "price": "9.90",
        "skus": ["a", "b"],
    }
    assert second["event"] == "run.finished"


def test_time_level_event_and_run_come_first(pipe: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(store_view="fr", run=41):
        log.warning("request.retried", attempt=2)

    (line,) = lines(pipe)
    assert [*line] == ["at", "level", "event", "run", "store_view", "attempt"]
    assert (line["run"], line["store_view"]) == (41, "fr")


def test_a_terminal_gets_colours_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    colourful, plain = Terminal(), Terminal()

    logs.configure(None, "INFO", stream=colourful)
    log.info("run.finished", inserted=4)
    monkeypatch.setenv("NO_COLOR", "1")
    logs.configure(None, "INFO", stream=plain)
    log.info("run.finished", inserted=4)

    assert "\x1b[" in colourful.getvalue()
    assert plain.getvalue().rstrip().endswith("run.finished                   inserted=4")


def test_the_format_can_be_chosen_against_the_stream() -> None:
    terminal = Terminal()

    logs.configure("json", "INFO", stream=terminal)
    log.info("run.finished")

    assert lines(terminal)[0]["event"] == "run.finished"


def test_setting_the_log_up_again_replaces_the_first_set_up(pipe: io.StringIO) -> None:
    logs.configure("json", "INFO", stream=pipe)

    log.info("run.finished")

    assert len(lines(pipe)) == 1


def test_libraries_are_heard_from_warning_on_in_the_same_form(pipe: io.StringIO) -> None:
    logging.getLogger("urllib3.pool").info("opening a connection")
    logging.getLogger("apscheduler").warning("job %s was missed", "run")

    (line,) = lines(pipe)
    assert (line["level"], line["event"], line["logger"]) == ("warning", "job run was missed", "apscheduler")


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_a_traceback_of_a_library_is_for_debugging(level: str) -> None:
    stream = io.StringIO()
    logs.configure("json", level, stream=stream)

    try:
        int("no number")
    except ValueError:
        logging.getLogger("celery.worker").critical("Unrecoverable error", exc_info=True)

    (line,) = lines(stream)
    assert (line["event"], line["error"]) == (
        "Unrecoverable error",
        "ValueError: invalid literal for int() with base 10: 'no number'",
    )
    assert ("Traceback" in stream.getvalue()) == (level == "DEBUG")


def test_the_level_holds_for_our_own_events() -> None:
    debug, error = io.StringIO(), io.StringIO()

    logs.configure("json", "DEBUG", stream=debug)
    log.debug("token.refreshed")
    logging.getLogger("urllib3").info("chatter")
    logs.configure("json", "ERROR", stream=error)
    log.warning("request.retried")
    logging.getLogger("urllib3").warning("chatter")

    assert [line["event"] for line in lines(debug)] == ["token.refreshed"]
    assert error.getvalue() == ""


def test_a_secret_is_masked_wherever_it_occurs(pipe: io.StringIO) -> None:
    log.info("got hunter2/x", url="https://h/?k=hunter2%2Fx", nested={"hunter2/x": ["hunter2/x", 1]})
    logging.getLogger("urllib3").warning("sent %s", "hunter2/x")
    try:
        int("hunter2/x")
    except ValueError as error:
        log.exception("run.failed", error=error)

    assert "hunter2" not in pipe.getvalue()
    assert lines(pipe)[0]["nested"] == {"***": ["***", 1]}
    assert lines(pipe)[2]["error"].endswith("with base 10: '***'")


def test_a_word_too_short_to_be_a_secret_is_left_alone(pipe: io.StringIO) -> None:
    log.info("nothing.changed")

    assert lines(pipe)[0]["event"] == "nothing.changed"


def test_tokens_are_masked_without_being_listed(pipe: io.StringIO) -> None:
    log.info("request.sent", header="Bearer abc.DEF-123", body="token eyJhbGciOi.eyJpc3MiOi.c2ln end")

    (line,) = lines(pipe)
    assert (line["header"], line["body"]) == ("Bearer ***", "token *** end")


def test_control_characters_cannot_steer_the_terminal_or_forge_a_line() -> None:
    terminal = Terminal()
    logs.configure("console", "INFO", stream=terminal)

    log.info("page.written", name="mug\x1b[2J\x07\nrun.finished \u202e", title="Müßiggang ☕")

    text = terminal.getvalue()
    assert text.count("\n") == 1
    assert "\x1b[2J" not in text
    assert "mug" in text
    assert "\u202e" not in text
    assert "Müßiggang ☕" in text


def test_a_traceback_keeps_its_lines_and_shows_no_variables() -> None:
    terminal = Terminal()
    logs.configure("console", "INFO", stream=terminal)

    try:
        local = "unlisted-value"
        int(f"x{len(local)}")
    except ValueError:
        log.exception("run.failed")

    assert "\nTraceback (most recent call last):\n" in terminal.getvalue()
    assert "'unlisted-value'" not in terminal.getvalue()


def test_a_reader_who_leaves_ends_the_log_but_not_the_program() -> None:
    """`product-sync run 2>&1 | head -1`: the pipe is closed before the first line."""
    program = "import structlog; from sync import logs; logs.configure('json', 'INFO')\n"
    program += (
        "for n in range(3): structlog.get_logger('sync').info('page.written', n=n)\nprint('finished')\n"
    )
    program += (
        "from sync.cli.console import flush_streams; flush_streams()"  # as every command does at its end
    )
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, check=False)
    os.close(writer)

    assert (done.returncode, done.stdout) == (0, b"finished\n")
