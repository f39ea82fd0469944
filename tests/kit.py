"""What the integration tests and laws stand on: a tenant, a copy, and the passes between them.

bench = Bench(sandbox, db)
bench.backfill()
bench.assert_copy_is_exact()
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from sync.commerce.client import Client
from sync.commerce.ims import ImsAuth, ImsTokens
from sync.commerce.pacing import Outcome
from sync.commerce.products import Extent, Products
from sync.commerce.retry import RetryPolicy
from sync.commerce.transport import open_session
from sync.db.copy import CopyWriter
from sync.db.engine import reading
from sync.db.leases import LIFE
from sync.db.schema import product_changes, products, rejected_items
from sync.errors import Interrupted
from sync.model import Count, Interval, PassKind, RawProduct, Tally, Traffic, Unreadable
from sync.passes.backfill import EVERYTHING, backfill
from sync.passes.incremental import incremental, targeted
from sync.passes.prefetch import Item
from sync.passes.reconcile import Drift, reconcile, verify
from sync.passes.run import Summary, Sync
from sync.sandbox import Served
from sync.sandbox.access import Credentials

SCOPES = (
    "openid",
    "AdobeID",
    "email",
    "profile",
    "additional_info.roles",
    "additional_info.projectedProductContext",
    "commerce.accs",
)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def unfenced(db: sa.Engine, run_id: int = 1) -> CopyWriter:
    """A writer that has no lease."""
    return CopyWriter(db, run_id, lambda tx: None, threading.Event())


class TenantClock:
    """A tenant's clock that tests set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now.timestamp()


class Stopped(Exception):
    """What `stop_at` raises: a crash, as far as a pass can see."""


def stop_at(page: int) -> Callable[[int], None]:
    """For `Sightings.at_page`: crash once so many pages are written."""

    def crash(number: int) -> None:
        if number >= page:
            raise Stopped

    return crash


class FreePacer:
    """Lets every request start at once: these tests are about something else."""

    def acquire(self, stop: threading.Event) -> float:
        if stop.is_set():
            raise Interrupted("stopped")
        return 0.0

    def release(self, begun: float, outcome: Outcome) -> None: ...


class Overheard(Products):
    """Products that reports each light question, and each one by id, to `at_question` before it is sent."""

    def __init__(self, client: Client, page_size: int, at_question: Callable[[list[int]], None]) -> None:
        super().__init__(client, page_size=page_size)
        self._at_question = at_question

    def by_ids(self, store_view: str, product_ids: Iterable[int]) -> Iterator[RawProduct | Unreadable]:
        named = list(product_ids)
        self._at_question(named)
        return super().by_ids(store_view, named)

    def count(
        self, store_view: str, interval: Interval = EVERYTHING, *, updated_from: datetime | None = None
    ) -> Count:
        self._at_question([])
        return super().count(store_view, interval, updated_from=updated_from)

    def count_of(self, store_view: str, product_ids: Iterable[int]) -> int:
        named = list(product_ids)
        self._at_question(named)
        return super().count_of(store_view, named)

    def highest(
        self, store_view: str, interval: Interval = EVERYTHING, *, updated_from: datetime | None = None
    ) -> Extent:
        self._at_question([])
        return super().highest(store_view, interval, updated_from=updated_from)


@dataclass
class Sightings:
    """A Watch that remembers, and can be told to do something at each page."""

    pages: list[Item] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    held_back: list[str] = field(default_factory=list)
    rejected: list[Unreadable] = field(default_factory=list)
    resumed: bool = False
    at_page: Callable[[int], None] | None = None
    at_expectation: Callable[[], None] | None = None

    def run_started(self, run_id: int, kind: PassKind, store_views: Sequence[str], resumed: bool) -> None:
        self.resumed = self.resumed or resumed  # a second run of the same command begins afresh

    def products_expected(self, total: int) -> None:
        if self.at_expectation is not None:
            self.at_expectation()

    def page_written(self, store_view: str, item: Item, tally: Tally) -> None:
        self.pages.append(item)
        if self.at_page is not None:
            self.at_page(len(self.pages))

    def rows_written(self, count: int, tally: Tally) -> None:
        self.written.append(count)
        if self.at_page is not None:
            self.at_page(len(self.written))

    def product_rejected(self, item: Unreadable) -> None:
        self.rejected.append(item)

    def deletion_held_back(self, message: str) -> None:
        self.held_back.append(message)

    def feed_missed(self, message: str) -> None:
        self.held_back.append(message)

    def store_view_unknown(self, message: str) -> None:
        self.held_back.append(message)

    def run_finished(self, summary: Summary) -> None: ...


@dataclass
class Elsewhere:
    """A sandbox in another process, as far as a client needs to know it."""

    host_url: str
    credentials: Credentials = field(default_factory=Credentials)
    requests: list[Served] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"{self.host_url}/sandbox"

    @property
    def token_url(self) -> str:
        return f"{self.host_url}/ims/token/v3"


@dataclass
class Bench:
    """A sandbox tenant, a database, and short names for the passes."""

    sandbox: Any
    db: sa.Engine
    store_views: tuple[str, ...] = ("all",)
    page_size: int = 100
    concurrency: int = 2
    overlap: timedelta = timedelta(minutes=10)
    max_delete_fraction: float = 0.2
    owner: str = "this test"
    lease_life: timedelta = LIFE
    is_dead: Callable[[str], bool] = lambda owner: False
    max_retry_time: float = 20.0
    at_question: Callable[[list[int]], None] = lambda named: None
    watch: Sightings = field(default_factory=Sightings)
    stop: threading.Event = field(default_factory=threading.Event)

    def client(self) -> Client:
        session = open_session("product-sync/test", pool_size=self.concurrency)
        retry_policy = RetryPolicy(self._doze, self.max_retry_time)
        credentials = self.sandbox.credentials
        tokens = ImsTokens(
            self.sandbox.token_url,
            credentials.client_id,
            lambda: credentials.client_secret,
            SCOPES,
            session=session,
            retry_policy=retry_policy,
        )
        return Client(
            self.sandbox.endpoint,
            ImsAuth(tokens, credentials.org_id),
            session=session,
            pacer=FreePacer(),
            retry_policy=retry_policy,
            stop=self.stop,
        )

    def source(self) -> Products:
        return self._source(self.client())

    def _source(self, client: Client) -> Products:
        return Overheard(client, self.page_size, lambda named: self.at_question(named))

    def _doze(self, seconds: float) -> bool:
        """Wait far less than asked: backoff is not what these tests measure."""
        return self.stop.wait(min(seconds, 0.002))

    def sync(self, *, dry: bool = False) -> Sync:
        client = self.client()
        return Sync(
            source=self._source(client),
            client=client,
            db=self.db,
            store_views=self.store_views,
            owner=self.owner,
            is_dead=self.is_dead,
            lease_life=self.lease_life,
            traffic=lambda: Traffic(requests=len(self.sandbox.requests)),
            watch=self.watch,
            stop=self.stop,
            page_size=self.page_size,
            concurrency=self.concurrency,
            overlap=self.overlap,
            max_delete_fraction=self.max_delete_fraction,
            dry=dry,
        )

    # --- passes ------------------------------------------------------------------------------

    def backfill(
        self, *, restart: bool = False, interval: Interval = EVERYTHING, dry: bool = False
    ) -> Summary:
        return backfill(self.sync(dry=dry), restart=restart, interval=interval)

    def run(self, *, dry: bool = False) -> Summary:
        return incremental(self.sync(dry=dry))

    def run_named(self, *, ids: Sequence[int] = (), skus: Sequence[str] = ()) -> tuple[Summary, list[str]]:
        return targeted(self.sync(), ids, skus)

    def reconcile(
        self, *, allow_mass_delete: bool = False, resume: bool = False, dry: bool = False
    ) -> Summary:
        return reconcile(self.sync(dry=dry), allow_mass_delete=allow_mass_delete, resume=resume)

    def verify(self) -> list[Drift]:
        return verify(self.sync())[1]

    # --- what the copy holds -----------------------------------------------------------------

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[Any]:
        query = sa.select(table).where(*where).order_by(*table.primary_key)
        return reading(self.db, lambda tx: list(tx.execute(query)))

    def live(self, store_view: str = "all") -> dict[int, dict[str, Any]]:
        """Documents of the products that live in the copy, by id."""
        found = self.rows(products, products.c.store_view == store_view, products.c.deleted_at.is_(None))
        return {row.product_id: json.loads(row.document) for row in found}

    def changes(self) -> list[Any]:
        return self.rows(product_changes)

    def open_rejections(self) -> list[Any]:
        return self.rows(rejected_items, rejected_items.c.resolved_at.is_(None))

    def execute(self, sql: str) -> None:
        with self.db.begin() as connection:
            connection.exec_driver_sql(sql)

    def assert_copy_is_exact(self) -> None:
        """Document for document, in every store view."""
        for view in self.store_views:
            catalogue = {i: self.sandbox.catalogue.document(i, view) for i in self.sandbox.catalogue.ids()}
            assert self.live(view) == catalogue

    def assert_feed_tells_who_lives(self) -> None:
        """The feed replayed from its first entry gives the ids that live, and no id arrives twice."""
        living: set[tuple[str, int]] = set()
        for change in self.changes():
            key = (change.store_view, change.product_id)
            if change.kind in ("insert", "restore"):
                assert key not in living, change
                living.add(key)
            elif change.kind == "delete":
                living.remove(key)
            else:
                assert key in living, change
        assert living == {(view, i) for view in self.store_views for i in self.live(view)}
