"""After a command that ended with 0, what was true on the tenant when it started is here.

Whatever was edited, and however many commands before it were killed at whatever page.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sync.sandbox import Sandbox
from tests.databases import opened
from tests.kit import Bench, Sightings, Stopped

pytestmark = pytest.mark.slow

COMMANDS = {"backfill": Bench.backfill, "run": Bench.run, "reconcile": Bench.reconcile}


class Edit(NamedTuple):
    """What a merchant does to the product at `place`. A silent edit moves no stamp."""

    kind: str
    place: int


class Step(NamedTuple):
    """Some edits, the minutes that pass, and a command that is killed at its page `killed`, 0 for not at all.

    meanwhile    what the merchant does as the first page is written
    """

    edits: list[Edit]
    minutes: int
    command: str
    killed: int
    meanwhile: list[Edit]


EDITS = st.lists(
    st.builds(Edit, st.sampled_from(["edit", "edit", "silent", "add", "delete"]), st.integers(0, 999)),
    max_size=4,
)
STEPS = st.lists(
    st.builds(
        Step,
        EDITS,
        st.sampled_from([0, 1, 60]),
        st.sampled_from(sorted(COMMANDS)),
        st.sampled_from([0, 0, 1, 2, 3, 5]),
        EDITS,
    ),
    min_size=3,
    max_size=8,
)


class Shop:
    """A tenant whose clock stands still between steps, its copy, and what no command need have seen yet.

    silent    ids edited in silence since the last reconcile that ended with 0
    moved     ids touched since the command in hand has started
    """

    def __init__(self, sandbox: Sandbox, bench: Bench) -> None:
        self.sandbox, self.bench = sandbox, bench
        self.silent: set[int] = set()
        self.moved: set[int] = set()

    def do(self, edits: list[Edit]) -> None:
        catalogue = self.sandbox.catalogue
        for kind, place in edits:
            ids = catalogue.ids()
            number = ids[place % len(ids)]
            if kind == "add":
                number = catalogue.add(name="New")
            elif kind == "delete" and len(ids) > 10:
                catalogue.delete(number)
            else:
                catalogue.edit(number, touch=kind != "silent", name=f"Edited {place}")
                self.silent |= {number} if kind == "silent" else set()
            self.moved.add(number)

    def command(self, step: Step) -> bool:
        """Run it; whether it ended with 0. What is silent before it began is settled by a reconcile."""
        silent_before, self.moved = set(self.silent), set()

        def at_page(number: int) -> None:
            if number == 1:
                self.do(step.meanwhile)
            if number == step.killed:
                raise Stopped

        self.bench.watch = Sightings(at_page=at_page)
        with suppress(Stopped):
            ended = COMMANDS[step.command](self.bench)
            if ended.exit_code == 0 and step.command == "reconcile":
                self.silent -= silent_before - self.moved
            return ended.exit_code == 0
        return False

    def unseen(self) -> set[int]:
        """Ids that differ, of those that must not."""
        catalogue, here = self.sandbox.catalogue, self.bench.live()
        there = {number: catalogue.document(number) for number in catalogue.ids()}
        told = {number for number in here.keys() | there.keys() if here.get(number) != there.get(number)}
        return told - self.silent - self.moved


@contextmanager
def shop(now: list[datetime], overlap: int) -> Iterator[Shop]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(30, gap=2, clock=lambda: now[0].timestamp()) as sandbox,
        opened(f"sqlite:///{Path(folder) / 'copy.db'}") as db,
    ):
        bench = Bench(sandbox, db, page_size=6, concurrency=1, overlap=timedelta(minutes=overlap))
        bench.max_delete_fraction, bench.is_dead = 1.0, lambda owner: True
        yield Shop(sandbox, bench)


KILLED_AND_RESUMED = [
    Step([], 60, "backfill", 2, []),
    Step([Edit("edit", 0), Edit("delete", 1), Edit("add", 0)], 60, "backfill", 0, []),
    Step([Edit("edit", place) for place in range(20)], 60, "run", 2, []),
    Step([Edit("edit", 0)], 60, "run", 0, []),
    Step([], 60, "reconcile", 2, []),
    Step([Edit("silent", 0), Edit("delete", 1)], 60, "reconcile", 0, []),
]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@example(steps=KILLED_AND_RESUMED, overlap=0)
@given(steps=STEPS, overlap=st.sampled_from([0, 10]))
def test_what_was_true_at_the_start_of_a_command_that_ended_with_0_is_here(
    steps: list[Step], overlap: int
) -> None:
    now = [datetime(2026, 3, 1, 12, tzinfo=UTC)]
    with shop(now, overlap) as it:
        for number, step in enumerate(steps):
            it.do(step.edits)
            now[0] += timedelta(minutes=step.minutes)
            if it.command(step):
                assert it.unseen() == set(), (number, step)
