"""Without an account: a simulated tenant, and the whole story told with it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated

import typer

from sync.cli.options import app
from sync.errors import UsageError


@app.command(short_help="Serve a simulated tenant.")
def sandbox(
    *,
    products: Annotated[int, typer.Option(min=0, help="How many products it has.")] = 1000,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes any free one.")] = 8330,
    store_views: Annotated[str, typer.Option(help="Codes, separated by commas.")] = "default",
    sources: Annotated[str, typer.Option(help="Of stock: codes, separated by commas.")] = "default",
    token_life: Annotated[int, typer.Option(min=1, help="Seconds an access token lives.")] = 86_399,
    latency: Annotated[float, typer.Option(min=0, help="Seconds added to every answer.")] = 0.0,
) -> None:
    """Serve a simulated tenant with made-up products, and print the settings that lead there.

    For trying things out and for tests; ends with Ctrl-C.

    \b
      product-sync sandbox > .env &    a tenant, and the settings for it
      product-sync backfill            its copy

    Exit status: 0, 64 when the port cannot be listened on.
    """
    from sync.sandbox import serve

    try:
        serve(
            products,
            port,
            store_views=store_views.split(","),
            token_life=token_life,
            latency=latency,
            sources=sources.split(","),
        )
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise UsageError(
            f"--port {port} cannot be listened on: {error.strerror}.", "name another one, or 0 for any."
        ) from None


@app.command(short_help="Tell the whole story, no account needed.")
def demo(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to keep the copy; default: a temporary one.")
    ] = None,
) -> None:
    """Tell the whole story without an Adobe account: load, edit, delete, run, and look at it.

    Exit status: 0 when the copy came out right.
    """
    from sync.cli import main
    from sync.cli.demo import play

    raise typer.Exit(play(main, folder))
