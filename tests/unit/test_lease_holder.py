"""Whether the owner of a lease still runs: told of real processes, as far as this machine can see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sync.passes import lease_holder

ANNOUNCE = (
    "from sync.passes import lease_holder; print(lease_holder.describe('backfill'), flush=True); input()"
)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """Another process, which says who it is and waits."""
    command = [sys.executable, "-c", ANNOUNCE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        yield running
        running.kill()


def who(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_an_owner_names_command_host_and_process() -> None:
    words = lease_holder.describe("backfill")

    assert words.startswith("backfill (process ")
    assert f"process {os.getpid()} " in words
    assert len(words) <= 255  # what the lease's column holds


def test_a_running_owner_is_not_dead(process: subprocess.Popen[str]) -> None:
    assert not lease_holder.is_dead(who(process))


def test_a_killed_owner_is_dead(process: subprocess.Popen[str]) -> None:
    words = who(process)

    process.send_signal(signal.SIGKILL)
    process.wait()

    assert lease_holder.is_dead(words)


def test_a_killed_owner_whose_parent_has_not_noticed_is_dead(process: subprocess.Popen[str]) -> None:
    words = who(process)

    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the process table

    assert lease_holder.is_dead(words)


def test_an_owner_whose_process_number_was_given_to_another_process_is_dead() -> None:
    mine = lease_holder.describe("run")

    assert lease_holder.is_dead(mine.replace(" since ", " since 9"))


@pytest.mark.parametrize("words", ["", "another run", "backfill on elsewhere", "run (process 1)"])
def test_nothing_is_claimed_of_an_owner_in_other_words(words: str) -> None:
    assert not lease_holder.is_dead(words)


def test_nothing_is_claimed_of_another_machine(process: subprocess.Popen[str]) -> None:
    """The same process number there may well be alive."""
    words = who(process)
    process.kill()
    process.wait()

    assert not lease_holder.is_dead(words.replace(", machine ", ", machine x"))
