"""`--tenants FILE` and `--tenant NAME`: a command for one tenant of a file, or for each of them in turn.

    @app.command()
    @for_tenants()
    def prices(...) -> None: ...       gets its settings from `load`, with or without a file

A command that runs for each tenant continues after a failure, and exits with the worst exit code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sync.cli.console import BUG, INTERRUPTED, USAGE, outcome, speaking_of
from sync.errors import UsageError

if TYPE_CHECKING:
    from sync.settings import AnySettings
    from sync.settings.tenants import Tenants

TenantsFile = Annotated[
    Path | None,
    typer.Option("--tenants", metavar="FILE", help="Many tenants: a TOML file with the settings of each."),
]
TenantName = Annotated[
    str | None,
    typer.Option("--tenant", metavar="NAME", help="Only this tenant of FILE, instead of each in turn."),
]
Command = Callable[..., None]
# From the best to the worst: done, in part, busy, out of reach, refused, settings, usage, a bug, stopped.
WORSE_AND_WORSE: Final = (0, 1, 75, 69, 77, 78, USAGE, BUG, INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tenant of a file for which a command runs."""

    tenants: Tenants
    name: str


_chosen: ContextVar[Chosen | None] = ContextVar("chosen", default=None)


def chosen() -> Chosen | None:
    """The tenant for which the command runs now; None without a file."""
    return _chosen.get()


def load(kind: type[AnySettings], *, without: Iterable[str] = ()) -> AnySettings:
    """The settings of that tenant, or of the only one. Raises SettingsError.

    without    fields to leave blank, whatever their value is
    """
    it, blank = chosen(), dict.fromkeys(without, "")
    return kind.load(blank) if it is None else it.tenants.settings_as(kind, it.name, blank)


def named(facts: dict[str, Any]) -> dict[str, Any]:
    """A JSON object, with the tenant's name if there is a file."""
    it = chosen()
    return facts if it is None else {"tenant": it.name, **facts}


def for_tenants(*, one_by_one: bool = True, together: Command | None = None) -> Callable[[Command], Command]:
    """Give a command the two options.

    one_by_one    without --tenant, run it for each in turn; False: then --tenant must be given
    together      called once with the file and the command's options, instead of the command for each
    """

    def give(command: Command) -> Command:
        @wraps(command)
        def with_tenants(
            *arguments: Any, tenants: Path | None = None, tenant: str | None = None, **options: Any
        ) -> None:
            file = _opened(tenants, tenant)
            if file is None:
                command(*arguments, **options)
            elif tenant is not None:
                with _choosing(Chosen(file, tenant)):
                    command(*arguments, **options)
            elif together is not None:
                together(file, *arguments, **options)
            elif one_by_one:
                raise typer.Exit(worst(_each(file, lambda: command(*arguments, **options))))
            else:
                raise UsageError(
                    "this command runs for one tenant at a time.", f"add --tenant {file.names[0]}."
                )

        _add_options(with_tenants, command)
        return with_tenants

    return give


def _opened(path: Path | None, tenant: str | None) -> Tenants | None:
    """Load the file and check that it has this tenant. Raises UsageError, and SettingsError for the file."""
    if path is None:
        if tenant is not None:
            raise UsageError(f"--tenant {tenant} needs a file of tenants.", "add --tenants FILE.")
        return None
    from sync.settings.tenants import load as load_file

    file = load_file(path)
    if tenant is not None:
        file.given_of(tenant)
    return file


def _each(file: Tenants, command: Callable[[], None]) -> Iterator[int]:
    """Run the command for each tenant and yield the exit codes; an interruption ends all."""
    for name in file.names:
        with _choosing(Chosen(file, name)), speaking_of(name):
            code = outcome(command)
        yield code
        if code == INTERRUPTED:
            return


def worst(codes: Iterable[int]) -> int:
    """
    >>> worst([0, 69, 1]), worst([75, 69]), worst([0, 0])
    (69, 69, 0)
    """
    return max(codes, key=WORSE_AND_WORSE.index)


@contextmanager
def _choosing(it: Chosen) -> Iterator[None]:
    from sync import logs

    token = _chosen.set(it)
    try:
        with logs.of_tenant(it.name):
            yield
    finally:
        _chosen.reset(token)


def _add_options(wrapper: Any, command: Command) -> None:
    """Show typer the command's parameters and the two added ones."""
    more = {"tenants": TenantsFile, "tenant": TenantName}
    signature = inspect.signature(command, eval_str=True)  # typer does not evaluate a given signature
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in more.items()
    ]
    wrapper.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *parameters])
    wrapper.__annotations__ = {**command.__annotations__, **more}
