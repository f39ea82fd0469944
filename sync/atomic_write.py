"""One atomic file write, used for `--state`, `export` and `--metrics-file`.

    .NAME.<random>.part   created exclusively, never through a link, locked while written ──> NAME

A reader sees the old file or the new one, and a crash leaves the old one. The next write removes the
unlocked drafts of killed processes.
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


def why_not_a_file(path: Path) -> str:
    """Why no file can be written at `path`, as a predicate; "" when one can. Raises OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return "" if path.parent.is_dir() else "is in a folder that does not exist"
    if stat.S_ISLNK(mode):
        return "is a symbolic link, and links are not followed"
    return "" if stat.S_ISREG(mode) else "is not a file"


@contextmanager
def atomic_write(path: Path, mode: int, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Open a draft that replaces `path` when the context ends without an error.

    mode       widest permissions of the file; the umask and an existing file's permissions narrow them
    replace    False: an existing file stays, and FileExistsError is raised

    Raises OSError, with the text of `why_not_a_file` where that applies.
    """
    if reason := why_not_a_file(path):
        raise OSError(errno.EINVAL, reason)
    _remove_leftovers(path)
    with suppress(FileNotFoundError):
        mode &= stat.S_IMODE(path.lstat().st_mode)
    draft, descriptor = _locked_draft(path, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if replace:
                draft.replace(path)
            else:
                path.hardlink_to(draft)  # fails if there is one, also one that came meanwhile
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _locked_draft(path: Path, mode: int) -> tuple[Path, int]:
    """Create and lock a draft; create another if somebody removes it as a leftover before it is locked."""
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


def _remove_leftovers(path: Path) -> None:
    """Remove the unlocked drafts of `path`, where that is permitted."""
    for draft in path.parent.glob(f".{glob.escape(path.name[:200])}.????????.part"):
        with suppress(OSError):
            descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                draft.unlink()
            finally:
                os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make the rename durable, on file systems that can sync a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
