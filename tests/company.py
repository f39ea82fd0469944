"""Many tenants as the page sees them, without a daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sync.errors import SyncError
from sync.monitor.snapshot import Standing
from sync.settings import CopySettings
from sync.web.app import site_of
from sync.web.pages import Missing, Site


@dataclass
class Company:
    """Says of its tenants what it was told.

    copies    where the pages of one look; or why they cannot
    """

    told: Sequence[Standing]
    copies: Mapping[str, sa.Engine | SyncError]

    def standings(self) -> Sequence[Standing]:
        return self.told

    def site(self, tenant: str) -> Site:
        copy = self.copies.get(tenant)
        if isinstance(copy, SyncError):
            raise copy
        if copy is None:
            raise Missing(f"There is no tenant {tenant}.")
        return site_of(copy, CopySettings())
