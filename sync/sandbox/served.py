"""What the sandbox remembers of each request, for tests and benchmarks to count."""

from __future__ import annotations

from dataclasses import dataclass

from sync.sandbox.families import Kind


@dataclass(frozen=True, slots=True)
class Served:
    """One request the tenant answered.

    at             the tenant's clock when it came in
    seconds        real time until the answer was ready
    items_count    products or other items in the answer, None for anything but a list
    after_id       the cursor, `entity_id gt`
    """

    method: str
    path: str
    query: str
    store_view: str | None
    status: int
    at: float
    seconds: float
    items_count: int | None
    after_id: int | None
    page_size: int | None
    kind: Kind
