"""The change feed, printed or posted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from sync.cli.console import INTERRUPTED, complain, print_out, stoppable
from sync.cli.options import MAX_ID, app, copy_settings
from sync.cli.tenants import for_tenants
from sync.cli.urls import given_url
from sync.model import counted

if TYPE_CHECKING:
    from sync.feed.follow import Entry, Sender
    from sync.feed.positions import PositionStore
    from sync.settings import Settings


@app.command(short_help="Print the change feed, or post it.")
@for_tenants(one_by_one=False)
def changes(
    *,
    since: Annotated[
        int, typer.Option(min=0, max=MAX_ID, metavar="ID", help="Begin after this change_id.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MAX_ID, help="Print at most this many entries.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more, until stopped.")] = False,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Store the position in this file, and resume from it.")
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Post signed batches to this URL instead of printing; - reads it from standard input.",
        ),
    ] = None,
    rewind: Annotated[
        bool,
        typer.Option(
            "--rewind", help="Discard the stored position: start at the beginning, or after --since."
        ),
    ] = False,
) -> None:
    """Print the change feed, oldest first, one JSON object a line; or post it to a webhook.

    A reader that stores the last change_id and passes it to --since misses nothing. With --state, FILE stores
    the position after each written entry: after a crash the last entries are repeated, and none is missing.
    --since then applies only until FILE exists. One process at a time can use FILE (FILE.lock), and only with
    the database it came from.

    --webhook posts {"first_id", "last_id", "changes": [...]}, up to 100 changes and about 900 kB per batch,
    in order; each batch after the 2xx for the one before. Each change arrives at least once: after a crash or
    a lost answer some are repeated, so a receiver must ignore a change_id and changed_at that it already has.
    A restored copy reuses change_ids with other times. The position of a URL is kept in the copy, or in FILE.
    Give a URL that holds a token or a password on standard input, because other users of this machine can
    read the arguments of a command.

    \b
      webhook-id         first_id-last_id-DIGEST: the same for the same changes, and in Idempotency-Key
      webhook-timestamp  SECONDS since 1970, of this try
      webhook-signature  v1,BASE64: HMAC-SHA256 of ID.SECONDS.BODY with WEBHOOK_SECRET

    These are the headers of Standard Webhooks: its libraries verify them. The former header,
    X-Product-Sync-Signature, is sent too, for the last time in this version.

    The receiver must answer within 30 seconds. Connection errors, 408, 425, 429 and 5xx are retried after the
    time in Retry-After, for SYNC_MAX_RETRY_TIME, with --follow without limit. 413 halves the batch. Any other
    answer ends the command after four tries, a redirect at once; a restart posts the same batch again.

    \b
      product-sync changes --since 4711 --limit 100          the next hundred
      product-sync changes --follow --state search.json      all entries and new ones, across restarts
      product-sync changes --follow --webhook https://search.example/products
      product-sync changes --webhook URL --rewind            everything again from the first entry
      product-sync changes --follow --webhook - < url.txt    the URL is the file's first line

    Entries older than SYNC_CHANGES_KEEP are deleted: who asks for them is refused, and nothing is skipped.

    Exit status: 0, 64 a FILE or a URL that cannot be used, 69 database or receiver out of reach, receiver
    refuses, or no copy yet, 75 another process uses the same position, 77 receiver answers 401 or 403, 78
    settings, a position from another or a restored database, or entries no longer kept, 130 interrupted.
    """
    from sync.app import copy_of
    from sync.feed import follow as feed
    from sync.feed.positions import NoPosition, WebhookPosition, position_file

    settings = copy_settings()
    webhook = None if webhook is None else given_url(webhook, "the receiver")
    with ExitStack() as opened:
        stop = opened.enter_context(stoppable())
        send, receiver = _sender(opened, settings, webhook, stop, follow=follow)
        engine = opened.enter_context(copy_of(settings))
        store: PositionStore = NoPosition()
        if state is not None:
            store = opened.enter_context(position_file(state))
        elif webhook is not None:
            store = WebhookPosition(engine, webhook, stop)
        source = feed.Feed(engine, stop, follow=follow)
        count = feed.forward(source, send, store, since=since, limit=limit, rewind=rewind)
        if receiver:
            complain(f"product-sync: {counted(count, 'change')} posted to {receiver}.")
    if stop.is_set():
        raise typer.Exit(INTERRUPTED)


def _sender(
    opened: ExitStack, settings: Settings, webhook: str | None, stop: Event, *, follow: bool
) -> tuple[Sender, str]:
    """The sender of entries, and the receiver's host; blank for standard output."""
    if webhook is None:
        return lambda entries: _printed(entries, stop), ""
    from sync.app import open_webhook
    from sync.feed.follow import to_webhook

    receiver = opened.enter_context(open_webhook(settings, webhook, stop, follow=follow))
    return to_webhook(receiver), receiver.host


def _printed(entries: Sequence[Entry], stop: Event) -> Iterator[Sequence[Entry]]:
    """Print entries, and yield those that were printed before `stop` was set."""
    for count, entry in enumerate(entries, 1):
        if not print_out(entry.json.decode()):
            raise typer.Exit
        if stop.is_set():
            yield entries[:count]
            return
    yield entries
