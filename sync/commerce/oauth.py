"""How a PaaS or on-premises Commerce knows an integration: its token as Bearer, or OAuth 1.0a signatures.

Neither can be renewed: the tokens of an integration do not end, they are revoked.

Source: Adobe Commerce Web API, "Token-based authentication" (Bearer is off by default since 2.4.4) and
"OAuth-based authentication" (HMAC-SHA256).
"""

from __future__ import annotations

from collections.abc import Callable

from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256
from requests import PreparedRequest
from requests_oauthlib import OAuth1


class BearerAuth:
    """An integration's access token as Bearer, asked for at each request: a new one is picked up."""

    def __init__(self, access_token: Callable[[], str]) -> None:
        self._access_token = access_token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._access_token()}"
        return request

    def renew(self, refused: PreparedRequest) -> bool:
        return refused.headers["Authorization"] != f"Bearer {self._access_token()}"


class OAuth1Auth:
    """OAuth 1.0a, HMAC-SHA256: what PaaS expects by default."""

    def __init__(
        self, consumer_key: str, consumer_secret: str, access_token: str, access_token_secret: str
    ) -> None:
        self._sign = OAuth1(
            consumer_key,
            consumer_secret,
            access_token,
            access_token_secret,
            signature_method=SIGNATURE_HMAC_SHA256,
        )

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        signed: PreparedRequest = self._sign(request)
        return signed

    def renew(self, refused: PreparedRequest) -> bool:
        return False
