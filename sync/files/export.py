"""Export products to Parquet, CSV or JSON lines, in constant memory.

A file gets its name once it is complete; until then, the previous file stays.
In JSON lines, columns of JSON are objects. A name that ends in .gz is compressed, for CSV and JSON lines.
CSV follows RFC 4180, in UTF-8. Texts that a spreadsheet would run as formulas (OWASP, "CSV Injection") are
written unchanged, because an export must not alter data, and counted for a warning. `Formulas.escape`
puts an apostrophe before them.
"""

from __future__ import annotations

import csv
import gzip
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

import msgspec
import sqlalchemy as sa

from sync.atomic_write import PRIVATE, atomic_write, why_not_a_file
from sync.db import export as rows
from sync.db.dialects import Row
from sync.db.engine import reading
from sync.db.flat import FlatColumn, Kind, product_columns, resolve, split_names
from sync.errors import Interrupted, SyncError, UsageError, install_extra
from sync.settings.parsers import parse_duration

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("parquet", "csv", "jsonl")
JSON_COLUMNS = ("document",)  # of `products`: text that is JSON
FORMULA = tuple("=+-@\t\r")  # what a spreadsheet takes for the start of one
GROUP_ROWS, GROUP_BYTES = 100_000, 4_000_000  # of a Parquet row group, whichever is reached first


class NotWritten(SyncError):
    """The file cannot be written: no space, no permission. The previous file is unchanged."""

    exit_code = 69
    fix = "check permissions and free space where it is written, then run the command again."


def not_written(path: str, error: OSError) -> NotWritten:
    return NotWritten(f"{path} cannot be written: {error.strerror or 'the disk does not respond'}.")


# --- the arguments -------------------------------------------------------------------------------


def format_of(path: str, requested: str | None) -> str:
    """The requested format, else that of the suffix; JSON lines for standard output. Raises UsageError."""
    plain = Path(path).with_suffix("") if is_compressed(path) else Path(path)
    found = requested or ("jsonl" if path == "-" else plain.suffix.lower().removeprefix("."))
    if found not in FORMATS:
        raise UsageError(
            f"the format of {path} is unknown or not supported.",
            f"end it in .{', .'.join(FORMATS)}, .csv.gz or .jsonl.gz, or add --format {'|'.join(FORMATS)}.",
        )
    if found == "parquet" and is_compressed(path):
        raise UsageError(f"{path} cannot be compressed: Parquet is already.", "leave out .gz.")
    return found


def is_compressed(path: str) -> bool:
    """Whether the name asks for gzip."""
    return path.lower().endswith(".gz")


@contextmanager
def compressed(file: BinaryIO, path: str) -> Iterator[BinaryIO]:
    """A stream into `file`, through gzip if the name asks for it."""
    if not is_compressed(path):
        yield file
        return
    with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as stream:
        yield cast("BinaryIO", stream)


def parse_since(text: str, now: datetime) -> datetime:
    """Parse an ISO 8601 date or time, UTC by default, or an age such as `24h`. Raises UsageError."""
    with suppress(ValueError):
        return now - timedelta(seconds=parse_duration(text))
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            "--changed-since is not a time.", "write 2026-03-01, 2026-03-01T09:30:00Z, or an age: 24h, 7d."
        ) from None


def export(
    engine: sa.Engine,
    write_to: Callable[[Sequence[FlatColumn]], RowWriter],
    names: str | None,
    selection: rows.Selection,
    *,
    labels: bool,
    stop: Event,
) -> int:
    """Write the selected products and return the number of rows.

    names     columns and attributes, separated by commas; None for every column of `products`. The store
              view is added in front unless the selection names one

    Raises UsageError, Interrupted when `stop` is set, DatabaseUnavailable.
    """

    def work(connection: sa.Connection) -> int:
        columns = product_columns()
        if names is not None:
            requested = split_names(names)
            if selection.store_view is None and "store_view" not in requested:
                requested = ["store_view", *requested]
            columns = resolve(connection, requested, labels=labels)
        writer = write_to(columns)
        try:
            return _write(writer, rows.pages(connection, columns, selection), stop)
        except BaseException:
            writer.abandon()
            raise

    return reading(rows.snapshot(engine), work)


def _write(writer: RowWriter, pages: Iterable[Sequence[Row]], stop: Event) -> int:
    count = 0
    for page in pages:
        if stop.is_set():
            raise Interrupted("the export was stopped.", "start it again; no incomplete file was left.")
        writer.write(page)
        count += len(page)
        del page  # before the next is read
    writer.close()
    return count


@contextmanager
def output_file(path: Path, mode: int) -> Iterator[BinaryIO]:
    """Open a draft that replaces `path` when the context ends without an error.

    mode    widest permissions of the file

    Raises UsageError when `path` cannot be a file, NotWritten when it cannot be written.
    """
    try:
        if reason := why_not_a_file(path):
            fix = "name a file in a folder that exists, or - for standard output."
            raise UsageError(f"{path} cannot be a file: it {reason}.", fix)
        with atomic_write(path, mode) as file:
            yield file
    except OSError as error:  # also for a folder without search permission
        raise not_written(str(path), error) from error


def most_permissions(engine: sa.Engine, folder: Path) -> int:
    """Permissions that make an export no more readable than the copy: those of a SQLite file, else 0600.

    folder    of the file; its group may read the file only if it is the copy's group
    """
    if engine.url.get_backend_name() != "sqlite":
        return PRIVATE
    try:
        copy, place = Path(engine.url.database or "").stat(), folder.stat()
    except OSError:  # a `file:` URL
        return PRIVATE
    group = place.st_gid if place.st_mode & stat.S_ISGID else os.getegid()
    return copy.st_mode & (0o666 if group == copy.st_gid else 0o606)


# --- formats -------------------------------------------------------------------------------------


class RowWriter(Protocol):
    """Writes rows to a file that the caller closes.

    close      write the end of the format
    abandon    stop without completing the file
    """

    def write(self, page: Sequence[Row]) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


@dataclass
class Formulas:
    """Values of a CSV file that a spreadsheet would run as formulas: how many, and whether to escape them."""

    escape: bool = False
    found: int = 0

    def text(self, value: str) -> str:
        if not value.startswith(FORMULA):
            return value
        self.found += 1
        return f"'{value}" if self.escape else value


def writer_for(
    form: str, file: BinaryIO, columns: Sequence[FlatColumn], formulas: Formulas | None = None
) -> RowWriter:
    """The writer of a format. Raises UsageError when its library is not installed."""
    if form == "csv":
        return Csv(file, columns, formulas or Formulas())
    return JsonLines(file, columns) if form == "jsonl" else Parquet(file, columns)


class JsonLines:
    """One object per line: decimals as numbers with all their digits, times in ISO 8601."""

    def __init__(self, file: BinaryIO, columns: Sequence[FlatColumn]) -> None:
        self._file = file
        self._columns = [(column.name, _is_json(column)) for column in columns]
        self._encoder = msgspec.json.Encoder(decimal_format="number")

    def write(self, page: Sequence[Row]) -> None:
        self._file.write(self._encoder.encode_lines(map(self._object, page)))

    def _object(self, row: Row) -> dict[str, Any]:
        pairs = zip(self._columns, row, strict=True)
        return {name: _nested(value) if is_json else value for (name, is_json), value in pairs}

    def close(self) -> None:
        self._file.flush()

    def abandon(self) -> None: ...


def _is_json(column: FlatColumn) -> bool:
    return column.source in JSON_COLUMNS and not column.is_attribute


def _nested(value: str | None) -> msgspec.Raw | None:
    """Stored JSON, as it is: its digits and the order of its members stay."""
    return None if value is None else msgspec.Raw(value.encode())


class Csv:
    """A header, then a record per row; null and the empty text are both an empty field."""

    def __init__(self, file: BinaryIO, columns: Sequence[FlatColumn], formulas: Formulas) -> None:
        self._file = file
        self._formulas = formulas
        self._write_records([[column.name for column in columns]])

    def write(self, page: Sequence[Row]) -> None:
        self._write_records([self._value(value) for value in row] for row in page)

    def _value(self, value: Any) -> Any:
        return self._formulas.text(value) if isinstance(value, str) else _csv_value(value)

    def _write_records(self, records: Iterable[Sequence[Any]]) -> None:
        csv.writer(_Encoded(self._file)).writerows(records)

    def close(self) -> None:
        self._file.flush()

    def abandon(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Writes texts to a binary file."""

    file: BinaryIO

    def write(self, text: str) -> None:
        self.file.write(text.encode())


def _csv_value(value: Any) -> Any:
    """The value as in JSON, without quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.isoformat() if isinstance(value, date) else value


class Parquet:
    """Typed columns, zstd, in row groups of bounded size."""

    def __init__(self, file: BinaryIO, columns: Sequence[FlatColumn]) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            missing = "Parquet needs pyarrow, which is not installed."
            raise UsageError(missing, install_extra("parquet")) from None
        pyarrow.set_memory_pool(pyarrow.system_memory_pool())  # its own keeps what was freed
        self._pa = pyarrow
        self._schema = pyarrow.schema(
            [(column.name, _arrow_type(pyarrow, column.kind)) for column in columns]
        )
        compared = [column.name for column in columns if not _is_long(column)]
        self._parquet = pyarrow.parquet.ParquetWriter(
            file, self._schema, compression="zstd", use_dictionary=compared, write_statistics=compared
        )
        self._batches: list[pa.RecordBatch] = []

    def write(self, page: Sequence[Row]) -> None:
        arrays = [
            self._pa.array(values, field.type)
            for values, field in zip(zip(*page, strict=True), self._schema, strict=True)
        ]
        self._batches.append(self._pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        pending = self._batches
        if sum(b.num_rows for b in pending) >= GROUP_ROWS or sum(b.nbytes for b in pending) >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        table = self._pa.Table.from_batches(self._batches, self._schema)
        self._parquet.write_table(table, row_group_size=table.num_rows or 1)
        self._batches = []

    def close(self) -> None:
        if self._batches:
            self._write_group()
        self._parquet.close()

    def abandon(self) -> None:
        """Stop pyarrow from completing the file, which is closed, on garbage collection."""
        self._parquet.is_open = False


def _is_long(column: FlatColumn) -> bool:
    """Whether values may have megabytes: their smallest and largest would be kept in memory, for no use."""
    return _is_json(column) or (column.is_attribute and column.kind == "text")


def _arrow_type(pyarrow: Any, kind: Kind) -> Any:
    return {
        "text": pyarrow.string,
        "integer": pyarrow.int64,
        "decimal": lambda: pyarrow.decimal128(20, 6),
        "boolean": pyarrow.bool_,
        "date": pyarrow.date32,
        "time": lambda: pyarrow.timestamp("us", tz="UTC"),
    }[kind]()
