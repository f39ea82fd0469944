"""Reference data of the tenant: attributes with their options, attribute sets and categories.

Shapes, key order and types as observed on Magento 2.4.7. Of a deleted option, attribute or category nothing
stays in the products; no stamp moves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from sync.sandbox import vocabulary
from sync.sandbox.catalogue import ALL, Catalogue
from sync.sandbox.documents import Document
from sync.sandbox.generator import FIRST_STAMP, stamp_text
from sync.sandbox.vocabulary import DEFAULT_CATEGORY, ROOT_CATALOG, TABLES, Made, translated

Labels = Mapping[str, str]


@dataclass(slots=True)
class _NamedRows:
    """A label and what single store views call it."""

    label: str
    labels: dict[str, str] = field(default_factory=dict)

    def shown_in(self, view: str) -> str:
        return self.labels.get(view, self.label)


@dataclass(slots=True)
class _Attribute:
    made: Made
    name: _NamedRows
    options: dict[str, _NamedRows]
    is_table: bool
    is_own: bool


@dataclass(slots=True)
class _Category:
    category_id: int
    parent_id: int
    position: int
    is_active: bool
    name: _NamedRows
    stamp: int


class SimulatedReference:
    """What can be looked up; every reader answers as the endpoint does, `store_view` is a code or `all`.

    store_views    the first shows the admin scope's words, the others their own where there are any
    clock          gives `updated_at` of categories
    """

    def __init__(self, catalogue: Catalogue, store_views: Sequence[str], clock: Callable[[], float]) -> None:
        self._catalogue = catalogue
        self._views = tuple(store_views)
        self._clock = clock
        self._lock = threading.RLock()
        self._values = count(501)
        self._attributes = {made.code: self._made(made) for made in vocabulary.ATTRIBUTES}
        self._sets = dict(vocabulary.SETS)
        root = _Category(ROOT_CATALOG, 0, 0, True, _NamedRows("Root Catalog"), FIRST_STAMP)
        self._categories = {ROOT_CATALOG: root}
        for category in vocabulary.CATEGORIES:
            number, parent_id, position, is_active, name = category
            self._categories[number] = _Category(
                number, parent_id, position, is_active, self._named(name), FIRST_STAMP
            )

    # Attributes and options

    def attributes(self, store_view: str = ALL) -> list[Document]:
        """Every attribute by id, options included."""
        with self._lock:
            known = sorted(self._attributes.values(), key=lambda one: one.made.attribute_id)
            return [self._attribute(attribute, store_view) for attribute in known]

    def attribute(self, code: str, store_view: str = ALL) -> Document | None:
        """One attribute by code or by id; None when there is none."""
        with self._lock:
            found = self._attributes.get(code)
            if found is None:
                by_id = (one for one in self._attributes.values() if str(one.made.attribute_id) == code)
                found = next(by_id, None)
            return None if found is None else self._attribute(found, store_view)

    def options(self, code: str, store_view: str = ALL) -> list[Document]:
        """Options of an attribute; those of a table begin with a blank one."""
        with self._lock:
            attribute = self._attributes[code]
            blank = [{"label": " ", "value": ""}] if attribute.is_table else []
            listed = attribute.options.items()
            return [*blank, *({"label": one.shown_in(store_view), "value": value} for value, one in listed)]

    def add_attribute(
        self,
        code: str,
        frontend_input: str = "select",
        label: str | None = None,
        scope: str = "global",
    ) -> int:
        """A new attribute without options; returns its id."""
        with self._lock:
            if code in self._attributes:
                raise ValueError(f"attribute {code} exists already")
            number = max(one.made.attribute_id for one in self._attributes.values()) + 1
            backend = {"select": "int", "boolean": "int", "multiselect": "text"}.get(
                frontend_input, "varchar"
            )
            shown = code.title() if label is None else label
            made = Made(number, code, frontend_input, scope, backend, shown, "")
            is_table = frontend_input in ("select", "multiselect")
            self._attributes[code] = _Attribute(made, _NamedRows(shown), {}, is_table, is_own=True)
            return number

    def delete_attribute(self, code: str) -> None:
        """Delete an attribute, and every value that products have of it."""
        with self._lock:
            del self._attributes[code]
            self._catalogue.drop("attribute", code)

    def add_option(self, attribute_code: str, label: str, labels: Labels | None = None) -> str:
        """A new option, `labels` by store view; returns its value."""
        with self._lock:
            value = str(next(self._values))
            self._attributes[attribute_code].options[value] = _NamedRows(label, dict(labels or {}))
            return value

    def rename_option(
        self, attribute_code: str, value: str, label: str, labels: Labels | None = None
    ) -> None:
        """Another label; without `labels` every store view shows it."""
        with self._lock:
            options = self._attributes[attribute_code].options
            if str(value) not in options:
                raise KeyError(f"{attribute_code} has no option {value}")
            options[str(value)] = _NamedRows(label, dict(labels or {}))

    def delete_option(self, attribute_code: str, value: str) -> None:
        """Delete an option: products lose its value, and nothing else of a multiselect."""
        with self._lock:
            del self._attributes[attribute_code].options[str(value)]
            self._catalogue.drop("option", f"{attribute_code}={value}")

    # Attribute sets

    def attribute_sets(self) -> list[Document]:
        with self._lock:
            return [
                {
                    "attribute_set_id": number,
                    "attribute_set_name": name,
                    "sort_order": int(number == 4),
                    "entity_type_id": 4,
                }
                for number, name in self._sets.items()
            ]

    def rename_attribute_set(self, attribute_set_id: int, name: str) -> None:
        with self._lock:
            if attribute_set_id not in self._sets:
                raise KeyError(f"there is no attribute set {attribute_set_id}")
            self._sets[attribute_set_id] = name

    # Categories

    def categories(self, store_view: str = ALL) -> list[Document]:
        """Every category by id, the root of all included."""
        with self._lock:
            return [
                self._category(self._categories[number], store_view) for number in sorted(self._categories)
            ]

    def category(self, category_id: int, store_view: str = ALL) -> Document | None:
        with self._lock:
            found = self._categories.get(category_id)
            return None if found is None else self._category(found, store_view)

    def tree(self, root_id: int | None, depth: int | None, store_view: str = ALL) -> Document | None:
        """Categories below a root, nested; without one below the store's, or below all of them in `all`."""
        with self._lock:
            if root_id is None:
                root_id = ROOT_CATALOG if store_view == ALL else DEFAULT_CATEGORY
            root = self._categories.get(root_id)
            if root is None:
                return None
            return self._branch(root, depth, store_view, self._catalogue.products_by_category())

    def add_category(self, parent_id: int, name: str) -> int:
        """A new active category behind its siblings; returns its id."""
        with self._lock:
            parent = self._existing(parent_id)
            number = max(self._categories) + 1
            position = 1 + max((child.position for child in self._children(parent_id)), default=0)
            stamp = int(self._clock())
            made = _Category(number, parent.category_id, position, True, _NamedRows(name), stamp)
            self._categories[number] = made
            return number

    def rename_category(self, category_id: int, name: str, store_view: str | None = None) -> None:
        """Another name, in one store view or wherever a store view has none of its own."""
        with self._lock:
            category = self._existing(category_id)
            category.stamp = int(self._clock())
            if store_view is None:
                category.name.label = name
            else:
                category.name.labels[store_view] = name

    def delete_category(self, category_id: int) -> None:
        """Delete a category with all below it; products lose their links to them."""
        with self._lock:
            for child in self._children(self._existing(category_id).category_id):
                self.delete_category(child.category_id)
            del self._categories[category_id]
            self._catalogue.drop("category", str(category_id))

    # Under the lock

    def _named(self, text: str) -> _NamedRows:
        own = {view: word for view in self._views[1:] if (word := translated(text, view)) != text}
        return _NamedRows(text, own)

    def _made(self, made: Made) -> _Attribute:
        options = {value: self._named(label) for label, value in vocabulary.OPTIONS.get(made.options, ())}
        is_own = made.code in vocabulary.USER_DEFINED
        return _Attribute(made, self._named(made.label), options, made.options in TABLES, is_own)

    def _attribute(self, attribute: _Attribute, view: str) -> Document:
        made = attribute.made
        labels = [
            {"store_id": number, "label": attribute.name.labels[code]}
            for number, code in enumerate(self._views, start=1)
            if code in attribute.name.labels
        ]
        document: Document = {
            **_presentation(attribute),
            "scope": made.scope,
            "attribute_id": made.attribute_id,
            "attribute_code": made.code,
            "frontend_input": made.frontend_input,
            "entity_type_id": "4",
            "is_required": made.code in ("name", "sku", "price"),
            "options": self.options(made.code, view),
            "is_user_defined": attribute.is_own,
            "default_frontend_label": attribute.name.label,
            "frontend_labels": labels,
            "backend_type": made.backend_type,
            **_models(attribute),
            "is_unique": str(int(made.code == "sku")),
            "validation_rules": [],
        }
        if not attribute.name.label:
            del document["default_frontend_label"]
        return document

    def _existing(self, category_id: int) -> _Category:
        if category_id not in self._categories:
            raise KeyError(f"there is no category {category_id}")
        return self._categories[category_id]

    def _children(self, category_id: int) -> list[_Category]:
        """Categories right below one, by position."""
        found = [one for one in self._categories.values() if one.parent_id == category_id]
        return sorted(found, key=lambda one: (one.position, one.category_id))

    def _ancestry(self, category: _Category) -> list[_Category]:
        """The way from the root of all to a category, both included."""
        parent = self._categories.get(category.parent_id)
        return [category] if parent is None else [*self._ancestry(parent), category]

    def _descendants(self, category_id: int) -> int:
        children = self._children(category_id)
        return len(children) + sum(self._descendants(child.category_id) for child in children)

    def _category(self, category: _Category, view: str) -> Document:
        number = category.category_id
        ancestry = self._ancestry(category)
        children = sorted(child.category_id for child in self._children(number) if child.is_active)
        document: Document = {
            "id": number,
            "parent_id": category.parent_id,
            "name": category.name.shown_in(view),
            "is_active": category.is_active,
            "position": category.position,
            "level": len(ancestry) - 1,
            "children": ",".join(map(str, children)),
            "created_at": stamp_text(FIRST_STAMP).decode(),
            "updated_at": stamp_text(category.stamp).decode(),
            "path": "/".join(str(one.category_id) for one in ancestry),
            "include_in_menu": True,
            "custom_attributes": self._own_attributes(category, ancestry),
        }
        if number == ROOT_CATALOG:
            del document["is_active"]
        return document

    def _own_attributes(self, category: _Category, ancestry: Sequence[_Category]) -> list[Document]:
        values: dict[str, Any] = {
            "path": "/".join(str(one.category_id) for one in ancestry),
            "children_count": str(self._descendants(category.category_id)),
        }
        keys = [_url_key(one) for one in ancestry[2:]]
        if keys:
            values = {"is_anchor": "1", **values, "url_key": keys[-1], "url_path": "/".join(keys)}
        elif category.category_id == DEFAULT_CATEGORY:
            values = {"display_mode": "PRODUCTS", **values}
        return [{"attribute_code": code, "value": value} for code, value in values.items()]

    def _branch(
        self, category: _Category, depth: int | None, view: str, products: Mapping[int, int]
    ) -> Document:
        below = None if depth is None else depth - 1
        children = self._children(category.category_id) if depth is None or depth > 0 else []
        return {
            "id": category.category_id,
            "parent_id": category.parent_id,
            "name": category.name.shown_in(view),
            "is_active": category.is_active,
            "position": category.position,
            "level": len(self._ancestry(category)) - 1,
            "product_count": products.get(category.category_id, 0),
            "children_data": [self._branch(child, below, view, products) for child in children],
        }


def _presentation(attribute: _Attribute) -> Document:
    """How a shop shows an attribute: half of the flags are booleans, the others texts."""
    is_choice = attribute.is_table
    is_text = attribute.made.frontend_input in ("text", "textarea")
    return {
        "is_wysiwyg_enabled": attribute.made.code == "description",
        "is_html_allowed_on_front": is_choice or attribute.made.frontend_input == "textarea",
        "used_for_sort_by": attribute.made.code in ("name", "price"),
        "is_filterable": is_choice,
        "is_filterable_in_search": False,
        "is_used_in_grid": is_choice,
        "is_visible_in_grid": False,
        "is_filterable_in_grid": is_choice,
        "position": 0,
        "apply_to": [],
        "is_searchable": str(int(is_text)),
        "is_visible_in_advanced_search": str(int(is_text)),
        "is_comparable": "0",
        "is_used_for_promo_rules": str(int(is_choice)),
        "is_visible_on_front": "0",
        "used_in_product_listing": "1",
        "is_visible": attribute.made.frontend_input is not None,
    }


def _models(attribute: _Attribute) -> Document:
    """Members that an attribute only has when they have a value."""
    models: Document = {}
    if attribute.made.frontend_input == "multiselect":
        models["backend_model"] = "Magento\\Eav\\Model\\Entity\\Attribute\\Backend\\ArrayBackend"
    elif attribute.is_table:
        models["source_model"] = "Magento\\Eav\\Model\\Entity\\Attribute\\Source\\Table"
    if attribute.is_table and attribute.is_own:
        models["default_value"] = ""
    return models


def _url_key(category: _Category) -> str:
    words = "".join(char if char.isalnum() else " " for char in category.name.label.lower()).split()
    return "-".join(words)
