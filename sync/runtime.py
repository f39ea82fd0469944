"""Settings of the Python interpreter, made once per process."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress
from functools import cache
from typing import Final

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc
_LARGE: Final = 1 << 20  # bytes


def alternate_often() -> None:
    """Let a waiting thread run after 0.5 ms instead of Python's 5 ms.

    A page of products needs thirty database queries, a status page ten. After each answer, another thread may
    be computing, and the database is idle until the waiting thread runs.
    """
    sys.setswitchinterval(0.0005)


def share_one_heap() -> None:
    """Let all threads share one heap, instead of one per thread (glibc). Call it before any thread starts.

    Each heap keeps the most that its thread ever needed: 10 MB of a load's 120, and more over time. Threads
    that share the interpreter lock do not contend for the heap: loads take the same time.

    Texts of more than 1 MiB lie outside it, so that their memory is returned when they are freed. By default,
    glibc raises that limit to the size of the largest text freed so far.
    """
    with suppress(AttributeError, OSError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE)


def load_undisturbed() -> None:
    """Avoid two costs of the start. Call it before modules load.

    Modules stay in memory, so collecting garbage among them is useless; it took a tenth of the start. A pass
    loads 150,000 objects; afterwards, `collect_less_often` makes collections more frequent again. The search
    for pydantic plugins in every installed package took 0.02 s, and a plugin would see every setting, even
    secrets; the environment can still enable them.
    """
    gc.set_threshold(200_000, 20, 100)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def end_undisturbed() -> None:
    """Let Python exit without a last garbage collection."""
    gc.freeze()


@cache  # once per process: a later freeze would keep garbage, too
def collect_less_often() -> None:
    """Configure the garbage collector for passes.

    Objects that exist now stay. A page becomes ten thousand tuples, none in a cycle: collections as frequent
    as Python's took a fifth of a load's CPU. One collection per page costs nothing measurable; with one in
    five pages, the cycles that requests leave added up to 8 MB.
    """
    gc.freeze()
    gc.set_threshold(10_000, 100, 100)
