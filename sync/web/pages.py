"""The facts that each page shows: `/runs` renders them as HTML, `/api/runs` as JSON.

Each function takes the copy and the query, and returns plain values. All of them only read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from sync.db import current_views, leases, tenant, web_queries
from sync.db.dialects import MAX_ID, utc_now
from sync.db.engine import reading
from sync.db.health import Freshness, freshness
from sync.db.overview import FeedState, StoreViewState
from sync.db.products import children_of
from sync.db.rejected import ALTERED, NOT_COPIED
from sync.db.web_queries import Row, RowsPage
from sync.errors import UsageError
from sync.files.export import parse_since
from sync.model import counted
from sync.monitor.freshness import FreshnessPolicy, feed_state, problems, view_state
from sync.monitor.outlook import next_words, outlook, waiting_words
from sync.monitor.snapshot import Snapshot, tenant_status
from sync.monitor.steady import SteadyAges
from sync.web.cached_counts import CachedCounts
from sync.web.charts import SHOWN, ChartBar

Facts = dict[str, Any]
Query = Mapping[str, str]
LONGEST_QUERY = 255  # characters: a SKU has no more
KINDS = ("backfill", "incremental", "reconcile", "verify", "prices", "stock", "reference")
REJECT_KINDS = NOT_COPIED + ALTERED
CHANGE_KINDS = ("insert", "update", "delete", "restore")
BEST = 10  # products that a search puts first
HISTORY = 25  # entries on a product's page


class NotFound(Exception):
    """The copy has no such item; `str` says which."""


class BadQuery(Exception):
    """The query is invalid; `str` says why."""


@dataclass(frozen=True, slots=True)
class ShownCopy:
    """The copy that the pages show, and how fresh it must be."""

    db: sa.Engine
    counters: CachedCounts
    policy: FreshnessPolicy
    ages: SteadyAges


# --- the query -------------------------------------------------------------------------------


def _text(query: Query, name: str) -> str:
    """A query parameter, without characters that no database accepts."""
    return query.get(name, "").replace("\0", "").strip()[:LONGEST_QUERY]


def _number(query: Query, name: str) -> int | None:
    text = _text(query, name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadQuery(f"{name} is not a whole number.")
    return min(int(text[:20]), MAX_ID)


def _one_of(query: Query, name: str, choices: tuple[str, ...]) -> str | None:
    text = _text(query, name)
    if text and text not in choices:
        raise BadQuery(f"{name} is none of {', '.join(choices)}.")
    return text or None


# --- overview --------------------------------------------------------------------------------


def overview(copy: ShownCopy, _query: Query) -> Facts:
    """Freshness of store views and feeds, the run in progress, the last runs."""
    counted = copy.counters.last()
    observed, last, copy_of = reading(
        copy.db, lambda c: (freshness(c), web_queries.runs(c).rows, tenant.name(c))
    )
    observed = copy.ages.of(observed)
    holder = leases.holder(copy.db)
    current = last[0] if last and last[0]["status"] == "running" and holder is not None else None
    busy = "" if current is None else current["kind"]
    return {
        "copy_of": copy_of,
        "database": None if counted is None else counted.storage._asdict(),
        "state": tenant_status("", Snapshot(observed), copy.policy, timedelta(), busy=busy).state,
        "problems": [problem.reason for problem in problems(copy.policy, observed)],
        **outlook(observed),
        "next_words": {kind: next_words(observed, kind) for kind in observed.next_runs},
        "waiting_words": waiting_words(observed),
        "now": observed.now,
        "store_views": [] if counted is None else _store_views(copy.policy, observed, counted.store_views),
        "feeds": [] if counted is None else _feeds(copy.policy, observed, counted.feeds),
        "open_rejections": None if counted is None else counted.open_rejections,
        "altered": None if counted is None else counted.altered,
        "counted_at": None if counted is None else counted.at,
        "running": None if current is None else _progress(current, observed.now),
        "writing": None if holder is None else asdict(holder),
        "runs": last[:SHOWN],
    }


def _store_views(policy: FreshnessPolicy, observed: Freshness, views: list[StoreViewState]) -> list[Facts]:
    """Each store view with its state now; the counts may be older."""
    found = []
    for view in views:
        since = None if view.watermark is None else observed.now - view.watermark
        lag = observed.lags.get(view.store_view, since)
        state = view_state(policy, observed, view.store_view) if view.left is None else "left"
        watermark = None if lag is None else observed.now - lag
        found.append(asdict(replace(view, watermark=watermark, lag=lag)) | {"state": state})
    return found


def _feeds(policy: FreshnessPolicy, observed: Freshness, feeds: list[FeedState]) -> list[Facts]:
    """Each kind of pass that ended, newest success first.

    state    `stale` once overdue, `failing` if its last run failed, else how its last run ended
    """
    found, failing = [], observed.failing
    for feed in feeds:
        is_stale = feed_state(policy, observed, feed.kind) == "stale"
        age = observed.now - observed.successes.get(feed.kind, feed.finished_at)
        state = "stale" if is_stale else "failing" if feed.kind in failing else feed.status
        found.append(asdict(feed) | {"age": age, "state": state})
    nothing = dict.fromkeys(("status", "run_id", "finished_at", "age"))
    without = failing.keys() - {feed.kind for feed in feeds}
    return found + [{"kind": kind, **nothing, "state": "failing"} for kind in sorted(without)]


def _progress(run: Row, now: datetime) -> Facts:
    """A run's progress, speed and remaining time; None where unknown."""
    took = max((now - run["started_at"]).total_seconds(), 0.001)
    expected, fetched = run["expected"], run["fetched"]
    speed = fetched / took
    known = bool(expected) and run["kind"] != "reference"
    left = max(0, expected - fetched) / speed if known and speed else None
    return {
        "run_id": run["run_id"],
        "kind": run["kind"],
        "store_views": run["store_views"],
        "started_at": run["started_at"],
        "seconds": round(took, 1),
        "fetched": fetched,
        "expected": expected if known else None,
        "share": min(1.0, fetched / expected) if known else None,
        "per_second": round(speed, 1),
        "seconds_left": None if left is None else round(left),
        **{
            name: run[name] for name in ("inserted", "updated", "unchanged", "deleted", "rejected", "altered")
        },
    }


# --- runs ------------------------------------------------------------------------------------


def runs(copy: ShownCopy, query: Query) -> Facts:
    kind, before = _one_of(query, "kind", KINDS), _number(query, "before")
    found = reading(copy.db, lambda c: web_queries.runs(c, kind, before))
    return {"runs": found.rows, "next": found.next, "kind": kind, "before": before}


def run(copy: ShownCopy, query: Query) -> Facts:
    run_id = _number(query, "run_id") or 0
    found, left, now = reading(
        copy.db, lambda c: (web_queries.run(c, run_id), web_queries.partitions(c, run_id), utc_now(c))
    )
    if found is None:
        raise NotFound(f"The copy has no run {run_id}.")
    progress = _progress(found, now) if found["status"] == "running" else None
    return {"run": found, "partitions": left, "progress": progress}


def bars(rows: list[Row], shown: int = SHOWN) -> dict[str, list[ChartBar]]:
    """The figures of finished runs, oldest first, for each chart."""
    ended = [row for row in rows if row["status"] != "running"][:shown][::-1]
    charts: dict[str, list[ChartBar]] = {
        name: [] for name in ("products", "seconds", "changes", "latency", "rate", "throttled")
    }
    for row in ended:
        label, look = f"run {row['run_id']}", f"is-{row['status']}"
        changed = row["inserted"] + row["updated"] + row["deleted"]
        asked, seconds = row["requests"], row["seconds"]
        latency = 1000 * row["answer_seconds"] / asked if asked else 0.0
        rate = asked / seconds if seconds else 0.0
        for name, value, tip in (
            (
                "products",
                row["fetched"],
                f"{counted(row['fetched'], 'product')} read",
            ),
            ("seconds", seconds, f"{seconds:,.1f} seconds"),
            ("changes", changed, counted(changed, "change")),
            ("latency", latency, f"{latency:,.0f} ms an answer"),
            ("rate", rate, f"{rate:,.1f} requests a second"),
            ("throttled", row["throttled"], f"{row['throttled']:,} of {counted(asked, 'answer')} 429 or 503"),
        ):
            charts[name].append(ChartBar(label, value, f"{row['kind']}, {tip}", look))
    return charts


# --- rejections and changes ------------------------------------------------------------------


def rejected(copy: ShownCopy, query: Query) -> Facts:
    resolved = _text(query, "resolved") == "yes"
    view, before = _text(query, "store_view") or None, _number(query, "before")
    kind = _one_of(query, "kind", REJECT_KINDS)
    found = reading(
        copy.db,
        lambda c: web_queries.rejected(c, resolved=resolved, kind=kind, store_view=view, before=before),
    )
    return {
        "items": found.rows,
        "next": found.next,
        "resolved": resolved,
        "kind": kind,
        "store_view": view,
        "before": before,
        "views": _views(copy),
    }


def changes(copy: ShownCopy, query: Query) -> Facts:
    view, kind = _text(query, "store_view") or None, _one_of(query, "kind", CHANGE_KINDS)
    product, since, day = _text(query, "product"), _text(query, "since"), _text(query, "day")
    before, run_id = _number(query, "before"), _number(query, "run")
    begin, end = _span(copy, since, day, run_id)
    wanted = web_queries.Wanted(
        view, kind, begin, _product_ids(copy, product) if product else None, until=end, run_id=run_id
    )
    found = reading(copy.db, lambda c: _named(c, web_queries.changes(c, wanted, before)))
    return {
        "changes": found.rows,
        "next": found.next,
        "store_view": view,
        "kind": kind,
        "product": product,
        "since": since,
        "day": day,
        "run": run_id,
        "before": before,
        "views": _views(copy),
        "looked_through": web_queries.CHANGES_LOOKED_THROUGH,
    }


def _named(connection: sa.Connection, found: RowsPage) -> RowsPage:
    """The same changes, each with the name that its product has now."""
    names = web_queries.product_names(connection, {(it["store_view"], it["product_id"]) for it in found.rows})
    rows = [it | {"name": names.get((it["store_view"], it["product_id"]))} for it in found.rows]
    return replace(found, rows=rows)


def _span(
    copy: ShownCopy, since: str, day: str, run_id: int | None
) -> tuple[datetime | None, datetime | None]:
    """The time that the changes asked for fall into: all conditions apply."""
    now = reading(copy.db, utc_now)
    begins: list[datetime | None] = [_since(since, now)]
    ends: list[datetime | None] = []
    if day:
        try:
            midnight = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
            begins, ends = [*begins, midnight], [*ends, midnight + timedelta(days=1)]
        except (ValueError, OverflowError):
            raise BadQuery("day is no date, as 2026-03-01.") from None
    if run_id is not None:
        row = reading(copy.db, lambda c: web_queries.run(c, run_id))
        if row is None:
            raise NotFound(f"The copy has no run {run_id}.")
        finished = row["finished_at"]
        begins.append(row["started_at"])
        ends.append(None if finished is None else finished + timedelta(seconds=1))
    return (
        max((it for it in begins if it is not None), default=None),
        min((it for it in ends if it is not None), default=None),
    )


def _since(text: str, now: datetime) -> datetime | None:
    if not text:
        return None
    try:
        return parse_since(text, now)
    except UsageError:
        raise BadQuery(
            "since is neither a time, as 2026-03-01 or 2026-03-01T09:30, nor a span, as 24h."
        ) from None


def _product_ids(copy: ShownCopy, product: str) -> list[int]:
    """The ids of products with exactly this SKU, and the product with this id."""
    ids = reading(copy.db, lambda c: web_queries.ids_of(c, product))
    if product.isascii() and product.isdigit() and len(product) < 19:
        ids = sorted({*ids, int(product)})
    return ids[: web_queries.PAGE]


def _views(copy: ShownCopy) -> list[str]:
    return reading(copy.db, current_views.loaded)


# --- products --------------------------------------------------------------------------------


def products(copy: ShownCopy, query: Query) -> Facts:
    """Products by id, or the result of a search."""
    by = _one_of(query, "by", ("any", "sku", "name", "id")) or "any"
    text, views = _text(query, "q"), reading(copy.db, current_views.current)
    asked, after = _text(query, "store_view") or None, _number(query, "after") or 0
    view = asked or (views[0] if views else "all")
    wanted = [asked] if asked else views
    found = _searched(copy, by, text, wanted, after) if text else _listed(copy, view, after)
    return {
        "products": found.rows,
        "next": found.next,
        "more": by == "sku" and len(found.rows) > web_queries.PAGE,
        "q": text,
        "by": by,
        "store_view": asked,
        "listed_view": view,
        "after": after,
        "views": views,
    }


def _listed(copy: ShownCopy, view: str, after: int) -> RowsPage:
    return reading(copy.db, lambda c: web_queries.products_after(c, view, after))


def _searched(copy: ShownCopy, by: str, text: str, wanted: list[str], after: int) -> RowsPage:
    if by == "any":
        return reading(copy.db, lambda c: _found(c, text, wanted, after))
    if by == "name":
        return reading(copy.db, lambda c: web_queries.containing(c, text, wanted, after, names_only=True))
    if by == "sku":
        return RowsPage(reading(copy.db, lambda c: web_queries.with_sku(c, text, wanted)), None)
    product_id = _number({"id": text}, "id") or 0
    return RowsPage(reading(copy.db, lambda c: web_queries.with_id(c, product_id, wanted)), None)


def _found(c: sa.Connection, text: str, views: list[str], after: int) -> RowsPage:
    """First the product with this id and SKUs with this beginning, then parts of names and SKUs, by id."""
    number = min(int(text), MAX_ID) if text.isascii() and text.isdigit() and len(text) < 20 else None
    best = [] if number is None else web_queries.with_id(c, number, views)
    best += [row for row in web_queries.with_sku(c, text, views)[:BEST] if row not in best]
    parts = web_queries.containing(c, text, views, after)
    rows = ([] if after else best) + [row for row in parts.rows if row not in best]
    return RowsPage(rows, parts.next)


def product(copy: ShownCopy, query: Query) -> Facts:
    """Everything that the copy has of one product in one store view."""
    view, product_id = _text(query, "store_view"), _number(query, "product_id") or 0
    return reading(copy.db, lambda c: _product(c, view, product_id))


def _product(c: sa.Connection, view: str, product_id: int) -> Facts:
    row = web_queries.product(c, view, product_id)
    if row is None:
        raise NotFound(f"The copy has no product {product_id} in store view {view}.")
    key, document = (view, product_id), row["document"]
    history = web_queries.changes(c, web_queries.Wanted(view, product_ids=[product_id]))
    return {
        "product": row if document is None else row | {"document": msgspec.Raw(document.encode())},
        "left": current_views.left(c).get(view),
        "attribute_set": web_queries.attribute_set_name(c, row["attribute_set_id"]),
        "attributes": web_queries.attribute_labels(c, *key),
        "categories": web_queries.category_paths(c, *key),
        "websites": web_queries.website_names(c, *key),
        "prices": web_queries.prices(c, product_id),
        "stock": web_queries.stock(c, row["sku"]),
        "variants": web_queries.variants(c, *key),
        "elsewhere": web_queries.with_id(c, product_id, current_views.current(c)),
        "history": history.rows[:HISTORY],
        "has_more_history": history.next is not None or len(history.rows) > HISTORY,
        **{
            name: rows
            for name, rows in children_of(c, *key).items()
            if name in ("product_media", "product_tier_prices", "product_links")
        },
    }
