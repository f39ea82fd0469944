"""A name leads to what it says: a column, an attribute of the same name, a label once there is one."""

from __future__ import annotations

import json
from functools import partial
from io import BytesIO
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa

from sync.db import views
from sync.db.engine import in_transaction, reading
from sync.db.export import Selection
from sync.db.flat import ATTRIBUTE, SENT, ambiguous, resolve, split_names
from sync.db.schema import products
from sync.errors import UsageError
from sync.files.export import export, writer_for
from tests.shelf import Shelf

FIELDS = [column.name for column in products.c]
OURS = [name for name in FIELDS if name not in SENT]


@pytest.fixture
def shelf(db: sa.Engine) -> Shelf:
    """A product whose attributes are called like all columns that Commerce does not send."""
    made = Shelf(db)
    for code in OURS:
        made.attribute(code, "text")
    made.product(7, values={code: f"value of {code}" for code in OURS})
    return made


def exported(db: sa.Engine, names: str, store_view: str | None = None, *, labels: bool = False) -> list[Any]:
    file = BytesIO()
    write_to = partial(writer_for, "jsonl", file)
    export(db, write_to, names, Selection(store_view), labels=labels, stop=Event())
    return [json.loads(line) for line in file.getvalue().splitlines()]


def viewed(db: sa.Engine, names: str) -> list[dict[str, Any]]:
    in_transaction(db, lambda tx: views.create(tx, "flat", split_names(names)))
    with db.connect() as connection:
        return [dict(row) for row in connection.exec_driver_sql("SELECT * FROM flat").mappings()]


# --- attributes called like columns ----------------------------------------------------------


def test_every_attribute_called_like_a_column_is_reached(shelf: Shelf) -> None:
    values = {code: f"value of {code}" for code in OURS}
    names = ",".join(f"{ATTRIBUTE}{code}" for code in OURS)
    asked = {code: f"attribute_{code}" if code in ("store_view", "product_id") else code for code in OURS}

    (row,) = exported(shelf.db, names, "all")
    assert row == values
    (row,) = exported(shelf.db, names)
    assert (row.pop("store_view"), row.pop("attribute_store_view")) == ("all", "value of store_view")
    (seen,) = viewed(shelf.db, names)
    assert seen == {"store_view": "all", "product_id": 7} | {asked[code]: values[code] for code in OURS}


def test_column_and_attribute_stand_side_by_side(shelf: Shelf) -> None:
    for (row,) in (
        exported(shelf.db, "run_id,attribute:run_id"),
        viewed(shelf.db, "attribute:run_id,run_id"),
    ):
        assert (row["run_id"], row["attribute_run_id"]) == (1, "value of run_id")


def test_a_bare_name_is_the_column_and_said_to_be_ambiguous(shelf: Shelf) -> None:
    """`sku` and `price` are attributes of Commerce too: column and attribute are the same."""
    shelf.attribute("price", "price", "decimal")
    names = [*FIELDS, "attribute:document"]

    assert reading(shelf.db, lambda c: ambiguous(c, names)) == sorted(OURS)
    assert exported(shelf.db, "run_id", "all") == [{"run_id": 1}]


def test_a_name_that_only_one_has_is_not_ambiguous(sqlite: sa.Engine) -> None:
    shelf = Shelf(sqlite)
    shelf.attribute("color", "text")

    assert reading(sqlite, lambda c: ambiguous(c, ["document", "color", "sku"])) == []


def test_what_commerce_sends_as_a_column_is_the_same_under_both_names(shelf: Shelf) -> None:
    shelf.attribute("price", "price", "decimal")

    (row,) = exported(shelf.db, "attribute:sku,price,attribute:price", "all")

    assert row == {"sku": "SKU-7", "price": 12.5, "attribute_price": 12.5}
    (seen,) = viewed(shelf.db, "attribute:sku")
    assert seen["sku"] == "SKU-7"


def test_codes_that_differ_in_case_stand_side_by_side(db: sa.Engine) -> None:
    shelf = Shelf(db)
    for code in ("color", "Color"):
        shelf.attribute(code, "text")
    shelf.product(1, values={"color": "red", "Color": "blue"})

    for (row,) in (exported(db, "color,attribute:Color"), viewed(db, "color,attribute:Color")):
        assert (row["color"], row["attribute_Color"]) == ("red", "blue")


def test_a_code_is_found_in_any_letters(db: sa.Engine) -> None:
    """Commerce 2.4.9 compares attribute codes without case."""
    shelf = Shelf(db)
    shelf.attribute("colorFamily", "text")
    shelf.product(1, values={"colorFamily": "red"})

    for (row,) in (exported(db, "COLORFAMILY"), viewed(db, "attribute:colorfamily")):
        assert "red" in row.values()


def test_an_unknown_attribute_is_named_with_those_that_are_close(sqlite: sa.Engine) -> None:
    Shelf(sqlite).attribute("color", "text")

    with pytest.raises(UsageError, match=r"attribute:colour \(did you mean color\?\), attribute:document"):
        reading(sqlite, lambda c: resolve(c, ["attribute:colour", "attribute:document"], labels=False))


def test_two_columns_of_one_name_are_refused(sqlite: sa.Engine) -> None:
    shelf = Shelf(sqlite)
    for code in ("document", "attribute_document", "Store_View"):
        shelf.attribute(code, "text")

    for names in ("document,attribute:document,attribute_document", "Store_View"):
        with pytest.raises(UsageError, match="gives two columns the name"):
            exported(sqlite, names)


def test_a_view_with_such_an_attribute_is_there_again_after_a_migration(shelf: Shelf) -> None:
    before = viewed(shelf.db, "document,attribute:document")

    with shelf.db.execution_options(sync_write=True).begin() as tx, views.dropped_views(tx):
        pass

    with shelf.db.connect() as connection:
        assert [*connection.exec_driver_sql("SELECT * FROM flat").mappings()] == before


# --- labels that come later ------------------------------------------------------------------


def test_a_view_made_before_there_were_options_shows_labels_as_soon_as_there_are(db: sa.Engine) -> None:
    """Ids until then. Options of another attribute or of a single store view change nothing elsewhere."""
    shelf = Shelf(db)
    shelf.attribute("color", "select", "int")
    shelf.attribute("activity", "multiselect", "text")
    shelf.attribute("size", "select", "int")
    shelf.options("size", {"1": "Small"})
    for view in ("all", "de"):
        shelf.product(1, view, {"color": "49", "activity": "8,9"})
    in_transaction(db, lambda tx: views.create(tx, "flat", ["color", "activity"]))
    ask = "SELECT store_view, color, activity FROM flat ORDER BY 1"
    assert shelf.ask(ask) == [("all", "49", "8,9"), ("de", "49", "8,9")]
    before = types(db)

    shelf.options("color", {"49": "Schwarz"}, "de")
    shelf.options("activity", {"8": "Hike", "9": "Run"})
    assert shelf.ask(ask) == [("all", "49", "Hike, Run"), ("de", "Schwarz", "Hike, Run")]

    shelf.options("color", {"50": "Blue"})
    assert shelf.ask(ask) == [("all", None, "Hike, Run"), ("de", "Schwarz", "Hike, Run")]
    assert types(db) == before


def types(db: sa.Engine) -> dict[str, str]:
    return {column["name"]: str(column["type"]) for column in sa.inspect(db).get_columns("flat")}


def test_a_file_with_labels_says_the_same(db: sa.Engine) -> None:
    shelf = Shelf(db)
    shelf.attribute("color", "select", "int")
    shelf.product(1, values={"color": "49"})
    shelf.product(2, values={"color": "50"})

    def found(*, labels: bool) -> list[Any]:
        return [row["color"] for row in exported(db, "color", "all", labels=labels)]

    assert (found(labels=True), found(labels=False)) == (["49", "50"], [49, 50])
    shelf.options("color", {"49": "Black"})
    assert (found(labels=True), found(labels=False)) == (["Black", None], [49, 50])


# --- the store view --------------------------------------------------------------------------


def test_a_row_says_its_store_view_unless_one_was_chosen(db: sa.Engine) -> None:
    shelf = Shelf(db)
    shelf.product(1)
    shelf.product(1, "de")

    both = exported(db, "sku,price")

    assert [next(iter(row.items())) for row in both] == [("store_view", "all"), ("store_view", "de")]
    assert [list(row) for row in exported(db, "sku,price", "de")] == [["sku", "price"]]
    assert [list(row) for row in exported(db, "sku,store_view")] == [["sku", "store_view"]] * 2
