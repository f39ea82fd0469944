"""Reading id ranges to their end: what backfill, reconcile, verify and every window have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Semaphore
from typing import Final

import sqlalchemy as sa

from sync.commerce.page_size import HEAVY_PAGE
from sync.commerce.products import EVERY_ID, Extent
from sync.compare import CompareMode, map_page
from sync.db import pages, partitions, products, rejected, runs
from sync.db.dialects import capacity, utc_now
from sync.db.partitions import Partition
from sync.db.runs import Clocks
from sync.errors import CommerceError, RequestRefused, SettingsError
from sync.model import Capacity, Interval, Unreadable
from sync.passes.alike import AlikeViews
from sync.passes.partitioning import CountedIds, as_before
from sync.passes.prefetch import Item, read_ahead_in_groups
from sync.passes.ranges import Division, Range, Ranges
from sync.passes.run import Run
from sync.pipeline import Arrival, PageOutcome, sync_pages

_Unread = dict[tuple[str, int], Partition]  # by name, how far each is read and written
Since = Mapping[str, datetime]  # by store view, the beginning of a window of `updated_at`
Pieces = Callable[[Run, str, Interval, Extent], list[CountedIds]]

LONGEST_TURN_S: Final = 1.0  # to wait for a turn to map
POLL_S: Final = 0.1
TOLERANCE: Final = timedelta(minutes=2)  # `Date` has whole seconds; first answers may have taken their time


def ranges(
    run: Run,
    interval: Interval,
    since: Since | None = None,
    pieces: Pieces | None = None,
    alike: AlikeViews | None = None,
) -> list[Partition]:
    """Ask the tenant how much there is in `interval`, and cut it up.

    since     only products stamped from then on
    pieces    how it is cut up for workers; the readers of this process divide their ranges as they go
    alike     store views with the same `since`, of which one is asked for all

    The ranges end at the highest id of now, there or here: a catalogue that grows would keep us reading.
    A store view without products has no ranges.
    """

    def look(view: str) -> Extent:
        return run.sync.source.highest(view, interval, updated_from=since[view] if since else None)

    planned: list[Partition] = []
    common = alike.ask(look) if alike is not None else None
    for view in run.sync.store_views:
        with run.apart(view):
            top = common if common and alike is not None and view in alike else look(view)
            cuts = _cut_up(run, view, interval, top, pieces, is_window=since is not None)
            planned += [Partition.of(view, *piece) for piece in cuts]
    return planned


def _cut_up(
    run: Run, view: str, interval: Interval, top: Extent, pieces: Pieces | None, *, is_window: bool
) -> list[CountedIds]:
    run.note_server_time(top.server_time)
    run.expect(top.total)
    here = 0 if is_window else run.read(lambda c: products.highest_live(c, view))
    highest = max(top.highest_id, here)
    span = Interval(interval.after, highest if interval.last is None else min(highest, interval.last))
    if span.is_empty:
        return []
    return [CountedIds(span, top.total)] if is_window else (pieces or _as_before)(run, view, span, top)


def _as_before(run: Run, view: str, span: Interval, top: Extent) -> list[CountedIds]:
    """A range in the pieces in which it was read last: answers that come again take less to compare."""
    known = run.read(lambda connection: pages.known(connection, view))
    in_order = [known[after] for after in sorted(known)]
    return as_before(span, top.total, run.sync.source.size.current, in_order)


def window(
    run: Run, interval: Interval, since: Since, then: Iterable[Clocks], alike: AlikeViews | None = None
) -> tuple[list[Partition], Since]:
    """The ranges of what was stamped since some time, and since when they are to be read."""
    planned = ranges(run, interval, since, alike=alike)
    wider = widened(since, run.heard, then)
    return (planned, since) if wider == since else (ranges(run, interval, wider, alike=alike), wider)


def widened(since: Since, now: Clocks | None, then: Iterable[Clocks]) -> Since:
    """The same windows, begun earlier where the tenant's clock was set back between `then` and `now`.

    What was stamped after that lies before the window, and would never be read.
    """
    set_back = max((now.set_back_since(it) for it in then), default=timedelta()) if now else timedelta()
    return since if set_back <= TOLERANCE else {view: begin - set_back for view, begin in since.items()}


def todo(run: Run, interval: Interval, pieces: Pieces | None = None) -> list[Partition]:
    """The ranges that an earlier run left to this one; those of `interval` when this run starts afresh."""
    if run.resumed is not None:
        return run.resumed
    return run.plan(ranges(run, interval, pieces=pieces))


def sweep(
    run: Run,
    todo: Iterable[Partition],
    since: Since | None = None,
    *,
    complete: bool = False,
    audit: bool = False,
    report: bool = False,
    counted_later: bool = False,
) -> None:
    """Read ranges and make the copy agree, a page per transaction.

    counted_later    the pass proves at its end that no product was left out
    complete    the ranges are read without a filter: what is stored there and not listed is a finding
    audit       also compare stored rows with their documents
    report      only note where the copy differs; it stays as it is
    """
    unread = {partition.name: partition for partition in todo}
    first = () if complete or since else _never_loaded(run)
    reading = CompareMode(complete, since is not None, audit, report, run.retried, first)
    try:
        arrivals = _arrivals(run, unread, since, counted_later=counted_later)
        for outcome in sync_pages(arrivals, reading, run.sync.source, run.writer):
            _note(run, outcome, unread)
    except (CommerceError, SettingsError) as error:
        if isinstance(error, RequestRefused | SettingsError) and run.leave_out_unknown():
            others = _of_others(run, unread)
            sweep(
                run,
                others,
                since,
                complete=complete,
                audit=audit,
                report=report,
                counted_later=counted_later,
            )
            return
        if isinstance(error, CommerceError):
            error.unread = in_words(unread.values())
        raise


def _never_loaded(run: Run) -> list[str]:
    return run.read(lambda c: [view for view in run.sync.store_views if runs.watermark(c, view) is None])


def _note(run: Run, outcome: PageOutcome, unread: _Unread) -> None:
    """Count what became of an arrival, and how far its partition is read."""
    item, partition = outcome.arrival.item, outcome.arrival.partition
    if isinstance(item, Unreadable):
        run.sync.watch.product_rejected(item)
    if partition is not None:
        read = item.interval.last
        if read is None or read == partition.last:
            del unread[partition.name]
        else:
            unread[partition.name] = replace(unread[partition.name], cursor=read)
    run.note(outcome)


def read_all(run: Run, interval: Interval) -> None:
    """Read a whole catalogue, or an id range of it, here or through workers."""
    if run.sync.queue is None:
        counted_later = not run.is_full and interval == EVERY_ID
        ranges = todo(run, interval)
        sweep(run, ranges, complete=run.is_full, audit=run.is_full, counted_later=counted_later)
        return
    from sync.passes.workers import lead  # only where there is a broker

    lead(run, run.sync.queue, interval)


def retry_rejected(run: Run, store_view: str) -> None:
    """Ask again for each product that could not be copied; resolve those that now can, or are gone.

    Not for those that this very run has just rejected.
    """
    owed = run.read(lambda connection: rejected.to_retry(connection, store_view, run.run_id))
    if owed:
        sweep(run, [Partition.of(store_view, interval) for interval in owed], complete=True)
        run.transact(lambda tx: rejected.resolve_others(tx, store_view, run.run_id, utc_now(tx)))


# --- reading, and mapping ahead ------------------------------------------------------------------


def _arrivals(
    run: Run, unread: _Unread, since: Since | None, *, counted_later: bool
) -> Iterator[list[Arrival]]:
    """Read ranges; known pages that wait for the writer come together, others alone.

    What readers divide is stored before any page of either part is written.
    """
    todo, source = list(unread.values()), run.sync.source
    views = set() if since else {partition.store_view for partition in todo}
    known = run.read(lambda connection: {view: pages.known(connection, view) for view in views})
    unknown = [it for it in todo if it.rest.after not in known.get(it.store_view, ())]
    mapper = _Mapper(run, () if since else unknown)
    starts = {view: sorted(found) for view, found in known.items()}
    ranges = Ranges(todo, lambda: source.size.current, run.sync.concurrency, starts)

    def walk(reading: Range, rest: Interval) -> Iterator[Item]:
        view, planned = reading.planned.store_view, reading.planned
        return source.walk(
            view,
            rest,
            updated_from=since[view] if since else None,
            known=known.get(view),
            expected=planned.products if rest == planned.rest else None,
            counted_later=counted_later,
        )

    def read(reading: Range) -> Iterator[Arrival]:
        for partition, item in ranges.read(reading, walk):
            yield mapper.arrival(reading.planned, partition, item)

    readers = run.sync.concurrency if todo else 0
    for group in read_ahead_in_groups(ranges, read, readers, lambda it: it.is_known, lambda it: it.size):
        _store_divisions(run, ranges.divisions(), unread)
        yield [arrival for _, arrival in group]


def _store_divisions(run: Run, divisions: Sequence[Division], unread: _Unread) -> None:
    if not divisions:
        return
    for shorter, taken in divisions:
        unread[shorter.name] = replace(unread[shorter.name], last=shorter.last)
        unread[taken.name] = taken

    def store(tx: sa.Connection) -> None:
        for division in divisions:
            partitions.divide(tx, run.run_id, *division)

    run.transact(store)


class _Mapper:
    """Maps products where they were read, while the writer waits for the database: up to half of its time.

    Only where the copy holds nothing yet: elsewhere most products are as they were, and need no mapping.
    That is asked about ranges that begin with an unknown page.
    A mapped page takes four times the memory, so one of them waits besides the one that is being written.
    The next is mapped as soon as the writer takes that: then the database is about to be busy with it for a
    while, and the interpreter is free.
    """

    def __init__(self, run: Run, unknown: Iterable[Partition]) -> None:
        def look(connection: sa.Connection) -> tuple[Capacity, set[Partition]]:
            fresh = {it for it in unknown if products.is_empty(connection, it.store_view, it.rest)}
            return capacity(connection), fresh

        self._capacity, self._fresh = run.read(look)
        self._turn = Semaphore()
        self._stop = run.sync.stop

    def arrival(self, planned: Partition, partition: Partition, item: Item) -> Arrival:
        arrival = Arrival(item, partition)
        if isinstance(item, Unreadable) or not item.products or planned not in self._fresh:
            return arrival
        if arrival.size <= HEAVY_PAGE and self._has_turn():
            arrival.mapped, arrival.turn = map_page(item, self._capacity), self._turn
        return arrival

    def _has_turn(self) -> bool:
        """Wait for a turn; without one, the writer maps the page itself."""
        tries = range(round(LONGEST_TURN_S / POLL_S))
        return any(self._turn.acquire(timeout=POLL_S) for _ in tries if not self._stop.is_set())


def _of_others(run: Run, unread: _Unread) -> list[Partition]:
    """What is still to be read of the store views that the tenant knows."""
    return [
        partition
        for partition in unread.values()
        if partition.store_view in run.sync.store_views and not partition.rest.is_empty
    ]


def in_words(unread: Iterable[Partition]) -> str:
    """The ids that were not read, neighbouring ranges joined."""
    left: list[tuple[str, Interval]] = []
    for partition in sorted(unread, key=lambda it: (it.store_view, it.cursor)):
        view, rest = partition.store_view, partition.rest
        if rest.is_empty:
            continue
        if left and left[-1][0] == view and left[-1][1].last == rest.after:
            left[-1] = view, Interval(left[-1][1].after, rest.last)
        else:
            left.append((view, rest))
    return "Not read: " + ", ".join(f"{view} {rest}" for view, rest in left) + "."
