"""The commands that inspect the settings and the copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync.cli.console import complain, emit, print_out, stoppable
from sync.cli.options import (
    MAX_ID,
    AsJson,
    StoreView,
    app,
    configure_logs,
    copy_settings,
    settings_in_force,
    usable_settings,
)
from sync.cli.tenants import for_tenants, named, worst
from sync.errors import SettingsError, SyncError, UsageError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sync.cli.checks import Finding
    from sync.cli.text import Status
    from sync.settings import Settings
    from sync.settings.tenants import Tenants


@app.command(short_help="Test everything that a sync needs.")
@for_tenants()
def check(*, as_json: AsJson = False) -> None:
    """Test everything a sync needs: settings, token, API, store views, the permission that each command
    needs, clock, database, and the tenant of the copy.

    Prints a line for each test, with a remedy after each failure. A permission that only `prices`, `stock` or
    `reference` needs is a warning if it is missing. Writes nothing.

    \b
      product-sync check           a line for each test
      product-sync check --json    {"status", "exit_code", "checks": [{"name", "status", "words", "fix"}]};
                                   each status is ok, warning, failed or skipped

    Exit status: 0 nothing failed, else that of the first failure: 69 out of reach, 77 refused, 78 settings.
    """
    from sync.cli import checks, text

    findings = []
    with stoppable() as stop:
        for finding in _findings(stop):
            findings.append(finding)
            if not as_json:
                emit(str(finding))
    if as_json:
        print_out(text.json_line(named(checks.report(findings))))
    raise typer.Exit(checks.exit_code(findings))


def _findings(stop: Event) -> Iterator[Finding]:
    from sync.cli.checks import check, failure

    try:
        settings = settings_in_force()
    except SettingsError as error:
        yield failure("settings", error)
    else:
        yield from check(settings, stop)


@app.command(short_help="Print the settings in force.")
@for_tenants()
def config() -> None:
    """Print the settings in force and the source of each; secrets are masked.

    A setting that is wrong or missing is marked, in the column "wrong"; the others are shown all the same.

    Exit status: 0, or 78 if one is wrong.
    """
    from sync.cli.text import table
    from sync.settings import describe, unknown_variables

    try:
        settings = settings_in_force()
    except SettingsError as error:
        if error.faults:
            rows = describe(usable_settings(error.faults), error.faults)
            marked = [(*row[:3], error.faults.get(row.name, "")) for row in rows]
            emit(table([("setting", "value", "from", "wrong"), *marked]))
        raise
    emit(table([("setting", "value", "from"), *describe(settings)]))
    for hint in unknown_variables():
        complain(f"product-sync: {hint}")


def _status_of_all(file: Tenants, *, runs: int, as_json: bool) -> None:
    from sync.cli import text
    from sync.settings import CopySettings

    found: dict[str, text.Status | SyncError] = {}
    for name in file.names:
        try:
            settings = file.settings_as(CopySettings, name)
            configure_logs(settings)
            found[name] = _status(settings, runs)
        except SyncError as error:
            found[name] = error
    emit(text.statuses_json(found) if as_json else text.statuses_report(found))
    raise typer.Exit(worst(it.exit_code if isinstance(it, SyncError) else 0 for it in found.values()))


@app.command(short_help="Print the state of the copy.")
@for_tenants(together=_status_of_all)
def status(
    *,
    runs: Annotated[int, typer.Option(min=1, max=MAX_ID, help="How many runs to list.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Print the size and freshness of the copy, the last runs, and the process that is writing.

    \b
      product-sync status                           one tenant
      product-sync status --tenants tenants.toml    a line for each; with --json, an object by name

    Exit status: 0, 69 database out of reach or no copy yet, 78 settings.
    """
    from sync.cli import text

    found = _status(copy_settings(), runs)
    emit(text.status_json(found) if as_json else text.status_report(found))


def _status(settings: Settings, runs: int) -> Status:
    from sync.app import copy_of, freshness_policy
    from sync.cli import text
    from sync.db import leases, overview, tenant
    from sync.db.engine import reading
    from sync.db.health import freshness
    from sync.db.rejected import ALTERED, NOT_COPIED, count_open
    from sync.db.runs import recent
    from sync.monitor.freshness import problems
    from sync.monitor.outlook import outlook, status_words

    with copy_of(settings) as engine:
        found = reading(engine, freshness)
        not_fresh = problems(freshness_policy(settings), found)
        return text.Status(
            store_views=reading(engine, overview.store_views),
            feeds=reading(engine, overview.feeds),
            runs=[row._asdict() for row in reading(engine, lambda connection: recent(connection, runs))],
            open_rejections=sum(reading(engine, partial(count_open, kinds=NOT_COPIED)).values()),
            altered=sum(reading(engine, partial(count_open, kinds=ALTERED)).values()),
            lease=leases.holder(engine),
            copy_of=reading(engine, tenant.name),
            problems=[problem.reason for problem in not_fresh],
            changes=reading(engine, overview.changes_kept),
            **outlook(found),
            words=status_words(found),
        )


@app.command(short_help="Print one product from the copy.")
@for_tenants(one_by_one=False)
def show(
    sku: Annotated[str, typer.Argument(metavar="SKU")],
    *,
    store_view: StoreView = None,
    history: Annotated[bool, typer.Option("--history", help="Print its changes, oldest first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print one product from the copy in each store view; a deleted one in its last state.

    Store views that left come last and are marked as not current.

    \b
      product-sync show BAG-1                    its columns and child rows
      product-sync show BAG-1 --history          what changed, with old and new values
      product-sync show BAG-1 --json             one JSON object a line, the document included

    Exit status: 0, 64 no such product, 69 database out of reach or no copy yet, 78 settings.
    """
    from sync.app import copy_of
    from sync.db import current_views, products
    from sync.db.engine import reading

    with copy_of(copy_settings()) as engine:
        found = reading(engine, lambda connection: products.find(connection, sku, store_view))
        left = reading(engine, current_views.left)
        if not found:
            _ensure_store_view(engine, store_view)
            raise UsageError(
                f"the copy has no product {sku}.", "check the SKU; `product-sync status` counts products."
            )
        for row in sorted(found, key=lambda row: row.store_view in left):
            product = row._asdict() | {"left": left.get(row.store_view)}
            emit(_shown(engine, product, history=history, as_json=as_json))


def _ensure_store_view(engine: sa.Engine, store_view: str | None) -> None:
    """Raise UsageError for a store view of which the copy has nothing."""
    from sync.db import overview
    from sync.db.engine import reading

    known = [view.store_view for view in reading(engine, overview.store_views)]
    if store_view is not None and store_view not in known:
        raise UsageError(
            f"the copy has no store view {store_view}.", f"name one of: {', '.join(known) or 'none yet'}."
        )


def _shown(engine: sa.Engine, product: Mapping[str, Any], *, history: bool, as_json: bool) -> str:
    """Format one product for `show`."""
    from sync.cli import text
    from sync.db import changes, products
    from sync.db.engine import reading

    key = product["store_view"], product["product_id"]

    def entries() -> list[dict[str, Any]]:
        return [row._asdict() for row in reading(engine, lambda c: changes.history(c, *key))]

    if history and not as_json:
        return f"{text.title(product)}\n{text.history(entries())}"
    children = reading(engine, lambda c: products.children_of(c, *key))
    if as_json:
        document = reading(engine, lambda c: products.document_of(c, *key))
        return text.product_json(product, document, children, entries() if history else None)
    return text.product_card(product, children)
