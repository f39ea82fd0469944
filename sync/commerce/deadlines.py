"""A deadline for whole requests, and a way to end them when the process stops.

A socket's time-out only limits silence. A server that sends a byte now and then, or nothing while this
process stops, is cut off by shutting down its socket: the reading thread wakes up at once.

    thread of a request          begin ─> connect, send, read ─> end
    one watcher                         └─ every CHECK_EVERY_S: late or stopping? shut the socket down
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

CHECK_EVERY_S: Final = 0.25
GRACE_S: Final = 2.0  # for answers under way, once the process stops
_sockets = threading.local()


@dataclass(slots=True)
class _OpenRequest:
    """A request under way: its socket, once there is one, and whether it exceeded its deadline."""

    until: float
    holder: Any
    is_late: bool = False

    def shut_down(self) -> None:
        sock = self.holder.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class _SocketHolder:
    """Holds the socket of a thread's connection."""

    sock: socket.socket | None = None


class Deadlines:
    """The requests under way of one session.

    stop       once set, answers under way have GRACE_S; None: never
    overdue    while set, requests under way count as late; None: never
    request_s  seconds that one request may take, from connecting to the last byte
    """

    def __init__(
        self, stop: threading.Event | None, request_s: float, overdue: threading.Event | None = None
    ) -> None:
        self._stop = stop or threading.Event()
        self._overdue = overdue or threading.Event()
        self._request_s = request_s
        self._lock = threading.Lock()
        self._open: dict[int, _OpenRequest] = {}
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def begin(self) -> None:
        """This thread starts a request."""
        holder = _sockets.holder = _SocketHolder()
        with self._lock:
            self._open[threading.get_ident()] = _OpenRequest(monotonic() + self._request_s, holder)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._watcher.start()

    def end(self) -> bool:
        """This thread's request has ended; True when it was cut off at its deadline."""
        _sockets.holder = None
        with self._lock:
            request = self._open.pop(threading.get_ident(), None)
        return request is not None and request.is_late

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        stopped_at = None
        while not self._closed.wait(CHECK_EVERY_S):
            now = monotonic()
            if self._stop.is_set():
                stopped_at = stopped_at or now
            with self._lock:
                for request in self._open.values():
                    request.is_late = now > request.until or self._overdue.is_set()
                    if request.is_late or (stopped_at is not None and now > stopped_at + GRACE_S):
                        request.shut_down()
                if not self._open:  # the next request starts another watcher
                    self._watcher = None
                    return


@contextmanager
def _held(connection: Any) -> Iterator[None]:
    """Give the connection's socket to this thread's request, as soon as there is one."""
    holder = getattr(_sockets, "holder", None)
    if holder is not None and connection.sock is not None:
        holder.sock = connection.sock
    yield
    if holder is not None and connection.sock is not None:
        holder.sock = connection.sock


class _Http(HTTPConnection):
    def request(self, *arguments: Any, **options: Any) -> None:
        with _held(self):
            super().request(*arguments, **options)


class _Https(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        holder = getattr(_sockets, "holder", None)
        if holder is not None:  # before the TLS handshake, which may hang too
            holder.sock = sock
        return sock

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
    """The adapter of requests, with connections that `deadlines` can end."""

    def __init__(self, deadlines: Deadlines, **options: Any) -> None:
        self.deadlines = deadlines
        super().__init__(**options)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return manager

    def send(self, *arguments: Any, **options: Any) -> Any:
        """Send as requests does; the reader of the body calls `deadlines.end()`.

        Raises InvalidURL and UnusableCaBundle in place of errors of other libraries.
        """
        self.deadlines.begin()
        try:
            return super().send(*arguments, **options)
        except (LocationValueError, UnicodeError) as error:
            self.deadlines.end()
            raise requests.exceptions.InvalidURL(error) from error
        except OSError as error:
            self.deadlines.end()
            if isinstance(error, requests.RequestException):
                raise
            raise UnusableCaBundle(error) from error
        except BaseException:
            self.deadlines.end()
            raise

    def close(self) -> None:
        self.deadlines.close()
        super().close()
