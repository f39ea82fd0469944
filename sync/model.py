"""The values that all other modules share: intervals, pages, tallies. No I/O.

Durations are seconds, datetimes are aware UTC, ids are Commerce's `entity_id`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, Literal, NamedTuple, Self

PassKind = Literal["backfill", "incremental", "reconcile", "verify", "prices", "stock", "reference", "forget"]
RunStatus = Literal["running", "succeeded", "partial", "failed", "interrupted"]
ChangeKind = Literal["insert", "update", "delete", "restore"]

ADMIN: Final = "all"  # the store view of every product and of default values


def duration(span: timedelta) -> str:
    """A span of time for people, in its two largest units.

    >>> duration(timedelta(hours=1, seconds=4)), duration(timedelta(seconds=90)), duration(timedelta(days=3))
    ('1 h 0 min', '90 s', '3 d 0 h')
    """
    seconds = max(0, int(span.total_seconds()))
    if seconds >= 86_400:
        return f"{seconds // 86_400} d {seconds % 86_400 // 3_600} h"
    if seconds >= 3_600:
        return f"{seconds // 3_600} h {seconds % 3_600 // 60} min"
    return f"{seconds // 60} min" if seconds >= 120 else f"{seconds} s"


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is 1.

    >>> counted(1, "product"), counted(0, "product"), counted(1200, "entry")
    ('1 product', '0 products', '1,200 entries')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("ry") else f"{number:,} {noun}s"


def are(number: int) -> str:
    """The verb that goes with a number.

    >>> are(1), are(0)
    ('is', 'are')
    """
    return "is" if number == 1 else "are"


def fingerprint(content: bytes) -> str:
    """The `content_hash` of an item: the first 128 bits of SHA-256 over its bytes, as hex digits.

    SHA-256, because processors have instructions for it: 1.9 µs for 2 kB, against 3.0 for BLAKE2b.
    """
    return sha256(content).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Interval:
    """The ids in `(after, last]`; `last` None means no upper end."""

    after: int = 0
    last: int | None = None

    def __str__(self) -> str:
        return f"({self.after}, {'∞' if self.last is None else self.last}]"

    @property
    def is_empty(self) -> bool:
        return self.last is not None and self.last <= self.after


class RawProduct(NamedTuple):
    """One item of a page: its id and the bytes Commerce sent for it."""

    product_id: int
    raw: bytes


class AnswerFingerprint(NamedTuple):
    """Recognizes an answer that was received before; carries what is read from it besides products.

    wire_hash      of the request, and of the body and its coding as received: mostly gzip
    total_count    as in Page
    body_bytes     decoded
    """

    wire_hash: str
    total_count: int
    body_bytes: int


@dataclass(frozen=True, slots=True)
class KnownPage:
    """A verified page: when the same bytes are received again, they are not decoded again.

    products       how many
    answer_hash    of the bytes of its items, all together
    copy_hash      of the ids and fingerprints of these products: a copy that equals them has the same hash
    rows_hash      of the copy's rows when they were written from these products or last compared with them;
                   None before that
    receipt        of the last answer that contained them; None when an older version stored the page
    """

    interval: Interval
    products: int
    answer_hash: str
    copy_hash: str
    rows_hash: str | None = None
    receipt: AnswerFingerprint | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of GET /V1/products, checked: `interval` holds these products, and no others.

    products       ascending by id, all inside `interval`
    total_count    rows that matched the request, these included
    server_time    the answer's `Date`, None when the server sent none
    answer_hash    of the bytes of its items; None where they cannot be separated from the rest
    known          the same products in the same bytes, when they were read before
    receipt        None for a page that is not cached
    """

    store_view: str
    interval: Interval
    products: Sequence[RawProduct]
    total_count: int
    server_time: datetime | None
    answer_hash: str | None = None
    known: KnownPage | None = None
    receipt: AnswerFingerprint | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A product the tenant cannot send: every request that includes it fails.

    interval      the smallest id range whose request fails
    product_id    its id, None when the range could not be narrowed to one
    """

    store_view: str
    interval: Interval
    product_id: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Count:
    """How many products the tenant has in an interval, and the server's clock at that moment."""

    total: int
    server_time: datetime | None


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a database can hold; None means more than mapping ever produces.

    row_bytes    all texts of a row together, as UTF-8 in quotes
    digits       of an amount, before and after the decimal point
    """

    row_bytes: int | None = None
    digits: int | None = None

    @property
    def document_bytes(self) -> int | None:
        """For the document: its row also holds the name, which may be most of it."""
        return None if self.row_bytes is None else self.row_bytes // 2


@dataclass(frozen=True, slots=True)
class Tally:
    """What a page, or a whole run, changed.

    rejected    products that were not copied
    altered     products that were written with a value replaced; they also count as inserted, updated or
                unchanged
    """

    fetched: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    rejected: int = 0
    altered: int = 0

    def __add__(self, other: Self) -> Tally:
        return Tally(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def __sub__(self, other: Self) -> Tally:
        return Tally(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    def __iter__(self) -> Iterator[int]:
        return (getattr(self, field.name) for field in fields(self))


# What a product becomes in SQL: table -> the columns that `mapping` fills, in the order of its tuples.
# `db/schema.py` declares their types; a test holds the two together.
PRODUCT_COLUMNS = (
    "store_view",
    "product_id",
    "sku",
    "name",
    "type_id",
    "attribute_set_id",
    "status",
    "visibility",
    "price",
    "weight",
    "created_at",
    "updated_at",
    "document",
)
CHILD_COLUMNS = {
    "product_attributes": ("store_view", "product_id", "attribute_code", "value"),
    "product_categories": ("store_view", "product_id", "category_id", "position"),
    "product_websites": ("store_view", "product_id", "website_id"),
    "product_media": (
        "store_view",
        "product_id",
        "entry_id",
        "media_type",
        "label",
        "position",
        "disabled",
        "types",
        "file",
    ),
    "product_tier_prices": (
        "store_view",
        "product_id",
        "ordinal",
        "customer_group_id",
        "qty",
        "value",
        "percentage_value",
        "website_id",
    ),
    "product_links": (
        "store_view",
        "product_id",
        "link_type",
        "linked_product_sku",
        "linked_product_type",
        "position",
        "qty",
    ),
    "product_variants": ("store_view", "product_id", "child_product_id"),
}


@dataclass(frozen=True, slots=True)
class Traffic:
    """The requests of a run: how many were sent, answered with 429 or 503, and sent again.

    answer_seconds    from sending to the complete answer, summed over all requests
    """

    requests: int = 0
    throttled: int = 0
    retries: int = 0
    answer_seconds: float = 0.0

    def __add__(self, other: Self) -> Traffic:
        return Traffic(*(mine + more for mine, more in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Self) -> Traffic:
        return Traffic(*(mine - less for mine, less in zip(astuple(self), astuple(other), strict=True)))

    @property
    def counts(self) -> dict[str, int]:
        """All but the time."""
        return {"requests": self.requests, "throttled": self.throttled, "retries": self.retries}
