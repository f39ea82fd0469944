"""`export` and `view` as users run them."""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
from pathlib import Path

import duckdb
import pytest

from tests.command import PRODUCT_SYNC, Shell


@pytest.fixture
def loaded(shell: Shell) -> Shell:
    """A copy of 300 products, and an attribute of theirs explained."""
    assert shell.run("backfill").code == 0
    with sqlite3.connect(shell.folder / "products.db") as copy:
        copy.execute("DELETE FROM attributes")
        copy.execute("DELETE FROM attribute_options")
        copy.execute(
            "INSERT INTO attributes VALUES ('color', 93, 'select', 'int', 'global', 'Color', 0, '{}')"
        )
        copy.execute(
            "INSERT INTO attribute_options (store_view, attribute_code, option_value, label) "
            "SELECT DISTINCT 'all', 'color', value, 'Colour ' || value "
            "FROM product_attributes WHERE attribute_code = 'color'"
        )
    return shell


def test_a_file_holds_the_copy_and_says_how_much(loaded: Shell) -> None:
    ended = loaded.run("export", "products.parquet", "--columns", "sku,color", "--labels")

    assert (ended.code, ended.out) == (0, "")
    assert "product-sync: 300 rows written to products.parquet." in ended.err
    path = loaded.folder / "products.parquet"
    with duckdb.connect() as duck:
        found = duck.execute(f"SELECT COUNT(*), COUNT(DISTINCT sku), MIN(color) FROM '{path}'").fetchone()
    assert found is not None
    assert found[:2] == (300, 300)
    assert str(found[2]).startswith("Colour ")
    assert sorted(path.name for path in loaded.folder.iterdir() if "part" in path.name) == []


def test_standard_output_takes_json_lines_or_what_is_asked_for(loaded: Shell) -> None:
    lines = loaded.run("export", "-", "--columns", "sku,price", "--changed-since", "1h")
    text = loaded.run(
        "export", "-", "--format", "csv", "--columns", "sku", "--type", "bundle", "--type", "grouped"
    )
    named = loaded.run("export", "-", "--sku", json.loads(lines.out.splitlines()[0])["sku"])

    assert len(lines.objects) == 300
    assert text.out.startswith("store_view,sku\n")
    assert 1 < len(text.out.splitlines()) < 300
    assert named.objects[0]["document"]["sku"] == lines.objects[0]["sku"]


def test_gz_compresses_and_a_spreadsheets_formulas_are_counted(shell: Shell) -> None:
    shell.tenant.catalogue.edit(7, name="=1+1")
    shell.run("backfill")

    packed = shell.run(
        "export", "copy.csv.gz", "--columns", "name,weight", "--sku", "nowhere", "--type", "simple"
    )
    plain = shell.run("export", "copy.csv.gz", "--columns", "name")
    escaped = shell.run("export", "-", "--columns", "name", "--format", "csv", "--escape-formulas")
    lines = shell.run("export", "copy.jsonl.gz")

    assert (packed.code, plain.code, lines.code) == (64, 0, 0)
    with gzip.open(shell.folder / "copy.csv.gz", "rt", newline="") as file:
        assert "all,=1+1\r\n" in file.read()
    assert "1 value may run as a formula" in plain.err
    assert "all,'=1+1\n" in escaped.out
    assert "formula" not in escaped.err
    with gzip.open(shell.folder / "copy.jsonl.gz", "rt") as file:
        assert {json.loads(line)["document"]["name"] for line in file} >= {"=1+1"}


def test_an_attribute_called_like_a_column_is_reached_and_said(shell: Shell) -> None:
    """Somebody's shop has a field `document` for data sheets; sku, name and price are no news."""
    shell.tenant.reference.add_attribute("document", "Data sheet", "text")
    shell.tenant.catalogue.edit(7, document="sheet-7.pdf")
    shell.run("backfill")
    shell.run("reference")

    column = shell.run("export", "-", "--columns", "sku,name,price,document")
    attribute = shell.run("export", "-", "--columns", "document,product_id,attribute:document")
    viewed = shell.run("view", "--name", "sheets", "--columns", "sku,attribute:document")

    said = "document means the column of the table products. For the attribute of that name, write"
    assert [said in ended.err for ended in (column, attribute, viewed)] == [True, True, False]
    assert column.err.count(" means the column ") == 1
    assert column.objects[6]["document"]["id"] == 7
    (row,) = (row for row in attribute.objects if row["product_id"] == 7)
    assert (row["document"]["id"], row["attribute_document"]) == (7, "sheet-7.pdf")
    with sqlite3.connect(shell.folder / "products.db") as copy:
        assert copy.execute("SELECT document FROM sheets WHERE product_id = 7").fetchone() == ("sheet-7.pdf",)


def test_two_store_views_are_told_apart_unless_one_is_chosen(shell: Shell) -> None:
    shell.settings["STORE_VIEWS"] = "all,default"
    shell.run("backfill")

    both = shell.run("export", "-", "--columns", "sku,name,price", "--format", "csv").out.splitlines()
    one = shell.run("export", "-", "--columns", "sku", "--store-view", "default", "--format", "csv").out

    assert (both[0], len(both), len({*both})) == ("store_view,sku,name,price", 601, 601)
    assert one.splitlines()[0] == "sku"


def test_a_flat_view_is_made_read_and_dropped(loaded: Shell) -> None:
    made = loaded.run("view", "--name", "bags", "--columns", "sku,name,color")

    assert made.code == 0
    example = made.out.splitlines()[1].strip()
    with sqlite3.connect(loaded.folder / "products.db") as copy:
        first = copy.execute(example).fetchone()
    assert first[:2] == ("all", 1)
    assert loaded.run("view", "--name", "bags", "--drop").code == 0


REFUSED = {
    ("export", "products.xlsx"): "unknown or not supported",
    ("export", "nowhere/products.csv"): "cannot be a file",
    ("export", "a.csv", "--columns", "sku,colour"): "did you mean color?",
    ("export", "a.csv", "--store-view", "fr"): "no store view fr",
    ("export", "a.csv", "--sku", "nowhere"): "no product nowhere",
    ("export", "a.csv", "--type", "nothing"): "no product of type nothing",
    ("export", "a.parquet.gz"): "Parquet is already",
    ("export", "a.csv", "--changed-since", "soon"): "--changed-since is not a time",
    ("view", "--name", "products", "--columns", "sku"): "has a table products",
    ("view", "--name", "bags", "--columns", "sku,colour"): "did you mean color?",
    ("view", "--name", "bags"): "either --columns or --drop",
}


def test_what_cannot_be_used_is_said_with_a_remedy(loaded: Shell) -> None:
    for arguments, words in REFUSED.items():
        ended = loaded.run(*arguments)

        assert ended.code == 64, arguments
        assert words in ended.err
        assert "To do: " in ended.err
    assert [path.name for path in loaded.folder.iterdir() if path.suffix in (".csv", ".part")] == []


def test_parquet_without_pyarrow_names_the_extra(loaded: Shell) -> None:
    (loaded.folder / "pyarrow.py").write_text("raise ImportError")

    ended = loaded.run("export", "a.parquet", PYTHONPATH=str(loaded.folder))

    assert ended.code == 64
    assert (
        "pip install 'commerce-product-sync[parquet]'; in a checkout, pip install '.[parquet]'." in ended.err
    )


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_reader_that_leaves_ends_it_quietly(loaded: Shell, form: str) -> None:
    with loaded.start_afresh("export", "-", "--format", form) as export:
        assert export.process.stdout is not None
        export.process.stdout.close()
        assert export.process.wait(30) == 0
        assert "".join(export.lines()) == ""


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_standard_output_that_is_full_is_said_in_one_sentence(loaded: Shell, form: str) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [*PRODUCT_SYNC, "export", "-", "--format", form],
            cwd=loaded.folder,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert ended.returncode == 69
    assert "standard output cannot be written: No space left on device." in ended.stderr
    assert "Traceback" not in ended.stderr
