"""Opening a copy that may be there already: nothing is created, nothing is migrated."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic.script import ScriptDirectory

from sync.db.engine import alembic_config, connect, current_revision, newest_revision
from sync.errors import DatabaseUnavailable, SchemaTooNew


def connect_existing(url: str) -> sa.Engine:
    """An engine on the copy at `url`. Raises DatabaseUnavailable when there is none, and what `find` raises."""
    engine = find(url)
    if engine is None:
        raise DatabaseUnavailable(
            f"there is no copy at {sa.make_url(url).render_as_string()} yet.",
            "run `product-sync backfill` first, or correct DATABASE_URL.",
        )
    return engine


def find(url: str) -> sa.Engine | None:
    """An engine on the copy at `url`, None when there is nothing yet.

    Raises SchemaTooNew when a newer program wrote it, DatabaseUnavailable when an older one did or it is out
    of reach.
    """
    engine = connect(url)
    revision = None if _is_missing_file(engine.url) else current_revision(engine)
    if revision is None:
        engine.dispose()
        return None
    if revision not in _known_revisions():
        raise SchemaTooNew(f"the database is at revision {revision}, which this product-sync does not know.")
    if revision != newest_revision():
        raise DatabaseUnavailable(
            f"the database is at revision {revision}, older than this product-sync.",
            "run `product-sync db upgrade`.",
        )
    return engine


def _is_missing_file(url: sa.URL) -> bool:
    """Whether a SQLite file does not exist: merely connecting would create it."""
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()


def _known_revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
