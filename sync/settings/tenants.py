"""Many tenants: a TOML file with a table of settings for each, by name.

    at_once = 4                       # most tenants with a pass in progress
    turn = "5m"                       # how long one may keep the others waiting

    [defaults]                        # for all tenants
    IMS_ORG_ID = "0AB@AdobeOrg"

    [eu]
    API_ENDPOINT = "https://na1.api.commerce.adobe.com/AbC"
    IMS_CLIENT_ID = "0123"
    IMS_CLIENT_SECRET = { file = "secrets/eu" }         # or IMS_CLIENT_SECRET_FILE = "secrets/eu"
    DATABASE_URL = { env = "EU_DATABASE" }

A tenant's table has priority over `[defaults]`, and that over the environment and `.env`. A blank text means
not set. The names are those of `sync.settings`. Reading a tenant's settings reports its faults, so the others
can be served; `load` reports faults of the file itself.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sync.errors import SettingsError, UsageError
from sync.settings import NOTHING, OF_THE_PROCESS, AnySettings, Settings, is_secret, no_setting
from sync.settings.parsers import parse_duration, place_of, read_secret, read_text, trimmed

DEFAULTS: Final = "defaults"
AT_ONCE, MOST_AT_ONCE = 4, 64
TURN = "5m"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # it becomes a label and a part of a URL

Table = Mapping[str, Any]  # as in the file
Given = Mapping[str, str | ValueError]  # by the names of fields: the text, or what is wrong with it


@dataclass(frozen=True, slots=True)
class Place:
    """A tenant's table in a file."""

    path: Path
    name: str

    def load(self, kind: type[AnySettings]) -> AnySettings:
        """Read its settings again. Raises SettingsError, also if the table was removed."""
        try:
            return load(self.path).settings_as(kind, self.name)
        except UsageError as error:
            raise SettingsError(str(error), f"restore the table, or do not use {self.name}.") from None

    def secret_files(self) -> dict[str, Path]:
        """The file of tenants, and the files with secrets that this one's table and the defaults refer to."""
        content, found = _parsed(self.path, _version(self.path)), {str(self.path): self.path}
        for table in (DEFAULTS, self.name):
            for key, value in content.get(table, {}).items():
                file = value if _is_reference(key) else value.get("file") if isinstance(value, dict) else None
                if isinstance(file, str) and _is_secret(key):
                    found[f"[{table}] {key}"] = self.path.parent / file
        return found


@dataclass(frozen=True, slots=True)
class Tenants:
    """The tenants of a file, in its order, and how they share a process.

    at_once    most tenants with a pass in progress at the same time
    turn_s     how long one may keep the others waiting
    """

    path: Path
    at_once: int
    turn_s: float
    given: Mapping[str, Given] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.given)

    def settings(self, name: str) -> Settings:
        """A tenant's settings; secrets are read again from their source (`Settings.again`).

        Raises SettingsError with every fault of this tenant, UsageError for a name that is not in the file.
        """
        return self.settings_as(Settings, name)

    def settings_as(
        self, kind: type[AnySettings], name: str, instead: Mapping[str, str] = NOTHING
    ) -> AnySettings:
        """The same, as another class: `CopySettings`, for example, needs no credential.

        instead    values that replace those of the file
        """
        given = {**self.given_of(name), **instead}
        try:
            return kind.load(given, Place(self.path, name))
        except SettingsError as error:
            todo = f"correct [{name}] in {self.path}; .env.example shows each setting."
            raise SettingsError(str(error), todo, error.faults) from None

    def given_of(self, name: str) -> Given:
        """A tenant's values in the file. Raises UsageError for an unknown name."""
        if name not in self.given:
            raise UsageError(f"{self.path} has no tenant {name}.", f"name one of {', '.join(self.names)}.")
        return self.given[name]


def load(path: Path) -> Tenants:
    """Read a file of tenants. Raises SettingsError with all faults of the file itself."""
    content = _parsed(path, _version(path))
    tables = {name: table for name, table in content.items() if isinstance(table, dict)}
    defaults = tables.pop(DEFAULTS, {})
    if faults := [*_faults_of_top(content, tables), *_faults_of_defaults(defaults)]:
        raise _unusable(path, "\n".join(faults))
    shared = _read(defaults, path.parent)
    return Tenants(
        path=path,
        at_once=content.get("at_once", AT_ONCE),
        turn_s=parse_duration(content.get("turn", TURN)),
        given=_each_at_its_own({name: {**shared, **_read(it, path.parent)} for name, it in tables.items()}),
    )


def _version(path: Path) -> tuple[int, ...]:
    """A value that changes with the file."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unusable(path, f"{path} cannot be read: {error.strerror}.") from None
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=2)
def _parsed(path: Path, _version: tuple[int, ...]) -> dict[str, Any]:
    """The parsed file; cached, since a rotating secret is read often."""
    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        raise _unusable(path, f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise _unusable(path, f"{path} cannot be read as UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise _unusable(path, f"{path} is no TOML: {error}.") from None


def _unusable(path: Path, faults: str) -> SettingsError:
    return SettingsError(faults, f"correct {path}; docs/many-tenants.md has an example.")


# --- the file itself ---------------------------------------------------------------------------


def _faults_of_top(content: Table, tables: Table) -> Iterator[str]:
    at_once = content.get("at_once", AT_ONCE)
    if type(at_once) is not int or not 1 <= at_once <= MOST_AT_ONCE:
        yield f"at_once: is no whole number from 1 to {MOST_AT_ONCE}; example: at_once = {AT_ONCE}"
    try:
        parse_duration(str(content.get("turn", TURN)))
    except ValueError as error:
        yield f'turn: {error}; example: turn = "{TURN}"'
    if not tables:
        yield "There is no tenant: each is a table, [eu] for example, with its settings."
    for name in sorted(content.keys() - tables.keys() - {"at_once", "turn", DEFAULTS}):
        yield f"{name}: stands outside a table: move it under [{DEFAULTS}] or the name of a tenant."
    for name in tables:
        if not NAME.fullmatch(name):
            yield f"[{name}]: is no name of a tenant: up to 63 small letters, digits, - and _"


def _faults_of_defaults(defaults: Table) -> Iterator[str]:
    for key, value in defaults.items():
        fault = _fault(key, value, defaults)
        if _field(key) == "database_url":
            fault = "is each tenant's own: move it under the name of one"
        if fault:
            yield f"[{DEFAULTS}] {key}: {fault}"


def _each_at_its_own(given: Mapping[str, Given]) -> dict[str, Given]:
    """The same, with a fault for each tenant without a database, or with that of another tenant."""
    places = {name: _place(it.get("database_url")) for name, it in given.items()}
    found: dict[str, Given] = {}
    for name, it in given.items():
        others = [other for other, place in places.items() if place == places[name] and other != name]
        fault: dict[str, ValueError] = {}
        if not it.get("database_url"):
            words = "is not set: each tenant has a database, or a PostgreSQL schema, of its own"
            fault = {"database_url": ValueError(words)}
        elif places[name] and others:
            words = f"is the same as that of {', '.join(others)}: a database or schema holds one tenant"
            fault = {"database_url": ValueError(words)}
        found[name] = {**it, **fault}
    return found


def _place(url: str | ValueError | None) -> str:
    """Where a copy is; blank if the URL is invalid, which the settings report."""
    try:
        return place_of(url) if isinstance(url, str) and url else ""
    except ValueError:
        return ""


# --- one table ---------------------------------------------------------------------------------


def _read(table: Table, folder: Path) -> dict[str, str | ValueError]:
    """The values of a table, by the names of fields; paths are relative to `folder`."""
    return {
        _field(key): ValueError(fault) if (fault := _fault(key, value, table)) else _text(key, value, folder)
        for key, value in table.items()
    }


def _field(key: str) -> str:
    """The field for a key; an unknown key is returned unchanged.

    >>> _field("IMS_CLIENT_SECRET_FILE"), _field("STORE_VIEWS"), _field("SHOP")
    ('ims_client_secret', 'store_views', 'SHOP')
    """
    name = key.lower().removesuffix("_file")
    return name if name in Settings.model_fields else key


def _is_secret(key: str) -> bool:
    return _field(key) in Settings.model_fields and is_secret(_field(key))


def _is_reference(key: str) -> bool:
    """Whether the key has the form NAME_FILE."""
    return key != _field(key).upper()


def _fault(key: str, value: object, table: Table) -> str | None:
    """The fault of an entry, without reading the file or variable it refers to."""
    name = _field(key)
    if name not in Settings.model_fields or key != key.upper():
        return no_setting(key)
    if name in OF_THE_PROCESS:
        return "is for the whole process, not for a tenant: set it in the environment or .env"
    if {name.upper(), f"{name.upper()}_FILE"} <= table.keys():
        return f"is set, and {name.upper()}_FILE too: keep one of them"
    if _is_reference(key):
        return None if isinstance(value, str) and value else f"{key} names no file"
    if isinstance(value, dict):
        return _fault_of_reference(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return "is neither text nor a number; a list is one text, with commas"
    if value != "" and is_secret(name, str(value)):
        return 'stands there in plain text: refer to it, by { env = "NAME" } or { file = "PATH" }'
    return None


def _fault_of_reference(value: Table) -> str | None:
    targets = [target for name, target in value.items() if name in ("env", "file")]
    if len(value) == len(targets) == 1 and isinstance(targets[0], str) and targets[0]:
        return None
    return 'refers to nothing: write { env = "NAME" } or { file = "PATH" }'


def _text(key: str, value: Any, folder: Path) -> str | ValueError:
    """The text of an entry, read from the file or variable it refers to, or the fault."""
    if _is_reference(key):
        return _from_file(folder / value)
    if not isinstance(value, dict):
        return str(value)
    if "file" in value:
        return _from_file(folder / value["file"])
    text = trimmed(os.environ.get(value["env"], ""))
    return text or ValueError("refers to a variable of the environment that is not set, or blank")


def _from_file(path: Path) -> str | ValueError:
    file = "the file it refers to"  # not its path: people put the secret itself there
    try:
        return read_secret(path) or ValueError(f"is empty in {file}")
    except OSError as error:
        return ValueError(f"cannot be read from {file}: {error.strerror}")
    except ValueError:
        return ValueError(f"cannot be read from {file}: it is not text")
