"""Whatever a chart is given stands in it as text."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import example, given
from hypothesis import strategies as st

from sync.web.charts import ChartBar, chart

MARKUP = "\"><script>alert(1)</script>&amp;'<!--"
TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1)


@given(TEXTS, TEXTS)
@example(MARKUP, MARKUP)
def test_every_text_is_escaped(title: str, text: str) -> None:
    """The drawing is XML of one shape whatever the texts, and reads back as the texts given."""
    drawn = ElementTree.fromstring(chart(title, title, [ChartBar(text, 1.0, text, text)]))  # noqa: S314

    kinds = [element.tag.rpartition("}")[2] for element in drawn.iter()]
    bar = next(element for element in drawn.iter() if element.tag.endswith("rect"))
    assert kinds == ["svg", "title", *("line", "text") * 3, "rect", "title", "text"]
    assert (drawn[0].text, drawn[0].get("id")) == (f"{title}: runs 1, lowest 1, highest 1.", f"{title}-title")
    assert (bar[0].text, bar.get("class")) == (f"{text}: {text}", f"bar {text}")
    assert drawn[-1].text == text
