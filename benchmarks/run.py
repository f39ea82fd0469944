"""Every target of the design, measured side by side with its floor in one run.

    python -m benchmarks                                   all of it at 100,000 products
    python -m benchmarks --only first-load unchanged       some of it
    python -m benchmarks --size nightly --json out.json    a million products

Exit status: 0 every target holds, 1 one does not. The tenant runs in a process of its own and shares the
machine's cores with what is measured, as does PostgreSQL: compare ratios, not seconds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.calls import calls
from benchmarks.databases import Databases, SqliteFiles, postgres
from benchmarks.loads import first_load, scale, unchanged
from benchmarks.pacing import PAGE, Client, halved_quota, idle, latency, quota, two_workers
from benchmarks.page import page
from benchmarks.results import Result, save, table
from benchmarks.silent import silent_tenants
from benchmarks.workers import gain, shared_quota

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything.

    products         of a load
    large            the larger catalogue of the comparison by size
    times            pairs of runs; medians of these count
    requests         against a quota
    pages, page_s    against a slow tenant
    works            what is measured when nothing is named
    """

    products: int
    large: int
    times: int
    requests: int
    pages: int
    page_s: float
    works: tuple[str, ...]


SMALL = 10_000
SILENT_S = 600.0  # ten intervals, and the first rests of those that are silent
WORKS = (
    "first-load",
    "unchanged",
    "scale",
    "quota",
    "latency",
    "idle",
    "page",
    "calls",
    "workers",
    "silent-tenants",
)
SIZES = {
    "smoke": Size(2_400, 2_400, 3, 60, 40, 0.2, ("calls", "idle")),
    "normal": Size(100_000, 100_000, 3, 600, 334, 1.0, WORKS),
    "nightly": Size(100_000, 1_000_000, 5, 1_500, 334, 1.0, WORKS),
}


def measure(
    work: str, size: Size, databases: Sequence[Databases], directory: Path, broker: str
) -> Iterator[Result]:
    """The results of one of WORKS; `workers` is measured on the last of the databases, PostgreSQL."""
    client = Client(databases[0], directory)
    match work:
        case "first-load":
            for here in databases:
                yield from first_load(here, directory, size.products, size.times)
        case "unchanged":
            for here in databases:
                yield from unchanged(here, directory, size.products, size.times)
        case "scale":
            for here in databases:
                yield from scale(here, directory, SMALL, size.large, size.times)
        case "quota":
            yield from quota(client, size.requests)
            yield from halved_quota(client, size.requests)
        case "latency":
            yield from latency(client, size.pages, size.page_s)
            yield from two_workers(client, size.pages, size.page_s / 4)
        case "idle":
            yield from idle(client, size.products)
        case "page":
            for here in databases:
                yield from page(here, directory, size.large, size.times)
        case "calls":
            for here in databases:
                yield from calls(here, size.products // PAGE)
        case "workers":
            yield from gain(databases[-1], directory, broker, size.requests, size.page_s)
            yield from shared_quota(databases[-1], directory, broker, size.requests)
        case "silent-tenants":
            yield from silent_tenants(directory, 35, 5, 30, SILENT_S)


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parse(arguments)
    size = SIZES[chosen.size]
    size = replace(
        size,
        products=chosen.products or size.products,
        large=chosen.products or size.large,
        times=chosen.times or size.times,
    )
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=chosen.directory) as name:
        directory = Path(name)
        with postgres(chosen.postgres, directory) as server:
            databases = (SqliteFiles(directory), server)
            for work in chosen.only or size.works:
                for result in measure(work, size, databases, directory, chosen.broker):
                    print(table([result]).splitlines()[-1], flush=True)
                    results.append(result)
    print(f"\n{os.cpu_count()} cores, shared with the tenant and the database\n\n{table(results)}")
    save(results, chosen.json or RESULTS / f"{chosen.size}.json", chosen.size)
    return 0 if all(result.holds for result in results) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="normal")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=(), metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--products", type=int, help="instead of the size's number")
    parser.add_argument("--times", type=int, help="pairs of runs, instead of the size's number")
    parser.add_argument("--postgres", metavar="URL", help="a server; else the wheel's is started")
    parser.add_argument(
        "--broker", metavar="URL", default="amqp://guest:guest@127.0.0.1//", help="for workers; %(default)s"
    )
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--directory", type=Path, help="where databases are made; else the system's choice")
    return parser.parse_args(arguments)
