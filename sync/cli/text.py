"""Formats runs, drift, products and changes as plain text for standard output. Pure.

The output has no colours and no terminal width, so that it can be piped and compared. Catalogue texts are
made printable, so that a product name cannot control a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from sync.errors import SyncError
from sync.logs import printable
from sync.model import Tally, are, counted, duration

if TYPE_CHECKING:  # `show` and `changes` start faster without the HTTP client
    from sync.db.leases import Holder
    from sync.db.overview import ChangesKept, FeedState, StoreViewState
    from sync.passes.reconcile import Drift
    from sync.passes.run import Summary

LONGEST_VALUE = 100  # characters of one value in a card or a change
_JSON = msgspec.json.Encoder(decimal_format="number")
_DRIFT = {
    "missing": "in Commerce, but not in the copy",
    "extra": "in the copy, but not in Commerce",
    "different": "that differ",
}


def table(rows: Iterable[Sequence[object]]) -> str:
    """Format rows as left-aligned columns, separated by two blanks; None is blank."""
    cells = [["" if value is None else printable(str(value)) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def json_line(value: object) -> str:
    """A value as JSON on one line: times as ISO 8601, decimals as numbers with all their digits."""
    return _JSON.encode(value).decode()


def moment(at: datetime | None) -> str | None:
    """A time in UTC, to the second."""
    return None if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _age(span: timedelta | None) -> str | None:
    return None if span is None else duration(span)


# --- runs ------------------------------------------------------------------------------------


def summary_line(summary: Summary) -> str:
    """The outcome of a run in one line, then remarks."""
    title = "dry run, nothing was written" if summary.dry else f"{summary.kind} {summary.status}"
    views = ", ".join(summary.store_views)
    traffic = f"{counted(summary.traffic.requests, 'request')}, {summary.seconds:.1f} s"
    remarks = [] if summary.held_back is None else [summary.held_back]
    if summary.tally.rejected:
        remarks.append("The rejected products and the reasons are in the table rejected_items.")
    if summary.tally.altered:
        remarks.append("The altered products are copied; rejected_items says which values were replaced.")
    return " ".join([f"{title} ({views}): {_tally(summary.tally, summary.dry)}; {traffic}.", *remarks])


def _tally(tally: Tally, dry: bool) -> str:
    would = "would be " if dry else ""
    counts = {
        f"{would}inserted": tally.inserted,
        f"{would}updated": tally.updated,
        "unchanged": tally.unchanged,
        f"{would}deleted": tally.deleted,
        "rejected": tally.rejected,
        "altered": tally.altered,
    }
    counted = [f"{count} {word}" for word, count in counts.items() if count]
    return ", ".join([f"{tally.fetched} read", *counted])


def drift_report(summary: Summary, drift: Sequence[Drift]) -> str:
    """The differences between the copy and the catalogue, a paragraph for each kind."""
    if not drift and summary.exit_code:
        return f"What could be compared ({', '.join(summary.store_views)}) equals the catalogue."
    if not drift:
        return "The copy equals the catalogue."
    return "\n".join(line for found in drift for line in _drift(found))


def drift_lines(drift: Sequence[Drift]) -> list[str]:
    """A line for each kind of difference, without examples."""
    return [next(_drift(found)) for found in drift]


def _drift(found: Drift) -> Iterator[str]:
    what = "that differs" if found.kind == "different" and found.count == 1 else _DRIFT[found.kind]
    yield f"store view {found.store_view}: {counted(found.count, 'product')} {what}"
    for product_id, detail in found.examples:
        yield f"    {product_id}" + (f"  {shortened(detail)}" if detail else "")
    if found.count > len(found.examples):
        yield f"    … and {found.count - len(found.examples)} more"


def drift_as_json(summary: Summary, drift: Sequence[Drift]) -> dict[str, Any]:
    """The summary as an object; `drift` has an object for each kind of difference."""
    ways = [
        asdict(found) | {"examples": [{"product_id": i, "detail": detail} for i, detail in found.examples]}
        for found in drift
    ]
    return summary.as_json() | {"drift": ways}


# --- the state of the copy -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the copy. `runs` are rows of `sync_runs`, newest first; `lease` is the current writer.

    open_rejections    products that were not copied
    feeds              the last successful run of each kind of pass, newest first
    altered            products copied with a value replaced
    copy_of            the tenant; None if not recorded yet
    problems           why the copy is not as fresh as the settings require; empty while it is
    changes            what is kept of the change feed
    failing, waiting, next_runs, resting_price_feeds    as in `outlook`
    words              the same four as sentences
    """

    store_views: Sequence[StoreViewState]
    runs: Sequence[Mapping[str, Any]]
    open_rejections: int
    lease: Holder | None
    feeds: Sequence[FeedState] = ()
    altered: int = 0
    copy_of: str | None = None
    problems: Sequence[str] = ()
    changes: ChangesKept | None = None
    failing: Sequence[Mapping[str, Any]] = ()
    waiting: Mapping[str, Any] | None = None
    next_runs: Mapping[str, datetime] = field(default_factory=dict)
    resting_price_feeds: Sequence[str] = ()
    words: Sequence[str] = ()


def status_report(status: Status) -> str:
    """What `product-sync status` prints; times are UTC."""
    views = [
        (view.store_view, view.live, view.deleted, moment(view.watermark) or "never", _age(view.lag))
        for view in status.store_views
    ]
    feeds = [
        (feed.kind, moment(feed.finished_at), duration(feed.age), feed.status, feed.run_id)
        for feed in status.feeds
    ]
    outcome = ("run", "kind", "status", "started", "seconds")
    columns = (*outcome, "inserted", "updated", "deleted", "rejected", "altered")
    return "\n".join(
        [
            table([("store view", "products", "deleted", "complete up to", "behind"), *views]),
            *(f"    {words}" for words in left_words(status.store_views)),
            "",
            table([("pass", "last succeeded", "ago", "status", "run"), *feeds]),
            "",
            table([columns, *map(_run_row, status.runs)]),
            *(f"    run {run['run_id']}: {shortened(run['error'])}" for run in status.runs if run["error"]),
            "",
            *(f"Not fresh: {printable(reason)}" for reason in status.problems),
            *map(printable, status.words),
            f"Copy of: {status.copy_of or 'a tenant that the next pass will name'}",
            f"Rejected products, not resolved: {status.open_rejections}",
            f"Altered products, copied with a value replaced: {status.altered}",
            f"Change feed: {_kept(status.changes)}",
            f"Writing now: {_holding(status.lease)}",
        ]
    )


def _kept(changes: ChangesKept | None) -> str:
    if changes is None or changes.oldest_id is None:
        return "no entries"
    return f"entries {changes.oldest_id} to {changes.last_id}, the oldest of {moment(changes.oldest_at)}"


def left_words(views: Iterable[StoreViewState]) -> Iterator[str]:
    """A sentence for each store view that left, with the remedy."""
    for view in views:
        if view.left is not None:
            where = "in STORE_VIEWS" if view.left == "settings" else "on the tenant"
            back = "Put it back, or" if view.left == "settings" else "Take it out of STORE_VIEWS and"
            yield (
                f"Store view {view.store_view} is not {where} any more: {_not_current(view.live)}. "
                f"{back} run: product-sync forget --store-view {view.store_view}"
            )


def _not_current(live: int) -> str:
    return f"its {counted(live, 'product')} {are(live)} not current"


def status_json(status: Status) -> str:
    """The same facts for a script; lags and ages are seconds."""
    return json_line(_status_facts(status))


def _status_facts(status: Status) -> dict[str, Any]:
    views = [
        asdict(view) | {"lag": None if view.lag is None else round(view.lag.total_seconds())}
        for view in status.store_views
    ]
    feeds = [asdict(feed) | {"age": round(feed.age.total_seconds())} for feed in status.feeds]
    facts = asdict(status) | {"store_views": views, "feeds": feeds}
    del facts["words"]
    return facts


def statuses_report(statuses: Mapping[str, Status | SyncError]) -> str:
    """A line for each tenant, then their errors."""
    columns = ("tenant", "rows", "complete up to", "behind", "rejected", "altered", "last run", "status")
    rows = [(name, *_status_row(status)) for name, status in statuses.items()]
    errors = [(name, _errors(status)) for name, status in statuses.items()]
    return "\n".join([table([columns, *rows]), *(f"{name}: {words}" for name, words in errors if words)])


def _status_row(status: Status | SyncError) -> tuple[object, ...]:
    if isinstance(status, SyncError):
        return None, None, None, None, None, None, "unknown"
    views = [view for view in status.store_views if view.left is None]
    marks = [view.watermark for view in views]
    whole = [mark for mark in marks if mark is not None]
    lags = [view.lag for view in views if view.lag is not None]
    last = status.runs[0] if status.runs else {"kind": None, "status": None}
    return (
        sum(view.live for view in views),
        moment(min(whole)) if whole and len(whole) == len(marks) else "never",
        _age(max(lags, default=None)),
        status.open_rejections,
        status.altered,
        last["kind"],
        last["status"],
    )


def _errors(status: Status | SyncError) -> str:
    """Why a tenant has no status; or why its copy is not fresh, and why its last finished run failed."""
    if isinstance(status, SyncError):
        return f"{printable(str(status))} To do: {status.fix}"
    ended = (run for run in status.runs if run["status"] != "running")
    error = next(ended, {"error": None})["error"]
    return " ".join([*status.problems, *([shortened(error)] if error else [])])


def statuses_json(statuses: Mapping[str, Status | SyncError]) -> str:
    """An object by tenant: the facts of `status_json`, or `error` and `fix`."""
    return json_line(
        {
            name: {"error": str(status), "fix": status.fix}
            if isinstance(status, SyncError)
            else _status_facts(status)
            for name, status in statuses.items()
        }
    )


def _run_row(run: Mapping[str, Any]) -> tuple[object, ...]:
    counts = (run[name] for name in ("inserted", "updated", "deleted", "rejected", "altered"))
    seconds = None if run["finished_at"] is None else f"{run['seconds']:.1f}"
    return (run["run_id"], run["kind"], run["status"], moment(run["started_at"]), seconds, *counts)


def _holding(holder: Holder | None) -> str:
    return "nobody" if holder is None else f"{holder.owner}, since {moment(holder.since)}"


# --- products --------------------------------------------------------------------------------


def title(product: Mapping[str, Any]) -> str:
    """The product's SKU and store view, and whether it is deleted or not current (`left`)."""
    gone = "" if product["deleted_at"] is None else f", deleted {moment(product['deleted_at'])}"
    left = ", not current: the store view left" if product["left"] else ""
    return f"{printable(product['sku'])} in store view {product['store_view']}{left}{gone}"


def product_json(
    product: Mapping[str, Any],
    document: str,
    children: Mapping[str, Sequence[Mapping[str, Any]]],
    changes: Sequence[Mapping[str, Any]] | None,
) -> str:
    """One product as JSON: columns, document, a list for each child table, and changes."""
    facts = {**product, "document": msgspec.Raw(document.encode()), **children}
    return json_line(facts if changes is None else facts | {"changes": [dict(change) for change in changes]})


def product_card(product: Mapping[str, Any], children: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One product of one store view as text: columns, then each child table with rows."""
    plain = [(name, shown(value)) for name, value in product.items() if name != "left"]
    parts = [title(product), _indented(table(plain))]
    for name, rows in children.items():
        if rows:
            cells = [[shown(value) for value in row.values()] for row in rows]
            heads = [[]] if name == "product_attributes" else [list(rows[0])]
            parts += [f"  {name}", _indented(table([*filter(None, heads), *cells]))]
    return "\n".join(parts)


def history(changes: Iterable[Mapping[str, Any]]) -> str:
    """A product's change feed entries, oldest first, a line for each changed path."""
    return "\n".join(line for change in changes for line in _change_lines(change))


def _change_lines(change: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {moment(change['changed_at'])}  {change['kind']}  (change {change['change_id']})"
    for path, values in (change["fields"] or {}).items():
        yield f"    {printable(path)}: {_values(values)}"


def _values(values: Mapping[str, Any]) -> str:
    """The old and the new value; without an old one it was added, without a new one removed."""
    if "old" not in values:
        return f"added {shown(values['new'])}"
    if "new" not in values:
        return f"removed {shown(values['old'])}"
    return f"{shown(values['old'])} -> {shown(values['new'])}"


def shown(value: object) -> str | None:
    """A value of a product, shortened to one line."""
    if value is None:
        return None
    return shortened(moment(value) or "" if isinstance(value, datetime) else str(value))


def shortened(text: str) -> str:
    begin = text[: 10 * LONGEST_VALUE]  # copies of a long text take many times its memory
    line = printable(" ".join(begin.split()))
    return line if len(line) <= LONGEST_VALUE and begin == text else f"{line[: LONGEST_VALUE - 1]}…"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
