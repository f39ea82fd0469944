"""Authentication of an integration on PaaS or on premises: its token as Bearer, or OAuth 1.0a signatures.

Neither can be renewed: the tokens of an integration do not expire, they are revoked. Rotated ones are picked
up automatically.

Source: Adobe Commerce Web API, "Token-based authentication" (Bearer is off by default since 2.4.4) and
"OAuth-based authentication" (HMAC-SHA256).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self
from weakref import WeakKeyDictionary

from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256
from requests import PreparedRequest
from requests_oauthlib import OAuth1


class BearerAuth:
    """An integration's access token as Bearer; reads it once, and again after a refusal."""

    def __init__(self, read_token: Callable[[], str]) -> None:
        self._read_token = read_token
        self._token = read_token()

    def __repr__(self) -> str:
        return "BearerAuth(***)"

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def renew(self, refused: PreparedRequest) -> bool:
        """Read the token again; whether it differs from the refused one."""
        self._token = self._read_token()
        return refused.headers["Authorization"] != f"Bearer {self._token}"


Keys = tuple[str, str, str, str]


class OAuth1Auth:
    """OAuth 1.0a with HMAC-SHA256, which PaaS expects by default."""

    def __init__(
        self, consumer_key: str, consumer_secret: str, access_token: str, access_token_secret: str
    ) -> None:
        self._keys: Keys = (consumer_key, consumer_secret, access_token, access_token_secret)
        self._reread: Callable[[], Keys] = lambda: self._keys
        self._sign = _signer(self._keys)
        self._used: WeakKeyDictionary[PreparedRequest, Keys] = WeakKeyDictionary()

    def rereading(self, reread: Callable[[], Keys]) -> Self:
        """Call `reread` for the current keys, in this order, when the ones in use are refused."""
        self._reread = reread
        return self

    def __repr__(self) -> str:
        return "OAuth1Auth(***)"

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        keys, sign = self._keys, self._sign
        signed: PreparedRequest = sign(request)
        self._used[signed] = keys
        return signed

    def renew(self, refused: PreparedRequest) -> bool:
        """Read the keys again; whether they differ from those of the refused request."""
        keys = self._reread()
        if keys != self._keys:
            self._keys, self._sign = keys, _signer(keys)
        return self._used.get(refused) != keys


def _signer(keys: Keys) -> OAuth1:
    return OAuth1(*keys, signature_method=SIGNATURE_HMAC_SHA256)
