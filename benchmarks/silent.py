"""One daemon, many tenants, some of which accept connections and never answer: how fresh are the others?

python -m benchmarks --only silent-tenants

The silent ones stand first in the file, so they hold every slot at the start. They hang in five ways: at the
API, at the token endpoint, in the middle of an answer (a byte a second) of either, and in the TLS handshake.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Final, Self
from urllib.request import urlopen

from benchmarks.processes import BenchmarkFailed, environment, product_sync
from benchmarks.results import Result
from sync.sandbox import Sandbox

AT_ONCE, TURN_S, INTERVAL_S = 4, 20, 60
FRESH_WITHIN_S: Final = 120.0
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999999\r\n\r\n"
WAYS: Final = ("api", "ims", "api drips", "ims drips", "tls")


class Mute:
    """A server that accepts connections and never answers.

    drips    sends the head of an answer, then a byte a second
    """

    def __init__(self, *, drips: bool = False) -> None:
        self._drips = drips
        self._closed = Event()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        Thread(target=self._accept, name="mute", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._closed.is_set():
                wire, _ = self._server.accept()
                Thread(target=self._keep, args=(wire,), name="mute", daemon=True).start()

    def _keep(self, wire: socket.socket) -> None:
        """Hold a connection until its other end gives up."""
        with wire, suppress(OSError):
            if self._drips:
                wire.sendall(HEAD)
            wire.settimeout(1.0)
            while not self._closed.is_set():
                with suppress(TimeoutError):
                    if not wire.recv(65536):
                        return
                if self._drips:
                    wire.sendall(b" ")


class Shops:
    """Tenants that are well and tenants that are silent, and the file that leads to them."""

    def __init__(self, folder: Path, well: int, silent: int, products: int) -> None:
        self.file = folder / "tenants.toml"
        self._folder, self._products = folder, products
        self.silent = [f"silent-{n}" for n in range(silent)]
        self.well = [f"well-{n}" for n in range(well)]
        self._serving = ExitStack()

    def __enter__(self) -> Self:
        secret = self._folder / "secret"
        first = self._serving.enter_context(Sandbox(self._products))
        secret.write_text(first.environment()["IMS_CLIENT_SECRET"])
        tables = {name: self._silent(first, WAYS[n % len(WAYS)]) for n, name in enumerate(self.silent)}
        for n, name in enumerate(self.well):
            sandbox = self._serving.enter_context(Sandbox(self._products, seed=n))
            tables[name] = sandbox.environment()
        top = [f"at_once = {AT_ONCE}", f'turn = "{TURN_S}s"']
        self.file.write_text("\n".join([*top, *(self._table(*table) for table in tables.items())]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._serving.close()

    def _silent(self, sandbox: Sandbox, way: str) -> dict[str, str]:
        """The settings of a tenant that hangs in this way."""
        mute = Mute(drips=way.endswith("drips"))
        self._serving.callback(mute.close)
        scheme = "https" if way == "tls" else "http"
        setting = "IMS_TOKEN_URL" if way.startswith("ims") else "API_ENDPOINT"
        return sandbox.environment() | {setting: f"{scheme}://{mute.address}/tenant"}

    def _table(self, name: str, settings: dict[str, str]) -> str:
        settings = settings | {
            "DATABASE_URL": f"sqlite:///{self._folder / name}.db",
            "IMS_CLIENT_SECRET_FILE": str(self._folder / "secret"),
            "SYNC_INTERVAL": f"{INTERVAL_S}s",
            "SYNC_PRICES_INTERVAL": f"{5 * INTERVAL_S}s",
            "SYNC_STOCK_INTERVAL": f"{5 * INTERVAL_S}s",
        }
        del settings["IMS_CLIENT_SECRET"]
        return "\n".join([f"\n[{name}]", *(f'{key} = "{value}"' for key, value in settings.items())])


@dataclass(slots=True)
class Seen:
    """What the daemon said of the tenants that are well.

    fresh_at    seconds after the start when each was first seen to be fresh, by name
    oldest_s    the greatest age of a copy after that
    """

    fresh_at: dict[str, float] = field(default_factory=dict)
    oldest_s: float = 0.0

    def note(self, at: float, tenants: list[dict[str, Any]], well: set[str]) -> None:
        for tenant in tenants:
            if tenant["name"] in well and tenant["lag"] is not None:
                if tenant["state"] == "fresh":
                    self.fresh_at.setdefault(tenant["name"], at)
                self.oldest_s = max(self.oldest_s, tenant["lag"])


def silent_tenants(folder: Path, well: int, silent: int, products: int, seconds: float) -> Iterator[Result]:
    """How soon all that are well are fresh, and how old the oldest of them gets, with SQLite."""
    with Shops(folder, well, silent, products) as shops, _daemon(shops, folder) as address:
        seen = _watched(address, set(shops.well), seconds)
    latest = max(seen.fresh_at.values()) if len(seen.fresh_at) == well else float("inf")
    work = f"{well + silent} tenants, {silent} silent, {AT_ONCE} at once"
    facts = {"fresh_at": seen.fresh_at, "oldest_s": seen.oldest_s, "watched_s": seconds}
    took = f"{len(seen.fresh_at)} of {well} fresh"
    yield Result(work, "s until all are fresh", latest, FRESH_WITHIN_S, took, "2 minutes", facts)
    allowed = 2.0 * INTERVAL_S
    oldest = f"{seen.oldest_s:.0f} s in {seconds:.0f} s"
    yield Result(work, "s, the oldest copy", seen.oldest_s, allowed, oldest, "two intervals", {})


@contextmanager
def _daemon(shops: Shops, folder: Path) -> Iterator[str]:
    """A daemon for a file of tenants; the address of its page. Raises BenchmarkFailed."""
    log = folder / "daemon.log"
    settings = environment({"STATUS_BIND": "127.0.0.1:0", "LOG_FORMAT": "json"}, folder)
    command = product_sync("daemon", "--tenants", str(shops.file))
    with log.open("wb") as said, subprocess.Popen(command, env=settings, cwd=folder, stderr=said) as process:
        try:
            yield _address(process, log)
        finally:
            process.terminate()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        for line in log.read_text().splitlines():
            if '"page.served"' in line:
                return str(json.loads(line)["url"]).rstrip("/")
        sleep(0.1)
    raise BenchmarkFailed(f"the daemon ended with {process.returncode}:\n{log.read_text()}")


def _watched(address: str, well: set[str], seconds: float) -> Seen:
    seen, began = Seen(), monotonic()
    while (at := monotonic() - began) < seconds:
        with urlopen(f"{address}/api/tenants") as answer:  # noqa: S310
            seen.note(at, json.load(answer)["tenants"], well)
        sleep(1.0)
    return seen
