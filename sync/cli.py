"""The command line: one function per command: parse, call, print, exit code.

Everything heavy is imported by the command that needs it, so that `--help` answers at once. What a
command prints goes to standard output; logs, the progress bar and the closing line of a pass
go to standard error. Only `main` catches errors and turns them into words and an exit code.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_command

from sync import __version__
from sync.errors import SettingsError, SyncError, UsageError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sync.app import App
    from sync.check import Finding
    from sync.passes.run import Summary, Sync, Watch
    from sync.settings import Settings

USAGE, BUG, INTERRUPTED = 64, 70, 130
REPORT = "run it again with LOG_LEVEL=DEBUG, and report what that prints."
STOPPING = "product-sync: stopping behind the page in hand; once more ends it at once."
POLL_S = 1.0
CHUNK = 1000  # entries of the feed read at once

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what went wrong is one sentence on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale without umlauts is no reason to stop
    try:
        get_command(app).main(args=arguments, prog_name="product-sync")
    except SystemExit as end:  # 2 is how typer ends on a usage error
        return USAGE if end.code == 2 else int(end.code or 0)
    except SyncError as error:
        _complain("\n  ".join([*f"product-sync: {error}".splitlines(), f"To do: {error.fix}"]))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last one to see it
        _complain(f"product-sync: a fault of its own: {type(error).__name__}.\n  To do: {REPORT}")
        if logging.getLogger("sync").isEnabledFor(logging.DEBUG):
            traceback.print_exc()
        return BUG
    return 0


# --- passes ----------------------------------------------------------------------------------


@app.command(short_help="Load the whole catalogue.")
def backfill(
    *,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, do not continue.")] = False,
    store_view: StoreView = None,
    first_id: Annotated[int, typer.Option(min=1, help="Lowest product id to load.")] = 1,
    last_id: Annotated[int | None, typer.Option(min=1, help="Highest product id to load.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Load the whole catalogue, or continue a load that did not come to its end.

    Products that are already here and did not change are not written again.

    \b
      product-sync backfill                    everything, or the rest of it
      product-sync backfill --store-view fr    one store view only
      product-sync backfill --restart          everything, from the beginning

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

    _run_pass("backfill", work, store_view, dry=dry_run, as_json=as_json)


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

    _run_pass("run", work, store_view, dry=dry_run, as_json=as_json)


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
    dry_run: DryRun = False,
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

    _run_pass("reconcile", work, store_view, dry=dry_run, as_json=as_json)


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


def _run_pass(
    command: str, work: Callable[[Sync], Summary], store_view: str | None, *, dry: bool, as_json: bool
) -> None:
    """Run a pass to its end and tell how it ended, also when that was an error."""
    with _live(dry=dry) as live:
        try:
            with _watched(live) as watch:
                summary = work(live.sync(command, watch, _views(store_view)))
        except SyncError:
            if live.journal.last is not None:
                _tell(live.journal.last, as_json)
            raise
    _tell(summary, as_json)
    raise typer.Exit(summary.exit_code)


def _tell(summary: Summary, as_json: bool) -> None:
    from sync import text

    _complain(text.summary_line(summary))
    if as_json:
        _print(text.json_line(summary.as_json()))


@contextmanager
def _live(*, dry: bool = False) -> Iterator[App]:
    from sync.app import opened

    settings = _settings()
    with _stoppable(STOPPING) as stop, opened(settings, stop, dry=dry) as live:
        yield live


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

    Exit status: 0 stopped, 64 usage, 69 database out of reach at the start, 78 settings.
    """
    from sync.daemon import serve

    serve(_settings(), _settings)


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


@app.command(short_help="Print the change feed.")
def changes(
    *,
    since: Annotated[int, typer.Option(min=0, metavar="ID", help="Only entries after this change_id.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Print so many entries at most.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more, until stopped.")] = False,
) -> None:
    """Print the change feed, oldest first: one JSON object a line.

    A reader that remembers the last change_id and asks for what is after it misses nothing.

    \b
      product-sync changes --since 4711 --limit 100    the next hundred
      product-sync changes --follow                    all of it, and what comes

    Exit status: 0, 69 database out of reach or not there yet, 78 settings, 130 interrupted.
    """
    from sync.app import copy_of
    from sync.db.changes import since as entries_after
    from sync.db.engine import reading
    from sync.text import json_line

    with copy_of(_copy_settings()) as engine, _stoppable() as stop:

        def read(change_id: int, most: int) -> Sequence[sa.Row[Any]]:
            return reading(engine, lambda connection: entries_after(connection, change_id, most))

        for entry in _feed(read, since, limit, stop, follow=follow):
            _print(json_line(entry._asdict()))
    if stop.is_set():
        raise typer.Exit(INTERRUPTED)


def _feed(
    read: Callable[[int, int], Sequence[sa.Row[Any]]],
    since: int,
    limit: int | None,
    stop: Event,
    *,
    follow: bool,
) -> Iterator[sa.Row[Any]]:
    """Entries after `since` as they come, until `limit` were told, `stop` is set, or there are no more."""
    left = sys.maxsize if limit is None else limit
    while left and not stop.is_set():
        entries = read(since, min(CHUNK, left))
        yield from entries
        if entries:
            since, left = entries[-1].change_id, left - len(entries)
        elif not follow or stop.wait(POLL_S):
            return


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

    serve(products, port, store_views=store_views.split(","), token_life=token_life, latency=latency)


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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit fails again
        raise typer.Exit from None


def _complain(text: str) -> None:
    """Write to standard error, whoever listens."""
    with suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the command line
