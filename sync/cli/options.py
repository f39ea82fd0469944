"""The typer application, options that several commands have, and the settings in force."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from sync.cli import console
from sync.cli.tenants import load
from sync.errors import SettingsError

if TYPE_CHECKING:
    from sync.settings import Settings

MAX_ID: Final = 2**63 - 1  # of a BIGINT

app = typer.Typer(
    name="product-sync",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
db = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The copy's schema.")
app.add_typer(db, name="db")

StoreView = Annotated[str | None, typer.Option(metavar="CODE", help="This store view only.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and report; write nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Executor = Annotated[
    Literal["local", "celery"],
    typer.Option(
        help="What reads: this process, or the workers at CELERY_BROKER_URL (`product-sync worker`)."
    ),
]
MetricsFile = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Write metrics to this file, for node-exporter's textfile collector."),
]


_warned: set[str] = set()  # warnings already logged


def settings_in_force() -> Settings:
    """The settings in force; also configures the log. Raises SettingsError."""
    from sync.settings import Settings

    return _in_force(load(Settings))


def copy_settings() -> Settings:
    """The same for a command that only reads the copy and needs no tenant's credentials."""
    from sync.settings import CopySettings

    return _in_force(load(CopySettings))


def usable_settings(faults: Iterable[str]) -> Settings:
    """The settings with the faulty ones left blank, for display. Raises SettingsError."""
    from sync.settings import CopySettings

    return load(CopySettings, without={name.lower() for name in faults})


def _in_force(settings: Settings) -> Settings:
    configure_logs(settings)
    return settings


def configure_logs(settings: Settings, also: Iterable[Settings | SettingsError] = ()) -> None:
    """Configure the log by these settings.

    also    more settings whose secrets must not be logged
    """
    import structlog

    from sync import logs
    from sync.logs.redaction import hide

    form = logs.configure(settings.log_format, settings.log_level, secrets=settings.secrets)
    console.speak_as(form)
    log = structlog.stdlib.get_logger("sync")
    for each in (settings, *also):
        if not isinstance(each, SettingsError):
            hide(each.secrets)
            for warning in each.exposed_files:
                if warning not in _warned:
                    log.warning("secret_file.exposed", reason=warning)
                    _warned.add(warning)
