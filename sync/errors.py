"""Every way a sync can stop, and what the user should do next.

    SyncError
    ├── UsageError               the command was called with something it cannot use    exit 64
    ├── SettingsError            the environment or .env is incomplete or wrong          exit 78
    │   └── UnknownStoreViews      Commerce answers, but knows none of the store views    exit 78
    ├── CommerceError            the tenant's side of the wire
    │   ├── CommerceUnavailable    time-outs, 429, 5xx, once retries are spent           exit 69
    │   ├── AnswerUnreadable       an answer in a shape we do not know                   exit 69
    │   │   └── PageFailed           a page the tenant cannot build, a smaller one may work
    │   ├── AccessDenied           401 or 403 with a token fresh from IMS                exit 77
    │   │   └── RequestBlocked       refused by a firewall or proxy, not by the API         exit 77
    │   └── RequestRefused         any other 4xx: our request is wrong                   exit 70
    ├── DatabaseError            our side of the wire
    │   ├── DatabaseUnavailable    out of reach, locked or full, once retries are spent  exit 69
    │   ├── SchemaTooNew           written by a newer product-sync                       exit 78
    │   ├── CopyIncomplete         `db copy` into this database was not completed       exit 78
    │   ├── TargetNotEmpty         `db copy` into a database that is not empty          exit 78
    │   ├── TransferFailed         `db copy` ended with rows that differ                exit 69
    │   ├── AnotherTenant          the copy belongs to another tenant                    exit 78
    │   ├── LeaseHeld              another run is writing, or took over                  exit 75
    │   └── RangeLost              another worker took over this range of ids            exit 75
    ├── QueueUnavailable         the broker is out of reach                              exit 69
    ├── RangesFailed             ranges that no worker could read   exit as the first of them, 69
    └── Interrupted              a signal asked us to stop                               exit 130

`str(error)` says what happened, `error.fix` is the one thing to do next, `error.advice` is both. Only the top
of the command line and of the daemon catches an error, logs it once and turns it into an exit code. Known
secrets are removed from both texts, also where they quote a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sync.logs.redaction import redacted


class SyncError(Exception):
    """A sync stopped for a reason its user can act on."""

    exit_code = 70
    fix = "report it, with the log of this run."

    def __init__(self, message: str, fix: str | None = None) -> None:
        super().__init__(redacted(message))
        if fix is not None:
            self.fix = redacted(fix)

    @property
    def advice(self) -> str:
        """What happened and what to do next, in one line."""
        return f"{self} To do: {self.fix}"


def install_extra(name: str) -> str:
    """What to do where an optional dependency is missing: as a release, and in a checkout."""
    return f"pip install 'commerce-product-sync[{name}]'; in a checkout, pip install '.[{name}]'."


class UsageError(SyncError):
    """The command was called with something it cannot use."""

    exit_code = 64
    fix = "see `product-sync --help`."


class SettingsError(SyncError):
    """The environment or .env is incomplete or wrong; every fault is in the message."""

    exit_code = 78
    fix = "correct the variables named above; .env.example shows each of them."

    def __init__(self, message: str, fix: str | None = None, faults: Mapping[str, str] | None = None) -> None:
        """faults    what is wrong with a variable, by its name, where that is all that is wrong"""
        super().__init__(message, fix)
        self.faults = {name: redacted(fault) for name, fault in (faults or {}).items()}


class UnknownStoreViews(SettingsError):
    """Commerce answers, but knows none of these store views."""

    def __init__(self, store_views: Iterable[str], fix: str | None = None) -> None:
        codes = ", ".join(store_views)
        super().__init__(
            f"Commerce does not know store view {codes}.",
            fix or "correct STORE_VIEWS; `product-sync check` lists the store views of the tenant.",
        )


class CommerceError(SyncError):
    """The tenant's side of the wire.

    unread    a sentence about the ids that were not read because of it
    """

    exit_code = 69
    unread = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (super().__str__(), self.unread)))


class CommerceUnavailable(CommerceError):
    """Time-outs, 429 and 5xx, once retries are spent."""

    fix = "try again later: the next run continues at the last committed page."


class AnswerUnreadable(CommerceError):
    """An answer in a shape we do not know."""

    fix = "check that API_ENDPOINT is the REST base URL and that no proxy or login page answers in its place."


class PageFailed(AnswerUnreadable):
    """A page the tenant cannot build or send: a smaller one may succeed.

    too_large    True when its size is the likely cause (413, 504, time-out, memory): shrink at once
    """

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


class AccessDenied(CommerceError):
    """401 or 403 with a token fresh from IMS, or IMS itself refuses the credential."""

    exit_code = 77
    fix = "check the credential and its permissions."


class RequestBlocked(AccessDenied):
    """A firewall or proxy refuses this request; another one may pass."""

    fix = "ask the operator of the firewall or proxy to allow the User-Agent product-sync."


class RequestRefused(CommerceError):
    """Any other 4xx: our request is wrong."""

    exit_code = 70


class DatabaseError(SyncError):
    """Our side of the wire."""

    exit_code = 69


class DatabaseUnavailable(DatabaseError):
    """Out of reach, locked or full, once retries are spent; no page is half written."""

    fix = "check DATABASE_URL, the server and its free space; the next run continues where this one ended."


class SchemaTooNew(DatabaseError):
    """The database was written by a newer product-sync."""

    exit_code = 78
    fix = "install the newer product-sync again, or point DATABASE_URL at another database."


class CopyIncomplete(DatabaseError):
    """`db copy` into this database was not completed, so it is not used."""

    exit_code = 78
    fix = (
        "run `product-sync db copy` into it again: it starts over; or point DATABASE_URL at another database."
    )

    def __init__(self) -> None:
        super().__init__("the database holds a copy that `product-sync db copy` has not completed.")


class TargetNotEmpty(DatabaseError):
    """`db copy` writes into an empty database only; nothing was written."""

    exit_code = 78
    fix = "name an empty database, or empty this one."


class TransferFailed(DatabaseError):
    """`db copy` ended with rows that differ from the source's; the target stays marked as incomplete."""

    fix = "keep using the source, which is unchanged; the other database does not hold each of its values."


class AnotherTenant(DatabaseError):
    """The copy belongs to another tenant than the settings name; nothing was written.

    copy_of    None when the copy has no tenant noted, and its products are not this tenant's
    """

    exit_code = 78

    def __init__(self, copy_of: str | None, tenant: str) -> None:
        whose = "products of another tenant" if copy_of is None else f"the copy of {copy_of}"
        super().__init__(
            f"the database holds {whose}, and API_ENDPOINT names {tenant}.",
            "correct API_ENDPOINT or DATABASE_URL; or run `product-sync adopt` to make this the copy of the "
            "tenant in the settings.",
        )


class LeaseHeld(DatabaseError):
    """Another run writes to this database, or took over from this one."""

    exit_code = 75
    fix = "wait for it, or stop it; a dead run's lease expires by itself."

    def __init__(self, owner: str, since: datetime, until: datetime) -> None:
        super().__init__(
            f"{owner} has been writing to this database since {since:%Y-%m-%d %H:%M:%S} UTC "
            f"and holds the lease until {until:%H:%M:%S} UTC."
        )


class RangeLost(DatabaseError):
    """Another worker took over this range, or it was cut shorter: what was read of it is discarded."""

    exit_code = 75
    fix = "no action needed: the other worker reads the range."

    def __init__(self, ids: str) -> None:
        super().__init__(f"The ids {ids} were taken over by another worker.")


class QueueUnavailable(SyncError):
    """The broker between a pass and its workers is out of reach."""

    exit_code = 69
    fix = "check CELERY_BROKER_URL and the broker; the next run continues where this one ended."


class RangesFailed(SyncError):
    """Some ranges could not be read by any worker; all others are read.

    exit_code    that of the first failure
    """

    exit_code = 69

    def __init__(self, message: str, fix: str, exit_code: int) -> None:
        super().__init__(message, fix)
        self.exit_code = exit_code


class Interrupted(SyncError):
    """A signal asked us to stop; what is committed stays, and the next run continues there."""

    exit_code = 130
    fix = (
        "start it again: `backfill` and `run` continue after the last committed page, the others start over."
    )
