"""What systemd hears of a service of Type=notify, or notify-reload; nothing without NOTIFY_SOCKET.

Source: sd_notify(3), "Notes": a datagram of NAME=VALUE lines to a unix socket; one whose name begins with `@`
is abstract. Ten lines, so no library: the kept ones need a compiler.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


class Notifier:
    """Tells the service manager that started us. A manager that does not listen is no fault of ours."""

    def __init__(self) -> None:
        name = os.environ.pop("NOTIFY_SOCKET", "")  # not for processes of ours
        self._address = "\0" + name[1:] if name.startswith("@") else name
        watched = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(os.environ.get("WATCHDOG_USEC") or 0) / 1e6 if watched else 0.0
        self._status = ""

    def ready(self) -> None:
        self._tell("READY=1")

    def reloading(self) -> None:
        """The settings are read again; `ready` says when that is done."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def alive(self) -> None:
        if self.watchdog_s:
            self._tell("WATCHDOG=1")

    def status(self, words: str) -> None:
        """Show one line in `systemctl status`; said again only when it changed."""
        if words != self._status:
            self._status = words
            self._tell(f"STATUS={words}")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as wire,
        ):
            wire.sendto(message.encode(), self._address)
