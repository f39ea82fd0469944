"""The same work done by product-sync and by dlt's rest_api source, in one run, against the same tenant.

    python -m benchmarks.compare_dlt                        50,000 products, SQLite and PostgreSQL
    python -m benchmarks.compare_dlt --products 5000 --times 1     a quick look: starting up weighs most

dlt is set up twice, as `dlt_pipeline.py` says: with a primary key, which the targets are about, and with all
that it has to be faster, which is only reported. It has a virtual environment of its own, made on first use
inside the project's and filled from `requirements-dlt.lock`. Both read every product with 300 a page; both
keep a main table with keys and a table for each nested list. dlt keeps no feed of changes.
Exit status: 0 both ratios hold on both databases, 1 one does not.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks.databases import Databases, SqliteFiles, postgres
from benchmarks.loads import Bench, Pair, pairs
from benchmarks.processes import Cost, run
from benchmarks.results import Result, save, table
from benchmarks.run import RESULTS
from benchmarks.tenant import tenant

HERE = Path(__file__).parent
LOCK = HERE / "requirements-dlt.lock"
FIRST_LOAD = 5.0
UNCHANGED = 20.0


def dlt_python() -> Path:
    """The interpreter of dlt's own environment, made when there is none for this lock."""
    directory = Path(sys.prefix) / "dlt"
    python, installed = directory / "bin" / "python", directory / LOCK.name
    if not installed.exists() or installed.read_bytes() != LOCK.read_bytes():
        venv.create(directory, clear=True, with_pip=True)
        install = ["-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", str(LOCK)]
        subprocess.run([python, *install], check=True)
        shutil.copyfile(LOCK, installed)
    return python


class Dlt:
    """The pipeline, with its own folder of state."""

    def __init__(self, python: Path, bench: Bench, *options: str) -> None:
        self._python = python
        self._bench = bench
        self._state = bench.directory / "dlt"
        self._options = options

    def load(self) -> Cost:
        """Load into an empty database."""
        shutil.rmtree(self._state, ignore_errors=True)
        return self.load_into(self._bench.here.fresh())

    def load_into(self, url: str) -> Cost:
        there = self._bench.there
        script = [str(self._python), str(HERE / "dlt_pipeline.py"), str(there.products), str(self._state)]
        return run([*script, *self._options], {**there.settings, "DATABASE_URL": url}, self._bench.directory)


def compare(python: Path, here: Databases, directory: Path, products: int, times: int) -> Iterator[Result]:
    """First load and unchanged pass on one kind of database."""
    with tenant(products) as there:
        bench = Bench(there, here, directory)
        yield from _compare(bench, Dlt(python, bench), times, "", FIRST_LOAD, UNCHANGED)
        yield from _compare(bench, Dlt(python, bench, "--parallel"), times, ", dlt in parallel", None, None)


def _compare(
    bench: Bench, dlt: Dlt, times: int, how: str, first_load: float | None, unchanged: float | None
) -> Iterator[Result]:
    what = f"{bench.there.products:,}, {bench.here.name}{how}"
    found = pairs(times, bench.load, dlt.load)
    yield _result(f"first load of {what}", found, first_load)
    ours, theirs = bench.loaded(), bench.here.fresh()
    dlt.load_into(theirs)
    found = pairs(
        times, lambda: bench.read_again(ours, "backfill", "--restart"), lambda: dlt.load_into(theirs)
    )
    yield _result(f"unchanged {what}", found, unchanged)


def _result(work: str, found: list[Pair], least: float | None) -> Result:
    ratio = median(pair.floor.wall_s / pair.ours.wall_s for pair in found)
    ours = median(pair.ours.wall_s for pair in found)
    theirs = median(pair.floor.wall_s for pair in found)
    facts = {"pairs": [asdict(pair) for pair in found]}
    return Result(
        work, "x as fast", ratio, least, f"{ours:.1f} s", f"{theirs:.1f} s (dlt)", facts, at_least=True
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare_dlt",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--products", type=int, default=50_000)
    parser.add_argument("--times", type=int, default=3, help="pairs of runs, taking turns")
    parser.add_argument("--postgres", metavar="URL", help="a server; else the wheel's is started")
    parser.add_argument("--json", type=Path, default=RESULTS / "dlt.json", help="where the results go")
    parser.add_argument("--directory", type=Path, help="where databases are made; else the system's choice")
    chosen = parser.parse_args(arguments)
    python = dlt_python()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=chosen.directory) as name:
        directory = Path(name)
        with postgres(chosen.postgres, directory) as server:
            for here in (SqliteFiles(directory), server):
                results += compare(python, here, directory, chosen.products, chosen.times)
    print(table(results))
    save(results, chosen.json, f"{chosen.products} products")
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
