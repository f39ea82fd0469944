"""The commands for files, flat SQL views, `adopt` and the schema."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from sync.cli.console import complain, emit, end_quietly, silence, stoppable
from sync.cli.options import StoreView, app, copy_settings, db, settings_in_force
from sync.cli.tenants import for_tenants
from sync.errors import UsageError

if TYPE_CHECKING:
    import sqlalchemy as sa


@app.command(short_help="Write products to a file.")
@for_tenants(one_by_one=False)
def export(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, or - for standard output.")],
    *,
    store_view: StoreView = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Columns of products and attribute codes.")
    ] = None,
    sku: Annotated[
        list[str] | None, typer.Option(metavar="SKU", help="Only this product; repeatable.")
    ] = None,
    type_id: Annotated[
        list[str] | None, typer.Option("--type", metavar="T", help="Only this type; repeatable.")
    ] = None,
    changed_since: Annotated[
        str | None, typer.Option(metavar="T", help="Only products changed in the copy since a time, or 24h.")
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Option labels instead of ids.")] = False,
    form: Annotated[
        str | None, typer.Option("--format", metavar="F", help="parquet, csv or jsonl, for any suffix.")
    ] = None,
    escape_formulas: Annotated[
        bool, typer.Option("--escape-formulas", help="CSV: put ' before texts that spreadsheets would run.")
    ] = False,
) -> None:
    """Write the live products of the copy to a file: .parquet, .csv or .jsonl by its suffix; .csv.gz and
    .jsonl.gz are compressed.

    The export is a consistent snapshot, even while a pass writes. The file appears when it is complete; a
    failure keeps the former file. Its permissions are at most those of the SQLite file; for a copy on a
    server, only the owner can read it. Write to - for other permissions. A symbolic link is refused.

    Without --columns, the file has every column of the table products; with --columns, the store view comes
    first unless --store-view chooses one. If a column and an attribute have the same name, NAME is the column
    and attribute:NAME the attribute. Attributes have the types of Commerce; a value of another type becomes
    null. With --labels, an attribute with options is text. In JSON lines, `document` is an object.

    A text that begins with = + - @, a tab or a carriage return is a formula for a spreadsheet. CSV files have
    it unchanged, and a warning says how many there are; --escape-formulas puts an apostrophe before each.

    \b
      product-sync export products.parquet
      product-sync export bags.csv --store-view fr --columns sku,name,price,color --labels
      product-sync export - --changed-since 24h | jq .sku        JSON lines

    Exit status: 0, 64 usage or no such product, type or store view, 69 database out of reach, no copy yet or
    no space for the file, 78 settings, 130 interrupted.
    """
    from sync.app import copy_of
    from sync.db.dialects import utc_now
    from sync.db.engine import reading
    from sync.db.export import Selection, ensure_found
    from sync.files.export import Formulas, compressed, format_of, parse_since, writer_for
    from sync.files.export import export as write_rows
    from sync.model import counted

    form = format_of(path, form)
    with copy_of(copy_settings()) as engine, stoppable() as stop:
        since = None if changed_since is None else parse_since(changed_since, reading(engine, utc_now))
        _say_ambiguous(engine, columns)
        selection = Selection(store_view, sku or (), type_id or (), since)
        for name in reading(engine, lambda connection: ensure_found(connection, selection)):
            complain(f"product-sync: the copy has no {name}.")
        formulas = Formulas(escape_formulas)
        with _output(path, engine) as file, compressed(file, path) as stream:
            writer = partial(writer_for, form, stream, formulas=formulas)
            count = write_rows(engine, writer, columns, selection, labels=labels, stop=stop)
    if formulas.found and not escape_formulas:
        complain(
            f"product-sync: {counted(formulas.found, 'value')} may run as a formula in a spreadsheet; "
            "--escape-formulas puts an apostrophe before such values."
        )
    complain(f"product-sync: {counted(count, 'row')} written to {path}.")


def _say_ambiguous(engine: sa.Engine, columns: str | None) -> None:
    """Report requested names that mean a column although an attribute has the same name."""
    from sync.db.engine import reading
    from sync.db.flat import ATTRIBUTE, ambiguous, split_names

    names = [] if columns is None else split_names(columns)
    for name in reading(engine, lambda connection: ambiguous(connection, names)):
        complain(
            f"product-sync: {name} means the column of the table products. For the attribute of that name,"
            f" write {ATTRIBUTE}{name}."
        )


@contextmanager
def _output(path: str, engine: sa.Engine) -> Iterator[BinaryIO]:
    """The file to write, or standard output."""
    from sync.files.export import most_permissions, not_written, output_file

    if path != "-":
        with output_file(Path(path), most_permissions(engine, Path(path).parent)) as file:
            yield file
        return
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        end_quietly()
    except OSError as error:
        silence(sys.stdout)
        raise not_written("standard output", error) from error


@app.command(short_help="Create a flat SQL view of attributes.")
@for_tenants()
def view(
    *,
    name: Annotated[str, typer.Option(metavar="V", help="The name of the view.")],
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Columns of products and attribute codes.")
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the view instead.")] = False,
) -> None:
    """Create or replace a flat SQL view: a row per product and store view, a typed column per name.

    Options appear as labels, or as ids while the copy has no labels. A value that a store view lacks is taken
    from `all`; a value of the wrong type ("abc" for a decimal) becomes null. store_view and product_id are
    always included. If a column and an attribute have the same name, NAME is the column and attribute:NAME
    the attribute.

    \b
      product-sync view --name bags --columns sku,name,price,color,size
      product-sync view --name bags --drop

    Exit status: 0, 64 usage, 69 database out of reach or no copy yet, 78 settings.
    """
    from sync.app import copy_of
    from sync.db import views
    from sync.db.engine import in_transaction
    from sync.db.flat import split_names

    if drop == (columns is not None):
        raise UsageError("a view needs either --columns or --drop.", "see `product-sync view --help`.")
    with copy_of(copy_settings()) as engine:
        if columns is None:
            in_transaction(engine, lambda tx: views.drop(tx, name))
            emit(f"View {name} is gone.")
            return
        names = split_names(columns)
        _say_ambiguous(engine, columns)
        made = in_transaction(engine, lambda tx: views.create(tx, name, names))
    emit(f"View {made} is ready. Try:\n  SELECT * FROM {made} WHERE store_view = 'all' LIMIT 10;")


# --- the tenant of a copy --------------------------------------------------------------------


@app.command(short_help="Assign a copy to this tenant.")
@for_tenants(one_by_one=False)
def adopt() -> None:
    """Assign the copy at DATABASE_URL to the tenant at API_ENDPOINT.

    For a copy that other commands refuse because it belongs to another tenant. Changes no product: the next
    `run` or `reconcile` reads the whole catalogue and writes what differs. If more products are missing than
    SYNC_MAX_DELETE_FRACTION allows, deletions need --allow-mass-delete.

    \b
      product-sync adopt
      product-sync reconcile --allow-mass-delete

    Exit status: 0, 69 database out of reach, 75 busy, 78 settings.
    """
    from sync.app import writable_copy
    from sync.db import tenant
    from sync.db.engine import reading
    from sync.passes import lease_holder, tenant_check
    from sync.settings.parsers import tenant_name

    settings = settings_in_force()
    name = tenant_name(settings.api_endpoint)
    engine = writable_copy(settings)
    try:
        known_as = reading(engine, tenant.name)
        if known_as == name:
            emit(f"This is the copy of {name} already.")
            return
        tenant_check.adopt(engine, name, lease_holder.describe("adopt"), lease_holder.is_dead)
    finally:
        engine.dispose()
    emit(f"This is the copy of {name} now{f'; it was that of {known_as}' if known_as else ''}.")
    emit("Next: product-sync reconcile, which reads the whole catalogue.")


# --- the schema ------------------------------------------------------------------------------


@db.command()
@for_tenants()
def upgrade() -> None:
    """Upgrade the database to the newest schema; commands that write do this automatically.

    Exit status: 0, 69 database out of reach, 78 settings, or a database written by a newer version.
    """
    from sync.app import writable_copy
    from sync.db.engine import newest_revision

    writable_copy(copy_settings()).dispose()
    emit(f"The database is at revision {newest_revision()}, the newest.")


@db.command()
@for_tenants()
def current() -> None:
    """Print the schema revision of the database.

    Exit status: 0, 69 database out of reach, 78 settings.
    """
    from sync.app import revision_of
    from sync.db.engine import newest_revision

    revision, newest = revision_of(copy_settings()), newest_revision()
    emit(f"{revision or 'empty'}, {'the newest' if revision == newest else f'the newest is {newest}'}")
