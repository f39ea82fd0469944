"""Reading id ranges to their end: what backfill, reconcile, verify and every window have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

import sqlalchemy as sa

from sync.db import pages, partitions, products
from sync.db.partitions import Partition
from sync.errors import CommerceError
from sync.model import Interval, Page, Tally, Unreadable
from sync.passes.partitioning import cut
from sync.passes.readahead import Item, read_ahead
from sync.passes.run import Run
from sync.pipeline import Comparison, Reading, reject_unreadable, sync_page, verify_page, verify_unreadable

Since = Mapping[str, datetime]  # by store view, the beginning of a window of `updated_at`


def ranges(run: Run, interval: Interval, since: Since | None = None) -> list[Partition]:
    """Ask the tenant how much there is in `interval`, and cut it up for the readers.

    since    only products stamped from then on

    The ranges end at the highest id of now, there or here: a catalogue that grows would keep us reading.
    A store view without products has no ranges.
    """
    sync = run.sync
    planned: list[Partition] = []
    for view in sync.store_views:
        top = sync.source.highest(view, interval, updated_from=since[view] if since else None)
        run.note_server_time(top.server_time)
        run.expect(top.total)
        here = 0 if since else run.read(lambda c, view=view: products.highest_live(c, view))  # type: ignore[misc]
        highest = max(top.highest_id, here)
        span = Interval(interval.after, highest if interval.last is None else min(highest, interval.last))
        if not span.is_empty:
            pieces = cut(span, top.highest_id, top.total, sync.page_size, sync.concurrency)
            planned += [Partition.of(view, piece) for piece in pieces]
    return planned


def sweep(
    run: Run,
    todo: Iterable[Partition],
    since: Since | None = None,
    *,
    complete: bool = False,
    audit: bool = False,
) -> None:
    """Read ranges and make the copy agree, a page per transaction.

    complete    the ranges are read without a filter: what is stored there and not listed is a finding
    audit       also compare stored rows with their documents
    """

    def write(tx: sa.Connection, page: Page, reading: Reading) -> tuple[Comparison, Tally]:
        found = sync_page(tx, page, reading)
        return found, found.tally

    _sweep(run, list(todo), since, complete, audit, write)


def inspect(run: Run, todo: Iterable[Partition]) -> None:
    """Read ranges and note where the copy differs; the copy stays as it is."""

    def look(tx: sa.Connection, page: Page, reading: Reading) -> tuple[Comparison, Tally]:
        found = verify_page(tx, page, reading)
        return found, Tally(fetched=found.fetched, unchanged=found.unchanged)

    _sweep(run, list(todo), None, True, True, look)


_Step = Callable[[sa.Connection, Page, Reading], tuple[Comparison, Tally]]


def _sweep(
    run: Run, todo: list[Partition], since: Since | None, complete: bool, audit: bool, step: _Step
) -> None:
    views = set() if since else {partition.store_view for partition in todo}
    known = run.read(lambda connection: {view: pages.known(connection, view) for view in views})

    def read(partition: Partition) -> Iterator[Item]:
        view = partition.store_view
        begin = since[view] if since else None
        return run.sync.source.walk(view, partition.rest, updated_from=begin, known=known.get(view))

    unread = {partition: partition.rest for partition in todo}
    try:
        for partition, item in read_ahead(todo, read, run.sync.concurrency):
            reading = run.reading(item.store_view, complete=complete, filtered=since is not None, audit=audit)
            if isinstance(item, Unreadable):
                tally = _reject(run, partition, item, reading)
            else:
                tally = _take(run, partition, item, reading, step)
            unread[partition] = _rest(partition, item.interval)
            run.sync.watch.page_written(item.store_view, item, tally)
    except CommerceError as error:
        error.unread = _in_words(unread)
        raise


def _take(run: Run, partition: Partition, page: Page, reading: Reading, step: _Step) -> Tally:
    found: list[Comparison] = []

    def work(tx: sa.Connection) -> Tally:
        comparison, tally = step(tx, page, reading)
        found.append(comparison)
        partitions.move_cursor(tx, run.run_id, partition, _cursor(partition, page.interval))
        return tally

    tally = run.commit(work)
    arrived = (change.product_id for change in found[-1].changes if change.kind != "update")
    run.note_dry(page.store_view, found[-1].missing, arrived)
    return tally


def _reject(run: Run, partition: Partition, item: Unreadable, reading: Reading) -> Tally:
    note = verify_unreadable if run.kind == "verify" else reject_unreadable
    run.sync.watch.product_rejected(item)
    run.note_dry(item.store_view, (), () if item.product_id is None else (item.product_id,))

    def work(tx: sa.Connection) -> Tally:
        tally = note(tx, item, reading)
        partitions.move_cursor(tx, run.run_id, partition, _cursor(partition, item.interval))
        return tally

    return run.commit(work)


def _cursor(partition: Partition, read: Interval) -> int | None:
    """Where the partition's cursor stands after `read`; None when that was its end."""
    return None if read.last == partition.last else read.last


def _rest(partition: Partition, read: Interval) -> Interval:
    """What is left of the partition after `read`."""
    return Interval(0, 0) if read.last is None else Interval(read.last, partition.last)


def _in_words(unread: Mapping[Partition, Interval]) -> str:
    """The ids that were not read, neighbouring ranges joined."""
    left: list[tuple[str, Interval]] = []
    for partition, rest in unread.items():
        view = partition.store_view
        if rest.is_empty:
            continue
        if left and left[-1][0] == view and left[-1][1].last == rest.after:
            left[-1] = view, Interval(left[-1][1].after, rest.last)
        else:
            left.append((view, rest))
    return "Not read: " + ", ".join(f"{view} {rest}" for view, rest in left) + "."
