"""Secrets with every sign that a URL, a header or a shell gives a meaning to are in nothing that comes out.

Each is planted where settings take it; then commands succeed and fail against servers that say back what they
were sent. Nothing printed, logged, served, posted, written or listed may hold one, nor a part of one.
"""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Iterator
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
import sqlalchemy as sa

from tests.command import Ended, Running, Shell
from tests.databases import NewDatabase, connected
from tests.echo import http_echo, postgres_that_says
from tests.receiver import Receiver

SIGNS = """@:/#%?&'\""""
NAMES = ("ims", "bearer", "consumer", "token", "database", "broker", "alert", "path", "sign", "page", "proxy")


def _planted(name: str) -> str:
    """A secret of ten parts with the signs between them; no part follows % as an escape would."""
    digest = sha256(name.encode()).hexdigest()
    parts = [f"x{digest[6 * n : 6 * n + 6]}" for n in range(len(SIGNS) + 1)]
    return "".join(part + (sign or "") for part, sign in zip_longest(parts, SIGNS))


SECRET = {name: _planted(name) for name in NAMES}
IN_URL = {name: quote(secret, safe="") for name, secret in SECRET.items()}
PARTS = {part for secret in SECRET.values() for part in re.split(f"[{SIGNS}]", secret)}
ENCODED = {
    base64.b64encode(b" " * n + it.encode()).decode()[4:-4] for it in SECRET.values() for n in range(3)
}


class Seen:
    """All that came out, and where."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def add(self, where: str, text: str | bytes) -> None:
        self.texts.append((where, text if isinstance(text, str) else text.decode("utf-8", "replace")))

    def add_command(self, where: str, ended: Ended) -> Ended:
        self.add(f"{where}, printed", ended.out)
        self.add(f"{where}, standard error", ended.err)
        assert "Traceback (most" not in ended.err or "DEBUG" in ended.err, ended.err
        return ended

    def assert_clean(self) -> None:
        assert len(PARTS) == len(NAMES) * (len(SIGNS) + 1)
        found = [
            (where, text[max(0, text.find(part) - 60) :][:160])
            for where, text in self.texts
            for part in (*PARTS, *ENCODED)
            if part in text
        ]
        assert not found, f"{len(found)} in {sorted({where for where, _ in found})}; first: {found[0]}"


@pytest.fixture
def seen(shell: Shell) -> Iterator[Seen]:
    """What the test adds, and at its end every file in the folder, its name included."""
    found = Seen()
    yield found
    for path in shell.folder.rglob("*"):
        found.add(f"the name of {path}", str(path))
        if path.is_file():
            found.add(f"the file {path}", path.read_bytes())
    found.assert_clean()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _planted_everywhere(shell: Shell, receiver: Receiver) -> None:
    object.__setattr__(shell.tenant.credentials, "client_secret", SECRET["ims"])
    hook = f"http://me:{IN_URL['alert']}@127.0.0.1:{receiver.port}/hook/{IN_URL['path']}"
    shell.settings |= {
        "SYNC_ALERT_WEBHOOK": hook,
        "WEBHOOK_SECRET": SECRET["sign"],
        "STATUS_TOKEN": SECRET["page"],
        "LOG_LEVEL": "DEBUG",
        "SYNC_MAX_RETRY_TIME": "1s",
        "SYNC_RECONCILE_CRON": "off",
        "SYNC_REFERENCE_CRON": "off",
        "SYNC_INTERVAL": "1s",
    }


@pytest.fixture
def mariadb(new_database: NewDatabase) -> Iterator[str]:
    """The URL of a database whose user has a planted password."""
    url = sa.make_url(new_database("mariadb"))
    user = str(url.database)[:30]
    with connected(str(url)) as engine, engine.begin() as root:
        root.execute(sa.text(f"CREATE USER '{user}'@'%' IDENTIFIED BY :it"), {"it": SECRET["database"]})
        root.execute(sa.text(f"GRANT ALL ON `{url.database}`.* TO '{user}'@'%'"))
    yield f"mysql+pymysql://{user}:{IN_URL['database']}@{url.host}:{url.port}/{url.database}?ssl_disabled=true"
    with connected(str(url)) as engine, engine.begin() as root:
        root.execute(sa.text(f"DROP USER '{user}'@'%'"))


def look_at_the_page(seen: Seen, daemon: Running, port: int) -> None:
    for path in (
        "/",
        "/runs",
        "/runs/1",
        "/rejected",
        "/changes",
        "/api/overview",
        "/api/runs",
        "/api/rejected",
    ):
        seen.add(f"page {path}", requests.get(f"http://127.0.0.1:{port}{path}", timeout=10).text)
    for path in ("/healthz", "/readyz", "/metrics"):
        seen.add(path, requests.get(f"http://127.0.0.1:{port}{path}", timeout=10).text)
    refused = requests.post(f"http://127.0.0.1:{port}/run-now", {"token": SECRET["ims"]}, timeout=10)
    seen.add("run now, refused", refused.text)
    asked = requests.post(
        f"http://127.0.0.1:{port}/run-now", headers={"Authorization": f"Bearer {SECRET['page']}"}, timeout=10
    )
    seen.add("run now", asked.text)
    assert (refused.status_code, asked.status_code) == (403, 202)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            seen.add(f"the process list, {process.name}", (process / "cmdline").read_bytes())
        except OSError:  # it has ended
            continue


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nothing_shows_a_secret_where_all_goes_well(
    shell: Shell, seen: Seen, receiver: Receiver, mariadb: str
) -> None:
    shell.settings["DATABASE_URL"] = mariadb
    for command in (
        ("config",),
        ("check",),
        ("backfill", "--json", "--metrics-file", "sync.prom"),
        ("run",),
        ("status", "--json"),
        ("changes", "--state", "state.json", "--limit", "5"),
        ("changes", "--limit", "5", "--webhook", shell.settings["SYNC_ALERT_WEBHOOK"]),
        ("export", "products.csv"),
    ):
        assert seen.add_command(command[0], shell.run(*command)).code == 0, command

    port = free_port()
    with shell.start_afresh("daemon", STATUS_BIND=f"127.0.0.1:{port}") as daemon:
        daemon.wait_for("run.finished")
        look_at_the_page(seen, daemon, port)
        daemon.end()
    seen.add("the daemon's log", f"{daemon.log} {daemon.words}")

    with connected(mariadb) as engine, engine.connect() as connection:
        for table in sa.inspect(engine).get_table_names():
            rows = connection.exec_driver_sql(f"SELECT * FROM `{table}`").all()
            seen.add(f"the table {table}", str(rows))
    seen.add("what was posted", b"".join(got.body for got in receiver.received))
    assert receiver.received[0].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(("status", "form"), [(400, "json"), (401, "json"), (403, "html"), (302, "text")])
def test_nothing_shows_a_secret_that_a_server_says_back(
    shell: Shell, seen: Seen, status: int, form: str
) -> None:
    """IMS, Commerce by each kind of credential, a receiver and a proxy, in JSON, HTML and text."""
    shell.run("backfill")
    with http_echo(status, form) as port:
        here = f"http://127.0.0.1:{port}"
        paas = {
            "API_ENDPOINT": f"{here}/rest",
            "IMS_CLIENT_ID": "",
            "IMS_CLIENT_SECRET": "",
            "IMS_ORG_ID": "",
        }
        oauth1 = {
            "COMMERCE_CONSUMER_KEY": "key",
            "COMMERCE_CONSUMER_SECRET": SECRET["consumer"],
            "COMMERCE_ACCESS_TOKEN": SECRET["bearer"],
            "COMMERCE_ACCESS_TOKEN_SECRET": SECRET["token"],
        }
        proxy = f"http://me:{IN_URL['proxy']}@127.0.0.1:{port}"
        hook = f"http://me:{IN_URL['alert']}@127.0.0.1:{port}/{IN_URL['path']}"
        for name, arguments, settings in (
            ("IMS", ("check",), {"IMS_TOKEN_URL": f"{here}/token"}),
            ("IMS", ("run",), {"IMS_TOKEN_URL": f"{here}/token"}),
            ("Bearer", ("check",), {**paas, "COMMERCE_ACCESS_TOKEN": SECRET["bearer"]}),
            ("Bearer", ("reconcile",), {**paas, "COMMERCE_ACCESS_TOKEN": SECRET["bearer"]}),
            ("OAuth 1", ("check",), {**paas, **oauth1}),
            ("proxy", ("check",), {"HTTP_PROXY": proxy, "http_proxy": proxy}),
            ("receiver", ("changes", "--webhook", hook), {}),
        ):
            ended = seen.add_command(f"{name} {status}: {arguments[0]}", shell.run(*arguments, **settings))
            assert ended.code in (1, 69, 70, 77, 78), ended


def test_nothing_shows_a_password_that_a_database_or_a_broker_says_back(
    shell: Shell, seen: Seen, mariadb: str, new_database: NewDatabase
) -> None:
    whole = SECRET["database"]
    words = (
        f"no {whole}, {whole.partition('@')[2]}, {whole.rpartition('/')[2]}, {IN_URL['database']}, {whole!r}"
    )
    with postgres_that_says(words) as port:
        shell.settings["DATABASE_URL"] = f"postgresql+psycopg://me:{IN_URL['database']}@127.0.0.1:{port}/pim"
        for command in ("check", "backfill", "status", "changes"):
            assert seen.add_command(f"{command}, PostgreSQL", shell.run(command)).code == 69
    wrong = mariadb.replace(IN_URL["database"], IN_URL["token"])
    away = f"mysql+pymysql://me:{IN_URL['database']}@127.0.0.1:{free_port()}/pim"
    for url in (wrong, away):
        for command in ("check", "status"):
            ended = seen.add_command(f"{command}, no database", shell.run(command, DATABASE_URL=url))
            assert ended.code == 69

    shell.settings["DATABASE_URL"] = new_database("postgresql")
    away = f"amqp://me:{IN_URL['broker']}@127.0.0.1:{free_port()}//"
    for broker, arguments in (
        (away, ("check",)),
        (away, ("backfill", "--executor", "celery")),
        (f"amqp://guest:{IN_URL['broker']}@127.0.0.1//", ("check",)),
        (f"redis://:{IN_URL['broker']}@127.0.0.1/0", ("check",)),
    ):
        ended = seen.add_command("no broker", shell.run(*arguments, CELERY_BROKER_URL=broker))
        assert ended.code in (0, 69, 77, 78), ended


@pytest.mark.parametrize("sign", "@/?#")
def test_nothing_shows_a_url_whose_password_was_not_encoded(shell: Shell, seen: Seen, sign: str) -> None:
    """With each of the signs that end a host, and with a part before it that could be a port."""
    first, *rest = re.split(f"[{SIGNS}]", SECRET["database"])
    for password in (f"{first}{sign}{rest[0]}", f"12{sign}{rest[0]}", f"{first}:{rest[0]}{sign}{rest[1]}"):
        for name, url in (
            ("DATABASE_URL", f"postgresql+psycopg://me:{password}@127.0.0.1:1/pim"),
            ("CELERY_BROKER_URL", f"amqp://me:{password}@127.0.0.1:1//"),
            ("HTTP_PROXY", f"http://me:{password}@127.0.0.1:1"),
        ):
            ended = seen.add_command(f"check with {name}", shell.run("check", **{name: url}))
            assert (ended.code, name in ended.out) == (78, True), ended


def test_nothing_shows_a_secret_when_a_daemon_fails_and_alerts(
    shell: Shell, seen: Seen, receiver: Receiver
) -> None:
    """The database's last words go to the log, the page, /readyz and the alert."""
    port = free_port()
    with http_echo(400) as echo:
        shell.settings["IMS_TOKEN_URL"] = f"http://127.0.0.1:{echo}/token"
        with shell.start_afresh("daemon", STATUS_BIND=f"127.0.0.1:{port}") as daemon:
            for _ in range(3):
                daemon.wait_for("pass.failed")
            receiver.wait_for(1)
            look_at_the_page(seen, daemon, port)
            daemon.end()
    seen.add("the daemon's log", f"{daemon.log} {daemon.words}")
    seen.add("the alert", receiver.received[0].body)
    assert b"failed" in receiver.received[0].body
