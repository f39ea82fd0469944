"""Opening a copy that may be there already: nothing is created, nothing is migrated."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr

from sync.db.engine import connect, current_revision, newest_revision, revisions
from sync.errors import DatabaseUnavailable, SchemaTooNew
from sync.notation import mask_url


def connect_existing(url: str) -> sa.Engine:
    """An engine on the copy at `url`. Raises DatabaseUnavailable when there is none, else as `find`."""
    engine = find(url, keeps=not url.startswith("sqlite"))  # a restore may put another file in its place
    if engine is None:
        raise DatabaseUnavailable(
            f"there is no copy at {mask_url(SecretStr(url))} yet.",
            "run `product-sync backfill` first, or correct DATABASE_URL.",
        )
    return engine


def find(url: str, *, keeps: bool = True) -> sa.Engine | None:
    """An engine on the copy at `url`, None when there is nothing yet.

    keeps    as in `connect`

    Raises SchemaTooNew when a newer program wrote it, DatabaseUnavailable when an older one did or it is out
    of reach.
    """
    engine = connect(url, keeps=keeps)
    with ExitStack() as closing:
        closing.callback(engine.dispose)
        revision = revision_of(engine)
        if revision is None:
            return None
        _check(revision)
        closing.pop_all()
    return engine


def ensure_current(engine: sa.Engine) -> None:
    """Raise what `find` does unless the copy is there, in the schema of this program."""
    revision = revision_of(engine)
    if revision is None:
        raise DatabaseUnavailable("the database holds no copy any more.")
    _check(revision)


def _check(revision: str) -> None:
    if revision not in revisions():
        raise SchemaTooNew(f"the database is at revision {revision}, which this product-sync does not know.")
    if revision != newest_revision():
        raise DatabaseUnavailable(
            f"the database is at revision {revision}, older than this product-sync.",
            "run `product-sync db upgrade`.",
        )


def revision_of(engine: sa.Engine) -> str | None:
    """The revision a database is at, None for an empty one; connecting would create a SQLite file."""
    if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").exists():
        return None
    return current_revision(engine)
