"""Who may come in: IMS tokens and the gateway of a SaaS tenant, tokens and OAuth 1.0a of a PaaS one.

Every credential here is made up and public.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote, unquote_plus

from sync.sandbox.replies import Refused, Reply, gateway, json_reply, message, not_authorized

Verifier = Literal["RFC 5849", "Zend", "Laminas", "2.4.9"]
MAX_CLOCK_AHEAD = 600  # seconds: what Commerce tolerates in `oauth_timestamp`


@dataclass(frozen=True, slots=True)
class Credentials:
    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"  # noqa: S105 - made up
    org_id: str = "0123456789ABCDEF@AdobeOrg"
    integration_token: str = "sandbox-integration-token"  # noqa: S105 - made up
    consumer_key: str = "sandbox-consumer"
    consumer_secret: str = "sandbox-consumer-secret"  # noqa: S105 - made up
    access_token: str = "sandbox-access"  # noqa: S105 - made up
    access_token_secret: str = "sandbox-access-secret"  # noqa: S105 - made up


class TokenOffice:
    """The part of IMS that issues and knows access tokens.

    life    seconds a token lives; may change at any time, tokens issued before keep theirs
    """

    def __init__(self, credentials: Credentials, life: int, clock: Callable[[], float]) -> None:
        self.life = life
        self._credentials = credentials
        self._clock = clock
        self._lock = threading.Lock()
        self._expires: dict[str, float] = {}

    def issue(self, form: Mapping[str, str]) -> Reply:
        """The answer to a token request; errors in the form of RFC 6749."""
        if form.get("grant_type") != "client_credentials":
            return json_reply(400, {"error": "unsupported_grant_type"})
        known = (self._credentials.client_id, self._credentials.client_secret)
        if (form.get("client_id"), form.get("client_secret")) != known:
            text = "invalid client_id or client_secret"
            return json_reply(400, {"error": "invalid_client", "error_description": text})
        if not {"commerce.accs", "adobeio_api"} & {*re.split(r"[ ,]+", form.get("scope", ""))}:
            return json_reply(400, {"error": "invalid_scope"})
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._expires[token] = self._clock() + self.life
        return json_reply(200, {"access_token": token, "token_type": "bearer", "expires_in": self.life})

    def revoke(self) -> None:
        with self._lock:
            self._expires.clear()

    def is_valid(self, token: str) -> bool:
        with self._lock:
            return self._expires.get(token, 0) > self._clock()


class Gateway:
    """What stands in front of a SaaS tenant and checks token, client id and organisation, in this order."""

    def __init__(self, credentials: Credentials, tokens: TokenOffice) -> None:
        self._credentials = credentials
        self._tokens = tokens

    def check(self, headers: Mapping[str, str]) -> None:
        """Raise Refused with the gateway's answer unless the three headers are right."""
        if not self._tokens.is_valid(bearer(headers)):
            raise Refused(gateway(401, "401013", "Oauth token is not valid"))
        client_id, org_id = headers.get("x-api-key"), headers.get("x-gw-ims-org-id")
        if client_id is None:
            raise Refused(gateway(403, "403000", "Api Key is required"))
        if client_id != self._credentials.client_id:
            raise Refused(gateway(403, "403003", "Api Key is invalid"))
        if org_id is None:
            raise Refused(gateway(400, "400003", "Missing header"))
        if org_id != self._credentials.org_id:
            raise Refused(gateway(403, "403025", "Profile is not valid"))


class Integration:
    """What a PaaS tenant checks itself: an integration's token, one of IMS, or an OAuth 1.0a signature.

    verifier        how signatures are verified; may change at any time
    has_ims_user    whether an Admin user has the technical account's e-mail address; may change at any time.
                    Without one, Commerce answers a valid token of IMS as it answers an unknown token
    """

    def __init__(self, credentials: Credentials, tokens: TokenOffice, clock: Callable[[], float]) -> None:
        self.verifier: Verifier = "RFC 5849"
        self.has_ims_user = True
        self._credentials = credentials
        self._tokens = tokens
        self._clock = clock
        self._lock = threading.Lock()
        self._nonces: set[str] = set()

    def check(self, method: str, url: str, query: str, headers: Mapping[str, str], resource: str) -> None:
        """Raise Refused unless the request is authorized; `url` is absolute and without its query."""
        authorization = headers.get("authorization", "")
        if authorization[:6].lower() == "oauth ":
            self._check_signature(method, url, query, oauth_parameters(authorization))
        elif not self._knows(bearer(headers)):
            raise Refused(not_authorized(resource))

    def _knows(self, token: str) -> bool:
        is_ims = self.has_ims_user and self._tokens.is_valid(token)
        return is_ims or token == self._credentials.integration_token

    def _check_signature(self, method: str, url: str, query: str, sent: dict[str, str]) -> None:
        known = (self._credentials.consumer_key, self._credentials.access_token, "HMAC-SHA256")
        if (
            sent.get("oauth_consumer_key"),
            sent.get("oauth_token"),
            sent.get("oauth_signature_method"),
        ) != known:
            raise Refused(message(401, "A consumer having the specified key does not exist"))
        if int(sent.get("oauth_timestamp", "0")) > self._clock() + MAX_CLOCK_AHEAD:
            raise Refused(message(401, "An error occurred validating the nonce"))
        secrets_of_both = (self._credentials.consumer_secret, self._credentials.access_token_secret)
        expected = signature(method, url, query, sent, secrets_of_both, self.verifier)
        if not hmac.compare_digest(expected, sent.get("oauth_signature", "")):
            raise Refused(message(401, "The signature is invalid. Verify and try again."))
        with self._lock:
            if sent.get("oauth_nonce", "") in self._nonces:
                raise Refused(message(401, "The nonce is already being used by the consumer."))
            self._nonces.add(sent.get("oauth_nonce", ""))


def bearer(headers: Mapping[str, str]) -> str:
    """The token of `Authorization: Bearer …`; the word may be in any case."""
    word, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if word.lower() == "bearer" else ""


def oauth_parameters(authorization: str) -> dict[str, str]:
    """The parameters of an `Authorization: OAuth …` header, decoded."""
    return {name: unquote(value) for name, value in re.findall(r'(\w+)="([^"]*)"', authorization)}


def signature(
    method: str,
    url: str,
    query: str,
    sent: Mapping[str, str],
    both_secrets: tuple[str, str],
    verifier: Verifier = "RFC 5849",
) -> str:
    """HMAC-SHA256 over method, URL and all parameters but the signature.

    verifier    RFC 5849, section 3.4, sorts the parameters by their encoded names. Commerce verifies with a
                library: with Zend's, a `+` in the query is itself and names are in natural order (2 before
                10); with Laminas', a `+` is a space; 2.4.9 has its own, which sorts by decoded names
                (magento/magento2, lib/internal/Magento/Framework/Oauth/Helper)
    """
    decoded = unquote if verifier == "Zend" else unquote_plus
    pieces = [piece.split("=") for piece in query.split("&")]
    signed = {decoded(piece[0]): decoded(piece[1]) for piece in pieces if len(piece) == 2}
    signed |= sent
    names = sorted(signed.keys() - _UNSIGNED, key=_ORDERS[verifier])
    parameters = "&".join(f"{_encoded(name)}={_encoded(signed[name])}" for name in names)
    base = "&".join((method.upper(), _encoded(url), _encoded(parameters)))
    key = "&".join(_encoded(secret) for secret in both_secrets)
    return base64.b64encode(hmac.new(key.encode(), base.encode(), hashlib.sha256).digest()).decode()


_UNSIGNED = {"oauth_signature", "realm"}


def _encoded(text: str) -> str:
    return quote(text, safe="-._~")


def _naturally(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in the encoded name by their value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", _encoded(name))]


_ORDERS: dict[Verifier, Callable[[str], Any]] = {
    "RFC 5849": _encoded,
    "Zend": _naturally,
    "Laminas": _naturally,
    "2.4.9": str,
}
