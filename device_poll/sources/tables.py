"""Mail in tables: JSON lines, CSV (both also .gz) and Parquet, one row an item.

rows = Gather(source=path, fields=Fields())
read_jsonl(Path("mail.jsonl.gz"), rows)
rows.finish()
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from device_poll.sources.files import bad_byte, numbered_lines, open_bytes
from device_poll.sources.gather import Gather, no_field, seconds
from device_poll.sources.items import SourceError


def read_jsonl(path: Path, rows: Gather) -> None:
    """One JSON object a line, UTF-8; empty lines are passed over."""
    with open_bytes(path) as file:
        for number, offset, line in numbered_lines(file):
            where = f"line {number}"
            if line.isspace():
                continue
            if (at := bad_byte(line)) is not None:
                rows.bad("undecodable", _not_utf8(where, offset + at))
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                column = getattr(error, "colno", 1)
                rows.bad("malformed", f"{where} is not valid JSON (column {column}); expected one object; correct it")
                continue
            if isinstance(row, dict):
                _add_object(rows, where, row)
            elif number == 1 and isinstance(row, list):
                raise SourceError(f"{path} holds one JSON array; expected one object a line; write it as JSON lines")
            else:
                rows.bad("malformed", f"{where} is a JSON {type(row).__name__}; expected an object; correct it")


def _add_object(rows: Gather, where: str, row: dict[str, object]) -> None:
    fields = rows.fields
    for name in fields.named:
        if name not in row:
            return rows.missing(where, name, row)
    if not rows.wanted(row):
        return None
    return rows.add(
        where,
        text=row[fields.text],
        user=None if fields.user is None else row[fields.user],
        time=0.0 if fields.time is None else seconds(row[fields.time]),
    )


def read_csv(path: Path, rows: Gather) -> None:
    """Comma-separated, UTF-8, with a header line; cells that hold commas, quotes or line breaks are quoted."""
    fields, broken = rows.fields, _BrokenLines()
    with open_bytes(path) as file, _cells_of_any_size():
        reader = csv.reader(broken.decode(file), strict=True)
        try:
            header = next(reader, [])
        except csv.Error:
            raise SourceError(f"{path}: the header line is not valid CSV; expected names between commas") from None
        if not header:
            return
        if broken.first is not None:
            raise SourceError(f"{path}: {_not_utf8('the header line', broken.first)}")
        text, user, time = (_column(path, header, name, rows) for name in (fields.text, fields.user, fields.time))
        only = {name: _column(path, header, name, rows) for name in fields.only}
        for number, cells in _records(path, reader, rows):
            where, at = f"row {number} (up to line {reader.line_num})", broken.take()
            if at is not None:
                rows.bad("undecodable", _not_utf8(where, at))
            elif len(cells) != len(header):
                found = f"{len(cells)} cells, the header has {len(header)}"
                rows.bad("malformed", f"{where} has {found}; expected as many; quote cells that hold commas")
            elif rows.wanted({name: cells[at] for name, at in only.items()}):
                rows.add(
                    where,
                    text=cells[text],
                    user=cells[user],
                    time=0.0 if fields.time is None else _cell_seconds(cells[time]),
                )


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


def _records(path: Path, reader: Any, rows: Gather) -> Iterator[tuple[int, list[str]]]:
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


def _column(path: Path, header: list[str], name: str | None, rows: Gather) -> int:
    if name is None:
        return 0
    if name not in header:
        raise SourceError(f"{path} has {no_field(name, header, rows.fields)}")
    return header.index(name)


def _cell_seconds(cell: str) -> float | None:
    """A cell has no type: a number is Unix time."""
    try:
        return seconds(float(cell))
    except ValueError:
        return seconds(cell)


@contextmanager
def _cells_of_any_size() -> Iterator[None]:
    """Lift the csv module's limit of 128 KiB a cell for a while: a mail may be longer."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def read_parquet(path: Path, rows: Gather) -> None:
    """Any Parquet file whose text column holds strings."""
    with open_bytes(path) as file:
        try:
            parquet = pq.ParquetFile(file)
            names = needed_columns(path, parquet.schema_arrow, rows)
            add_batches(path, parquet.iter_batches(columns=names), rows)
        except (pa.ArrowException, OSError):
            raise SourceError(f"{path} is not a complete Parquet file; expected one; write or copy it again") from None


def needed_columns(path: Path, schema: pa.Schema, rows: Gather) -> list[str]:
    """The columns to read. Raises SourceError if one is not there or the text column holds no strings."""
    fields = rows.fields
    names = list(fields.named)
    for name in names:
        if name not in schema.names:
            raise SourceError(f"{path} has {no_field(name, schema.names, fields)}")
    found = schema.field(fields.text).type
    plain = found.value_type if pa.types.is_dictionary(found) else found
    if not (pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain)):
        raise SourceError(f"column {fields.text!r} of {path} holds {found}; expected strings; choose another column")
    return list(dict.fromkeys(names))


def add_batches(path: Path, batches: Iterable[pa.RecordBatch], rows: Gather) -> None:
    """Add the rows of Arrow record batches that have the `needed_columns`."""
    fields, number = rows.fields, 0
    for batch in batches:
        texts = _strings(batch.column(fields.text))
        nothing = [None] * len(texts)
        users = nothing if fields.user is None else _users(batch.column(fields.user))
        times = [0.0] * len(texts) if fields.time is None else _times(batch.column(fields.time))
        kinds = {name: _users(batch.column(name)) for name in fields.only}
        for i, (text, user, time) in enumerate(zip(texts, users, times, strict=True)):
            number += 1
            if not rows.wanted({name: values[i] for name, values in kinds.items()}):
                continue
            if isinstance(text, bytes) or isinstance(user, bytes):
                rows.bad("undecodable", f"row {number} of {path.name} is not UTF-8; expected UTF-8; correct it")
            else:
                rows.add(f"row {number} of {path.name}", text=text, user=user, time=time)


def _strings(column: pa.Array) -> list[str | bytes | None]:
    """The strings of a column; bytes where they are not UTF-8, which Arrow does not check when it reads."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return [
        value if value is None or bad_byte(value) is not None else value.decode()
        for value in column.cast(pa.large_binary()).to_pylist()
    ]


def _users(column: pa.Array) -> list[object]:
    stored = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_string(stored) or pa.types.is_large_string(stored) or pa.types.is_string_view(stored)
    return list(_strings(column)) if is_text else list(column.to_pylist())


def _times(column: pa.Array) -> list[float | None]:
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        # Through microseconds: Python's datetime has no finer ones, and time zones do not change a Unix time.
        micros = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        return [None if value is None else value / 1e6 for value in micros.to_pylist()]
    return [seconds(value) for value in _users(column)]


def _not_utf8(where: str, offset: int) -> str:
    return f"{where} is not UTF-8 (byte {offset} of the file); expected UTF-8; convert the file"
