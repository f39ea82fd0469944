"""How much a pass does for a page: function calls in times of the floor's, and statements.

Counts are the same on a busy machine as on an idle one, but for a hundredth that depends on which thread
waited, so CI can hold the hot path to them. A call is one of Python's or of C's, as `sys.setprofile` sees it,
in any thread of this process; neither the tenant nor the database server is in it. What a pass does once is
taken off: a catalogue of one page is counted too. What is left besides the pages is the dividing of ranges:
three or four in so small a catalogue, depending on which reader is free first, with some four statements and
a few thousand calls each. No target of the design: the limits are the most that was counted and a fifth more.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from itertools import count
from types import FrameType
from typing import Any

import sqlalchemy as sa

from benchmarks import floor
from benchmarks.databases import Databases
from benchmarks.processes import BenchmarkFailed
from benchmarks.results import Result
from benchmarks.tenant import tenant
from sync import cli

# By work and database: calls in times of the floor's, statements a page.
LIMITS = {
    ("first load", "SQLite"): (2.75, 63),
    ("first load", "PostgreSQL"): (1.8, 18),
    ("reconcile", "SQLite"): (2.1, 9.5),
    ("reconcile", "PostgreSQL"): (2.3, 9.5),
    ("backfill", "SQLite"): (2.0, 9.5),
    ("backfill", "PostgreSQL"): (2.3, 9.5),
}


def calls(here: Databases, pages: int) -> Iterator[Result]:
    """First load, reconcile right behind it, and unchanged pass, on one kind of database."""
    one, all_of_them = _works(here, 1), _works(here, pages)
    for work in ("first load", "reconcile", "backfill"):
        ours, reference = (all_of_them[work][i].besides(one[work][i], pages - 1) for i in (0, 1))
        most_calls, most_statements = LIMITS[work, here.name]
        words = f"{ours.calls:,.0f} a page", f"{reference.calls:,.0f} a page"
        name, facts = f"{work}, {here.name}", {"ours": asdict(ours), "floor": asdict(reference)}
        yield Result(name, "x calls", ours.calls / reference.calls, most_calls, *words, facts)
        yield Result(name, "statements a page", ours.statements, most_statements, "", "", {})


def _works(here: Databases, pages: int) -> dict[str, tuple[_Work, _Work]]:
    """What each work does for so many pages: ours, the floor's."""
    products = pages * floor.PAGE_SIZE
    with tenant(products) as there, _environment(there.settings):
        _prepare(here, products)
        os.environ["DATABASE_URL"] = here.fresh()
        load = _work_of(lambda: floor.main(products, throw_away=False))
        download = _work_of(lambda: floor.main(products, throw_away=True))
        os.environ["DATABASE_URL"] = here.fresh()
        return {
            "first load": (_work_of(lambda: _call("backfill")), load),
            "reconcile": (_work_of(lambda: _call("reconcile")), download),
            "backfill": (_work_of(lambda: _call("backfill", "--restart")), download),
        }


def _prepare(here: Databases, products: int) -> None:
    """Run everything once: what is loaded, compiled or looked up the first time does not count."""
    os.environ["DATABASE_URL"] = here.fresh()
    for command in (("backfill",), ("reconcile",), ("backfill", "--restart")):
        _call(*command)
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


# --- counting --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Work:
    calls: float
    statements: float

    def besides(self, once: _Work, pages: int) -> _Work:
        """This work without `once`, for each of so many pages."""
        return _Work((self.calls - once.calls) / pages, (self.statements - once.statements) / pages)


def _work_of(work: Callable[[], None]) -> _Work:
    """What a piece of work does, in this thread and in those that it starts."""
    calls, statements = count(), count()

    def watch(_frame: FrameType, event: str, _argument: Any) -> None:
        if event in ("call", "c_call"):
            next(calls)

    def executed(*_about: Any) -> None:
        next(statements)

    sa.event.listen(sa.Engine, "before_cursor_execute", executed)
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        sa.event.remove(sa.Engine, "before_cursor_execute", executed)
    return _Work(next(calls), next(statements))
