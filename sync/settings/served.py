"""The tenants that a process serves: one from the environment, or many from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from sync.errors import SettingsError
from sync.settings import CopySettings, Settings
from sync.settings.tenants import Tenants

ALONE: Final = ""  # the name of the only tenant


@dataclass(frozen=True, slots=True)
class ServedTenants:
    """The served tenants, and how they share the process.

    process    the settings of the process: page and log
    members    by name, in order: the settings, or why they cannot be used
    at_once    most tenants with a pass in progress at the same time
    turn_s     how long one may keep the others waiting
    """

    process: Settings
    members: Mapping[str, Settings | SettingsError]
    at_once: int = 1
    turn_s: float = inf

    @property
    def is_alone(self) -> bool:
        return ALONE in self.members


def alone(settings: Settings) -> ServedTenants:
    """One tenant, without a name."""
    return ServedTenants(settings, {ALONE: settings})


def of_file(tenants: Tenants, kind: type[Settings] = Settings) -> ServedTenants:
    """The tenants of a file; invalid settings of one do not affect the others.

    kind    `CopySettings` if only the copies are read

    Raises SettingsError for settings of the process.
    """
    members = {name: _settings(tenants, name, kind) for name in tenants.names}
    return ServedTenants(CopySettings.load(), members, tenants.at_once, tenants.turn_s)


def _settings(tenants: Tenants, name: str, kind: type[Settings]) -> Settings | SettingsError:
    try:
        return tenants.settings_as(kind, name)
    except SettingsError as error:
        return error
