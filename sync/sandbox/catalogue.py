"""The tenant's products: which exist, what was edited, and the document of each.

Only ids, stamps and edits are kept; an untouched document is made anew each time it is
served. Every method is atomic. The id list is replaced, never changed in place, so a
reader keeps a consistent one without holding the lock.
"""

from __future__ import annotations

import copy
import json
import threading
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from sync.sandbox import phpjson, values
from sync.sandbox.documents import Document
from sync.sandbox.generator import Generator, stamp_text

ALL = "all"
MAX_CACHED = 20_000

# What `edit` puts at the top of the document; any other name is a custom attribute.
TOP_LEVEL = frozenset(
    {
        "id",
        "sku",
        "name",
        "attribute_set_id",
        "price",
        "status",
        "visibility",
        "type_id",
        "created_at",
        "updated_at",
    }
    | {"weight", "extension_attributes", "product_links", "options", "media_gallery_entries", "tier_prices"}
    | {"custom_attributes"}
)


class _Late(NamedTuple):
    """An edit that is committed after its own stamp."""

    visible_at: float
    stamp: int
    product_id: int
    fields: Document


class Catalogue:
    """Products by id, in every store view; `clock` gives the stamps.

    on_edit    receives what an event is made of: `save` or `delete`, id and SKU
    """

    def __init__(self, generator: Generator, products: int, clock: Callable[[], float]) -> None:
        self._generator = generator
        self._clock = clock
        self._lock = threading.RLock()
        self._listed = generator.ids(products)
        self._next_id = self._listed[-1] + 1 if self._listed else 1
        self._hidden: set[int] = set()
        self._born: dict[int, int] = {}
        self._stamps: dict[int, int] = {}
        self._whole: dict[int, Document] = {}
        self._changes: dict[int, dict[str, Document]] = {}
        self._skus: dict[str, set[int]] = {}
        self._own: dict[int, tuple[str, str]] = {}
        self._own_version = 0
        self._dropped: dict[str, set[str]] = {"category": set(), "attribute": set(), "option": set()}
        self._late: list[_Late] = []
        self._cache: dict[int, dict[str, bytes]] = {}
        self._version = 0
        self.on_edit: Callable[[str, int, str], None] = lambda action, product_id, sku: None

    # Reading

    @property
    def version(self) -> int:
        """Grows with every edit."""
        with self._settled():
            return self._version

    def ids(self) -> list[int]:
        """Every id that lists show, ascending."""
        return list(self.listed())

    def listed(self) -> array[int]:
        """The same, to read only: no copy is made."""
        with self._settled():
            return self._listed

    def stamped_between(self, first: int, last: int) -> Iterable[int]:
        """Listed ids with `updated_at` in [first, last], ascending.

        Generated stamps grow with the id, so they are a slice; only edited products are looked at one by one.
        """
        with self._settled():
            start = bisect_left(self._listed, self._generator.first_id_stamped(first))
            end = bisect_left(self._listed, self._generator.first_id_stamped(last + 1))
            untouched = self._listed[start:end]
            if not self._stamps:
                return untouched
            edited = [number for number, stamp in self._stamps.items() if first <= stamp <= last]
            return sorted(
                [number for number in edited if self.is_listed(number)]
                + [number for number in untouched if number not in self._stamps]
            )

    def is_listed(self, product_id: int) -> bool:
        with self._settled():
            index = bisect_left(self._listed, product_id)
            return index < len(self._listed) and self._listed[index] == product_id

    def exists(self, product_id: int) -> bool:
        """Whether a single GET answers: hidden products exist."""
        return product_id in self._hidden or self.is_listed(product_id)

    def ids_with_sku(self, sku: str) -> list[int]:
        """Existing products with a SKU, without case, accents, trailing blanks as in the database."""
        with self._settled():
            candidates = set(self._skus.get(values.fold(sku), ()))
            generated = self._generator.product_id_in(sku)
            if generated is not None:
                candidates.add(generated)
            return sorted(
                number
                for number in candidates
                if self.exists(number) and values.fold(self.sku(number)) == values.fold(sku)
            )

    def sku(self, product_id: int) -> str:
        """A product's SKU, found without its document."""
        own = self._own.get(product_id)
        return self._generator.sku(product_id, product_id in self._born) if own is None else own[0]

    def has_own_sku(self, product_id: int) -> bool:
        """Whether the SKU is another than the generator makes: those grow with the id within an article."""
        return product_id in self._own

    def type_id(self, product_id: int) -> str:
        """A product's type, found without its document."""
        own = self._own.get(product_id)
        if own is not None:
            return own[1]
        return "simple" if product_id in self._born else self._generator.type_id(product_id)

    def existing(self) -> list[int]:
        """Every id that a single GET answers, ascending."""
        with self._settled():
            return sorted([*self._listed, *self._hidden])

    @property
    def population(self) -> tuple[object, int]:
        """Another value whenever a product appears, vanishes or changes its SKU or type."""
        with self._settled():
            return self._listed, self._own_version

    def products_by_category(self) -> Counter[int]:
        """How many products are in a category by themselves; what was edited is not looked at."""
        together = Counter(map(self._generator.categories, self.listed()))
        counted: Counter[int] = Counter()
        for categories, products in together.items():
            counted.update(dict.fromkeys(categories, products))
        return counted

    def document(self, product_id: int, store_view: str = ALL) -> Document:
        """A product's document as lists serve it."""
        document: Document = json.loads(self.raw(product_id, store_view))
        return document

    def raw(self, product_id: int, store_view: str = ALL) -> bytes:
        """A product's document as the bytes that lists serve."""
        return self.raws([product_id], store_view)[0]

    def raws(self, product_ids: Iterable[int], store_view: str) -> list[bytes]:
        """The documents of a page, all of the same moment."""
        with self._settled():
            return [self._raw(number, store_view) for number in product_ids]

    # Editing

    def add(self, *, product_id: int | None = None, **fields: Any) -> int:
        """A new simple product, with the highest id unless one is named; returns its id."""
        with self._editing():
            number = self._next_id if product_id is None else product_id
            if self.exists(number):
                raise ValueError(f"product {number} exists already")
            self._forget(number)
            self._born[number] = self._stamps[number] = int(self._clock())
            self._show(number)
            self._change(number, ALL, _placed(fields))
            self._index_sku(number)
            self.on_edit("save", number, self.sku(number))
            return number

    def add_document(self, document: Document, *, product_id: int | None = None) -> int:
        """A product that is served exactly as given, whatever is wrong with it; returns its id.

        product_id    its entity id, when the document's own `id` is missing or a lie
        """
        with self._editing():
            number = int(document["id"]) if product_id is None else product_id
            self._forget(number)
            self._whole[number] = copy.deepcopy(document)
            self._stamps[number] = values.seconds(str(document.get("updated_at", "")))
            self._show(number)
            self._index_sku(number)
            self.on_edit("save", number, self.sku(number))
            return number

    def edit(
        self, product_id: int, *, store_view: str | None = None, touch: bool = True, **fields: Any
    ) -> None:
        """Change fields of the document; names it does not have at the top are custom attributes.

        store_view    change them in this store view only, all of them otherwise
        touch         False leaves `updated_at` as it is, as bulk price and stock writes do
        A value of None removes the field.
        """
        self.edit_raw(product_id, _placed(fields), store_view=store_view, touch=touch)

    def edit_raw(
        self, product_id: int, changes: Document, *, store_view: str | None = None, touch: bool = True
    ) -> None:
        """Merge `changes` into the document: objects deeply, custom attributes by code, lists whole."""
        with self._editing():
            self._must_exist(product_id)
            if touch:
                self._stamp(product_id, int(self._clock()))
            self._change(product_id, store_view or ALL, changes)
            self._index_sku(product_id)
            if touch:
                self.on_edit("save", product_id, self.sku(product_id))

    def restamp(self, product_id: int) -> None:
        """Move `updated_at` and nothing else, as an import of unchanged rows does."""
        self.edit_raw(product_id, {})

    def drop(self, kind: Literal["category", "attribute", "option"], key: str) -> None:
        """Take a deleted category, attribute or option (`code=value`) out of all documents; no stamp."""
        with self._editing():
            self._dropped[kind].add(key)
            self._cache.clear()

    def delete(self, product_id: int) -> None:
        self.delete_many([product_id])

    def delete_many(self, product_ids: Iterable[int]) -> None:
        with self._editing():
            gone = set(product_ids)
            for number in gone:
                self._must_exist(number)
                self.on_edit("delete", number, self.sku(number))
            self._hidden -= gone
            self._listed = array("L", (number for number in self._listed if number not in gone))

    def keep_only(self, product_ids: Iterable[int]) -> None:
        """Delete every listed product but these."""
        self.delete_many(set(self.listed()).difference(product_ids))

    def restore(self, product_id: int) -> None:
        """Bring a deleted product back under its old id and stamp, as a restored backup does."""
        with self._editing():
            if self.exists(product_id):
                raise ValueError(f"product {product_id} exists already")
            self._show(product_id)

    def hide(self, product_id: int) -> None:
        """Take a product out of every list and count; a single GET still answers.

        What happens to a product without a row for its status or visibility. Observed on Magento 2.4.7.
        """
        with self._editing():
            self.delete_many([product_id])
            self._hidden.add(product_id)

    def show(self, product_id: int) -> None:
        with self._editing():
            self._must_exist(product_id)
            self._show(product_id)

    def late_commit(self, product_id: int, stamp: float, visible_at: float, **fields: Any) -> None:
        """An edit stamped `stamp` that nobody sees before `visible_at`; a new product if there is none yet.

        A save stamped 16:48:24 was committed at 16:48:31: observed on Magento 2.4.7.
        """
        with self._editing():
            self._late.append(_Late(visible_at, int(stamp), product_id, fields))

    # Under the lock

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Hold the lock, with every late commit that is due carried out."""
        with self._lock:
            while due := next((late for late in self._late if late.visible_at <= self._clock()), None):
                self._late.remove(due)
                self._commit(due)
            yield

    @contextmanager
    def _editing(self) -> Iterator[None]:
        with self._settled():
            yield
            self._version += 1

    def _commit(self, late: _Late) -> None:
        if not self.exists(late.product_id):
            self.add(product_id=late.product_id)
            self._born[late.product_id] = late.stamp
        self.edit(late.product_id, touch=False, **late.fields)
        self._stamp(late.product_id, late.stamp)

    def _must_exist(self, product_id: int) -> None:
        if not self.exists(product_id):
            raise KeyError(f"there is no product {product_id}")

    def _show(self, product_id: int) -> None:
        self._hidden.discard(product_id)
        if not self.is_listed(product_id):
            listed = self._listed[:]
            listed.insert(bisect_left(listed, product_id), product_id)
            self._listed = listed
        self._next_id = max(self._next_id, product_id + 1)

    def _forget(self, product_id: int) -> None:
        for kept in (self._born, self._stamps, self._whole, self._changes, self._own):
            kept.pop(product_id, None)
        self._cache.pop(product_id, None)

    def _stamp(self, product_id: int, stamp: int) -> None:
        self._stamps[product_id] = stamp
        if product_id in self._whole:
            self._whole[product_id]["updated_at"] = stamp_text(stamp).decode()
        self._cache.pop(product_id, None)

    def _change(self, product_id: int, store_view: str, changes: Document) -> None:
        kept = {name: value for name, value in changes.items() if name != "updated_at"}
        if len(kept) < len(changes):
            self._stamp(product_id, values.seconds(changes["updated_at"]))
        if kept:
            _merge(self._changes.setdefault(product_id, {}).setdefault(store_view, {}), kept)
        self._cache.pop(product_id, None)

    def _index_sku(self, product_id: int) -> None:
        """Note SKU and type of a product whose generated ones no longer hold."""
        changed = self._changes.get(product_id, {}).get(ALL, {})
        if product_id in self._whole or product_id in self._own or not {"sku", "type_id"}.isdisjoint(changed):
            document = self.document(product_id)
            own = (str(document.get("sku", "")), str(document.get("type_id", "")))
            if own != self._own.get(product_id):
                self._own[product_id] = own
                self._own_version += 1
            self._skus.setdefault(values.fold(own[0]), set()).add(product_id)

    def _raw(self, product_id: int, store_view: str) -> bytes:
        raw = self._stored(product_id, store_view)
        if not any(self._dropped.values()):
            return raw
        return phpjson.dumps(_without_dropped(json.loads(raw), self._dropped))

    def _stored(self, product_id: int, store_view: str) -> bytes:
        if product_id not in self._whole and product_id not in self._changes:
            return self._generated(product_id, store_view)
        if len(self._cache) > MAX_CACHED:
            self._cache.clear()
        by_view = self._cache.setdefault(product_id, {})
        if store_view not in by_view:
            by_view[store_view] = phpjson.dumps(self._edited(product_id, store_view))
        return by_view[store_view]

    def _generated(self, product_id: int, store_view: str) -> bytes:
        updated = self._stamps.get(product_id)
        stamps = None
        if updated is not None:
            stamps = (self._born.get(product_id) or self._generator.stamp_of(product_id), updated)
        return self._generator.raw(product_id, store_view, stamps, simple=product_id in self._born)

    def _edited(self, product_id: int, store_view: str) -> Document:
        whole = self._whole.get(product_id)
        document: Document
        if whole is None:
            document = json.loads(self._generated(product_id, store_view))
        else:
            document = copy.deepcopy(whole)
        changes = self._changes.get(product_id, {})
        for scope in dict.fromkeys((ALL, store_view)):
            _merge(document, changes.get(scope, {}))
        return _without_nulls(document, changes)


def _placed(fields: Document) -> Document:
    """Fields of a document by name, those that are no top-level ones among its custom attributes."""
    placed = {name: value for name, value in fields.items() if name in TOP_LEVEL}
    attributes = [
        {"attribute_code": name, "value": value} for name, value in fields.items() if name not in TOP_LEVEL
    ]
    if attributes:
        placed["custom_attributes"] = [*placed.get("custom_attributes", []), *attributes]
    return placed


def _merge(document: Document, changes: Document) -> None:
    """Merge in place: objects deeply, `custom_attributes` by code, everything else by replacement."""
    for name, value in changes.items():
        old = document.get(name)
        if name == "custom_attributes" and isinstance(old, list):
            document[name] = _merged_attributes(old, value)
        elif isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        else:
            document[name] = copy.deepcopy(value)


def _merged_attributes(old: list[Document], new: list[Document]) -> list[Document]:
    merged = {entry["attribute_code"]: entry for entry in [*old, *copy.deepcopy(new)]}
    return list(merged.values())


def _without_dropped(document: Document, dropped: dict[str, set[str]]) -> Document:
    """The document without the categories and attributes that were deleted."""
    gone, codes = dropped["category"], dropped["attribute"]
    extension = document.get("extension_attributes")
    if isinstance(extension, dict) and isinstance(extension.get("category_links"), list):
        links = extension["category_links"]
        extension["category_links"] = [link for link in links if str(link.get("category_id")) not in gone]
    attributes = document.get("custom_attributes")
    if isinstance(attributes, list):
        kept = [entry for entry in attributes if entry.get("attribute_code") not in codes]
        left = [_without_options(_without_categories(entry, gone), dropped["option"]) for entry in kept]
        document["custom_attributes"] = [entry for entry in left if entry.get("value") is not None]
    return document


def _without_options(entry: Document, gone: set[str]) -> Document:
    """A select without its only option has no value, a multiselect keeps the others."""
    code, value = entry.get("attribute_code"), entry.get("value")
    if not gone or not isinstance(value, str | int):
        return entry
    listed = str(value).split(",")
    kept = [option for option in listed if f"{code}={option}" not in gone]
    return entry if kept == listed else {**entry, "value": ",".join(kept) or None}


def _without_categories(entry: Document, gone: set[str]) -> Document:
    if entry.get("attribute_code") != "category_ids" or not isinstance(entry.get("value"), list):
        return entry
    return {**entry, "value": [number for number in entry["value"] if number not in gone]}


def _without_nulls(document: Document, changes: dict[str, Document]) -> Document:
    """The document without what an edit set to null: Commerce omits what has no value."""
    nulled = {name for fields in changes.values() for name, value in fields.items() if value is None}
    kept = {name: value for name, value in document.items() if value is not None or name not in nulled}
    if any(fields.get("custom_attributes") for fields in changes.values()):
        attributes = kept["custom_attributes"]
        kept["custom_attributes"] = [entry for entry in attributes if entry.get("value") is not None]
    return kept
