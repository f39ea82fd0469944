"""Typed columns of flat views and exports: columns of `products`, or attributes by code.

A name that is both means the column; `attribute:document` is the attribute `document`. For the columns that
Commerce sends as attributes (sku, name, price …), both names mean the same.

A flat view and an export accept the same names and return the same values: `views` reads attribute
values in SQL, `read_value` in Python, by the same rules. A value that does not have its attribute's type
("abc" for a decimal) reads as null.

    frontend_input, backend_type    reads as
    select, multiselect             the label as text, where labels are requested; the id as text while the
                                    copy has no options of the attribute
    boolean                         true or false
    date                            a date
    price, weight; decimal          a decimal of 13 digits and 6 places
    datetime                        a time in UTC
    int                             an integer of up to 18 digits
    all others                      text, unchanged
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

import sqlalchemy as sa

from sync.db.dialects import MICRO, Money, UtcDateTime
from sync.db.schema import attributes, products
from sync.errors import UsageError
from sync.model import PRODUCT_COLUMNS

Kind = Literal["text", "integer", "decimal", "boolean", "date", "time"]
Labels = Literal["none", "one", "many"]

DECIMAL = "[-+]?[0-9]{1,13}([.][0-9]+)?"
INTEGER = "[-+]?[0-9]{1,18}"
CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6})?"
TIME = f"[0-9]{{4}}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]{CLOCK})?"
BOOLEANS = {"1": True, "true": True, "0": False, "false": False}

_BY_INPUT: dict[str | None, Kind] = {
    "boolean": "boolean",
    "date": "date",
    "price": "decimal",
    "weight": "decimal",
}
_BY_BACKEND: dict[str | None, Kind] = {"decimal": "decimal", "int": "integer", "datetime": "time"}


@dataclass(frozen=True, slots=True)
class FlatColumn:
    """A column of `products`, or an attribute.

    name      in the view or the file
    source    name in `products`, or code of the attribute
    kind      type of its values
    labels    whether a value is one option id or many, whose labels `attribute_options` has
    """

    name: str
    source: str
    kind: Kind
    is_attribute: bool = False
    labels: Labels = "none"


def product_columns() -> list[FlatColumn]:
    """Every column of `products`, in its order."""
    return [FlatColumn(column.name, column.name, _kind_of(column.type)) for column in products.c]


def _kind_of(column: sa.types.TypeEngine[Any]) -> Kind:
    if isinstance(column, Money):
        return "decimal"
    if isinstance(column, UtcDateTime):
        return "time"
    return "integer" if isinstance(column, sa.Integer) else "text"


# --- names -----------------------------------------------------------------------------------

ATTRIBUTE = "attribute:"
SENT = {*PRODUCT_COLUMNS} - {"store_view", "product_id", "document"}  # also attributes in Commerce


def split_names(text: str) -> list[str]:
    """The names in `sku,name,color`. Raises UsageError for none, an empty one, or one given twice."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError("--columns contains an empty name.", "separate names by one comma: sku,name,color.")
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:  # in SQLite and MariaDB, column names are case-insensitive
            raise UsageError(f"--columns names {name} twice.", "remove one of them.")
        seen.add(name.casefold())
    return names


def resolve(connection: sa.Connection, names: Sequence[str], *, labels: bool) -> list[FlatColumn]:
    """The column of each name: of `products`, else an attribute. Raises UsageError.

    An attribute's column has its code as name, or `attribute_<code>` where another column has that name.

    labels    read options as their labels
    """
    columns = {column.name: column for column in product_columns()}
    codes = {name: name.removeprefix(ATTRIBUTE) for name in names if name not in columns}
    found = _attributes(connection, [*codes.values()], labels)
    found |= {code: columns[code] for code in SENT}
    if unknown := [name for name, code in codes.items() if code not in found]:
        raise _unknown(connection, unknown)
    taken = {name.casefold() for name in names}
    for name, code in codes.items():
        columns[name] = replace(found[code], name=_column_name(name, code, taken))
    return _distinct([columns[name] for name in names])


def _column_name(name: str, code: str, taken: Collection[str]) -> str:
    return f"attribute_{code}" if name != code and code.casefold() in taken else code


def _distinct(columns: list[FlatColumn]) -> list[FlatColumn]:
    """The same columns. Raises UsageError when two have the same name, ignoring case."""
    taken: set[str] = set()
    for column in columns:
        if column.name.casefold() in taken:
            raise UsageError(f"--columns gives two columns the name {column.name}.", "remove one of them.")
        taken.add(column.name.casefold())
    return columns


def ambiguous(connection: sa.Connection, names: Sequence[str]) -> list[str]:
    """Names that mean a column of `products` but are also codes of attributes in the copy."""
    ours = [name for name in names if name in products.c and name not in SENT]
    codes = sa.select(attributes.c.attribute_code).where(attributes.c.attribute_code.in_(ours))
    return sorted(connection.execute(codes).scalars())


def _attributes(connection: sa.Connection, codes: Collection[str], labels: bool) -> dict[str, FlatColumn]:
    """The copy's attributes among these codes, in exactly this spelling, else ignoring case.

    Commerce 2.4.9 compares codes without case; earlier versions allow two that differ only in case.
    """
    table = attributes.c
    rows = connection.execute(
        sa.select(table.attribute_code, table.frontend_input, table.backend_type)
        .where(sa.func.lower(table.attribute_code).in_({code.lower() for code in codes}))
        .order_by(table.attribute_code)
    ).all()
    exactly, folded = {row[0]: row for row in rows}, {row[0].lower(): row for row in rows}
    found = {code: exactly.get(code) or folded.get(code.lower()) for code in codes}
    return {code: _attribute(*row, labels=labels) for code, row in found.items() if row is not None}


def _attribute(code: str, frontend_input: str | None, backend_type: str | None, labels: bool) -> FlatColumn:
    many = frontend_input == "multiselect"
    if labels and (many or frontend_input == "select"):
        return FlatColumn(code, code, "text", is_attribute=True, labels="many" if many else "one")
    kind = _BY_INPUT.get(frontend_input) or _BY_BACKEND.get(backend_type) or "text"
    return FlatColumn(code, code, "text" if many else kind, is_attribute=True)


def _unknown(connection: sa.Connection, names: Sequence[str]) -> UsageError:
    codes = connection.execute(sa.select(attributes.c.attribute_code)).scalars().all()
    known = [*products.c.keys(), *codes]
    described = []
    for name in names:
        close = difflib.get_close_matches(name.removeprefix(ATTRIBUTE), known, n=3)
        described.append(f"{name} (did you mean {' or '.join(close)}?)" if close else name)
    return UsageError(
        f"not a column of products nor an attribute in the copy: {', '.join(described)}.",
        "correct --columns; `product-sync reference` reads attributes that are new on the tenant.",
    )


# --- values ----------------------------------------------------------------------------------


def read_value(kind: Kind, text: str) -> Any:
    """Convert an attribute's value to its type; None where the text is not of that type."""
    if kind == "text":
        return text
    if kind == "boolean":
        return BOOLEANS.get(text)
    if kind == "integer":
        return int(text) if re.fullmatch(INTEGER, text) else None
    if kind == "decimal":
        return Decimal(text).quantize(MICRO, ROUND_HALF_UP) if re.fullmatch(DECIMAL, text) else None
    return _read_time(kind, text)


def _read_time(kind: Kind, text: str) -> date | datetime | None:
    if not re.fullmatch(TIME, text):
        return None
    try:
        time = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:  # the 30th of February
        return None
    return time.date() if kind == "date" else time
