"""Who is served by this process just now, by name: what the settings say, made to happen tenant by tenant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from threading import Event
from time import monotonic
from typing import Final

import structlog

from sync import logs
from sync.app import own_copy, unseen_copy
from sync.db.engine import reading
from sync.db.health import freshness
from sync.errors import SettingsError, SyncError
from sync.hooks.liveness import STILL_S
from sync.hooks.metrics import MetricsHook
from sync.metrics import Metrics, TenantsMetrics
from sync.monitor.freshness import Problem
from sync.monitor.snapshot import Standing, refused
from sync.service.copy_monitor import CopyMonitor
from sync.service.tenant_service import TenantService
from sync.settings import Settings
from sync.settings.served import ALONE, ServedTenants
from sync.web.pages import Missing, Site

ASKING_S: Final = 10.0  # for the tenant to show whose copy it is, where its name does not tell
PARTING_S: Final = 2.5  # more than a receiver's answer in hand is waited for

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


class TenantRegistry:
    """The tenants of a fleet; the page's `Company`. Changed by one thread at a time, asked by all.

    version    of this program, for the metrics
    """

    def __init__(self, fleet: ServedTenants, version: str) -> None:
        self._fleet = fleet
        self._version = version
        self._tenancies: dict[str, TenantService] = {}
        self._faults: dict[str, SyncError] = {}
        self._leaving: list[CopyMonitor] = []
        self._metrics = TenantsMetrics(version, self._measured)

    def take(self, fleet: ServedTenants) -> list[TenantService]:
        """Serve these from now on; returns those that are new, or have other settings than before.

        What is wrong with one of many is kept for whoever asks, and what it had goes on as it was. What is
        wrong with the only one is raised.
        """
        former, self._fleet = self._fleet, fleet
        for name in former.members.keys() - fleet.members.keys():
            self._drop(name)
        known, self._faults = self._faults, {}
        changed = []
        for name, found in fleet.members.items():
            with logs.of_tenant(name):
                try:
                    if tenancy := self._taken(name, found):
                        changed.append(tenancy)
                except SyncError as error:
                    if fleet.is_alone:
                        raise
                    self._faults[name] = error
                    self._metrics.settings_ok.labels(name).set(0)
                    if str(error) != str(known.get(name)):
                        _log.error("settings.refused", error=str(error), fix=error.fix)
        return changed

    def _taken(self, name: str, found: Settings | SettingsError) -> TenantService | None:
        """Serve one tenant; None where it is served so already."""
        if isinstance(found, SettingsError):
            raise found
        self._metrics.settings_ok.labels(name).set(1)
        tenancy = self._tenancies.get(name)
        if tenancy is not None and tenancy.settings == found:
            return None
        copy = unseen_copy(found) if name else own_copy(found, Event(), max_retry_time=ASKING_S)
        if tenancy is not None:
            self._leave(tenancy.lookout)
            tenancy.replace(found, copy)
        else:
            tenancy = TenantService(name, found, copy, self._meter(name), lambda: self._fleet.turn_s)
            self._tenancies = {**self._tenancies, name: tenancy}
        look = tenancy.lookout
        tenancy.meter.show_copy(
            look.freshness if name else lambda: reading(look.copy, freshness), look.policy
        )
        return tenancy

    def _drop(self, name: str) -> None:
        self._metrics.settings_ok.remove(name)
        if name in self._tenancies:
            self._leave(self._tenancies[name].lookout)
            self._tenancies[name].close()
            self._tenancies = {other: it for other, it in self._tenancies.items() if other != name}

    def _leave(self, lookout: CopyMonitor) -> None:
        """Remember who is about to be replaced, or dropped: a message may be on its way."""
        self._leaving = [it for it in self._leaving if it.is_watching] + [lookout]

    def _meter(self, name: str) -> MetricsHook:
        return MetricsHook(Metrics("", process=False) if name else Metrics(self._version))

    def close(self) -> None:
        """Tell every pass under way to end, and look at nothing any more."""
        for tenancy in self._tenancies.values():
            tenancy.close()

    def part(self) -> None:
        """Wait, behind `close`, for what is being told."""
        until = monotonic() + PARTING_S
        for lookout in (*self._leaving, *(it.lookout for it in self._tenancies.values())):
            lookout.part(max(0.0, until - monotonic()))

    def __getitem__(self, name: str) -> TenantService:
        return self._tenancies[name]

    # --- how they are ------------------------------------------------------------------------

    def why_stuck(self) -> str | None:
        """Why this process should be started again: as many are stuck as may work. None: it is alive."""
        pulses = {name: it.meter.pulse for name, it in self._tenancies.items()}
        stuck = [f"{name} {it.busy_with}".strip() for name, it in pulses.items() if it.is_stuck]
        if len(stuck) < self._fleet.at_once:
            return None
        return f"The worker has not been heard of for {STILL_S:.0f} s; it does: {', '.join(stuck)}."

    def in_words(self) -> str:
        """What is done, in one line."""
        busy = {name: it.meter.pulse.busy_with for name, it in self._tenancies.items()}
        works = [f"{name} {work}".strip() for name, work in busy.items() if work]
        return f"busy: {', '.join(works)}" if works else "idle until the next pass is due"

    def problems(self) -> list[Problem]:
        """What keeps a copy from being as fresh as promised."""
        if self._fleet.is_alone:
            lookout = self._tenancies[ALONE].lookout
            return lookout.look().problems(lookout.policy, timedelta())
        return [problem for it in self.standings() for problem in it.problems]

    def standings(self) -> Sequence[Standing]:
        """How each tenant is, by what was seen last."""
        return [self._standing(name) for name in self._fleet.members]

    def _standing(self, name: str) -> Standing:
        tenancy, fault = self._tenancies.get(name), self._faults.get(name)
        if tenancy is None:
            return refused(name, fault or SettingsError("The settings were not read yet."))
        pulse = tenancy.meter.pulse
        failed = dict(tenancy.troubles)
        if fault is not None:
            failed["settings"] = f"{fault} To do: {fault.fix}"
        found = tenancy.lookout.standing(pulse.busy_with, failed)
        if pulse.is_stuck:
            words = f"Nothing has been heard of its {pulse.busy_with} for {STILL_S:.0f} s."
            found.problems.append(Problem("stuck", pulse.busy_with, words, tenant=name))
        return found

    def site(self, tenant: str) -> Site:
        """Where the pages of one look. Raises Missing, and why the settings of a tenant cannot be used."""
        if tenant in self._tenancies:
            return self._tenancies[tenant].lookout.site
        if tenant in self._faults:
            raise self._faults[tenant]
        raise Missing(f"There is no tenant {tenant}.")

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their content type, told what is accepted."""
        if self._fleet.is_alone:
            return self._tenancies[ALONE].meter.metrics.exposition(accept)
        return self._metrics.exposition(accept)

    def _measured(self) -> dict[str, Metrics]:
        return {name: it.meter.metrics for name, it in self._tenancies.items()}
