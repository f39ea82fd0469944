"""The tenants that this process serves, by name; updated when the settings change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from threading import Event
from time import monotonic
from typing import Any, Final

import structlog

from sync import logs
from sync.app import tenant_copy, unpooled_copy
from sync.db.engine import reading
from sync.db.health import freshness
from sync.errors import SettingsError, SyncError
from sync.hooks.liveness import STILL_S
from sync.hooks.metrics import MetricsHook
from sync.metrics import Metrics, TenantsMetrics
from sync.monitor.freshness import Problem
from sync.monitor.outlook import public_outlook
from sync.monitor.snapshot import TenantStatus, refused
from sync.service.copy_monitor import CopyMonitor
from sync.service.tenant_service import TenantService
from sync.settings import Settings
from sync.settings.served import ALONE, ServedTenants
from sync.web.pages import NotFound, ShownCopy

ASKING_S: Final = 10.0  # for the check whose copy it is, if the recorded name does not decide it
PARTING_S: Final = 2.5  # longer than the wait for a receiver's answer

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


class TenantRegistry:
    """The served tenants; the page's `TenantDirectory`. One thread changes it at a time, all may read.

    version    of this program, for the metrics
    """

    def __init__(self, served: ServedTenants, version: str) -> None:
        self._served = served
        self._version = version
        self._services: dict[str, TenantService] = {}
        self._faults: dict[str, SyncError] = {}
        self._leaving: list[CopyMonitor] = []
        self._metrics = TenantsMetrics(version, self._measured)

    def take(self, served: ServedTenants) -> list[TenantService]:
        """Serve these from now on; returns those that are new or have changed settings.

        With many tenants, an error of one is recorded, and that tenant keeps its former settings. An error
        of an only tenant is raised.
        """
        former, self._served = self._served, served
        for name in former.members.keys() - served.members.keys():
            self._drop(name)
        known, self._faults = self._faults, {}
        changed = []
        for name, found in served.members.items():
            with logs.of_tenant(name):
                try:
                    if service := self._taken(name, found):
                        changed.append(service)
                except SyncError as error:
                    if served.is_alone:
                        raise
                    self._faults[name] = error
                    self._metrics.settings_ok.labels(name).set(0)
                    if str(error) != str(known.get(name)):
                        _log.error("settings.refused", error=str(error), fix=error.fix)
        return changed

    def _taken(self, name: str, found: Settings | SettingsError) -> TenantService | None:
        """Serve one tenant; None if its settings did not change."""
        if isinstance(found, SettingsError):
            raise found
        self._metrics.settings_ok.labels(name).set(1)
        service = self._services.get(name)
        if service is not None and service.settings == found:
            return None
        copy = unpooled_copy(found) if name else tenant_copy(found, Event(), max_retry_time=ASKING_S)
        if service is not None:
            self._remember_leaving(service.monitor)
            service.replace(found, copy)
        else:
            service = TenantService(name, found, copy, self._metrics_hook(name), lambda: self._served.turn_s)
            self._services = {**self._services, name: service}
        look = service.monitor
        service.metrics_hook.show_copy(
            look.freshness if name else lambda: look.ages.of(reading(look.copy, freshness)), look.policy
        )
        return service

    def _drop(self, name: str) -> None:
        self._metrics.settings_ok.remove(name)
        if name in self._services:
            self._remember_leaving(self._services[name].monitor)
            self._services[name].close()
            self._services = {other: it for other, it in self._services.items() if other != name}

    def _remember_leaving(self, monitor: CopyMonitor) -> None:
        """Keep a monitor that is about to be closed: it may still be sending an alert."""
        self._leaving = [it for it in self._leaving if it.is_watching] + [monitor]

    def _metrics_hook(self, name: str) -> MetricsHook:
        return MetricsHook(Metrics("", process=False) if name else Metrics(self._version))

    def close(self) -> None:
        """Stop every pass in progress and every monitor."""
        for service in self._services.values():
            service.close()

    def withdraw_next_runs(self) -> None:
        """After the last pass: this process begins no other."""
        for service in self._services.values():
            service.announce_next_runs({})

    def wait_closed(self) -> None:
        """After `close`, wait for alerts that are being sent."""
        until = monotonic() + PARTING_S
        for monitor in (*self._leaving, *(it.monitor for it in self._services.values())):
            monitor.wait_closed(max(0.0, until - monotonic()))

    def __getitem__(self, name: str) -> TenantService:
        return self._services[name]

    # --- status ------------------------------------------------------------------------------

    def why_stuck(self) -> str | None:
        """Why this process should be restarted: every slot is stuck. None: it is alive."""
        pulses = {name: it.metrics_hook.liveness for name, it in self._services.items()}
        stuck = [f"{name} {it.busy_with}".strip() for name, it in pulses.items() if it.is_stuck]
        if len(stuck) < self._served.at_once:
            return None
        return f"The worker has reported nothing for {STILL_S:.0f} s. In progress: {', '.join(stuck)}."

    def in_words(self) -> str:
        """The passes in progress, in one line."""
        busy = {name: it.metrics_hook.liveness.busy_with for name, it in self._services.items()}
        works = [f"{name} {work}".strip() for name, work in busy.items() if work]
        return f"busy: {', '.join(works)}" if works else "idle until the next pass is due"

    def problems(self) -> list[Problem]:
        """Why a copy is not fresh."""
        if self._served.is_alone:
            monitor = self._services[ALONE].monitor
            return monitor.look().problems(monitor.policy, timedelta())
        return [problem for it in self.statuses() for problem in it.problems]

    def outlook(self) -> dict[str, Any]:
        """What `/readyz` adds, by the last snapshots; with many tenants, by their names."""
        found = {name: public_outlook(it.monitor.snapshot) for name, it in self._services.items()}
        return found[ALONE] if self._served.is_alone else {"tenants": found}

    def statuses(self) -> Sequence[TenantStatus]:
        """The status of each tenant by its last snapshot."""
        return [self._standing(name) for name in self._served.members]

    def _standing(self, name: str) -> TenantStatus:
        service, fault = self._services.get(name), self._faults.get(name)
        if service is None:
            return refused(name, fault or SettingsError("The settings were not read yet."))
        liveness = service.metrics_hook.liveness
        failed = dict(service.failures)
        if fault is not None:
            failed["settings"] = fault.advice
        found = service.monitor.tenant_status(liveness.busy_with, failed)
        if liveness.is_stuck:
            words = f"It has reported nothing about its {liveness.busy_with} for {STILL_S:.0f} s."
            found.problems.append(Problem("stuck", liveness.busy_with, words, tenant=name))
        return found

    def site(self, tenant: str) -> ShownCopy:
        """The copy that a tenant's pages show. Raises NotFound; SyncError if its settings are wrong."""
        if tenant in self._services:
            return self._services[tenant].monitor.site
        if tenant in self._faults:
            raise self._faults[tenant]
        raise NotFound(f"There is no tenant {tenant}.")

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their content type, for an Accept header."""
        if self._served.is_alone:
            return self._services[ALONE].metrics_hook.metrics.exposition(accept)
        return self._metrics.exposition(accept)

    def _measured(self) -> dict[str, Metrics]:
        return {name: it.metrics_hook.metrics for name, it in self._services.items()}
