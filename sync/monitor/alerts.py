"""Alerts: one message when an outage begins, and one when it is over.

    look ──> current problems ──> compared, under a lock, with the incidents in the database
                                       └──> new or resolved ──> claimed ──> posted ──> marked as sent

An incident groups all problems of one outage. A problem that appears during an incident joins it without a
message of its own, unless its feed worked after the incident began. An incident is over when none of its
problems remains. Deletions held back form an incident of their own.

Invariant: a message is marked as sent only after the receiver's 2xx, and no other process posts it meanwhile.
So restarts and several daemons send it once. A crash between the two steps sends it twice, with the same
Idempotency-Key. An incident that begins and ends before its message could be sent is never sent.

Sources: Slack, "Formatting text for app surfaces" (escape `&`, `<`, `>`); Mattermost, "Incoming webhooks" (at
most 16,383 characters); Microsoft Teams, "Create Incoming Webhooks" (28 KB).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from html import escape
from threading import Lock
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
import structlog

from sync.db import health, state
from sync.db.dialects import utc_now
from sync.db.engine import in_transaction, reading
from sync.db.health import TO_DO, Freshness
from sync.errors import Interrupted, SyncError
from sync.feed.webhook import Webhook
from sync.monitor.freshness import FreshnessPolicy, Problem, problems
from sync.monitor.steady import SteadyAges, uptime

NAME: Final = "alerts"  # in sync_state
FAILURES: Final = 3  # in a row
CLAIM: Final = timedelta(minutes=5)  # longer than all tries to post one message
LONGEST_TEXT: Final = 1_000  # characters
HELD_BACK: Final = "held_back:"  # prefix of the key of such a problem
JOBS: Final[Mapping[str, str]] = {"incremental": "run", "backfill": "run"}
CHECK: Final = "run `product-sync check`, which names the cause."
_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sync")


@dataclass(frozen=True, slots=True)
class Alert:
    """One incident.

    feed       the first feed with a problem
    reason     all problems at the start of the incident
    since      when they were found, ISO 8601
    told       whether the receiver has the message that it began
    is_over    whether it is over and the receiver does not have that message yet
    claimed    until when a process is posting it, ISO 8601; blank: none is
    fix        what to do
    members    keys of the problems that remain
    """

    feed: str
    reason: str
    since: str
    told: bool = False
    is_over: bool = False
    claimed: str = ""
    fix: str = ""
    members: list[str] = field(default_factory=list)

    @property
    def is_pending(self) -> bool:
        return self.is_over or not self.told


class _Observation(NamedTuple):
    """What one look found.

    wrong         problems by key
    well_at       ISO 8601, by feed: when it last worked
    running       kinds of pass in progress
    """

    wrong: Mapping[str, Problem]
    well_at: Mapping[str, str]
    running: Collection[str]


class Alerts:
    """Finds the problems of a copy and posts what changed; one thread at a time.

    held_back    by kind of pass, the deletions that its last run in this process held back; "" for none
    sender       the start of each message: the tenant's name, or the Commerce host
    tenant       the tenant's name; "" if the process serves only one
    failures     by job, the error and remedy of its last run in this process
    """

    def __init__(
        self,
        db: sa.Engine,
        policy: FreshnessPolicy,
        webhook: Webhook,
        held_back: Mapping[str, str],
        sender: str = "product-sync",
        tenant: str = "",
        failures: Mapping[str, str] | None = None,
    ) -> None:
        self._sender = sender
        self._tenant = tenant
        self._db = db
        self._policy = policy
        self._webhook = webhook
        self._held_back = held_back
        self._troubles = {} if failures is None else failures
        self._ages = SteadyAges(policy.max_lag)
        self._first_seen: dict[str, float] = {}
        self._unreachable = 0
        self._database: Alert | None = None  # sent while the database was away
        self._is_known_bad = False
        self._lock = Lock()

    def look(self) -> None:
        """Find problems and post what changed. A later look sends what cannot be sent now."""
        with self._lock:
            try:
                self._look()
            except Interrupted:
                return
            except SyncError as error:
                _log.warning("alert.failed", error=str(error), fix=error.fix)

    def _look(self) -> None:
        try:
            seen = reading(self._db, self._observe)
        except SyncError as error:
            self._database_failed(error)
            raise
        self._database_answers()
        known = reading(self._db, _load)
        self._is_known_bad = any(alert.told and not alert.is_over for alert in known.values())
        moved = self._updated(known, seen, "")
        if moved == known and not any(alert.is_pending for alert in moved.values()):
            return
        mine = _locked(self._db, lambda tx, known: self._claim(tx, known, seen))
        self._send(mine)

    # --- what is wrong -----------------------------------------------------------------------

    def _observe(self, connection: sa.Connection) -> _Observation:
        found = health.freshness(connection)
        stale = problems(self._policy, self._ages.of(found))
        wrong = [it for it in stale if not it.is_first or self._is_overdue(it, found)]
        for kind, streak in found.failing.items():
            if streak.runs >= FAILURES:
                reason, _, fix = self._troubles.get(JOBS.get(kind, kind), streak.error).partition(TO_DO)
                words = f"{kind} failed {FAILURES} times in a row or more: {reason}"
                wrong.append(Problem(f"failing:{kind}", kind, words, fix=fix))
        held_back = [(kind, reason) for kind, reason in self._held_back.items() if reason]
        wrong += [Problem(f"{HELD_BACK}{kind}", kind, reason) for kind, reason in held_back]
        well_at = {view: at.isoformat() for view, at in found.marks.items()}
        well_at |= {kind: at.isoformat() for kind, at in found.successes.items()}
        return _Observation({problem.key: problem for problem in wrong}, well_at, found.running)

    def _is_overdue(self, problem: Problem, found: Freshness) -> bool:
        """Whether a feed that was never read should have been by now; never during a load."""
        now = uptime()
        waited = timedelta(seconds=now - self._first_seen.setdefault(problem.key, now))
        return not found.running and waited > self._policy.max_lag

    def _updated(self, known: Mapping[str, Alert], seen: _Observation, now: str) -> dict[str, Alert]:
        """The incidents after a look: a new problem joins or begins one; one without problems is over.

        now    ISO 8601
        """
        moved = {
            name: replace(alert, members=[key for key in alert.members if self._lasts(key, seen)])
            for name, alert in known.items()
        }
        in_one = {key for alert in moved.values() for key in alert.members}
        news: dict[bool, list[Problem]] = {}
        for problem in seen.wrong.values():
            if problem.key in in_one:
                continue
            name = next((name for name, alert in known.items() if _joins(problem, name, alert, seen)), None)
            if name is None:
                news.setdefault(_is_held_back(problem.key), []).append(problem)
            else:
                moved[name].members.append(problem.key)
        moved = {
            name: replace(alert, is_over=not alert.members)
            for name, alert in moved.items()
            if alert.members or alert.told or alert.claimed > now
        }
        return moved | {
            _name(problems[0].key, moved, now): _new_alert(problems, now) for problems in news.values()
        }

    def _lasts(self, key: str, seen: _Observation) -> bool:
        """Whether a problem remains, or may remain.

        This process knows of deletions held back only from its own runs. A feed that is being read is no
        longer overdue, but has not recovered either.
        """
        kind = key.rpartition(":")[2]
        if key in seen.wrong:
            return True
        if _is_held_back(key):
            return kind not in self._held_back
        return key.startswith("stale:feed:") and kind in seen.running

    def _claim(
        self, tx: sa.Connection, known: dict[str, Alert], seen: _Observation
    ) -> tuple[dict[str, Alert], dict[str, Alert]]:
        """All incidents, and those that this process now posts."""
        now = utc_now(tx)
        moved = self._updated(known, seen, now.isoformat())
        until = (now + CLAIM).isoformat()
        mine = {
            name: replace(alert, claimed=until)
            for name, alert in moved.items()
            if alert.is_pending and alert.claimed < now.isoformat()
        }
        return moved | mine, mine

    # --- sending -----------------------------------------------------------------------------

    def _send(self, mine: Mapping[str, Alert]) -> None:
        """Post each and mark it as sent. After a failure, release the rest for the next look."""
        unsent = dict(mine)
        try:
            for key, alert in mine.items():
                self._post(key, alert)
                self._note_sent(key, alert)
                del unsent[key]
        except BaseException:
            _locked(self._db, lambda _tx, known: (_unclaimed(known, unsent), None))
            raise

    def _note_sent(self, key: str, alert: Alert) -> None:
        _locked(self._db, lambda _tx, known: (_sent(known, key, alert), None))

    def _post(self, name: str, alert: Alert) -> None:
        event, key = "recovered" if alert.is_over else "problem", name.partition("#")[0]
        body = {
            "text": chat_text(self._sender, alert),
            "event": event,
            **({"tenant": self._tenant} if self._tenant else {}),
            "alert": key,
            "feed": alert.feed,
            "reason": alert.reason,
            "fix": alert.fix,
            "since": alert.since,
        }
        once = f"{self._tenant} {key} {alert.since} {event}".strip().encode("ascii", "replace").decode()
        self._webhook.post(msgspec.json.encode(body), once)
        _log.info("alert.sent", alert=key, what=event)

    # --- the database is away ----------------------------------------------------------------

    def _database_failed(self, error: SyncError) -> None:
        """Post an alert about the database, which only this process can remember for now."""
        self._unreachable += 1
        if self._unreachable < FAILURES or self._database is not None or self._is_known_bad:
            return
        alert = Alert("database", str(error), datetime.now(UTC).isoformat(), fix=error.fix)
        self._post("database", alert)
        self._database = replace(alert, told=True)

    def _database_answers(self) -> None:
        """Store the incident that was posted while the database was away."""
        self._unreachable, sent = 0, self._database
        if sent is not None:
            _locked(self._db, lambda tx, known: (known | {_name("database", known, sent.since): sent}, None))
            self._database = None


def chat_text(sender: str, alert: Alert) -> str:
    """The text of a chat message: which tenant, what happened, what to do.

    Texts from servers are hostile: none of their characters becomes mark-up or mentions a user.

    >>> chat_text("eu", Alert("stock", "<!channel> @all", "", fix="look."))
    'eu: &lt;!channel&gt; @\u200ball To do: look.'
    """
    if alert.is_over:
        text = f"{sender}: well again. It was: {_cut(alert.reason)}"
    else:
        text = f"{sender}: {_cut(alert.reason)}" + (f" To do: {_cut(alert.fix)}" if alert.fix else "")
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    return escape(line, quote=False).replace("@", "@\u200b").replace("](", "]\u200b(")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


def _is_held_back(key: str) -> bool:
    return key.startswith(HELD_BACK)


def _joins(problem: Problem, name: str, alert: Alert, seen: _Observation) -> bool:
    """Whether a problem belongs to this incident."""
    if alert.is_over:  # the receiver does not have that message yet
        return name.partition("#")[0] == problem.key
    if _is_held_back(problem.key):
        return any(_is_held_back(key) for key in alert.members)
    return not _is_held_back(name) and seen.well_at.get(problem.feed, "") <= alert.since


def _new_alert(problems: Sequence[Problem], now: str) -> Alert:
    reason = " ".join(problem.reason for problem in problems)
    fix = next((problem.fix for problem in problems if problem.fix), "")
    if not fix and not _is_held_back(problems[0].key):  # the reason of held-back deletions has it
        fix = CHECK
    return Alert(problems[0].feed, reason, now, fix=fix, members=[problem.key for problem in problems])


def _name(key: str, taken: Collection[str], now: str) -> str:
    """The name of an incident: the key of its first problem, made unique."""
    return f"{key}#{now}" if key in taken else key


def _sent(known: dict[str, Alert], key: str, posted: Alert) -> dict[str, Alert]:
    """The incidents after the receiver accepted a message: one that is over is dropped."""
    if key not in known:
        return known
    if posted.is_over and known[key].is_over:
        return {other: alert for other, alert in known.items() if other != key}
    return known | {key: replace(known[key], told=not posted.is_over, claimed="")}


def _unclaimed(known: dict[str, Alert], keys: Collection[str]) -> dict[str, Alert]:
    return known | {key: replace(known[key], claimed="") for key in keys if key in known}


def _load(connection: sa.Connection) -> dict[str, Alert]:
    """The stored incidents; an older version stored one for each problem."""
    try:
        kept = state.load(connection, NAME) or {}
        return {name: Alert(**({"members": [name]} | alert)) for name, alert in kept.items()}
    except (TypeError, AttributeError):
        return {}


def _locked(
    db: sa.Engine, edit: Callable[[sa.Connection, dict[str, Alert]], tuple[dict[str, Alert], Any]]
) -> Any:
    """Change the stored incidents under a lock; return the second value of `edit`."""

    def work(tx: sa.Connection) -> Any:
        state.lock(tx, NAME)
        known, result = edit(tx, _load(tx))
        state.save(tx, NAME, {key: asdict(alert) for key, alert in known.items()})
        return result

    return in_transaction(db, work)
