"""The Celery application: one task, "read this range", and the queue that a leading run fills.

Celery delivers tasks (passes/workers.py) and nothing else: no result, no schedule, no retry. The database
decides whether a task is still valid, so late or repeated delivery does no harm. One process is one worker:
its threads share a token, a pacer and connections, and read one range each. A second processor core needs a
second worker.

Tasks are acknowledged late and fetched one per free thread, so tasks that no thread has begun stay at the
broker. Each copy has its own queue, named after an identity in its database: several tenants, or a test
system, can use the same broker.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from math import inf
from threading import Event
from typing import Any, Final
from uuid import uuid4

import sqlalchemy as sa
import structlog

from sync import logs
from sync.app import App, ensure_same_tenant, opened
from sync.db import state
from sync.db.engine import reading
from sync.errors import (
    AnotherTenant,
    DatabaseUnavailable,
    Interrupted,
    QueueUnavailable,
    SettingsError,
    SyncError,
    install_extra,
)
from sync.hooks.run_log import RunLog
from sync.logs.redaction import foreign
from sync.passes.run import repeating
from sync.passes.workers import RangeTask, Unreported, work_off
from sync.settings import Settings
from sync.settings.served import ServedTenants

try:
    from celery import Celery, signals
    from celery.exceptions import CPendingDeprecationWarning, Reject, SecurityWarning
    from celery.worker.control import inspect_command
    from kombu.connection import Connection
    from kombu.exceptions import KombuError
except ImportError as missing:
    raise SettingsError(f"workers need the package {missing.name}.", install_extra("celery")) from None

TASK: Final = "product_sync.read_range"
STATUS_REQUEST: Final = "product_sync_hands"  # and "hands": names that older workers know
ANSWER_S: Final = 1.0  # how long workers have to answer
PARTING_S: Final = 2.5  # wait for a database that is being opened; no work depends on it yet
DATABASE_AWAY_S: Final = 5.0  # between two tries to reach a database

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


def application(broker_url: str) -> Celery:
    """The Celery application on a broker, RabbitMQ or Redis.

    Raises SettingsError for a URL that no client can use. Does not check that the broker answers.
    """
    celery = Celery("product-sync", broker=broker_url, set_as_current=False)
    celery.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=5,
        task_acks_late=True,
        task_ignore_result=True,
        task_publish_retry_policy={"max_retries": 3, "interval_start": 0.2, "interval_step": 0.5},
        task_reject_on_worker_lost=True,
        worker_enable_prefetch_count_reduction=False,  # else threads would restore it on a shared connection
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
    )
    try:
        with celery.connection_for_write() as link, suppress(*_faults(link)):
            link.connect()
    except (ValueError, TypeError, LookupError) as error:
        reason = foreign(error) or type(error).__name__
        raise SettingsError(f"CELERY_BROKER_URL: cannot be used: {reason}") from None
    return celery


def broker_of(settings: Settings) -> str:
    """The broker's URL. Raises SettingsError if workers cannot be used."""
    faults = []
    if settings.celery_broker_url is None:
        faults.append("CELERY_BROKER_URL: is not set: workers receive their tasks from this broker.")
    if not settings.database_url.get_secret_value().startswith("postgresql"):
        faults.append("DATABASE_URL: is not PostgreSQL, the only database that workers can share.")
    if faults or settings.celery_broker_url is None:
        raise SettingsError("\n".join(faults))
    return settings.celery_broker_url.get_secret_value()


# --- the leader -------------------------------------------------------------------------------


class CeleryQueue:
    """Sends tasks to the workers of one copy."""

    def __init__(self, celery: Celery, copy: str) -> None:
        self._celery = celery
        self._copy = copy
        self._warned = False
        self._faults = _faults(celery.connection_for_write())

    def put(self, tasks: Sequence[RangeTask]) -> None:
        """Send tasks. Raises QueueUnavailable."""
        try:
            for task in tasks:
                self._celery.send_task(TASK, (self._copy, asdict(task)), queue=queue_name(self._copy))
        except self._faults as error:
            raise _unavailable(error) from None
        _log.info("orders.enqueued", ranges=len(tasks))

    def hands(self) -> int:
        """The slots of all workers that answer; logs once if there are none."""
        try:
            mine = [answer for answer in _answers(self._celery) if self._copy in answer["copies"]]
        except self._faults:
            return 0
        if not mine and not self._warned:
            self._warned = True
            _log.warning("workers.awaited", reason="no worker answers", fix="start `product-sync worker`")
        return sum(answer["hands"] for answer in mine)


@contextmanager
def queue_for(live: App) -> Iterator[CeleryQueue]:
    """The queue of this copy's workers. Raises SettingsError if workers cannot be used."""
    celery = application(broker_of(live.settings))
    try:
        yield CeleryQueue(celery, _identity(live.db))
    finally:
        celery.close()


def queue_name(copy: str) -> str:
    return f"product-sync.{copy}"


def _identity(db: sa.Engine) -> str:
    """The identity of this copy, also distinct from a restored backup under another name."""

    def look(connection: sa.Connection) -> str:
        place = connection.exec_driver_sql("SELECT current_database() || '.' || current_schema()")
        return f"{state.load(connection, 'identity')}.{place.scalar_one()}"

    return reading(db, look)


def worker_status(settings: Settings) -> tuple[int, int]:
    """How many workers of any copy answer at the broker, and how many slots they have.

    Raises SettingsError and QueueUnavailable.
    """
    celery = application(broker_of(settings))
    try:
        answers = _answers(celery)
    except _faults(celery.connection_for_write()) as error:
        raise _unavailable(error) from None
    return len(answers), sum(answer["hands"] for answer in answers)


def _answers(celery: Celery) -> list[dict[str, Any]]:
    """The status of each worker, over a new connection, because a kept one may have been closed."""
    with celery.connection_for_write() as link:
        link.ensure_connection(max_retries=1, timeout=ANSWER_S)
        answers = celery.control.broadcast(STATUS_REQUEST, reply=True, timeout=ANSWER_S, connection=link)
    return [answer for each in answers or [] for answer in each.values()]


def _faults(link: Connection) -> tuple[type[Exception], ...]:
    """The errors of a broker's transport if the broker is away."""
    return (KombuError, *link.connection_errors, *link.channel_errors)


def _unavailable(error: Exception) -> QueueUnavailable:
    return QueueUnavailable(f"the broker cannot be reached: {foreign(error).rstrip('.')}.")


# --- a worker --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenTenant:
    """A tenant that this worker serves, and traffic not yet reported to that tenant's runs."""

    name: str
    live: App
    unreported: Unreported


class OpenTenants:
    """The tenants that this worker serves, by the identities of their copies.

    closing    closes opened tenants
    """

    def __init__(self, served: ServedTenants, stop: Event, closing: ExitStack) -> None:
        self._served = served
        self._stop = stop
        self._closing = closing
        self._open: dict[str, OpenTenant] = {}
        self._away: list[str] = []

    def __getitem__(self, copy: str) -> OpenTenant:
        return self._open[copy]

    @property
    def any(self) -> OpenTenant:
        return next(iter(self._open.values()))

    @property
    def copies(self) -> list[str]:
        return [*self._open]

    def take_first(self) -> None:
        """Open every tenant. Raises the first error if none can be opened."""
        faults = [it for name in self._served.members if isinstance(it := self._try_opening(name), SyncError)]
        if not self._open:
            raise faults[0] if faults else SettingsError("the tenants file has no tenant.")

    def take_late(self) -> Iterator[str]:
        """Open tenants whose database is back; yields the identities of their copies."""
        for name in [*self._away]:
            if self._stop.is_set():
                return
            self._away.remove(name)
            if isinstance(copy := self._try_opening(name, again=True), str):
                yield copy

    def _try_opening(self, name: str, *, again: bool = False) -> str | SyncError:
        """Open a tenant. Returns the identity of its copy, or the error."""
        with logs.of_tenant(name):
            try:
                copy = self._take(name)
            except SyncError as fault:
                is_away = isinstance(fault, DatabaseUnavailable)
                if is_away:
                    self._away.append(name)
                if not (self._served.is_alone or (again and is_away)):
                    _log.error("tenant.refused", error=str(fault), fix=fault.fix)
                return fault
            if again:
                _log.info("tenant.joined")
            return copy

    def _take(self, name: str) -> str:
        settings = self._served.members[name]
        if isinstance(settings, SettingsError):
            raise settings
        broker_of(settings)
        with ExitStack() as opening:
            live = opening.enter_context(opened(settings, self._stop, shared=True))
            copy = _identity(live.db)
            self._open[copy] = OpenTenant(name, live, Unreported(live.run_log.traffic))
            self._closing.push(opening.pop_all())
        return copy


def work(served: ServedTenants) -> None:
    """Read ranges until SIGTERM or SIGINT; then finish the current pages.

    With many tenants, an error of one is logged and the others are served; a tenant whose database is away
    joins when it is back. Raises QueueUnavailable if the broker refuses us; SettingsError, SchemaTooNew and
    DatabaseUnavailable if no tenant can be served.
    """
    slots, stop = served.process.sync_concurrency, Event()
    with ExitStack() as closing:
        tenants = OpenTenants(served, stop, closing)
        tenants.take_first()
        celery = application(broker_of(tenants.any.live.settings))
        _prepare(celery, tenants, stop, slots)
        closing.enter_context(warnings.catch_warnings())
        for harmless in (SecurityWarning, CPendingDeprecationWarning):  # running as root; a wanted default
            warnings.simplefilter("ignore", harmless)
        worker = celery.Worker(
            hostname=f"product-sync-{uuid4().hex[:12]}@{socket.gethostname()}",  # unique to each process
            pool="threads",
            concurrency=slots,
            queues=[queue_name(copy) for copy in tenants.copies],
            loglevel="WARNING",
            quiet=True,
            without_gossip=True,
            without_heartbeat=True,
            without_mingle=True,
        )

        def consume(copy: str) -> None:
            queues, name = celery.amqp.queues, queue_name(copy)
            queues.select_add(queues[name])  # for future connections
            worker.consumer.call_soon(worker.consumer.add_task_queue, name)  # for this connection

        def admit() -> None:
            try:
                for copy in tenants.take_late():
                    consume(copy)
            except Exception as fault:  # noqa: BLE001 - the others may still join
                _log.error("tenant.refused", error=type(fault).__name__)

        with repeating(admit, DATABASE_AWAY_S, stop, name="seats", patience_s=PARTING_S):
            worker.start()
    _log.info("worker.stopped")
    if worker.exitcode:
        raise QueueUnavailable("the broker refuses this worker; the log has the reason.")


def _prepare(celery: Celery, tenants: OpenTenants, stop: Event, slots: int) -> None:
    """Register the task, the status command and the signal handlers."""
    watch = RunLog(progress_s=inf)  # the leader reports progress

    def read_range(copy: str, task: dict[str, Any]) -> None:
        _do(tenants[copy], RangeTask(**task), watch, stop)

    def report_status(_state: object) -> dict[str, Any]:
        return {"copies": tenants.copies, "hands": 0 if stop.is_set() else slots}

    celery.task(read_range, name=TASK)
    inspect_command(name=STATUS_REQUEST)(report_status)
    signals.setup_logging.connect(_keep_ours, weak=False)
    signals.worker_ready.connect(lambda **_: _log.info("worker.ready", slots=slots), weak=False)
    signals.worker_shutting_down.connect(lambda **_: stop.set(), weak=False)


def _keep_ours(**_: Any) -> None:
    """Keep our logging: Celery sets up its own unless this signal has a handler."""


def _do(tenant: OpenTenant, task: RangeTask, watch: RunLog, stop: Event) -> None:
    """Execute a task; return it to the broker if its database is away."""
    sync = tenant.live.sync("worker", watch)
    about = structlog.contextvars.bound_contextvars(run=task.run_id, store_view=task.store_view)
    with logs.of_tenant(tenant.name), about:
        _log.debug("order.received", first_id=task.first_id)
        try:
            ensure_same_tenant(tenant.live.db, tenant.live.settings)
            outcome = work_off(sync, task, tenant.unreported)
        except Interrupted:
            raise Reject("stopping", requeue=True) from None
        except (AnotherTenant, DatabaseUnavailable) as error:
            _log.error("range.put_back", first_id=task.first_id, error=str(error), fix=error.fix)
            stop.wait(DATABASE_AWAY_S)
            raise Reject("not this worker's", requeue=True) from None
        _log.info(f"range.{outcome}", first_id=task.first_id)
