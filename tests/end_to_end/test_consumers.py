"""Other tools read every value of a copy: with the recipes of docs/tools.md, as docs/consumers.md says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.consumer_matrix import (
    QUERY,
    READERS,
    SERVICES,
    Copy,
    Reader,
    Service,
    engine,
    furnished,
    is_installed,
    line,
    written,
)
from tests.databases import database_on

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[Copy]:
    with database_on(postgres_server) as url:
        yield furnished(tmp_path_factory.mktemp("consumers"), url)


@pytest.mark.parametrize("reader", READERS, ids=[reader.package for reader in READERS])
def test_a_tool_reads_every_value_as_the_page_says(reader: Reader, copy: Copy) -> None:
    if not is_installed(reader):
        pytest.skip(f"{reader.package} is not installed")

    assert line(reader, copy) in written(), "run `make docs`"


@pytest.mark.parametrize("service", SERVICES, ids=[service.name for service in SERVICES])
def test_a_tool_takes_what_is_sent(service: Service, copy: Copy) -> None:
    if service.version() is None:
        pytest.skip(f"{service.name} is not installed")

    service.check(copy)


# --- what happens without the recipes ---------------------------------------------------------


def test_polars_takes_a_type_from_the_first_hundred_rows(copy: Copy) -> None:
    pl = pytest.importorskip("polars")

    with (
        engine(copy.url("SQLite")) as db,
        db.connect() as connection,
        pytest.raises(pl.exceptions.ComputeError),
    ):
        pl.read_database(QUERY, connection)
    with pytest.raises(pl.exceptions.ComputeError):
        pl.read_ndjson(copy.file("JSON lines"))
    assert pl.read_csv(copy.file("CSV"))["weight"].dtype == pl.String


def test_pandas_reads_some_skus_as_missing_and_json_numbers_inexactly(copy: Copy) -> None:
    pd = pytest.importorskip("pandas")

    assert pd.read_csv(copy.file("CSV"))["sku"].isna().sum() == 2
    assert 0.1 not in set(pd.read_json(copy.file("JSON lines"), lines=True)["price"])


def test_skus_of_digits_alone_lose_their_zeros(tmp_path: Path) -> None:
    """Although they stand in quotes."""
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    (file := tmp_path / "a.csv").write_text('"sku"\n"0042"\n')

    assert list(pd.read_csv(file)["sku"]) == list(pl.read_csv(file)["sku"]) == [42]
