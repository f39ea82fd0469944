"""Builds every object of a run from the settings, once, and closes them in reverse order.

The only module that knows which class implements which protocol. Below it, functions take plain values; above
it, the command line and the daemon call the same passes with the `Sync` made here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from math import inf
from threading import Event
from typing import TYPE_CHECKING

import requests
import sqlalchemy as sa
import structlog
from pydantic import SecretStr

from sync import __version__
from sync.commerce.client import Auth, Client, Hook
from sync.commerce.ims import ImsAuth, ImsTokens
from sync.commerce.pacing import Learned, Pacer, QuietHours
from sync.commerce.page_size import LearnedSize
from sync.commerce.products import Products
from sync.commerce.retry import RetryPolicy
from sync.commerce.tenant_memory import TenantMemory
from sync.commerce.transport import open_session
from sync.db import current_views, opening, state
from sync.db import tenant as tenants
from sync.db.dialects import utc_now
from sync.db.engine import connect, in_memory, in_transaction, reading, upgrade
from sync.db.feed_position import delete_older
from sync.db.shared_state import SharedStateRow
from sync.errors import AnotherTenant, DatabaseUnavailable, SettingsError, SyncError, UsageError
from sync.events.journal import Journal, JournalAuth
from sync.events.reader import Reader
from sync.feed.webhook import Webhook
from sync.hooks.run_log import RunLog
from sync.hooks.waits import WaitAnnouncer
from sync.logs.redaction import hide, hide_token
from sync.model import PassKind
from sync.monitor.freshness import FeedPolicy, FreshnessPolicy
from sync.passes import lease_holder
from sync.passes.run import Sync, Watch
from sync.passes.tenant_check import is_copy_of
from sync.runtime import alternate_often, collect_less_often
from sync.settings import Settings
from sync.settings.cron import next_time
from sync.settings.parsers import are_two_tenants, parse_database_url, parse_webhook, secrets_in, tenant_name

if TYPE_CHECKING:  # slow to load, and one-off commands seldom need them
    from sync.hooks.metrics import MetricsHook
    from sync.monitor.alerts import Alerts

PACE, PAGE_SIZE = "pace", "page_size"  # the names under which sync_state keeps what was learned
DELETED_AT_ONCE, MOST_DELETIONS = 1000, 200  # entries of the feed in a transaction; transactions in a pass
ALERT_PATIENCE_S = 60.0  # after that, the next look tries again
_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")
TIMEOUTS_S = (10.0, 120.0)  # connect; the longest silence of a tenant that builds a heavy page


# --- the tenant ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tenant:
    """The clients of one tenant.

    tokens    None if requests are signed without an expiring token (PaaS)
    known     facts about the tenant that the next client can use
    """

    client: Client
    products: Products
    pacer: Pacer
    tokens: ImsTokens | None
    known: TenantMemory


@dataclass(frozen=True, slots=True)
class Memory:
    """Facts about the tenant, learned by an earlier process or (`known`) by this one."""

    pace: Learned | None = None
    page_size: LearnedSize | None = None
    known: TenantMemory = field(default_factory=TenantMemory)


@dataclass(frozen=True, slots=True)
class SharedStates:
    """State shared between the processes of a tenant."""

    pace: SharedStateRow
    token: SharedStateRow

    @classmethod
    def of(cls, db: sa.Engine, stop: Event) -> SharedStates:
        return cls(SharedStateRow(db, "shared_pace", stop), SharedStateRow(db, "shared_token", stop))


@contextmanager
def open_tenant(
    settings: Settings,
    run_log: RunLog,
    stop: Event,
    *,
    memory: Memory | None = None,
    shared_states: SharedStates | None = None,
    max_retry_time: float | None = None,
    timeouts: tuple[float, float] = TIMEOUTS_S,
    metrics_hook: MetricsHook | None = None,
    before_request: Callable[[], None] = lambda: None,
    overdue: Event | None = None,
    waits: Callable[[Hook], Hook] = lambda hook: hook,
) -> Iterator[Tenant]:
    """The clients of the tenant in the settings; nothing is sent yet.

    memory            what was learned before
    shared_states     shared pace and token, if several processes work for the tenant
    max_retry_time    seconds, if it must be less than the settings allow
    metrics_hook      counts events
    before_request    as in `Client`, and `overdue` too
    waits             wraps the hook of requests, to announce waits
    """
    memory = memory or Memory()
    on_wait = _waits_of(metrics_hook)
    retry_policy = RetryPolicy(stop.wait, max_retry_time or settings.sync_max_retry_time)
    ca_bundle = None if settings.sync_ca_bundle is None else str(settings.sync_ca_bundle)
    with open_session(
        f"product-sync/{__version__}",
        pool_size=settings.sync_concurrency,
        ca_bundle=ca_bundle,
        stop=stop,
        overdue=overdue,
    ) as session:
        hook = waits(run_log if metrics_hook is None else metrics_hook.hook(run_log))
        tokens = _tokens(
            settings,
            session,
            retry_policy,
            timeouts,
            _refreshes_of(run_log, metrics_hook),
            partial(hook.request_retried, "token"),
            memory.known,
            None if shared_states is None else shared_states.token,
            overdue,
        )
        pacer = Pacer(
            settings.sync_concurrency,
            settings.sync_max_rps,
            _quiet_hours(settings),
            memory.pace,
            on_wait=on_wait,
            shared_state=None if shared_states is None else shared_states.pace,
        )
        client = Client(
            settings.api_endpoint,
            _auth(settings, tokens),
            session=session,
            pacer=pacer,
            retry_policy=retry_policy,
            stop=stop,
            store_in_path=not settings.is_saas,
            hook=hook,
            timeouts=timeouts,
            on_wait=on_wait,
            known=memory.known,
            before_request=before_request,
            overdue=overdue,
        )
        products = Products(client, page_size=settings.sync_page_size, learned=memory.page_size)
        yield Tenant(client, products, pacer, tokens, memory.known)


def _tokens(
    settings: Settings,
    session: requests.Session,
    retry_policy: RetryPolicy,
    timeouts: tuple[float, float],
    on_refresh: Callable[[float, int], None],
    on_retry: Callable[[str, float, int], None],
    known: TenantMemory,
    shared_state: SharedStateRow | None,
    overdue: Event | None,
) -> ImsTokens | None:
    if settings.ims_client_id is None:
        return None
    secret, shared = _rotating(settings, "ims_client_secret"), None
    if shared_state is not None:
        from sync.commerce.shared_token import SharedToken  # needs the extra [celery]

        shared = SharedToken(shared_state, settings.ims_client_id, secret, retry_policy, hide_token)
    return ImsTokens(
        settings.ims_token_url,
        settings.ims_client_id,
        secret,
        settings.ims_scopes.split(","),
        session=session,
        retry_policy=retry_policy,
        timeouts=timeouts,
        on_refresh=on_refresh,
        on_retry=on_retry,
        hide=hide_token,
        known=known,
        shared=shared,
        overdue=overdue,
    )


def _refreshes_of(run_log: RunLog, metrics_hook: MetricsHook | None) -> Callable[[float, int], None]:
    def refreshed(seconds: float, expires_in: int) -> None:
        if metrics_hook is not None:
            metrics_hook.token_refreshed()
        run_log.token_refreshed(seconds, expires_in)

    return refreshed


def _waits_of(metrics_hook: MetricsHook | None) -> Callable[[str, float], None]:
    return (lambda reason, seconds: None) if metrics_hook is None else metrics_hook.waited


def _auth(settings: Settings, tokens: ImsTokens | None) -> Auth:
    """The signer of requests, by the credential in the settings."""
    if tokens is not None:
        return ImsAuth(tokens, settings.ims_org_id or "")
    from sync.commerce.oauth import BearerAuth, OAuth1Auth  # as slow to load as the rest of HTTP

    if settings.commerce_consumer_key is not None:
        return OAuth1Auth(
            settings.commerce_consumer_key,
            _plain(settings.commerce_consumer_secret),
            _plain(settings.commerce_access_token),
            _plain(settings.commerce_access_token_secret),
        ).rereading(lambda: _oauth1_keys(settings))
    return BearerAuth(_rotating(settings, "commerce_access_token"))


def _oauth1_keys(settings: Settings) -> tuple[str, str, str, str]:
    """The four keys, read again; the old ones if that fails."""
    with suppress(SettingsError):
        settings = settings.again()
    hide(settings.secrets)
    return (
        settings.commerce_consumer_key or "",
        _plain(settings.commerce_consumer_secret),
        _plain(settings.commerce_access_token),
        _plain(settings.commerce_access_token_secret),
    )


def _rotating(settings: Settings, name: str) -> Callable[[], str]:
    """A function that reads a secret again, to pick up a rotated one; the old one if that fails."""

    def secret() -> str:
        with suppress(SettingsError):
            found = _plain(getattr(settings.again(), name))
            hide([found])
            return found
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
    """The copy, for reading. Raises DatabaseUnavailable if there is none yet, SchemaTooNew."""
    engine = opening.connect_existing(_plain(settings.database_url))
    try:
        yield engine
    finally:
        engine.dispose()


def revision_of(settings: Settings) -> str | None:
    """The schema revision of the copy, None for an empty one. Raises DatabaseUnavailable."""
    return opening.revision_of(unpooled_copy(settings))


def unpooled_copy(settings: Settings) -> sa.Engine:
    """An engine for a copy that may not exist; without a pool, because fifty tenants may be idle."""
    return connect(_plain(settings.database_url), keeps=False)


def writable_copy(settings: Settings) -> sa.Engine:
    """The copy, created or migrated if needed. Raises SchemaTooNew, DatabaseUnavailable."""
    engine = connect(_plain(settings.database_url))
    with ExitStack() as closing:
        closing.callback(engine.dispose)
        upgrade(engine)
        closing.pop_all()
    return engine


def tenant_copy(settings: Settings, stop: Event, *, max_retry_time: float | None = None) -> sa.Engine:
    """The same, after a check that it is this tenant's copy; a copy without a tenant is assigned to it.

    Raises AnotherTenant before anything is written; also what requests raise, if products must be compared.
    """
    engine = connect(_plain(settings.database_url))
    with ExitStack() as closing:
        closing.callback(engine.dispose)
        if (opening.revision_of(engine) or "") < tenants.SINCE_REVISION:  # its table does not exist yet
            upgrade(engine)
        known_as = None if opening.revision_of(engine) is None else reading(engine, tenants.name)
        is_new = should_claim_copy(engine, settings, stop, max_retry_time=max_retry_time)
        upgrade(engine)
        if is_new:
            name = tenant_name(settings.api_endpoint)
            in_transaction(engine, lambda tx: tenants.remember(tx, name, known_as), stop=stop)
        closing.pop_all()
    return engine


def should_claim_copy(
    db: sa.Engine,
    settings: Settings,
    stop: Event,
    *,
    max_retry_time: float | None = None,
    timeouts: tuple[float, float] = TIMEOUTS_S,
) -> bool:
    """Whether to record the tenant's name in this copy: it is empty, or has this tenant's products.

    False without a request if the name is already recorded. Raises AnotherTenant, and what requests raise.
    """
    name = tenant_name(settings.api_endpoint)
    known_as = reading(db, tenants.name)
    if known_as == name:
        return False
    if reading(db, tenants.is_empty):
        return True
    if known_as is not None and are_two_tenants(known_as, name):
        raise AnotherTenant(known_as, name)
    overlap = timedelta(seconds=settings.sync_overlap)
    with open_tenant(settings, RunLog(), stop, max_retry_time=max_retry_time, timeouts=timeouts) as it:
        if not is_copy_of(db, it.products, settings.store_views, overlap):
            raise AnotherTenant(known_as, name)
    _log.info("tenant.recognised", tenant=name, known_as=known_as)
    return True


def ensure_same_tenant(db: sa.Engine, settings: Settings) -> None:
    """Raise AnotherTenant if another tenant adopted the copy since it was opened."""
    name, known_as = tenant_name(settings.api_endpoint), reading(db, tenants.name)
    if known_as != name:
        raise AnotherTenant(known_as, name)


@contextmanager
def other_database(url: str) -> Iterator[sa.Engine]:
    """The database that `db copy` copies to; nothing is opened yet. Raises UsageError for an invalid URL."""
    hide(secrets_in(url))
    try:
        engine = connect(parse_database_url(url))
    except (ValueError, SettingsError, DatabaseUnavailable) as error:
        reason = str(error).replace("DATABASE_URL", "it") if isinstance(error, SyncError) else str(error)
        raise UsageError(f"the URL of the other database {reason}.", "correct it.") from None
    try:
        yield engine
    finally:
        engine.dispose()


def _copy_to_compare(settings: Settings) -> sa.Engine:
    """The copy for a dry run: as it is, or an empty one in memory."""
    return opening.find(_plain(settings.database_url)) or in_memory()


# --- a receiver of the feed ------------------------------------------------------------------


@contextmanager
def open_webhook(settings: Settings, url: str, stop: Event, *, follow: bool) -> Iterator[Webhook]:
    """The receiver at `url`; nothing is sent yet.

    follow    retry without limit, instead of SYNC_MAX_RETRY_TIME

    Raises UsageError for an invalid URL, SettingsError without WEBHOOK_SECRET.
    """
    hide(secrets_in(url))
    try:
        parse_webhook(url)
    except ValueError as error:
        raise UsageError(f"--webhook {error}.", "correct the URL.") from None
    if settings.webhook_secret is None:
        raise SettingsError("WEBHOOK_SECRET: is not set: it signs what --webhook posts.")
    ca_bundle = None if settings.sync_ca_bundle is None else str(settings.sync_ca_bundle)
    with open_session(f"product-sync/{__version__}", pool_size=1, ca_bundle=ca_bundle) as session:
        yield Webhook(
            url,
            _rotating(settings, "webhook_secret"),
            session=session,
            retry_policy=RetryPolicy(stop.wait, inf if follow else settings.sync_max_retry_time),
            stop=stop,
            on_retry=RunLog().request_retried,
        )


# --- Adobe I/O Events ------------------------------------------------------------------------


@contextmanager
def open_events(
    settings: Settings, stop: Event, run_log: RunLog, *, endless: bool = False
) -> Iterator[Reader]:
    """The journal in the settings, with a credential and a token of its own; nothing is sent yet.

    endless    retry without limit, instead of SYNC_MAX_RETRY_TIME

    Raises SettingsError without EVENTS_JOURNAL_URL.
    """
    if settings.events_journal_url is None:
        raise SettingsError(
            "EVENTS_JOURNAL_URL: is not set: it names the journal to follow.",
            "set it to the URL that the Developer Console shows at the registration.",
        )
    secret = "ims_client_secret" if settings.events_client_secret is None else "events_client_secret"
    ca_bundle = None if settings.sync_ca_bundle is None else str(settings.sync_ca_bundle)
    retry_policy = RetryPolicy(stop.wait, inf if endless else settings.sync_max_retry_time)
    with open_session(f"product-sync/{__version__}", pool_size=1, ca_bundle=ca_bundle, stop=stop) as session:
        tokens = ImsTokens(
            settings.ims_token_url,
            settings.events_client_id or settings.ims_client_id or "",
            _rotating(settings, secret),
            settings.events_scopes.split(","),
            session=session,
            retry_policy=retry_policy,
            timeouts=TIMEOUTS_S,
            on_refresh=run_log.token_refreshed,
            on_retry=partial(run_log.request_retried, "events token"),
            hide=hide_token,
        )
        journal = Journal(
            settings.events_journal_url,
            JournalAuth(tokens, settings.events_ims_org_id or settings.ims_org_id or ""),
            session=session,
            retry_policy=retry_policy,
            on_retry=partial(run_log.request_retried, "events journal"),
        )
        yield Reader(journal, dict(settings.events_codes), settings.events_source)


# --- how fresh the copy must be, and alerts --------------------------------------------------


def freshness_policy(settings: Settings) -> FreshnessPolicy:
    """How fresh the settings require the copy to be."""
    max_lag = timedelta(seconds=settings.sync_max_lag)
    feeds = [
        _by_interval("prices", settings.sync_prices_interval, max_lag),
        _by_interval("stock", settings.sync_stock_interval, max_lag),
        _by_cron("reference", ("reference",), settings.sync_reference_cron, settings),
        _by_cron("reconcile", ("reconcile", "backfill"), settings.sync_reconcile_cron, settings),
    ]
    return FreshnessPolicy(
        store_views=settings.store_views,
        max_lag=max(max_lag, 2 * timedelta(seconds=settings.sync_interval)),
        feeds=tuple(feed for feed in feeds if feed is not None),
    )


def _by_interval(kind: PassKind, every: float | None, max_lag: timedelta) -> FeedPolicy | None:
    if every is None:
        return None
    allowed = max(max_lag, 2 * timedelta(seconds=every))
    return FeedPolicy(kind, (kind,), lambda _began, ended: ended + allowed)


def _by_cron(
    kind: PassKind, kinds: tuple[PassKind, ...], cron: str | None, settings: Settings
) -> FeedPolicy | None:
    if cron is None:
        return None
    max_lag = timedelta(seconds=settings.sync_max_lag)

    def deadline(began: datetime, _ended: datetime) -> datetime:
        return next_time(cron, settings.sync_timezone, began) + max_lag

    return FeedPolicy(kind, kinds, deadline, by_cron=True)


@contextmanager
def open_alerts(
    settings: Settings,
    db: sa.Engine,
    held_back: Mapping[str, str],
    stop: Event,
    tenant: str = "",
    failures: Mapping[str, str] | None = None,
) -> Iterator[Alerts | None]:
    """The alerts for SYNC_ALERT_WEBHOOK; None if it is not set. Nothing is sent yet.

    tenant    the tenant's name, if there are many
    held_back, troubles    as `Alerts` takes them
    """
    if settings.sync_alert_webhook is None:
        yield None
        return
    from sync.monitor.alerts import Alerts

    ca_bundle = None if settings.sync_ca_bundle is None else str(settings.sync_ca_bundle)
    with open_session(f"product-sync/{__version__}", pool_size=1, ca_bundle=ca_bundle) as session:
        webhook = Webhook(
            _plain(settings.sync_alert_webhook),
            None,
            session=session,
            retry_policy=RetryPolicy(stop.wait, ALERT_PATIENCE_S),
            stop=stop,
            on_retry=RunLog().request_retried,
        )
        sender = tenant or tenant_name(settings.api_endpoint)
        yield Alerts(db, freshness_policy(settings), webhook, held_back, sender, tenant, failures)


# --- the app -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Carryover:
    """What an app passes to the next one in this process, if the settings are the same."""

    settings: Settings
    known: TenantMemory
    run_log: RunLog


@dataclass(frozen=True, slots=True)
class App:
    """Everything that lives as long as a command, or as a pass of the daemon."""

    settings: Settings
    db: sa.Engine
    tenant: Tenant
    run_log: RunLog
    stop: Event
    dry: bool
    metrics_hook: MetricsHook | None = None

    @property
    def carryover(self) -> Carryover:
        return Carryover(self.settings, self.tenant.known, self.run_log)

    def sync(
        self, command: str, watch: Watch | None = None, store_views: tuple[str, ...] | None = None
    ) -> Sync:
        """The `Sync` for a pass.

        command        our name in the lease, for other processes
        store_views    instead of those of the settings
        """
        watch = watch or self.run_log
        return Sync(
            source=self.tenant.products,
            client=self.tenant.client,
            db=self.db,
            store_views=store_views or self.settings.store_views,
            owner=lease_holder.describe(command),
            is_dead=lease_holder.is_dead,
            traffic=self.run_log.traffic,
            watch=watch if self.metrics_hook is None else self.metrics_hook.watch(watch),
            stop=self.stop,
            page_size=self.settings.sync_page_size,
            concurrency=self.settings.sync_concurrency,
            overlap=timedelta(seconds=self.settings.sync_overlap),
            max_delete_fraction=self.settings.sync_max_delete_fraction,
            dry=self.dry,
        )


@contextmanager
def opened(
    settings: Settings,
    stop: Event,
    *,
    dry: bool = False,
    shared: bool = False,
    metrics_hook: MetricsHook | None = None,
    carryover: Carryover | None = None,
    max_retry_time: float | None = None,
    before_request: Callable[[], None] = lambda: None,
    overdue: Event | None = None,
    given_views: Collection[str] = (),
) -> Iterator[App]:
    """Everything a pass needs, while the context is open; nothing is sent to the tenant yet.

    stop              once set, work in progress ends with Interrupted
    dry               write nothing, not even an empty database
    shared            share pace and token with other processes of the tenant. Needs PostgreSQL
    metrics_hook      counts events and shows the pacer's rate
    carryover         from a closed app: its token is used again
    max_retry_time    seconds, if it must be less than the settings allow
    before_request    as in `Client`, and `overdue` too
    given_views       store views given to the command, besides those of the settings

    Raises SchemaTooNew, DatabaseUnavailable, and what `tenant_copy` raises.
    """
    collect_less_often()
    alternate_often()
    with ExitStack() as closing:
        db = _copy_to_compare(settings) if dry else tenant_copy(settings, stop, max_retry_time=max_retry_time)
        closing.callback(db.dispose)
        if dry:
            should_claim_copy(db, settings, stop, max_retry_time=max_retry_time)
        else:
            _settle_store_views(db, settings, given_views, stop)
        memory, run_log = _recall(db), RunLog()
        if carryover is not None and carryover.settings == settings:
            memory, run_log = replace(memory, known=carryover.known), carryover.run_log
        tenant = closing.enter_context(
            open_tenant(
                settings,
                run_log,
                stop,
                memory=memory,
                shared_states=SharedStates.of(db, stop) if shared else None,
                metrics_hook=metrics_hook,
                max_retry_time=max_retry_time,
                before_request=before_request,
                overdue=overdue,
                waits=(lambda hook: hook) if dry else partial(_announcing, db, closing),
            )
        )
        if not dry:
            closing.callback(_remember, db, tenant)
            closing.callback(_delete_old_changes, db, settings.sync_changes_keep, stop)
        if metrics_hook is not None:
            pacer = tenant.pacer  # not the app: the metrics outlive it
            metrics_hook.show_pace(lambda: pacer.now)
        yield App(settings, db, tenant, run_log, stop, dry, metrics_hook)


def _announcing(db: sa.Engine, closing: ExitStack, hook: Hook) -> WaitAnnouncer:
    announcer = WaitAnnouncer(db, hook)
    closing.callback(announcer.close)
    return announcer


def _settle_store_views(db: sa.Engine, settings: Settings, given_views: Collection[str], stop: Event) -> None:
    """Record in the copy which store views the settings name now."""
    named = settings.store_views
    if reading(db, lambda c: current_views.is_list_saved(c, named, given_views)):
        return
    for view in in_transaction(db, lambda tx: current_views.save_list(tx, named, given_views), stop=stop):
        _log.warning(
            "store_view.left",
            store_view=view,
            reason=f"STORE_VIEWS no longer names {view}: its products are kept, but not current",
            fix=f"put it back, or run `product-sync forget --store-view {view}`",
        )


def _recall(db: sa.Engine) -> Memory:
    """What an earlier process learned; nothing if an older version stored another form."""
    pace, size = (
        reading(db, lambda connection, name=name: state.load(connection, name))  # type: ignore[misc]
        for name in (PACE, PAGE_SIZE)
    )
    with suppress(TypeError):
        return Memory(Learned(**pace), LearnedSize(**size))
    return Memory()


def _remember(db: sa.Engine, tenant: Tenant) -> None:
    """Store what was learned for the next process; without waiting, since it is dispensable."""
    at_once = Event()
    at_once.set()

    def save(tx: sa.Connection) -> None:
        state.save(tx, PACE, asdict(tenant.pacer.learned))
        state.save(tx, PAGE_SIZE, asdict(tenant.products.learned))

    with suppress(SyncError):
        in_transaction(db, save, stop=at_once)


def _delete_old_changes(db: sa.Engine, keep: float | None, stop: Event) -> None:
    """Delete entries of the feed older than `keep` seconds, a limited number in each pass."""
    if keep is None:
        return
    deleted = 0
    try:
        before = reading(db, utc_now) - timedelta(seconds=keep)
        for _ in range(MOST_DELETIONS):
            count = (
                0
                if stop.is_set()
                else in_transaction(
                    db, partial(delete_older, before=before, limit=DELETED_AT_ONCE), stop=stop
                )
            )
            deleted += count
            if count < DELETED_AT_ONCE:
                break
    except SyncError as error:
        _log.warning("changes.not_deleted", reason=str(error), fix=error.fix)
    if deleted:
        _log.info("changes.deleted", entries=deleted)
