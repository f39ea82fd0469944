"""The status page over a full database while a pass reads the catalogue: how soon it answers, its cost."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles
from urllib.request import urlopen

from benchmarks.databases import Databases
from benchmarks.loads import Bench
from benchmarks.processes import BenchmarkFailed, environment, product_sync
from benchmarks.results import Result
from benchmarks.tenant import tenant

P95_MS = 100.0
SLOWDOWN = 1.05
VIEWS_A_SECOND = 2.0  # a wall screen and a few people who click
START_UP_S = 20.0


@dataclass(slots=True)
class Visits:
    """What visitors saw: milliseconds of each view, by path."""

    took_ms: dict[str, list[float]] = field(default_factory=dict)

    @property
    def p95_ms(self) -> float:
        every = [ms for path in self.took_ms.values() for ms in path]
        return quantiles(every, n=20)[-1]

    @property
    def slowest(self) -> tuple[str, float]:
        """The path with the largest median, and that."""
        return max(((path, median(ms)) for path, ms in self.took_ms.items()), key=lambda it: it[1])


def page(here: Databases, directory: Path, products: int, times: int) -> Iterator[Result]:
    """The catalogue read again, in turns with the page being visited all the while and with nobody there."""
    visits = Visits()
    with tenant(products) as there:
        bench = Bench(there, here, directory)
        url = bench.loaded()
        middle = products // 2
        paths = (
            "/",
            "/runs",
            "/rejected",
            "/changes",
            f"/changes?product={middle}",
            "/products",
            f"/products?after={middle}",
            f"/products?by=id&q={middle}",
            "/products?by=sku&q=SKU",
            "/products?by=name&q=a",
            f"/products/all/{middle}",
        )
        alone, visited = [], []
        with _serving({**there.settings, "DATABASE_URL": url}, directory) as site:
            for _ in range(times):
                alone.append(bench.read_again(url, "backfill", "--restart").wall_s)
                with _visited(site, paths, visits):
                    visited.append(bench.read_again(url, "backfill", "--restart").wall_s)
    facts = {"took_ms": visits.took_ms, "alone_s": alone, "visited_s": visited}
    worst = "{}: {:.0f} ms".format(*visits.slowest)
    name = f"over {products:,} on {here.name}"
    yield Result(f"page {name}, 95th percentile", "ms", visits.p95_ms, P95_MS, f"slowest {worst}", "", facts)
    ratio = median(mine / theirs for mine, theirs in zip(visited, alone, strict=True))
    words = f"{median(visited):.1f} s visited", f"{median(alone):.1f} s alone"
    yield Result(f"pass {name}, visited", "x wall", ratio, SLOWDOWN, *words, {})


@contextmanager
def _serving(settings: dict[str, str], directory: Path) -> Iterator[str]:
    """`product-sync serve` on a free port; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{probe.getsockname()[1]}"
    seen = environment({**settings, "STATUS_BIND": bind}, directory)
    with subprocess.Popen(
        product_sync("serve"), env=seen, cwd=directory, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait_for(f"http://{bind}/")
            yield f"http://{bind}"
        finally:
            process.terminate()


def _wait_for(url: str) -> None:
    until = time.monotonic() + START_UP_S
    while time.monotonic() < until:
        try:
            urlopen(url).close()  # noqa: S310
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise BenchmarkFailed(f"nobody answers at {url}")


@contextmanager
def _visited(site: str, paths: tuple[str, ...], visits: Visits) -> Iterator[None]:
    """Somebody who looks at one path after the other, at an even rate."""
    ended = threading.Event()

    def visit() -> None:
        for path in cycle(paths):
            began = time.monotonic()
            with urlopen(site + path) as answer:  # noqa: S310
                answer.read()
            took = time.monotonic() - began
            visits.took_ms.setdefault(path, []).append(took * 1000)
            if ended.wait(max(0.0, 1 / VIEWS_A_SECOND - took)):
                return

    visitor = threading.Thread(target=visit, daemon=True)
    visitor.start()
    try:
        yield
    finally:
        ended.set()
        visitor.join()
