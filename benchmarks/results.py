"""One line per target: what was measured, what is allowed, and whether it holds."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Result:
    """A target and its measurement.

    work       what was done, on which database
    measure    what `value` is: a ratio, megabytes, requests
    value      the figure that counts
    limit      the most it may be, or with `at_least` the least; None when it is only reported
    ours       what product-sync took, in words
    floor      what it is held against, in words
    facts      everything measured on the way, for the JSON
    """

    work: str
    measure: str
    value: float
    limit: float | None
    ours: str
    floor: str
    facts: dict[str, Any]
    at_least: bool = False

    @property
    def holds(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def cells(self) -> tuple[str, ...]:
        measured = f"{self.value:.3g} {self.measure}"
        if self.limit is None:
            return self.work, self.ours, self.floor, measured, "", ""
        target = f"{'≥' if self.at_least else '≤'} {self.limit:.3g}"
        return self.work, self.ours, self.floor, measured, target, "yes" if self.holds else "NO"


HEAD = ("work", "product-sync", "floor", "measured", "target", "holds")


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    rows = [HEAD, *(result.cells for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def save(results: Sequence[Result], path: Path, size: str) -> None:
    """Write the results and the machine they come from as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "size": size,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "results": [{**asdict(result), "holds": result.holds} for result in results],
    }
    path.write_text(json.dumps(report, indent=1) + "\n")
