"""Products in files are what the tables say: in three formats, from three databases, whole or not at all."""

from __future__ import annotations

import csv
import errno
import json
import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from threading import Event
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sync.db import views
from sync.db.engine import in_transaction
from sync.db.export import Selection, pages, snapshot
from sync.db.flat import FlatColumn, product_columns, resolve
from sync.db.schema import products
from sync.errors import Interrupted, UsageError
from sync.files.export import NotWritten, export, format_of, output_file, parse_since, writer_for
from tests.shelf import SEEN, Shelf, furnished

FIELDS = [column.name for column in products.c]
NOW = datetime(2026, 3, 2, tzinfo=UTC)
ATTRIBUTES = "color,activity,sale,special_price,news_from_date"


def written(
    db: sa.Engine,
    form: str,
    names: str | None = None,
    selection: Selection | None = None,
    *,
    labels: bool = False,
) -> bytes:
    """What a file of this format holds."""
    file = BytesIO()
    write_to = partial(writer_for, form, file)
    export(db, write_to, names, selection or Selection(), labels=labels, stop=Event())
    return file.getvalue()


def rows(db: sa.Engine, names: str, selection: Selection | None = None, *, labels: bool = False) -> list[Any]:
    """The same as JSON lines, read back."""
    lines = written(db, "jsonl", names, selection, labels=labels).decode().splitlines()
    return [tuple(json.loads(line, parse_float=Decimal).values()) for line in lines]


# --- what is in them -------------------------------------------------------------------------


def test_parquet_read_by_another_program_equals_the_table(db: sa.Engine, tmp_path: Path) -> None:
    """Every column of every live product, with its type, in more than one page."""
    shelf = furnished(db)
    for i in range(10, 260):
        shelf.product(i, name=f"N\x01{i} 'ü' 🎒", price=Decimal(i) / 8, type_id=None, updated_at=None)
    path = tmp_path / "products.parquet"
    path.write_bytes(written(db, "parquet"))

    with db.connect() as connection:
        live = sa.select(products).where(products.c.deleted_at.is_(None)).order_by(*products.primary_key)
        expected = [tuple(row) for row in connection.execute(live)]
    names = [f"CAST({c} AS TIMESTAMP) AS {c}" if c.endswith("_at") else c for c in FIELDS]
    with duckdb.connect() as duck:
        duck.execute("SET TimeZone = 'UTC'")
        found = duck.execute(f"SELECT {', '.join(names)} FROM '{path}'").fetchall()
    aware = [tuple(v.replace(tzinfo=UTC) if isinstance(v, datetime) else v for v in row) for row in found]
    assert aware == expected
    assert len(expected) == 253
    types = {field.name: str(field.type) for field in pq.read_schema(path)}
    assert types["price"] == "decimal128(20, 6)"
    assert types["created_at"] == "timestamp[us, tz=UTC]"
    assert (types["product_id"], types["document"]) == ("int64", "string")
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_attributes_have_their_types_in_parquet(db: sa.Engine) -> None:
    furnished(db)

    table = pq.read_table(BytesIO(written(db, "parquet", f"sku,{ATTRIBUTES}", Selection("all"))))

    assert [str(field.type) for field in table.schema] == [
        *("string", "int64", "string", "bool"),
        *("decimal128(20, 6)", "date32[day]"),
    ]
    assert table.to_pylist()[0] == {
        "sku": "SKU-1",
        "color": 49,
        "activity": "11,8,777,9",
        "sale": True,
        "special_price": Decimal("9.990000"),
        "news_from_date": date(2026, 2, 28),
    }


def test_csv_is_what_its_standard_says(db: sa.Engine) -> None:
    """Commas, quotes and line breaks are kept, and nothing is taken for a formula."""
    texts = ['a,"b"', "line\nbreak", "carriage\rreturn", "=1+1", "-2", "ü🎒", "", " "]
    shelf = Shelf(db)
    shelf.attribute("sale", "boolean", "int")
    for i, text in enumerate(texts):
        shelf.product(i, name=text, values={"sale": "1"})

    columns = "product_id,name,price,sale,changed_at,deleted_at"
    text = written(db, "csv", columns, Selection("all")).decode()

    head, *records = csv.reader(text.splitlines(keepends=True))
    assert text.startswith("product_id,name,price,sale,changed_at,deleted_at\r\n")
    assert head == ["product_id", "name", "price", "sale", "changed_at", "deleted_at"]
    expected = [
        [str(i), text, "12.500000", "true", "2026-03-01T09:30:07.250000Z", ""] for i, text in enumerate(texts)
    ]
    assert records == expected


def test_json_lines_keep_types_and_places(db: sa.Engine) -> None:
    furnished(db)

    line = written(db, "jsonl", f"sku,price,weight,changed_at,{ATTRIBUTES}", Selection("all")).splitlines()[0]

    assert line.decode() == (
        '{"sku":"SKU-1","price":12.500000,"weight":null,"changed_at":"2026-03-01T09:30:07.250000Z","color":49,'
        '"activity":"11,8,777,9","sale":true,"special_price":9.990000,"news_from_date":"2026-02-28"}'
    )


def test_labels_are_spelled_out_as_a_flat_view_does(db: sa.Engine) -> None:
    shelf = furnished(db)
    shelf.attribute("size", "select", "int")  # the copy knows no options of it: ids, as text
    shelf.product(3, values={"size": "7"})
    names = "store_view,product_id,color,activity,size"
    in_transaction(db, lambda tx: views.create(tx, "flat", ["color", "activity", "size"]))

    found = rows(db, names, labels=True)

    assert found == shelf.ask("SELECT * FROM flat ORDER BY 1, 2")
    assert found == [
        ("all", 1, "Black", "Yoga, Hike, Run", None),
        ("all", 2, None, None, None),
        ("all", 3, None, None, "7"),
        ("de", 1, "Schwarz", "Laufen, Yoga", None),
    ]


def test_an_empty_copy_makes_an_empty_file_with_a_head(sqlite: sa.Engine) -> None:
    assert written(sqlite, "csv", "sku,name") == b"store_view,sku,name\r\n"
    assert written(sqlite, "jsonl", "sku,name") == b""
    assert pq.read_table(BytesIO(written(sqlite, "parquet"))).num_rows == 0


@pytest.mark.slow
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8))
def test_every_text_survives_every_format(texts: list[str]) -> None:
    columns = [FlatColumn("a", "a", "text"), FlatColumn("b", "b", "text")]
    files = {}
    for form in ("csv", "jsonl", "parquet"):
        file = BytesIO()
        writer = writer_for(form, file, columns)
        writer.write([(text, "x") for text in texts])
        writer.close()
        files[form] = file.getvalue()

    from_csv = [record[0] for record in csv.reader(StringIO(files["csv"].decode(), newline=""))]
    assert from_csv == ["a", *texts]
    assert [json.loads(line)["a"] for line in files["jsonl"].split(b"\n")[:-1]] == texts
    assert pq.read_table(BytesIO(files["parquet"]))["a"].to_pylist() == texts


# --- which products --------------------------------------------------------------------------


def test_products_are_chosen_by_store_view_sku_type_and_time(db: sa.Engine) -> None:
    shelf = Shelf(db)
    shelf.product(1)
    shelf.product(1, "de")
    shelf.product(2, type_id="bundle", sku="A,'B\"%")
    shelf.product(3, changed_at=SEEN - timedelta(microseconds=1))
    shelf.product(4, deleted_at=SEEN)

    def chosen(selection: Selection) -> list[Any]:
        return [(view, i) for view, i in rows(db, "store_view,product_id", selection)]

    assert chosen(Selection()) == [("all", 1), ("all", 2), ("all", 3), ("de", 1)]
    assert chosen(Selection("de")) == [("de", 1)]
    assert chosen(Selection(skus=["A,'B\"%", "SKU-3", "SKU-4", "nowhere"])) == [("all", 2), ("all", 3)]
    assert chosen(Selection(types=["bundle", "grouped"])) == [("all", 2)]
    assert chosen(Selection(changed_since=SEEN)) == [("all", 1), ("all", 2), ("de", 1)]
    assert chosen(Selection("all", ["SKU-1"], ["simple"], SEEN)) == [("all", 1)]


def test_an_unknown_store_view_is_refused_with_those_there_are(sqlite: sa.Engine) -> None:
    furnished(sqlite)

    with pytest.raises(UsageError, match="no store view fr") as refused:
        written(sqlite, "csv", None, Selection("fr"))

    assert refused.value.fix == "name one of: all, de."


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("24h", NOW - timedelta(days=1)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T09:30", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01 09:30:00Z", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01T09:30:00+02:00", datetime(2026, 3, 1, 7, 30, tzinfo=UTC)),
    ],
)
def test_since_is_a_time_or_how_long_ago(text: str, since: datetime) -> None:
    assert parse_since(text, NOW) == since


@pytest.mark.parametrize(
    "text", ["", "yesterday", "01.03.2026", "24 h", "0h", "9999-12-31T23:59:59-23:00", "2026-02-30"]
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="--changed-since") as refused:
        parse_since(text, NOW)
    assert "24h" in refused.value.fix


def test_pages_see_one_moment_while_a_pass_writes(db: sa.Engine) -> None:
    """What comes, goes and changes behind the first page is not in the file."""
    shelf = Shelf(db)
    for i in range(1, 251):
        shelf.product(i, values={"color": "1"})
    shelf.attribute("color", "text")

    with snapshot(db).connect() as connection:
        reader = pages(
            connection, resolve(connection, ["product_id", "name", "color"], labels=False), Selection()
        )
        found = next(reader)
        with db.execution_options(sync_write=True).begin() as tx:
            tx.exec_driver_sql("DELETE FROM products WHERE product_id = 200")
            tx.exec_driver_sql("UPDATE products SET name = 'Changed'")
            tx.exec_driver_sql("DELETE FROM product_attributes WHERE product_id > 150")
        shelf.product(300)
        found += [row for page in reader for row in page]

    assert found == [(i, f"Product {i}", "1") for i in range(1, 251)]


# --- columns ---------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["", "sku,,name", "sku,", "sku,SKU", "skuu", "sku;name"])
def test_columns_that_cannot_be_are_refused(sqlite: sa.Engine, names: str) -> None:
    with pytest.raises(UsageError, match=r"--columns|not a column"):
        written(sqlite, "csv", names)


@pytest.mark.parametrize(("path", "asked"), [("a.xlsx", None), ("a", None), ("a.gz", None), ("a.csv", "tsv")])
def test_a_format_that_is_none_is_refused(path: str, asked: str | None) -> None:
    with pytest.raises(UsageError, match="not supported") as refused:
        format_of(path, asked)
    assert ".parquet, .csv, .jsonl" in refused.value.fix


def test_the_suffix_says_the_format_unless_somebody_does() -> None:
    assert [
        format_of(*given) for given in (("A.CSV", None), ("-", None), ("-", "csv"), ("x", "parquet"))
    ] == [*("csv", "jsonl", "csv", "parquet")]


# --- whole or not at all ---------------------------------------------------------------------


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("before")
    path.chmod(0o640)

    with output_file(path, 0o644) as file:
        file.write(b"after")
        assert path.read_text() == "before"

    assert path.read_text() == "after"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [*tmp_path.iterdir()] == [path]


def fail_in(path: Path, error: BaseException) -> None:
    with output_file(path, 0o644) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize(
    "error", [Interrupted("stopped"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.csv"
    path.write_text("before")

    with pytest.raises((Interrupted, NotWritten, KeyboardInterrupt)) as stopped:
        fail_in(path, error)

    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "before"
    if isinstance(error, OSError):
        assert "No space left on device" in str(stopped.value)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_disk_that_is_full_is_said_in_one_sentence(sqlite: sa.Engine, form: str) -> None:
    """/dev/full takes nothing."""
    furnished(sqlite)

    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        export(sqlite, partial(writer_for, form, full), None, Selection(), labels=False, stop=Event())


def test_what_cannot_become_a_file_is_refused(tmp_path: Path) -> None:
    """A folder that is not there, a folder, and a pipe or device, which a file must not take the place of."""
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "nowhere" / "a.csv", tmp_path, tmp_path / "pipe.csv"):
        with pytest.raises(UsageError, match="cannot be a file"), output_file(path, 0o644):
            pass


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300) / "a.csv"
    with pytest.raises(NotWritten, match="name too long"), output_file(path, 0o644):
        pass


def test_a_stop_ends_between_two_pages(sqlite: sa.Engine, tmp_path: Path) -> None:
    furnished(sqlite)
    stop = Event()
    stop.set()

    with pytest.raises(Interrupted), output_file(tmp_path / "a.csv", 0o644) as file:
        export(sqlite, partial(writer_for, "csv", file), None, Selection(), labels=False, stop=stop)

    assert [path for path in tmp_path.iterdir() if path.suffix in (".csv", ".part")] == []


def test_a_reader_holds_about_one_page(sqlite: sa.Engine) -> None:
    """After products with large documents pages are short."""
    shelf = Shelf(sqlite)
    for i in range(1, 261):
        shelf.product(i, document=json.dumps({"id": i, "text": "x" * 100_000}))

    with sqlite.connect() as connection:
        lengths = [len(page) for page in pages(connection, product_columns(), Selection())]

    assert sum(lengths) == 260
    assert max(lengths[1:]) < 45
