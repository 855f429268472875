"""Which files of a run folder a comparison may read, and the only functions that open them.

    files = RunFiles(Path("runs/town/seed0-1a2b3c4d"))
    files.json("run.json")["seed"]
    files.rows("metrics.csv")

A page is meant to be shown around, so what can reach it is decided here, by name: numbers, configuration, and texts
that a model wrote. Of oracle/ only arrays and tables of numbers are on the list; a report log, for instance, is not.
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

from experiments.damage import mending
from experiments.store import StoreError

READABLE = re.compile(
    r"config\.yaml|run\.json|privacy\.json|metrics\.csv|timings\.csv"
    r"|rounds/\d{3}/(round\.json|corpus\.parquet|estimate\.parquet|embeddings\.npy|next_weights\.npy)"
    # simulation only, numbers only
    r"|oracle/metrics\.csv|rounds/\d{3}/oracle/votes\.npy"
    r"|oracle/arms/[a-z_]+/(oracle/)?metrics\.csv"
)


class CompareError(StoreError):
    """Runs cannot be compared; the message says which and why, in one line."""


def is_oracle(name: str) -> bool:
    """Whether a file holds noise-free truth, which only a simulation knows."""
    return "oracle" in name.split("/")


@dataclass(frozen=True)
class RunFiles:
    """The readable files of the run folder at `path`. With `oracle` false, those under oracle/ do not exist."""

    path: Path
    oracle: bool = True

    def has(self, name: str) -> bool:
        """Whether the file is there (and may be read)."""
        return self._place(name).is_file() and (self.oracle or not is_oracle(name))

    def arms(self) -> list[str]:
        """Names of the arms beside the run: the ceiling without noise, the floor without signal."""
        folder = self.path / "oracle" / "arms"
        if not self.oracle or not folder.is_dir():
            return []
        return sorted(arm.name for arm in folder.iterdir() if (arm / "metrics.csv").is_file())

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        raw = self._bytes(name)
        try:
            content = json.loads(raw)
        except ValueError:
            raise self.damaged(name, "not JSON") from None
        if not isinstance(content, dict):
            raise self.damaged(name, "not a JSON object")
        return content

    def yaml(self, name: str) -> dict[str, Any]:
        """A YAML mapping."""
        raw = self._bytes(name)
        try:
            content = yaml.safe_load(raw)
        except (yaml.YAMLError, ValueError):
            raise self.damaged(name, "not YAML") from None
        if not isinstance(content, dict):
            raise self.damaged(name, "not a YAML mapping")
        return content

    def text_rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file, as text."""
        raw = self._bytes(name)
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
        raw = self._bytes(name)
        try:
            return pq.read_table(pa.BufferReader(raw))
        except (pa.ArrowException, OSError):
            raise self.damaged(name, "not Parquet") from None

    def array(self, name: str) -> NDArray[Any]:
        """A NumPy array."""
        raw = self._bytes(name)
        try:
            found: NDArray[Any] = np.load(io.BytesIO(raw), allow_pickle=False)
        except (ValueError, EOFError, OSError):
            raise self.damaged(name, "not a NumPy array") from None
        return found

    def _place(self, name: str) -> Path:
        if not READABLE.fullmatch(name):
            raise ValueError(f"name is {name!r}; a comparison reads only {READABLE.pattern}")
        return self.path / name

    def _bytes(self, name: str) -> bytes:
        place = self._place(name)
        if not self.oracle and is_oracle(name):
            raise ValueError(f"name is {name!r}; this comparison was asked for released numbers only")
        try:
            return place.read_bytes()
        except OSError as error:
            raise self.damaged(name, error.strerror or error.__class__.__name__) from None

    def damaged(self, name: str, why: str) -> CompareError:
        """The error for a file that is not what it should be."""
        return CompareError(
            f"{self.path / name} cannot be read ({why}); {mending(self.path, name)}, or leave this run out"
        )


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if np.isfinite(number) else None
