"""Which reader reads what is at a path: by the format that is named, or by its suffix, its first bytes, its folder.

    chosen = TABLES.of(path)                 # 'jsonl', 'csv', 'parquet' or 'huggingface'
    TABLES.readers[chosen](path, rows)

| format      | what it is                                                             |
|-------------|------------------------------------------------------------------------|
| jsonl       | .jsonl, .ndjson, .json (also .gz): one JSON object a line              |
| csv         | .csv (also .gz): UTF-8, commas, a header line                          |
| parquet     | .parquet                                                               |
| huggingface | a folder from save_to_disk, or with .parquet, .jsonl or .csv in it     |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from synth.rows.files import SourceError, open_bytes
from synth.rows.huggingface import holds_dataset, read_huggingface
from synth.rows.tables import read_csv, read_jsonl, read_parquet
from synth.rows.taking import Rows

R = TypeVar("R", bound=Rows)


@dataclass(frozen=True, kw_only=True)
class Formats(Generic[R]):
    """The formats that somebody reads, and how they are told apart.

    `readers` gives the reader of each format; `suffixes` the format of a file's suffix and `starts` that of its first
    bytes, where the suffix says nothing; `folders` what a folder of each format looks like, in the order in which it is
    asked; `without` names what a folder of none of them lacks.
    """

    readers: Mapping[str, Callable[[Path, R], None]]
    suffixes: Mapping[str, str]
    starts: Mapping[bytes, str]
    folders: Mapping[str, Callable[[Path], bool]]
    without: str

    def of(self, path: Path, format: str = "auto") -> str:
        """The format of what is at `path`, which exists. Raises SourceError if it is of none, or not of `format`."""
        if format != "auto":
            return self._checked(path, format)
        return self._of_folder(path) if path.is_dir() else self._of_file(path)

    def _checked(self, path: Path, format: str) -> str:
        if format not in self.readers:
            raise SourceError(f"format is {format!r}; expected auto or one of {', '.join(self.readers)}")
        if path.is_dir() != (format in self.folders):
            found, expected = ("folder", "file") if path.is_dir() else ("file", "folder")
            raise SourceError(
                f"{path} is a {found}; format {format} expects a {expected}; check the path or the format"
            )
        return format

    def _of_file(self, path: Path) -> str:
        suffix = Path(path.name.lower().removesuffix(".gz")).suffix
        if suffix in self.suffixes:
            return self.suffixes[suffix]
        with open_bytes(path) as file:
            start = file.read(max(map(len, self.starts)))
        for beginning, format in self.starts.items():
            if start.startswith(beginning):
                return format
        raise self._unknown(path, f"a file with the suffix {suffix or 'none'}")

    def _of_folder(self, path: Path) -> str:
        for format, looks_so in self.folders.items():
            if looks_so(path):
                return format
        raise self._unknown(path, f"a folder without {self.without}")

    def _unknown(self, path: Path, found: str) -> SourceError:
        expected = f"expected one of {', '.join(self.readers)}; name it with format=..."
        return SourceError(f"{path} is {found}: unknown format; {expected}")


TABLES: Formats[Rows] = Formats(
    readers={"jsonl": read_jsonl, "csv": read_csv, "parquet": read_parquet, "huggingface": read_huggingface},
    suffixes={".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet"},
    starts={b"PAR1": "parquet"},
    folders={"huggingface": holds_dataset},
    without="data files",
)
