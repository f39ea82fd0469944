"""Watches one tenant's copy in a thread of its own.

The thread takes a snapshot at intervals and after each pass, and keeps the last one. So the page, `/readyz`
and `/metrics` of many tenants query no database, and a database that hangs affects its own tenant only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from threading import Event, Thread
from typing import Final

import sqlalchemy as sa
import structlog

from sync import logs
from sync.app import unpooled_copy
from sync.db.health import Freshness
from sync.errors import DatabaseUnavailable, SettingsError
from sync.monitor.snapshot import Snapshot, TenantStatus, look, refused, tenant_status
from sync.monitor.steady import uptime
from sync.settings import Settings
from sync.settings.served import ServedTenants
from sync.web.app import shown_copy
from sync.web.pages import NotFound, ShownCopy

LOOK_S: Final = 60.0  # at least this often

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


class CopyMonitor:
    """Watches one copy under one set of settings, from `start` until `close`.

    name     of the tenant
    copy     disposed of when the monitor ends
    on_look  called after each look but the first
    """

    def __init__(
        self, name: str, settings: Settings, copy: sa.Engine, on_look: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self.settings = settings
        self.copy = copy
        self.site = shown_copy(copy, settings)
        self.policy, self.ages = self.site.policy, self.site.ages
        self._on_look = on_look
        self._snapshot, self._seen_at = Snapshot(), uptime()
        self._news, self._closed = Event(), Event()
        self._thread = Thread(target=self._watch, name=f"monitor {name}", daemon=True)

    @property
    def is_watching(self) -> bool:
        """Whether its thread runs; after `close`, until an alert in progress is sent."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def news(self) -> None:
        """Look at once, because a pass ended."""
        self._news.set()

    def look(self) -> Snapshot:
        """Take a snapshot now, in the caller's thread."""
        self._snapshot, self._seen_at = look(self.copy, self.ages), uptime()
        return self._snapshot

    def tenant_status(self, busy: str = "", failures: Mapping[str, str] | None = None) -> TenantStatus:
        """The tenant's status by the last snapshot; arguments as in `snapshot.tenant_status`."""
        elapsed = self._elapsed()
        return tenant_status(self.name, self._snapshot, self.policy, elapsed, busy=busy, failures=failures)

    @property
    def snapshot(self) -> Freshness | None:
        """What the last look found; None if that failed."""
        return self._snapshot.found

    def freshness(self) -> Freshness:
        """The copy's freshness by the last snapshot. Raises DatabaseUnavailable if that failed."""
        if self._snapshot.found is None:
            raise DatabaseUnavailable(self._snapshot.why_not.reason)
        return self._snapshot.found.later(self._elapsed())

    def close(self) -> None:
        """Stop watching. A look in progress continues to its end; see `wait_closed`."""
        self._closed.set()
        self._news.set()
        if self._thread.ident is None:
            self.copy.dispose()

    def wait_closed(self, within_s: float) -> None:
        """After `close`, wait until the thread has sent its alert. A look that hangs is abandoned."""
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def _elapsed(self) -> timedelta:
        return timedelta(seconds=uptime() - self._seen_at)

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
        self.copy.dispose()  # in this thread: disposing while in use leaks a connection

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as fault:  # noqa: BLE001 - one failed look must not end the thread
            _log.error("look.failed", error=type(fault).__name__)


class CopyMonitors:
    """The monitors of many tenants, for `serve`: the page without the daemon."""

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
        """The status of each tenant by its last snapshot."""
        return [
            refused(name, found) if isinstance(found, SettingsError) else self._monitors[name].tenant_status()
            for name, found in self._members.items()
        ]

    def site(self, tenant: str) -> ShownCopy:
        """The copy that a tenant's pages show. Raises NotFound; SettingsError if its settings are wrong."""
        found = self._members.get(tenant)
        if isinstance(found, SettingsError):
            raise found
        if found is None:
            raise NotFound(f"There is no tenant {tenant}.")
        return self._monitors[tenant].site

    def close(self) -> None:
        for monitor in self._monitors.values():
            monitor.close()
