"""How fast products become rows: first load, unchanged pass, growth with the catalogue, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.databases import Databases
from benchmarks.processes import BenchmarkFailed, Cost, floor, product_sync, run
from benchmarks.results import Result
from benchmarks.tenant import Tenant, tenant

FIRST_LOAD = 1.5
UNCHANGED = 1.3
GROWTH = 1.10
MEMORY_MB = 150.0
SAME = 1.10

Program = Callable[[], Cost]


@dataclass(frozen=True, slots=True)
class Pair:
    """The same work by both, one right after the other."""

    ours: Cost
    floor: Cost


def pairs(times: int, ours: Program, reference: Program) -> list[Pair]:
    """Run both `times` times, taking turns at going first."""
    found = []
    for n in range(times):
        if n % 2:
            mine = ours()
            found.append(Pair(mine, reference()))
        else:
            theirs = reference()
            found.append(Pair(ours(), theirs))
    return found


@dataclass(frozen=True, slots=True)
class Middle:
    """Medians of some pairs: seconds of wall time, and how many times the floor's ours are."""

    ours_s: float
    floor_s: float
    ratio: float

    @classmethod
    def of(cls, found: Iterable[Pair]) -> Middle:
        found = list(found)
        return cls(
            median(pair.ours.wall_s for pair in found),
            median(pair.floor.wall_s for pair in found),
            median(pair.ours.wall_s / pair.floor.wall_s for pair in found),
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """A tenant and a place for databases, and the programs that bring them together."""

    there: Tenant
    here: Databases
    directory: Path

    def load(self) -> Cost:
        """Load into an empty database."""
        return self._sync(self.here.fresh(), "inserted", "backfill")

    def load_by_floor(self) -> Cost:
        return self._floor(self.here.fresh())

    def download_by_floor(self) -> Cost:
        return self._floor("", "--throw-away")

    def loaded(self) -> str:
        """The URL of a database that holds the catalogue."""
        url = self.here.fresh()
        self._sync(url, "inserted", "backfill")
        return url

    def read_again(self, url: str, *command: str) -> Cost:
        """A pass over a catalogue that `url` holds already."""
        return self._sync(url, "unchanged", *command)

    def _sync(self, url: str, counter: str, *command: str) -> Cost:
        cost = run(product_sync(*command, "--json"), self._settings(url), self.directory)
        if cost.summary[counter] != self.there.products:
            raise BenchmarkFailed(f"{command[0]} did not read every product: {cost.last_line}")
        return cost

    def _floor(self, url: str, *options: str) -> Cost:
        return run(floor(self.there.products, *options), self._settings(url), self.directory)

    def _settings(self, url: str) -> dict[str, str]:
        return {**self.there.settings, "DATABASE_URL": url}


# --- the targets -----------------------------------------------------------------------------


def first_load(here: Databases, directory: Path, products: int, times: int) -> Iterator[Result]:
    """An empty database, then the whole catalogue."""
    with tenant(products) as there:
        bench = Bench(there, here, directory)
        found = pairs(times, bench.load, bench.load_by_floor)
    yield _judged(f"first load of {products:,}, {here.name}", found, FIRST_LOAD)


def unchanged(here: Databases, directory: Path, products: int, times: int) -> Iterator[Result]:
    """A catalogue that is here already, read again; held against downloading the pages and no more.

    `reconcile` also compares every stored row with its document, which has no floor: it is only reported.
    """
    with tenant(products) as there:
        bench = Bench(there, here, directory)
        url = bench.loaded()
        for command, limit in ((("backfill", "--restart"), UNCHANGED), (("reconcile",), None)):
            found = pairs(times, partial(bench.read_again, url, *command), bench.download_by_floor)
            yield _judged(f"unchanged {products:,} by {command[0]}, {here.name}", found, limit)


def scale(here: Databases, directory: Path, small: int, large: int, times: int) -> Iterator[Result]:
    """The same load and sweep of two sizes: cost per product, and memory.

    A growth is a ratio of ratios, so the small ones are repeated more, and the large ones go first in turn.
    """
    with tenant(0) as there:  # what both cost when there is nothing to read
        bench = Bench(there, here, directory)
        none = Middle.of(pairs(3 * times, bench.load, bench.load_by_floor))
    with tenant(small) as there:
        bench = Bench(there, here, directory)
        few = pairs(3 * times, bench.load, bench.load_by_floor)
        few_again = bench.read_again(bench.loaded(), "reconcile")
    with tenant(large) as there:
        bench = Bench(there, here, directory)
        many = pairs(2, bench.load, bench.load_by_floor)
        many_again = bench.read_again(bench.loaded(), "reconcile")
    yield _growth(Middle.of(few), small, Middle.of(many), large, none, here.name)
    few_mb = max(pair.ours.peak_mb for pair in few)
    yield from _memory("first load", few_mb, max(pair.ours.peak_mb for pair in many), small, large, here.name)
    yield from _memory("reconcile", few_again.peak_mb, many_again.peak_mb, small, large, here.name)


def _judged(work: str, found: list[Pair], limit: float | None) -> Result:
    middle = Middle.of(found)
    words = f"{middle.ours_s:.1f} s", f"{middle.floor_s:.1f} s"
    return Result(work, "x wall", middle.ratio, limit, *words, {"pairs": [asdict(pair) for pair in found]})


def _growth(few: Middle, small: int, many: Middle, large: int, none: Middle, name: str) -> Result:
    ours = (many.ours_s - none.ours_s) / large / ((few.ours_s - none.ours_s) / small)
    reference = (many.floor_s - none.floor_s) / large / ((few.floor_s - none.floor_s) / small)
    return Result(
        f"cost per product, {small:,} to {large:,}, {name}",
        "x the floor's growth",
        ours / reference,
        GROWTH,
        f"grows {ours:.2f} x",
        f"grows {reference:.2f} x",
        {"few": asdict(few), "many": asdict(many), "none": asdict(none)},
    )


def _memory(work: str, few_mb: float, many_mb: float, small: int, large: int, name: str) -> Iterator[Result]:
    facts = {"few_mb": few_mb, "many_mb": many_mb}
    words = f"{many_mb:.0f} MB", f"{few_mb:.0f} MB at {small:,}"
    yield Result(f"peak memory, {work} of {large:,}, {name}", "MB", many_mb, MEMORY_MB, words[0], "", facts)
    yield Result(f"{work}, memory against {small:,}, {name}", "x", many_mb / few_mb, SAME, *words, {})
