"""Rows to a CSV or Parquet file and back, a few thousand at a time."""

import csv
import importlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from costspan.errors import Rejected
from costspan.money import plain
from costspan_reconcile.focus.columns import Column, Kind, Row, Value

Format = Literal["csv", "parquet"]
FORMATS: tuple[Format, ...] = ("csv", "parquet")

_BATCH = 10_000
_NARROW, _WIDE = (38, 24), (76, 40)
"""Digits, and those after the point. Hardly any reader of Parquet knows more than 38 digits."""
_MAGIC = b"PAR1"
_NUMBER = re.compile(r"[-+]?\d{1,60}(\.\d{1,60})?([Ee][-+]?\d{1,2})?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


@dataclass(frozen=True, slots=True)
class File:
    """A file that is being read: its header, and its rows."""

    names: Sequence[str]
    rows: Iterator[Row]


def write(
    path: Path, form: Format, columns: Sequence[Column], rows: Callable[[], Iterable[Row]]
) -> None:
    """Write `rows()` to `path`; they are asked for again where a number is wider than expected.

    Raises:
        Rejected: the file cannot be written.
    """
    try:
        if form == "csv":
            _write_csv(path, columns, rows())
        else:
            _write_parquet(path, columns, rows)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}"
        raise Rejected(msg) from error


@contextmanager
def read(path: Path, columns: Sequence[Column]) -> Generator[File]:
    """Open a CSV or Parquet file. A text that is none of its column's kind stays a text.

    Raises:
        Rejected: it cannot be read, or it is no table.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(_MAGIC)) == _MAGIC
        if is_parquet:
            try:
                yield _parquet(path)
            except _arrow().ArrowInvalid as error:
                msg = f"{path} is no whole Parquet file: {error}"
                raise Rejected(msg) from error
        else:
            with path.open(encoding="utf-8", newline="") as file:
                yield _csv(path, file, {column.name: column.kind for column in columns})
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise Rejected(msg) from error
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path} is neither CSV in UTF-8 nor Parquet: {error}"
        raise Rejected(msg) from error


def _write_csv(path: Path, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    names = [column.name for column in columns]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(names)
        table.writerows([_text(row[name]) for name in names] for row in rows)


def _text(value: Value) -> str:
    match value:
        case None:
            return ""
        case Decimal():
            return plain(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case _:
            return str(value)


def _csv(path: Path, file: Iterable[str], kinds: Mapping[str, Kind]) -> File:
    table = csv.reader(file)
    names = next(table, None) or [""]

    def rows() -> Iterator[Row]:
        for number, cells in enumerate(table, 1):
            if len(cells) != len(names):
                msg = f"{path}, row {number}: {len(cells)} cells under {len(names)} columns"
                raise Rejected(msg)
            yield {
                name: _value(cell, kinds.get(name)) for name, cell in zip(names, cells, strict=True)
            }

    return File(names, rows())


def _value(cell: str, kind: Kind | None) -> Value:
    if cell == "":
        return None
    if kind is Kind.DECIMAL and _NUMBER.fullmatch(cell):
        return Decimal(cell)
    if kind is Kind.INSTANT and _TIME.fullmatch(cell):
        try:
            return datetime.fromisoformat(cell)
        except ValueError:
            return cell
    return cell


def _write_parquet(
    path: Path, columns: Sequence[Column], rows: Callable[[], Iterable[Row]]
) -> None:
    arrow = _arrow()
    try:
        _write_decimals(path, columns, rows(), arrow.decimal128(*_NARROW))
    except arrow.ArrowInvalid:  # a number has more digits than that
        _write_decimals(path, columns, rows(), arrow.decimal256(*_WIDE))


def _write_decimals(
    path: Path,
    columns: Sequence[Column],
    rows: Iterable[Row],
    decimal: Any,  # noqa: ANN401 - pyarrow has no types
) -> None:
    arrow = _arrow()
    types = {
        Kind.STRING: arrow.string(),
        Kind.JSON: arrow.string(),
        Kind.DECIMAL: decimal,
        Kind.COUNT: arrow.uint64(),
        Kind.INSTANT: arrow.timestamp("us", tz="UTC"),
    }
    schema = arrow.schema([(column.name, types[column.kind]) for column in columns])
    left = iter(rows)
    with _parquet_module().ParquetWriter(path, schema, compression="zstd") as writer:
        while some := list(islice(left, _BATCH)):
            writer.write_batch(arrow.RecordBatch.from_pylist(some, schema))


def _parquet(path: Path) -> File:
    file = _parquet_module().ParquetFile(path)

    def rows() -> Iterator[Row]:
        for batch in file.iter_batches(_BATCH):
            yield from batch.to_pylist()

    return File(file.schema_arrow.names, rows())


def _arrow() -> Any:  # noqa: ANN401 - pyarrow has no types
    return importlib.import_module("pyarrow")


def _parquet_module() -> Any:  # noqa: ANN401 - as above
    return importlib.import_module("pyarrow.parquet")
