"""One IMS token for all processes of a tenant: one process requests it, the others use it.

The token is stored encrypted (Fernet: AES-128-CBC with HMAC-SHA256) with a key derived from the client secret
(HKDF, RFC 5869): the database alone does not reveal it. A process with another valid secret cannot decrypt it
and requests its own.

No transaction is open while IMS is asked: a process first notes until when the others wait for its request.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sync.commerce.retry import RetryPolicy
from sync.commerce.shared_state import SharedState
from sync.commerce.tenant_memory import Token
from sync.errors import Interrupted, SyncError

ASKING_S: Final = 30.0  # for IMS to answer one process; then the next one asks
LOOK_S: Final = 0.2


class _Kept(msgspec.Struct, frozen=True):
    """The stored state; times by the clock of the shared state.

    sealed          the token, encrypted
    asking_until    a process is requesting the next token; the others wait until then
    """

    sealed: str = ""
    renew_at: float = 0.0
    asking_until: float = 0.0


_KEPT = msgspec.json.Decoder(_Kept)


class SharedToken:
    """The token of one credential in shared state.

    secret    returns the current client secret
    hide      receives each token that is read, so that no log shows it
    """

    def __init__(
        self,
        shared_state: SharedState,
        client_id: str,
        secret: Callable[[], str],
        retry_policy: RetryPolicy,
        hide: Callable[[str], None] = lambda token: None,
    ) -> None:
        self._shared_state = shared_state
        self._client_id = client_id
        self._secret = secret
        self._retry_policy = retry_policy
        self._hide = hide

    def next(self, refused: str | None, ask: Callable[[], Token]) -> Token:
        """A token other than `refused`: from another process, or from `ask`.

        Raises what `ask` raises, DatabaseUnavailable, and Interrupted.
        """
        while True:
            found = self._shared_state.update(lambda text, now: self._look(text, now, refused))
            if isinstance(found, Token):
                self._hide(found.text)
                return found
            if found == "ask":
                return self._ask(ask)
            if self._retry_policy.sleep(LOOK_S):
                raise Interrupted("Stopped while another process asks IMS for a token.")

    def _look(
        self, text: str | None, now: float, refused: str | None
    ) -> tuple[str | None, Token | Literal["ask", "wait"]]:
        kept = _read(text)
        token = self._unsealed(kept.sealed)
        if token is not None and token != refused and now < kept.renew_at:
            return None, Token(token, self._retry_policy.clock() + kept.renew_at - now)
        if now < kept.asking_until:
            return None, "wait"
        return _write(msgspec.structs.replace(kept, asking_until=now + ASKING_S)), "ask"

    def _ask(self, ask: Callable[[], Token]) -> Token:
        try:
            token = ask()
        except BaseException:
            with suppress(SyncError):
                self._shared_state.update(self._given_up)
            raise

        def keep(_text: str | None, now: float) -> tuple[str, None]:
            renew_at = now + token.renew_at - self._retry_policy.clock()
            return _write(_Kept(self._sealed(token.text), renew_at)), None

        self._shared_state.update(keep)
        return token

    def _given_up(self, text: str | None, _now: float) -> tuple[str, None]:
        return _write(msgspec.structs.replace(_read(text), asking_until=0.0)), None

    def _sealed(self, token: str) -> str:
        return self._fernet().encrypt(token.encode()).decode()

    def _unsealed(self, sealed: str) -> str | None:
        try:
            return self._fernet().decrypt(sealed).decode()
        except InvalidToken:
            return None

    def _fernet(self) -> Fernet:
        hkdf = HKDF(SHA256(), 32, salt=self._client_id.encode(), info=b"product-sync: shared IMS token")
        return Fernet(base64.urlsafe_b64encode(hkdf.derive(self._secret().encode())))


def _read(text: str | None) -> _Kept:
    try:
        return _KEPT.decode(text or "{}")
    except msgspec.DecodeError:  # of another version
        return _Kept()


def _write(kept: _Kept) -> str:
    return msgspec.json.encode(kept).decode()
