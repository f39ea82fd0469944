"""The list of tenants: which are fresh, which are not, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sync.monitor.snapshot import TenantStatus
from sync.web.pages import ShownCopy

Facts = dict[str, Any]
WELL = ("fresh", "loading")


class TenantDirectory(Protocol):
    """The tenants of a process, from memory: no method queries a database."""

    def statuses(self) -> Sequence[TenantStatus]:
        """The status of each tenant, in the order of the tenants file."""

    def site(self, tenant: str) -> ShownCopy:
        """The copy that a tenant's pages show. Raises NotFound for an unknown name, SettingsError."""


def overview(company: TenantDirectory) -> Facts:
    """Every tenant, those with problems first; otherwise in the order of the tenants file."""
    statuses = sorted(company.statuses(), key=lambda it: it.state in WELL)
    return {
        "fresh": sum(it.state in ("fresh", "failing") for it in statuses),
        "tenants": [_facts(it) for it in statuses],
    }


def _facts(it: TenantStatus) -> Facts:
    return it._asdict() | {"problems": [problem.reason for problem in it.problems]}
