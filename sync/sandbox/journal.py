"""The journal of Adobe I/O Events in front of the tenant: an edit of a product becomes an event.

Request and answers as Adobe documents them: `since` is exclusive, `limit` stays in the relative link `next`,
204 at the end, 410 for a position that has expired. How events come out of order, twice or never is set by
the members of `SimulatedJournal`, at any time.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

from sync.sandbox.access import Credentials, TokenOffice, bearer
from sync.sandbox.replies import Refused, Reply, gateway, json_reply
from sync.sandbox.tenant import Request

PATH: Final = "/events/organizations/1/integrations/2/3"
CODE: Final = "com.adobe.commerce.observer.{}"
CODES: Final = {
    "save": CODE.format("catalog_product_save_commit_after"),
    "delete": CODE.format("catalog_product_delete_commit_after"),
    "stock": CODE.format("cataloginventory_stock_item_save_commit_after"),
}
START: Final = f"moose:{uuid.UUID(int=0)}:{uuid.UUID(int=0)}"  # before the first event
END_S: Final = 1  # `retry-after` of the end
MOST: Final = 100  # events in an answer without `limit`


@dataclass(frozen=True, slots=True)
class _Entry:
    """An event; nobody reads it before `visible_at`."""

    position: str
    visible_at: float
    event: Any


class SimulatedJournal:
    """The events of one registration.

    is_on       whether edits become events
    delay_s     from an edit until its event can be read
    lost        share of events that are never written; `doubled` of those that come twice
    shuffled    share of events that come before the one that was written before them
    failures    status codes to answer the next requests with
    source      `data.source` of events from now on
    """

    def __init__(
        self, credentials: Credentials, tokens: TokenOffice, clock: Callable[[], float], seed: int
    ) -> None:
        self.is_on = False
        self.delay_s = self.lost = self.doubled = self.shuffled = 0.0
        self.failures: list[int] = []
        self.source = "merchant.sandbox"
        self._credentials = credentials
        self._tokens = tokens
        self._clock = clock
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._expired = 0

    def note(self, action: str, product_id: int, sku: str) -> None:
        """An edit of the catalogue: an event, as the settings have it."""
        if self.is_on and self._random.random() >= self.lost:
            self.publish(CODES[action], {"id": str(product_id), "sku": sku})

    def publish(self, code: str, value: Mapping[str, Any], **members: Any) -> None:
        """Append an event; `members` replace its own."""
        now = self._clock()
        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": "urn:uuid:sandbox",
            "type": code,
            "datacontenttype": "application/json",
            "time": datetime.fromtimestamp(now, UTC).isoformat(),
            "eventid": str(uuid.uuid4()),
            "data": {"key": str(uuid.uuid4()), "source": self.source, "value": value},
        } | members
        entry = _Entry(f"moose:{uuid.uuid4()}:{uuid.uuid4()}", now + self.delay_s, event)
        with self._lock:
            is_swapped = self._random.random() < self.shuffled and len(self._entries) > self._expired
            last = self._entries[-1] if is_swapped else None
            if last is not None and last.visible_at > now:  # one that was read keeps its place
                self._entries[-1:] = [entry, last]
            else:
                self._entries.append(entry)
            if self._random.random() < self.doubled:
                self._entries.append(replace(entry, position=f"moose:{uuid.uuid4()}:{uuid.uuid4()}"))

    def append_raw(self, event: Any) -> None:
        """Append a record that may be anything."""
        with self._lock:
            self._entries.append(_Entry(f"moose:{uuid.uuid4()}:{uuid.uuid4()}", self._clock(), event))

    def expire(self) -> None:
        """Forget all events so far: their positions are answered 410."""
        with self._lock:
            self._expired = len(self._entries)

    def answer(self, request: Request) -> Reply:
        try:
            self._admit(request.headers)
        except Refused as refused:
            return refused.reply
        if self.failures:
            return gateway(status := self.failures.pop(0), str(status * 1000), "as the sandbox was told")
        query = {name: values[0] for name, values in parse_qs(request.query).items()}
        with self._lock:
            return self._batch(query)

    def _admit(self, headers: Mapping[str, str]) -> None:
        if not self._tokens.is_valid(bearer(headers)):
            raise Refused(gateway(401, "401013", "Oauth token is not valid"))
        if headers.get("x-api-key") != self._credentials.client_id:
            raise Refused(gateway(403, "403003", "Api Key is invalid"))
        if headers.get("x-ims-org-id") != self._credentials.org_id:
            raise Refused(gateway(403, "403025", "Profile is not valid"))

    def _batch(self, query: Mapping[str, str]) -> Reply:
        begin = self._begin(query)
        if begin < self._expired:
            return Reply(410, b"Events at that position have expired.", "text/plain")
        readable = [it for it in self._entries[begin:] if it.visible_at <= self._clock()]
        found = readable[: int(query.get("limit", MOST))]
        since = found[-1].position if found else query.get("since") or self._last()
        limit = {"limit": query["limit"]} if "limit" in query else {}
        link = f"{PATH}?{urlencode({'since': since, **limit})}"
        headers = {"Link": f'<{link}>; rel="next"'}
        if not found:
            return Reply(204, b"", headers={**headers, "Retry-After": str(END_S)})
        events = [{"position": it.position, "event": it.event} for it in found]
        page = {"last": found[-1].position, "count": len(found)}
        return replace(json_reply(200, {"events": events, "_page": page}), headers=headers)

    def _last(self) -> str:
        return self._entries[-1].position if self._entries else START

    def _begin(self, query: Mapping[str, str]) -> int:
        """The place of the first event to return."""
        if query.get("latest") == "true":
            return len(self._entries)
        places = {START: 0} | {it.position: place + 1 for place, it in enumerate(self._entries)}
        return places.get(query.get("since", ""), self._expired)
