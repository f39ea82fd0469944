"""A file of tenants: where each value comes from, what is refused, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from sync.errors import SettingsError, UsageError
from sync.settings import CopySettings, describe
from sync.settings.tenants import Tenants, load

EU = """
[eu]
API_ENDPOINT = "https://na1.api.commerce.adobe.com/Eu123"
IMS_CLIENT_ID = "eu-client"
IMS_CLIENT_SECRET = { file = "secrets/eu" }
IMS_ORG_ID = "0AB@AdobeOrg"
DATABASE_URL = "sqlite:///eu.db"
"""

Read = Callable[[str], Tenants]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a file of tenants, beside the secret that `EU` refers to, and read it."""
    folder = tmp_path / "etc"
    (folder / "secrets").mkdir(parents=True)
    (folder / "secrets/eu").write_text("eu-secret\n")

    def read(content: str) -> Tenants:
        (folder / "tenants.toml").write_text(content)
        return load(folder / "tenants.toml")

    return read


def faults(tenants: Tenants, name: str) -> dict[str, str]:
    """What is wrong with a tenant, by setting."""
    with pytest.raises(SettingsError) as caught:
        tenants.settings(name)
    return dict(line.split(": ", 1) for line in str(caught.value).splitlines())


def faults_of_file(read: Read, content: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(content)
    return str(caught.value)


# --- where a value comes from ------------------------------------------------------------------


def test_a_table_goes_before_defaults_before_the_environment_before_env_file(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text("SYNC_CONCURRENCY=2\nSYNC_PAGE_SIZE=20\nSYNC_OVERLAP=1m\nSYNC_MAX_LAG=1m\n")
    monkeypatch.setenv("SYNC_PAGE_SIZE", "30")
    monkeypatch.setenv("SYNC_OVERLAP", "2m")
    monkeypatch.setenv("SYNC_MAX_LAG", "2m")

    settings = read(
        f'[defaults]\nSYNC_OVERLAP = "3m"\nSYNC_MAX_LAG = "3m"\n{EU}SYNC_MAX_LAG = "4m"\n'
    ).settings("eu")

    assert (settings.sync_concurrency, settings.sync_page_size) == (2, 30)
    assert (settings.sync_overlap, settings.sync_max_lag) == (180, 240)


def test_numbers_may_stand_without_quotes(read: Read) -> None:
    settings = read(f"{EU}SYNC_PAGE_SIZE = 50\nSYNC_MAX_RPS = 0.5\n").settings("eu")

    assert (settings.sync_page_size, settings.sync_max_rps) == (50, 0.5)


def test_a_secret_comes_from_a_file_beside_the_file_of_tenants(read: Read) -> None:
    """The working directory is another one."""
    for how in ('IMS_CLIENT_SECRET = { file = "secrets/eu" }', 'IMS_CLIENT_SECRET_FILE = "secrets/eu"'):
        settings = read(EU.replace('IMS_CLIENT_SECRET = { file = "secrets/eu" }', how)).settings("eu")
        assert settings.ims_client_secret is not None
        assert settings.ims_client_secret.get_secret_value() == "eu-secret"


def test_a_byte_order_mark_before_the_file_or_a_value_is_dropped(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc/secrets/eu").write_text("\ufeffeu-secret\n", encoding="utf-8")
    monkeypatch.setenv("ORG", "\ufeff0AB@AdobeOrg")

    settings = read("\ufeff" + EU.replace('"0AB@AdobeOrg"', '{ env = "ORG" }')).settings("eu")

    assert settings.ims_client_secret == SecretStr("eu-secret")
    assert settings.ims_org_id == "0AB@AdobeOrg"


def test_a_value_comes_from_a_variable_of_any_name(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COPY_OF_EU", "postgresql+psycopg://sync:hunter2@db/eu")

    settings = read(EU.replace('"sqlite:///eu.db"', '{ env = "COPY_OF_EU" }')).settings("eu")

    assert settings.database_url.get_secret_value().endswith("@db/eu")
    assert "hunter2" in settings.secrets


def test_a_table_unsets_what_defaults_or_the_environment_set(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PaaS tenant among SaaS ones takes none of their credential."""
    monkeypatch.setenv("INTEGRATION", "a-token")
    paas = """
    [paas]
    API_ENDPOINT = "https://shop.example/rest"
    COMMERCE_ACCESS_TOKEN = { env = "INTEGRATION" }
    IMS_ORG_ID = ""
    DATABASE_URL = "sqlite:///paas.db"
    """

    tenants = read(f'[defaults]\nIMS_ORG_ID = "0AB@AdobeOrg"\n{EU}{paas}')

    assert tenants.settings("eu").ims_org_id == "0AB@AdobeOrg"
    assert tenants.settings("paas").ims_org_id is None


def test_where_the_copy_is_all_that_is_needed_no_credential_is(read: Read) -> None:
    settings = read('[eu]\nDATABASE_URL = "sqlite:///eu.db"\n').settings_as(CopySettings, "eu")

    assert settings.database_url.get_secret_value() == "sqlite:///eu.db"


def test_what_is_in_force_names_the_file_of_tenants_as_its_source(read: Read) -> None:
    sources = {shown.name: shown.source for shown in describe(read(EU).settings("eu"))}

    assert (sources["IMS_CLIENT_ID"], sources["SYNC_INTERVAL"]) == ("tenants", "default")


def test_settings_read_themselves_again_from_the_file_and_the_secrets_of_now(read: Read) -> None:
    tenants = read(EU)
    settings = tenants.settings("eu")
    assert settings.again() == settings

    (tenants.path.parent / "secrets/eu").write_text("exchanged")
    read(f"{EU}SYNC_PAGE_SIZE = 50\n")

    now = settings.again()
    assert (now.sync_page_size, "exchanged" in now.secrets, "eu-secret" in now.secrets) == (50, True, False)


def test_settings_of_a_tenant_that_left_the_file_cannot_be_read_again(read: Read) -> None:
    settings = read(EU).settings("eu")
    read(EU.replace("[eu]", "[us]"))

    with pytest.raises(SettingsError, match="has no tenant eu"):
        settings.again()


def test_how_they_share_a_process_stands_above_the_tables(read: Read) -> None:
    given, default = read(f'at_once = 8\nturn = "90s"\n{EU}'), read(EU)

    assert (given.at_once, given.turn_s) == (8, 90)
    assert (default.at_once, default.turn_s) == (4, 300)


# --- what is wrong with one tenant -------------------------------------------------------------


def test_every_fault_of_a_tenant_is_told_and_the_others_are_served(read: Read) -> None:
    wrong = """
    [wrong]
    API_ENDPOINT = "https://na1.api.commerce.adobe.com/Wrong123"
    IMS_CLIENT_ID = "client"
    IMS_CLIENT_SECRET = { env = "NOT_THERE" }
    IMS_ORG_ID = { file = "nowhere" }
    DATABASE_URL = "sqlite:///wrong.db"
    SYNC_INTERVALL = "5m"
    store_views = "de"
    SYNC_PAGE_SIZE = "many"
    SYNC_CONCURRENCY = true
    STORE_VIEWS = ["de", "fr"]
    STATUS_BIND = "127.0.0.1:1"
    SYNC_MAX_LAG = { env = "A", file = "b" }
    SYNC_CA_BUNDLE_FILE = 1
    """

    tenants = read(EU + wrong)

    assert tenants.settings("eu").ims_client_id == "eu-client"
    told = faults(tenants, "wrong")
    assert "not set, or blank" in told["IMS_CLIENT_SECRET"]
    assert "No such file" in told["IMS_ORG_ID"]
    assert "nowhere" not in told["IMS_ORG_ID"]
    assert told["SYNC_INTERVALL"] == "is no setting: did you mean SYNC_INTERVAL?"
    assert told["SYNC_PAGE_SIZE"].endswith("example: SYNC_PAGE_SIZE=300")
    assert "neither text nor a number" in told["SYNC_CONCURRENCY"]
    assert "one text, with commas" in told["STORE_VIEWS"]
    assert "for the whole process" in told["STATUS_BIND"]
    assert "refers to nothing" in told["SYNC_MAX_LAG"]
    assert "names no file" in told["SYNC_CA_BUNDLE"]


@pytest.mark.parametrize(
    ("setting", "secret"),
    [
        ("IMS_CLIENT_SECRET", "p8e-plain"),
        ("SYNC_ALERT_WEBHOOK", "https://hooks.example/plain"),
        ("WEBHOOK_SECRET", "plain"),
        ("DATABASE_URL", "postgresql+psycopg://sync:plain@db/eu"),
        ("DATABASE_URL", "mysql+pymysql://db/eu?ssl_key_password=plain"),
    ],
)
def test_a_secret_in_plain_text_is_refused_and_not_repeated(read: Read, setting: str, secret: str) -> None:
    table = "\n".join(line for line in EU.splitlines() if not line.startswith(setting))

    told = faults(read(f'{table}\n{setting} = "{secret}"\n'), "eu")

    assert "in plain text" in told[setting]
    assert "plain" not in str(told).replace("in plain text", "")


def test_a_database_without_a_password_may_stand_there(read: Read) -> None:
    """PostgreSQL takes it from ~/.pgpass, or needs none."""
    url = "postgresql+psycopg://sync@db/products?options=-csearch_path=eu"

    settings = read(EU.replace("sqlite:///eu.db", url)).settings("eu")

    assert settings.database_url.get_secret_value() == url


@pytest.mark.parametrize("order", [1, -1])
def test_a_setting_is_given_by_value_or_by_file_not_both(read: Read, order: int) -> None:
    both = ['IMS_CLIENT_SECRET = { env = "HOME" }', 'IMS_CLIENT_SECRET_FILE = "secrets/eu"'][::order]
    content = EU.replace('IMS_CLIENT_SECRET = { file = "secrets/eu" }', "\n".join(both))

    assert "keep one of them" in faults(read(content), "eu")["IMS_CLIENT_SECRET"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sqlite:///eu.db", "sqlite:///./eu.db"),
        ("postgresql+psycopg://a@db/pim", "postgresql+psycopg://b@DB:5432/pim?connect_timeout=3"),
        (
            "postgresql+psycopg://db/pim?options=-csearch_path=eu,public",
            "postgresql+psycopg://db/pim?options=-c%20search_path%3Deu",
        ),
        ("mysql+pymysql://db/pim", "mysql+pymysql://sync@db:3306/pim"),
        ("mysql+pymysql://localhost/pim", "mysql+pymysql://127.0.0.1:3306/p%69m?charset=utf8mb4"),
        (
            "postgresql+psycopg://db/pim?options=-csearch_path=Shop",
            "postgresql+psycopg://db/pim?options=--search-path%3Dshop",
        ),
        (
            "postgresql+psycopg://db/pim?options=-csearch_path=%22shop%22",
            "postgresql+psycopg://db/pim?options=-csearch_path=a%20-csearch_path=shop",
        ),
        (
            "postgresql+psycopg://db/pim",
            "postgresql+psycopg://db./pim?options=-csearch_path=%22$user%22,public",
        ),
        ("postgresql+psycopg:///pim", "postgresql+psycopg://[::1]:5432/pim?options=-csearch_path=public"),
        ("postgresql+psycopg:///pim?host=/var/run/postgresql", "postgresql+psycopg://LOCALHOST/pim"),
        ("postgresql+psycopg://sync@db", "postgresql+psycopg://other@db/sync"),
        ("postgresql+psycopg://nowhere/pim?host=db&port=5433", "postgresql+psycopg://db:5433/pim"),
    ],
)
def test_two_tenants_at_one_database_are_both_refused(read: Read, one: str, other: str) -> None:
    """Nobody can tell whose it is."""
    tenants = read(
        EU.replace("sqlite:///eu.db", one) + EU.replace("sqlite:///eu.db", other).replace("[eu]", "[us]")
    )

    assert "that of us" in faults(tenants, "eu")["DATABASE_URL"]
    assert "that of eu" in faults(tenants, "us")["DATABASE_URL"]


def test_a_file_under_two_names_is_one_place(read: Read, tmp_path: Path) -> None:
    """By a symbolic link, a hard link, a way around, and as a link to a file that is yet to be made."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "eu.db").touch()
    (tmp_path / "soft.db").symlink_to("eu.db")
    (tmp_path / "hard.db").hardlink_to(tmp_path / "eu.db")
    (tmp_path / "early.db").symlink_to("late.db")

    for one, other in (
        ("eu.db", "soft.db"),
        ("eu.db", "hard.db"),
        ("eu.db", "deep/../%65u.db"),
        ("eu.db", "file:eu.db?uri=true"),
        ("eu.db", f"/{tmp_path}/eu.db?timeout=9"),
        ("early.db", "late.db"),
    ):
        tenants = read(EU.replace("eu.db", one) + EU.replace("eu.db", other).replace("[eu]", "[us]"))

        assert "that of us" in faults(tenants, "eu")["DATABASE_URL"], other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "postgresql+psycopg://db/pim?options=-csearch_path=shop",
            "postgresql+psycopg://db/pim?options=-csearch_path=%22Shop%22",
        ),
        ("postgresql+psycopg:///pim?host=/srv/a", "postgresql+psycopg:///pim?host=/srv/b"),
        ("postgresql+psycopg://db/pim", "postgresql+psycopg://db:5433/pim"),
        ("mysql+pymysql://db/pim", "mysql+pymysql://db/Pim"),
    ],
)
def test_places_that_differ_hold_a_tenant_each(read: Read, one: str, other: str) -> None:
    tenants = read(
        EU.replace("sqlite:///eu.db", one) + EU.replace("sqlite:///eu.db", other).replace("[eu]", "[us]")
    )

    assert tenants.settings("eu").database_url != tenants.settings("us").database_url


def test_schemas_of_one_database_hold_a_tenant_each(read: Read) -> None:
    url = "postgresql+psycopg://db/products?options=-csearch_path="
    both = EU.replace("sqlite:///eu.db", f"{url}eu")
    both += EU.replace("sqlite:///eu.db", f"{url}us").replace("[eu]", "[us]")

    assert {read(both).settings(name).database_url.get_secret_value()[-2:] for name in ("eu", "us")} == {
        "eu",
        "us",
    }


def test_the_database_of_the_environment_is_nobodys(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///shared.db")

    told = faults(read(EU.replace('DATABASE_URL = "sqlite:///eu.db"', "")), "eu")

    assert "each tenant has a database" in told["DATABASE_URL"]


def test_a_database_that_cannot_be_read_is_told_by_the_settings(read: Read) -> None:
    told = faults(read(EU.replace("sqlite:///eu.db", "postgresql+psycopg://db:port/x")), "eu")

    assert "no number for its port" in told["DATABASE_URL"]


def test_the_remedy_names_the_table_and_the_file(read: Read) -> None:
    with pytest.raises(SettingsError) as caught:
        read("[eu]\n").settings("eu")

    assert "[eu] in " in caught.value.fix
    assert "tenants.toml" in caught.value.fix


def test_an_unknown_name_is_answered_with_the_known_ones(read: Read) -> None:
    with pytest.raises(UsageError) as caught:
        read(EU).settings("fr")

    assert "eu" in caught.value.fix


# --- what is wrong with the file ---------------------------------------------------------------


def test_every_fault_of_the_file_is_told(read: Read) -> None:
    told = faults_of_file(
        read,
        'at_once = 0\nturn = 5\nSYNC_INTERVAL = "5m"\n[defaults]\nDATABASE_URL = "sqlite:///x.db"\n'
        'IMS_CLIENT_SECRET = "plain-secret"\n[EU]\n',
    )

    assert "at_once: is no whole number" in told
    assert "turn: is no duration" in told
    assert "SYNC_INTERVAL: stands outside a table" in told
    assert "[defaults] DATABASE_URL: is each tenant's own" in told
    assert "[defaults] IMS_CLIENT_SECRET: stands there in plain text" in told
    assert "[EU]: is no name" in told
    assert "plain-secret" not in told


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no tenant"),
        ("[defaults]\n", "no tenant"),
        ("[eu\n", "is no TOML"),
        ("at_once = true", "at_once"),
    ],
)
def test_a_file_without_tenants_is_refused(read: Read, content: str, reason: str) -> None:
    assert reason in faults_of_file(read, content)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tenants\.toml cannot be read: No such file"):
        load(tmp_path / "tenants.toml")


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "tenants.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(SettingsError, match="UTF-8"):
        load(tmp_path / "tenants.toml")


def test_a_default_that_cannot_be_had_is_the_fault_of_those_who_need_it(read: Read) -> None:
    own = EU.replace("[eu]", "[us]").replace("eu.db", "us.db").replace('IMS_ORG_ID = "0AB@AdobeOrg"\n', "")

    tenants = read(f'[defaults]\nIMS_ORG_ID = {{ env = "NOT_THERE" }}\n{EU}{own}')

    assert tenants.settings("eu").ims_org_id == "0AB@AdobeOrg"
    assert "not set, or blank" in faults(tenants, "us")["IMS_ORG_ID"]
