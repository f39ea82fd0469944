"""Small bar charts of the last runs, as SVG. Colours and type come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor, log10

import svg
from markupsafe import Markup, escape

WIDTH, HEIGHT = 480, 150
LEFT, RIGHT, TOP, BOTTOM = 46, 4, 8, 20
SHOWN = 40  # runs in a chart


@dataclass(frozen=True, slots=True)
class ChartBar:
    """One bar: its label, height, tooltip and style class."""

    label: str
    value: float
    tip: str
    look: str = "plain"


def chart(name: str, title: str, bars: Sequence[ChartBar]) -> Markup:
    """A bar for each run, oldest first.

    name     unique on the page
    title    what the chart shows, in words
    """
    name, title, bars = escape(name), escape(title), [_escaped(bar) for bar in bars]
    drawing = svg.SVG(
        viewBox=svg.ViewBoxSpec(0, 0, WIDTH, HEIGHT),
        class_=["chart"],
        extra={"role": "img", "aria-labelledby": f"{name}-title"},
        elements=[svg.Title(id=f"{name}-title", text=f"{title}: {_range(bars)}"), *_drawn(bars)],
    )
    return Markup(str(drawing))  # noqa: S704 - svg.py escapes nothing, so every text above is escaped


def _escaped(bar: ChartBar) -> ChartBar:
    return replace(bar, label=escape(bar.label), tip=escape(bar.tip), look=escape(bar.look))


def _drawn(bars: Sequence[ChartBar]) -> list[svg.Element]:
    if not bars:
        return [svg.Text(x=WIDTH / 2, y=HEIGHT / 2, class_=["tick", "tick-none"], text="no run yet")]
    top = _round_up(max(bar.value for bar in bars))
    return [*_grid(top), *_bars(bars, top), *_axis(bars)]


def _range(bars: Sequence[ChartBar]) -> str:
    if not bars:
        return "no run yet."
    values = [bar.value for bar in bars]
    return f"runs {len(bars)}, lowest {_number(min(values))}, highest {_number(max(values))}."


def _grid(top: float) -> list[svg.Element]:
    lines: list[svg.Element] = []
    for share in (0.0, 0.5, 1.0):
        y = _y(top * share, top)
        lines.append(svg.Line(x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_=["grid"]))
        text = _number(top * share)
        lines.append(svg.Text(x=LEFT - 6, y=y + 4, class_=["tick", "tick-y"], text=text))
    return lines


def _bars(bars: Sequence[ChartBar], top: float) -> list[svg.Element]:
    step = (WIDTH - LEFT - RIGHT) / max(len(bars), 12)
    drawn: list[svg.Element] = []
    for place, bar in enumerate(bars):
        height = max(_y(0, top) - _y(bar.value, top), 1.5 if bar.value else 0.0)
        drawn.append(
            svg.Rect(
                x=round(LEFT + place * step + step * 0.14, 2),
                y=round(_y(0, top) - height, 2),
                width=round(step * 0.72, 2),
                height=round(height, 2),
                rx=1,
                class_=["bar", bar.look],
                elements=[svg.Title(text=f"{bar.label}: {bar.tip}")],
            )
        )
    return drawn


def _axis(bars: Sequence[ChartBar]) -> list[svg.Element]:
    """The labels of the first and the last run."""
    y, step = HEIGHT - 5, (WIDTH - LEFT - RIGHT) / max(len(bars), 12)
    ends: list[svg.Element] = [svg.Text(x=LEFT, y=y, class_=["tick"], text=bars[0].label)]
    if len(bars) > 4:
        x = round(LEFT + len(bars) * step, 2)
        ends.append(svg.Text(x=x, y=y, class_=["tick", "tick-y"], text=bars[-1].label))
    return ends


def _y(value: float, top: float) -> float:
    room = HEIGHT - TOP - BOTTOM
    return round(TOP + room - (room * value / top if top else 0), 2)


def _round_up(value: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten.

    >>> _round_up(0), _round_up(0.7), _round_up(3), _round_up(1_000_000)
    (1.0, 1.0, 5.0, 1000000.0)
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next((step * power for step in (1.0, 2.0, 5.0) if value <= step * power), 10.0 * power)


def _number(value: float) -> str:
    """
    >>> _number(0), _number(2_500_000), _number(1500), _number(0.25), _number(12)
    ('0', '2.5M', '1.5k', '0.25', '12')
    """
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
