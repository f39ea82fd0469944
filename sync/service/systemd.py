"""Notifications to systemd (Type=notify or notify-reload); none without NOTIFY_SOCKET.

Source: sd_notify(3), "Notes": a datagram of NAME=VALUE lines to a unix socket; one whose name begins with `@`
is abstract. Ten lines need no library; the maintained ones need a compiler.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


class Notifier:
    """Sends notifications to the service manager. One that does not listen is ignored."""

    def __init__(self) -> None:
        name = os.environ.pop("NOTIFY_SOCKET", "")  # child processes must not inherit it
        self._address = "\0" + name[1:] if name.startswith("@") else name
        watched = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        interval = os.environ.get("WATCHDOG_USEC", "")  # anything but digits is not from systemd
        self.watchdog_s = int(interval) / 1e6 if watched and interval.isdecimal() else 0.0
        self._status = ""

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        """Report that the settings are being reloaded; `ready` reports the end."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        if self.watchdog_s:
            self._send("WATCHDOG=1")

    def status(self, words: str) -> None:
        """Show one line in `systemctl status`; sent only if it changed."""
        if words != self._status:
            self._status = words
            self._send(f"STATUS={words}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as wire,
        ):
            wire.sendto(message.encode(), self._address)
