"""Read an error answer into one sentence and its remedy.

Five senders use five forms:

    Commerce         {"message": "… %1 … %name …", "parameters": [..] or {..}, "errors": [{…}]}
    Commerce, fatal  {"messages": {"error": [{"code": 500, "message": "…"}]}}
    Adobe's gateway  {"error_code": "401013", "message": "…"}, also below error.details
    IMS              {"error": "invalid_client", "error_description": "…"}
    anything else    HTML or text of a proxy, a firewall, a maintenance page

All of it is hostile input: texts are truncated, control characters removed, and anything that looks like a
credential is masked.

Sources: Magento 2.4.7 `Framework/Webapi/Rest/Response.php` and `ErrorProcessor.php`; Adobe, "Server-to-server
authentication", its Troubleshooting; Adobe Experience Platform, "Troubleshooting guide" (gateway codes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sync.logs.redaction import redacted

LONGEST_TEXT: Final = 300
LONGEST_READ: Final = 20_000
_PLACEHOLDER = re.compile(r"%(\w+)")
_CREDENTIAL = re.compile(
    r"(?i)\b(bearer|basic)\s+\S+|\beyJ[\w-]+\.[\w.-]+|\b(client_secret|access_token)=\S+"
)
_TITLE = re.compile(rb"(?is)<title[^>]*>(.*?)</title>")
_REPORT_ID = re.compile(r"webapi-[0-9a-f]{6,}|Report ID")

REMEDIES: Final[Mapping[str, str]] = {
    # Adobe's gateway
    "400003": "set IMS_ORG_ID (`…@AdobeOrg`): the gateway received no organisation.",
    "401013": "check that the credential's project has the API “Adobe Commerce as a Cloud Service” "
    "and that IMS_SCOPES contains commerce.accs.",
    "403000": "set IMS_CLIENT_ID: the gateway received no API key.",
    "403003": "check IMS_CLIENT_ID: it must be the client id of the credential in Adobe's Developer Console.",
    "403010": "check the proxy between here and Adobe: the Authorization header did not arrive.",
    "403025": "check IMS_ORG_ID, and that the credential has a product profile of this Commerce instance.",
    "403027": "check the credential's product profile in the Admin Console: its user has no region.",
    # IMS, RFC 6749 section 5.2
    "invalid_client": "check IMS_CLIENT_ID and IMS_CLIENT_SECRET; a deleted secret is gone, add a new one.",
    "invalid_scope": "check IMS_SCOPES: commerce.accs must be among them, and the credential's project must "
    "have the API “Adobe Commerce as a Cloud Service”.",
    "unauthorized_client": "use an OAuth server-to-server credential: IMS_CLIENT_ID is of another kind.",
    "unsupported_grant_type": "check IMS_TOKEN_URL: it must be the token endpoint, …/ims/token/v3.",
    "invalid_request": "check IMS_CLIENT_ID, IMS_CLIENT_SECRET and IMS_SCOPES: none may be empty.",
}

# The beginning of an OAuth 1.0a message of Commerce, and its remedy. A translated message gets no remedy.
# Observed on Magento 2.4.7: a request signed more than ten minutes ahead is reported as a nonce error.
OAUTH_REMEDIES: Final[Mapping[str, str]] = {
    "An error occurred validating the nonce": "set this machine's clock: Commerce refuses requests signed "
    "more than 10 minutes ahead of its own time. The credential is not the cause.",
    "The signature is invalid": "check COMMERCE_CONSUMER_SECRET and COMMERCE_ACCESS_TOKEN_SECRET; or a proxy "
    "changes host, port or scheme of API_ENDPOINT on the way: the signature covers them.",
    "A consumer having the specified key": "check COMMERCE_CONSUMER_KEY: Commerce has no such integration.",
    "Specified token does not exist": "check COMMERCE_ACCESS_TOKEN: this Commerce has no such token.",
    "Access token has been revoked": "reauthorize the integration in Commerce, and set its new four values.",
}


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The facts of an error body.

    text         placeholders filled, one line, at most LONGEST_TEXT characters; never empty
    code         the gateway's `error_code` or IMS's `error`
    resources    permissions that this credential lacks
    maximum      the largest page size that is accepted
    longest      the greatest length of another list that is accepted
    is_json      False for HTML and text: neither Commerce nor the gateway wrote it
    has_message  a JSON object with a text, as Commerce writes it
    is_fatal     written by PHP's fatal error handler: memory or time ran out
    is_internal  a logged exception (`Report ID`), whatever its status: newer Commerce answers 400 for some
    """

    text: str
    code: str | None = None
    resources: str | None = None
    maximum: int | None = None
    longest: int | None = None
    is_json: bool = False
    has_message: bool = False
    is_fatal: bool = False
    is_internal: bool = False


def read_error_body(body: bytes) -> ErrorBody:
    """Read an error body in any of the five forms; never raises."""
    try:
        return _parse_error_body(body)
    except RecursionError:
        return ErrorBody(text="JSON that is nested too deep", is_json=True)


def _parse_error_body(body: bytes) -> ErrorBody:
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return ErrorBody(text=_page_text(body))
    if not isinstance(document, dict):
        return ErrorBody(text=clean(str(document)) or "no message", is_json=True)
    template = _template(document)
    text = clean(" ".join(clean(sentence) for sentence in _sentences(document)))
    limit, is_of_pages = _limit(document), "pageSize" in template
    return ErrorBody(
        text=text or "no message",
        code=_code(document),
        resources=_resources(document),
        maximum=limit if is_of_pages else None,
        longest=None if is_of_pages else limit,
        is_json=True,
        has_message=bool(text),
        is_fatal="messages" in document,
        is_internal=_REPORT_ID.search(text) is not None,
    )


def remedy(error_body: ErrorBody) -> str | None:
    """What to do about it; None when the cause is unknown."""
    if error_body.resources:
        return (
            f"allow the resource {error_body.resources}: on PaaS in the integration, or with IMS in the role "
            "of the Admin user that has the technical account's e-mail address; on SaaS by the product "
            "profile of the credential. Commerce says the same of an unknown or expired token: check both."
        )
    for beginning, words in OAUTH_REMEDIES.items():
        if error_body.text.startswith(beginning):
            return words
    return REMEDIES.get(error_body.code or "")


def clean(text: str) -> str:
    """One printable line of at most LONGEST_TEXT characters, credentials masked."""
    text = redacted(text[:LONGEST_READ])[: 4 * LONGEST_TEXT]  # in this order: half a secret is not found
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    line = _CREDENTIAL.sub("***", line)
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"


def _sentences(document: Mapping[str, Any]) -> Iterator[str]:
    """Every message of a JSON error body, placeholders filled."""
    if template := _template(document):
        yield _filled(template, document.get("parameters"))
    for key in ("errors", "messages"):
        yield from _nested(document.get(key))
    error = document.get("error")
    if isinstance(error, dict):
        yield from _sentences(error)
    elif isinstance(error, str):
        yield f"{error} {document.get('error_description') or ''}"


def _nested(entries: object) -> Iterator[str]:
    """The messages of Commerce's `errors` list, or of the fatal handler's `messages.error` list."""
    if isinstance(entries, dict):
        entries = entries.get("error")
    if isinstance(entries, list):
        for entry in entries[:5]:
            if isinstance(entry, dict):
                yield _filled(_template(entry), entry.get("parameters"))


def _template(document: Mapping[str, Any]) -> str:
    message = document.get("message")
    return message if isinstance(message, str) else ""


def _filled(template: str, parameters: object) -> str:
    """Fill placeholders: `%1` from a list, `%name` from an object; one without a value stays."""
    values = dict(enumerate(parameters, 1)) if isinstance(parameters, list) else parameters
    if not isinstance(values, dict):
        return template
    known = {str(name): str(value) for name, value in values.items()}
    return _PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), template)


def _code(document: Mapping[str, Any]) -> str | None:
    """The gateway's code, IMS's error name, or the gateway's code in its nested form."""
    error = document.get("error")
    nested = error.get("details") if isinstance(error, dict) else None
    details = nested if isinstance(nested, dict) else {}
    for code in (document.get("error_code"), details.get("error_code"), error):
        if isinstance(code, str | int):
            return clean(str(code))
    return None


def _resources(document: Mapping[str, Any]) -> str | None:
    parameters = document.get("parameters")
    resources = parameters.get("resources") if isinstance(parameters, dict) else None
    return clean(str(resources)) if resources else None


def _limit(document: Mapping[str, Any]) -> int | None:
    """`parameters.max` of the answer to a page or a list that is too large.

    The message names `pageSize` in every language when the page is meant. Observed on Magento 2.4.7: other
    limits use `max` too.
    """
    parameters = document.get("parameters")
    maximum = parameters.get("max") if isinstance(parameters, dict) else None
    return maximum if isinstance(maximum, int) and maximum > 0 else None


def _page_text(body: bytes) -> str:
    """The title of an HTML page, or the beginning of a text."""
    start = body[:LONGEST_READ]
    if title := _TITLE.search(start):
        return f"an HTML page titled “{clean(title[1].decode(errors='replace'))}”"
    if start.lstrip()[:1] == b"<":
        return "an HTML or XML page"
    return clean(start.decode(errors="replace")) or "an empty body"
