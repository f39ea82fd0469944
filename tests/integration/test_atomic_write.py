"""A file we write is made beside its place, by us alone, never through a link, and takes it as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync.atomic_write import atomic_write
from sync.errors import SyncError
from sync.feed.positions import Position, position_file
from sync.files.export import most_permissions, output_file
from sync.metrics import Metrics
from tests.databases import NewDatabase, connected

Write = Callable[[Path], None]


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    former = os.umask(0o022)
    yield
    os.umask(former)


def save_position(path: Path) -> None:
    with position_file(path) as keeper:
        keeper.save(Position(7, "insert of 7"))


def export(path: Path) -> None:
    with output_file(path, 0o600) as file:
        file.write(b"sku\n")


def write_metrics(path: Path) -> None:
    Metrics("1.0", process=False).write(str(path))


@pytest.fixture(params=[save_position, export, write_metrics])
def write(request: pytest.FixtureRequest) -> Write:
    found: Write = request.param
    return found


def test_a_file_is_written_and_written_again_with_nothing_beside_it(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path)
    write(path)

    assert path.stat().st_size
    assert path.stat().st_mode & 0o777 == (0o644 if write is write_metrics else 0o600)
    assert {it.name for it in tmp_path.iterdir()} - {"file.lock"} == {"file"}


def test_nothing_is_written_through_a_link(write: Write, tmp_path: Path) -> None:
    """Neither where the file is a link, nor where somebody has put links at names that a draft might have."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "link").symlink_to(precious)
    for name in ("file.new", "file.tmp", ".file.part", "file.part"):
        (tmp_path / name).symlink_to(precious)

    with pytest.raises((SyncError, OSError), match="symbolic link"):
        write(tmp_path / "link")
    write(tmp_path / "file")

    assert precious.read_text() == "precious"
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "file").is_symlink()


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(SyncError, match=r"file\.lock"):
        save_position(tmp_path / "file")

    assert not (tmp_path / "elsewhere").exists()


def test_what_is_not_a_file_is_refused_in_words_and_stays(write: Write, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises((SyncError, OSError), match="is not a file"):
            write(tmp_path / name)
    with pytest.raises((SyncError, OSError), match=r"does not exist|No such"):
        write(tmp_path / "nowhere" / "file")

    assert (tmp_path / "pipe").is_fifo()
    assert sorted(it.name for it in tmp_path.iterdir()) == ["folder", "pipe"]


@pytest.mark.parametrize(("former", "now"), [(0o600, 0o600), (0o440, 0o440), (0o666, 0o644)])
def test_permissions_become_no_wider(former: int, now: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(former)

    with atomic_write(path, 0o644) as file:
        file.write(b"x")

    assert path.stat().st_mode & 0o777 == now


def test_what_a_killed_process_left_is_removed_and_a_draft_in_hand_is_not(tmp_path: Path) -> None:
    """Names that a pattern would read otherwise are taken as they are."""
    path = tmp_path / "all[1]*.csv"
    program = (
        "import os, sys; from pathlib import Path; from sync.atomic_write import atomic_write\n"
        "with atomic_write(Path(sys.argv[1]), 0o600) as file: file.write(b'half'); file.flush(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    other = tmp_path / ".all1.csv.0123abcd.part"
    other.touch()

    with atomic_write(path, 0o600) as slow:
        assert len([*tmp_path.iterdir()]) == 2
        with atomic_write(path, 0o600) as quick:
            quick.write(b"first")
        slow.write(b"last")

    assert sorted(tmp_path.iterdir()) == [other, path]
    assert path.read_bytes() == b"last"


@pytest.mark.parametrize(("copy", "export"), [(0o600, 0o600), (0o640, 0o640), (0o644, 0o644), (0o755, 0o644)])
def test_an_export_is_no_more_readable_than_the_sqlite_file(
    new_database: NewDatabase, tmp_path: Path, copy: int, export: int
) -> None:
    with connected(new_database("sqlite", tables=True)) as engine:
        file = Path(str(engine.url.database))
        file.chmod(copy)
        os.chown(file, -1, os.getegid())

        assert most_permissions(engine, tmp_path) == export


def test_an_export_of_a_copy_on_a_server_is_its_owners_alone(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    with connected(new_database("postgresql", tables=True)) as engine:
        assert most_permissions(engine, tmp_path) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another group")
def test_another_group_than_that_of_the_copy_gets_nothing(new_database: NewDatabase, tmp_path: Path) -> None:
    with connected(new_database("sqlite", tables=True)) as engine:
        file = Path(str(engine.url.database))
        file.chmod(0o640)
        os.chown(file, -1, os.getegid() + 1)

        assert most_permissions(engine, tmp_path) == 0o600
