"""The command line: one function per command: parse, call, print, exit code.

Everything heavy is imported by the command that needs it, so that `--help` answers at once. What a
command prints goes to standard output; logs, the progress bar and the closing line of a pass
go to standard error. Only `main` catches errors and turns them into words and an exit code.
"""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, NoReturn

import typer
from typer.main import get_command

from sync import __version__
from sync.errors import SettingsError, SyncError, UsageError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sync.app import App
    from sync.check import Finding
    from sync.feed import Entry, Outlet
    from sync.meter import Meter
    from sync.passes.run import Summary, Sync, Watch
    from sync.passes.workers import Queue
    from sync.position import Keeper
    from sync.settings import Settings

USAGE, BUG, INTERRUPTED = 64, 70, 130
REPORT = "run it again with LOG_LEVEL=DEBUG, and report what that prints."
STOPPING = "product-sync: stopping behind the page in hand; once more ends it at once."

app = typer.Typer(
    name="product-sync",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
db = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The copy's schema.")
app.add_typer(db, name="db")

StoreView = Annotated[str | None, typer.Option(metavar="CODE", help="This store view only.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and report, write nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Executor = Annotated[
    Literal["local", "celery"],
    typer.Option(
        help="Who reads: this process, or the workers at CELERY_BROKER_URL (`product-sync worker`)."
    ),
]
MetricsFile = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Write metrics there, for node-exporter's textfiles.")
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what went wrong is one sentence on standard error."""
    _collect_less_often()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale without umlauts is no reason to stop
    try:
        get_command(app).main(args=arguments, prog_name="product-sync")
    except SystemExit as end:  # 2 is how typer ends on a usage error
        return USAGE if end.code == 2 else int(end.code or 0)
    except SyncError as error:
        from sync.logs import redacted

        _complain("\n  ".join([*redacted(f"product-sync: {error}").splitlines(), f"To do: {error.fix}"]))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last one to see it
        _complain(f"product-sync: a fault of its own: {type(error).__name__}.\n  To do: {REPORT}")
        if logging.getLogger("sync").isEnabledFor(logging.DEBUG):
            from sync.logs import redacted

            _complain(redacted(traceback.format_exc()))
        return BUG
    return 0


def _collect_less_often() -> None:
    """Modules stay, and a page becomes ten thousand tuples, none in a cycle.

    Looking for cycles as often as Python does cost a fifth of a load's CPU and a tenth of the start.
    """
    gc.set_threshold(50_000, 20, 100)


# --- passes ----------------------------------------------------------------------------------


@app.command(short_help="Load the whole catalogue.")
def backfill(
    *,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, do not continue.")] = False,
    store_view: StoreView = None,
    first_id: Annotated[int, typer.Option(min=1, help="Lowest product id to load.")] = 1,
    last_id: Annotated[int | None, typer.Option(min=1, help="Highest product id to load.")] = None,
    executor: Executor = "local",
    dry_run: DryRun = False,
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Load the whole catalogue, or continue a load that did not come to its end.

    Products that are already here and did not change are not written again.

    \b
      product-sync backfill                    everything, or the rest of it
      product-sync backfill --store-view fr    one store view only
      product-sync backfill --restart          everything, from the beginning
      product-sync backfill --executor celery  by workers; interrupted and started again, it looks on

    Exit status: 0 loaded, 1 some products rejected, 69 out of reach, 75 busy, 77 refused, 78 settings, 130
    interrupted.
    """
    from sync.model import Interval
    from sync.passes import backfill as passes

    if last_id is not None and last_id < first_id:
        raise UsageError(f"--last-id {last_id} lies before --first-id {first_id}.")
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
def run(
    *,
    sku: Annotated[
        list[str] | None, typer.Option(metavar="SKU", help="Just this product; may be given again.")
    ] = None,
    product_id: Annotated[
        list[int] | None, typer.Option("--id", metavar="N", help="Just this product; may be given again.")
    ] = None,
    store_view: StoreView = None,
    dry_run: DryRun = False,
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Read what changed since the last finished pass, and what was deleted; write it, and exit.

    Safe to stop at any time: the next run resumes at the last committed page.

    \b
      product-sync run                     what the daemon does, once, by hand
      product-sync run --store-view fr     one store view only
      product-sync run --sku BAG-1         one product, whether it changed or not

    Exit status: 0 up to date, 1 some products rejected or deletions held back, 69 out of reach, 75 busy, 77
    refused, 78 settings, 130 interrupted.
    """
    from sync.passes.incremental import incremental

    def work(sync: Sync) -> Summary:
        return _named(sync, product_id or [], sku or []) if sku or product_id else incremental(sync)

    _run_pass("run", work, store_view, dry=dry_run, as_json=as_json, metrics_file=metrics_file)


def _named(sync: Sync, ids: list[int], skus: list[str]) -> Summary:
    from sync.passes.incremental import targeted

    summary, unknown = targeted(sync, ids, skus)
    for name in unknown:
        _complain(f"product-sync: neither the tenant nor the copy knows a product {name}.")
    return summary


@app.command(short_help="Make the copy equal to the catalogue.")
def reconcile(
    *,
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Believe it when a large share is gone.")
    ] = False,
    store_view: StoreView = None,
    executor: Executor = "local",
    dry_run: DryRun = False,
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Read the whole catalogue and make the copy equal to it, silent changes and deletions included.

    Deletes nothing when more than SYNC_MAX_DELETE_FRACTION of the products would go.

    \b
      product-sync reconcile                        what the daemon does at night
      product-sync reconcile --dry-run              what it would do
      product-sync reconcile --allow-mass-delete    after a clearance on the tenant

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
def verify(*, store_view: StoreView = None, as_json: AsJson = False) -> None:
    """Read the whole catalogue and report how the copy differs; no product is written.

    \b
      product-sync verify           missing, extra and different products, with examples
      product-sync verify --json    the same, for a script

    Exit status: 0 equal, 1 a difference, 69 out of reach, 75 busy, 77 refused, 78 settings, 130 interrupted.
    """
    from sync import text
    from sync.passes import reconcile as passes

    with _live() as live, _watched(live) as watch:
        summary, drift = passes.verify(live.sync("verify", watch, _views(store_view)))
    _complain(text.summary_line(summary))
    _print(text.drift_json(summary, drift) if as_json else text.drift_report(drift))
    raise typer.Exit(1 if drift else summary.exit_code)


@app.command(short_help="Read the light price feeds.")
def prices(*, metrics_file: MetricsFile = None, as_json: AsJson = False) -> None:
    """Read base, special and tier prices and costs, and again the products whose prices moved in silence.

    The bulk price endpoints of Commerce change prices without moving `updated_at`, so `run` does not see it.
    The feeds answer 300 SKUs at a time, at a twentieth of what product pages cost the tenant. What they name
    is kept in product_prices; a product that carries other prices is read again in every store view.

    \b
      product-sync prices           what the daemon does every SYNC_PRICES_INTERVAL
      product-sync prices --json    fetched: products compared; updated: products changed

    Exit status: 0 up to date, 1 a feed is refused or not believed or some products rejected, 69 out of reach,
    75 busy, 77 refused, 78 settings, 130 interrupted.
    """
    from sync.passes import prices as passes

    _run_pass("prices", passes.prices, None, dry=False, as_json=as_json, metrics_file=metrics_file)


@app.command(short_help="Read the stock of every source.")
def stock(
    *,
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Believe it when no source shows anything.")
    ] = False,
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Read the source items: how many of a SKU lie in each source. What is gone is kept as a tombstone.

    Commerce stamps no stock with a time, so all of it is read, SKU by SKU in each source.

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
def reference(
    *,
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Believe it when a large share is gone.")
    ] = False,
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Read what the values in products refer to: attributes with the labels of their options, attribute sets,
    categories, websites, store groups and store views.

    Labels and names are those of each store view of STORE_VIEWS. Only differences are written; what changed
    is in the table reference_changes. What the credential may not read is named, and the rest goes on.

    \b
      product-sync reference                        what the daemon does at SYNC_REFERENCE_CRON
      product-sync reference --allow-mass-delete    after a clearance on the tenant

    Exit status: 0 up to date, 1 some of it not readable or deletions held back, 69 out of reach, 75 busy, 77
    refused, 78 settings, 130 interrupted.
    """
    from sync.passes import reference as passes

    def work(sync: Sync) -> Summary:
        return passes.reference(sync, allow_mass_delete=allow_mass_delete)

    _run_pass("reference", work, None, dry=False, as_json=as_json, metrics_file=metrics_file)


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
    """Run a pass to its end and tell how it ended, also when that was an error."""
    if dry and executor != "local":
        raise UsageError(f"--dry-run reads by itself: it cannot go with --executor {executor}.")
    with _metered(command, metrics_file) as meter:
        _run_metered(command, work, store_view, meter, dry=dry, as_json=as_json, executor=executor)


def _run_metered(
    command: str,
    work: Callable[[Sync], Summary],
    store_view: str | None,
    meter: Meter | None,
    *,
    dry: bool,
    as_json: bool,
    executor: str,
) -> None:
    with _live(dry=dry, meter=meter) as live:
        try:
            with _watched(live) as watch, _queue(live, executor) as queue:
                summary = work(replace(live.sync(command, watch, _views(store_view)), queue=queue))
        except SyncError:
            if live.journal.last is not None:
                _tell(live.journal.last, as_json)
            raise
    _tell(summary, as_json)
    raise typer.Exit(summary.exit_code)


@contextmanager
def _queue(live: App, executor: str) -> Iterator[Queue | None]:
    """Where workers get their orders; None when this process reads by itself."""
    if executor == "local":
        yield None
        return
    from sync.worker import queue_for

    with queue_for(live) as queue:
        yield queue


def _tell(summary: Summary, as_json: bool) -> None:
    from sync import text

    _complain(text.summary_line(summary))
    if as_json:
        _print(text.json_line(summary.as_json()))


@contextmanager
def _metered(command: str, path: Path | None) -> Iterator[Meter | None]:
    """Count what happens, and write it to `path`, however the command ends; without a path, do neither."""
    if path is None:
        yield None
        return
    from sync.meter import Meter
    from sync.metrics import Metrics

    meter, code = Meter(Metrics(__version__, process=False)), BUG
    try:
        yield meter
        code = 0
    except typer.Exit as end:
        code = end.exit_code
        raise
    except SyncError as error:
        code = error.exit_code
        raise
    finally:
        try:
            meter.metrics.write(str(path), command, code)
        except OSError as error:
            _complain(f"product-sync: the metrics cannot be written to {path}: {error.strerror}.")


@contextmanager
def _live(*, dry: bool = False, meter: Meter | None = None) -> Iterator[App]:
    from sync.app import opened
    from sync.db.engine import reading
    from sync.db.health import freshness

    settings = _settings()
    with _stoppable(STOPPING) as stop, opened(settings, stop, dry=dry, meter=meter) as live:
        if meter is not None:
            meter.show_copy(lambda: reading(live.db, freshness))
        try:
            yield live
        finally:
            if meter is not None:
                meter.metrics.settle()


@contextmanager
def _watched(live: App) -> Iterator[Watch]:
    """The progress bar where a person sees it, the log elsewhere."""
    if live.settings.log_format == "json" or not sys.stderr.isatty():
        yield live.journal
        return
    from sync.progress import Bar

    with Bar(live.journal) as bar:
        _configure_logs(live.settings)  # anew: what is logged now must scroll above the bar
        yield bar


def _views(store_view: str | None) -> tuple[str, ...] | None:
    from sync.notation import parse_store_views

    try:
        return None if store_view is None else parse_store_views(store_view)
    except ValueError as error:
        raise UsageError(f"--store-view {error}.") from None


# --- the daemon ------------------------------------------------------------------------------


@app.command(short_help="Run and reconcile on schedule.")
def daemon() -> None:
    """Run and reconcile on schedule, in the foreground, until told to stop.

    SIGTERM and Ctrl-C finish the page in hand and end it; SIGHUP reads the settings again.

    \b
      SYNC_INTERVAL=15m                what changed, the first time at once
      SYNC_RECONCILE_CRON="0 3 * * *"  the whole catalogue, in SYNC_TIMEZONE
      SYNC_PRICES_INTERVAL=1h          the price feeds, the first time behind the first run
      SYNC_STOCK_INTERVAL=15m          the source items, likewise
      SYNC_REFERENCE_CRON="30 2 * * *" attributes, categories, store views; the first time at once

    Exit status: 0 stopped, 64 usage, 69 database out of reach at the start, 78 settings.
    """
    from sync import fleet
    from sync.daemon import serve

    def read() -> fleet.Fleet:
        return fleet.alone(_settings())

    serve(read(), read)


@app.command(short_help="Read ranges for --executor celery.")
def worker() -> None:
    """Read ranges of ids that `backfill` and `reconcile --executor celery` order, until told to stop.

    One process reads SYNC_CONCURRENCY ranges at once; start one for each processor core, on as many machines
    as you like. All of them keep to one pace. Needs PostgreSQL, CELERY_BROKER_URL and the extra [celery].

    \b
      product-sync worker &
      product-sync worker &
      product-sync backfill --executor celery

    SIGTERM and Ctrl-C finish the pages in hand; what is left goes to other workers. Killed, it leaves its
    ranges to them within 15 seconds.

    Exit status: 0 stopped, 69 database out of reach at the start, 78 settings.
    """
    from sync.worker import work

    work(_settings())


@app.command(short_help="Serve the status page over a copy.")
def serve() -> None:
    """Serve the status page alone, in the foreground, until told to stop: it only reads.

    For a copy that another machine or cron keeps; the daemon serves the same page by itself.

    \b
      product-sync serve                             at STATUS_BIND, http://127.0.0.1:8321/
      STATUS_BIND=0.0.0.0:80 product-sync serve      for everybody who reaches this machine

    Exit status: 0 stopped, 69 database out of reach or no copy yet, 78 settings, or STATUS_BIND is taken.
    """
    from sync.app import copy_of
    from sync.web.app import application
    from sync.web.server import serving

    settings = _copy_settings()
    if settings.status_bind is None:
        raise SettingsError("STATUS_BIND: is off: there is nowhere to serve.", "set it to host:port.")
    with (
        _stoppable() as stop,
        copy_of(settings) as engine,
        serving(application(engine, settings), settings.status_bind) as url,
    ):
        _complain(f"product-sync: the status page is at {url}")
        stop.wait()


@app.command(short_help="Ask a running daemon how it is.")
def health(
    *,
    ready: Annotated[
        bool, typer.Option("--ready", help="Whether the copy is fresh, not just whether it is alive.")
    ] = False,
) -> None:
    """Ask the daemon at STATUS_BIND whether it is alive; what a container's HEALTHCHECK runs.

    \b
      product-sync health            /healthz: alive, its worker is not stuck
      product-sync health --ready    /readyz: the copy is as fresh as SYNC_MAX_LAG asks

    Exit status: 0 it is, 1 it is not, 69 nobody answers, 78 settings.
    """
    from http.client import HTTPConnection, HTTPException
    from json import loads

    bind = _copy_settings().status_bind
    if bind is None:
        raise SettingsError("STATUS_BIND: is off: there is nobody to ask.", "set it to host:port.")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind.host, bind.host)  # noqa: S104 - asked, not bound
    connection = HTTPConnection(host, bind.port, timeout=5)
    try:
        connection.request("GET", "/readyz" if ready else "/healthz")
        answer = connection.getresponse()
        reason = loads(answer.read(100_000))["reason"]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        _complain(f"product-sync: no daemon answers at {bind}.")
        raise typer.Exit(69) from None
    finally:
        connection.close()
    _print(reason)
    raise typer.Exit(0 if answer.status == 200 else 1)


# --- looking at it ---------------------------------------------------------------------------


@app.command(short_help="Try everything that a sync needs.")
def check() -> None:
    """Try everything a sync needs: settings, token, API, permission, store views, clock, database.

    Prints a line for each, with the remedy where one failed. Writes nothing.

    Exit status: 0 all well, else that of the first failure: 69 out of reach, 77 refused, 78 settings.
    """
    worst = 0
    with _stoppable() as stop:
        for finding in _findings(stop):
            words = finding.words.replace("\n", "\n" + 22 * " ")
            _print(f"{finding.verdict:8} {finding.subject:12} {words}")
            worst = worst or finding.exit_code
    raise typer.Exit(worst)


def _findings(stop: Event) -> Iterator[Finding]:
    from sync.check import check, failure

    try:
        settings = _settings()
    except SettingsError as error:
        yield failure("settings", error)
    else:
        yield from check(settings, stop)


@app.command(short_help="Print the settings in force.")
def config() -> None:
    """Print the settings in force and where each came from, secrets masked.

    Exit status: 0, or 78 when they cannot be used.
    """
    from sync.settings import describe, unknown_variables
    from sync.text import table

    _print(table([("setting", "value", "from"), *describe(_settings())]))
    for hint in unknown_variables():
        _complain(f"product-sync: {hint}")


@app.command(short_help="Print where the copy stands.")
def status(
    *, runs: Annotated[int, typer.Option(min=1, help="How many runs to list.")] = 5, as_json: AsJson = False
) -> None:
    """Print how much the copy holds, up to when it is complete, the last runs, and who is writing.

    Exit status: 0, 69 database out of reach or not there yet, 78 settings.
    """
    from sync import text
    from sync.app import copy_of
    from sync.db import leases, overview, rejected
    from sync.db.engine import reading
    from sync.db.runs import recent

    with copy_of(_copy_settings()) as engine:
        found = text.Status(
            store_views=reading(engine, overview.store_views),
            feeds=reading(engine, overview.feeds),
            runs=[row._asdict() for row in reading(engine, lambda connection: recent(connection, runs))],
            open_rejections=reading(engine, rejected.count_open),
            lease=leases.holder(engine),
        )
    _print(text.status_json(found) if as_json else text.status_report(found))


@app.command(short_help="Print one product from the copy.")
def show(
    sku: Annotated[str, typer.Argument(metavar="SKU")],
    *,
    store_view: StoreView = None,
    history: Annotated[bool, typer.Option("--history", help="What happened to it, oldest first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print one product from the copy, as each store view shows it; a deleted one as it was last.

    \b
      product-sync show BAG-1                    its columns and what belongs to it
      product-sync show BAG-1 --history          what changed, with old and new values
      product-sync show BAG-1 --json             one JSON object a line, the document included

    Exit status: 0, 64 no such product, 69 database out of reach or not there yet, 78 settings.
    """
    from sync.app import copy_of
    from sync.db import products
    from sync.db.engine import reading

    with copy_of(_copy_settings()) as engine:
        found = reading(engine, lambda connection: products.find(connection, sku, store_view))
        if not found:
            raise UsageError(
                f"the copy holds no product {sku}.", "check the SKU; `product-sync status` counts products."
            )
        for row in found:
            _print(_shown(engine, row._asdict(), history=history, as_json=as_json))


def _shown(engine: sa.Engine, product: Mapping[str, Any], *, history: bool, as_json: bool) -> str:
    """One product as `show` prints it."""
    from sync import text
    from sync.db import changes, products
    from sync.db.engine import reading

    key = product["store_view"], product["product_id"]
    entries = [row._asdict() for row in reading(engine, lambda c: changes.history(c, *key))]
    if history and not as_json:
        return f"{text.title(product)}\n{text.history(entries)}"
    children = reading(engine, lambda c: products.children_of(c, *key))
    if as_json:
        return text.product_json(product, children, entries if history else None)
    return text.product_card(product, children)


@app.command(short_help="Print the change feed, or post it.")
def changes(
    *,
    since: Annotated[int, typer.Option(min=0, metavar="ID", help="Begin after this change_id.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Tell so many entries at most.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more, until stopped.")] = False,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Remember here how far it came, and go on from there.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Post it there in signed batches instead of printing.")
    ] = None,
    rewind: Annotated[
        bool, typer.Option("--rewind", help="Forget how far it came: begin anew, or after --since.")
    ] = False,
) -> None:
    """Print the change feed, oldest first, one JSON object a line; or post it to a webhook.

    A reader that remembers the last change_id and asks for what is after it misses nothing. With --state,
    FILE remembers: it moves behind what was written out, so after a crash the last entries come once more,
    and none is missing. --since then says where to begin while there is no FILE yet. One process at a time
    may use it (FILE.lock), and only with the database it came from.

    --webhook posts {"first_id", "last_id", "changes": [...]}, up to 100 changes and about 900 kB at a time,
    in order; the next when the one before was answered 2xx. Each change arrives at least once: after a crash
    or an answer that was lost some come again, so a receiver drops every change_id it has had. How far a URL
    came is kept in the copy, or in FILE.

    \b
      Idempotency-Key           first_id-last_id
      X-Product-Sync-Signature  t=SECONDS,v1=HEX: HMAC-SHA256 of SECONDS.BODY with WEBHOOK_SECRET

    An answer has 30 seconds. No connection, 408, 425, 429 and 5xx are tried again, as Retry-After says, for
    SYNC_MAX_RETRY_TIME, with --follow for as long as it takes. 413 halves the batch. Any other answer ends it
    after four tries, a redirect at once; started again, it posts the same again.

    \b
      product-sync changes --since 4711 --limit 100          the next hundred
      product-sync changes --follow --state search.json      all of it and what comes, across restarts
      product-sync changes --follow --webhook https://search.example/products
      product-sync changes --webhook URL --rewind            everything from the first entry on once more

    Exit status: 0, 64 a FILE or a URL that cannot be used, 69 database or receiver out of reach, receiver
    refuses, or no copy yet, 75 another process moves the same position, 77 receiver answers 401 or 403, 78
    settings, or a position from another or a restored database, 130 interrupted.
    """
    from sync import feed
    from sync.app import copy_of
    from sync.position import PositionInCopy, Unkept, position_file

    settings = _copy_settings()
    with ExitStack() as opened:
        stop = opened.enter_context(_stoppable())
        outlet, told = _outlet(opened, settings, webhook, stop, follow=follow)
        engine = opened.enter_context(copy_of(settings))
        keeper: Keeper = Unkept()
        if state is not None:
            keeper = opened.enter_context(position_file(state))
        elif webhook is not None:
            keeper = PositionInCopy(engine, webhook, stop)
        source = feed.Feed(engine, stop, follow=follow)
        count = feed.tell(source, outlet, keeper, since=since, limit=limit, rewind=rewind)
        if told:
            _complain(f"product-sync: {count} changes posted to {told}.")
    if stop.is_set():
        raise typer.Exit(INTERRUPTED)


def _outlet(
    opened: ExitStack, settings: Settings, webhook: str | None, stop: Event, *, follow: bool
) -> tuple[Outlet, str]:
    """What hands the feed on, and the receiver's host, blank for standard output."""
    if webhook is None:
        return lambda entries: _printed(entries, stop), ""
    from sync.app import webhook_of
    from sync.feed import to_webhook

    receiver = opened.enter_context(webhook_of(settings, webhook, stop, follow=follow))
    return to_webhook(receiver), receiver.host


def _printed(entries: Sequence[Entry], stop: Event) -> Iterator[Sequence[Entry]]:
    """Print entries, and yield those that were written out before `stop` was set."""
    for count, entry in enumerate(entries, 1):
        _print(entry.json.decode())
        if stop.is_set():
            yield entries[:count]
            return
    yield entries


# --- the copy as files and as flat views -----------------------------------------------------


@app.command(short_help="Write products to a file.")
def export(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, or - for standard output.")],
    *,
    store_view: StoreView = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Columns of products and attribute codes.")
    ] = None,
    sku: Annotated[
        list[str] | None, typer.Option(metavar="SKU", help="Just this product; may be given again.")
    ] = None,
    type_id: Annotated[
        list[str] | None, typer.Option("--type", metavar="T", help="Just this type; may be given again.")
    ] = None,
    changed_since: Annotated[
        str | None, typer.Option(metavar="T", help="Only what the copy saw change since: a time, or 24h.")
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Labels of options instead of ids.")] = False,
    form: Annotated[
        str | None, typer.Option("--format", metavar="F", help="parquet, csv or jsonl, whatever the suffix.")
    ] = None,
) -> None:
    """Write the products that live in the copy to a file: .parquet, .csv or .jsonl by its suffix.

    The products are those of one moment, also while a pass writes. The file takes its name when it is
    complete; a failure leaves what was there. Without --columns, it has every column of the table
    products. Attributes have the types that Commerce gives them; a value that is none of its type is null.

    \b
      product-sync export products.parquet
      product-sync export bags.csv --store-view fr --columns sku,name,price,color --labels
      product-sync export - --changed-since 24h | jq .sku        JSON lines

    Exit status: 0, 64 usage, 69 database out of reach, no copy yet or no space for the file, 78 settings,
    130 interrupted.
    """
    from sync.app import copy_of
    from sync.db.dialects import utc_now
    from sync.db.engine import reading
    from sync.db.export import Selection
    from sync.export import export as write_rows
    from sync.export import format_of, parse_since, writer_for

    form = format_of(path, form)
    with copy_of(_copy_settings()) as engine, _stoppable() as stop:
        since = None if changed_since is None else parse_since(changed_since, reading(engine, utc_now))
        selection = Selection(store_view, sku or (), type_id or (), since)
        with _output(path) as file:
            count = write_rows(
                engine, partial(writer_for, form, file), columns, selection, labels=labels, stop=stop
            )
    _complain(f"product-sync: {count} {'row' if count == 1 else 'rows'} written to {path}.")


@contextmanager
def _output(path: str) -> Iterator[BinaryIO]:
    """The file to write, or standard output."""
    from sync.export import not_written, replacing

    if path != "-":
        with replacing(Path(path)) as file:
            yield file
        return
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _end_quietly()
    except OSError as error:
        _silence()
        raise not_written("standard output", error) from error


@app.command(short_help="Make a flat SQL view of attributes.")
def view(
    *,
    name: Annotated[str, typer.Option(metavar="V", help="What the view is called.")],
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Columns of products and attribute codes.")
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the view instead.")] = False,
) -> None:
    """Make a flat SQL view, or make it anew: a row per product and store view, a typed column per name.

    Options read as their labels. What a store view lacks is taken from `all`; a value that is none of its
    attribute's type ("abc" for a decimal) is null. store_view and product_id are always there.

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
    with copy_of(_copy_settings()) as engine:
        if columns is None:
            in_transaction(engine, lambda tx: views.drop(tx, name))
            _print(f"View {name} is gone.")
            return
        names = split_names(columns)
        made = in_transaction(engine, lambda tx: views.create(tx, name, names))
    _print(f"View {made} is ready. Try:\n  SELECT * FROM {made} WHERE store_view = 'all' LIMIT 10;")


# --- its schema ------------------------------------------------------------------------------


@db.command()
def upgrade() -> None:
    """Bring the database to the newest schema; commands that write do it by themselves.

    Exit status: 0, 69 database out of reach, 78 settings, or a database written by a newer version.
    """
    from sync.app import writable_copy
    from sync.db.engine import newest_revision

    writable_copy(_copy_settings()).dispose()
    _print(f"The database is at revision {newest_revision()}, the newest.")


@db.command()
def current() -> None:
    """Print the schema revision the database is at.

    Exit status: 0, 69 database out of reach, 78 settings.
    """
    from sync.app import revision_of
    from sync.db.engine import newest_revision

    revision, newest = revision_of(_copy_settings()), newest_revision()
    _print(f"{revision or 'empty'}, {'the newest' if revision == newest else f'the newest is {newest}'}")


# --- without an account ----------------------------------------------------------------------


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

    Exit status: 0.
    """
    from sync.sandbox import serve

    serve(
        products,
        port,
        store_views=store_views.split(","),
        token_life=token_life,
        latency=latency,
        sources=sources.split(","),
    )


@app.command(short_help="Tell the whole story, no account needed.")
def demo(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to keep the copy; default: a temporary one.")
    ] = None,
) -> None:
    """Tell the whole story without an Adobe account: load, edit, delete, run, and look at it.

    Exit status: 0 when the copy came out right.
    """
    from sync.demo import play

    raise typer.Exit(play(main, folder))


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda asked: _version(asked), help="Print the version."
        ),
    ] = False,
) -> None:
    """Keep a SQL copy of an Adobe Commerce catalogue complete and fresh.

    \b
      product-sync demo        the whole story, without an Adobe account
      product-sync check       try the settings in the environment and .env
      product-sync backfill    load everything
      product-sync run         read what changed since; or let `product-sync daemon` do it
    """


def _version(asked: bool) -> None:
    if asked:
        _print(f"product-sync {__version__}")
        raise typer.Exit


# --- what all of them share ------------------------------------------------------------------


def _settings() -> Settings:
    """The settings in force; what is logged from now on follows them. Raises SettingsError."""
    from sync.settings import Settings

    return _in_force(Settings.load())


def _copy_settings() -> Settings:
    """The same for a command that only looks into the copy, where no tenant need be named."""
    from sync.settings import CopySettings

    return _in_force(CopySettings.load())


def _in_force(settings: Settings) -> Settings:
    _configure_logs(settings)
    return settings


def _configure_logs(settings: Settings) -> None:
    from sync import logs

    logs.configure(settings.log_format, settings.log_level, secrets=settings.secrets)


@contextmanager
def _stoppable(notice: str = "") -> Iterator[Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one kills the process, which loses no page.

    notice    what is said about it on standard error
    """
    stop = Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        for number in former:
            signal.signal(number, signal.SIG_DFL)
        Thread(target=obey).start()  # not here: this thread may be writing, or hold the event's lock

    def obey() -> None:
        stop.set()
        if notice:
            _show_cursor()
            _complain(notice)

    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in former:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _show_cursor() -> None:
    """The progress bar hides it, and a killed process cannot show it again."""
    if sys.__stderr__ is not None and sys.__stderr__.isatty():
        sys.__stderr__.write("\x1b[?25h")


def _print(text: str) -> None:
    """Write to standard output; a reader that left, as `head` does, ends the command quietly."""
    try:
        print(text, flush=True)  # noqa: T201 - this is the command line
    except BrokenPipeError:
        _end_quietly()


def _end_quietly() -> NoReturn:
    _silence()
    raise typer.Exit


def _silence() -> None:
    """Let nothing more go to standard output: else the flush at exit fails again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    """Write to standard error, whoever listens."""
    with suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the command line
