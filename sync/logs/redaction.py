"""Mask secrets in any encoding, as a whole and by the parts that a wrong split would show.

Every SyncError and every log line passes through `redacted`, including texts of drivers, libraries and
servers. Redact a text before cutting it short: half a secret is not recognised.

A driver that splits `user:p@ss/word@host` at the wrong character shows "ss/word@host". Parts shorter than
SHORTEST_PART and the ordinary words of our own messages are not masked by themselves.
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

# Masking shorter secrets would mask ordinary words; no Adobe credential is this short.
SHORTEST_SECRET: Final = 4
SHORTEST_PART: Final = 4
SHORTEST_BASE64: Final = 8
TOKENS_KEPT: Final = 16
LONGEST_FOREIGN: Final = 300  # characters of a text from a driver, library or server
_WORDS = """
    access admin basic bearer commerce database default error false host http https localhost magento mariadb
    mysql name none null pass password postgres postgresql product products redis root secret server sqlite
    sync tenant test true user
"""
ORDINARY: Final = frozenset(_WORDS.split())
# Tokens are issued at run time, so they are recognised by form: anything after "Bearer", and any JWT.
TOKEN = r"(?<=[Bb]earer )[\w.~+/=-]+|eyJ[\w-]+\.[\w-]+\.[\w-]*"  # noqa: S105 -- a pattern, not a token
_SEPARATORS = re.compile(r"""[@:/#?&%=;\\'"\s]""")
_PLAIN = re.compile(r"[\w~-]", re.ASCII)  # the same in every encoding
_URL_SAFE = str.maketrans("+/", "-_")


class _Secrets:
    """The texts to mask, and the pattern that matches each of them in every encoding."""

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
        """Like `add`, for texts that keep changing: only the last TOKENS_KEPT are kept."""
        with self._lock:
            self._tokens[token] = None
            while len(self._tokens) > TOKENS_KEPT:
                self._tokens.popitem(last=False)
            self._pattern = None

    def pattern(self) -> re.Pattern[str]:
        """The pattern that matches any of them, compiled on demand and cached until one is added."""
        with self._lock:
            self._pattern = self._pattern or self._compiled()
            return self._pattern

    def _compiled(self) -> re.Pattern[str]:
        forms = {text: _pattern_of(text) for text in (*self._secrets, *self._tokens)}
        forms |= {it: re.escape(it) for text in [*forms] for it in _base64(text)}
        for part in {part for text in self._secrets for part in parts(text)} - forms.keys():
            forms[part] = rf"(?<![^\W_]){_pattern_of(part)}(?![^\W_])"
        longest_first = sorted(forms, key=len, reverse=True)
        return re.compile("|".join([*(forms[text] for text in longest_first), TOKEN]))


_secrets = _Secrets()


def hide(secrets: Iterable[str]) -> None:
    """Make `redacted` mask these texts and their parts from now on; URLs only as a whole."""
    _secrets.add(secrets)


def hide_token(token: str) -> None:
    """Make `redacted` mask an access token; only the last TOKENS_KEPT are masked."""
    _secrets.add_token(token)


def redacted(text: str) -> str:
    """The text with every known secret masked."""
    return _secrets.pattern().sub("***", text)


def foreign(error: object) -> str:
    """The text of a driver or library for use in our message: redacted, on one line, cut short."""
    return " ".join(redacted(str(error)).split())[:LONGEST_FOREIGN]


def parts(secret: str) -> set[str]:
    """The parts that a wrong split of a secret would show: before, after and between its separators.

    >>> sorted(parts("hunter@2:password/x9x9"))
    ['2:password/x9x9', 'hunter', 'hunter@2', 'hunter@2:password', 'password/x9x9', 'x9x9']
    """
    found: set[str] = set()
    for text in () if "://" in secret else {secret, unquote(secret)}:
        found.update(_SEPARATORS.split(text))
        for separator in _SEPARATORS.finditer(text):
            found |= {text[: separator.start()], text[separator.end() :]}
    return {it for it in found if len(it) >= SHORTEST_PART and not _is_ordinary(it)}


def _is_ordinary(part: str) -> bool:
    """Whether masking it would make other texts unreadable: a common word, or a year."""
    return part.lower() in ORDINARY or re.fullmatch(r"(19|20)\d\d", part) is not None


def _pattern_of(text: str) -> str:
    """A pattern of the text in plain form and encoded as URL, form, repr, JSON and HTML, and in mixtures."""
    return "".join(char if _PLAIN.match(char) else _pattern_of_char(char) for char in text)


def _pattern_of_char(char: str) -> str:
    code = ord(char)
    units = char.encode("utf-16-be", errors="surrogatepass").hex()
    encoded = [
        "".join(f"%(?:25)?{byte:02x}" for byte in char.encode(errors="surrogateescape")),
        "".join(rf"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)),
        f"&#0*{code};|&#x0*{code:x};",
        *([rf"\\x{code:02x}"] if code < 256 else []),
        *([f"&{codepoint2name[code]};"] if code in codepoint2name else []),
    ]
    if char == " ":
        encoded.append(r"\+")
    plain = r"\\{1,4}" if char == "\\" else r"\\{0,3}" + re.escape(char)
    return f"(?:{plain}|(?i:{'|'.join(encoded)}))"


def _base64(secret: str) -> Iterator[str]:
    """The base64 forms of a secret, at each of its three alignments."""
    raw = secret.encode(errors="surrogateescape")
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).rstrip(b"=").decode()
        inside = encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        if len(inside) >= SHORTEST_BASE64:
            yield from (inside, inside.translate(_URL_SAFE), quote(inside, safe=""))
