"""The commands that run until stopped, and `health`."""

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
    """Run and reconcile on schedule, in the foreground, until stopped.

    SIGTERM and Ctrl-C stop it after the current page; SIGHUP reloads the settings.

    \b
      SYNC_INTERVAL=15m                changes, starting at once
      SYNC_RECONCILE_CRON="0 3 * * *"  the whole catalogue, in SYNC_TIMEZONE
      SYNC_PRICES_INTERVAL=1h          the price feeds, starting after the first run
      SYNC_STOCK_INTERVAL=15m          the source items, starting after the first run
      SYNC_REFERENCE_CRON="30 2 * * *" attributes, categories, store views; starting at once

    Many tenants are served in turns; the file sets how many at once. A tenant whose settings, credential,
    database or API fails is reported by name, and the others are served. SIGHUP also starts added tenants and
    stops removed ones.

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
    """The tenants to serve; also configures the log. Raises SettingsError."""
    from sync.settings import served
    from sync.settings.tenants import load

    found = served.alone(kind.load()) if tenants is None else served.of_file(load(tenants), kind)
    configure_logs(found.process, also=found.members.values())
    return found


@app.command(short_help="Read ranges for --executor celery.")
def worker(*, tenants: TenantsFile = None) -> None:
    """Read id ranges for `backfill` and `reconcile --executor celery`, until stopped.

    One process reads SYNC_CONCURRENCY ranges at once; start one per processor core, on one or more machines.
    All workers share one request rate. Needs PostgreSQL, CELERY_BROKER_URL and the extra [celery].

    \b
      product-sync worker &
      product-sync worker &
      product-sync backfill --executor celery
      product-sync worker --tenants tenants.toml    for all tenants of a file

    SIGTERM and Ctrl-C stop it after the current pages; other workers read the rest. They also take over the
    ranges of a killed worker within 15 seconds.

    Exit status: 0 stopped, 69 database out of reach at the start, 78 settings.
    """
    from sync.service.worker import work
    from sync.settings import Settings

    work(_served(tenants, Settings))


@app.command(short_help="Serve the status page over a copy.")
def serve(*, tenants: TenantsFile = None) -> None:
    """Serve the status page alone, in the foreground, until stopped; read-only.

    For a copy that cron or another machine keeps fresh; the daemon serves the same page.

    \b
      product-sync serve                             at STATUS_BIND, http://127.0.0.1:8321/
      STATUS_BIND=0.0.0.0:80 product-sync serve      for every machine that can connect
      product-sync serve --tenants tenants.toml      a list of all tenants, and the pages of each

    Exit status: 0 stopped, 69 database out of reach or no copy yet, 78 settings, or STATUS_BIND in use.
    """
    from sync.settings import CopySettings
    from sync.web.server import serving

    served = _served(tenants, CopySettings)
    bind = served.process.status_bind
    if bind is None:
        raise SettingsError(
            "STATUS_BIND: is off, so there is no address to serve at.", "set it to host:port."
        )
    with stoppable() as stop, _page(served) as page, serving(page, bind) as url:
        complain(f"product-sync: the status page is at {url}")
        stop.wait()


@contextmanager
def _page(served: ServedTenants) -> Iterator[Starlette]:
    """The page of the only copy, which must exist, or of many copies."""
    from sync.app import copy_of
    from sync.service.copy_monitor import CopyMonitors
    from sync.web.app import application, application_for

    if served.is_alone:
        with copy_of(served.process) as engine:
            yield application(engine, served.process)
        return
    with closing(CopyMonitors(served)) as monitors:
        yield application_for(monitors, served.process)


@app.command(short_help="Ask a running daemon how it is.")
def health(
    *,
    ready: Annotated[
        bool,
        typer.Option(
            "--ready", help="Report whether the copy is fresh, not only whether the daemon is alive."
        ),
    ] = False,
) -> None:
    """Ask the daemon at STATUS_BIND whether it is alive; for a container's HEALTHCHECK.

    \b
      product-sync health            /healthz: the daemon is alive, no worker is stuck
      product-sync health --ready    /readyz: the copy is as fresh as SYNC_MAX_LAG requires

    Exit status: 0 yes, 1 no, 69 no answer, 78 settings.
    """
    from http.client import HTTPConnection, HTTPException
    from json import loads

    bind = copy_settings().status_bind
    if bind is None:
        raise SettingsError("STATUS_BIND: is off, so no daemon can answer.", "set it to host:port.")
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
