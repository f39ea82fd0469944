"""How much of what a tenant allows is used: a quota, latency with room for several, two workers, and idling.

Measured at the tenant, from when each request came in and how long it took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.databases import Databases
from benchmarks.processes import Cost, product_sync, run
from benchmarks.results import Result
from benchmarks.tenant import Request, Tenant, tenant

QUOTA = 5  # requests a second
SHARE_USED = 0.95
SHARE_THROTTLED = 0.01
ROOM = 8
TIMES_IDEAL = 1.1
WORKERS = 2
SETTLED_IN_FLIGHT = 3.0
NO_SLOWER = 1.05  # what two equal runs differ by
IDLE_REQUESTS = 3
PAGE = 300
SMALL_PAGE = 10  # a quota counts requests, not products


@dataclass(frozen=True, slots=True)
class Client:
    """product-sync, pointed at a tenant, with an empty database."""

    here: Databases
    directory: Path

    def backfill(self, there: Tenant, **settings: int) -> Cost:
        """Load; `settings` are further SYNC_ variables."""
        return self.call("backfill", there, self.here.fresh(), **settings)

    def call(self, command: str, there: Tenant, url: str, **settings: int) -> Cost:
        more = {f"SYNC_{name.upper()}": str(value) for name, value in settings.items()}
        variables = {**there.settings, "DATABASE_URL": url, **more}
        return run(product_sync(command, "--json"), variables, self.directory)


def quota(client: Client, requests: int) -> Iterator[Result]:
    """A tenant that answers 429 and Retry-After beyond its quota."""
    with tenant(requests * SMALL_PAGE) as there:
        there.ail("quota", limit=QUOTA)
        client.backfill(there, page_size=SMALL_PAGE)
        seen = there.requests()
    allowed = QUOTA * _span(seen)
    yield from quota_results(f"quota of {QUOTA}/s", seen, allowed)


def halved_quota(client: Client, requests: int) -> Iterator[Result]:
    """The same, with half the quota from the middle on."""
    with tenant(requests * SMALL_PAGE) as there:
        there.ail("quota", limit=QUOTA)
        switch = threading.Timer(requests / 2 / QUOTA, there.ail, ("quota",), {"limit": QUOTA, "window": 2.0})
        switched_at = time.time() + requests / 2 / QUOTA
        switch.start()
        client.backfill(there, page_size=SMALL_PAGE)
        seen = there.requests()
    before = switched_at - seen[0].at
    allowed = QUOTA * before + QUOTA / 2 * (_span(seen) - before)
    yield from quota_results(f"quota of {QUOTA}/s, halved mid-run", seen, allowed)


def latency(client: Client, pages: int, page_s: float) -> Iterator[Result]:
    """A tenant that takes its time for each page and works on several at once."""
    with tenant(pages * PAGE) as there:
        _slow_down(there, ROOM, page_s)
        cost = client.backfill(there, concurrency=ROOM)
    ideal, took = pages * page_s / ROOM, cost.wall_s
    yield Result(
        f"{pages} pages of {page_s:g} s, room for {ROOM}",
        "x ideal",
        took / ideal,
        TIMES_IDEAL,
        f"{took:.1f} s",
        f"{ideal:.1f} s",
        {"wall_s": took, "pass_s": cost.summary["seconds"], "ideal_s": ideal},
    )


def two_workers(client: Client, pages: int, page_s: float) -> Iterator[Result]:
    """A tenant that works on two at once, whatever it is sent; allowed 8 in flight, held against 2."""
    walls = {}
    with tenant(pages * PAGE) as there:
        _slow_down(there, WORKERS, page_s)
        seen: list[Request] = []
        for concurrency in (WORKERS, ROOM):
            earlier = len(there.requests())
            walls[concurrency] = client.backfill(there, concurrency=concurrency).wall_s
            seen = there.requests()[earlier:]
    settled = in_flight(seen, from_s=_span(seen) / 3)
    work = f"{WORKERS} workers, {ROOM} requests allowed"
    facts = {"walls_s": walls, "in_flight": settled}
    words = f"{walls[ROOM]:.1f} s", f"{walls[WORKERS]:.1f} s with {WORKERS}"
    yield Result(work, "x wall", walls[ROOM] / walls[WORKERS], NO_SLOWER, *words, facts)
    yield Result(work, "in flight", settled, SETTLED_IN_FLIGHT, f"{settled:.1f} in flight", "", facts)


def idle(client: Client, products: int) -> Iterator[Result]:
    """`run` when nothing has changed since the load."""
    with tenant(products) as there:
        url = client.here.fresh()
        client.call("backfill", there, url)
        earlier = len(there.requests())
        client.call("run", there, url)
        count = len(there.requests()) - earlier
    yield Result("run, nothing changed", "requests", count, IDLE_REQUESTS, f"{count} requests", "", {})


def _slow_down(there: Tenant, workers: int, page_s: float) -> None:
    """A full page takes `page_s`, a count a tenth of it (observed on Magento 2.4.7: 0.2 s of 3.3 s)."""
    per_product = 0.9 * page_s / PAGE
    there.ail("workers", count=workers, seconds_per_request=0.1 * page_s, seconds_per_product=per_product)


# --- what the tenant saw ---------------------------------------------------------------------


def _span(seen: Sequence[Request]) -> float:
    """Seconds from the first request to the last."""
    return seen[-1].at - seen[0].at


def quota_results(work: str, seen: Sequence[Request], allowed: float) -> Iterator[Result]:
    throttled = sum(request.status == 429 for request in seen)
    answered = len(seen) - throttled
    facts = {"seconds": _span(seen), "requests": len(seen), "throttled": throttled, "allowed": allowed}
    used = answered / allowed
    yield Result(
        work, "of the quota", used, SHARE_USED, f"{answered} answered", f"{allowed:.0f}", facts, at_least=True
    )
    share = throttled / len(seen)
    yield Result(work, "answered 429", share, SHARE_THROTTLED, f"{throttled} of {len(seen)}", "", facts)


def in_flight(seen: Sequence[Request], from_s: float) -> float:
    """Requests in flight on average, from `from_s` seconds after the first until the last began."""
    begin, end = seen[0].at + from_s, seen[-1].at
    overlaps = (min(one.at + one.seconds, end) - max(one.at, begin) for one in seen)
    return sum(overlap for overlap in overlaps if overlap > 0) / (end - begin)
