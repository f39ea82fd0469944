"""A tenant's copy as it is seen from outside, by a thread of its own.

The thread looks every so often, and when there is news, and keeps what it saw. So the page, `/readyz` and
`/metrics` of many tenants ask no database, and one that hangs keeps no other from being seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from threading import Event, Thread
from time import monotonic
from typing import Final

import sqlalchemy as sa
import structlog

from sync import logs
from sync.app import freshness_policy, unpooled_copy
from sync.db.health import Freshness
from sync.errors import DatabaseUnavailable, SettingsError
from sync.monitor.snapshot import Snapshot, TenantStatus, look, refused, tenant_status
from sync.settings import Settings
from sync.settings.served import ServedTenants
from sync.web.app import shown_copy
from sync.web.pages import NotFound, ShownCopy

LOOK_S: Final = 60.0  # how often, at least

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


class CopyMonitor:
    """Sees one copy for as long as its settings are in force; `start` before anything is seen.

    name     of the tenant
    copy     is closed with it
    on_look  is called behind each look but the first: it may be about what was seen
    """

    def __init__(
        self, name: str, settings: Settings, copy: sa.Engine, on_look: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self.settings = settings
        self.copy = copy
        self.site = shown_copy(copy, settings)
        self.policy = freshness_policy(settings)
        self._on_look = on_look
        self._snapshot, self._seen_at = Snapshot(), monotonic()
        self._news, self._closed = Event(), Event()
        self._thread = Thread(target=self._watch, name=f"lookout {name}", daemon=True)

    @property
    def is_watching(self) -> bool:
        """Whether its thread runs: behind `close`, for as long as something is being told."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def news(self) -> None:
        """Something was done: look at once."""
        self._news.set()

    def look(self) -> Snapshot:
        """See how the copy is now, in the caller's thread."""
        self._snapshot, self._seen_at = look(self.copy), monotonic()
        return self._snapshot

    def tenant_status(self, busy: str = "", failures: Mapping[str, str] | None = None) -> TenantStatus:
        """How the tenant is, by the last look; arguments as there."""
        elapsed = self._elapsed()
        return tenant_status(self.name, self._snapshot, self.policy, elapsed, busy=busy, failures=failures)

    def freshness(self) -> Freshness:
        """Where the copy stands, by the last look. Raises DatabaseUnavailable where that found nothing."""
        if self._snapshot.found is None:
            raise DatabaseUnavailable(self._snapshot.why_not.reason)
        return self._snapshot.found.later(self._elapsed())

    def close(self) -> None:
        """Look no more; what is under way goes on to its end, see `wait_closed`."""
        self._closed.set()
        self._news.set()
        if self._thread.ident is None:
            self.copy.dispose()

    def wait_closed(self, within_s: float) -> None:
        """Wait, behind `close`, until what it saw is told and noted so. A look that hangs is left behind."""
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def _elapsed(self) -> timedelta:
        return timedelta(seconds=monotonic() - self._seen_at)

    def _watch(self) -> None:
        every_s = max(1.0, min(LOOK_S, self.settings.sync_max_lag / 2))
        with logs.of_tenant(self.name):
            self._try(self.look)
            while not self._closed.is_set():
                self._news.wait(every_s)
                self._news.clear()
                if not self._closed.is_set():
                    self._try(self.look)
                    self._try(self._on_look or (lambda: None))
        self.copy.dispose()  # here: what is closed while in use would be left open

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as fault:  # noqa: BLE001 - it must not end for one bad look
            _log.error("look.failed", error=type(fault).__name__)


class CopyMonitors:
    """The copies of many tenants, for a page that only looks; its `TenantDirectory`."""

    def __init__(self, served: ServedTenants) -> None:
        self._members = served.members
        self._monitors = {
            name: CopyMonitor(name, found, unpooled_copy(found))
            for name, found in served.members.items()
            if isinstance(found, Settings)
        }
        for monitor in self._monitors.values():
            monitor.start()

    def statuses(self) -> Sequence[TenantStatus]:
        """How each tenant is, by what was seen last."""
        return [
            refused(name, found) if isinstance(found, SettingsError) else self._monitors[name].tenant_status()
            for name, found in self._members.items()
        ]

    def site(self, tenant: str) -> ShownCopy:
        """Where the pages of one look. Raises Missing, and SettingsError where its settings are wrong."""
        found = self._members.get(tenant)
        if isinstance(found, SettingsError):
            raise found
        if found is None:
            raise NotFound(f"There is no tenant {tenant}.")
        return self._monitors[tenant].site

    def close(self) -> None:
        for monitor in self._monitors.values():
            monitor.close()
