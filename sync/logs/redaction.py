"""No secret in a text: whatever its spelling, as a whole and by the parts that a wrong split would show.

Every SyncError and every log line passes `redacted`, and with it what a driver, a library or a server said.
A text that is cut short is redacted before: half a secret is not recognized.

A driver that splits `user:p@ss/word@host` at the wrong sign shows "ss/word@host". Parts of fewer than
SHORTEST_PART characters, and ordinary words that our own messages are made of, are not masked by themselves.
"""

from __future__ import annotations

import base64
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from html.entities import codepoint2name
from typing import Final
from urllib.parse import quote, unquote

# A shorter secret would blot out ordinary words; no credential of Adobe's is this short.
SHORTEST_SECRET: Final = 4
SHORTEST_PART: Final = 4
SHORTEST_BASE64: Final = 8
TOKENS_KEPT: Final = 16
LONGEST_FOREIGN: Final = 300  # characters of a text that is not ours
_WORDS = """
    access admin basic bearer commerce database default error false host http https localhost magento mariadb
    mysql name none null pass password postgres postgresql product products redis root secret server sqlite
    sync tenant test true user
"""
ORDINARY: Final = frozenset(_WORDS.split())
# Tokens are minted while running, so no list can hold them: what follows "Bearer", and any JWT.
TOKEN = r"(?<=[Bb]earer )[\w.~+/=-]+|eyJ[\w-]+\.[\w-]+\.[\w-]*"  # noqa: S105 -- a pattern, not a token
_SIGNS = re.compile(r"""[@:/#?&%=;\\'"\s]""")
_PLAIN = re.compile(r"[\w~-]", re.ASCII)  # written alike everywhere
_URL_SAFE = str.maketrans("+/", "-_")


class _Hidden:
    """The texts that nobody may read, and the pattern that finds each of them in any of its forms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: set[str] = set()
        self._tokens: OrderedDict[str, None] = OrderedDict()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secrets: Iterable[str]) -> None:
        with self._lock:
            new = {text for text in secrets if len(text) >= SHORTEST_SECRET} - self._secrets
            if new:
                self._secrets |= new
                self._pattern = None

    def add_token(self, token: str) -> None:
        """Like `add`, for texts that come all day: only the last ones are kept."""
        with self._lock:
            self._tokens[token] = None
            while len(self._tokens) > TOKENS_KEPT:
                self._tokens.popitem(last=False)
            self._pattern = None

    def pattern(self) -> re.Pattern[str]:
        """What finds any of them; made when it is needed, and kept until one more is added."""
        with self._lock:
            self._pattern = self._pattern or self._compiled()
            return self._pattern

    def _compiled(self) -> re.Pattern[str]:
        forms = {text: _spelled(text) for text in (*self._secrets, *self._tokens)}
        forms |= {it: re.escape(it) for text in [*forms] for it in _base64(text)}
        for part in {part for text in self._secrets for part in parts(text)} - forms.keys():
            forms[part] = rf"(?<![^\W_]){_spelled(part)}(?![^\W_])"
        longest_first = sorted(forms, key=len, reverse=True)
        return re.compile("|".join([*(forms[text] for text in longest_first), TOKEN]))


_hidden = _Hidden()


def hide(secrets: Iterable[str]) -> None:
    """Mask these texts and their parts from now on, in what `redacted` returns; URLs only as a whole."""
    _hidden.add(secrets)


def hide_token(token: str) -> None:
    """Mask an access token; a handful of the latest ones are remembered."""
    _hidden.add_token(token)


def redacted(text: str) -> str:
    """The text without any secret that is known."""
    return _hidden.pattern().sub("***", text)


def foreign(error: object) -> str:
    """What a driver or a library says, for a sentence of ours: redacted, on one line, cut short."""
    return " ".join(redacted(str(error)).split())[:LONGEST_FOREIGN]


def parts(secret: str) -> set[str]:
    """What a wrong split of a secret would show: what is before, after and between its signs.

    >>> sorted(parts("hunter@2:password/x9x9"))
    ['2:password/x9x9', 'hunter', 'hunter@2', 'hunter@2:password', 'password/x9x9', 'x9x9']
    """
    found: set[str] = set()
    for text in () if "://" in secret else {secret, unquote(secret)}:
        found.update(_SIGNS.split(text))
        for sign in _SIGNS.finditer(text):
            found |= {text[: sign.start()], text[sign.end() :]}
    return {it for it in found if len(it) >= SHORTEST_PART and not _is_ordinary(it)}


def _is_ordinary(part: str) -> bool:
    """Whether masking it would make other texts unreadable: a common word, or a year."""
    return part.lower() in ORDINARY or re.fullmatch(r"(19|20)\d\d", part) is not None


def _spelled(text: str) -> str:
    """A pattern of the text as it reads plain, in a URL, a form, a repr, JSON and HTML, and in mixtures."""
    return "".join(sign if _PLAIN.match(sign) else _sign(sign) for sign in text)


def _sign(sign: str) -> str:
    code = ord(sign)
    units = sign.encode("utf-16-be", errors="surrogatepass").hex()
    encoded = [
        "".join(f"%(?:25)?{byte:02x}" for byte in sign.encode(errors="surrogateescape")),
        "".join(rf"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)),
        f"&#0*{code};|&#x0*{code:x};",
        *([rf"\\x{code:02x}"] if code < 256 else []),
        *([f"&{codepoint2name[code]};"] if code in codepoint2name else []),
    ]
    if sign == " ":
        encoded.append(r"\+")
    plain = r"\\{1,4}" if sign == "\\" else r"\\{0,3}" + re.escape(sign)
    return f"(?:{plain}|(?i:{'|'.join(encoded)}))"


def _base64(secret: str) -> Iterator[str]:
    """A secret in base64, whatever stands before it."""
    raw = secret.encode(errors="surrogateescape")
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).rstrip(b"=").decode()
        inside = encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        if len(inside) >= SHORTEST_BASE64:
            yield from (inside, inside.translate(_URL_SAFE), quote(inside, safe=""))
