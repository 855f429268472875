"""Tables of texts: JSON lines, CSV (both also .gz) and Parquet. What is in a row is the business of who takes it.

read_jsonl(Path("texts.jsonl.gz"), rows)     # calls rows.take for every row, or rows.bad; see synth/rows/taking.py
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synth.rows.dates import cell_seconds, seconds
from synth.rows.files import SourceError, bad_byte, numbered_lines, open_bytes
from synth.rows.taking import DELIMITERS, Rows


def read_jsonl(path: Path, rows: Rows) -> None:
    """One JSON object a line, UTF-8; empty lines are passed over. Or one JSON array of objects, over any lines."""
    with open_bytes(path) as file:
        lines = ((number, offset, line) for number, offset, line in numbered_lines(file) if not line.isspace())
        first = next(lines, None)
        if first is None:
            return
        if first[2].lstrip().startswith(b"["):
            _take_array(path, b"".join(line for _, _, line in itertools.chain((first,), lines)), rows)
            return
        for number, offset, line in itertools.chain((first,), lines):
            where = f"line {number}"
            if (at := bad_byte(line)) is not None:
                rows.bad("undecodable", _not_utf8(where, offset + at))
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                column = getattr(error, "colno", 1)
                rows.bad("malformed", f"{where} is not valid JSON (column {column}); expected one object; correct it")
                continue
            _take_value(rows, where, row)


def _take_array(path: Path, content: bytes, rows: Rows) -> None:
    try:
        found = json.loads(content)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 (byte {error.start}); expected UTF-8; convert the file") from None
    except (ValueError, RecursionError) as error:
        place = f"line {getattr(error, 'lineno', 1)}, column {getattr(error, 'colno', 1)}"
        raise SourceError(f"{path} is not valid JSON ({place}); expected one array of objects; correct it") from None
    for number, row in enumerate(found, start=1):
        _take_value(rows, f"element {number}", row)


def _take_value(rows: Rows, where: str, row: object) -> None:
    if isinstance(row, dict):
        _take_object(rows, where, row)
    else:
        rows.bad("malformed", f"{where} is a JSON {type(row).__name__}; expected an object; correct it")


def _take_object(rows: Rows, where: str, row: dict[str, object]) -> None:
    columns = rows.columns
    for name in columns.named:
        if name not in row:
            return rows.missing(where, name, row)
    if rows.wanted(row):
        rows.take(where, row, 0.0 if columns.time is None else seconds(row[columns.time]))
    return None


def read_csv(path: Path, rows: Rows) -> None:
    """Comma-separated, UTF-8, with a header line; cells that hold commas, quotes or line breaks are quoted."""
    columns, broken = rows.columns, _BrokenLines()
    with open_bytes(path) as file, _cells_of_any_size():
        reader = csv.reader(broken.decode(file), strict=True, delimiter=DELIMITERS[columns.delimiter])
        try:
            header = next((cells for cells in reader if any(cell.strip() for cell in cells)), [])
        except csv.Error:
            raise SourceError(f"{path}: the header line is not valid CSV; expected names between commas") from None
        if not header:
            return
        if broken.first is not None:
            raise SourceError(f"{path}: {_not_utf8('the header line', broken.first)}")
        places = {name: _place(path, header, name, rows) for name in columns.named}
        kept = [(name, places[name]) for name in columns.kept]
        for number, cells in _records(path, reader, rows):
            where, at = f"row {number} (up to line {reader.line_num})", broken.take()
            if at is not None:
                rows.bad("undecodable", _not_utf8(where, at))
            elif len(cells) != len(header):
                found = f"{len(cells)} cells, the header has {len(header)}"
                rows.bad("malformed", f"{where} has {found}; expected as many; quote cells that hold commas")
            else:
                row = {name: cells[place] for name, place in kept}
                if rows.wanted(row):
                    rows.take(where, row, 0.0 if columns.time is None else cell_seconds(cells[places[columns.time]]))


class _BrokenLines:
    """Decodes lines as a csv.reader pulls them and remembers the first byte that is not UTF-8."""

    def __init__(self) -> None:
        self.first: int | None = None

    def decode(self, file: Iterable[bytes]) -> Iterator[str]:
        for _, offset, line in numbered_lines(file):
            at = bad_byte(line)
            if at is not None and self.first is None:
                self.first = offset + at
            yield line.decode(errors="replace")

    def take(self) -> int | None:
        """The first bad byte since the last call, or None."""
        first, self.first = self.first, None
        return first


def _records(path: Path, reader: Any, rows: Rows) -> Iterator[tuple[int, list[str]]]:
    """(row number from 1, cells), past empty lines and, where they are skipped, past bad rows."""
    number = 0
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            number += 1
            if "unexpected end" in str(error):
                # Whatever followed the quote was swallowed: nobody knows how many rows, so it cannot be skipped.
                raise SourceError(
                    f"{path}: a quote opened in line {start} is never closed; correct that line"
                ) from None
            rows.bad("malformed", f'row {number} (from line {start}) is not valid CSV; expected " doubled in quotes')
            continue
        if cells is None:
            return
        if cells:
            number += 1
            yield number, cells


def _place(path: Path, header: list[str], name: str, rows: Rows) -> int:
    if header.count(name) > 1:
        raise SourceError(f"{path} has {header.count(name)} fields {name!r}; expected one; rename or drop the others")
    if name in header:
        return header.index(name)
    columns = rows.columns
    for other, sign in DELIMITERS.items():
        if len(header) == 1 and name in [cell.strip('"') for cell in header[0].split(sign)]:
            raise SourceError(
                f"{path} has a {other} between the names of its header line; expected a {columns.delimiter}; give "
                f"{columns.delimiter_key}={other}"
            )
    raise SourceError(f"{path} has {rows.no_field(name, header)}")


@contextmanager
def _cells_of_any_size() -> Iterator[None]:
    """Lift the csv module's limit of 128 KiB a cell for a while: a text may be longer."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def read_parquet(path: Path, rows: Rows) -> None:
    """Any Parquet file whose text column holds strings."""
    with open_bytes(path) as file:
        try:
            parquet = pq.ParquetFile(file)
            names = needed_columns(path, parquet.schema_arrow, rows)
            take_batches(path, parquet.iter_batches(columns=names), rows)
        except (pa.ArrowException, OSError):
            raise SourceError(f"{path} is not a complete Parquet file; expected one; write or copy it again") from None


def needed_columns(path: Path, schema: pa.Schema, rows: Rows) -> list[str]:
    """The columns to read. Raises SourceError if one is not there or the text column holds no strings."""
    text, names = rows.columns.text, list(rows.columns.named)
    for name in names:
        if (times := schema.names.count(name)) > 1:
            raise SourceError(f"{path} has {times} columns {name!r}; expected one; rename or drop the others")
        if not times:
            raise SourceError(f"{path} has {rows.no_field(name, schema.names)}")
    if not _is_text(schema.field(text).type):
        found = schema.field(text).type
        raise SourceError(f"column {text!r} of {path} holds {found}; expected strings; choose another column")
    return names


def take_batches(path: Path, batches: Iterable[pa.RecordBatch], rows: Rows) -> None:
    """Take the rows of Arrow record batches that have the `needed_columns`."""
    columns, number = rows.columns, 0
    for batch in batches:
        times = [0.0] * batch.num_rows if columns.time is None else _times(batch.column(columns.time))
        values = [_values(batch.column(name)) for name in columns.kept]
        for cells, time in zip(zip(*values, strict=True), times, strict=True):
            number += 1
            row = dict(zip(columns.kept, cells, strict=True))
            if not rows.wanted(row):
                continue
            if any(isinstance(cell, bytes) for cell in cells):
                rows.bad("undecodable", f"row {number} of {path.name} is not UTF-8; expected UTF-8; correct it")
            else:
                rows.take(f"row {number} of {path.name}", row, time)


def _is_text(found: pa.DataType) -> bool:
    plain = found.value_type if pa.types.is_dictionary(found) else found
    return bool(pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain))


def _strings(column: pa.Array) -> list[str | bytes | None]:
    """The strings of a column; bytes where they are not UTF-8, which Arrow does not check when it reads."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return [
        value if value is None or bad_byte(value) is not None else value.decode()
        for value in column.cast(pa.large_binary()).to_pylist()
    ]


def _values(column: pa.Array) -> list[object]:
    return list(_strings(column)) if _is_text(column.type) else list(column.to_pylist())


def _times(column: pa.Array) -> list[float | None]:
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        # Through microseconds: Python's datetime has no finer ones, and time zones do not change a Unix time.
        micros = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        return [None if value is None else value / 1e6 for value in micros.to_pylist()]
    return [seconds(value) for value in _values(column)]


def _not_utf8(where: str, offset: int) -> str:
    return f"{where} is not UTF-8 (byte {offset} of the file); expected UTF-8; convert the file"
