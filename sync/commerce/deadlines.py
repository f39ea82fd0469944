"""Connections that can be hung up from outside: when an answer takes too long as a whole, and when we stop.

A socket's time-out ends a silence. A server that sends a byte now and then, or says nothing while somebody
waits for this process to end, is left by shutting its socket down: the thread that reads it wakes up at once.

    thread of a request          begin ─> connect, send, read ─> end
    one watcher                         └─ every LOOK_S: overdue, or told to stop? then hang up
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import LocationValueError

LOOK_S: Final = 0.25
GRACE_S: Final = 2.0  # for the answer in hand, once we are told to stop
_sockets = threading.local()


@dataclass(slots=True)
class _Line:
    """A request under way: its socket, once there is one, and whether it was hung up for being late."""

    until: float
    holder: Any
    is_late: bool = False

    def hang_up(self) -> None:
        wire = getattr(self.holder, "wire", None)
        if wire is not None:
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)


class _Holder:
    """Where a thread's connection leaves its socket."""

    wire: socket.socket | None = None


class Deadlines:
    """The requests under way of one session.

    stop       once set, answers in hand have GRACE_S; None: never
    overdue    while set, requests under way are late; None: never
    whole_s    seconds that one request may take, from connecting to the last byte
    """

    def __init__(
        self, stop: threading.Event | None, whole_s: float, overdue: threading.Event | None = None
    ) -> None:
        self._stop = stop or threading.Event()
        self._overdue = overdue or threading.Event()
        self._whole_s = whole_s
        self._lock = threading.Lock()
        self._open: dict[int, _Line] = {}
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def begin(self) -> None:
        """This thread starts a request."""
        holder = _sockets.holder = _Holder()
        with self._lock:
            self._open[threading.get_ident()] = _Line(monotonic() + self._whole_s, holder)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="lines", daemon=True)
                self._watcher.start()

    def end(self) -> bool:
        """This thread is done with it; True when it was hung up for being late."""
        _sockets.holder = None
        with self._lock:
            line = self._open.pop(threading.get_ident(), None)
        return line is not None and line.is_late

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        stopped_at = None
        while not self._closed.wait(LOOK_S):
            now = monotonic()
            if self._stop.is_set():
                stopped_at = stopped_at or now
            with self._lock:
                for line in self._open.values():
                    line.is_late = now > line.until or self._overdue.is_set()
                    if line.is_late or (stopped_at is not None and now > stopped_at + GRACE_S):
                        line.hang_up()
                if not self._open:  # the next request brings another
                    self._watcher = None
                    return


@contextmanager
def _held(connection: Any) -> Iterator[None]:
    """Leave the connection's socket with this thread's request, as soon as there is one."""
    holder = getattr(_sockets, "holder", None)
    if holder is not None and connection.sock is not None:
        holder.wire = connection.sock
    yield
    if holder is not None and connection.sock is not None:
        holder.wire = connection.sock


class _Http(HTTPConnection):
    def request(self, *arguments: Any, **options: Any) -> None:
        with _held(self):
            super().request(*arguments, **options)


class _Https(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        wire = super()._new_conn()
        holder = getattr(_sockets, "holder", None)
        if holder is not None:  # before the handshake, which may hang too
            holder.wire = wire
        return wire

    def request(self, *arguments: Any, **options: Any) -> None:
        with _held(self):
            super().request(*arguments, **options)


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class UnusableCaBundle(requests.RequestException):
    """The file or folder of CA certificates is gone or cannot be read."""


class Adapter(HTTPAdapter):
    """requests' own, with connections that `lines` can hang up."""

    def __init__(self, lines: Deadlines, **options: Any) -> None:
        self.lines = lines
        super().__init__(**options)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return manager

    def send(self, *arguments: Any, **options: Any) -> Any:
        """As requests does; who reads the body says `lines.end()`.

        Raises requests' InvalidURL and UnusableCaBundle where requests lets other libraries' errors through.
        """
        self.lines.begin()
        try:
            return super().send(*arguments, **options)
        except (LocationValueError, UnicodeError) as error:
            self.lines.end()
            raise requests.exceptions.InvalidURL(error) from error
        except OSError as error:
            self.lines.end()
            if isinstance(error, requests.RequestException):
                raise
            raise UnusableCaBundle(error) from error
        except BaseException:
            self.lines.end()
            raise

    def close(self) -> None:
        self.lines.close()
        super().close()
