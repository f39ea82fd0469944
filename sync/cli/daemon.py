"""What runs until it is told to stop, and asking it how it is."""

from __future__ import annotations

from typing import Annotated

import typer

from sync.cli.console import complain, emit, stoppable
from sync.cli.shared import app, copy_settings, settings_in_force
from sync.errors import SettingsError


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
        return fleet.alone(settings_in_force())

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

    work(settings_in_force())


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

    settings = copy_settings()
    if settings.status_bind is None:
        raise SettingsError("STATUS_BIND: is off: there is nowhere to serve.", "set it to host:port.")
    with (
        stoppable() as stop,
        copy_of(settings) as engine,
        serving(application(engine, settings), settings.status_bind) as url,
    ):
        complain(f"product-sync: the status page is at {url}")
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
