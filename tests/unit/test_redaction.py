"""No secret leaves in any form: raw, encoded, inside an exception, or one that came while running."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from sync import logs
from sync.settings import CopySettings

SECRET = "p8e-äB/+ \"q'\\ 9=&~"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        repr(SECRET)[1:-1],
        json.dumps(SECRET)[1:-1],
    ],
)
def test_a_secret_is_found_in_each_form(form: str) -> None:
    logs.hide([SECRET])

    assert logs.redacted(f"before {form} behind") == "before *** behind"


@given(user=st.text(alphabet="abcdefg", max_size=9), rest=st.text(alphabet="xyz", max_size=3))
@example(user="", rest="")
def test_a_secret_is_found_in_base64_whatever_stands_around_it(user: str, rest: str) -> None:
    logs.hide(["0123456789abcdef"])
    encoded = base64.b64encode(f"{user}0123456789abcdef{rest}".encode()).decode()

    shown = logs.redacted(f"Basic {encoded}")

    assert "***" in shown
    assert len(shown) <= len("Basic ***") + len(encoded) - 20


def test_tokens_that_come_all_day_do_not_pile_up() -> None:
    for number in range(1000):
        logs.hide_token(f"token-number-{number:04}")

    assert logs.redacted("token-number-0999") == "***"
    assert logs.redacted("token-number-0001") == "token-number-0001"


def test_passwords_in_urls_are_secrets_in_both_spellings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://shop:pass%2Fword@db/pim")
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:pr0xy-password@proxy:3128")
    logs.hide(CopySettings.load().secrets)

    shown = logs.redacted("pass%2Fword pass/word pr0xy-password")

    assert shown == "*** *** ***"
