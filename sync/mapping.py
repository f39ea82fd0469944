"""Map a product document of Commerce to rows. Only this file knows Commerce's member names.

Pure. The `_Sent…` classes below declare the members that are read and their types. A valid document
converts at once. Any other is coerced value by value: a value that cannot be kept becomes NULL or is
left out, with a `Note`, and the rest of the product is kept. A document is `Unmappable` only when it is
not a JSON object or lacks a usable id or SKU.

Sources: Adobe's Swagger schema, `catalog-data-product-interface`; "observed" means on Magento 2.4.7.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from types import MappingProxyType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, ValidationError, convert

Entry = TypeVar("Entry")
Row = tuple[Any, ...]
ProductKey = tuple[str, int]  # store view and product id, the first columns of every child row

MAX_INTEGER = 2**63 - 1  # BIGINT
MAX_AMOUNT = Decimal(10) ** 14  # numeric(20,6): 14 digits before the point
MICRO = Decimal("0.000001")
MOST_NAMED = 20  # repeated names that get a note
MAX_DEPTH = 100  # levels of a document; real ones have 7, and Python's recursion limit is 1,000

_Integer = Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
_Key = Annotated[str, Meta(max_length=255)]  # texts that are, or may become, part of a key in SQL
_ShortKey = Annotated[str, Meta(max_length=64)]

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
# Errors of the strict decoder.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, InvalidOperation, RecursionError)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ESCAPED_NUL = re.compile(rb"\\u0000")  # faster than `in` for such short patterns
_ESCAPED_COLON = re.compile(rb"\\u003[aA]")
_ESCAPED_SURROGATE_OR_NUL = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_NEEDS_CARE = re.compile(rb"\\u(?:0000|003[aA]|[dD][89a-fA-F])")  # any of these three


class Unmappable(ValueError):
    """A document that cannot be mapped; the message names the field and the reason."""


class Note(NamedTuple):
    """A value that was replaced or left out: where in the document, and why."""

    path: str
    reason: str


class ListKey(NamedTuple):
    """The key of a list's entries; without fields, the entry itself is the key (ids, names).

    fields     member names, dotted where nested
    value      the member that holds the value, when an entry is just a named value
    ordered    False when the order of the entries has no meaning
    """

    fields: tuple[str, ...] = ()
    value: str | None = None
    ordered: bool = True


# Path of a list -> its key. An attribute value has the path `custom_attributes[<code>]`.
# Unordered: sets of ids, attributes (Commerce guarantees no order), and category links, which are
# ordered by their `position`.
LIST_KEYS: Mapping[str, ListKey] = MappingProxyType(
    {
        "custom_attributes": ListKey(("attribute_code",), value="value", ordered=False),
        "custom_attributes[category_ids]": ListKey(ordered=False),
        "media_gallery_entries": ListKey(("id",)),
        "media_gallery_entries.types": ListKey(ordered=False),
        "options": ListKey(("option_id",)),
        "options.values": ListKey(("option_type_id",)),
        "product_links": ListKey(("link_type", "linked_product_sku")),
        "tier_prices": ListKey(("customer_group_id", "qty", "extension_attributes.website_id")),
        "extension_attributes.bundle_product_options": ListKey(("option_id",)),
        "extension_attributes.bundle_product_options.product_links": ListKey(("id",)),
        "extension_attributes.category_links": ListKey(("category_id",), ordered=False),
        "extension_attributes.configurable_product_links": ListKey(ordered=False),
        "extension_attributes.configurable_product_options": ListKey(("id",)),
        "extension_attributes.configurable_product_options.values": ListKey(("value_index",)),
        "extension_attributes.downloadable_product_links": ListKey(("id",)),
        "extension_attributes.downloadable_product_samples": ListKey(("id",)),
        "extension_attributes.giftcard_amounts": ListKey(("website_id", "value")),
        "extension_attributes.website_ids": ListKey(ordered=False),
    }
)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one product.

    product     in the order of `model.PRODUCT_COLUMNS`
    children    table -> rows in the order of `model.CHILD_COLUMNS`; every table is present
    notes       values that could not be kept as sent
    """

    product: Row
    children: dict[str, list[Row]]
    notes: list[Note]

    @property
    def document(self) -> str:
        """The document's text, the last column of its row."""
        return str(self.product[-1])


def decode(raw: bytes) -> dict[str, object]:
    """Decode a document with exact numbers and with text that every database can store.

    Fractions are `Decimal`; a repeated name keeps its last value. NUL, which PostgreSQL refuses, becomes
    U+2400; half a surrogate pair becomes U+FFFD.
    Raises Unmappable when `raw` is not a JSON object.
    """
    return _parse(raw)[0]


def map_product(store_view: str, raw: bytes) -> Rows:
    """Map a document to rows.

    Money and quantities are rounded half up to 6 places, times are aware UTC. The row's `document`
    is the text as sent.
    Raises Unmappable when `raw` is not a JSON object, or its id or SKU is missing or unusable.
    """
    notes: list[Note] = []
    product = _convert_valid(raw)
    text = raw.decode() if product else _text_as_sent(raw, notes)
    if product is None:
        notes += _repeated_members(raw)
        product = _coerced(decode(raw), notes)
    key = (store_view, product.id)
    return Rows((*key, *_product_columns(product), text), _child_rows(key, product, notes), notes)


class _Sent(Struct, gc=False):
    """A part of the document; undeclared members are ignored. `gc=False`: it holds no cycles."""


class _SentAttribute(_Sent):
    attribute_code: _Key
    value: object = None


@lru_cache(4096)  # a shop has few categories, repeated by many products
def _category_id(sent: int | str) -> int:
    return convert(sent, _Integer, strict=False)


class _SentCategoryLink(_Sent):
    category_id: _Integer | str  # sent as a string
    position: _Integer | None = None

    def __post_init__(self) -> None:
        self.category_id = _category_id(self.category_id)


class _SentImage(_Sent):
    media_url: str | None = None


class _SentVideo(_Sent):
    video_media_url: str | None = None


class _SentMediaExtension(_Sent):
    """The URL of a file that AEM Assets holds (SaaS)."""

    asset_image: _SentImage = msgspec.field(default_factory=_SentImage)
    asset_video: _SentVideo = msgspec.field(default_factory=_SentVideo)


class _SentMedia(_Sent):
    id: _Integer
    media_type: _Key | None = None
    label: str | None = None
    position: _Integer | None = None
    disabled: bool | None = None
    types: list[object] = []
    file: str | None = None
    extension_attributes: _SentMediaExtension | None = None


class _SentTierExtension(_Sent):
    percentage_value: Decimal | None = None
    website_id: _Integer | None = None

    def __post_init__(self) -> None:
        self.percentage_value = _amount(self.percentage_value)


class _SentTierPrice(_Sent):
    customer_group_id: _Integer | None = None
    qty: Decimal | None = None
    value: Decimal | None = None
    extension_attributes: _SentTierExtension = msgspec.field(default_factory=_SentTierExtension)

    def __post_init__(self) -> None:
        self.qty, self.value = _amount(self.qty), _amount(self.value)


class _SentLinkExtension(_Sent):
    qty: Decimal | None = None

    def __post_init__(self) -> None:
        self.qty = _amount(self.qty)


class _SentLink(_Sent):
    """A related, up-sell or cross-sell product, or a child of a grouped product, which has a quantity."""

    link_type: _ShortKey
    linked_product_sku: _Key
    linked_product_type: _Key | None = None
    position: _Integer | None = None
    extension_attributes: _SentLinkExtension | None = None


class _SentExtension(_Sent):
    website_ids: list[_Integer] = []
    category_links: list[_SentCategoryLink] | None = None
    configurable_product_links: list[_Integer] = []


class _SentProduct(_Sent):
    id: Annotated[int, Meta(gt=0, le=MAX_INTEGER)]
    sku: _Key
    name: str | None = None
    type_id: _Key | None = None
    attribute_set_id: _Integer | None = None
    status: _Integer | None = None
    visibility: _Integer | None = None
    price: Decimal | None = None
    weight: Decimal | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    extension_attributes: _SentExtension = msgspec.field(default_factory=_SentExtension)
    product_links: list[_SentLink] = []
    media_gallery_entries: list[_SentMedia] = []
    tier_prices: list[_SentTierPrice] = []
    custom_attributes: list[_SentAttribute] = []

    def __post_init__(self) -> None:
        self.price, self.weight = _amount(self.price), _amount(self.weight)
        self.created_at, self.updated_at = _utc(self.created_at), _utc(self.updated_at)


# msgspec prepares a class on its first use, and a second thread that uses it meanwhile crashes. Creating a
# decoder prepares it on import.
msgspec.json.Decoder(_SentProduct)


def _amount(sent: Decimal | None) -> Decimal | None:
    if sent is None:
        return None
    try:
        amount = sent.quantize(MICRO, ROUND_HALF_UP)
        fits = -MAX_AMOUNT < amount < MAX_AMOUNT
    except InvalidOperation:  # NaN, and more digits than a context holds
        fits = False
    if not fits:
        raise ValueError("Beyond numeric(20,6)")
    return amount


def _utc(sent: datetime | None) -> datetime | None:
    """Convert to aware UTC; Commerce sends UTC without a zone."""
    if sent is None or sent.tzinfo is None:
        return sent and sent.replace(tzinfo=UTC)
    try:
        return sent.astimezone(UTC)
    except OverflowError:
        raise ValueError("Beyond year 9999 or before year 1") from None


def _product_columns(product: _SentProduct) -> Row:
    return (
        product.sku,
        product.name,
        product.type_id,
        product.attribute_set_id,
        product.status,
        product.visibility,
        product.price,
        product.weight,
        product.created_at,
        product.updated_at,
    )


# The keys of a product's child rows.
_BY_CODE = attrgetter("attribute_code")
_BY_CATEGORY = attrgetter("category_id")
_BY_ID = attrgetter("id")
_BY_TYPE_AND_SKU = attrgetter("link_type", "linked_product_sku")


def _child_rows(key: ProductKey, product: _SentProduct, notes: list[Note]) -> dict[str, list[Row]]:
    extension = product.extension_attributes
    return {
        "product_attributes": _attributes(key, product, notes),
        "product_categories": _categories(key, product, notes),
        "product_websites": _ids(key, extension.website_ids),
        "product_media": _media(key, product, notes),
        "product_tier_prices": _tier_prices(key, product),
        "product_links": _links(key, product, notes),
        "product_variants": _ids(key, extension.configurable_product_links),
    }


def _attributes(key: ProductKey, product: _SentProduct, notes: list[Note]) -> list[Row]:
    """The largest child table by far: written for speed, without `*key` and without a call for texts."""
    store_view, product_id = key
    return [
        (
            store_view,
            product_id,
            attribute.attribute_code,
            value if isinstance(value := attribute.value, str) else _json(value),
        )
        for attribute in _last_of_each("custom_attributes", _BY_CODE, product.custom_attributes, notes)
        if attribute.value is not None
    ]


def _categories(key: ProductKey, product: _SentProduct, notes: list[Note]) -> list[Row]:
    sent = product.extension_attributes.category_links
    if sent is None:
        return [(*row, None) for row in _ids(key, _category_ids(product, notes))]
    links = _last_of_each("extension_attributes.category_links", _BY_CATEGORY, sent, notes)
    return [(*key, link.category_id, link.position) for link in links]


def _category_ids(product: _SentProduct, notes: list[Note]) -> Any:
    """The ids in the attribute `category_ids`, used when there are no category links; without positions."""
    sent = next((a.value for a in product.custom_attributes if a.attribute_code == "category_ids"), None)
    return _coerce(sent, list[_Integer], "custom_attributes[category_ids]", notes) or ()


def _media(key: ProductKey, product: _SentProduct, notes: list[Note]) -> list[Row]:
    return [
        (
            *key,
            entry.id,
            entry.media_type,
            entry.label,
            entry.position,
            entry.disabled,
            _json(entry.types),
            _asset_url(entry) or entry.file,
        )
        for entry in _last_of_each("media_gallery_entries", _BY_ID, product.media_gallery_entries, notes)
    ]


def _asset_url(entry: _SentMedia) -> str | None:
    extension = entry.extension_attributes
    if extension is None:
        return None
    return extension.asset_image.media_url or extension.asset_video.video_media_url


def _tier_prices(key: ProductKey, product: _SentProduct) -> list[Row]:
    return [
        (
            *key,
            ordinal,
            tier.customer_group_id,
            tier.qty,
            tier.value,
            tier.extension_attributes.percentage_value,
            tier.extension_attributes.website_id,
        )
        for ordinal, tier in enumerate(product.tier_prices)
    ]


def _links(key: ProductKey, product: _SentProduct, notes: list[Note]) -> list[Row]:
    return [
        (
            *key,
            link.link_type,
            link.linked_product_sku,
            link.linked_product_type,
            link.position,
            link.extension_attributes and link.extension_attributes.qty,
        )
        for link in _last_of_each("product_links", _BY_TYPE_AND_SKU, product.product_links, notes)
    ]


def _ids(key: ProductKey, ids: Collection[int]) -> list[Row]:
    return [(*key, each) for each in dict.fromkeys(ids)]


def _last_of_each(
    path: str, key: Callable[[Entry], object], entries: list[Entry], notes: list[Note]
) -> Collection[Entry]:
    """Keep the last entry of each key, since SQL allows only one; add a note when they differ."""
    if len(set(map(key, entries))) == len(entries):
        return entries
    last = {key(entry): entry for entry in entries}
    lost = dict.fromkeys(key(entry) for entry in entries if entry != last[key(entry)])
    notes += [Note(path, f"{_shown(each)} occurs more than once; the last one was kept") for each in lost]
    return last.values()


def _as_text(value: object) -> str:
    """A text unchanged, anything else as JSON."""
    return value if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    return _ENCODER.encode(value).decode()


def _shown(value: object) -> str:
    """A value for a message: as JSON, at most 60 characters."""
    text = _json(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _convert_valid(raw: bytes) -> _SentProduct | None:
    """Fast path: convert a valid document, as nearly all are; None for any other.

    Gives the result of `_repeated_members`, `decode` and `_coerced`, which decode twice, in three quarters of
    their time. Strict: otherwise msgspec would round an integer sent as 99999999999999.9999999.
    """
    if _NEEDS_CARE.search(raw) or _may_be_deep(raw):
        return None
    try:
        document = _DECODER.decode(raw)
        return None if _may_repeat(raw, document) else convert(document, _SentProduct)
    except _UNREADABLE:
        return None


def _coerced(document: dict[str, object], notes: list[Note]) -> _SentProduct:
    """Convert a document; when it does not convert, coerce it member by member."""
    with suppress(ValidationError):
        return convert(document, _SentProduct, strict=False)
    try:
        return convert(_coerce_members(document, _SentProduct, "", notes), _SentProduct, strict=False)
    except ValidationError as error:
        raise Unmappable(str(error)) from error


def _coerce(value: object, kind: Any, path: str, notes: list[Note]) -> object:
    """Coerce `value` to `kind`; None when that is impossible. Every value left out gets a note."""
    if value is None:
        return None
    if get_origin(kind) is list:
        return _coerce_items(value, get_args(kind)[0], path, notes)
    if isinstance(kind, type) and issubclass(kind, _Sent):
        return _coerce_object(value, kind, path, notes)
    return _coerce_scalar(value, kind, path, notes)


def _coerce_items(value: object, kind: Any, path: str, notes: list[Note]) -> list[object]:
    """Coerce a list; `fields=` turns an empty one into null, a sparse one into `{"1": …}` (observed)."""
    if isinstance(value, dict) and all(name.isdigit() for name in value):
        value = list(value.values())
    if not isinstance(value, list):
        notes.append(Note(path, f"{_shown(value)} was left out: Expected `array`"))
        return []
    coerced = (_coerce(item, kind, f"{path}[{i}]", notes) for i, item in enumerate(value))
    return [item for item in coerced if item is not None]


def _coerce_object(value: object, kind: type[_Sent], path: str, notes: list[Note]) -> object:
    """Coerce an object; Commerce sends an empty one as `[]` (observed)."""
    if value == []:
        return None
    try:
        members = _coerce_members(value, kind, path, notes) if isinstance(value, dict) else value
        return convert(members, kind, strict=False)
    except ValidationError as error:
        notes.append(Note(path, f"{_shown(value)} was left out: {error}"))
        return None


def _coerce_members(
    sent: dict[str, object], kind: type[_Sent], path: str, notes: list[Note]
) -> dict[str, object]:
    """Coerce the members of `kind`; an invalid required one stays, so that `convert` reports it."""
    members = {}
    for field in msgspec.structs.fields(kind):
        value = sent.get(field.name)
        coerced = _coerce(value, _without_none(field.type), _member(path, field.name), notes)
        if coerced is not None:
            members[field.name] = coerced
        elif field.required:
            members[field.name] = value
    return members


def _coerce_scalar(value: object, kind: Any, path: str, notes: list[Note]) -> object:
    """Coerce a scalar, from its value or from its text; an empty text becomes None without a note."""
    if kind in (_Key, _ShortKey) and isinstance(value, str):
        return _cut(value, get_args(kind)[1].max_length, path, notes)
    reason: Exception | None = None
    for form in (value,) if isinstance(value, list | dict) else (value, _as_text(value)):
        try:
            return _converted(form, kind)
        except (ValidationError, ValueError) as error:
            reason = reason or error
    if value != "":
        notes.append(Note(path, f"{_shown(value)} was left out: {reason}"))
    return None


def _cut(text: str, length: int, path: str, notes: list[Note]) -> str:
    """Shorten a text to `length` characters, ending in `…`."""
    if len(text) <= length:
        return text
    notes.append(Note(path, f"was cut from {len(text)} characters to {length}"))
    return f"{text[: length - 1]}…"


def _converted(value: object, kind: Any) -> object:
    """Convert a scalar with the checks of its object's `__post_init__`."""
    if kind == _Integer and isinstance(value, str) and "." in value:
        value = _whole(value)
    converted = convert(value, kind, strict=False)
    if kind is Decimal:
        return _amount(converted)
    return _utc(converted) if kind is datetime else converted


def _whole(text: str) -> str:
    """`12.0` without its fraction, which must be zero: msgspec would round it as a float."""
    whole, _, fraction = text.partition(".")
    if fraction.strip("0"):
        raise ValueError("Expected a whole number")
    return whole


def _without_none(annotation: Any) -> Any:
    """`X` for `X | None`; any other annotation unchanged."""
    return get_args(annotation)[0] if get_origin(annotation) in (Union, UnionType) else annotation


def _member(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _text_as_sent(raw: bytes, notes: list[Note]) -> str:
    """The document's text; characters that `decode` replaces in its values get notes."""
    if _ESCAPED_SURROGATE_OR_NUL.search(raw):
        notes += _parse(raw)[1]
    try:
        return raw.decode()
    except UnicodeDecodeError:
        notes.append(Note("document", "bytes that are not UTF-8 became U+FFFD"))
        return raw.decode(errors="replace")


def _repeated_members(raw: bytes) -> list[Note]:
    """Notes on names that occur twice in an object; all values but the last are lost."""
    with suppress(*_UNREADABLE):
        if not _ESCAPED_COLON.search(raw) and not _may_repeat(raw, _DECODER.decode(raw)):
            return []
    repeated: dict[str, None] = {}

    def note(members: list[tuple[str, object]]) -> dict[str, object]:
        if len(found := dict(members)) < len(members):
            counts = Counter(name for name, _ in members)
            repeated.update(dict.fromkeys(name for name in found if counts[name] > 1))
        return found

    with suppress(ValueError, RecursionError):  # `decode` reports it
        json.JSONDecoder(object_pairs_hook=note, parse_int=str, parse_float=str).decode(
            raw.decode(errors="replace")
        )
    return [
        Note(
            "document", f"{_shown(_storable_text(name, '', []))} occurs more than once; the last one was kept"
        )
        for name in islice(repeated, MOST_NAMED)
    ]


def _may_repeat(raw: bytes, document: object) -> bool:
    """Whether a name may occur twice in `raw`, which has no escaped colon.

    document    the decoded `raw`: each name occurs once, so encoding it again has fewer colons
    """
    return raw.count(b":") != _ENCODER.encode(document).count(b":")


def _parse(raw: bytes) -> tuple[dict[str, object], list[Note]]:
    """Decode `raw`, with notes on characters replaced to make it storable."""
    document, is_storable = _decoded(raw)
    if not isinstance(document, dict):
        raise Unmappable("document: not a JSON object")
    if _may_be_deep(raw) and _is_deeper(document, MAX_DEPTH):
        raise Unmappable(f"document: nested deeper than {MAX_DEPTH} levels")
    notes: list[Note] = []
    return (document if is_storable else _storable(document, "", notes)), notes


def _decoded(raw: bytes) -> tuple[object, bool]:
    """Decode `raw`; the second value is True when its text is certainly storable.

    The standard library decodes what msgspec refuses: half surrogates, huge numbers and, after replacing
    them, bytes that are not UTF-8.
    """
    try:
        return _DECODER.decode(raw), not _ESCAPED_NUL.search(raw)
    except _UNREADABLE:
        return _tolerantly_decoded(raw), False


def _tolerantly_decoded(raw: bytes) -> object:
    try:
        return _TOLERANT.decode(raw.decode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise Unmappable(f"document: cannot be read as JSON: {error}") from error


def _may_be_deep(raw: bytes) -> bool:
    """Whether a document has enough brackets to exceed MAX_DEPTH."""
    return raw.count(b"{") + raw.count(b"[") > MAX_DEPTH


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, list | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)


def _number_or_text(text: str) -> int | Decimal | str:
    """Parse a number; one with too many digits or too large an exponent for Python stays text."""
    try:
        return int(text) if text.lstrip("-").isdigit() else Decimal(text)
    except (ValueError, InvalidOperation):
        return text


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


_TOLERANT = json.JSONDecoder(parse_int=_number_or_text, parse_float=_number_or_text, parse_constant=_refuse)


def _storable(value: Any, path: str, notes: list[Note]) -> Any:
    """Replace characters that not every database stores with visible ones, in names too."""
    if isinstance(value, str):
        return _storable_text(value, path, notes)
    if isinstance(value, list):
        return [_storable(item, f"{path}[{i}]", notes) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            (storable := _storable_text(name, path, notes)): _storable(member, _member(path, storable), notes)
            for name, member in value.items()
        }
    return value


def _storable_text(text: str, path: str, notes: list[Note]) -> str:
    storable = _UNSTORABLE.sub(lambda found: "␀" if found[0] == "\0" else "\ufffd", text)
    if storable != text:
        notes.append(Note(path, "NUL became U+2400, half a surrogate pair U+FFFD"))
    return storable
