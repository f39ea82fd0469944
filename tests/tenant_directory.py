"""Many tenants as the page sees them, without a daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sync.errors import SyncError
from sync.monitor.snapshot import TenantStatus
from sync.settings import CopySettings
from sync.web.app import shown_copy
from sync.web.pages import NotFound, ShownCopy


@dataclass
class TenantDirectory:
    """Says of its tenants what it was told.

    copies    where the pages of one look; or why they cannot
    """

    told: Sequence[TenantStatus]
    copies: Mapping[str, sa.Engine | SyncError]

    def statuses(self) -> Sequence[TenantStatus]:
        return self.told

    def site(self, tenant: str) -> ShownCopy:
        copy = self.copies.get(tenant)
        if isinstance(copy, SyncError):
            raise copy
        if copy is None:
            raise NotFound(f"There is no tenant {tenant}.")
        return shown_copy(copy, CopySettings())
