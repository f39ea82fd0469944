"""`product-sync check`: tests each requirement of a sync in turn, and prints a remedy for each failure.

Each test takes a few seconds at most, because a person waits for the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from typing import Literal

import sqlalchemy as sa
from pydantic import SecretStr

from sync.app import Tenant, open_tenant, should_claim_copy
from sync.commerce.permissions import OPTIONAL, PRODUCTS, Permission
from sync.commerce.store_views import store_views
from sync.db import opening
from sync.errors import AccessDenied, CommerceError, SettingsError, SyncError, UnknownStoreViews
from sync.hooks.run_log import RunLog
from sync.model import ADMIN, counted
from sync.settings import Settings, unknown_variables
from sync.settings.parsers import mask_url, tenant_name

PATIENCE_S = 10.0
TIMEOUTS_S = (5.0, 10.0)
MOST_SKEW_S = 60

Status = Literal["ok", "warning", "failed", "skipped"]
WIDTH = 14  # of the column of names
TENANTS_TESTS = ("API", PRODUCTS.name, "store views", *(permission.name for permission in OPTIONAL), "clock")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one test. `exit_code` is not 0 if it failed.

    fix    what to do next, if something is wrong
    """

    name: str
    status: Status
    words: str
    fix: str | None = None
    exit_code: int = 0

    def __str__(self) -> str:
        advice = self.words if self.fix is None else f"{self.words} To do: {self.fix}"
        return f"{self.status:8} {self.name:{WIDTH}} " + advice.replace("\n", "\n" + (WIDTH + 10) * " ")

    def as_json(self) -> dict[str, str | None]:
        return {"name": self.name, "status": self.status, "words": self.words, "fix": self.fix}


def exit_code(findings: Iterable[Finding]) -> int:
    """That of the first failure, 0 without one."""
    return next((finding.exit_code for finding in findings if finding.exit_code), 0)


def report(findings: Sequence[Finding]) -> dict[str, object]:
    """The findings as one JSON object; its `status` is the worst of theirs, `ok` if nothing is wrong."""
    statuses = {finding.status for finding in findings}
    worst = next((status for status in ("failed", "warning") if status in statuses), "ok")
    checks = [finding.as_json() for finding in findings]
    return {"status": worst, "exit_code": exit_code(findings), "checks": checks}


def check(
    settings: Settings, stop: Event, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Iterator[Finding]:
    """Run all tests, yielding each result; skips tests that depend on a failed one.

    now    our clock, to compare with that of Commerce
    """
    yield Finding("settings", "ok", f"complete, for {settings.api_endpoint}")
    for hint in [*unknown_variables(), *settings.exposed_files]:
        yield Finding("settings", "warning", hint)
    with open_tenant(settings, RunLog(), stop, max_retry_time=PATIENCE_S, timeouts=TIMEOUTS_S) as tenant:
        yield from _tenant(tenant, settings, now)
    database = _tried("database", lambda: _database(settings.database_url.get_secret_value()))
    yield database
    if not database.exit_code and (engine := opening.find(settings.database_url.get_secret_value())):
        yield _tried("copy", lambda: _copy(engine, settings, stop))
        engine.dispose()
    if settings.celery_broker_url is not None:
        yield _tried("broker", lambda: _broker(settings))


def failure(subject: str, error: SyncError) -> Finding:
    """The finding for an error that ends a command."""
    return Finding(subject, "failed", str(error), error.fix, error.exit_code)


def _tried(subject: str, attempt: Callable[[], str]) -> Finding:
    """The finding for the text that `attempt` returns, or for its error."""
    try:
        return Finding(subject, "ok", attempt())
    except SyncError as error:
        return failure(subject, error)


# --- the tenant ------------------------------------------------------------------------------


def _tenant(tenant: Tenant, settings: Settings, now: Callable[[], datetime]) -> Iterator[Finding]:
    token = _tried("token", lambda: _token(tenant, settings))
    yield token
    if token.exit_code:
        yield from _skipped(TENANTS_TESTS, token.name)
        return
    try:
        count = tenant.products.count(ADMIN)
    except SyncError as error:
        yield failure("API", error)
        yield from _skipped(TENANTS_TESTS[1:], "API")
        return
    yield Finding("API", "ok", f"lists {counted(count.total, 'product')}")
    yield _granted(PRODUCTS)
    yield _tried("store views", lambda: _store_views(tenant, settings.store_views))
    for permission in OPTIONAL:
        yield _permission(tenant, permission)
    yield _clock(count.server_time, now())


def _skipped(names: Iterable[str], failed: str) -> Iterator[Finding]:
    for name in names:
        yield Finding(name, "skipped", f"not tested, because {failed} failed")


def _permission(tenant: Tenant, permission: Permission) -> Finding:
    """Try a permission that only some commands need: without it, all others work."""
    try:
        permission.request(tenant.client)
    except (CommerceError, SettingsError) as error:
        needed = f"{permission.resource}, needed by {_commands(permission)}"
        words = f"not granted: {needed}." if isinstance(error, AccessDenied) else f"not readable: {needed}."
        return Finding(permission.name, "warning", f"{words} {error}", error.fix)
    return _granted(permission)


def _granted(permission: Permission) -> Finding:
    return Finding(
        permission.name, "ok", f"granted: {permission.resource}, needed by {_commands(permission)}"
    )


def _commands(permission: Permission) -> str:
    return ", ".join(permission.commands)


def _token(tenant: Tenant, settings: Settings) -> str:
    if tenant.tokens is not None:
        tenant.tokens.current()
        return "issued by IMS"
    if settings.commerce_consumer_key is not None:
        return "none needed: the integration's four COMMERCE_ values sign each request (OAuth 1.0a)"
    return (
        "COMMERCE_ACCESS_TOKEN, sent as Bearer: since 2.4.4 Commerce accepts it only where Stores > "
        "Configuration > Services > OAuth > Consumer Settings allows it"
    )


def _store_views(tenant: Tenant, views: Sequence[str]) -> str:
    """List the store views; without the permission to list, which a sync does not need, request each one."""
    try:
        known = [ADMIN, *store_views(tenant.client)]
    except AccessDenied:
        for view in views:
            tenant.products.count(view)
        return f"{', '.join(views)} answer; listing all of them needs the permission Magento_Backend::store"
    unknown = [view for view in views if view not in known]
    if unknown:
        raise UnknownStoreViews(unknown, f"correct STORE_VIEWS; the tenant has {', '.join(known)}.")
    return f"{', '.join(views)}; the tenant has {', '.join(known)}"


def _clock(theirs: datetime | None, ours: datetime) -> Finding:
    if theirs is None:
        return Finding("clock", "warning", "Commerce does not send its time")
    skew = (ours - theirs).total_seconds()
    if abs(skew) <= MOST_SKEW_S:
        return Finding("clock", "ok", "agrees with the tenant's")
    direction = "ahead of" if skew > 0 else "behind"
    words = f"{abs(skew):.0f} s {direction} the tenant's: times in the log are off"
    if skew > 0:
        words += "; more than 10 minutes ahead, requests signed with OAuth 1.0a are refused"
    return Finding("clock", "warning", words)


# --- the copy --------------------------------------------------------------------------------


def _database(url: str) -> str:
    """The state of the copy, and whether it is writable; leaves no trace."""
    engine = opening.find(url)
    shown = mask_url(SecretStr(url))
    if engine is None:
        opening.try_to_write(url)
        return f"{shown} is empty: the first load sets it up"
    engine.dispose()
    opening.try_to_write(url)
    return f"{shown} is up to date"


def _copy(engine: sa.Engine, settings: Settings, stop: Event) -> str:
    """Which tenant's copy it is. Raises AnotherTenant."""
    name = tenant_name(settings.api_endpoint)
    if should_claim_copy(engine, settings, stop, max_retry_time=PATIENCE_S, timeouts=TIMEOUTS_S):
        return f"it has no data of another tenant: the next pass makes it the copy of {name}"
    return f"of {name}"


# --- the workers' queue ----------------------------------------------------------------------


def _broker(settings: Settings) -> str:
    from sync.service.worker import worker_status

    count, slots = worker_status(settings)
    return f"reachable; {counted(count, 'worker')} online, capacity {slots}"
