"""Was it committed? Each transaction leaves a receipt, which is looked up when COMMIT got no answer.

A receipt is a row of sync_state, one for each connection and day, that a transaction overwrites with a value
of its own. It is written together with all else, so it is there if and only if the transaction was committed;
also after a failover, which a transaction number of PostgreSQL's would not survive. SQLite needs none: there
is no network between us and the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import sqlalchemy as sa

from sync.db.schema import sync_state

KEPT = timedelta(days=2)
_PREFIX = "commit"
NOT_A_RECEIPT = f"substr(name, 1, {len(_PREFIX) + 1}) <> '{_PREFIX} '"  # of a row of sync_state


@dataclass(frozen=True, slots=True)
class CommitReceipt:
    """The row `name` has `value` once the transaction is committed."""

    name: str
    value: str


def new(connection: sa.Connection) -> CommitReceipt:
    """A receipt for the next transaction of `connection`."""
    mine = connection.info.setdefault("receipts", token_hex(8))
    return CommitReceipt(f"{_PREFIX} {datetime.now(UTC):%Y-%m-%d} {mine}", token_hex(16))


def leaving(dialect: str, receipt: CommitReceipt) -> str:
    """The statement that leaves it."""
    return _PUT[dialect == "postgresql"].format(name=receipt.name, value=receipt.value)


def was_left(engine: sa.Engine, receipt: CommitReceipt) -> bool:
    """Whether its transaction was committed. Waits for the end of one that is not over; changes nothing."""
    with engine.connect() as connection:
        connection.execution_options(sync_write=True)
        touch = _TOUCH[engine.dialect.name == "postgresql"]
        connection.exec_driver_sql(touch.format(name=receipt.name, value=""))
        value = sa.select(sync_state.c.value).where(sync_state.c.name == receipt.name)
        return bool(connection.execute(value).scalar_one() == receipt.value)


# For MariaDB, for PostgreSQL. Each waits for another transaction that has written the row.
_INSERT = "INSERT INTO sync_state (name, value) VALUES ('{name}', '\"{value}\"') "
_PUT = (
    _INSERT + "ON DUPLICATE KEY UPDATE value = VALUES(value)",
    _INSERT + "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
)
_TOUCH = (
    _INSERT + "ON DUPLICATE KEY UPDATE value = value",
    _INSERT + "ON CONFLICT (name) DO UPDATE SET value = sync_state.value",
)


def clear(tx: sa.Connection) -> None:
    """Drop those that nobody looks for any more."""
    day = f"{_PREFIX} {datetime.now(UTC) - KEPT:%Y-%m-%d}"
    tx.execute(sa.delete(sync_state).where(sync_state.c.name.like(f"{_PREFIX} %"), sync_state.c.name < day))
