"""Processor time of the work alone, ours in times of the floor's: what even a small, busy machine can tell.

Both run in this process, each once to warm up and then in turn: neither imports nor the interpreter's start
are in it, nor the tenant and the database server, which are other processes. No target of the design:
the limits are what was measured and a quarter more, so that CI notices a slower hot path.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from statistics import median
from time import process_time

from benchmarks import floor
from benchmarks.databases import Databases
from benchmarks.processes import BenchmarkFailed
from benchmarks.results import Result
from benchmarks.tenant import tenant
from sync import cli

FIRST_LOAD = {"SQLite": 2.3, "PostgreSQL": 2.8}
UNCHANGED = 5.8
RECONCILE = 22.0


def processor(here: Databases, products: int, times: int) -> Iterator[Result]:
    """First load, unchanged pass and reconcile on one kind of database."""
    with tenant(products) as there, _environment(there.settings):
        found = _in_turn(times, lambda: _load(here), lambda: _load_by_floor(here, products))
        yield _result(f"first load of {products:,}, {here.name}", found, FIRST_LOAD[here.name])
        _load(here)
        found = _in_turn(times, lambda: _call("backfill", "--restart"), lambda: _download(products))
        yield _result(f"unchanged {products:,}, {here.name}", found, UNCHANGED)
        found = _in_turn(times, lambda: _call("reconcile"), lambda: _download(products))
        yield _result(f"reconcile {products:,}, {here.name}", found, RECONCILE)


# --- the programs ----------------------------------------------------------------------------


def _load(here: Databases) -> None:
    os.environ["DATABASE_URL"] = here.fresh()
    _call("backfill")


def _load_by_floor(here: Databases, products: int) -> None:
    os.environ["DATABASE_URL"] = here.fresh()
    floor.main(products, throw_away=False)


def _download(products: int) -> None:
    floor.main(products, throw_away=True)


def _call(*command: str) -> None:
    """Run product-sync here, without its output. Raises BenchmarkFailed."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as words:
        code = cli.main(command)
    if code:
        raise BenchmarkFailed(f"{command} ended with {code}:\n{words.getvalue()}")


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# --- the measurement -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Spent:
    """Seconds of processor time, run by run."""

    ours: list[float]
    floor: list[float]


def _in_turn(times: int, ours: Callable[[], None], reference: Callable[[], None]) -> _Spent:
    """Run both once, then `times` times measured."""
    ours()
    reference()
    rounds = [(_seconds(ours), _seconds(reference)) for _ in range(times)]
    return _Spent([mine for mine, _ in rounds], [theirs for _, theirs in rounds])


def _seconds(work: Callable[[], None]) -> float:
    began = process_time()
    work()
    return process_time() - began


def _result(work: str, spent: _Spent, limit: float) -> Result:
    ours, reference = median(spent.ours), median(spent.floor)
    words = f"{ours:.2f} s CPU", f"{reference:.2f} s CPU"
    facts = {"ours_s": spent.ours, "floor_s": spent.floor}
    return Result(work, "x CPU", ours / reference, limit, *words, facts)
