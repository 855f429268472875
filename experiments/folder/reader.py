"""Reading a run folder: the only functions that open its files, and a list of those that they may open.

    files = RunFiles(Path("runs/town/seed0-1a2b3c4d"))
    files.json(FACTS)["seed"]
    files.rows(METRICS)

A page is meant to be shown around, so what can reach it is decided by name (layout.SHOWN): numbers, configuration, and
texts that a model wrote; of oracle/ nothing where `oracle` is false. `everything` reads without a list, for the run
itself.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from experiments.folder import layout
from experiments.folder.damage import StoreError, mending


class CompareError(StoreError):
    """Runs cannot be compared; the message says which and why, in one line."""


@dataclass(frozen=True)
class RunFiles:
    """Files of the run folder at `path`; with `oracle` false, those under oracle/ do not exist.

    `may`: a pattern of the names that can be read (None: all). A damaged file raises `error`, whose message ends with
    what to do, and `otherwise`.
    """

    path: Path
    oracle: bool = True
    may: re.Pattern[str] | None = layout.SHOWN
    error: type[StoreError] = CompareError
    otherwise: str = ", or leave this run out"

    @classmethod
    def everything(cls, path: Path) -> RunFiles:
        """All files, for the run itself. Raises StoreError, from any method, for a damaged one."""
        return cls(path, may=None, error=StoreError, otherwise="")

    def has(self, name: str) -> bool:
        """Whether the file is there (and may be read)."""
        place = self._place(name)
        return (self.oracle or not layout.is_truth(name)) and place.is_file()

    def arms(self) -> list[str]:
        """Names of the arms beside the run: the ceiling without noise, the floor without signal."""
        return layout.arms(self.path) if self.oracle else []

    def content(self, name: str) -> Any:
        """Any JSON."""
        raw = self.bytes(name)
        try:
            return json.loads(raw)
        except ValueError:
            raise self.damaged(name, "not JSON") from None

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        content = self.content(name)
        if not isinstance(content, dict):
            raise self.damaged(name, "not a JSON object")
        return content

    def yaml(self, name: str) -> dict[str, Any]:
        """A YAML mapping."""
        raw = self.bytes(name)
        try:
            content = yaml.safe_load(raw)
        except (yaml.YAMLError, ValueError):
            raise self.damaged(name, "not YAML") from None
        if not isinstance(content, dict):
            raise self.damaged(name, "not a YAML mapping")
        return content

    def text_rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file, as text."""
        raw = self.bytes(name)
        try:
            return list(csv.DictReader(io.StringIO(raw.decode("utf-8")), strict=True, restval=""))
        except (UnicodeDecodeError, csv.Error):
            raise self.damaged(name, "not CSV in UTF-8") from None

    def rows(self, name: str) -> list[dict[str, float]]:
        """The rows of a CSV file of numbers; empty and other cells are left out."""
        return [
            {key: number for key, value in row.items() if key and (number := _number(value)) is not None}
            for row in self.text_rows(name)
        ]

    def table(self, name: str) -> pa.Table:
        """A Parquet table."""
        raw = self.bytes(name)
        try:
            return pq.read_table(pa.BufferReader(raw), page_checksum_verification=True)
        except (pa.ArrowException, OSError):
            raise self.damaged(name, "not Parquet") from None

    def array(self, name: str) -> NDArray[Any]:
        """A NumPy array."""
        raw = self.bytes(name)
        try:
            found: NDArray[Any] = np.load(io.BytesIO(raw), allow_pickle=False)
        except (ValueError, EOFError, OSError):
            raise self.damaged(name, "not a NumPy array") from None
        return found

    def _place(self, name: str) -> Path:
        if self.may is not None and not self.may.fullmatch(name):
            raise ValueError(f"name is {name!r}; here only these are read: {self.may.pattern}")
        return self.path / name

    def bytes(self, name: str) -> bytes:
        """The file as it is."""
        place = self._place(name)
        if not self.oracle and layout.is_truth(name):
            raise ValueError(f"name is {name!r}; this comparison was asked for released numbers only")
        try:
            return place.read_bytes()
        except OSError as error:
            raise self.damaged(name, error.strerror or error.__class__.__name__) from None

    def damaged(self, name: str, why: str) -> StoreError:
        """The error for a file that is not what it should be."""
        todo = f"{mending(self.path, name)}{self.otherwise}"
        return self.error(f"{self.path / name} cannot be read ({why}); {todo}")


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if np.isfinite(number) else None
