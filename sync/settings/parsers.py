"""Parsers for the values of settings, and functions that show them.

A parser takes the trimmed text and returns the value, or raises ValueError with a reason that follows
"NAME: ". No reason quotes the text, since it may be a secret in the wrong line.
"""

from __future__ import annotations

import errno
import os.path
import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, time, tzinfo
from ipaddress import ip_address
from pathlib import Path
from stat import S_ISREG
from typing import Final, NamedTuple, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import SecretStr

SHORTEST_PASSWORD = 8
UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
BYTE_ORDER_MARK: Final = "\ufeff"  # some editors write it at the start of a file
LONGEST_TEXT: Final = 1 << 20  # bytes of a file of settings; a device has no end
LONGEST_DURATION = 366 * UNITS["d"]

T = TypeVar("T")

SAAS_HOST = ".api.commerce.adobe.com"

# The drivers this project installs, by the dialect names that people write.
DATABASE_SCHEMES = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
BROKER_SCHEMES = ("amqp", "amqps", "redis", "rediss")
_PASSWORD = r"://[^:/]*:.+@"  # noqa: S105 -- a pattern, not a password
TOKEN_LENGTH: Final = 16  # signs; a shorter part of a path is a name
_SECRET_PARAMETER = r"(?i)([?&][^=&]*(?:pass|secret|token)[^=&]*)=([^&]*)"  # noqa: S105 -- likewise
_ENCODED = "in a user name or password, write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, % as %25"
_PORTS = {"postgresql+psycopg": 5432, "mysql+pymysql": 3306}
_USUAL_SOCKETS = {
    str(Path(path).resolve())
    for path in ("/tmp", "/var/run/postgresql", "/var/run/mysqld/mysqld.sock", "/tmp/mysql.sock")  # noqa: S108
}


# --- Durations and the clock -------------------------------------------------------------------


def parse_duration(text: str) -> float:
    """Seconds in `90s`, `15m`, `6h` or `1d`."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if match is None:
        raise ValueError("is no duration: write a whole number and one of the units s, m, h, d")
    seconds = int(match[1]) * UNITS[match[2]]
    if not 0 < seconds <= LONGEST_DURATION:
        raise ValueError("is out of range: from 1s to 366d")
    return float(seconds)


def show_duration(seconds: float | None) -> str:
    """Seconds in the form that `parse_duration` reads, in the largest exact unit.

    >>> show_duration(5400.0)
    '90m'
    """
    if seconds is None:
        return "off"
    unit, length = next((unit, length) for unit, length in UNITS.items() if seconds % length == 0)
    return f"{seconds / length:.0f}{unit}"


def parse_time_zone(text: str) -> tzinfo:
    """Look the name up in the system's time zones; UTC needs none of them."""
    if text.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone that this system knows") from None


@dataclass(frozen=True, slots=True)
class QuietPeriod:
    """At most `rate` requests a second from `start` to `end`, across midnight if `end` is earlier."""

    start: time
    end: time
    rate: float

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}@{self.rate:g}"

    @classmethod
    def parse(cls, text: str) -> QuietPeriod:
        clock = r"((?:[01]\d|2[0-3]):[0-5]\d)"
        match = re.fullmatch(rf"{clock}-{clock}@(\d+(?:\.\d+)?)", text)
        if match is None:
            raise ValueError("is not HH:MM-HH:MM@requests-per-second")
        hours = cls(time.fromisoformat(match[1]), time.fromisoformat(match[2]), float(match[3]))
        if hours.start == hours.end or hours.rate < 0.001:
            raise ValueError("needs two different times and a rate of at least 0.001")
        return hours


# --- URLs and addresses ------------------------------------------------------------------------


def split_url(text: str) -> SplitResult:
    """Split a URL without quoting it in errors. Raises ValueError, also for an invalid port."""
    try:
        url = urlsplit(text)
        url.port  # noqa: B018 -- reading it is the check
    except ValueError:
        raise ValueError(f"has no number for its port, or a sign that no host has: {_ENCODED}") from None
    return url


def check_user_info(text: str, *, has_path: bool = False) -> None:
    """Refuse a URL whose user name and password urllib and SQLAlchemy would split differently.

    has_path    for a web address, in whose path an @ is harmless

    Raises ValueError.
    """
    rest = text.partition("://")[2] or text
    authority = re.match(r"[^/?#]*", rest)[0]  # type: ignore[index]  # it matches always
    first = re.match(r"[^:/]*(:[^@]*)?@", authority if has_path else rest)
    if (first[0] if first else "") != authority[: authority.rfind("@") + 1] or re.search(r"[\t\r\n]", text):
        raise ValueError(f"can be read in two ways: {_ENCODED}")


def parse_webhook(text: str) -> str:
    """Refuse an invalid web address, and one that would send credentials unencrypted."""
    check_user_info(text, has_path=True)
    url = split_url(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("is no web address: it starts with https:// and a host name")
    if url.scheme == "http" and not _is_loopback(url.hostname):
        raise ValueError("would send credentials unencrypted: use https:// (http is for this machine only)")
    if re.search(r"[\s<>]", text):
        raise ValueError("holds a blank, or a <placeholder> that was not filled in")
    if "\\" in url.netloc:
        raise ValueError("holds a backslash before its path: in a user name or password, write it as %5C")
    try:
        url.hostname.encode("idna")
    except UnicodeError:
        raise ValueError("has a host name that is none: its parts have 1 to 63 characters") from None
    return text


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def parse_https_url(text: str) -> str:
    """The same, without user name and password, because it is shown."""
    parse_webhook(text)
    if "@" in split_url(text).netloc:
        raise ValueError("holds a user name or password: leave it out")
    return text


def parse_api_endpoint(text: str) -> str:
    """The base URL that `/V1/products` is appended to, without trailing slash."""
    url = split_url(parse_webhook(text))
    segments = [segment for segment in url.path.split("/") if segment]
    if url.query or url.fragment or "@" in url.netloc:
        raise ValueError(
            "holds more than https://, host and path: leave user names and what follows ? or # out"
        )
    if "graphql" in segments:
        raise ValueError("is the GraphQL endpoint: products are read from REST, without /graphql")
    if "V1" in segments:
        raise ValueError("goes too far: leave /V1 and what follows it out, it is appended")
    if f".{url.hostname}".endswith(SAAS_HOST):
        _check_saas_path(segments)
    else:
        _check_other_path(segments)
    return "/".join([f"{url.scheme}://{url.netloc}", *segments])


def _check_saas_path(segments: list[str]) -> None:
    if "rest" in segments:
        raise ValueError("has /rest, which Adobe's SaaS does not: the tenant id alone follows the host")
    if len(segments) != 1:
        raise ValueError("needs the tenant id, and nothing else, after the host")


def _check_other_path(segments: list[str]) -> None:
    if "rest" in segments[:-1]:
        raise ValueError("names a store view after /rest: leave it out and name it in STORE_VIEWS")


def is_saas(endpoint: str) -> bool:
    """Whether an API_ENDPOINT, valid or not, means Adobe's SaaS; all others have `/rest` in their path."""
    return SAAS_HOST in endpoint or "/rest/" not in f"{endpoint}/"


def lacks_rest(endpoint: str) -> bool:
    """Whether an API_ENDPOINT, valid or not, is a host alone, which is neither SaaS nor PaaS."""
    _, is_url, rest = endpoint.rstrip("/").partition("://")
    return bool(is_url) and "/" not in rest and SAAS_HOST not in rest


def tenant_name(endpoint: str) -> str:
    """What identifies a tenant, from its API_ENDPOINT: host, path, and the port if it is not the default.

    >>> tenant_name("https://NA1.api.commerce.adobe.com:443/AbC"), tenant_name("https://shop.example:81/rest")
    ('na1.api.commerce.adobe.com/AbC', 'shop.example:81/rest')
    """
    url = urlsplit(endpoint)
    usual = {"https": 443, "http": 80}.get(url.scheme)
    port = "" if url.port in (None, usual) else f":{url.port}"
    return f"{(url.hostname or '').rstrip('.')}{port}{url.path}"


def are_two_tenants(one: str, other: str) -> bool:
    """Whether two names certainly belong to different tenants, by the tenant ids of SaaS.

    >>> are_two_tenants("na1.api.commerce.adobe.com/AbC", "na1.api.commerce.adobe.com/XyZ")
    True
    >>> are_two_tenants("www.shop.example/rest", "shop.example/rest")
    False
    """
    ids = {name.rpartition("/")[2] for name in (one, other)}
    return is_saas(one) and is_saas(other) and len(ids) == 2


def parse_database_url(text: str) -> str:
    """Check scheme and form, but not whether the database answers."""
    scheme, _, rest = text.partition("://")
    wanted = DATABASE_SCHEMES.get(scheme.partition("+")[0])
    if wanted is None:
        raise ValueError("is none of sqlite:///, postgresql+psycopg://, mysql+pymysql://")
    if scheme != wanted:
        raise ValueError(f"starts with {scheme}://: write {wanted}://")
    if scheme == "sqlite" and not re.match(r"/(?!:memory:)[^?]", rest):
        raise ValueError(
            "names no file: sqlite:/// (three slashes) and a path; a fourth slash makes it absolute"
        )
    if "%00" in text:
        raise ValueError("holds %00, which no name of a file, user or database has")
    if scheme == "sqlite":
        return text
    check_user_info(text)
    if not split_url(text).path.strip("/") and scheme == "mysql+pymysql":
        raise ValueError("names no database after the host")
    return text


def parse_broker_url(text: str) -> str:
    """One broker, or several separated by `;`, as Celery accepts them."""
    for number, url in enumerate(text.split(";")):
        if url.partition("://")[0] not in BROKER_SCHEMES:
            if number:
                raise ValueError("can be read in two ways: in a user name or password, write ; as %3B")
            raise ValueError(f"starts with none of {', '.join(f'{scheme}://' for scheme in BROKER_SCHEMES)}")
        check_user_info(url)
        split_url(url)
    return text


def parse_proxy(text: str) -> str:
    """A proxy of the environment: with or without a scheme, and no path."""
    check_user_info(text)
    split_url(text if "://" in text else f"http://{text}")
    return text


def mask_url(url: SecretStr | None) -> str | None:
    """A URL without user name and password, also in its parameters.

    >>> mask_url(SecretStr("mysql+pymysql://shop:hunter2@db/pim?ssl_key_password=x&charset=utf8mb4"))
    'mysql+pymysql://***@db/pim?ssl_key_password=***&charset=utf8mb4'
    """
    if url is None:
        return None
    shown = re.sub(r"://.*@", "://***@", url.get_secret_value())
    return re.sub(_SECRET_PARAMETER, r"\1=***", shown)


def has_password(url: str) -> bool:
    """Whether a URL contains a password, before the host or in its parameters.

    >>> has_password("postgresql+psycopg://shop@db/pim"), has_password("postgresql+psycopg://shop:x@db/pim")
    (False, True)
    """
    return bool(re.search(_PASSWORD, url) or re.search(_SECRET_PARAMETER, url))


def looks_secret(url: str) -> bool:
    """Whether a URL contains a password, a web address's user name, or a part that looks like a token.

    >>> looks_secret("https://hooks.example/services/T0B0/pq3kd81mzx0wiaer"), looks_secret("https://key@hooks.example")
    (True, True)
    >>> looks_secret("https://search.example/in/product-changes-v2"), looks_secret("postgresql+psycopg://shop@db/pim")
    (False, False)
    """
    if not url.startswith(("http://", "https://")):
        return has_password(url)
    authority, *parts = re.split(r"[/?&=#]", url.partition("://")[2])
    tokens = [
        it for it in parts if len(it) >= TOKEN_LENGTH and not re.fullmatch(r"[a-z]+([._-][a-z0-9]+)*", it)
    ]
    return "@" in authority or bool(re.search(_SECRET_PARAMETER, url) or tokens)


def secrets_in(url: str) -> list[str]:
    """The secrets of a URL: the whole URL, its password, parameters, and the path of a web address.

    A user name without a password is a secret, except for a database. Plain words of a path are not.

    >>> secrets_in("postgresql+psycopg://shop:hunter2@db/pim")[1:]
    ['hunter2']
    >>> secrets_in("https://key@hooks.example/services/T0B0-99")[1:]
    ['key', 'T0B0-99', '/services/T0B0-99']
    """
    scheme, _, rest = url.partition("://")
    authority, path = re.match(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    user, colon, password = authority.rpartition("@")[0].partition(":")
    found = [url, password or ("" if colon or scheme.partition("+")[0] in DATABASE_SCHEMES else user)]
    found += [value for _, value in re.findall(_SECRET_PARAMETER, path)]
    if scheme in ("http", "https"):
        odd = [it for it in re.split(r"[/?&=#]", path) if not re.fullmatch(r"[A-Za-z]{0,12}|v?\d{1,3}", it)]
        found += [*odd, *([path] if odd else [])]
    return [*dict.fromkeys(it for text in found for it in (text, unquote(text)) if it)]


def place_of(database_url: str) -> str:
    """Where a copy is kept: the same text for two URLs that lead to one database and PostgreSQL schema.

    Names of one server that only the network knows (DNS aliases) are not resolved.

    >>> place_of("postgresql+psycopg://a@DB/pim?options=-csearch_path=EU,public")
    'postgresql+psycopg://db:5432/pim eu'
    >>> place_of("postgresql+psycopg://b@db:5432/pim?options=-c%20search_path%3Deu")
    'postgresql+psycopg://db:5432/pim eu'
    >>> place_of("mysql+pymysql://a@127.0.0.1/pim") == place_of("mysql+pymysql://b@localhost:3306/pim")
    True
    """
    scheme, _, rest = database_url.partition("://")
    if scheme == "sqlite":
        return _place_of_file(rest)
    url = urlsplit(database_url)
    options = dict(parse_qsl(url.query))
    name = options.get("dbname") or options.get("database") or unquote(url.path[1:])
    server = _place_of_server(options, url.hostname, options.get("port") or url.port or _PORTS.get(scheme))
    if not scheme.startswith("postgresql"):
        return f"{scheme}://{server}/{name}"
    user = options.get("user") or unquote(url.username or "")
    return f"{scheme}://{server}/{name or user} {_schema(options.get('options', ''))}"


def _place_of_file(rest: str) -> str:
    """A SQLite file, by device and inode if it exists, so that links are resolved."""
    path, _, query = rest.removeprefix("/").partition("?")
    path = unquote(path)
    if path.startswith("file:") and dict(parse_qsl(query)).get("uri"):
        path = unquote(urlsplit(path).path)
    try:
        found = Path(path).stat()
    except OSError:
        return f"sqlite:///{Path(path).resolve()}"
    return f"sqlite file {found.st_dev}:{found.st_ino}"


def _place_of_server(options: Mapping[str, str], hostname: str | None, port: str | int | None) -> str:
    """Host and port; all names of this machine and the usual socket folders count as localhost."""
    host = options.get("unix_socket") or options.get("host") or options.get("hostaddr") or hostname or ""
    if not host.startswith("/"):
        host, _, own_port = host.lower().partition(":") if host.count(":") == 1 else (host.lower(), "", "")
        port, host = own_port or port, host.rstrip(".")
    elif (folder := str(Path(host).resolve())) not in _USUAL_SOCKETS:
        return f"{folder}:{port}"
    is_here = host.startswith("/") or not host or _is_loopback(host)
    return f"{'localhost' if is_here else host}:{port}"


def split_search_path(options: str) -> tuple[str, str]:
    """The search path in PostgreSQL's `options`, empty if there is none, and the other options.

    >>> split_search_path("-c search_path=eu,public -cwork_mem=8MB")
    ('eu,public', '-cwork_mem=8MB')
    """
    paths = _SEARCH_PATH.findall(options)
    path = re.sub(r"\\(.)", r"\1", paths[-1]).strip() if paths else ""
    return path, _SEARCH_PATH.sub("", options).strip()


_SEARCH_PATH = re.compile(r"(?:-c\s*|--)search[_-]path\s*=\s*((?:\\.|[^\s\\])*)", re.IGNORECASE)


def _schema(options: str) -> str:
    """The first schema of a search path, folded to lower case unless quoted, as PostgreSQL does.

    >>> _schema("-c search_path=Shop"), _schema('--search-path="Shop",public'), _schema("")
    ('shop', '"Shop"', 'public')
    """
    path, _ = split_search_path(options)
    quoted = re.match(r'"((?:[^"]|"")*)"', path)
    name = quoted[1].replace('""', '"') if quoted else path.partition(",")[0].strip().lower()
    if name in ("", "$user"):
        return "public"
    return name if name == name.lower() else f'"{name}"'


def mask_webhook(url: SecretStr | None) -> str | None:
    """The host of a webhook alone, because its path is secret."""
    return None if url is None else f"https://{split_url(url.get_secret_value()).hostname}/***"


class Address(NamedTuple):
    """Where the status page listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/]+)):(\d{1,5})", text)
        if match is None or int(match[3]) > 65_535:
            raise ValueError("is not host:port")
        return cls(match[1] or match[2], int(match[3]))


# --- Lists and files ---------------------------------------------------------------------------


def parse_store_views(text: str) -> tuple[str, ...]:
    """Codes as Magento's StoreCodeValidator accepts them: a letter, then letters, digits, `_` and `-`."""
    codes = tuple(code.strip() for code in text.split(","))
    if not all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", code) for code in codes):
        raise ValueError("is no list of store view codes: letters, digits, _ and -, separated by commas")
    if len(set(codes)) < len(codes):
        raise ValueError("names a store view twice")
    return codes


EVENT_ACTIONS = ("product-save", "product-delete", "stock")


def parse_event_codes(text: str) -> tuple[tuple[str, str], ...]:
    """
    >>> parse_event_codes("com.example.gone=product-delete, com.example.stock=stock")
    (('com.example.gone', 'product-delete'), ('com.example.stock', 'stock'))
    """
    pairs = [tuple(map(str.strip, pair.rpartition("=")[::2])) for pair in text.split(",")]
    if not all(code and action in EVENT_ACTIONS for code, action in pairs):
        raise ValueError(f"is no list of code=action; an action is {', '.join(EVENT_ACTIONS)}")
    return tuple((code, action) for code, action in pairs)


def parse_host_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name) for name in names):
        raise ValueError("is no list of host names, without ports, separated by commas")
    return names


def parse_credential(text: str) -> str:
    """A part of a credential: printable ASCII only."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(
            "holds a blank or a sign that no credential has, perhaps an invisible one: copy it as plain text"
        )
    return text


def parse_password(text: str) -> str:
    """A password that people type: any printable text of at least SHORTEST_PASSWORD characters."""
    if len(text) < SHORTEST_PASSWORD or not text.isprintable():
        raise ValueError(f"must have {SHORTEST_PASSWORD} characters or more, all of them printable")
    return text


def parse_webhook_secret(text: str) -> str:
    """Refuse a secret that begins like one of Standard Webhooks but cannot be decoded."""
    webhook_key(text)
    return text


def webhook_key(secret: str) -> bytes:
    """The key of a webhook's secret: decoded from base64 after `whsec_`, else the text itself.

    Raises ValueError when what follows `whsec_` is not base64.
    """
    encoded = secret.removeprefix("whsec_")
    if encoded == secret:
        return secret.encode(errors="surrogateescape")
    try:
        key = b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("begins with whsec_, but what follows is not base64: copy the whole secret")
    return key


def parse_scopes(text: str) -> str:
    """Scopes separated by commas, as IMS takes them, or by blanks."""
    return parse_credential(",".join(re.findall(r"[^\s,]+", text)))


def read_secret(path: Path) -> str:
    """The text of a secret's file, which is read again whenever it changes.

    Raises as `read_text`, also for a pipe or a device: reading one may wait for ever.
    """
    if not S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return read_text(path)


def read_text(path: Path) -> str:
    """The text of a file of settings or of a secret, without byte-order mark and surrounding white space.

    Raises OSError, also for an endless file, and UnicodeDecodeError.
    """
    with path.open("rb") as file:
        content = file.read(LONGEST_TEXT + 1)
    if len(content) > LONGEST_TEXT:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return trimmed(content.decode("utf-8"))


def trimmed(text: str) -> str:
    return text.strip().removeprefix(BYTE_ORDER_MARK).strip()


def parse_ca_bundle(text: str) -> Path:
    """A PEM file, or a directory of hashed ones; read once, so that a wrong file is found now."""
    path = Path(os.path.expanduser(text))  # noqa: PTH111 -- Path's raises for an unknown user
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cafile=path if path.is_file() else None, capath=path if path.is_dir() else None
        )
    except (OSError, TypeError):  # TypeError: neither a file nor a directory
        raise ValueError("names no file or directory of PEM certificates that can be read") from None
    return path


def unless_off(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """Let a setting be `off`, which is None."""
    return lambda text: None if text.lower() == "off" else parse(text)
