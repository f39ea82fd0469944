"""A file that is written beside its place and takes it as a whole: what `--state`, `export` and metrics use.

    .NAME.<random>.part   made by us alone, never through a link, locked while we write ──> NAME

A reader sees the former file or the new one, and a crash leaves the former. What a killed process left is
locked by nobody, and `remove_leftovers` removes it.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

PRIVATE: Final = 0o600
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def refusal(path: Path) -> str:
    """Why no file can take this place, in words that follow its name; blank when one can. Raises OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return "" if path.parent.is_dir() else "is in a folder that does not exist"
    if stat.S_ISLNK(mode):
        return "is a symbolic link, and nothing is written through one"
    return "" if stat.S_ISREG(mode) else "is not a file"


@contextmanager
def replacing(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once the context is left without an error.

    mode    most permissions of the file; the umask and those of the file in its place narrow them

    Raises OSError, with the words of `refusal` where it has some.
    """
    if words := refusal(path):
        raise OSError(errno.EINVAL, words)
    with suppress(FileNotFoundError):
        mode &= stat.S_IMODE(path.lstat().st_mode)
    draft, descriptor = _locked_draft(path, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            draft.replace(path)
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _locked_draft(path: Path, mode: int) -> tuple[Path, int]:
    """A new draft and its descriptor; again when it is taken for a leftover before it is locked."""
    while True:
        draft = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
        descriptor = os.open(draft, _NEW, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if draft.exists():
                return draft, descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def remove_leftovers(path: Path) -> None:
    """Remove the drafts of `path` that nobody writes any more; what cannot be removed stays."""
    for draft in path.parent.glob(f".{glob.escape(path.name[:200])}.????????.part"):
        with suppress(OSError):
            descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                draft.unlink()
            finally:
                os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make the new name last, where the file system lets a folder be synced."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
