"""A command ends with the same exit code whatever becomes of its standard streams."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.command import PRODUCT_SYNC, Ended, Shell


def in_bash(shell: Shell, line: str, **changed: str) -> Ended:
    """Run a line of shell in which `product-sync` is the command; the first command's exit code counts."""
    script = f'product-sync() {{ {shlex.join(PRODUCT_SYNC)} "$@"; }}\n{line}\nexit ${{PIPESTATUS[0]}}'
    ended = subprocess.run(
        ["bash", "-c", script],
        env=shell.environment(changed),
        cwd=shell.folder,
        capture_output=True,
        text=True,
        timeout=shell.longest_s,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_init_writes_a_private_env_once_and_only_what_works(shell: Shell) -> None:
    """Four answers on a pipe; the sandbox's own token URL comes from the environment."""
    given = shell.tenant.environment()
    answers = [given[it] for it in ("API_ENDPOINT", "IMS_CLIENT_ID", "IMS_CLIENT_SECRET", "IMS_ORG_ID")]
    blank = dict.fromkeys(("API_ENDPOINT", "IMS_CLIENT_ID", "IMS_CLIENT_SECRET", "IMS_ORG_ID"), "")
    env = shell.folder / ".env"

    def init(*lines: str) -> Ended:
        return in_bash(shell, f"product-sync init < <(printf '%s\\n' {shlex.join(lines)})", **blank)

    short, refused = init(*answers[:2]), init(*answers[:2], "not-the-secret", answers[3])
    assert (short.code, refused.code, env.exists()) == (64, 77, False)

    written = init(*answers)
    assert (written.code, env.stat().st_mode & 0o777) == (0, 0o600)
    assert answers[2] not in written.out + written.err
    before = env.read_text()
    assert shell.run("check", **blank).code == 0

    again = init(*answers)
    assert (again.code, env.read_text()) == (64, before)
    assert [it.name for it in shell.folder.iterdir()] == [".env"]


@pytest.mark.parametrize("command", ["check", "run", "export out.csv", "init", "status"])
def test_a_working_directory_that_was_removed_is_named(shell: Shell, command: str) -> None:
    ended = in_bash(shell, f"mkdir gone; cd gone; rmdir ../gone; product-sync {command}")

    assert ended.code == 64
    assert "the working directory cannot be used: No such file or directory.\n  To do: change to" in ended.err


LEFT = "2>&1 | true", "| true"
CLOSED = ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"


@pytest.mark.parametrize("streams", LEFT + CLOSED)
def test_a_pass_ends_with_its_own_exit_code(shell: Shell, streams: str) -> None:
    """One that finds everything (0), a report that finds a difference (1), and one that is refused (78)."""
    shell.tenant.catalogue.edit(3, name="Before")

    codes = [in_bash(shell, f"product-sync backfill --json {streams}").code]
    shell.tenant.catalogue.edit(7, name="After")
    codes.append(in_bash(shell, f"product-sync verify {streams}").code)
    codes.append(in_bash(shell, f"product-sync run {streams}", SYNC_PAGE_SIZE="none").code)

    assert codes == [0, 1, 78]
    assert len(shell.run("changes").out.splitlines()) == 300


def test_a_result_that_cannot_be_written_is_an_error_in_words(shell: Shell) -> None:
    shell.run("backfill")

    ended = in_bash(shell, "product-sync status >/dev/full")

    assert ended.code == 69
    assert "standard output cannot be written: No space left on device" in ended.err
    assert "free space where it is written, then run the command again." in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("streams", ["2>&1 | true", "<&- >&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("arguments", "code"), [("--help", 0), ("run --help", 0), ("bogus", 64), ("run --bogus", 64)]
)
def test_help_and_usage_errors_end_with_their_own_exit_code(
    shell: Shell, streams: str, arguments: str, code: int
) -> None:
    assert in_bash(shell, f"product-sync {arguments} {streams}").code == code


def test_help_that_cannot_be_written_is_an_error_in_words(shell: Shell) -> None:
    ended = in_bash(shell, "product-sync --help >/dev/full")

    assert ended.code == 69
    assert "No space left on device" in ended.err
