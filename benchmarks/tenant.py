"""A simulated tenant in a process of its own, and what it saw."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

LAST_SETTING = "IMS_TOKEN_URL"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the tenant saw it; `at` is when it came in, in seconds since 1970."""

    status: int
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant with ids 1 to `products`; `settings` lead product-sync and the floor there."""

    products: int
    settings: dict[str, str]

    def ail(self, fault: str, **arguments: Any) -> None:
        """From now on suffer from a fault of the sandbox: `quota`, `workers`, …"""
        self._control("faults", {"fault": fault, **arguments})

    def requests(self) -> list[Request]:
        """What was asked so far, oldest first; requests for a token do not count."""
        served = self._control("requests")
        seen = [Request(one["status"], one["at"], one["seconds"]) for one in served if one["kind"] != "token"]
        return sorted(seen, key=lambda request: request.at)

    def _control(self, name: str, body: dict[str, Any] | None = None) -> Any:
        url = urlsplit(self.settings["API_ENDPOINT"])._replace(path=f"/_sandbox/{name}").geturl()
        with urlopen(url, None if body is None else json.dumps(body).encode()) as answer:  # noqa: S310
            return json.load(answer)


@contextmanager
def tenant(products: int, *options: str) -> Iterator[Tenant]:
    """Start a tenant, and end it; options are those of `python -m sync.sandbox`."""
    command = [sys.executable, "-m", "sync.sandbox", "--products", str(products), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Tenant(products, _settings(process))
        finally:
            process.terminate()


def _settings(process: subprocess.Popen[str]) -> dict[str, str]:
    """The settings that the sandbox prints once it listens."""
    settings: dict[str, str] = {}
    for line in process.stdout or ():
        name, equals, value = line.strip().partition("=")
        if equals:
            settings[name] = value
        if name == LAST_SETTING:
            return settings
    raise RuntimeError("the sandbox ended before it listened")
