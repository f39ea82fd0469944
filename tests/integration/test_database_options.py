"""An option of DATABASE_URL that cannot be used ends in words that name the variable."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sync.db.engine import connect, reading
from sync.errors import DatabaseError, SettingsError
from tests.databases import KINDS, Kind, NewDatabase

REFUSED: dict[Kind, list[str]] = {
    "sqlite": ["nonsense=1", "timeout=soon", "detect_types=none", "ssl_ca=/no/such/file", "plugin=none"],
    "postgresql": ["nonsense=1", "connect_timeout=soon", "sslmode=perhaps", "options=-cnonsense"],
    "mariadb": [
        "nonsense=1",
        "connect_timeout=soon",
        "read_timeout=-1",
        "connect_timeout=0",
        "cursorclass=x",
        "compress=1",
        "named_pipe=1",
        "conv=x",
    ],
}


@pytest.mark.parametrize(("kind", "option"), [(kind, it) for kind in KINDS for it in REFUSED[kind]])
def test_an_option_that_cannot_be_used_is_refused_by_name(
    new_database: NewDatabase, kind: Kind, option: str
) -> None:
    url = new_database(kind)

    with pytest.raises((SettingsError, DatabaseError)) as refused:
        reading(
            connect(f"{url}{'&' if '?' in url else '?'}{option}"), lambda c: c.execute(sa.text("SELECT 1"))
        )

    assert "DATABASE_URL" in f"{refused.value} {refused.value.fix}"
