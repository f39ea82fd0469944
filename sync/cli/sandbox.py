"""The commands that need no account: a simulated tenant, and a demonstration with it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated, Any

import typer

from sync.cli.console import emit
from sync.cli.options import app
from sync.errors import SyncError, UsageError

DEFAULT_PORT = 8330


group = typer.Typer(
    invoke_without_command=True, rich_markup_mode=None, help="Serve a simulated tenant, or edit one."
)
app.add_typer(group, name="sandbox")
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Where the sandbox listens.")]
Sku = Annotated[str, typer.Argument(metavar="SKU")]
Name = Annotated[str | None, typer.Option(metavar="TEXT", help="Its name.")]
Price = Annotated[float | None, typer.Option(min=0, help="Its price.")]


@group.callback(short_help="Serve a simulated tenant, or edit one.")
def sandbox(
    context: typer.Context,
    *,
    products: Annotated[int, typer.Option(min=0, help="Number of products.")] = 1000,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 chooses a free port.")] = DEFAULT_PORT,
    store_views: Annotated[str, typer.Option(help="Codes, separated by commas.")] = "default",
    sources: Annotated[str, typer.Option(help="Stock source codes, separated by commas.")] = "default",
    token_life: Annotated[int, typer.Option(min=1, help="Lifetime of an access token in seconds.")] = 86_399,
    latency: Annotated[float, typer.Option(min=0, help="Seconds added to every answer.")] = 0.0,
) -> None:
    """Serve a simulated tenant with generated products, and print the settings for it.

    For experiments and tests; Ctrl-C stops it. Put the settings into a file `.env` in an empty folder. With a
    subcommand, edit the sandbox that runs at --port instead.

    \b
      product-sync sandbox                               a tenant, in a terminal of its own
      product-sync backfill                              its copy
      product-sync sandbox edit TP0000001 --price 9.5    an edit, which the next `run` reads

    Exit status: 0, 64 if the port cannot be used.
    """
    if context.invoked_subcommand is not None:
        return
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


@group.command()
def edit(sku: Sku, *, name: Name = None, price: Price = None, port: Port = DEFAULT_PORT) -> None:
    """Edit a product of the running sandbox.

    Exit status: 0, 64 no such product or nothing to edit, 69 no sandbox there.
    """
    fields = {name: value for name, value in (("name", name), ("price", price)) if value is not None}
    if not fields:
        raise UsageError("there is nothing to edit.", "add --name or --price.")
    _edit(port, "edit", product_id=_id_of(port, sku), **fields)
    emit(f"Product {sku} is edited. Next: product-sync run")


@group.command()
def delete(sku: Sku, *, port: Port = DEFAULT_PORT) -> None:
    """Delete a product of the running sandbox.

    Exit status: 0, 64 no such product, 69 no sandbox there.
    """
    _edit(port, "delete", product_id=_id_of(port, sku))
    emit(f"Product {sku} is deleted. Next: product-sync run")


@group.command()
def add(*, name: Name = None, price: Price = None, port: Port = DEFAULT_PORT) -> None:
    """Add a product to the running sandbox.

    Exit status: 0, 69 no sandbox there.
    """
    fields = {name: value for name, value in (("name", name), ("price", price)) if value is not None}
    sku = _edit(port, "sku", product_id=_edit(port, "add", **fields))
    emit(f"Product {sku} is added. Next: product-sync run")


def _id_of(port: int, sku: str) -> int:
    found = _edit(port, "ids_with_sku", sku=sku)
    if not found:
        raise UsageError(
            f"the sandbox has no product {sku}.", "`product-sync export -` lists the copy's SKUs."
        )
    return int(found[0])


def _edit(port: int, edit: str, **arguments: Any) -> Any:
    from sync.sandbox import remote

    try:
        return remote.call(port, edit, **arguments)
    except remote.Refused as error:
        raise UsageError(f"the sandbox at port {port} refuses this: {error}.") from None
    except OSError:
        raise SandboxUnavailable(f"no sandbox answers at port {port} of this machine.") from None


class SandboxUnavailable(SyncError):
    """No sandbox listens there."""

    exit_code = 69
    fix = "start `product-sync sandbox`, or name its --port."


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
