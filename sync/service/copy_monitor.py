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
from sync.app import freshness_policy, unseen_copy
from sync.db.health import Freshness
from sync.errors import DatabaseUnavailable, SettingsError
from sync.monitor.snapshot import Snapshot, Standing, look, refused, standing
from sync.settings import Settings
from sync.settings.served import ServedTenants
from sync.web.app import site_of
from sync.web.pages import Missing, Site

LOOK_S: Final = 60.0  # how often, at least

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


class CopyMonitor:
    """Sees one copy for as long as its settings are in force; `start` before anything is seen.

    name     of the tenant
    copy     is closed with it
    tell     is called behind each look but the first: it may be about what was seen
    """

    def __init__(
        self, name: str, settings: Settings, copy: sa.Engine, tell: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self.settings = settings
        self.copy = copy
        self.site = site_of(copy, settings)
        self.policy = freshness_policy(settings)
        self._tell = tell
        self._sight, self._seen_at = Snapshot(), monotonic()
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
        self._sight, self._seen_at = look(self.copy), monotonic()
        return self._sight

    def standing(self, busy: str = "", troubles: Mapping[str, str] | None = None) -> Standing:
        """How the tenant is, by the last look; arguments as there."""
        elapsed = self._elapsed()
        return standing(self.name, self._sight, self.policy, elapsed, busy=busy, troubles=troubles)

    def freshness(self) -> Freshness:
        """Where the copy stands, by the last look. Raises DatabaseUnavailable where that found nothing."""
        if self._sight.found is None:
            raise DatabaseUnavailable(self._sight.why_not.reason)
        return self._sight.found.later(self._elapsed())

    def close(self) -> None:
        """Look no more; what is under way goes on to its end, see `part`."""
        self._closed.set()
        self._news.set()
        if self._thread.ident is None:
            self.copy.dispose()

    def part(self, within_s: float) -> None:
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
                    self._try(self._tell or (lambda: None))
        self.copy.dispose()  # here: what is closed while in use would be left open

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as fault:  # noqa: BLE001 - it must not end for one bad look
            _log.error("look.failed", error=type(fault).__name__)


class CopyMonitors:
    """The copies of many tenants, for a page that only looks; its `Company`."""

    def __init__(self, fleet: ServedTenants) -> None:
        self._members = fleet.members
        self._lookouts = {
            name: CopyMonitor(name, found, unseen_copy(found))
            for name, found in fleet.members.items()
            if isinstance(found, Settings)
        }
        for lookout in self._lookouts.values():
            lookout.start()

    def standings(self) -> Sequence[Standing]:
        """How each tenant is, by what was seen last."""
        return [
            refused(name, found) if isinstance(found, SettingsError) else self._lookouts[name].standing()
            for name, found in self._members.items()
        ]

    def site(self, tenant: str) -> Site:
        """Where the pages of one look. Raises Missing, and SettingsError where its settings are wrong."""
        found = self._members.get(tenant)
        if isinstance(found, SettingsError):
            raise found
        if found is None:
            raise Missing(f"There is no tenant {tenant}.")
        return self._lookouts[tenant].site

    def close(self) -> None:
        for lookout in self._lookouts.values():
            lookout.close()
