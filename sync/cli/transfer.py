"""The command that copies the whole copy into another database."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from sync.cli.console import emit, stoppable
from sync.cli.options import copy_settings, db
from sync.cli.tenants import for_tenants
from sync.cli.urls import given_url

if TYPE_CHECKING:
    from sync.db.transfer import OnRows


@db.command()
@for_tenants(one_by_one=False)
def copy(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="An empty database; - reads the URL from standard input.")
    ],
) -> None:
    """Copy everything into another, empty database, and compare the two row by row.

    The change feed, watermarks, unfinished loads and positions of webhooks come along, so passes and readers
    of the feed continue there. Stop the daemon first; afterwards set DATABASE_URL to the new URL.

    The source is not changed, and nobody can write to it meanwhile. After an interruption the other database
    is not usable; the same command starts over. Give a URL that has a password on standard input, because
    other users of this machine can read the arguments of a command.

    \b
      product-sync db copy sqlite:///backup.db
      product-sync db copy - < new-url.txt            the URL is the file's first line
      echo "$NEW_DATABASE_URL" | product-sync db copy -

    Exit status: 0, 64 a URL that cannot be used, 69 database out of reach, or rows that differ afterwards, 75
    busy, 78 settings, or a database that is not empty, 130 interrupted.
    """
    from pydantic import SecretStr

    from sync.app import copy_of, other_database
    from sync.db.transfer import transfer
    from sync.model import counted
    from sync.passes import lease_holder
    from sync.settings.parsers import mask_url

    settings = copy_settings()
    url = given_url(url, "the other database")
    with stoppable() as stop, copy_of(settings) as source, other_database(url) as target, _bar() as on_rows:
        rows = transfer(source, target, lease_holder.describe("db copy"), lease_holder.is_dead, stop, on_rows)
    total, place = counted(sum(rows.values()), "row"), mask_url(SecretStr(url))
    emit(f"{total} copied to {place} and compared: no difference.")
    emit(f"{counted(rows['products'], 'product')}, {counted(rows['product_changes'], 'change')}.")
    emit("Next: set DATABASE_URL to the new URL, then start the daemon.")


@contextmanager
def _bar() -> Iterator[OnRows]:
    """A progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from sync.hooks.progress import rows_bar

    with rows_bar("copy and compare") as on_rows:
        yield on_rows
