"""A copy filled by hand: a few products with attributes, and the reference data that explains them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from sync.db.dialects import bulk_insert
from sync.db.schema import attribute_options, attributes, product_attributes, products

SEEN = datetime(2026, 3, 1, 9, 30, 7, 250_000, tzinfo=UTC)


@dataclass(frozen=True)
class Shelf:
    """Short ways to put rows into a copy."""

    db: sa.Engine

    def product(
        self,
        product_id: int,
        store_view: str = "all",
        values: Mapping[str, str] | None = None,
        **columns: Any,
    ) -> None:
        """A product with these attribute values, and these columns in place of ordinary ones."""
        row = {
            "store_view": store_view,
            "product_id": product_id,
            "sku": f"SKU-{product_id}",
            "name": f"Product {product_id}",
            "type_id": "simple",
            "attribute_set_id": 4,
            "status": 1,
            "visibility": 4,
            "price": Decimal("12.500000"),
            "weight": None,
            "created_at": SEEN,
            "updated_at": SEEN,
            "content_hash": "0" * 32,
            "first_seen_at": SEEN,
            "changed_at": SEEN,
            "deleted_at": None,
            "run_id": 1,
            "document": json.dumps({"id": product_id}),
        } | columns
        with self.db.begin() as tx:
            bulk_insert(tx, products, tuple(row), [tuple(row.values())])
            rows = [(store_view, product_id, code, value) for code, value in (values or {}).items()]
            bulk_insert(tx, product_attributes, tuple(product_attributes.c.keys()), rows)

    def attribute(self, code: str, frontend_input: str | None, backend_type: str | None = "varchar") -> None:
        with self.db.begin() as tx:
            tx.execute(
                attributes.insert().values(
                    attribute_code=code,
                    frontend_input=frontend_input,
                    backend_type=backend_type,
                    label=code.capitalize(),
                    document="{}",
                )
            )

    def options(self, code: str, labels: Mapping[str, str], store_view: str = "all") -> None:
        with self.db.begin() as tx:
            for value, label in labels.items():
                tx.execute(
                    attribute_options.insert().values(
                        store_view=store_view, attribute_code=code, option_value=value, label=label
                    )
                )

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self.db.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]


def furnished(db: sa.Engine) -> Shelf:
    """Two products in `all` and `de`, the second one deleted in `de`: a select, a multiselect, a boolean."""
    shelf = Shelf(db)
    shelf.attribute("color", "select", "int")
    shelf.attribute("activity", "multiselect", "text")
    shelf.attribute("sale", "boolean", "int")
    shelf.attribute("special_price", "price", "decimal")
    shelf.attribute("news_from_date", "date", "datetime")
    shelf.attribute("description", "textarea", "text")
    shelf.options("color", {"49": "Black", "50": "Blue"})
    shelf.options("color", {"49": "Schwarz"}, "de")
    shelf.options("activity", {"8": "Hike", "9": "Run", "11": "Yoga"})
    shelf.options("activity", {"9": "Laufen"}, "de")
    shelf.product(
        1,
        values={
            "color": "49",
            "activity": "11,8,777,9",
            "sale": "1",
            "special_price": "9.990000",
            "news_from_date": "2026-02-28 00:00:00",
            "description": "<p>'quoted', %s</p>",
        },
    )
    shelf.product(1, "de", {"color": "49", "activity": "9,11"}, name="Produkt 1", price=Decimal("13"))
    shelf.product(2, values={"color": "4711", "activity": "777"}, name=None)
    shelf.product(2, "de", {}, deleted_at=SEEN)
    return shelf
