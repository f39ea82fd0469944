"""Whatever a machine or an administrator set, a command ends with a code of the table, in words."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync.sandbox import Sandbox
from tests.command import LONGEST_S, Shell

EXIT_CODES = {0, 1, 64, 69, 75, 77, 78, 130}
COMMANDS = [
    *(
        ["check"],
        ["config"],
        ["backfill"],
        ["backfill", "--restart", "--json"],
        ["run"],
        ["run", "--dry-run"],
    ),
    *(
        ["run", "--sku", "A;B"],
        ["run", "--id", "3"],
        ["reconcile"],
        ["verify", "--json"],
        ["prices"],
        ["stock"],
    ),
    *(["reference"], ["status"], ["status", "--json"], ["show", "B\u00fcgel"], ["changes", "--limit", "3"]),
    *(
        ["changes", "--state", "state"],
        ["changes", "--webhook", "http://127.0.0.1:9/"],
        ["export", "out.csv"],
    ),
    *(["export", "-"], ["export", "/proc/out.jsonl"], ["export", "missing/out.parquet"]),
    *(["view", "--name", "v", "--columns", "sku,name"], ["db", "current"], ["db", "upgrade"], ["adopt"]),
    *(
        ["forget", "--store-view", "de"],
        ["health"],
        ["worker"],
        ["show", "\udcff"],
        ["status", "--tenants", "/dev/zero"],
        ["backfill", "--executor", "celery"],
    ),
    *(["run", "--metrics-file", "/proc/metrics.prom"], ["status", "--tenants", "tenants.toml"], ["--help"]),
]
TEXTS = [
    "",
    " ",
    "\ufeff",
    "x",
    "0",
    "-1",
    "1e9",
    "\u201cx\u201d",
    "\u00e4",
    "\x1b[31m",
    "a b",
    "%zz",
    "://",
    "http://[::1",
]
URLS = [
    "http://127.0.0.1:9/",
    "https://127.0.0.1:9/rest",
    "http://u:p@127.0.0.1:9",
    "https://..",
    "//",
    "ftp://h/",
    "[::1]",
]
DATABASES = [
    "sqlite:///",
    "sqlite:////proc/copy.db",
    "sqlite:///.",
    "sqlite:///missing/copy.db",
    "sqlite:///a?b=c",
    "sqlite:///a%00b",
    "sqlite:////dev/zero",
]
DATABASES += [
    "postgresql+psycopg://u:p@127.0.0.1:9/x",
    "postgresql+psycopg://",
    "mysql+pymysql://u:p@w@127.0.0.1:9/x",
    "mysql+pymysql://u:p@127.0.0.1:9/x?conv=x",
]


def _each(names: Iterable[str], values: list[str]) -> dict[str, list[str]]:
    return dict.fromkeys(names, values)


ODD: dict[str, list[str]] = {
    "TZ": ["CET-1CEST,M3.5.0,M10.5.0/3", "Nowhere/At_All", ":/etc/passwd", ""],
    "LC_ALL": ["C", "POSIX", "tr_TR.UTF-8", "xx_YY.UTF-9"],
    "HOME": ["", "/proc", "/no/such/folder", "relative"],
    "TMPDIR": ["/proc", "/no/such/folder", ""],
    "COLUMNS": ["0", "-1", "wide"],
    "TERM": ["", "dumb", "no-such-terminal"],
    "NO_PROXY": ["*", "[::1,///"],
    "PGOPTIONS": ["-c DateStyle=SQL,DMY", "nonsense"],
    "PGSERVICE": ["missing"],
    "NOTIFY_SOCKET": ["/no/such/socket", "@"],
    "WATCHDOG_USEC": ["soon"],
    "DATABASE_URL": DATABASES,
    "STATUS_BIND": ["127.0.0.1:1", "999.9.9.9:80", "[::1]:99999", "off"],
    "STORE_VIEWS": ["all,nowhere", "all,all", ",", "\u00e4"],
    "CELERY_BROKER_URL": ["amqp://127.0.0.1:9//", "redis://[::1", "redis://127.0.0.1:9/x"],
    "SYNC_CA_BUNDLE": ["/no/such/file", "~nobody-here/ca.pem", "/proc/self/mem", "."],
    "IMS_CLIENT_SECRET_FILE": ["/proc/self/mem", "/dev/zero", ".", "/no/such/file"],
    **_each(
        ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SYNC_ALERT_WEBHOOK", "API_ENDPOINT"), [*TEXTS, *URLS]
    ),
    **_each(("IMS_CLIENT_ID", "IMS_CLIENT_SECRET", "IMS_ORG_ID", "IMS_SCOPES", "WEBHOOK_SECRET"), TEXTS),
    **_each(
        ("SYNC_PAGE_SIZE", "SYNC_CONCURRENCY", "SYNC_MAX_RPS", "SYNC_OVERLAP", "SYNC_QUIET_HOURS"), TEXTS
    ),
    **_each(("SYNC_TIMEZONE", "SYNC_RECONCILE_CRON", "SYNC_MAX_DELETE_FRACTION", "LOG_FORMAT"), TEXTS),
}
FILES = [
    b"",
    b"\xff\xfe",
    b"\x00",
    b"A\n=\n'",
    "\ufeffSYNC_PAGE_SIZE=7".encode(),
    b"[tenants]\nx = 1",
    b"=" * 9,
]

environments = st.lists(st.sampled_from(sorted(ODD)), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: st.sampled_from(ODD[name]) for name in names})
)
files = st.dictionaries(
    st.sampled_from([".env", "tenants.toml", "state", "out.csv"]), st.sampled_from(FILES), max_size=2
)


@pytest.fixture(scope="module")
def tenant() -> Iterator[Sandbox]:
    with Sandbox(20) as running:
        yield running


@pytest.mark.parametrize(
    ("command", "environment", "code", "words"),
    [
        (["status", "--tenants", "/dev/zero"], {}, 78, "/dev/zero cannot be read: File too large"),
        (
            ["check"],
            {"IMS_CLIENT_SECRET": "", "IMS_CLIENT_SECRET_FILE": "/dev/zero"},
            78,
            "IMS_CLIENT_SECRET: ",
        ),
        (["check"], {"SYNC_CA_BUNDLE": "~nobody-here/ca.pem"}, 78, "SYNC_CA_BUNDLE: names no file"),
        (["changes", "--state", "~nobody-here/state"], {}, 64, "is in a folder that does not exist"),
        (["backfill"], {"DATABASE_URL": "sqlite:///a%00b"}, 78, "DATABASE_URL: "),
        (["check"], {"DATABASE_URL": f"sqlite:///{'a' * 300}"}, 69, "cannot be opened: File name too long"),
        (["db", "copy", f"sqlite:///{'a' * 300}"], {}, 69, "the other database: the file a"),
        (["run"], {"DATABASE_URL": "mysql+pymysql://u@127.0.0.1:9/x?conv=x"}, 78, "DATABASE_URL: "),
        (["changes", "--since", "9" * 20], {}, 64, "'--since'"),
        (["run", "--id", "9" * 20], {}, 64, "'--id'"),
        (["status", "--runs", "9" * 20], {}, 64, "'--runs'"),
        (["show", "\udcff"], {}, 64, "an argument contains bytes that are not UTF-8 text"),
        (["export", "-", "--columns", "sku\udc80"], {}, 64, "an argument contains bytes"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(
    tenant: Sandbox, tmp_path: Path, command: list[str], environment: dict[str, str], code: int, words: str
) -> None:
    shell = Shell(tenant, tmp_path)
    shell.run("backfill")

    ended = shell.run(*command, **environment)

    assert (ended.code, words in ended.out + ended.err) == (code, True), ended


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(environments, files, st.lists(st.sampled_from(COMMANDS), min_size=4, max_size=4))
def test_every_command_ends_with_a_code_of_the_table(
    tenant: Sandbox, environment: dict[str, str], files: dict[str, bytes], commands: list[list[str]]
) -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        shell = Shell(tenant, Path(folder), {"SYNC_MAX_RETRY_TIME": "1s"})
        for command in commands:
            ended = shell.run(*command, **environment)

            assert ended.code in EXIT_CODES, (command, environment, ended)
            assert "Traceback" not in ended.out + ended.err, (command, environment, ended)


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(environments, files, st.sampled_from(["daemon", "serve"]))
def test_a_service_ends_with_a_code_of_the_table(
    tenant: Sandbox, environment: dict[str, str], files: dict[str, bytes], command: str
) -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        shell = Shell(tenant, Path(folder), {"SYNC_MAX_RETRY_TIME": "1s"})
        with shell.start(command, **environment) as service:
            said = [next(service.lines(), "")]
            if said[0].startswith("{"):  # it serves; otherwise it is ending by itself
                service.process.send_signal(signal.SIGTERM)
            said += service.lines()
            code = service.process.wait(LONGEST_S)

    assert code in EXIT_CODES, (environment, said)
    assert "Traceback" not in "".join(said)


@pytest.mark.skipif(os.name != "posix", reason="a file-creation mask is POSIX's")
@pytest.mark.parametrize("umask", ["0777", "0000"])
def test_a_mask_of_file_modes_ends_nothing_in_a_fault(tenant: Sandbox, tmp_path: Path, umask: str) -> None:
    shell = Shell(tenant, tmp_path, {"LOG_LEVEL": "WARNING"})
    masked = ("sh", "-c", f'umask {umask}; exec "$@"', "sh")

    with shell.start_afresh("backfill", prefix=masked) as load:
        assert load.process.wait(30) == 0
    with shell.start_afresh("status", prefix=masked) as look:
        assert look.process.wait(30) == 0
