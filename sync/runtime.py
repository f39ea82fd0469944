"""How Python itself is set up, once a process."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress
from functools import cache
from typing import Final

_M_ARENA_MAX: Final = -8  # malloc.h of glibc


def alternate_often() -> None:
    """Let a thread that waited for a database or a socket go on after 0.5 ms, where Python says 5.

    A page of the copy asks the database thirty times, the status page ten. Each time the answer may find
    another thread computing, and as long as it does, the server has nothing to do.
    """
    sys.setswitchinterval(0.0005)


def share_one_heap() -> None:
    """Let all threads take memory from one heap, where the C library (glibc) gives each its own; before any.

    Each keeps what a thread once needed: 10 MB of a load's 120, more the longer it takes. Threads that have
    to take turns at the interpreter do not wait for one another there: loads take as long as before.
    """
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def load_undisturbed() -> None:
    """Keep what slows down the start from happening while modules load; before any.

    They stay, so looking for cycles in them is in vain: that took a tenth of the start. What a pass loads are
    150,000 objects; once they are here, `collect_less_often` lets the collector look more often.
    Searching every installed package for plugins of pydantic took 0.02 s, and such a plugin
    would see every setting, secrets too: there are none unless the environment asks for them.
    """
    gc.set_threshold(200_000, 20, 100)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def end_undisturbed() -> None:
    """Let Python end without looking through everything for cycles once more."""
    gc.freeze()


@cache  # once a process: what is garbage by then would stay too
def collect_less_often() -> None:
    """Set the garbage collector up for passes.

    What is here by now stays. A page becomes ten thousand tuples, none in a cycle: looking for cycles as
    often as Python does cost a fifth of a load's CPU. Once a page costs nothing that could be measured;
    once in five, what a try of a request leaves behind in cycles added up to 8 MB.
    """
    gc.freeze()
    gc.set_threshold(10_000, 100, 100)
