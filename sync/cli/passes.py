"""The commands that run a pass."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync import __version__
from sync.cli.console import BUG, complain, emit, print_out, stoppable
from sync.cli.options import (
    MAX_ID,
    AsJson,
    DryRun,
    Executor,
    MetricsFile,
    StoreView,
    app,
    configure_logs,
    settings_in_force,
)
from sync.cli.tenants import chosen, for_tenants, named
from sync.errors import SyncError, UnknownStoreViews, UsageError

if TYPE_CHECKING:
    from sync.app import App
    from sync.hooks.metrics import MetricsHook
    from sync.metrics import Metrics
    from sync.passes.run import Summary, Sync, Watch
    from sync.passes.workers import Queue

STOPPING = "product-sync: Stopping after the current page; press Ctrl-C again to quit now."


@app.command(short_help="Load the whole catalogue.")
@for_tenants()
def backfill(
    *,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start from the beginning instead of continuing.")
    ] = False,
    store_view: StoreView = None,
    first_id: Annotated[int, typer.Option(min=1, max=MAX_ID, help="Lowest product id to load.")] = 1,
    last_id: Annotated[
        int | None, typer.Option(min=1, max=MAX_ID, help="Highest product id to load.")
    ] = None,
    executor: Executor = "local",
    dry_run: DryRun = False,
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Load the whole catalogue, or continue an interrupted load.

    Products that are already in the copy and unchanged are not written again.

    \b
      product-sync backfill                    everything, or the rest of it
      product-sync backfill --store-view fr    one store view only
      product-sync backfill --restart          everything, from the beginning
      product-sync backfill --executor celery  with workers; started again after an interruption, it continues

    Exit status: 0 loaded, 1 some products rejected, 69 out of reach, 75 busy, 77 refused, 78 settings, 130
    interrupted.
    """
    from sync.model import Interval
    from sync.passes import backfill as passes

    if last_id is not None and last_id < first_id:
        raise UsageError(f"--last-id {last_id} is lower than --first-id {first_id}.")
    interval = Interval(first_id - 1, last_id)

    def work(sync: Sync) -> Summary:
        return passes.backfill(sync, restart=restart, interval=interval)

    _run_pass(
        "backfill",
        work,
        store_view,
        dry=dry_run,
        as_json=as_json,
        metrics_file=metrics_file,
        executor=executor,
    )


@app.command(short_help="Read what changed and what was deleted.")
@for_tenants()
def run(
    *,
    sku: Annotated[
        list[str] | None, typer.Option(metavar="SKU", help="Only this product; repeatable.")
    ] = None,
    product_id: Annotated[
        list[int] | None,
        typer.Option("--id", min=1, max=MAX_ID, metavar="N", help="Only this product; repeatable."),
    ] = None,
    store_view: StoreView = None,
    dry_run: DryRun = False,
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Read what was changed and deleted since the last finished pass, write it, and exit.

    Safe to stop at any time: the next run resumes at the last committed page.

    \b
      product-sync run                     what the daemon does, once
      product-sync run --store-view fr     one store view only
      product-sync run --sku BAG-1         one product, whether it changed or not

    Exit status: 0 up to date, 1 some products rejected or deletions held back, 69 out of reach, 75 busy, 77
    refused, 78 settings, 130 interrupted; 64 if none of the products named was found.
    """
    from sync.passes.incremental import incremental, unloaded

    def work(sync: Sync) -> Summary:
        if sku or product_id:
            return _named(sync, product_id or [], sku or [])
        if views := unloaded(sync):
            complain(f"No load of {', '.join(views)} has finished yet: this run loads the catalogue.")
        return incremental(sync)

    _run_pass("run", work, store_view, dry=dry_run, as_json=as_json, metrics_file=metrics_file)


def _named(sync: Sync, ids: list[int], skus: list[str]) -> Summary:
    from sync.passes.incremental import targeted

    summary, unknown = targeted(sync, ids, skus)
    named = f"Product {unknown[0]} was" if len(unknown) == 1 else f"Products {', '.join(unknown)} were"
    message = f"{named} not found in Commerce or in the database."
    if unknown and len(unknown) == len({*map(str, ids), *(sku.strip() for sku in skus)}):
        raise UsageError(message, "check the SKU or the id, and STORE_VIEWS.")
    if unknown:
        complain(f"product-sync: {message}")
    return summary


@app.command(short_help="Make the copy equal to the catalogue.")
@for_tenants()
def reconcile(
    *,
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Accept that a large share was deleted.")
    ] = False,
    store_view: StoreView = None,
    executor: Executor = "local",
    dry_run: DryRun = False,
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Read the whole catalogue and make the copy equal to it, even for changes without a timestamp.

    Deletes nothing if more than SYNC_MAX_DELETE_FRACTION of the products would be deleted. After an
    interruption it starts from the beginning: only reading a product shows such a change.

    \b
      product-sync reconcile                        what the daemon does at night
      product-sync reconcile --dry-run              what it would do
      product-sync reconcile --allow-mass-delete    after a large deletion in Commerce

    Exit status: 0 equal, 1 some products rejected or deletions held back, 69 out of reach, 75 busy, 77
    refused, 78 settings, 130 interrupted.
    """
    from sync.passes import reconcile as passes

    def work(sync: Sync) -> Summary:
        return passes.reconcile(sync, allow_mass_delete=allow_mass_delete)

    _run_pass(
        "reconcile",
        work,
        store_view,
        dry=dry_run,
        as_json=as_json,
        metrics_file=metrics_file,
        executor=executor,
    )


@app.command(short_help="Report how the copy differs.")
@for_tenants()
def verify(*, store_view: StoreView = None, as_json: AsJson = False) -> None:
    """Read the whole catalogue and report how the copy differs; writes no product.

    \b
      product-sync verify           missing, extra and different products, with examples
      product-sync verify --json    the same, for a script

    Exit status: 0 equal, 1 a difference, 69 out of reach, 75 busy, 77 refused, 78 settings, 130 interrupted.
    """
    from sync.cli import text
    from sync.db import overview
    from sync.db.engine import reading
    from sync.passes import reconcile as passes

    with _live(given_views=_views(store_view)) as live:
        with _given(store_view), _watched(live) as watch:
            summary, drift = passes.verify(live.sync("verify", watch, _views(store_view)))
        left = [*text.left_words(reading(live.db, overview.store_views))]
    complain(text.summary_line(summary))
    for words in left:
        complain(words)
    if as_json:
        for line in text.drift_lines(drift):
            complain(line)
        print_out(text.json_line(named(text.drift_as_json(summary, drift) | {"left": left})))
    else:
        emit(text.drift_report(summary, drift))
    raise typer.Exit(1 if drift else summary.exit_code)


@app.command(short_help="Follow Adobe I/O Events.")
@for_tenants()
def events(
    *,
    once: Annotated[bool, typer.Option("--once", help="Read to the end of the journal, and exit.")] = False,
    as_json: AsJson = False,
) -> None:
    """Follow the journal of Adobe I/O Events, and read each product that it names, within seconds.

    Events say which products to look at; what is written comes from Commerce, as with `run`. The position is
    stored with it. Without a stored position, following begins at the journal's end; a copy that was never
    loaded is loaded first. Passes find what events do not announce: keep running them.

    \b
      product-sync events           until Ctrl-C
      product-sync events --once    from the stored position to the end

    Exit status: 0, 69 out of reach, 75 busy (--once), 77 refused, 78 settings, 130 interrupted.
    """
    from sync.app import open_events
    from sync.cli import text
    from sync.passes.events import follow

    with (
        _live() as live,
        _watched(live) as watch,
        open_events(live.settings, live.stop, live.run_log, endless=not once) as reader,
    ):
        before = live.run_log.traffic()
        if not once:
            complain("Following the journal of Adobe I/O Events; Ctrl-C ends it.")
        follow(live.sync("events", watch), reader, once=once)
        counts = reader.counts
        requests = (live.run_log.traffic() - before).requests
    found = asdict(counts) | {"requests": requests}
    if as_json:
        print_out(text.json_line(named(found)))
    else:
        complain(
            f"events: {counts.read} read, {counts.duplicate} of them twice, {counts.unknown} not understood; "
            f"{requests} requests to the tenant."
        )


@app.command(short_help="Read the light price feeds.")
@for_tenants()
def prices(*, metrics_file: MetricsFile = None, as_json: AsJson = False) -> None:
    """Read base, special and tier prices and costs, and products whose prices changed without a timestamp.

    The bulk price endpoints of Commerce change prices without changing `updated_at`, so `run` misses them.
    The feeds return up to 900 SKUs per request, at a fraction of the cost of pages. A product whose prices
    differ is read again in every store view, and its prices are stored in product_prices. For scopes that are
    not copied, the prices of the feeds are stored, except special prices with ambiguous dates. From then on,
    every pass that reads a product also writes its prices.

    \b
      product-sync prices           what the daemon does every SYNC_PRICES_INTERVAL
      product-sync prices --json    fetched: products compared, plus each store view of those read again;
                                    inserted: products whose prices were stored for the first time;
                                    updated: products whose document or prices changed

    Exit status: 0 up to date, 1 a feed is refused or implausible or some products rejected, 69 out of reach,
    75 busy, 77 refused, 78 settings, 130 interrupted.
    """
    from sync.passes import prices as passes

    _run_pass("prices", passes.prices, None, dry=False, as_json=as_json, metrics_file=metrics_file)


@app.command(short_help="Read the stock of every source.")
@for_tenants()
def stock(
    *,
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Accept that all sources are empty.")
    ] = False,
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Read the source items: the quantity of each SKU in each source. Removed items are kept as tombstones.

    Stock has no timestamps in Commerce, so all of it is read, source by source.

    \b
      product-sync stock           what the daemon does every SYNC_STOCK_INTERVAL
      product-sync stock --json    counts are rows of source_items

    Exit status: 0 up to date, 1 stock is refused or deletions held back, 69 out of reach, 75 busy, 77
    refused, 78 settings, 130 interrupted.
    """
    from sync.passes import stock as passes

    def work(sync: Sync) -> Summary:
        return passes.stock(sync, allow_mass_delete=allow_mass_delete)

    _run_pass("stock", work, None, dry=False, as_json=as_json, metrics_file=metrics_file)


@app.command(short_help="Read attributes, categories and store views.")
@for_tenants()
def reference(
    *,
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Accept that a large share was deleted.")
    ] = False,
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Read what product values refer to: attributes with their option labels, attribute sets, categories,
    websites, store groups and store views.

    Labels and names are read for each store view of STORE_VIEWS. Only differences are written; the table
    reference_changes records them. Lists that the credential may not read are reported and skipped.

    \b
      product-sync reference                        what the daemon does at SYNC_REFERENCE_CRON
      product-sync reference --allow-mass-delete    after a large deletion in Commerce

    Exit status: 0 up to date, 1 some of it not readable or deletions held back, 69 out of reach, 75 busy, 77
    refused, 78 settings, 130 interrupted.
    """
    from sync.passes import reference as passes

    def work(sync: Sync) -> Summary:
        return passes.reference(sync, allow_mass_delete=allow_mass_delete)

    _run_pass("reference", work, None, dry=False, as_json=as_json, metrics_file=metrics_file)


@app.command(short_help="Remove a store view that left.")
@for_tenants(one_by_one=False)
def forget(
    *,
    store_view: Annotated[str, typer.Option(metavar="CODE", help="The store view to remove.")],
    as_json: AsJson = False,
) -> None:
    """Remove a store view that is no longer in STORE_VIEWS: its products and their child rows.

    The change feed gets a `delete` entry for each product. If the store view returns to STORE_VIEWS later, it
    is loaded again.

    \b
      product-sync forget --store-view de

    Exit status: 0 removed, 64 it is in STORE_VIEWS or not in the copy, 69 out of reach, 75 busy, 78 settings,
    130 interrupted.
    """
    from sync.passes.forget import forget as work

    if store_view in settings_in_force().store_views:
        raise UsageError(
            f"store view {store_view} is in STORE_VIEWS, so the next pass would load it again.",
            "take it out of STORE_VIEWS first.",
        )
    with _live() as live, _watched(live) as watch:
        summary = work(live.sync("forget", watch, (store_view,)), store_view)
    _print_summary(summary, as_json)


def _run_pass(
    command: str,
    work: Callable[[Sync], Summary],
    store_view: str | None,
    *,
    dry: bool,
    as_json: bool,
    metrics_file: Path | None,
    executor: str = "local",
) -> None:
    """Run a pass and print its summary, also after an error."""
    if executor != "local":
        _check_workers(executor, dry=dry)
    with _metered(command, metrics_file) as metrics_hook:
        _run_metered(command, work, store_view, metrics_hook, dry=dry, as_json=as_json, executor=executor)


def _run_metered(
    command: str,
    work: Callable[[Sync], Summary],
    store_view: str | None,
    metrics_hook: MetricsHook | None,
    *,
    dry: bool,
    as_json: bool,
    executor: str,
) -> None:
    with (
        _live(
            dry=dry, shared=executor != "local", metrics_hook=metrics_hook, given_views=_views(store_view)
        ) as live,
        _given(store_view),
    ):
        try:
            with _watched(live) as watch, _queue(live, executor) as queue:
                summary = work(replace(live.sync(command, watch, _views(store_view)), queue=queue))
        except SyncError:
            if live.run_log.last is not None:
                _print_summary(live.run_log.last, as_json)
            raise
    _print_summary(summary, as_json)
    raise typer.Exit(summary.exit_code)


def _check_workers(executor: str, *, dry: bool) -> None:
    """Refuse what workers cannot do, before anything is opened."""
    from sync.service.worker import broker_of

    if dry:
        raise UsageError(f"--dry-run cannot be combined with --executor {executor}: workers always write.")
    broker_of(settings_in_force())


@contextmanager
def _queue(live: App, executor: str) -> Iterator[Queue | None]:
    """The queue of the workers; None if this process reads alone."""
    if executor == "local":
        yield None
        return
    from sync.service.worker import queue_for

    with queue_for(live) as queue:
        yield queue


def _print_summary(summary: Summary, as_json: bool) -> None:
    from sync.cli import text

    complain(text.summary_line(summary))
    if as_json:
        print_out(text.json_line(named(summary.as_json())))


@contextmanager
def _metered(command: str, path: Path | None) -> Iterator[MetricsHook | None]:
    """Collect metrics, and write them to `path` when the command ends, also after an error."""
    if path is None:
        yield None
        return
    from sync.hooks.metrics import MetricsHook
    from sync.metrics import Metrics

    metrics_hook, code = MetricsHook(Metrics("" if chosen() else __version__, process=False)), BUG
    try:
        yield metrics_hook
        code = 0
    except typer.Exit as end:
        code = end.exit_code
        raise
    except SyncError as error:
        code = error.exit_code
        raise
    finally:
        metrics_hook.metrics.command_ended(command, code)
        try:
            _write_metrics(metrics_hook.metrics, str(path))
        except OSError as error:
            complain(f"product-sync: the metrics cannot be written to {path}: {error.strerror}.")


def _write_metrics(metrics: Metrics, path: str) -> None:
    """Add the metrics to the file for node-exporter, labelled with a chosen tenant. Raises OSError."""
    from sync.metrics import TenantsMetrics

    it = chosen()
    if it is None:
        metrics.write(path)
        return
    TenantsMetrics(__version__, lambda: {it.name: metrics}, process=False).write(path)


@contextmanager
def _live(
    *,
    dry: bool = False,
    shared: bool = False,
    metrics_hook: MetricsHook | None = None,
    given_views: tuple[str, ...] | None = None,
) -> Iterator[App]:
    from sync.app import freshness_policy, opened
    from sync.db.engine import reading
    from sync.db.health import freshness

    settings = settings_in_force()
    views = given_views or ()
    with (
        stoppable(STOPPING) as stop,
        opened(settings, stop, dry=dry, shared=shared, metrics_hook=metrics_hook, given_views=views) as live,
    ):
        if metrics_hook is not None:
            metrics_hook.show_copy(lambda: reading(live.db, freshness), freshness_policy(settings))
        try:
            yield live
        finally:
            if metrics_hook is not None:
                metrics_hook.metrics.freeze_copy()


@contextmanager
def _watched(live: App) -> Iterator[Watch]:
    """The progress bar on a terminal, the log otherwise."""
    if live.settings.log_format == "json" or not sys.stderr.isatty():
        yield live.run_log
        return
    from sync.hooks.progress import Bar

    with Bar(live.run_log) as bar:
        configure_logs(live.settings)  # again: log lines must now scroll above the bar
        yield bar


@contextmanager
def _given(store_view: str | None) -> Iterator[None]:
    """Turn the error about a store view that only --store-view names into UsageError."""
    try:
        yield
    except UnknownStoreViews as error:
        if store_view is None:
            raise
        raise UsageError(str(error), error.fix.replace("STORE_VIEWS", "--store-view")) from None


def _views(store_view: str | None) -> tuple[str, ...] | None:
    from sync.settings.parsers import parse_store_views

    try:
        return None if store_view is None else parse_store_views(store_view)
    except ValueError as error:
        raise UsageError(f"--store-view {error}.") from None
