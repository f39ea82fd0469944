"""A network namespace with one link to this machine: what runs in it can be cut off.

with island() as there:
    url = there.reach(("127.0.0.1", 5432))     an address inside that leads to one here
    there.command(...)                         what to run, so that it runs inside
    there.cut(), there.mend()
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import pytest


@dataclass
class Island:
    """Names and addresses; `here` and `there` are the two ends of the link."""

    name: str
    here: str
    there: str
    closing: ExitStack
    ports: list[int] = field(default_factory=list)

    def command(self, arguments: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *arguments]

    def reach(self, target: str, port: int | None = None) -> int:
        """A port on the island's loopback that leads to `target`, as socat names it, on this machine.

        port    which one; None takes any

        This end notices after 20 s that the other is gone, as a server does.
        """
        port = port or _free_port()
        listen = f"TCP-LISTEN:{port},bind={self.here},fork,reuseaddr"
        self._relay(["socat", f"{listen},keepalive,keepidle=10,keepintvl=5,keepcnt=2", target])
        inside = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"
        self._relay(self.command(["socat", inside, f"TCP:{self.here}:{port}"]))
        return port

    def _relay(self, command: Sequence[str]) -> None:
        process = self.closing.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        self.closing.callback(process.terminate)

    def cut(self) -> None:
        _ip("link", "set", f"{self.name}a", "down")

    def mend(self) -> None:
        _ip("link", "set", f"{self.name}a", "up")


@contextmanager
def island() -> Iterator[Island]:
    """Skips the test where namespaces cannot be made."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "socat"))):
        pytest.skip("network namespaces take root, ip and socat")
    name = f"ps{uuid4().hex[:8]}"
    net = f"10.{uuid4().int % 200 + 20}.{uuid4().int % 250}"
    with ExitStack() as closing:
        if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
            pytest.skip("this machine lets nobody make a network namespace")
        closing.callback(_ip, "netns", "delete", name)
        _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        _ip("address", "add", f"{net}.1/24", "dev", f"{name}a")
        _ip("link", "set", f"{name}a", "up")
        for words in (
            ["address", "add", f"{net}.2/24", "dev", f"{name}b"],
            ["link", "set", f"{name}b", "up"],
        ):
            _ip("-netns", name, *words)
        _ip("-netns", name, "link", "set", "lo", "up")
        yield Island(name, f"{net}.1", f"{net}.2", closing)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
