"""Products by number: any of a million documents in a few microseconds, none of them stored.

Ordinal n (0, 1, 2, …) decides everything: its id, kind, SKU, texts, price and stamps. Twenty
ordinals make a block, laid out so that parents follow the products they consist of:

    0-4 simple   5-6 simple with links   7 simple with options and tier prices
    8-15 variants (4 sizes x 2 colours, not visible alone)   16 their configurable product
    17 virtual   18 downloadable or gift card   19 bundle or grouped

A document is a byte template of `documents` with its slots filled in.
"""

from __future__ import annotations

import re
import time
from array import array
from calendar import timegm
from collections.abc import Callable, Iterable
from functools import lru_cache

from sync.sandbox import phpjson
from sync.sandbox.documents import TYPES, compiled, document
from sync.sandbox.texts import ARTICLES, COLOURS, FEATURES, FINISHES, SERIES, SIZES

BLOCK = 20
FIRST_STAMP = timegm((2021, 3, 1, 6, 0, 0))
PRODUCTS_PER_SECOND = 200  # an import stamps many products alike


@lru_cache(maxsize=8192)
def stamp_text(stamp: int) -> bytes:
    """Seconds since 1970 in Commerce's form, which is always UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(stamp)).encode()


class Generator:
    """The made-up catalogue of one seed.

    gap           average distance of neighbouring ids; 1 leaves no gaps
    store_views   the first shows what the admin scope `all` shows; the others have names and
                  every tenth price of their own
    """

    def __init__(self, seed: int, gap: int, store_views: Iterable[str]) -> None:
        self._seed = seed
        self._gap = gap
        self._own_values = frozenset(list(store_views)[1:])
        self._templates: dict[tuple[str, int, str], bytes] = {}

    def ids(self, count: int) -> array[int]:
        """The ids of the first `count` products, ascending."""
        if self._gap == 1:
            return array("L", range(1, count + 1))
        return array("L", (self.id_of(ordinal) for ordinal in range(count)))

    def id_of(self, ordinal: int) -> int:
        return 1 + ordinal * self._gap + self._dice(ordinal) % self._gap

    def ordinal_of(self, product_id: int) -> int:
        return (product_id - 1) // self._gap

    def stamp_of(self, product_id: int) -> int:
        """When the product was created and last updated: grows with the id."""
        return FIRST_STAMP + self.ordinal_of(product_id) // PRODUCTS_PER_SECOND

    def first_id_stamped(self, stamp: int) -> int:
        """The lowest id that may carry `stamp` or a later one."""
        return max(0, stamp - FIRST_STAMP) * PRODUCTS_PER_SECOND * self._gap + 1

    def product_id_in(self, sku: str) -> int | None:
        """The id that a SKU of ours carries in it; the product need not exist."""
        found = re.match(r"[A-Z]{2}(\d{7,})", sku, re.IGNORECASE)
        return int(found[1]) if found else None

    def sku(self, product_id: int, simple: bool) -> str:
        """The SKU of a product, without its document; `simple` as in `raw`."""
        ordinal = self.ordinal_of(product_id)
        is_variant = not simple and _kind(ordinal) == "variant"
        return (self._sku(ordinal, product_id) + (_ending(ordinal) if is_variant else b"")).decode()

    def type_id(self, product_id: int) -> str:
        kind = _kind(self.ordinal_of(product_id))
        return kind if kind in TYPES else "simple"

    def categories(self, product_id: int) -> tuple[int, ...]:
        """The categories that a product is linked to."""
        return ARTICLES[self._article(self.ordinal_of(product_id))].categories

    def raw(self, product_id: int, store_view: str, stamps: tuple[int, int] | None, simple: bool) -> bytes:
        """The document as served in a list.

        stamps    created and updated, None for the generated ones
        simple    True for a product added later, whose block may lack the parts of a parent
        """
        ordinal = self.ordinal_of(product_id)
        kind = "simple" if simple else _kind(ordinal)
        view = store_view if store_view in self._own_values else ""
        slots = self._slots(ordinal, product_id, kind, view)
        created, updated = stamps or (self.stamp_of(product_id),) * 2
        slots[b"created"] = stamp_text(created)
        slots[b"updated"] = stamp_text(updated)
        return self._template(kind, self._article(ordinal), view) % slots

    def _dice(self, ordinal: int) -> int:
        """A number that looks random and is always the same for a seed and an ordinal."""
        mixed = (ordinal * 0x9E3779B1 + self._seed * 0x85EBCA6B) & 0xFFFFFFFF
        return ((mixed ^ mixed >> 15) * 0x2C1B3C6D & 0xFFFFFFFF) >> 4

    def _article(self, ordinal: int) -> int:
        """The article of a product; a configurable product shares it with its variants."""
        block, position = divmod(ordinal, BLOCK)
        part = 8 if 8 <= position <= 16 else position
        return (block * 7 + part * 5 + self._seed) % len(ARTICLES)

    def _sku(self, ordinal: int, product_id: int) -> bytes:
        return b"%b%07d" % (_CODES[self._article(ordinal)], product_id)

    def _slots(self, ordinal: int, product_id: int, kind: str, view: str) -> dict[bytes, bytes]:
        dice = self._dice(ordinal)
        family = self._dice(-(ordinal // BLOCK)) if kind in ("variant", "configurable") else dice
        own_price = view != "" and ordinal % 10 == 0
        slots = {
            b"id": b"%d" % product_id,
            b"sku": self._sku(ordinal, product_id),
            b"series": _SERIES[family & 31],
            b"finish": _FINISHES[family >> 5 & 15],
            b"price": (_VIEW_PRICES if own_price else _PRICES)[dice >> 9 & 511],
            b"weight": _WEIGHTS[dice >> 9 & 63],
            b"status": b"2" if dice % 29 == 0 else b"1",
            b"visibility": b"3" if dice % 23 == 0 else b"4",
            b"feature": _FEATURES[dice >> 15 & 7],
            b"feature2": _FEATURES[dice >> 18 & 7],
            b"media1": b"%d" % (2 * product_id),
            b"media2": b"%d" % (2 * product_id + 1),
            b"sale": b"%d" % (dice >> 3 & 1),
            b"colour": _COLOUR_VALUES[dice % 6],
        }
        add_parts = _PARTS.get(kind)
        if add_parts:
            add_parts(self, ordinal, slots)
        return slots

    def _linked(self, ordinal: int, slots: dict[bytes, bytes]) -> None:
        start = ordinal - ordinal % BLOCK
        for number in range(3):
            slots[b"link%d" % number] = self._sku(start + number, self.id_of(start + number))

    def _variant(self, ordinal: int, slots: dict[bytes, bytes]) -> None:
        size, colour = _size_and_colour(ordinal)
        slots[b"size"] = _SIZE_VALUES[size]
        slots[b"colour"] = _COLOUR_VALUES[colour]
        slots[b"ending"] = _ending(ordinal)
        slots[b"sku"] += slots[b"ending"]

    def _configurable(self, ordinal: int, slots: dict[bytes, bytes]) -> None:
        block = ordinal // BLOCK
        slots[b"children"] = b",".join(b"%d" % self.id_of(ordinal - 8 + number) for number in range(8))
        slots[b"colour"] = _COLOUR_VALUES[block % len(COLOURS)]
        slots[b"colour2"] = _COLOUR_VALUES[(block + 1) % len(COLOURS)]

    def _template(self, kind: str, article: int, view: str) -> bytes:
        key = (kind, article, view)
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = compiled(document(kind, ARTICLES[article], view))
        return template


_PARTS: dict[str, Callable[[Generator, int, dict[bytes, bytes]], None]] = {
    "linked": Generator._linked,
    "grouped": Generator._linked,
    "bundle": Generator._linked,
    "variant": Generator._variant,
    "configurable": Generator._configurable,
}

_KINDS = (*["simple"] * 5, "linked", "linked", "rich", *["variant"] * 8, "configurable", "virtual")


def _kind(ordinal: int) -> str:
    block, position = divmod(ordinal, BLOCK)
    if position < len(_KINDS):
        return _KINDS[position]
    return (("downloadable", "bundle"), ("giftcard", "grouped"))[block % 2][position - len(_KINDS)]


def _size_and_colour(ordinal: int) -> tuple[int, int]:
    block, position = divmod(ordinal, BLOCK)
    size, second = divmod(position - 8, 2)
    return size, (block + second) % len(COLOURS)


def _ending(ordinal: int) -> bytes:
    """What tells a variant from its siblings in name and SKU."""
    size, colour = _size_and_colour(ordinal)
    return b"-%b-%b" % (_SIZES[size], _COLOURS[colour])


def _escaped(texts: Iterable[str]) -> tuple[bytes, ...]:
    """Texts as they stand inside a JSON string."""
    return tuple(phpjson.dumps(text)[1:-1] for text in texts)


def _prices(factor: float) -> tuple[bytes, ...]:
    return tuple(phpjson.dumps(round((4.95 + step * 0.55) * factor, 2)) for step in range(512))


_CODES = tuple(article.code.encode() for article in ARTICLES)
_SERIES = _escaped(SERIES)
_FINISHES = _escaped(FINISHES)
_FEATURES = tuple(text.encode() for text in FEATURES)
_PRICES = _prices(1)
_VIEW_PRICES = _prices(1.1)
_WEIGHTS = tuple(phpjson.dumps(round(0.2 + step * 0.15, 2)) for step in range(64))
_COLOUR_VALUES = tuple(value.encode() for _, value in COLOURS)
_SIZE_VALUES = tuple(value.encode() for _, value in SIZES)
_COLOURS = tuple(name.encode() for name, _ in COLOURS)
_SIZES = tuple(name.encode() for name, _ in SIZES)
