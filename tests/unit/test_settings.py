"""Settings: where a value comes from, what may be in it, and what its reader is told."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from sync.errors import SettingsError
from sync.settings import Settings, describe, tenants, unknown_variables
from sync.settings.parsers import Address, QuietPeriod

SAAS = {
    "API_ENDPOINT": "https://na1.api.commerce.adobe.com/Tenant123",
    "IMS_CLIENT_ID": "client",
    "IMS_CLIENT_SECRET": "ims-secret",
    "IMS_ORG_ID": "0AB@AdobeOrg",
}
PAAS = {"API_ENDPOINT": "https://shop.example/rest", "COMMERCE_ACCESS_TOKEN": "paas-token"}
OAUTH1 = {
    "COMMERCE_CONSUMER_KEY": "key",
    "COMMERCE_CONSUMER_SECRET": "consumer-secret",
    "COMMERCE_ACCESS_TOKEN": "paas-token",
    "COMMERCE_ACCESS_TOKEN_SECRET": "token-secret",
}

Load = Callable[..., Settings]
Faults = Callable[..., dict[str, str]]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load what is in the environment plus these variables."""

    def load(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Settings.load()

    return load


@pytest.fixture
def faults(load: Load) -> Faults:
    """Load, and return the reasons by variable; hints, which have no colon, by their sentence."""

    def faults(**variables: str) -> dict[str, str]:
        with pytest.raises(SettingsError) as caught:
            load(**variables)
        return {
            name: reason
            for name, _, reason in (line.partition(": ") for line in str(caught.value).splitlines())
        }

    return faults


# --- Where a value comes from ------------------------------------------------------------------


def test_four_variables_are_enough_for_saas(load: Load) -> None:
    settings = load(**SAAS)

    assert settings.is_saas
    assert (settings.store_views, settings.sync_page_size, settings.sync_interval) == (("all",), 300, 900.0)
    assert settings.database_url.get_secret_value() == "sqlite:///products.db"


def test_the_environment_wins_over_env_file_which_wins_over_the_default(load: Load) -> None:
    Path(".env").write_text("SYNC_PAGE_SIZE=100\nSYNC_CONCURRENCY=2\n")

    settings = load(**SAAS, SYNC_PAGE_SIZE="50")

    assert (settings.sync_page_size, settings.sync_concurrency) == (50, 2)


def test_an_empty_variable_counts_as_not_set(load: Load) -> None:
    Path(".env").write_text("SYNC_PAGE_SIZE=100\n")

    settings = load(**SAAS, SYNC_PAGE_SIZE="", SYNC_CONCURRENCY="  ", SYNC_MAX_RPS='""')

    assert (settings.sync_page_size, settings.sync_concurrency, settings.sync_max_rps) == (100, 4, None)


def test_white_space_and_quotes_around_a_value_are_dropped(load: Load) -> None:
    settings = load(**SAAS | {"IMS_CLIENT_ID": " 'client' ", "IMS_ORG_ID": '"0AB@AdobeOrg"'})

    assert (settings.ims_client_id, settings.ims_org_id) == ("client", "0AB@AdobeOrg")


def test_a_secret_comes_from_a_file_without_its_line_end(load: Load, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from-file\n")
    variables = {**SAAS, "IMS_CLIENT_SECRET": "", "IMS_CLIENT_SECRET_FILE": str(secret)}

    settings = load(**variables)

    assert settings.ims_client_secret
    assert settings.ims_client_secret.get_secret_value() == "from-file"


def test_every_secret_may_come_from_a_file(load: Load, tmp_path: Path) -> None:
    """The names of the files stand in .env, as a compose file leaves them."""
    written = {
        **OAUTH1,
        "DATABASE_URL": "postgresql+psycopg://u:db-password@h/db",
        "STATUS_TOKEN": "status-token",
        "STATUS_PASSWORD": "status-password",
        "SYNC_ALERT_WEBHOOK": "https://hooks.example/secret-path",
        "CELERY_BROKER_URL": "redis://:queue-password@h/0",
    }
    for name, value in written.items():
        (tmp_path / name).write_text(value)
    Path(".env").write_text("".join(f"{name}_FILE={tmp_path / name}\n" for name in written))

    settings = load(API_ENDPOINT="https://shop.example/rest")

    assert {*written.values()} - {"key"} <= {*settings.secrets}
    assert settings.commerce_consumer_key == "key"


def test_a_secret_given_twice_is_a_fault(faults: Faults) -> None:
    reasons = faults(**SAAS, IMS_CLIENT_SECRET_FILE="/run/secrets/ims")

    assert "IMS_CLIENT_SECRET_FILE too" in reasons["IMS_CLIENT_SECRET"]


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"", "is empty"), (b"\xff\xfe\x00", "it is not text")]
)
def test_a_secret_file_that_cannot_be_read_is_a_fault(
    faults: Faults, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)

    reasons = faults(**SAAS | {"IMS_CLIENT_SECRET": ""}, IMS_CLIENT_SECRET_FILE=str(secret))

    assert reason in reasons["IMS_CLIENT_SECRET"]
    assert "IMS_CLIENT_SECRET_FILE" in reasons["IMS_CLIENT_SECRET"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_secret_file_that_is_no_file_is_a_fault(
    faults: Faults, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """Nobody ever writes into that pipe, and the device has no end."""
    secret = tmp_path / "secret"
    make(secret)

    reasons = faults(**SAAS | {"IMS_CLIENT_SECRET": ""}, IMS_CLIENT_SECRET_FILE=str(secret))

    assert "IMS_CLIENT_SECRET_FILE names: it is not a regular file" in reasons["IMS_CLIENT_SECRET"]


def test_an_env_file_that_is_no_text_is_a_fault(load: Load) -> None:
    Path(".env").write_bytes(b"API_ENDPOINT=\xff\xfe")

    with pytest.raises(SettingsError, match=r"\.env .*UTF-8"):
        load()


# --- Faults ------------------------------------------------------------------------------------


def test_every_fault_is_reported_at_once_with_an_example(faults: Faults) -> None:
    reasons = faults(SYNC_INTERVAL="15", SYNC_PAGE_SIZE="many", LOG_LEVEL="loud")

    assert [*reasons] == [
        "API_ENDPOINT",
        "IMS_CLIENT_ID",
        "IMS_CLIENT_SECRET",
        "IMS_ORG_ID",
        "SYNC_PAGE_SIZE",
        "SYNC_INTERVAL",
        "LOG_LEVEL",
    ]
    assert all(f"; example: {name}=" in reason for name, reason in reasons.items())


def test_no_fault_quotes_what_was_given(load: Load) -> None:
    """Whatever line a secret was pasted into, it is not printed."""
    names = [name.upper() for name in Settings.model_fields if not name.startswith(("ims_client", "ims_org"))]

    with pytest.raises(SettingsError) as caught:
        load(**dict.fromkeys(names, "x://u:hunter2@h:hunter2/?hunter2"), IMS_CLIENT_SECRET_FILE="hunter2")

    assert {"SYNC_QUIET_HOURS", "IMS_CLIENT_SECRET"} <= {*str(caught.value).replace(":", "").split()}
    assert "hunter2" not in str(caught.value)


def test_a_misspelt_variable_is_pointed_out(faults: Faults) -> None:
    Path(".env").write_text("IMS_CLIENT_SECERT=x\nSYNC_WHATEVER=1\nCOMPOSE_PROJECT_NAME=shop\n")

    reasons = faults(**SAAS | {"IMS_CLIENT_SECRET": ""}, SYNC_INTERVALL="5m")

    assert "IMS_CLIENT_SECRET" in reasons
    assert unknown_variables() == [
        "IMS_CLIENT_SECERT is no setting: did you mean IMS_CLIENT_SECRET?",
        "SYNC_INTERVALL is no setting: did you mean SYNC_INTERVAL?",
        "SYNC_WHATEVER is no setting.",
    ]
    assert "SYNC_WHATEVER is no setting." in reasons


def test_known_variables_and_their_files_raise_no_hint(load: Load) -> None:
    Path(".env").write_text("STATUS_TOKEN_FILE=/run/secrets/status\nSYNC_INTERVAL=5m\nAPI_MESH_ID=1\n")

    assert unknown_variables() == []


# --- Credentials -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variables",
    [
        SAAS,
        PAAS,
        PAAS | OAUTH1,
        SAAS | {"API_ENDPOINT": "https://shop.example/rest"},
        SAAS | {"API_ENDPOINT": "http://127.0.0.1:8080/tenant"},
    ],
    ids=["saas", "bearer", "oauth1", "paas with ims", "sandbox"],
)
def test_complete_credentials_are_taken(load: Load, variables: dict[str, str]) -> None:
    assert load(**variables).api_endpoint == variables["API_ENDPOINT"]


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"API_ENDPOINT": SAAS["API_ENDPOINT"]}, ["IMS_CLIENT_ID", "IMS_CLIENT_SECRET", "IMS_ORG_ID"]),
        (SAAS | {"IMS_ORG_ID": ""}, ["IMS_ORG_ID"]),
        (SAAS | {"COMMERCE_ACCESS_TOKEN": "t"}, ["COMMERCE_ACCESS_TOKEN"]),
        ({"API_ENDPOINT": PAAS["API_ENDPOINT"]}, list(OAUTH1)),
        (PAAS | {"COMMERCE_CONSUMER_KEY": "k"}, ["COMMERCE_CONSUMER_SECRET", "COMMERCE_ACCESS_TOKEN_SECRET"]),
        (PAAS | {"IMS_CLIENT_ID": "client"}, ["IMS_CLIENT_ID"]),
        ({"API_ENDPOINT": PAAS["API_ENDPOINT"], "IMS_ORG_ID": "o"}, ["IMS_CLIENT_ID", "IMS_CLIENT_SECRET"]),
        ({"COMMERCE_ACCESS_TOKEN": "t"}, ["API_ENDPOINT"]),
        (PAAS | {"API_ENDPOINT": "https://shop.example"}, ["API_ENDPOINT"]),
    ],
)
def test_each_credential_missing_or_too_many_is_named(
    faults: Faults, variables: dict[str, str], named: list[str]
) -> None:
    assert sorted(faults(**variables)) == sorted(named)


# --- API_ENDPOINT ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "used", "is_saas"),
    [
        ("https://na1.api.commerce.adobe.com/T1/", "https://na1.api.commerce.adobe.com/T1", True),
        ("https://shop.example/rest/", "https://shop.example/rest", False),
        ("https://shop.example/magento//rest", "https://shop.example/magento/rest", False),
        ("http://localhost:8080/tenant", "http://localhost:8080/tenant", True),
        ("http://[::1]:8080/rest", "http://[::1]:8080/rest", False),
    ],
)
def test_an_endpoint_is_used_without_trailing_slash(load: Load, given: str, used: str, is_saas: bool) -> None:
    settings = load(**SAAS | {"API_ENDPOINT": given})

    assert (settings.api_endpoint, settings.is_saas) == (used, is_saas)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("na1.api.commerce.adobe.com/T1", "starts with https://"),
        ("ftp://shop.example/rest", "starts with https://"),
        ("http://shop.example/rest", "unencrypted"),
        ("https://na1.api.commerce.adobe.com/T1/graphql", "GraphQL"),
        ("https://na1.api.commerce.adobe.com/T1/V1/products", "leave /V1"),
        ("https://shop.example/rest/V1", "leave /V1"),
        ("https://na1.api.commerce.adobe.com/", "tenant id"),
        ("https://na1.api.commerce.adobe.com/T1/extra", "tenant id"),
        ("https://na1.api.commerce.adobe.com/T1/rest", "has /rest"),
        ("https://na1.api.commerce.adobe.com/<tenant-id>", "placeholder"),
        ("https://shop.example/rest/de", "STORE_VIEWS"),
        ("https://shop.example/rest?x=1", "what follows ?"),
        ("https://u:p@shop.example/rest", "user names"),
        ("https://shop.example:port/rest", "port"),
    ],
)
def test_an_endpoint_that_cannot_be_right_is_explained(faults: Faults, given: str, reason: str) -> None:
    fault = faults(**SAAS | {"API_ENDPOINT": given})["API_ENDPOINT"]

    assert reason in fault
    assert "or https://shop.example.com/rest" in fault


# --- Other values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("SYNC_INTERVAL", "90s", 90.0),
        ("SYNC_OVERLAP", "15m", 900.0),
        ("SYNC_MAX_LAG", "6h", 21_600.0),
        ("SYNC_PRICES_INTERVAL", "1d", 86_400.0),
        ("SYNC_STOCK_INTERVAL", "off", None),
        ("SYNC_RECONCILE_CRON", "OFF", None),
        ("SYNC_TIMEZONE", "Europe/Berlin", ZoneInfo("Europe/Berlin")),
        ("SYNC_TIMEZONE", "utc", UTC),
        ("SYNC_QUIET_HOURS", "08:00-20:00@0.5", QuietPeriod(time(8), time(20), 0.5)),
        ("SYNC_QUIET_HOURS", "22:00-06:30@2", QuietPeriod(time(22), time(6, 30), 2.0)),
        ("SYNC_MAX_RPS", "0.5", 0.5),
        ("SYNC_MAX_DELETE_FRACTION", "1", 1.0),
        ("STORE_VIEWS", "all, de, Fr-2", ("all", "de", "Fr-2")),
        ("STATUS_BIND", "0.0.0.0:80", Address("0.0.0.0", 80)),  # noqa: S104 -- what a container needs
        ("STATUS_BIND", "[::1]:8321", Address("::1", 8321)),
        ("STATUS_BIND", "off", None),
        ("IMS_SCOPES", "openid AdobeID, email", "openid,AdobeID,email"),
        ("LOG_FORMAT", "JSON", "json"),
        ("LOG_LEVEL", "debug", "DEBUG"),
    ],
)
def test_a_value_is_read_as_people_write_it(load: Load, name: str, given: str, value: Any) -> None:
    assert getattr(load(**SAAS, **{name: given}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("SYNC_INTERVAL", "off", "duration"),
        ("SYNC_INTERVAL", "0s", "out of range"),
        ("SYNC_INTERVAL", "400d", "out of range"),
        ("SYNC_RECONCILE_CRON", "0 3 * *", "needs five fields"),
        ("SYNC_RECONCILE_CRON", "0 3 * * 8", "no cron expression"),
        ("SYNC_TIMEZONE", "Mars/Olympus", "time zone"),
        ("SYNC_QUIET_HOURS", "8-20@1", "HH:MM"),
        ("SYNC_QUIET_HOURS", "08:00-24:00@1", "HH:MM"),
        ("SYNC_QUIET_HOURS", "08:00-08:00@1", "two different times"),
        ("SYNC_QUIET_HOURS", "08:00-20:00@0", "at least 0.001"),
        ("SYNC_PAGE_SIZE", "0", "greater than or equal to 1"),
        ("SYNC_CONCURRENCY", "65", "less than or equal to 64"),
        ("SYNC_MAX_RPS", "0", "0.001"),
        ("SYNC_MAX_RPS", "inf", "finite"),
        ("SYNC_MAX_DELETE_FRACTION", "20", "less than or equal to 1"),
        ("STORE_VIEWS", "de,de", "twice"),
        ("STORE_VIEWS", "de/fr", "codes"),
        ("STORE_VIEWS", "de,", "codes"),
        ("STATUS_BIND", "8321", "host:port"),
        ("STATUS_BIND", "h:99999", "host:port"),
        ("IMS_TOKEN_URL", "http://ims.example/token", "unencrypted"),
        ("SYNC_ALERT_WEBHOOK", "hooks.example", "web address"),
        ("WEBHOOK_SECRET", "whsec_no base64!", "whsec_"),
        ("WEBHOOK_SECRET", "whsec_", "whsec_"),
        ("CELERY_BROKER_URL", "sqs://", "redis://"),
        ("SYNC_CA_BUNDLE", "missing.pem", "PEM"),
        ("DATABASE_URL", "oracle://h/db", "none of"),
        ("DATABASE_URL", "postgresql://h/db", "write postgresql+psycopg://"),
        ("DATABASE_URL", "postgres://h/db", "write postgresql+psycopg://"),
        ("DATABASE_URL", "mysql://h/db", "write mysql+pymysql://"),
        ("DATABASE_URL", "sqlite://products.db", "three slashes"),
        ("DATABASE_URL", "sqlite:///:memory:", "names no file"),
        ("DATABASE_URL", "mysql+pymysql://u:p/w@h/db", "two ways"),
    ],
)
def test_a_value_out_of_bounds_is_explained(faults: Faults, name: str, given: str, reason: str) -> None:
    assert reason in faults(**SAAS, **{name: given})[name]


def test_a_ca_bundle_must_hold_certificates(load: Load, faults: Faults) -> None:
    Path("junk.pem").write_text("no certificate")

    assert "PEM" in faults(**SAAS, SYNC_CA_BUNDLE="junk.pem")["SYNC_CA_BUNDLE"]
    assert load(**SAAS, SYNC_CA_BUNDLE=".").sync_ca_bundle == Path()


# --- URLs that can be read in two ways ---------------------------------------------------------

TWO_WAYS = [
    ("DATABASE_URL", "postgresql+psycopg://shop:hunter@2secret@db/pim"),
    ("DATABASE_URL", "postgresql+psycopg://shop:hunter/2secret@db/pim"),
    ("DATABASE_URL", "postgresql+psycopg://shop:12/2secret@db/pim"),
    ("DATABASE_URL", "postgresql+psycopg://shop:12#2secret@db/pim"),
    ("DATABASE_URL", "mysql+pymysql://shop:12?2secret@db/pim"),
    ("DATABASE_URL", "mysql+pymysql://shop:hunter\t2secret@db/pim"),
    ("DATABASE_URL", "mysql+pymysql://shop:hunter[2secret]@db/pim"),
    ("DATABASE_URL", "mysql+pymysql://shop:hunter\u21002secret@db/pim"),
    ("DATABASE_URL", "postgresql+psycopg://db:5432/pim?application_name=hunter@2secret"),
    ("CELERY_BROKER_URL", "amqp://shop:hunter@2secret@queue//"),
    ("CELERY_BROKER_URL", "amqp://shop:hunter;2secret@queue//"),
    ("CELERY_BROKER_URL", "redis://:12/2secret@queue/0"),
    ("CELERY_BROKER_URL", "amqp://queue//;amqp://shop:12#2secret@queue//"),
    ("SYNC_ALERT_WEBHOOK", "https://shop:hunter@2secret@hooks.example/x"),
    ("SYNC_ALERT_WEBHOOK", "https://shop:hunter/2secret@hooks.example/x"),
    ("SYNC_ALERT_WEBHOOK", "https://shop:hunter\\2secret@hooks.example/x"),
    ("SYNC_ALERT_WEBHOOK", "https://shop:hunter[2secret]@hooks.example/x"),
    ("SYNC_ALERT_WEBHOOK", "https://shop:hunter\u21002secret@hooks.example/x"),
    ("API_ENDPOINT", "https://:2secret@shop.example/rest"),
    ("API_ENDPOINT", "https://shop:hunter[2secret]@shop.example/rest"),
    ("IMS_TOKEN_URL", "https://shop:2secret@ims.example/token"),
    ("HTTPS_PROXY", "http://shop:hunter@2secret@proxy:3128"),
    ("HTTPS_PROXY", "shop:hunter@2secret@proxy:3128"),
    ("https_proxy", "http://shop:12/2secret@proxy:3128"),
    ("ALL_PROXY", "http://shop:12#2secret@proxy:3128"),
]


@pytest.mark.parametrize(("name", "url"), TWO_WAYS)
def test_a_url_that_parsers_split_differently_is_refused_by_name(faults: Faults, name: str, url: str) -> None:
    """What was typed is not said again, not even in part."""
    reason = faults(**SAAS | {name: url})[name]

    assert re.search("%40|%5C|%3B|leave", reason)
    assert not any(part in reason for part in ("2secret", "hunter"))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql+psycopg://shop:a:b!$&'()*+,;=~%zz%40é@db/pim?application_name=a@b"),
        ("DATABASE_URL", "mysql+pymysql://shop@server:pass%2Fword@db/pim"),
        ("DATABASE_URL", "sqlite:////srv/a@b:c/copy?.db"),
        ("CELERY_BROKER_URL", "amqp://shop:a:b!$&'()*+,=~@queue//;amqp://shop:c@queue2//"),
        ("SYNC_ALERT_WEBHOOK", "https://shop:a:b!$&'@hooks.example:8443/@team/x?who=a@b#c@d"),
        ("HTTPS_PROXY", "http://shop:a:b%40!$&@proxy:3128"),
    ],
)
def test_a_password_that_every_parser_reads_alike_is_taken(load: Load, name: str, url: str) -> None:
    assert load(**SAAS, **{name: url}).secrets


# --- Files that others may read ----------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that everybody may enter, as they may not enter pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(
    ("mode", "verb"),
    [(0o600, ""), (0o640, ""), (0o644, "read"), (0o444, "read"), (0o620, "write"), (0o602, "write")],
)
def test_a_secret_file_that_others_may_use_is_warned_about_with_the_remedy(
    load: Load, open_folder: Path, mode: int, verb: str
) -> None:
    """The name of the file is not said: people put the secret itself there."""
    secret = open_folder / "p8e-9"
    secret.write_text("p8e-1")
    secret.chmod(mode)

    found = load(**SAAS | {"IMS_CLIENT_SECRET": "", "IMS_CLIENT_SECRET_FILE": str(secret)}).exposed_files

    said = f"IMS_CLIENT_SECRET_FILE: other users may {verb} that file: run chmod 600 on it"
    assert found == ([f"{said}, or chmod 700 on its folder"] if verb else [])


def test_a_file_in_a_folder_that_others_cannot_enter_is_well(load: Load, open_folder: Path) -> None:
    (open_folder / "secret").write_text("p8e-1")
    (open_folder / "secret").chmod(0o666)
    open_folder.chmod(0o700)

    settings = load(**SAAS | {"IMS_CLIENT_SECRET": "", "IMS_CLIENT_SECRET_FILE": str(open_folder / "secret")})

    assert settings.exposed_files == []


def test_an_env_file_is_warned_about_where_it_holds_secrets(
    load: Load, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(open_folder)
    Path(".env").write_text("SYNC_PAGE_SIZE=100\nDATABASE_URL=postgresql+psycopg://shop@db/pim\n")
    Path(".env").chmod(0o644)
    harmless = load(**SAAS).exposed_files
    Path(".env").write_text("DATABASE_URL=postgresql+psycopg://shop:x@db/pim\n")

    assert harmless == []
    assert [line.partition(":")[0] for line in load(**SAAS).exposed_files] == [".env"]


def test_the_files_that_a_table_of_a_tenant_refers_to_are_warned_about(open_folder: Path) -> None:
    for name in ("eu", "shared"):
        (open_folder / name).write_text("p8e-1")
        (open_folder / name).chmod(0o644)
    file = open_folder / "tenants.toml"
    file.write_text(
        '[defaults]\nWEBHOOK_SECRET_FILE = "shared"\n[eu]\nAPI_ENDPOINT = "https://na1.api.commerce.adobe.com/A"\n'
        'IMS_CLIENT_ID = "c"\nIMS_ORG_ID = "o"\nIMS_CLIENT_SECRET = { file = "eu" }\n'
        'DATABASE_URL = "sqlite:///eu.db"\n'
    )
    file.chmod(0o602)

    found = tenants.load(file).settings("eu").exposed_files

    assert [line.partition(": ")[0] for line in found] == [
        str(file),
        "[defaults] WEBHOOK_SECRET_FILE",
        "[eu] IMS_CLIENT_SECRET",
    ]


# --- What is shown -----------------------------------------------------------------------------


def test_describe_names_the_place_of_every_value(load: Load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file")
    Path(".env").write_text(
        f"SYNC_INTERVAL=2h\nIMS_CLIENT_SECRET_FILE={tmp_path / 'secret'}\nSYNC_OVERLAP=1m\n"
    )

    settings = load(**SAAS | {"IMS_CLIENT_SECRET": "", "SYNC_OVERLAP": "5m", "SYNC_MAX_LAG": " "})

    shown = {name: (value, source) for name, value, source in describe(settings)}
    assert shown["SYNC_INTERVAL"] == ("2h", ".env")
    assert shown["SYNC_OVERLAP"] == ("5m", "environment")
    assert shown["SYNC_MAX_LAG"] == ("1h", "default")
    assert shown["IMS_CLIENT_SECRET"] == ("**********", "file")
    assert shown["STATUS_TOKEN"] == ("", "default")
    assert [*shown] == [name.upper() for name in Settings.model_fields]


def test_what_is_shown_means_the_same_when_read_again(load: Load) -> None:
    variables = SAAS | {
        "SYNC_QUIET_HOURS": "22:00-06:30@0.5",
        "SYNC_RECONCILE_CRON": "0 3 * * 7",
        "SYNC_TIMEZONE": "Europe/Berlin",
        "SYNC_STOCK_INTERVAL": "off",
        "SYNC_OVERLAP": "90s",
        "STORE_VIEWS": "de,fr",
        "STATUS_BIND": "[::1]:80",
    }
    first = load(**variables)

    again = load(**{name: value for name, value, _ in describe(first) if value and "**" not in value})

    assert again == first


def test_no_secret_is_ever_shown(load: Load) -> None:
    settings = load(
        **PAAS | OAUTH1,
        DATABASE_URL="mysql+pymysql://u:db-secret@h/db?ssl_key_password=key-secret",
        CELERY_BROKER_URL="amqp://u:queue-secret@h//;amqp://u:second-secret@h2//",
        SYNC_ALERT_WEBHOOK="https://hooks.example/T0/path-secret",
        STATUS_TOKEN="page-secret",
        STATUS_PASSWORD="login-secret",
    )

    for text in (str(describe(settings)), repr(settings), str(settings.model_dump_json())):
        assert "secret" not in text.replace("_SECRET", "").replace("_secret", "")
        assert "paas-token" not in text
    assert "mysql+pymysql://***@h/db?ssl_key_password=***" in str(describe(settings))
    assert "https://hooks.example/***" in str(describe(settings))


def test_the_secrets_for_the_log_include_passwords_inside_urls(load: Load) -> None:
    settings = load(**SAAS, DATABASE_URL="postgresql+psycopg://u:db-secret@h/db")

    assert settings.secrets == ["ims-secret", "postgresql+psycopg://u:db-secret@h/db", "db-secret"]


def test_a_database_url_without_password_is_no_secret(load: Load) -> None:
    assert load(**SAAS).secrets == ["ims-secret"]


@pytest.mark.parametrize("name", ["IMS_CLIENT_SECRET", "IMS_CLIENT_ID", "IMS_ORG_ID"])
@pytest.mark.parametrize("sign", ["\u200b", "\u00a0", "\u201c", "\x01", "ï", "\n", " "])
def test_a_credential_with_a_sign_that_none_has_is_refused_by_name(
    faults: Faults, name: str, sign: str
) -> None:
    """A no-break space, a typographic quote, an invisible sign: what copying from a document brings along."""
    fault = faults(**SAAS | {name: f"mistyped{sign}def"})[name]

    assert "copy it as plain text" in fault
    assert "mistyped" not in fault


def test_a_byte_order_mark_before_a_value_is_dropped(load: Load) -> None:
    Path("secret").write_text("\ufeffp8e-from-a-file\n", encoding="utf-8")

    settings = load(**SAAS | {"IMS_CLIENT_SECRET": "\ufeffp8e-1"})
    from_file = load(**SAAS | {"IMS_CLIENT_SECRET": "", "IMS_CLIENT_SECRET_FILE": "secret"})

    assert settings.ims_client_secret == SecretStr("p8e-1")
    assert from_file.ims_client_secret == SecretStr("p8e-from-a-file")


@pytest.mark.parametrize("host", ["shop..example", f"{'a' * 64}.example", ".example"])
def test_a_host_name_that_no_network_can_look_up_is_refused(faults: Faults, host: str) -> None:
    assert "host name" in faults(**PAAS | {"API_ENDPOINT": f"https://{host}/rest"})["API_ENDPOINT"]
