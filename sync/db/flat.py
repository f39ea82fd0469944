"""Columns that people name: of `products`, or codes of attributes, each with the type its values have.

A flat view and an export take the same names and give the same values: `views` reads attribute
values in SQL, `read_value` in Python, by the same rules. A value that is not what its attribute says
("abc" for a decimal) reads as null.

    frontend_input, backend_type    reads as
    select, multiselect             the label, where labels are asked for and Commerce lists options
    boolean                         true or false
    date                            a date
    price, weight; decimal          a decimal of 13 digits and 6 places
    datetime                        a time in UTC
    int                             an integer of up to 18 digits
    all others                      text, as it stands
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

import sqlalchemy as sa

from sync.db.dialects import MICRO, Money, UtcDateTime
from sync.db.schema import attribute_options, attributes, products
from sync.errors import UsageError

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
    """One column: of `products`, or an attribute.

    kind      what its values are
    labels    whether a value is an id, or several, whose label `attribute_options` has
    """

    name: str
    kind: Kind
    is_attribute: bool = False
    labels: Labels = "none"


def product_columns() -> list[FlatColumn]:
    """Every column of `products`, in its order."""
    return [FlatColumn(column.name, _kind_of(column.type)) for column in products.c]


def _kind_of(column: sa.types.TypeEngine[Any]) -> Kind:
    if isinstance(column, Money):
        return "decimal"
    if isinstance(column, UtcDateTime):
        return "time"
    return "integer" if isinstance(column, sa.Integer) else "text"


# --- names -----------------------------------------------------------------------------------


def split_names(text: str) -> list[str]:
    """The names in `sku,name,color`. Raises UsageError for none, an empty one, or one given twice."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(
            "--columns holds an empty name.", "write names with one comma between them: sku,name,color."
        )
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:  # SQLite and MariaDB take names of columns in any letters
            raise UsageError(f"--columns names {name} twice.", "leave one of them out.")
        seen.add(name.casefold())
    return names


def resolve(connection: sa.Connection, names: Sequence[str], *, labels: bool) -> list[FlatColumn]:
    """What each name stands for: a column of `products`, else an attribute. Raises UsageError.

    labels    let options read as their labels, where the copy knows any option of the attribute
    """
    known = {column.name: column for column in product_columns()}
    codes = [name for name in names if name not in known]
    known.update((column.name, column) for column in _attributes(connection, codes, labels))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise _unknown(connection, unknown)
    return [known[name] for name in names]


def _attributes(connection: sa.Connection, codes: Sequence[str], labels: bool) -> Iterator[FlatColumn]:
    rows = connection.execute(
        sa.select(attributes.c.attribute_code, attributes.c.frontend_input, attributes.c.backend_type).where(
            attributes.c.attribute_code.in_(codes)
        )
    )
    for code, frontend_input, backend_type in rows.all():
        many = frontend_input == "multiselect"
        if labels and (many or frontend_input == "select") and _has_options(connection, code):
            yield FlatColumn(code, "text", is_attribute=True, labels="many" if many else "one")
        else:
            kind = _BY_INPUT.get(frontend_input) or _BY_BACKEND.get(backend_type) or "text"
            yield FlatColumn(code, "text" if many else kind, is_attribute=True)


def _has_options(connection: sa.Connection, code: str) -> bool:
    option = sa.select(sa.literal(1)).where(attribute_options.c.attribute_code == code).limit(1)
    return connection.execute(option).first() is not None


def _unknown(connection: sa.Connection, names: Sequence[str]) -> UsageError:
    codes = connection.execute(sa.select(attributes.c.attribute_code)).scalars().all()
    known = [*products.c.keys(), *codes]
    told = []
    for name in names:
        close = difflib.get_close_matches(name, known, n=3)
        told.append(f"{name} (did you mean {' or '.join(close)}?)" if close else name)
    return UsageError(
        f"neither products nor the attributes of the copy have: {', '.join(told)}.",
        "correct --columns; `product-sync reference` reads attributes that the copy does not know yet.",
    )


# --- values ----------------------------------------------------------------------------------


def read_value(kind: Kind, text: str) -> Any:
    """An attribute's value as what it is; None where the text is not that."""
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
