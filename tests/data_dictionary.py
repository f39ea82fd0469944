"""The part of `docs/data-dictionary.md` made from `sync/db/schema.py`; `make docs` writes it there."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from sync.db.schema import metadata

FILE = Path(__file__).resolve().parents[1] / "docs/data-dictionary.md"
MARK = "<!-- made by `make docs` from sync/db/schema.py -->\n"
TYPES = {
    "BigInteger": "integer",
    "Integer": "integer",
    "String": "text",
    "LongText": "text",
    "Money": "decimal(20,6)",
    "UtcDateTime": "time, UTC",
    "Json": "JSON",
    "Boolean": "true or false",
    "Float": "float",
}


def tables() -> str:
    """A section for each table, with a line for each column."""
    return "\n".join(_section(table) for table in metadata.tables.values())


def _section(table: sa.Table) -> str:
    lines = [
        f"### `{table.name}`",
        "",
        f"{table.comment}.",
        "",
        "| column | type | meaning |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*lines, *map(_line, table.columns), ""])


def _line(column: sa.Column[object]) -> str:
    key = " (key)" if column.primary_key else ""
    null = ", or null" if column.nullable else ""
    return f"| `{column.name}`{key} | {TYPES[type(column.type).__name__]}{null} | {column.comment} |"


def written() -> tuple[str, str]:
    """What the file says: its own words, and the part that is made."""
    head, _, made = FILE.read_text().partition(MARK)
    return head, made


if __name__ == "__main__":
    FILE.write_text(written()[0] + MARK + "\n" + tables())
