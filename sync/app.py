"""Builds every live object from the settings, once, and closes them in reverse.

The only place that knows which class stands behind which protocol. Below it, functions take plain
values; above it, the command line and the daemon call the same passes with the `Sync` made here.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from threading import Event

import requests
import sqlalchemy as sa
from pydantic import SecretStr

from sync import __version__, owner
from sync.commerce.client import Auth, Client
from sync.commerce.ims import ImsAuth, ImsTokens
from sync.commerce.pacing import Learned, Pacer, QuietHours
from sync.commerce.page_size import LearnedSize
from sync.commerce.products import Products
from sync.commerce.retry import Patience
from sync.commerce.transport import open_session
from sync.db import existing, state
from sync.db.engine import connect, in_memory, in_transaction, reading, upgrade
from sync.errors import SettingsError, SyncError
from sync.journal import Journal
from sync.passes.run import Sync, Watch
from sync.settings import Settings

PACE, PAGE_SIZE = "pace", "page_size"  # the names under which sync_state keeps what was learned
TIMEOUTS_S = (10.0, 120.0)  # connect; the longest silence of a tenant that builds a heavy page


# --- the tenant ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tenant:
    """The tenant's side of the wire.

    tokens    None where requests are signed without a token that ends (PaaS)
    """

    client: Client
    products: Products
    pacer: Pacer
    tokens: ImsTokens | None


@dataclass(frozen=True, slots=True)
class Memory:
    """What an earlier process learned about the tenant; None where it learned nothing."""

    pace: Learned | None = None
    page_size: LearnedSize | None = None


@contextmanager
def tenant_of(
    settings: Settings,
    journal: Journal,
    stop: Event,
    *,
    memory: Memory | None = None,
    max_retry_time: float | None = None,
    timeouts: tuple[float, float] = TIMEOUTS_S,
) -> Iterator[Tenant]:
    """The tenant the settings name; nothing is sent yet.

    memory            what an earlier process learned
    max_retry_time    seconds, when it is to be less than the settings allow
    """
    memory = memory or Memory()
    patience = Patience(stop.wait, max_retry_time or settings.sync_max_retry_time)
    ca_bundle = None if settings.sync_ca_bundle is None else str(settings.sync_ca_bundle)
    with open_session(
        f"product-sync/{__version__}", pool_size=settings.sync_concurrency, ca_bundle=ca_bundle
    ) as session:
        tokens = _tokens(settings, session, patience, timeouts, journal)
        pacer = Pacer(settings.sync_concurrency, settings.sync_max_rps, _quiet_hours(settings), memory.pace)
        client = Client(
            settings.api_endpoint,
            _auth(settings, tokens),
            session=session,
            pacer=pacer,
            patience=patience,
            stop=stop,
            store_in_path=not settings.is_saas,
            hook=journal,
            timeouts=timeouts,
        )
        products = Products(client, page_size=settings.sync_page_size, learned=memory.page_size)
        yield Tenant(client, products, pacer, tokens)


def _tokens(
    settings: Settings,
    session: requests.Session,
    patience: Patience,
    timeouts: tuple[float, float],
    journal: Journal,
) -> ImsTokens | None:
    if settings.ims_client_id is None:
        return None
    return ImsTokens(
        settings.ims_token_url,
        settings.ims_client_id,
        _rotating(settings, "ims_client_secret"),
        settings.ims_scopes.split(","),
        session=session,
        patience=patience,
        timeouts=timeouts,
        on_refresh=journal.token_refreshed,
    )


def _auth(settings: Settings, tokens: ImsTokens | None) -> Auth:
    """How requests are signed: by the credential that the settings hold."""
    if tokens is not None:
        return ImsAuth(tokens, settings.ims_org_id or "")
    from sync.commerce.oauth import BearerAuth, OAuth1Auth  # takes as long to load as all the rest of HTTP

    if settings.commerce_consumer_key is not None:
        return OAuth1Auth(
            settings.commerce_consumer_key,
            _plain(settings.commerce_consumer_secret),
            _plain(settings.commerce_access_token),
            _plain(settings.commerce_access_token_secret),
        )
    return BearerAuth(_rotating(settings, "commerce_access_token"))


def _rotating(settings: Settings, name: str) -> Callable[[], str]:
    """Reads a secret anew each time, so that a rotated one is used; while it cannot be read, the old one."""

    def secret() -> str:
        with suppress(SettingsError):
            return _plain(getattr(Settings.load(), name))
        return _plain(getattr(settings, name))

    return secret


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


def _quiet_hours(settings: Settings) -> QuietHours | None:
    hours = settings.sync_quiet_hours
    if hours is None:
        return None
    return QuietHours(hours.start, hours.end, hours.rate, settings.sync_timezone)


# --- the copy --------------------------------------------------------------------------------


@contextmanager
def copy_of(settings: Settings) -> Iterator[sa.Engine]:
    """The copy, for reading. Raises DatabaseUnavailable when there is none yet, SchemaTooNew."""
    engine = existing.connect_existing(_plain(settings.database_url))
    try:
        yield engine
    finally:
        engine.dispose()


def revision_of(settings: Settings) -> str | None:
    """The schema revision of the copy, None for an empty one. Raises DatabaseUnavailable."""
    return existing.revision_of(connect(_plain(settings.database_url)))


def writable_copy(settings: Settings) -> sa.Engine:
    """The copy, made or migrated where needed. Raises SchemaTooNew, DatabaseUnavailable."""
    engine = connect(_plain(settings.database_url))
    upgrade(engine)
    return engine


def _copy_to_compare(settings: Settings) -> sa.Engine:
    """What a dry run compares with: the copy as it is, or an empty one that leaves no trace."""
    return existing.find(_plain(settings.database_url)) or in_memory()


# --- both ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class App:
    """Everything that lives as long as the command, or the daemon."""

    settings: Settings
    db: sa.Engine
    tenant: Tenant
    journal: Journal
    stop: Event
    dry: bool

    def sync(
        self, command: str, watch: Watch | None = None, store_views: tuple[str, ...] | None = None
    ) -> Sync:
        """What a pass works with.

        command        how the lease names us to others
        store_views    instead of those of the settings
        """
        return Sync(
            source=self.tenant.products,
            db=self.db,
            store_views=store_views or self.settings.store_views,
            owner=owner.describe(command),
            is_dead=owner.is_dead,
            traffic=self.journal.traffic,
            watch=watch or self.journal,
            stop=self.stop,
            page_size=self.settings.sync_page_size,
            concurrency=self.settings.sync_concurrency,
            overlap=timedelta(seconds=self.settings.sync_overlap),
            max_delete_fraction=self.settings.sync_max_delete_fraction,
            dry=self.dry,
        )


@contextmanager
def opened(settings: Settings, stop: Event, *, dry: bool = False) -> Iterator[App]:
    """Everything a pass needs, for as long as the context is open; nothing is sent to the tenant yet.

    stop    once set, what is under way ends with Interrupted
    dry     nothing is written, not even an empty database

    Raises SchemaTooNew and DatabaseUnavailable.
    """
    _collect_less_often()
    with ExitStack() as closing:
        db = _copy_to_compare(settings) if dry else writable_copy(settings)
        closing.callback(db.dispose)
        journal = Journal()
        memory = _recall(db)
        tenant = closing.enter_context(tenant_of(settings, journal, stop, memory=memory))
        if not dry:
            closing.callback(_remember, db, tenant)
        yield App(settings, db, tenant, journal, stop, dry)


def _collect_less_often() -> None:
    """A page becomes ten thousand tuples, none in a cycle: looking for cycles cost a fifth of the CPU."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _recall(db: sa.Engine) -> Memory:
    """What an earlier process learned; nothing where an older version wrote it differently."""
    pace, size = (
        reading(db, lambda connection, name=name: state.load(connection, name))  # type: ignore[misc]
        for name in (PACE, PAGE_SIZE)
    )
    with suppress(TypeError):
        return Memory(Learned(**pace), LearnedSize(**size))
    return Memory()


def _remember(db: sa.Engine, tenant: Tenant) -> None:
    """Keep it for the next process. Not worth waiting for: a database that is away is left alone."""
    at_once = Event()
    at_once.set()

    def save(tx: sa.Connection) -> None:
        state.save(tx, PACE, asdict(tenant.pacer.learned))
        state.save(tx, PAGE_SIZE, asdict(tenant.products.learned))

    with suppress(SyncError):
        in_transaction(db, save, stop=at_once)
