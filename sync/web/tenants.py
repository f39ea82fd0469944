"""Many tenants on one page: who is fresh, who is not, and why; below it, the pages of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sync.monitor.snapshot import TenantStatus
from sync.web.pages import ShownCopy

Facts = dict[str, Any]
WELL = ("fresh", "loading")


class TenantDirectory(Protocol):
    """The tenants of a process. What it says it knows by now: no database is asked."""

    def statuses(self) -> Sequence[TenantStatus]:
        """How each of them is, in the order of their file."""

    def site(self, tenant: str) -> ShownCopy:
        """Where the pages of one look. Raises Missing for a name that is none, SettingsError."""


def overview(company: TenantDirectory) -> Facts:
    """Every tenant, those that need somebody first; the others in the order of their file."""
    statuses = sorted(company.statuses(), key=lambda it: it.state in WELL)
    return {
        "fresh": sum(it.state in ("fresh", "failing") for it in statuses),
        "tenants": [_facts(it) for it in statuses],
    }


def _facts(it: TenantStatus) -> Facts:
    return it._asdict() | {"problems": [problem.reason for problem in it.problems]}
