"""What runs until it is told to stop, and asking it how it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync.cli.console import complain, emit, stoppable
from sync.cli.options import app, configure_logs, copy_settings
from sync.cli.tenants import TenantsFile
from sync.errors import SettingsError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from sync.settings import Settings
    from sync.settings.served import ServedTenants


@app.command(short_help="Run and reconcile on schedule.")
def daemon(*, tenants: TenantsFile = None) -> None:
    """Run and reconcile on schedule, in the foreground, until told to stop.

    SIGTERM and Ctrl-C finish the page in hand and end it; SIGHUP reads the settings again.

    \b
      SYNC_INTERVAL=15m                what changed, the first time at once
      SYNC_RECONCILE_CRON="0 3 * * *"  the whole catalogue, in SYNC_TIMEZONE
      SYNC_PRICES_INTERVAL=1h          the price feeds, the first time behind the first run
      SYNC_STOCK_INTERVAL=15m          the source items, likewise
      SYNC_REFERENCE_CRON="30 2 * * *" attributes, categories, store views; the first time at once

    Many tenants are served in turns, as many at once as the file says; one whose settings, credential,
    database or API fails is reported by name, and keeps no other from being served. SIGHUP also takes up
    tenants that were added, and lets go of those that were removed.

    \b
      product-sync daemon --tenants /etc/product-sync/tenants.toml

    Exit status: 0 stopped, 64 usage, 69 the only database out of reach at the start, 78 settings, or FILE.
    """
    from sync.service.daemon import serve
    from sync.settings import Settings

    def read() -> ServedTenants:
        return _served(tenants, Settings)

    serve(read(), read)


def _served(tenants: Path | None, kind: type[Settings]) -> ServedTenants:
    """Whom to serve; what is logged from now on follows the settings of the process. Raises SettingsError."""
    from sync.settings import served
    from sync.settings.tenants import load

    found = served.alone(kind.load()) if tenants is None else served.of_file(load(tenants), kind)
    configure_logs(found.process, also=found.members.values())
    return found


@app.command(short_help="Read ranges for --executor celery.")
def worker(*, tenants: TenantsFile = None) -> None:
    """Read ranges of ids that `backfill` and `reconcile --executor celery` order, until told to stop.

    One process reads SYNC_CONCURRENCY ranges at once; start one for each processor core, on as many machines
    as you like. All of them keep to one pace. Needs PostgreSQL, CELERY_BROKER_URL and the extra [celery].

    \b
      product-sync worker &
      product-sync worker &
      product-sync backfill --executor celery
      product-sync worker --tenants tenants.toml    for all tenants of a file, whose runs take turns

    SIGTERM and Ctrl-C finish the pages in hand; what is left goes to other workers. Killed, it leaves its
    ranges to them within 15 seconds.

    Exit status: 0 stopped, 69 database out of reach at the start, 78 settings.
    """
    from sync.service.worker import work
    from sync.settings import Settings

    work(_served(tenants, Settings))


@app.command(short_help="Serve the status page over a copy.")
def serve(*, tenants: TenantsFile = None) -> None:
    """Serve the status page alone, in the foreground, until told to stop: it only reads.

    For a copy that another machine or cron keeps; the daemon serves the same page by itself.

    \b
      product-sync serve                             at STATUS_BIND, http://127.0.0.1:8321/
      STATUS_BIND=0.0.0.0:80 product-sync serve      for everybody who reaches this machine
      product-sync serve --tenants tenants.toml      a list of all, and the pages of each

    Exit status: 0 stopped, 69 database out of reach or no copy yet, 78 settings, or STATUS_BIND is taken.
    """
    from sync.settings import CopySettings
    from sync.web.server import serving

    served = _served(tenants, CopySettings)
    bind = served.process.status_bind
    if bind is None:
        raise SettingsError("STATUS_BIND: is off: there is nowhere to serve.", "set it to host:port.")
    with stoppable() as stop, _page(served) as page, serving(page, bind) as url:
        complain(f"product-sync: the status page is at {url}")
        stop.wait()


@contextmanager
def _page(served: ServedTenants) -> Iterator[Starlette]:
    """The page over the only copy, which must be there, or over those of many."""
    from sync.app import copy_of
    from sync.service.copy_monitor import CopyMonitors
    from sync.web.app import application, application_for

    if served.is_alone:
        with copy_of(served.process) as engine:
            yield application(engine, served.process)
        return
    with closing(CopyMonitors(served)) as onlookers:
        yield application_for(onlookers, served.process)


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

    bind = copy_settings().status_bind
    if bind is None:
        raise SettingsError("STATUS_BIND: is off: there is nobody to ask.", "set it to host:port.")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind.host, bind.host)  # noqa: S104 - asked, not bound
    connection = HTTPConnection(host, bind.port, timeout=5)
    try:
        connection.request("GET", "/readyz" if ready else "/healthz")
        answer = connection.getresponse()
        reason = loads(answer.read(100_000))["reason"]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        complain(f"product-sync: no daemon answers at {bind}.")
        raise typer.Exit(69) from None
    finally:
        connection.close()
    emit(reason)
    raise typer.Exit(0 if answer.status == 200 else 1)
