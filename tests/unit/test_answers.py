"""An error body becomes one sentence and, where the cause is known, a remedy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.commerce.error_bodies import LONGEST_TEXT, read_error_body, remedy


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            b'{"message":"The \\"%1\\" attribute name is invalid.","parameters":["id"]}',
            'The "id" attribute name is invalid.',
        ),
        (
            b'{"message":"\\"%fieldName\\" is required.","parameters":{"fieldName":"searchCriteria"}}',
            '"searchCriteria" is required.',
        ),
        (b'{"message":"%1 of %2","parameters":["one"]}', "one of %2"),
        (
            b'{"message":"Wrong.","errors":[{"message":"%field is empty.","parameters":{"field":"sku"}}]}',
            "Wrong. sku is empty.",
        ),
        (
            b'{"messages":{"error":[{"code":500,"message":"Allowed memory size exhausted"}]}}',
            "Allowed memory size exhausted",
        ),
        (b'{"error_code":"403025","message":"Profile is not valid"}', "Profile is not valid"),
        (
            b'{"error":{"code":"Forbidden","message":"No such client","details":{"error_code":"403003"}}}',
            "No such client",
        ),
        (b'{"error":"invalid_client","error_description":"no such secret"}', "invalid_client no such secret"),
        (
            b"<!doctype html><html><head><title>Error 503:\n Service Unavailable</title>",
            "an HTML page titled “Error 503: Service Unavailable”",
        ),
        (b"An error has happened during application run.", "An error has happened during application run."),
        (b"", "an empty body"),
        (b"[]", "[]"),
        (b'{"message":null,"parameters":7,"errors":"no"}', "no message"),
    ],
)
def test_every_party_s_form_is_read(body: bytes, text: str) -> None:
    assert read_error_body(body).text == text


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"error_code":"400003","message":"Missing header"}', "IMS_ORG_ID"),
        (b'{"error_code":"401013","message":"Oauth token is not valid"}', "IMS_SCOPES"),
        (b'{"error_code":403000,"message":"Api Key is required"}', "IMS_CLIENT_ID"),
        (b'{"error":{"message":"no","details":{"error_code":"403003"}}}', "IMS_CLIENT_ID"),
        (b'{"error_code":"403025","message":"Profile is not valid"}', "IMS_ORG_ID"),
        (b'{"error":"invalid_client"}', "IMS_CLIENT_SECRET"),
        (b'{"error":"invalid_scope"}', "IMS_SCOPES"),
        (
            b'{"message":"%resources","parameters":{"resources":"Magento_Catalog::products"}}',
            "Magento_Catalog::products",
        ),
    ],
)
def test_a_known_cause_has_a_remedy_that_names_what_to_change(body: bytes, names: str) -> None:
    assert names in (remedy(read_error_body(body)) or "")


def test_an_unknown_cause_has_no_remedy() -> None:
    assert remedy(read_error_body(b'{"error_code":"499999","message":"?"}')) is None


def test_the_largest_page_is_read_from_the_parameters() -> None:
    body = b'{"message":"Maximum SearchCriteria pageSize is %max","parameters":{"max":300}}'

    assert read_error_body(body).maximum == 300


def test_the_limit_of_something_else_is_no_largest_page() -> None:
    body = b'{"message":"Maximum items of type \\"%type\\" is %max","parameters":{"max":20,"type":"x"}}'

    assert read_error_body(body).maximum is None


def test_a_logged_exception_is_known_by_its_report_id_in_any_language() -> None:
    body = b'{"message":"Interner Fehler. Bericht: webapi-6b046ede83c68"}'

    assert read_error_body(body).is_internal


def test_a_credential_that_a_server_echoes_is_blotted_out() -> None:
    body = b'{"message":"bad request: Authorization: Bearer s3cr3t-t0ken, client_secret=p8e-abc"}'

    text = read_error_body(body).text

    assert "s3cr3t" not in text
    assert "p8e-abc" not in text


def test_control_characters_and_direction_marks_do_not_reach_a_terminal() -> None:
    assert read_error_body(b'{"message":"a\\u001b[31mred\\u202eevil\\nline"}').text == "a [31mred evil line"


def test_deep_nesting_is_no_way_to_crash_us() -> None:
    assert read_error_body(b'{"message":' + b"[" * 100_000).text


@given(
    st.binary() | st.text().map(lambda text: ('{"message":"' + text + '"}').encode(errors="surrogatepass"))
)
def test_any_body_becomes_one_printable_line_of_bounded_length(body: bytes) -> None:
    text = read_error_body(body).text

    assert text.isprintable()
    assert 0 < len(text) <= LONGEST_TEXT + 30
