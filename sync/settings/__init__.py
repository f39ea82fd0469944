"""Every setting: its name, default, meaning and validation.

A setting comes from the environment, else from `.env` in the working directory. If `NAME` is in neither,
`NAME_FILE` can name a file with the value, which is meant for secrets. A file of many tenants (`tenants.py`)
has priority over all of these. The field `sync_interval` is the variable `SYNC_INTERVAL`: there is no second
list of names. Only `tenants.py`, `app.py` and the layers above import this file; below, functions take plain
values.

The class is the documentation of the variables; `.env.example` repeats it, and a test compares the two.
`parsers.py` defines how each value is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, tzinfo
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol, Self, TypeVar
from urllib.request import getproxies

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sync.errors import SettingsError
from sync.settings.cron import parse_crontab
from sync.settings.parsers import (
    Address,
    QuietPeriod,
    has_password,
    is_saas,
    lacks_rest,
    mask_url,
    mask_webhook,
    parse_api_endpoint,
    parse_broker_url,
    parse_ca_bundle,
    parse_credential,
    parse_database_url,
    parse_duration,
    parse_event_codes,
    parse_host_names,
    parse_https_url,
    parse_password,
    parse_proxy,
    parse_scopes,
    parse_store_views,
    parse_time_zone,
    parse_webhook,
    parse_webhook_secret,
    read_secret,
    secrets_in,
    show_duration,
    trimmed,
    unless_off,
)

MINUTE, HOUR = 60.0, 3600.0
SCOPES = (
    "openid,AdobeID,email,profile,additional_info.roles,additional_info.projectedProductContext,commerce.accs"
)
EVENTS_SCOPES = (
    "AdobeID,openid,read_organizations,additional_info.projectedProductContext,additional_info.roles,"
    "adobeio_api,read_client_secret,manage_client_secrets"
)
IMS = ("ims_client_id", "ims_client_secret", "ims_org_id")
EVENTS = {
    "events_client_id": "ims_client_id",
    "events_client_secret": "ims_client_secret",
    "events_ims_org_id": "ims_org_id",
}
OAUTH1 = (
    "commerce_consumer_key",
    "commerce_consumer_secret",
    "commerce_access_token",
    "commerce_access_token_secret",
)
# Settings of the process, for all its tenants: they belong in the environment, not in a tenant's table.
OF_THE_PROCESS = (
    "status_bind",
    "status_hosts",
    "status_token",
    "status_password",
    "celery_broker_url",
    "log_format",
    "log_level",
)
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
AnySettings = TypeVar("AnySettings", bound="Settings")

# Validated types: how a value is parsed, its type, and how it is shown.
ApiEndpoint = Annotated[str, BeforeValidator(parse_api_endpoint)]
HttpsUrl = Annotated[str, BeforeValidator(parse_https_url)]
HttpsUrlOrNone = Annotated[str | None, BeforeValidator(parse_https_url)]
EventCodes = Annotated[
    tuple[tuple[str, str], ...],
    BeforeValidator(parse_event_codes),
    PlainSerializer(lambda codes: ",".join(map("=".join, codes))),
]
Scopes = Annotated[str, BeforeValidator(parse_scopes)]
Credential = Annotated[str | None, BeforeValidator(parse_credential)]
SecretCredential = Annotated[SecretStr | None, BeforeValidator(parse_credential)]
StoreViews = Annotated[tuple[str, ...], BeforeValidator(parse_store_views), PlainSerializer(",".join)]
DatabaseUrl = Annotated[SecretStr, BeforeValidator(parse_database_url), PlainSerializer(mask_url)]
BrokerUrl = Annotated[SecretStr | None, BeforeValidator(parse_broker_url), PlainSerializer(mask_url)]
Webhook = Annotated[SecretStr | None, BeforeValidator(parse_webhook), PlainSerializer(mask_webhook)]
Password = Annotated[SecretStr | None, BeforeValidator(parse_password)]
WebhookSecret = Annotated[SecretStr | None, BeforeValidator(parse_webhook_secret)]
Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(show_duration)]
DurationOrOff = Annotated[
    float | None, BeforeValidator(unless_off(parse_duration)), PlainSerializer(show_duration)
]
KeepFor = Annotated[
    float | None,
    BeforeValidator(lambda text: None if text == "forever" else parse_duration(text)),
    PlainSerializer(lambda it: None if it is None else show_duration(it)),
]
CronOrOff = Annotated[
    str | None, BeforeValidator(unless_off(parse_crontab)), PlainSerializer(lambda text: text or "off")
]
TimeZone = Annotated[tzinfo, BeforeValidator(parse_time_zone), PlainSerializer(str)]
Quiet = Annotated[
    QuietPeriod | None,
    BeforeValidator(QuietPeriod.parse),
    PlainSerializer(lambda it: it and str(it)),
]
AddressOrOff = Annotated[
    Address | None,
    BeforeValidator(unless_off(Address.parse)),
    PlainSerializer(lambda address: str(address or "off")),
]
HostNames = Annotated[tuple[str, ...], BeforeValidator(parse_host_names), PlainSerializer(",".join)]
CaBundle = Annotated[Path | None, BeforeValidator(parse_ca_bundle)]
LogFormat = Annotated[Literal["console", "json"] | None, BeforeValidator(str.lower)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)]


class Origin(Protocol):
    """A source of settings besides the environment; two are equal if they are the same place."""

    def load(self, kind: type[AnySettings]) -> AnySettings:
        """Read them again. Raises SettingsError."""

    def secret_files(self) -> dict[str, Path]:
        """The files that contain secrets or refer to them, by the setting that names them."""


class Settings(BaseSettings):
    """The settings in force, from `load`. Durations are seconds; None means `off` or not set."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        enable_decoding=False,
        extra="ignore",
        frozen=True,
        validate_default=False,
    )

    # The tenant. A default is also the example; a field without one has `examples`.
    api_endpoint: ApiEndpoint = Field(
        description="the REST base URL: https://<region>.api.commerce.adobe.com/<tenant-id> or https://<host>/rest",
        examples=["https://na1.api.commerce.adobe.com/AbCdEfGh1234567890", "https://shop.example.com/rest"],
    )
    ims_client_id: Credential = Field(
        None,
        description="SaaS: client id of the OAuth server-to-server credential",
        examples=["0123456789abcdef0123456789abcdef"],
    )
    ims_client_secret: SecretCredential = Field(
        None, description="SaaS: one of its client secrets", examples=["p8e-..."]
    )
    ims_org_id: Credential = Field(
        None, description="SaaS: id of the IMS organization", examples=["0123456789ABCDEF01234567@AdobeOrg"]
    )
    ims_token_url: HttpsUrl = Field(
        "https://ims-na1.adobelogin.com/ims/token/v3", description="SaaS: URL that issues tokens"
    )
    ims_scopes: Scopes = Field(SCOPES, description="SaaS: the scopes of a token")
    commerce_access_token: SecretCredential = Field(
        None, description="PaaS: access token of an integration; alone it is sent as Bearer", examples=["..."]
    )
    commerce_consumer_key: Credential = Field(
        None, description="PaaS: with the next two, requests are signed (OAuth 1.0a)", examples=["..."]
    )
    commerce_consumer_secret: SecretCredential = Field(
        None, description="PaaS: consumer secret of the integration", examples=["..."]
    )
    commerce_access_token_secret: SecretCredential = Field(
        None, description="PaaS: access token secret of the integration", examples=["..."]
    )
    store_views: StoreViews = Field(
        ("all",), description="store view codes, separated by commas; all is the admin scope"
    )

    # The copy.
    database_url: DatabaseUrl = Field(
        SecretStr("sqlite:///products.db"),
        description="where the copy is kept: sqlite:///, postgresql+psycopg:// or mysql+pymysql://",
    )

    # How requests are made.
    sync_page_size: int = Field(300, ge=1, le=10_000, description="first page size; it adapts automatically")
    sync_concurrency: int = Field(4, ge=1, le=64, description="most requests in flight")
    sync_max_rps: float | None = Field(
        None,
        ge=0.001,
        allow_inf_nan=False,
        description="most requests per second; the rate below it adapts automatically",
        examples=["10"],
    )
    sync_quiet_hours: Quiet = Field(
        None,
        description="hours with a lower ceiling: from-to@requests-per-second, in SYNC_TIMEZONE",
        examples=["08:00-20:00@0.5"],
    )
    sync_max_retry_time: Duration = Field(
        15 * MINUTE,
        description="how long a request is retried before the run ends; requests that all fail share it",
    )
    sync_ca_bundle: CaBundle = Field(
        None, description="a private CA's certificates, PEM", examples=["/etc/ssl/certs/private-ca.pem"]
    )

    # When the daemon does what.
    sync_interval: Duration = Field(15 * MINUTE, description="how often changes are read")
    sync_reconcile_cron: CronOrOff = Field(
        "0 3 * * *", description="when the copy is compared with the whole catalogue; cron syntax, or off"
    )
    sync_prices_interval: DurationOrOff = Field(
        HOUR,
        description="how often the price feeds are read, or off; "
        "costs and tier prices up to four times less often while they do not change",
    )
    sync_stock_interval: DurationOrOff = Field(15 * MINUTE, description="how often stock is read, or off")
    sync_reference_cron: CronOrOff = Field(
        "30 2 * * *",
        description="when attributes, categories and store views are refreshed; cron syntax, or off",
    )
    sync_timezone: TimeZone = Field(UTC, description="the time zone of the cron settings and quiet hours")

    # What a pass may do, and what is worth an alert.
    sync_overlap: Duration = Field(10 * MINUTE, description="how far a run reads back before the watermark")
    sync_max_delete_fraction: float = Field(
        0.2, ge=0, le=1, description="a larger share of deletions is held back: 0 to 1"
    )
    sync_changes_keep: KeepFor = Field(
        None,
        description="how long entries of product_changes are kept, at least until every webhook has them;"
        " not set, forever",
        examples=["90d"],
    )
    sync_max_lag: Duration = Field(HOUR, description="a feed older than this is stale")
    sync_alert_webhook: Webhook = Field(
        None,
        description="gets a message when a feed goes stale or fails",
        examples=["https://hooks.example/..."],
    )
    webhook_secret: WebhookSecret = Field(
        None,
        description="signs what `product-sync changes --webhook` posts: whsec_ and base64, or any text",
        examples=["whsec_..."],
    )

    # Adobe I/O Events.
    events_journal_url: HttpsUrlOrNone = Field(
        None,
        description="journal of Adobe I/O Events to follow: changes arrive within seconds",
        examples=["https://events-va6.adobe.io/events/organizations/1/integrations/2/3"],
    )
    events_client_id: Credential = Field(
        None,
        description="credential of the journal, if not that of IMS_CLIENT_ID",
        examples=["0123456789abcdef0123456789abcdef"],
    )
    events_client_secret: SecretCredential = Field(
        None, description="one of its client secrets, if not IMS_CLIENT_SECRET", examples=["p8e-..."]
    )
    events_ims_org_id: Credential = Field(
        None,
        description="its IMS organization, if not IMS_ORG_ID",
        examples=["0123456789ABCDEF01234567@AdobeOrg"],
    )
    events_scopes: Scopes = Field(EVENTS_SCOPES, description="the scopes of its token")
    events_source: str | None = Field(
        None,
        description="only events of this Commerce instance, where several share a journal",
        examples=["merchant.production"],
    )
    events_codes: EventCodes = Field(
        (),
        description="what event codes mean: code=product-save, product-delete or stock, separated by commas",
        examples=["com.adobe.commerce.productdelete=product-delete"],
    )

    # The status page, the log, the queue.
    status_bind: AddressOrOff = Field(
        Address("127.0.0.1", 8321), description="where the daemon's status page listens, or off"
    )
    status_hosts: HostNames = Field(
        (),
        description="host names the status page answers to, besides localhost and the machine's own",
        examples=["sync.example.com"],
    )
    status_token: SecretCredential = Field(
        None, description='bearer token that allows the page\'s "run now"', examples=["..."]
    )
    status_password: Password = Field(
        None,
        description="password that the status page asks for, 8 characters or more; not set, it asks for none",
        examples=["..."],
    )
    celery_broker_url: BrokerUrl = Field(
        None,
        description="queue for --executor celery: RabbitMQ or Redis",
        examples=["redis://127.0.0.1:6379/0"],
    )
    log_format: LogFormat = Field(
        None, description="console or json; not set, console on a terminal, else json", examples=["json"]
    )
    log_level: LogLevel = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")

    _origin: Origin | None = PrivateAttr(None)
    _given: frozenset[str] = PrivateAttr(frozenset())

    @classmethod
    def load(cls, given: Mapping[str, Any] = NOTHING, origin: Origin | None = None) -> Self:
        """Read and validate every setting; SettingsError reports all faults, not only the first.

        given     texts by the names of fields, with priority over the environment; a ValueError instead of a
                  text is a fault found earlier
        origin    the source of `given`, for `again`
        """
        known = {name: fault for name, fault in given.items() if isinstance(fault, ValueError)}
        faults = [f"{name.upper()}: {fault}" for name, fault in known.items()]
        faults += [fault for fault in _proxy_faults() if fault.partition(":")[0].lower() not in given]
        try:
            made = cls(**given)
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False)
            faults += [_line(it) for it in found if it["loc"][0] not in known]
        except (OSError, UnicodeDecodeError):
            raise SettingsError(".env in the working directory cannot be read as UTF-8 text.") from None
        if faults:
            named = dict(fault.split(": ", 1) for fault in faults)
            raise SettingsError("\n".join([*faults, *unknown_variables()]), faults=named)
        made._origin, made._given = origin, frozenset(given)
        return made

    def again(self) -> Self:
        """Read the settings again from the same sources. Raises SettingsError."""
        return type(self).load() if self._origin is None else self._origin.load(type(self))

    @property
    def is_saas(self) -> bool:
        """Whether the tenant is Adobe's SaaS (a `Store` header), not PaaS (the store view in the path)."""
        return is_saas(self.api_endpoint)

    @property
    def secrets(self) -> list[str]:
        """Every masked value, and the passwords inside: no log may contain them."""
        shown = self.model_dump(mode="json")
        hidden = [
            value.get_secret_value()
            for name, value in self
            if isinstance(value, SecretStr) and shown[name] != value.get_secret_value()
        ]
        proxies = [proxy for proxy in getproxies().values() if "@" in proxy]
        hidden += [proxy if "://" in proxy else f"http://{proxy}" for proxy in proxies]
        each = [url for text in hidden for url in re.split(r";(?=\w+://)", text)]  # of several brokers
        return [it for text in each for it in (secrets_in(text) if "://" in text else [text])]

    @property
    def exposed_files(self) -> list[str]:
        """A warning for each file with secrets that others may read or write."""
        files = _secret_files() | (self._origin.secret_files() if self._origin else {})
        return [
            f"{name}: other users may {verb} that file: run chmod 600 on it, or chmod 700 on its folder"
            for name, path in files.items()
            if (verb := exposure(path))
        ]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, *_sources().values()

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Drop blank values; replace missing or superfluous credentials by faults."""
        given = _not_blank(values)
        return given | _credential_faults(given) | _events_faults(given)

    @field_validator("*", mode="before")
    @classmethod
    def _report_fault(cls, value: object) -> object:
        """Raise a fault found earlier, so that all faults are reported together."""
        if isinstance(value, ValueError):
            raise value
        return value


class CopySettings(Settings):
    """The settings of a command that only reads the copy: they need no tenant."""

    api_endpoint: ApiEndpoint = ""

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, values: dict[str, Any]) -> dict[str, Any]:
        return _not_blank(values)


class FileSource(PydanticBaseSettingsSource):
    """Reads `NAME_FILE` instead of `NAME`: container platforms provide secrets as files."""

    def __init__(self, given: Mapping[str, str | None]) -> None:
        super().__init__(Settings)
        self.given = {name: _trimmed(text) for name, text in given.items()}

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in Settings.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The file's text, a fault that `_report_fault` raises, or None."""
        path = self.given.get(f"{field_name}_file")
        value = self._read(field_name.upper(), path, self.given.get(field_name)) if path else None
        return value, field_name, False

    def _read(self, name: str, path: str, rival: str | None) -> str | ValueError:
        if rival:
            return ValueError(f"is set, and {name}_FILE too: keep one of them")
        file = f"the file that {name}_FILE names"  # not the path: people put the secret itself there
        try:
            return read_secret(Path(path)) or ValueError(f"is empty in {file}")
        except OSError as error:
            return ValueError(f"cannot be read from {file}: {error.strerror}")
        except UnicodeDecodeError:
            return ValueError(f"cannot be read from {file}: it is not text")


def _sources() -> dict[str, PydanticBaseSettingsSource]:
    """The sources of settings; the first one that has a value wins."""
    environment, dotenv = EnvSettingsSource(Settings), DotEnvSettingsSource(Settings)
    files = FileSource({**dotenv.env_vars, **environment.env_vars})
    return {"file": files, "environment": environment, ".env": dotenv}


def _proxy_faults() -> list[str]:
    """The faults of the proxies in the environment, as lines of a SettingsError."""
    faults = []
    for scheme, url in getproxies().items():
        try:
            parse_proxy(url if scheme in ("http", "https", "all") else "")
        except ValueError as fault:
            name = f"{scheme}_proxy"
            faults.append(f"{name if name in os.environ else name.upper()}: {fault}")
    return faults


def exposure(path: Path) -> str:
    """What other users may do with a file: `write`, `read`, or blank for nothing.

    Blank if they cannot enter one of its folders. Being readable is allowed on a read-only mount: container
    platforms mount secrets with mode 0444.
    """
    try:
        path = path.resolve(strict=True)
        mode, is_read_only = path.stat().st_mode, os.statvfs(path).f_flag & os.ST_RDONLY
        if not all(folder.stat().st_mode & 0o011 for folder in path.parents) or is_read_only:
            return ""
    except OSError:
        return ""  # reading the file reports the error
    return "write" if mode & 0o022 else "read" if mode & 0o004 else ""


def _secret_files() -> dict[str, Path]:
    """Files with secrets of the environment and `.env`, by the variable that names them."""
    sources = _sources()
    files, dotenv = sources["file"], sources[".env"]
    assert isinstance(files, FileSource)  # noqa: S101 -- see `_sources`
    secret = [name for name in files() if is_secret(name)]
    found = {f"{name.upper()}_FILE": Path(files.given[f"{name}_file"] or "") for name in secret}
    if any(is_secret(name, str(text)) for name, text in dotenv().items() if name in Settings.model_fields):
        found[".env"] = Path(".env")
    return found


def _not_blank(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: text for name, value in values.items() if (text := _trimmed(value))}


def _trimmed(value: Any) -> Any:
    """Text without surrounding white space and quotes, which `docker --env-file` keeps."""
    if not isinstance(value, str):
        return value
    text = trimmed(value)
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].strip() if quoted else text


# --- Credentials -------------------------------------------------------------------------------


def _credential_faults(given: Mapping[str, object]) -> dict[str, ValueError]:
    """The credential variables that are missing or superfluous, each with the reason.

    SaaS takes the IMS three. PaaS takes an integration's access token alone (Bearer), all four of
    the integration (OAuth 1.0a), or the IMS three where the instance is connected to Adobe IMS.
    Without API_ENDPOINT, the given credentials decide which of the two is meant.
    """
    ims, oauth1 = [name for name in IMS if name in given], [name for name in OAUTH1 if name in given]
    if oauth1 and not ims and lacks_rest(str(given.get("api_endpoint", ""))):
        return _faults(["api_endpoint"], "has no /rest, where an integration (PaaS) has its API")
    if is_saas(str(given["api_endpoint"])) if "api_endpoint" in given else not oauth1:
        unwanted = _faults(
            oauth1, "is for an API_ENDPOINT with /rest (PaaS); SaaS takes the IMS variables: remove it"
        )
        return unwanted | _missing(
            IMS, given, "SaaS takes all of IMS_CLIENT_ID, IMS_CLIENT_SECRET, IMS_ORG_ID"
        )
    if ims and oauth1:
        return _faults(ims, "is set, and COMMERCE_ variables too: keep one kind of credential")
    if ims:
        return _missing(IMS, given, "IMS takes all of IMS_CLIENT_ID, IMS_CLIENT_SECRET, IMS_ORG_ID")
    if oauth1 == ["commerce_access_token"]:
        return {}
    return _missing(OAUTH1, given, "PaaS takes all four COMMERCE_ variables, or COMMERCE_ACCESS_TOKEN alone")


def _events_faults(given: Mapping[str, object]) -> dict[str, ValueError]:
    """The journal's credential variables that are missing; the tenant's stand in for them."""
    if "events_journal_url" not in given:
        return {}
    missing = [ours for ours, tenants in EVENTS.items() if ours not in given and tenants not in given]
    return _faults(missing, "is not set: EVENTS_JOURNAL_URL takes it, or the IMS variable of that name")


def _missing(names: Iterable[str], given: Mapping[str, object], rule: str) -> dict[str, ValueError]:
    return _faults((name for name in names if name not in given), f"is not set: {rule}")


def _faults(names: Iterable[str], reason: str) -> dict[str, ValueError]:
    return {name: ValueError(reason) for name in names}


# --- Display -----------------------------------------------------------------------------------


class Shown(NamedTuple):
    """One line of `product-sync config`; source is `tenants`, `file`, `environment`, `.env` or `default`."""

    name: str
    value: str
    source: str


def describe(settings: Settings, faulty: Collection[str] = ()) -> list[Shown]:
    """Every setting in force with its source; secrets are masked.

    faulty    names of variables without a usable value: that is not shown, only where it is from
    """
    given = settings.model_fields_set | {name.lower() for name in faulty}  # without the blank ones
    found = {
        name: place for place, source in reversed(_sources().items()) for name in source() if name in given
    } | dict.fromkeys(settings._given & settings.model_fields_set, "tenants")
    return [
        Shown(name.upper(), "", found.get(name, ""))
        if name.upper() in faulty
        else Shown(name.upper(), "" if value is None else str(value), found.get(name, "default"))
        for name, value in settings.model_dump(mode="json").items()
    ]


def example(name: str) -> str:
    """A valid value of a setting: its default, or its example if it has none."""
    examples = Settings.model_fields[name].examples
    return str(examples[0] if examples else Settings.model_construct().model_dump(mode="json")[name])


def unknown_variables() -> list[str]:
    """A hint for each variable that looks like a misspelled setting; it would be ignored silently."""
    environment, dotenv = EnvSettingsSource(Settings).env_vars, DotEnvSettingsSource(Settings).env_vars
    unknown = {*dotenv, *(name for name in environment if name.startswith("sync_"))} - {*_names()}
    close = [name for name in sorted(unknown) if name.startswith("sync_") or _like(name)]
    return [f"{name.upper()} {no_setting(name)}" for name in close]


def no_setting(name: str) -> str:
    """The message for an unknown setting.

    >>> no_setting("SYNC_INTERVALL")
    'is no setting: did you mean SYNC_INTERVAL?'
    """
    near = _like(name.lower())
    return f"is no setting: did you mean {near.upper()}?" if near else "is no setting."


def _like(name: str) -> str | None:
    """The setting with the most similar name."""
    return next(iter(get_close_matches(name, _names(), n=1, cutoff=0.85)), None)


def _names() -> list[str]:
    return [name for field in Settings.model_fields for name in (field, f"{field}_file")]


def is_secret(name: str, text: str | None = None) -> bool:
    """Whether a setting, or this value of it, is confidential.

    text    a URL is no secret without a password; None: any value
    """
    if Settings.model_fields[name].annotation not in (SecretStr, SecretStr | None):
        return False
    return text is None or not name.endswith("_url") or has_password(text)


def _line(error: ErrorDetails) -> str:
    """A fault as `NAME: what is wrong; example: NAME=value`."""
    field = str(error["loc"][0])
    missing = error["type"] == "missing"
    reason = "is not set" if missing else re.sub("^(Value error, |Input )", "", error["msg"])
    shown = " or ".join(Settings.model_fields[field].examples or [example(field)])
    return f"{field.upper()}: {reason}; example: {field.upper()}={shown}"
