"""Formats values for pages. Templates escape catalogue texts; this module makes them printable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.filesize import decimal

from sync import __version__, mapping
from sync.cli import text
from sync.logs import printable
from sync.model import duration
from sync.web.charts import chart

LONGEST = 500  # characters of one value
LONGEST_DOCUMENT = 100_000
TEMPLATES = Path(__file__).with_name("templates")
_ENCODER = msgspec.json.Encoder(decimal_format="number")


@cache
def environment() -> Environment:
    """The templates, compiled once, with autoescape."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_tidied,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "bytes": decimal,
        "clock": clock,
        "count": count,
        "day": day,
        "span": span,
        "moment": moment,
        "short": short,
        "pretty": pretty,
        "said": said,
        "pairs": pairs,
    }
    made.globals |= {"version": __version__, "chart": chart}
    for name in made.list_templates():
        made.get_template(name)  # compile now, not during the first request
    return made


def _tidied(value: Any) -> Any:
    """None becomes blank; control characters in a text become visible."""
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def count(number: int | None) -> str:
    """
    >>> count(1234567), count(None)
    ('1,234,567', '–')
    """
    return "–" if number is None else f"{number:,}"


def span(value: timedelta | float | None) -> str:
    """
    >>> span(90.0), span(None)
    ('90 s', '–')
    """
    if value is None:
        return "–"
    return duration(value if isinstance(value, timedelta) else timedelta(seconds=value))


def moment(at: datetime | None) -> Markup:
    """A time in UTC, as a machine-readable <time> element."""
    if at is None:
        return Markup("–")
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), text.moment(at))


def short(value: object, longest: int = LONGEST) -> str:
    """A value on one line, shortened."""
    line = " ".join(said(value).split())
    return line if len(line) <= longest else f"{line[:longest]}…"


def clock(at: datetime) -> Markup:
    """The time of day in UTC, as a machine-readable <time> element."""
    return Markup('<time datetime="{}">{:%H:%M:%S}</time>').format(at.isoformat(), at)


def day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"


def said(value: object) -> str:
    """A value as text: lists and objects as JSON.

    >>> said(Decimal("19.500000")), said(Decimal("100.000000")), said(["a"]), said(None)
    ('19.5', '100', '["a"]', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, dict | list | bool):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def pretty(document: msgspec.Raw) -> Markup:
    """A product's document, indented, truncated if very long, with numbers as Commerce sent them.

    >>> print(pretty(msgspec.Raw(b'{"price":1.50}')).unescape())
    {
      "price": 1.50
    }
    """
    raw = bytes(document)
    with suppress(mapping.Unmappable):  # someone edited it in the database
        raw = msgspec.json.format(_ENCODER.encode(mapping.decode(raw)), indent=2)
    lines = raw.decode()
    cut = lines if len(lines) <= LONGEST_DOCUMENT else f"{lines[:LONGEST_DOCUMENT]}\n… cut here"
    return Markup("\n").join(printable(line) for line in cut.split("\n"))


def pairs(values: Mapping[str, object]) -> str:
    """
    >>> pairs({"kind": "update", "before": 7, "store_view": None})
    '?kind=update&before=7'
    """
    return "?" + urlencode({name: value for name, value in values.items() if value not in (None, "", False)})
