"""Debian's PgBouncer before a database, in transaction mode: one session serves many clients in turn.

with pooling(url) as pooled:
    connected(pooled)      what is asked through it

Two sessions are kept for everybody. Skips the test where PgBouncer is not installed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

SESSIONS = 2


@contextmanager
def pooling(url: str) -> Iterator[str]:
    """The URL that leads to the database of `url` through a pooler."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        pytest.skip("PgBouncer is not installed (apt-get install pgbouncer)")
    target = sa.make_url(url)
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="product-sync-pooler-") as folder:
        settings = Path(folder) / "pgbouncer.ini"
        host = target.query.get("host", target.host)
        settings.write_text(
            f"[databases]\n* = user={target.username} host={host} port={target.port or 5432}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {SESSIONS}\n"
        )
        command = [program, str(settings)]
        if os.geteuid() == 0:  # which it refuses to be
            owner = Path(str(host)).stat().st_uid  # the server's own user may enter the socket's folder
            os.chown(folder, owner, -1)
            command[1:1] = ["-u", pwd.getpwuid(owner).pw_name]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield target.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        finally:
            process.kill()
            process.wait(10)  # a client that is still there is cut off


def _wait_for(port: int) -> None:
    until = time.monotonic() + 10
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < until, "PgBouncer does not start"
            time.sleep(0.02)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
