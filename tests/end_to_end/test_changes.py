"""`product-sync changes` as a service runs it: across restarts, crashes and restored databases."""

from __future__ import annotations

import re
import shutil
import signal
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sync.sandbox import Sandbox
from tests.command import Running, Shell
from tests.receiver import SECRET, Receiver


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A tenant and its copy, made once; nothing is changed in either."""
    with Sandbox(300) as tenant:
        shell = Shell(tenant, tmp_path_factory.mktemp("loaded"))
        assert shell.run("backfill").code == 0
        yield shell


@pytest.fixture
def copy(loaded: Shell, tmp_path: Path) -> Shell:
    """A copy whose feed has 300 entries, and a webhook's secret."""
    shutil.copy(loaded.folder / "products.db", tmp_path)
    return Shell(loaded.tenant, tmp_path, {"WEBHOOK_SECRET": SECRET})


@pytest.fixture
def shop(shell: Shell) -> Shell:
    """The same with a tenant that may be edited."""
    shell.settings["WEBHOOK_SECRET"] = SECRET
    assert shell.run("backfill").code == 0
    return shell


def ids(out: str) -> list[int]:
    return [int(number) for number in re.findall(r'^\{"change_id":(\d+)', out, re.MULTILINE)]


def rename(shop: Shell, *products: int) -> None:
    for number in products:
        shop.tenant.catalogue.edit(number, name="A new name")
    assert shop.run("run").code == 0


def wait_for_lines(feed: Running, count: int) -> list[int]:
    assert feed.process.stdout is not None
    return ids("".join(feed.process.stdout.readline() for _ in range(count)))


# --- printed ---------------------------------------------------------------------------------


def test_a_state_file_carries_the_feed_across_restarts(shop: Shell) -> None:
    first = shop.run("changes", "--state", "state.json", "--limit", "120")
    with shop.start("changes", "--follow", "--state", "state.json") as feed:
        second = wait_for_lines(feed, 180)
        rename(shop, 5)
        second += wait_for_lines(feed, 1)
        assert feed.end() == 130
    third = shop.run("changes", "--state", "state.json")

    assert ids(first.out) + second == [*range(1, 302)]
    assert (third.code, third.out, third.err) == (0, "", "")


def test_a_reader_that_was_killed_is_told_again_at_most_and_misses_nothing(copy: Shell) -> None:
    with copy.start("changes", "--follow", "--state", "state.json") as feed:
        seen = wait_for_lines(feed, 130)
        feed.process.kill()
        assert feed.process.stdout is not None
        seen += ids(feed.process.stdout.read())

    seen += ids(copy.run("changes", "--state", "state.json").out)

    assert [*dict.fromkeys(seen)] == [*range(1, 301)]


def test_a_reader_that_left_did_not_read_it(copy: Shell) -> None:
    """`| head -1`: what it did not read may not count as told. The pipe holds less than the feed."""
    copy.pipe_size = 4096
    with copy.start_afresh("changes", "--state", "state.json") as feed:
        assert feed.process.stdout is not None
        feed.process.stdout.readline()
        feed.process.stdout.close()
        feed.process.wait(30)

    assert ids(copy.run("changes", "--state", "state.json").out)[-1:] == [300]


def test_one_process_at_a_time_uses_a_state_file(copy: Shell) -> None:
    with copy.start("changes", "--follow", "--state", "state.json") as feed:
        wait_for_lines(feed, 300)
        second = copy.run("changes", "--state", "state.json")
        assert feed.end() == 130

    assert (second.code, second.out) == (75, "")
    assert "another process uses" in second.err


def test_a_restored_database_is_said_and_not_waited_for(shop: Shell, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "products.db", tmp_path / "backup.db")
    rename(shop, 5)
    shop.run("changes", "--state", "state.json")

    for name in ("products.db-wal", "products.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.db", tmp_path / "products.db")
    told = shop.run("changes", "--follow", "--state", "state.json")

    assert (told.code, told.out) == (78, "")
    assert "the copy's feed ends at change 300" in told.err
    assert "--rewind" in told.err
    again = shop.run("changes", "--state", "state.json", "--rewind", "--since", "290")
    assert ids(again.out) == [*range(291, 301)]
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


def test_a_follower_notices_a_file_that_was_put_in_the_place_of_its_own(shop: Shell, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "products.db", tmp_path / "backup.db")
    rename(shop, 5)
    with shop.start("changes", "--follow", "--state", "state.json") as feed:
        wait_for_lines(feed, 301)
        for name in ("products.db-wal", "products.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / "backup.db").replace(tmp_path / "products.db")
        assert feed.process.wait(30) == 78


@pytest.mark.parametrize(("content", "code"), [("garbage", 64), ('{"change_id":1,"format":9}', 64)])
def test_a_state_file_that_cannot_be_used_is_explained(shop: Shell, content: str, code: int) -> None:
    (shop.folder / "state.json").write_text(content)

    told = shop.run("changes", "--state", "state.json")

    assert (told.code, told.out) == (code, "")
    assert "state.json" in told.err
    assert "To do:" in told.err


# --- posted ----------------------------------------------------------------------------------


def test_killed_senders_and_a_receiver_that_comes_and_goes_lose_nothing(shop: Shell) -> None:
    """The sender is killed three times with a request under way, the receiver is restarted on its port."""
    taken: list[int] = []
    with (
        Receiver(["take", "hang"]) as first,
        shop.start("changes", "--follow", "--webhook", first.url) as sender,
    ):
        first.wait_for(2)
        sender.process.kill()
    port, url = first.port, first.url
    taken += first.taken

    with shop.start("changes", "--follow", "--webhook", url) as sender:
        assert sender.wait_for("request.retried")["path"] == "127.0.0.1"
        with Receiver(["500", "lose", "hang"], port=port) as second:
            second.wait_for(3)
            sender.process.kill()
        taken += second.taken

    with shop.start("changes", "--follow", "--webhook", url) as sender:
        with Receiver(["break", "half"], port=port) as third:
            third.wait_for(4)
        with Receiver(["429 after 1"], port=port) as fourth:
            rename(shop, 5, 6)
            fourth.wait_for(2)
            assert sender.end() == 130
        taken += third.taken + fourth.taken

    assert [*dict.fromkeys(taken)] == [*range(1, 303)]
    received = [*first.received, *second.received, *third.received, *fourth.received]
    assert all(got.is_signed for got in received)


def test_a_receiver_that_does_not_want_it_ends_the_sender_with_words(copy: Shell) -> None:
    with Receiver(["403"] * 4) as receiver:
        refused = copy.run("changes", "--webhook", receiver.url)
        delivered = copy.run("changes", "--webhook", receiver.url)

    assert (refused.code, delivered.code) == (77, 0)
    assert "127.0.0.1 answered 403." in refused.err
    assert "300 changes posted to 127.0.0.1." in delivered.err
    assert receiver.taken == [*range(1, 301)]


def test_a_webhook_keeps_its_position_in_a_file_of_ones_own(copy: Shell) -> None:
    with Receiver() as receiver:
        copy.run("changes", "--webhook", receiver.url, "--state", "hook.json", "--limit", "40")
        copy.run("changes", "--webhook", f"{receiver.url}/moved", "--state", "hook.json")

    assert receiver.taken == [*range(1, 301)]


def test_no_secret_is_told_to_anybody(copy: Shell) -> None:
    with Receiver(["500"] * 50) as receiver:
        url = f"http://shop:hunter22@127.0.0.1:{receiver.port}/in?token=t0ken55"
        told = copy.run("changes", "--webhook", url, LOG_LEVEL="DEBUG", SYNC_MAX_RETRY_TIME="1s")

    assert told.code == 69
    assert "request.retried" in told.err
    assert not any(secret in told.err + told.out for secret in ("hunter22", "t0ken55", SECRET))
    assert "t0ken55" not in copy.run("config").out + copy.run("status", "--json").out
    assert SECRET not in copy.run("config").out
    assert b"hunter22" not in b"".join(path.read_bytes() for path in copy.folder.glob("products.db*"))


def test_a_webhook_by_the_url_on_standard_input_is_in_no_process_list(copy: Shell) -> None:
    """It keeps the position of the same URL given as an argument, which is warned about."""
    with Receiver() as receiver:
        url = f"{receiver.url}/t0ken55t0ken55t0ken55"
        first = copy.run("changes", "--webhook", url, "--limit", "100")
        (copy.folder / "url.txt").write_text(f"{url}\n")
        with copy.start_afresh(
            "changes", "--follow", "--webhook", "-", prefix=["sh", "-c", 'exec "$@" < url.txt', "sh"]
        ) as sender:
            receiver.wait_for(3)
            listed = Path(f"/proc/{sender.process.pid}/cmdline").read_bytes()
            sender.end()

    assert receiver.taken == [*range(1, 301)]
    assert "secret.in_arguments" in first.err
    assert "secret.in_arguments" not in str(sender.log)
    assert b"t0ken55" not in listed


@pytest.mark.parametrize(
    ("url", "secret", "code", "words"),
    [
        ("http://shop.example/in?token=t0ken55", SECRET, 64, "would send credentials unencrypted"),
        ("shop.example", SECRET, 64, "is no web address"),
        ("https://shop.example/in", "", 78, "WEBHOOK_SECRET: is not set"),
    ],
)
def test_what_cannot_be_posted_safely_is_not_posted(
    shell: Shell, url: str, secret: str, code: int, words: str
) -> None:
    told = shell.run("changes", "--webhook", url, WEBHOOK_SECRET=secret)

    assert (told.code, told.out) == (code, "")
    assert words in told.err
    assert "t0ken55" not in told.err


def test_a_second_signal_is_not_needed_while_a_receiver_hangs(copy: Shell) -> None:
    with (
        Receiver(["take", "hang"]) as receiver,
        copy.start("changes", "--follow", "--webhook", receiver.url) as sender,
    ):
        receiver.wait_for(2)
        assert sender.end(signal.SIGINT) == 130
        copy.run("changes", "--webhook", receiver.url)

    assert [*dict.fromkeys(receiver.taken)] == [*range(1, 301)]


def test_every_pass_deletes_old_entries_and_says_where_the_feed_begins(shop: Shell) -> None:
    rename(shop, 5)
    with closing(sqlite3.connect(shop.folder / "products.db")) as db, db:
        db.execute(
            "UPDATE product_changes SET changed_at = '2020-01-01 00:00:00.000000' WHERE change_id <= 300"
        )

    assert shop.run("run", SYNC_CHANGES_KEEP="1d").code == 0

    status = shop.run("status", "--json").objects[0]["changes"]
    refused = shop.run("changes")

    assert (status["oldest_id"], status["last_id"]) == (301, 301)
    assert (refused.code, refused.out) == (78, "")
    assert "continue with --since 300" in refused.err
    assert ids(shop.run("changes", "--since", "300").out) == [301]
