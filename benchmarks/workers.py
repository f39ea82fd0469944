"""What Celery workers gain on a tenant that has room for them, and how they keep to a quota together.

Each worker is a process of its own with 4 requests in flight. The tenant, the database, the broker and all
workers share this machine's cores: pages are small, so that waiting is what takes the time.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.databases import Databases
from benchmarks.pacing import quota_results
from benchmarks.processes import BenchmarkFailed, Cost, environment, product_sync, run
from benchmarks.results import Result
from benchmarks.tenant import Tenant, tenant

ROOM = 16  # requests the tenant works on at once
FEW, MANY = 1, 4
GAIN = 3.5
QUOTA = 10  # requests a second
PAGE = 30  # products


def gain(here: Databases, directory: Path, broker: str, pages: int, page_s: float) -> Iterator[Result]:
    """A tenant that takes its time for each page, read by one worker and by four."""
    walls = {}
    with tenant(pages * PAGE) as there:
        light_s = page_s / 10  # observed on Magento 2.4.7: a count takes a tenth of a page
        there.ail(
            "workers", count=ROOM, seconds_per_request=light_s, seconds_per_product=(page_s - light_s) / PAGE
        )
        for count in (FEW, MANY):
            walls[count] = _load(there, here.fresh(), broker, count, directory).wall_s
    words = f"{walls[MANY]:.1f} s with {MANY}", f"{walls[FEW]:.1f} s with {FEW}"
    work = f"workers: {pages} pages of {page_s:g} s, room for {ROOM}"
    yield Result(work, "x as fast", walls[FEW] / walls[MANY], GAIN, *words, {"walls_s": walls}, at_least=True)


def shared_quota(here: Databases, directory: Path, broker: str, requests: int) -> Iterator[Result]:
    """A tenant that answers 429 and Retry-After beyond its quota, read by four workers."""
    with tenant(requests * PAGE) as there:
        there.ail("quota", limit=QUOTA)
        _load(there, here.fresh(), broker, MANY, directory)
        seen = there.requests()
    allowed = QUOTA * (seen[-1].at - seen[0].at)
    yield from quota_results(f"workers: {MANY} under a quota of {QUOTA}/s", seen, allowed)


def _load(there: Tenant, url: str, broker: str, count: int, directory: Path) -> Cost:
    """A first load by so many workers, which are ready before it begins."""
    settings = {
        **there.settings,
        "CELERY_BROKER_URL": broker,
        "DATABASE_URL": url,
        "LOG_FORMAT": "json",
        "SYNC_PAGE_SIZE": str(PAGE),
    }
    with ExitStack() as running:
        for number in range(count):
            running.enter_context(_worker(settings, directory / f"worker-{number}.log"))
        return run(product_sync("backfill", "--executor", "celery", "--json"), settings, directory)


@contextmanager
def _worker(settings: dict[str, str], log: Path) -> Iterator[None]:
    """A worker, from the moment it waits for orders."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            product_sync("worker"), env=environment(settings, log.parent), cwd=log.parent, stderr=errors
        )
    try:
        while "worker.ready" not in log.read_text():
            if process.poll() is not None:
                raise BenchmarkFailed(f"a worker ended:\n{log.read_text()}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()
