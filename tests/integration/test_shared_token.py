"""Processes of one tenant share one token: one asks IMS, and the database gives nobody else any use of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from sync.commerce.ims import ImsTokens
from sync.commerce.retry import RetryPolicy
from sync.commerce.shared_token import ASKING_S, SharedToken
from sync.commerce.tenant_memory import Token
from sync.db.schema import sync_state
from sync.db.shared_state import SharedStateRow
from sync.errors import AccessDenied, Interrupted
from sync.sandbox import Sandbox
from tests.wire import Time, ims_tokens, in_threads

PROCESSES = 4


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(products=3) as running:
        yield running


def asked(sandbox: Sandbox) -> int:
    return sum(served.kind == "token" for served in sandbox.requests)


def shared(db: sa.Engine, sandbox: Sandbox, secret: str | None = None) -> SharedToken:
    """The shelf as one process sees it."""
    stop, credentials = threading.Event(), sandbox.credentials
    return SharedToken(
        SharedStateRow(db, "shared_token", stop),
        credentials.client_id,
        lambda: secret or credentials.client_secret,
        RetryPolicy(stop.wait),
    )


def process(db: sa.Engine, sandbox: Sandbox, secret: str | None = None) -> ImsTokens:
    stop = threading.Event()
    return ims_tokens(
        sandbox, Time(), shared=shared(db, sandbox, secret), retry_policy=RetryPolicy(stop.wait, 5)
    )


def test_processes_that_start_together_ask_once(postgres: sa.Engine, sandbox: Sandbox) -> None:
    got: list[str] = []

    in_threads(PROCESSES, lambda: got.append(process(postgres, sandbox).current()))

    assert len(got) == PROCESSES
    assert len(set(got)) == 1
    assert asked(sandbox) == 1


def test_a_token_that_all_are_refused_is_renewed_once(postgres: sa.Engine, sandbox: Sandbox) -> None:
    running = [process(postgres, sandbox) for _ in range(PROCESSES)]
    old = {tokens.current() for tokens in running}
    new: list[str] = []

    waiting = iter(running)
    in_threads(PROCESSES, lambda: new.append(next(waiting).renew(*old)))

    assert len(old) == len(set(new)) == 1
    assert old.isdisjoint(new)
    assert asked(sandbox) == 2


def test_a_token_that_ends_is_renewed_by_one_of_them(postgres: sa.Engine, sandbox: Sandbox) -> None:
    """Its life is over by the server's clock, whatever the processes' clocks say."""
    keep(postgres, sandbox, Token("ended", renew_at=-1.0))

    assert {process(postgres, sandbox).current() for _ in range(PROCESSES)} != {"ended"}
    assert asked(sandbox) == 1


def keep(db: sa.Engine, sandbox: Sandbox, token: Token) -> None:
    """Have a token on the shelf, whose time to renew counts from now."""
    mine = shared(db, sandbox)
    shifted = Token(token.text, mine._retry_policy.clock() + token.renew_at)
    mine.next(None, lambda: shifted)


def test_the_database_holds_no_token_in_clear(postgres: sa.Engine, sandbox: Sandbox) -> None:
    token = process(postgres, sandbox).current()

    with postgres.connect() as connection:
        kept = str(connection.execute(sa.select(sync_state.c.name, sync_state.c.value)).all())
    assert "shared_token" in kept
    assert token not in kept
    assert sandbox.credentials.client_secret not in kept


def test_another_secret_cannot_read_it_and_asks_for_its_own(postgres: sa.Engine, sandbox: Sandbox) -> None:
    """Two secrets are valid while one is exchanged for the other."""
    process(postgres, sandbox).current()
    asked_by = shared(postgres, sandbox, "the other secret")

    token = asked_by.next(None, lambda: Token("another token", asked_by._retry_policy.clock() + 60))

    assert token.text == "another token"
    assert shared(postgres, sandbox, "the other secret").next(None, never).text == "another token"


def never() -> Token:
    raise AssertionError("asked IMS though there is a token")


def test_who_cannot_get_one_leaves_the_asking_to_the_next(postgres: sa.Engine, sandbox: Sandbox) -> None:
    sandbox.faults.fail(401, kind="token", times=1, body={"error": "invalid_client"})
    with pytest.raises(AccessDenied):
        process(postgres, sandbox).current()

    assert process(postgres, sandbox).current()


def test_who_died_while_asking_is_waited_for_and_no_longer(postgres: sa.Engine, sandbox: Sandbox) -> None:
    """The one that waits is told to stop; the time passes; then the next one asks."""

    def die() -> Token:
        raise KeyboardInterrupt

    shelf = SharedStateRow(postgres, "shared_token", threading.Event())
    dead = shared(postgres, sandbox)
    with pytest.raises(KeyboardInterrupt):
        dead.next(None, die)
    shelf.update(lambda text, now: (f'{{"asking_until":{now + ASKING_S}}}', None))

    impatient = threading.Event()
    impatient.set()
    waiting = SharedToken(shelf, "id", lambda: "secret", RetryPolicy(impatient.wait))
    with pytest.raises(Interrupted):
        waiting.next(None, never)

    shelf.update(lambda text, now: (f'{{"asking_until":{now}}}', None))
    assert process(postgres, sandbox).current()
