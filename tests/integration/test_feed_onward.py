"""The feed handed on: in order, at least once, from where it was left, never from another database."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync.commerce.retry import RetryPolicy
from sync.commerce.transport import open_session
from sync.db import changes
from sync.db.changes import FeedEntry
from sync.db.dialects import utc_now
from sync.db.engine import in_memory, in_transaction
from sync.db.schema import product_changes, sync_feed, sync_state
from sync.errors import SyncError, UsageError
from sync.feed.follow import Entry, Feed, Sender, batches, forward, to_webhook
from sync.feed.positions import (
    NoPosition,
    Position,
    PositionInUse,
    PositionMismatch,
    PositionNotSaved,
    WebhookPosition,
    position_file,
)
from sync.feed.webhook import TIMEOUTS, Timeouts, Webhook, WebhookRefused, WebhookTooLarge
from tests.databases import opened
from tests.receiver import SECRET, Receiver

QUICK = Timeouts(connect=5, silence=0.05, whole=5, grace=0.05)  # an answer may come too late: it repeats


def grow(engine: sa.Engine, count: int, text: str = "") -> None:
    """Add so many entries to the feed."""
    fields = json.dumps({"name": {"old": "", "new": text}})

    def add(tx: sa.Connection) -> None:
        news = [FeedEntry("all", i, f"SKU-{i}", "update", fields) for i in range(1, count + 1)]
        changes.append(tx, news, utc_now(tx), run_id=1)

    in_transaction(engine, add)


def cut(engine: sa.Engine, last: int) -> None:
    """Take the feed back to an earlier end, as a restored backup does."""
    with engine.begin() as connection:
        connection.execute(product_changes.delete().where(product_changes.c.change_id > last))
        connection.execute(sync_feed.update().values(last_change_id=last))


def read_all(engine: sa.Engine) -> Feed:
    return Feed(engine, threading.Event(), follow=False)


@contextmanager
def posting(url: str, timeouts: Timeouts = TIMEOUTS) -> Iterator[Sender]:
    """An send to the receiver at `url` that does not wait between two tries."""
    never = threading.Event()
    with open_session("product-sync/test", pool_size=1) as session:
        yield to_webhook(
            Webhook(
                url,
                lambda: SECRET,
                session=session,
                retry_policy=RetryPolicy(lambda seconds: False),
                stop=never,
                on_retry=lambda *_: None,
                timeouts=timeouts,
            )
        )


def post(
    engine: sa.Engine, url: str, *, since: int = 0, rewind: bool = False, limit: int | None = None
) -> int:
    """What `changes --webhook URL` does, in a process that just started."""
    with posting(url) as send:
        store = WebhookPosition(engine, url, threading.Event())
        return forward(read_all(engine), send, store, since=since, rewind=rewind, limit=limit)


class Memory:
    """An send that takes everything, and remembers."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def __call__(self, entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        self.ids += [entry.position.change_id for entry in entries]
        yield entries


# --- to a webhook ----------------------------------------------------------------------------


def test_a_batch_is_what_changes_prints(bench_url: str) -> None:
    with opened(bench_url) as engine, Receiver() as receiver:
        grow(engine, 3, "Größe „M“ 😀")
        assert post(engine, receiver.url) == 3

        batch = receiver.received[0].batch
    assert (batch["first_id"], batch["last_id"]) == (1, 3)
    assert [change["sku"] for change in batch["changes"]] == ["SKU-1", "SKU-2", "SKU-3"]
    assert batch["changes"][0]["fields"]["name"]["new"] == "Größe „M“ 😀"
    assert receiver.received[0].is_signed
    assert receiver.received[0].headers["Idempotency-Key"].startswith("1-3-")


@pytest.fixture
def bench_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'copy.db'}"


def test_a_sender_goes_on_where_the_receiver_last_said_yes(db: sa.Engine) -> None:
    """On each database: 250 entries, the second batch is refused; then 10 more come."""
    grow(db, 250)
    with Receiver(["take", *["400"] * 4]) as receiver:
        with pytest.raises(WebhookRefused):
            post(db, receiver.url)
        assert receiver.taken == [*range(1, 101)]

        grow(db, 10)
        assert post(db, receiver.url) == 160
        assert post(db, receiver.url) == 0

    assert receiver.taken == [*range(1, 261)]


def test_a_restored_database_is_noticed_and_not_waited_for(db: sa.Engine) -> None:
    """Shorter than the position, and later as long again but with other entries."""
    grow(db, 20)
    with Receiver() as receiver:
        post(db, receiver.url)
        cut(db, 12)
        with pytest.raises(PositionMismatch, match="is at change 20, but the copy's feed ends at change 12"):
            post(db, receiver.url)
        grow(db, 30)
        with pytest.raises(PositionMismatch, match="has another entry there") as caught:
            post(db, receiver.url)
        assert caught.value.exit_code == 78

        assert post(db, receiver.url, since=12, rewind=True) == 30
    assert receiver.taken == [*range(1, 21), *range(13, 43)]


def test_a_follower_notices_too(db: sa.Engine) -> None:
    grow(db, 20)
    stop = threading.Event()
    overdue = threading.Timer(20, stop.set)
    overdue.start()

    def restore(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        yield entries
        cut(db, 5)

    with pytest.raises(PositionMismatch):
        forward(Feed(db, stop, follow=True, poll_s=0.01), restore, NoPosition(), since=0)
    overdue.cancel()


def test_a_follower_that_began_at_a_bare_number_notices_too(db: sa.Engine) -> None:
    """Nothing was sent yet when 8 of 20 entries come back from a backup and 15 others follow."""
    grow(db, 20)
    reader, waits = Memory(), count(1)

    class RestoredMeanwhile(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            cut(db, 8)
            grow(db, 15)
            return next(waits) > 1

    with pytest.raises(PositionMismatch, match="has another entry there"):
        forward(Feed(db, RestoredMeanwhile(), follow=True), reader, NoPosition(), since=20)
    assert reader.ids == []


def test_a_copy_restored_while_a_receiver_is_slow_is_noticed_before_more_is_sent(
    db: sa.Engine, tmp_path: Path
) -> None:
    """150 entries are read at once and 100 posted when 60 come back from a backup and 120 others follow."""
    grow(db, 150)

    def restored(sender: Sender) -> Sender:
        def send(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
            for part in sender(entries):
                cut(db, 60)
                grow(db, 120)
                yield part

        return send

    with position_file(tmp_path / "state.json") as store, Receiver() as receiver:
        with posting(receiver.url) as send, pytest.raises(PositionMismatch, match="has another entry there"):
            forward(read_all(db), restored(send), store, since=0)
        assert receiver.taken == [*range(1, 101)]

        with posting(receiver.url) as send, pytest.raises(PositionMismatch):  # not forgotten either
            forward(read_all(db), send, store, since=0)
        with posting(receiver.url) as send:
            forward(read_all(db), send, store, since=60, rewind=True)
    assert receiver.taken == [*range(1, 101), *range(61, 181)]


def test_a_copy_restored_with_the_position_of_its_webhook_is_not_taken_for_a_second_sender(
    db: sa.Engine,
) -> None:
    grow(db, 20)
    with Receiver() as receiver:
        post(db, receiver.url, limit=5)
        with posting(receiver.url) as send:

            def restore(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
                yield from send(entries[:10])
                cut(db, 3)
                with db.begin() as connection:
                    connection.execute(sync_state.delete().where(sync_state.c.name.like("webhook %")))
                yield from send(entries[10:])

            store = WebhookPosition(db, receiver.url, threading.Event())
            with pytest.raises(PositionMismatch, match="ends at change 3"):
                forward(read_all(db), restore, store, since=0)


def test_a_copy_restored_while_nothing_runs_sends_its_new_changes_under_other_keys(
    bench_url: str, tmp_path: Path
) -> None:
    """Its position came back with it, so nothing is skipped; the receiver can distinguish these changes."""
    with Receiver() as receiver:
        with opened(bench_url) as engine:
            grow(engine, 10)
            post(engine, receiver.url)
            engine.dispose()
            backup = shutil.copy(tmp_path / "copy.db", tmp_path / "backup.db")
        for file in (tmp_path / "copy.db", backup):  # what is lost, and what is there after the restore
            with opened(f"sqlite:///{file}") as engine:
                grow(engine, 10)
                post(engine, receiver.url)
        lost, anew = receiver.received[1:]

    assert receiver.taken == [*range(1, 11), *range(11, 21), *range(11, 21)]
    assert lost.headers["Idempotency-Key"] != anew.headers["Idempotency-Key"]
    told = {
        (change["change_id"], change["changed_at"]) for it in (lost, anew) for change in it.batch["changes"]
    }
    assert len(told) == 20


def test_a_reader_that_remembers_a_number_beyond_the_feed_is_told_so(db: sa.Engine) -> None:
    """It would wait for that number to come round again, and miss what comes before."""
    grow(db, 20)

    assert forward(read_all(db), Memory(), NoPosition(), since=20) == 0
    with pytest.raises(PositionMismatch, match="is at change 21, but the copy's feed ends at change 20"):
        forward(read_all(db), Memory(), NoPosition(), since=21)


def test_two_senders_to_one_webhook_skip_nothing_and_one_ends(db: sa.Engine) -> None:
    """The second starts while the first waits for its first answer."""
    grow(db, 250)
    with Receiver() as receiver, posting(receiver.url) as send:
        first = WebhookPosition(db, receiver.url, threading.Event())

        def overtaken(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
            for part in send(entries):
                post(db, receiver.url, limit=100)
                yield part

        with pytest.raises(PositionInUse) as caught:
            forward(read_all(db), overtaken, first, since=0)
        assert caught.value.exit_code == 75

        post(db, receiver.url)
    assert without_repeats(receiver.taken) == [*range(1, 251)]


def test_a_batch_too_large_for_the_receiver_is_halved(db: sa.Engine) -> None:
    grow(db, 8)
    with Receiver(["413", "413", "take", "take", "413"]) as receiver:
        assert post(db, receiver.url) == 8

    keys = [got.headers["Idempotency-Key"].rpartition("-")[0] for got in receiver.received]
    assert keys == ["1-8", "1-4", "1-2", "3-4", "5-8", "5-6", "7-8"]
    assert receiver.taken == [*range(1, 9)]


def test_a_change_too_large_by_itself_ends_it_by_name_and_is_not_skipped(sqlite: sa.Engine) -> None:
    grow(sqlite, 2)
    with Receiver(["413"] * 3) as receiver:
        with pytest.raises(WebhookTooLarge, match="Change 1 alone has"):
            post(sqlite, receiver.url)
        post(sqlite, receiver.url)

    assert receiver.taken == [1, 2]


def test_large_changes_make_small_batches_and_small_reads(sqlite: sa.Engine) -> None:
    """40 changes of 300 kB: few in a request, and no more than about 1 MB in memory."""
    reads: list[int] = []
    grow(sqlite, 40, "x" * 300_000)
    with Receiver() as receiver, posting(receiver.url) as send:

        def counted(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
            reads.append(len(entries))
            return send(entries)

        forward(read_all(sqlite), counted, NoPosition(), since=0)

    assert receiver.taken == [*range(1, 41)]
    assert max(len(got.body) for got in receiver.received) < 1_048_576
    assert max(reads) <= 3


def test_each_webhook_has_its_own_position_and_none_of_its_secrets_is_kept(sqlite: sa.Engine) -> None:
    grow(sqlite, 5)
    with Receiver() as receiver:
        at = f"127.0.0.1:{receiver.port}"
        assert post(sqlite, f"http://shop:s3cret@{at}/a?shop=1&token=t0ken") == 5
        assert post(sqlite, f"http://shop:renewed@{at}/a?shop=1&token=renewed") == 0
        assert post(sqlite, f"http://shop:s3cret@{at}/a?shop=2&token=t0ken") == 5
        assert post(sqlite, f"http://shop:s3cret@{at}/b?shop=1&token=t0ken") == 5
        assert post(sqlite, f"http://{at}/a?shop=1") == 5

    with sqlite.connect() as connection:
        kept = str(connection.execute(sa.select(sync_state)).all())
    assert not any(secret in kept for secret in ("s3cret", "t0ken", "shop", "/a", "renewed"))


# --- laws ------------------------------------------------------------------------------------


ACTIONS = st.lists(
    st.sampled_from(["take", "lose", "break", "half", "500", "429 after 1", "404", "413", "hang", "crash"]),
    max_size=12,
)


class Crash(Exception):
    """The sender dies behind a 2xx and before it could note it."""


@pytest.mark.slow
@given(script=ACTIONS, start=st.integers(0, 330), limit=st.none() | st.integers(60, 400))
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_receiver_does_it_gets_every_change_in_order(
    script: list[str], start: int, limit: int | None
) -> None:
    """330 entries; a sender that ended, or was killed at the worst moment, is started again."""
    engine = _long_feed()
    crashes = iter([action == "crash" for action in script])
    with Receiver([action for action in script if action != "crash"]) as receiver:
        keeper_url = f"{receiver.url}/{id(receiver)}/{start}"
        with posting(keeper_url, QUICK) as send:

            def mortal(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
                for part in send(entries):
                    if next(crashes, False):
                        raise Crash
                    yield part

            told = None
            while told != 0:
                store = WebhookPosition(engine, keeper_url, threading.Event())
                with suppress(Crash, SyncError):
                    told = forward(read_all(engine), mortal, store, since=start, limit=limit)

    assert without_repeats(receiver.taken) == [*range(start + 1, 331)]


_FEED: list[sa.Engine] = []


def _long_feed() -> sa.Engine:
    if not _FEED:
        _FEED.append(in_memory())
        grow(_FEED[0], 330)
    return _FEED[0]


def without_repeats(ids: Sequence[int]) -> list[int]:
    """What a receiver applies that drops every change it has had."""
    return [*dict.fromkeys(ids)]


@given(st.lists(st.integers(0, 60)), st.integers(1, 9), st.integers(1, 100))
def test_batches_hold_every_entry_in_order_and_keep_to_their_bounds(
    sizes: list[int], most: int, most_bytes: int
) -> None:
    entries = [Entry(b"x" * size, Position(i, "")) for i, size in enumerate(sizes)]

    made = list(batches(entries, most, most_bytes))

    assert [entry for batch in made for entry in batch] == entries
    assert all(0 < len(batch) <= most for batch in made)
    assert all(len(batch) == 1 or sum(len(e.json) for e in batch) <= most_bytes for batch in made)


# --- the file --------------------------------------------------------------------------------


def test_a_file_remembers_how_far_a_reader_came(db: sa.Engine, tmp_path: Path) -> None:
    grow(db, 120)
    told = Memory()
    for limit in (7, 100, None):
        with position_file(tmp_path / "state.json") as store:
            forward(read_all(db), told, store, since=3, limit=limit)

    assert told.ids == [*range(4, 121)]


def test_a_file_of_another_database_is_refused_and_left_alone(tmp_path: Path, sqlite: sa.Engine) -> None:
    """Both have the same products and the same number of changes."""
    state = tmp_path / "state.json"
    grow(sqlite, 9)
    with position_file(state) as store:
        forward(read_all(sqlite), Memory(), store, since=0)
    before = state.read_bytes()

    with opened(f"sqlite:///{tmp_path / 'other.db'}") as other:
        grow(other, 9)
        with (
            position_file(state) as store,
            pytest.raises(PositionMismatch, match=f"{state} is at change 9"),
        ):
            forward(read_all(other), Memory(), store, since=0)
        assert state.read_bytes() == before

        told = Memory()
        with position_file(state) as store:
            forward(read_all(other), told, store, since=0, rewind=True)
    assert told.ids == [*range(1, 10)]


def test_a_second_process_is_refused_while_the_first_is_at_it(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with position_file(state), pytest.raises(PositionInUse) as caught, position_file(state):
        pass
    assert caught.value.exit_code == 75

    with position_file(state):
        pass


def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    state = tmp_path / "state.json"

    with position_file(state) as store:
        store.save(Position(7, "insert of 7"))
        assert store.load() == Position(7, "insert of 7")

    assert {path.stat().st_mode & 0o777 for path in (state, tmp_path / "state.json.lock")} == {0o600}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json", "state.json.lock"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no position"),
        (b"4711\n", "no position"),
        (b'{"change_id": "x"}', "no position"),
        (b'{"change_id": -1}', "no position"),
        (b"\xff\x00", "no position"),
        (b"[" * 100_000, "no position"),
        (b'{"change_id": 1, "format": 2, "more": []}', "newer product-sync"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_and_left_alone(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    state = tmp_path / "state.json"
    state.write_bytes(content)

    with position_file(state) as store, pytest.raises(UsageError, match=reason):
        store.load()

    assert state.read_bytes() == content


def test_a_folder_is_no_file_and_a_folder_that_is_missing_has_none(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "none" / "state.json"):
        with pytest.raises(UsageError, match=r"is not a file|does not exist"), position_file(path):
            pass

    with position_file(tmp_path / "state.json") as store:
        (tmp_path / "state.json").mkdir()
        with pytest.raises(PositionNotSaved, match="is not a file"):
            store.save(Position(1))
