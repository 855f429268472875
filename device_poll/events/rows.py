"""Reading tables of values and frequencies: what every frequency file has in common.

    problems = Problems(path, on_bad_row="skip")
    for where, (word, count) in read_rows(path, ("word", "count"), problems):
        ...
    problems.dropped                  # {'undecodable': 1}

Errors name the file, the line and what was found, never a value: a frequency file may be somebody's own.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from device_poll.sources.items import SourceError
from synth.rows.files import bad_byte, listed, numbered_lines, open_bytes

OnBadRow = Literal["error", "skip"]
Where = str

_FEW = 60  # a column with more different entries may hold values in place of names
_SURROGATE = re.compile("[\ud800-\udfff]")
_TABLES = {".tsv": "\t", ".csv": ",", ".jsonl": None, ".ndjson": None, ".json": None}


class Problems:
    """What is wrong with the rows of one file: an error at once, or, where bad rows are skipped, a count by reason."""

    def __init__(self, path: Path, on_bad_row: OnBadRow) -> None:
        self.path = path
        self._skips = on_bad_row == "skip"
        self._dropped: Counter[str] = Counter()

    @property
    def dropped(self) -> dict[str, int]:
        """Rows left out, by reason."""
        return dict(sorted(self._dropped.items()))

    def leave_out(self, reason: str, rows: int = 1) -> None:
        """Count rows that are not wrong and yet of no use."""
        if rows:
            self._dropped[reason] += rows

    def bad(self, reason: str, message: str) -> None:
        """Count a bad row, or raise SourceError with `message`, which holds no value."""
        if not self._skips:
            raise SourceError(f"{self.path}: {message}, or leave such rows out with on_bad_row=skip")
        self._dropped[reason] += 1


def check_file(path: str | Path | None, what: str) -> Path:
    """The path of a file that is there. Raises SourceError that says `what` the file should be."""
    if path is None:
        raise SourceError(f"vocabulary.path is null; expected {what}; set vocabulary.path=FILE")
    path = Path(path)
    if not path.exists():
        raise SourceError(f"vocabulary.path is {path}, which does not exist; expected {what}; correct the path")
    if not path.is_file():
        raise SourceError(f"vocabulary.path is {path}, which is no file; expected {what}; name the file itself")
    return path


def check_on_bad_row(value: str) -> None:
    """Raises SourceError unless `value` is 'error' or 'skip'."""
    if value not in ("error", "skip"):
        raise SourceError(f"vocabulary.on_bad_row is {value!r}; expected 'error' or 'skip'")


def check_exponent(value: float) -> None:
    """Raises SourceError unless a Zipf exponent is between 0 (all values alike) and 10."""
    if not 0 <= value <= 10:
        raise SourceError(
            f"vocabulary.exponent is {value:g}; expected 0 (all values alike) to 10, about 1 in real data"
        )


def check_table(path: Path) -> None:
    """Raises SourceError unless the file's name says how to read it."""
    if _suffix(path) not in _TABLES:
        raise SourceError(f"{path.name} ends in none of {', '.join(_TABLES)}, plain or .gz; rename or convert it")


def read_rows(
    path: Path, columns: tuple[str, ...], problems: Problems, optional: tuple[str, ...] = ()
) -> Iterator[tuple[Where, tuple[object, ...]]]:
    """(where, the row's entries of these columns, then of the optional ones, None where there is no such column).

    TSV has no quotes, CSV has; both are UTF-8 with a header line. JSON lines hold one object each. Raises SourceError
    for a file that cannot be read or lacks a column.
    """
    check_table(path)
    delimiter = _TABLES[_suffix(path)]
    with open_bytes(path) as file:
        if delimiter is None:
            yield from _json_rows(file, columns, problems, optional)
        else:
            yield from _cell_rows(file, delimiter, columns, problems, optional)


def decoded(line: bytes, where: Where, problems: Problems) -> str | None:
    """The line as text, without its end; None (and a bad row) if it is not UTF-8."""
    if (at := bad_byte(line)) is not None:
        problems.bad(
            "undecodable", f"{where} is not UTF-8 (byte {at + 1} of the line); expected UTF-8; convert the file"
        )
        return None
    return line.decode().rstrip("\r\n")


def text_of(entry: object, name: str, where: Where, problems: Problems) -> str | None:
    """A value: a string that is not empty and has a UTF-8 form; else None and a bad row."""
    if not isinstance(entry, str):
        problems.bad("not_text", f"{where} has {name} of type {type(entry).__name__}; expected a string; correct it")
    elif not entry.strip():
        problems.bad("empty", f"{where} has an empty {name}; expected a value; fill or delete it")
    elif _SURROGATE.search(entry):
        problems.bad("undecodable", f"{where} has half a surrogate pair in {name}; expected Unicode; correct it")
    else:
        return entry
    return None


def weight_of(entry: object, name: str, where: Where, problems: Problems) -> float | None:
    """A finite number >= 0; else None and a bad row."""
    number = _number(entry)
    if number is None:
        problems.bad("weight", f"{where} has {name} that is no number; expected how often it occurs; correct it")
    elif not math.isfinite(number) or number < 0:
        problems.bad("weight", f"{where} has {name} {number:g}; expected a finite number, 0 or more; correct it")
    else:
        return number
    return None


def listed_few(names: Iterable[str]) -> str:
    """The names of segments or kinds for an error message; their number only, if they are too many to be such names."""
    found = list(names)
    if len(found) > _FEW:
        return f"{len(found)} different names, not shown (is this the right column?)"
    return listed(found)


def _number(entry: object) -> float | None:
    if isinstance(entry, bool) or not isinstance(entry, str | int | float):
        return None
    try:
        return float(entry)
    except (ValueError, OverflowError):
        return None


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def _json_rows(
    file: Iterable[bytes], columns: tuple[str, ...], problems: Problems, optional: tuple[str, ...]
) -> Iterator[tuple[Where, tuple[object, ...]]]:
    for number, _, line in numbered_lines(file):
        where = f"line {number}"
        if line.isspace() or (text := decoded(line, where, problems)) is None:
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            problems.bad("malformed", f"{where} is not one JSON object; expected one a line; correct it")
            continue
        lacking = [name for name in columns if name not in row]
        if lacking:
            problems.bad("missing", f"{where} has no field {lacking[0]!r}; it has: {listed(row)}; name one of these")
            continue
        yield where, tuple(row.get(name) for name in (*columns, *optional))


def _cell_rows(
    file: Iterable[bytes], delimiter: str, columns: tuple[str, ...], problems: Problems, optional: tuple[str, ...]
) -> Iterator[tuple[Where, tuple[object, ...]]]:
    rows = _split_lines(file, delimiter, problems)
    _, header = next(rows, ("line 1", []))
    for name in columns:
        if name not in header:
            raise SourceError(f"{problems.path} has no column {name!r}; it has: {listed(header)}; name one of these")
    places = [header.index(name) if name in header else None for name in (*columns, *optional)]
    for where, cells in rows:
        if len(cells) != len(header):
            found = f"{len(cells)} cells, the header has {len(header)}"
            problems.bad("malformed", f"{where} has {found}; expected as many; correct it")
        else:
            yield where, tuple(None if place is None else cells[place] for place in places)


def _split_lines(file: Iterable[bytes], delimiter: str, problems: Problems) -> Iterator[tuple[Where, list[str]]]:
    """The cells of each line that is not empty, the header's among them."""
    for number, _, line in numbered_lines(file):
        where = f"line {number}"
        if number == 1 and bad_byte(line) is not None:
            raise SourceError(f"{problems.path}: the header line is not UTF-8; expected UTF-8; convert the file")
        text = decoded(line, where, problems)
        if not text:
            continue
        if delimiter == "\t":
            yield where, text.split("\t")
            continue
        try:
            yield where, next(csv.reader([text], strict=True))
        except csv.Error:
            problems.bad(
                "malformed", f'{where} is not valid CSV; expected one row a line, " doubled in quotes; correct it'
            )
