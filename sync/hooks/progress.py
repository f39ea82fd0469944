"""A progress bar on standard error: products read, products a second, time remaining."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sync.hooks.run_log import RunLog
from sync.model import Page, PassKind, Tally, Unreadable
from sync.passes.prefetch import Item
from sync.passes.run import Summary


class Bar:
    """A Watch that draws while its context is open.

    run_log    receives what a bar cannot show
    """

    def __init__(self, run_log: RunLog) -> None:
        self._run_log = run_log
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task: TaskID | None = None
        self._expected = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def run_started(self, run_id: int, kind: PassKind, store_views: Sequence[str], resumed: bool) -> None:
        self._expected = 0
        self._task = self._progress.add_task(f"{kind}, continued" if resumed else kind, total=None)

    def products_expected(self, total: int) -> None:
        self._expected += total
        self._progress.update(self._current(), total=self._expected)

    def page_written(self, store_view: str, item: Item, tally: Tally) -> None:
        self._progress.advance(self._current(), len(item.products) if isinstance(item, Page) else 1)

    def rows_written(self, count: int, tally: Tally) -> None:
        self._progress.advance(self._current(), count)

    def product_rejected(self, item: Unreadable) -> None:
        self._run_log.product_rejected(item)

    def deletion_held_back(self, message: str) -> None:
        """Reported in the summary."""

    def feed_missed(self, message: str) -> None:
        """Reported in the summary."""

    def store_view_unknown(self, message: str) -> None:
        """Reported in the summary."""

    def run_finished(self, summary: Summary) -> None:
        self._run_log.last = summary

    def _current(self) -> TaskID:
        if self._task is None:  # a dry run does not report its start
            self._task = self._progress.add_task("dry run", total=None)
        return self._task


@contextmanager
def rows_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for rows; what it yields is called with the rows done and all rows."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class _Rate(ProgressColumn):
    """Products or rows a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")
