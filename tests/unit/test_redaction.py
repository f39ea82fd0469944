"""No secret leaves in any form: raw, encoded, in part, in an exception, or one that came while running."""

from __future__ import annotations

import base64
import html
import io
import json
from urllib.parse import quote, quote_plus

import hypothesis.strategies as st
import pytest
import structlog
from hypothesis import example, given

from sync import logs
from sync.cli.console import outcome
from sync.commerce.error_bodies import read_error_body
from sync.errors import DatabaseUnavailable, SyncError
from sync.logs.redaction import foreign, hide, hide_token, redacted
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
        json.dumps(SECRET)[1:-1].replace("/", r"\/"),
        html.escape(SECRET),
        quote(SECRET, safe="/+&=").replace("%C3%A4", "%c3%a4"),
        quote(quote(SECRET, safe=""), safe=""),
    ],
)
def test_a_secret_is_found_in_each_form(form: str) -> None:
    hide([SECRET])

    assert redacted(f"before {form} behind") == "before *** behind"


@given(user=st.text(alphabet="abcdefg", max_size=9), rest=st.text(alphabet="xyz", max_size=3))
@example(user="", rest="")
def test_a_secret_is_found_in_base64_whatever_stands_around_it(user: str, rest: str) -> None:
    hide(["0123456789abcdef"])
    encoded = base64.b64encode(f"{user}0123456789abcdef{rest}".encode()).decode()

    shown = redacted(f"Basic {encoded}")

    assert "***" in shown
    assert len(shown) <= len("Basic ***") + len(encoded) - 20


def test_tokens_that_come_all_day_do_not_pile_up() -> None:
    for number in range(1000):
        hide_token(f"token-number-{number:04}")

    assert redacted("token-number-0999") == "***"
    assert redacted("token-number-0001") == "token-number-0001"


def test_passwords_in_urls_are_secrets_in_both_spellings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://shop:pass%2Fword@db/pim")
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:pr0xy-password@proxy:3128")
    hide(CopySettings.load().secrets)

    shown = redacted("pass%2Fword pass/word pr0xy-password")

    assert shown == "*** *** ***"


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("quagga@horse", 'could not translate host name "horse@db" to address'),
        ("quagga@horse", "no user quagga"),
        ("mule:9876/horse", "invalid port number: '9876/horse'"),
        ("mule:9876/horse", 'database "horse" does not exist'),
        ("mule%2Fhorse", "no file /horse"),
        ("stable?horse=mule", "unknown option horse"),
        ("mule'horse\"stable", 'syntax error at or near "horse"'),
    ],
)
def test_a_secret_is_masked_by_its_parts(secret: str, said: str) -> None:
    hide([secret])

    for shown in (str(DatabaseUnavailable(said)), redacted(said)):
        assert not any(word in shown for word in ("horse", "mule", "correct", "9876"))


def test_a_part_masks_no_other_word_and_no_ordinary_one() -> None:
    hide(["pw:horse/password@localhost@ab@2026"])

    said = "password authentication failed for seahorses at localhost, tab ab, since 2026-11-30"

    assert redacted(said) == said


def test_what_is_cut_short_holds_no_half_of_a_secret() -> None:
    """A server echoes what it was sent, and the end of the text that is kept falls into it."""
    hide(["first-half-second-half"])

    for before in range(270, 300):
        said = f"{'x' * before} first-half-second-half"
        assert "first-h" not in read_error_body(json.dumps({"message": said}).encode()).text
        assert "first-h" not in foreign(said)


def test_a_part_of_a_secret_does_not_mask_the_time_of_a_line() -> None:
    hide(["horse@2026:info"])
    stream = io.StringIO()
    logs.configure("json", "INFO", stream=stream)

    structlog.get_logger("sync").info("page.written")

    assert "***" not in stream.getvalue()


def test_a_secret_that_is_an_ordinary_word_does_not_mask_the_name_of_the_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`product-***: ...` would say that the password is `sync`."""
    hide(["sync"])

    def fail() -> None:
        raise SyncError("sync is refused.", "correct it.")

    outcome(fail)

    assert capsys.readouterr().err.startswith("product-sync: *** is refused.")
