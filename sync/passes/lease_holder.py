"""Who holds a lease, in words, and whether that process still runs.

    backfill (process 4711 on shop-etl) since 342602, machine 1ae751bb-4026531836

People read it up to the bracket (`sync.db.leases.name_of`).

A killed process cannot give its lease back. Its successor on the same machine need not wait for the
lease to run out, because it can look: the process is gone, or its number belongs to another one.

A machine is one boot of one kernel, seen from one process namespace: containers on a host share the
boot, not the process numbers. When a process started is told in clock ticks since the boot where
there is /proc, because that number stays when somebody sets the clock.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

LONGEST_HOST = 60  # characters; the lease's column holds 255 in all
_PROCESS = re.compile(r"\(process (?P<pid>\d+) on \S+\) since (?P<start>[\d.]+), machine (?P<machine>\S+)$")


def describe(command: str) -> str:
    """This process, doing `command`."""
    pid = os.getpid()
    host = socket.gethostname()[:LONGEST_HOST]
    return f"{command} (process {pid} on {host}) since {_started(pid)}, machine {_machine()}"


def is_dead(owner: str) -> bool:
    """Whether `owner`, as `describe` wrote it, is known to run no more; False where that cannot be seen."""
    known = _PROCESS.search(owner)
    if known is None or known["machine"] != _machine():
        return False
    pid = int(known["pid"])
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's, perhaps hidden from us
        return False
    return _is_defunct(pid) or _started(pid) != known["start"]


def _is_defunct(pid: int) -> bool:
    """Whether a process ended and only waits for its parent to notice."""
    import psutil  # seldom asked: the lease is free, and there is /proc

    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def _started(pid: int) -> str | None:
    """When a process started; None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return _started_by_the_clock(pid)
    return stat.rpartition(")")[2].split()[19]  # field 22, starttime; the name before may hold blanks


def _started_by_the_clock(pid: int) -> str | None:
    """Seconds since 1970 where there is no /proc, on macOS for one."""
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def _machine() -> str:
    """This boot of this kernel, and this process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").partition("-")[0]
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        import psutil

        return f"{socket.gethostname()}-{psutil.boot_time():.0f}"
