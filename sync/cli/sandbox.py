"""The commands that need no account: a simulated tenant, and a demonstration with it."""

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
    products: Annotated[int, typer.Option(min=0, help="Number of products.")] = 1000,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 chooses a free port.")] = 8330,
    store_views: Annotated[str, typer.Option(help="Codes, separated by commas.")] = "default",
    sources: Annotated[str, typer.Option(help="Stock source codes, separated by commas.")] = "default",
    token_life: Annotated[int, typer.Option(min=1, help="Lifetime of an access token in seconds.")] = 86_399,
    latency: Annotated[float, typer.Option(min=0, help="Seconds added to every answer.")] = 0.0,
) -> None:
    """Serve a simulated tenant with generated products, and print the settings for it.

    For experiments and tests; Ctrl-C stops it.

    \b
      product-sync sandbox > .env &    a tenant, and the settings for it
      product-sync backfill            its copy

    Exit status: 0, 64 if the port cannot be used.
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
            f"--port {port} cannot be used: {error.strerror}.", "choose another port, or 0 for any free one."
        ) from None


@app.command(short_help="Run a demonstration; no account needed.")
def demo(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to keep the copy; default: a temporary one.")
    ] = None,
) -> None:
    """Demonstrate load, edit, delete, run and inspection without an Adobe account.

    Exit status: 0 if the copy is correct.
    """
    from sync.cli import main
    from sync.cli.demo import play

    raise typer.Exit(play(main, folder))
