"""Which errors of a database may pass when a transaction is tried again."""

from __future__ import annotations

import sqlite3

import pymysql
import pytest
import sqlalchemy as sa

from sync.db.dialects import is_transient


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (pymysql.err.OperationalError(1205, "Lock wait timeout exceeded", sqlstate="HY000"), True),
        (pymysql.err.OperationalError(1213, "Deadlock found", sqlstate="40001"), True),
        (pymysql.err.OperationalError(2003, "Can't connect"), True),
        (pymysql.err.OperationalError(1045, "Access denied", sqlstate="28000"), False),
        (pymysql.err.OperationalError(1142, "CREATE command denied", sqlstate="42000"), False),
        (sqlite3.OperationalError("database is locked"), True),
        (sqlite3.OperationalError("unable to open database file"), False),
    ],
    ids=str,
)
def test_an_error_that_may_pass_is_told_from_one_that_will_not(error: Exception, *, passes: bool) -> None:
    assert is_transient(sa.exc.OperationalError("SELECT 1", {}, error)) is passes
