"""One message when something goes wrong, and one when it is well again.

    look ──> what is wrong now ──> compared, under a lock, with what the database says was told
                                       └──> what is new or over ──> claimed ──> posted ──> noted as told

Invariant: a message is noted as told only behind the receiver's 2xx, and nobody else posts it meanwhile. So
restarts and several daemons send it once; a crash between the two sends it twice, with the same
Idempotency-Key. What came and went before anybody could be told is not told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Final

import msgspec
import sqlalchemy as sa
import structlog

from sync.db import health, state
from sync.db.dialects import utc_now
from sync.db.engine import in_transaction, reading
from sync.db.health import Freshness
from sync.errors import Interrupted, SyncError
from sync.health import Problem, Promise, judge
from sync.webhook import Webhook

NAME: Final = "alerts"  # in sync_state
FAILURES: Final = 3  # in a row
CLAIM: Final = timedelta(minutes=5)  # longer than posting a message is tried
_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is or was wrong.

    since      when that was seen, ISO 8601
    told       the receiver knows
    is_over    well again, and the receiver does not know that yet
    claimed    until when somebody is posting it, ISO 8601; blank: nobody
    """

    feed: str
    reason: str
    since: str
    told: bool = False
    is_over: bool = False
    claimed: str = ""

    @property
    def is_pending(self) -> bool:
        return self.is_over or not self.told


class Alerts:
    """Looks at the copy, and posts what changed; one thread at a time.

    held_back    by kind of pass, what its last run here did not believe: "" for nothing
    tenant       whose copy it is, where there are many; "" for the only one
    """

    def __init__(
        self,
        db: sa.Engine,
        promise: Promise,
        webhook: Webhook,
        held_back: Mapping[str, str],
        tenant: str = "",
    ) -> None:
        self._tenant = tenant
        self._db = db
        self._promise = promise
        self._webhook = webhook
        self._held_back = held_back
        self._first_seen: dict[str, datetime] = {}
        self._unreachable = 0
        self._lock = Lock()

    def look(self) -> None:
        """Find what is wrong, and tell what is news; what cannot be told now is told another time."""
        with self._lock:
            try:
                self._look()
            except Interrupted:
                return
            except SyncError as error:
                _log.warning("alert.failed", error=str(error), fix=error.fix)

    def _look(self) -> None:
        try:
            wrong = reading(self._db, self._wrong)
        except SyncError as error:
            self._miss_database(str(error))
            raise
        self._find_database()
        if not reading(self._db, lambda tx: self._is_news(_load(tx), wrong)):
            return
        mine = _in_turn(self._db, lambda tx, known: self._claimed(tx, known, wrong))
        self._tell(mine)

    # --- what is wrong -----------------------------------------------------------------------

    def _wrong(self, connection: sa.Connection) -> dict[str, Problem]:
        found = health.freshness(connection)
        problems = [
            it for it in judge(self._promise, found) if not it.is_first or self._is_overdue(it, found)
        ]
        for kind, (count, error) in health.failures(connection).items():
            if count >= FAILURES:
                reason = f"{kind} failed {FAILURES} times in a row or more: {error}"
                problems.append(Problem(f"failing:{kind}", kind, reason))
        held_back = [(kind, reason) for kind, reason in self._held_back.items() if reason]
        problems += [Problem(f"held_back:{kind}", kind, reason) for kind, reason in held_back]
        return {problem.key: problem for problem in problems}

    def _is_overdue(self, problem: Problem, found: Freshness) -> bool:
        """Whether what was never read should have been by now: none of it, while a load is at work."""
        since = self._first_seen.setdefault(problem.key, found.now)
        return not found.running and found.now - since > self._promise.max_lag

    def _is_news(self, known: Mapping[str, Alert], wrong: Mapping[str, Problem]) -> bool:
        moved = self._moved(known, wrong, "")
        return moved != known or any(alert.is_pending for alert in moved.values())

    def _moved(self, known: Mapping[str, Alert], wrong: Mapping[str, Problem], now: str) -> dict[str, Alert]:
        """What is known after a look: news are added, what was told is over, the rest goes."""
        moved = {
            key: replace(known[key], is_over=False)
            if key in known
            else Alert(problem.feed, problem.reason, since=now)
            for key, problem in wrong.items()
        }
        for key, alert in known.items():
            if key in wrong:
                continue
            if self._cannot_tell(key):
                moved[key] = alert
            elif alert.told or alert.claimed > now:
                moved[key] = replace(alert, is_over=True)
        return moved

    def _cannot_tell(self, key: str) -> bool:
        """Deletions held back are known of runs of this process only."""
        what, _, kind = key.partition(":")
        return what == "held_back" and kind not in self._held_back

    def _claimed(
        self, tx: sa.Connection, known: dict[str, Alert], wrong: Mapping[str, Problem]
    ) -> tuple[dict[str, Alert], dict[str, Alert]]:
        """What is known now, and of it what is ours to post."""
        now = utc_now(tx)
        moved = self._moved(known, wrong, now.isoformat())
        until = (now + CLAIM).isoformat()
        mine = {
            key: replace(alert, claimed=until)
            for key, alert in moved.items()
            if alert.is_pending and alert.claimed < now.isoformat()
        }
        return moved | mine, mine

    # --- telling it --------------------------------------------------------------------------

    def _tell(self, mine: Mapping[str, Alert]) -> None:
        """Post each and note so; where one fails, leave the rest to the next look, whoever's that is."""
        untold = dict(mine)
        try:
            for key, alert in mine.items():
                self._post(key, alert)
                self._note_told(key, alert)
                del untold[key]
        except BaseException:
            _in_turn(self._db, lambda _tx, known: (_unclaimed(known, untold), None))
            raise

    def _note_told(self, key: str, alert: Alert) -> None:
        _in_turn(self._db, lambda _tx, known: (_told(known, key, alert), None))

    def _post(self, key: str, alert: Alert) -> None:
        whose = f"product-sync, {self._tenant}" if self._tenant else "product-sync"
        event = "recovered" if alert.is_over else "problem"
        body = {
            "text": f"{whose}, well again: {alert.reason}" if alert.is_over else f"{whose}: {alert.reason}",
            "event": event,
            **({"tenant": self._tenant} if self._tenant else {}),
            "alert": key,
            "feed": alert.feed,
            "reason": alert.reason,
            "since": alert.since,
        }
        name = f"{self._tenant} {key} {alert.since} {event}".strip().encode("ascii", "replace").decode()
        self._webhook.post(msgspec.json.encode(body), {"Idempotency-Key": name})
        _log.info("alert.sent", alert=key, what=event)

    def _miss_database(self, reason: str) -> None:
        """Where nothing can be looked up, this process alone remembers what it told."""
        self._unreachable += 1
        if self._unreachable == FAILURES:
            self._post("database", Alert("database", reason, since=""))

    def _find_database(self) -> None:
        told, self._unreachable = self._unreachable >= FAILURES, 0
        if told:
            self._post("database", Alert("database", "The database answers.", since="", is_over=True))


def _told(known: dict[str, Alert], key: str, posted: Alert) -> dict[str, Alert]:
    """What is known once the receiver has taken a message: what is over is forgotten."""
    if key not in known:
        return known
    if posted.is_over and known[key].is_over:
        return {other: alert for other, alert in known.items() if other != key}
    return known | {key: replace(known[key], told=not posted.is_over, claimed="")}


def _unclaimed(known: dict[str, Alert], keys: Collection[str]) -> dict[str, Alert]:
    return known | {key: replace(known[key], claimed="") for key in keys if key in known}


def _load(connection: sa.Connection) -> dict[str, Alert]:
    """What is known; nothing where an older version wrote it differently."""
    try:
        return {key: Alert(**alert) for key, alert in (state.load(connection, NAME) or {}).items()}
    except TypeError:
        return {}


def _in_turn(
    db: sa.Engine, edit: Callable[[sa.Connection, dict[str, Alert]], tuple[dict[str, Alert], Any]]
) -> Any:
    """Change what is known, one process after the other; return the second value of `edit`."""

    def work(tx: sa.Connection) -> Any:
        state.lock(tx, NAME)
        known, result = edit(tx, _load(tx))
        state.save(tx, NAME, {key: asdict(alert) for key, alert in known.items()})
        return result

    return in_transaction(db, work)
