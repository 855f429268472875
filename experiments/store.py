"""The run folder: everything a run leaves, readable without the program.

    config.yaml  run.json  metrics.csv  timings.csv  privacy.json  privacy.md: what was revealed about one device
    rounds/000/  corpus.parquet embeddings.npy tally.npz estimate.parquet metrics.json
                 oracle/       noise-free truth: simulation only, never released
                 round.json    written last: its existence means that the round is complete
    dataset/     the released data set

Every file is written under a scratch name, flushed and renamed, so a killed run leaves whole files or none. Nothing in
the folder holds a time of day except timings.csv; a resumed run ends with the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_SCRATCH = ".writing-"


class StoreError(RuntimeError):
    """A run folder cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class RunFolder:
    """A run folder at `path`."""

    path: Path

    @contextmanager
    def opened(self, config: str) -> Iterator[RunFolder]:
        """Create or continue the folder, locked against other processes.

        Raises StoreError if it cannot be written, is in use, or was made with another configuration.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY)
            probe = self.path / f"{_SCRATCH}probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"cannot write to the run folder {self.path} ({error.strerror}); choose another with out=DIR"
            ) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"another process is using the run folder {self.path}; wait for it or use out=DIR"
                ) from None
            for leftover in self.path.rglob(f"{_SCRATCH}*"):
                leftover.unlink()
            self._check_config(config)
            yield self
        finally:
            os.close(descriptor)

    def _check_config(self, config: str) -> None:
        path = self.path / "config.yaml"
        if not path.exists():
            if any(self.path.iterdir()):
                raise StoreError(f"{self.path} is not empty and not a run folder; choose another with out=DIR")
            self.write_text("config.yaml", config)
            return
        before = path.read_text(encoding="utf-8")
        if before != config:
            old, new = (set(text.splitlines()) for text in (before, config))
            changed = "; ".join(
                [f"was '{line.strip()}'" for line in before.splitlines() if line not in new]
                + [f"now '{line.strip()}'" for line in config.splitlines() if line not in old]
            )
            raise StoreError(f"{self.path} holds a run with another configuration ({changed}); choose another out=DIR")

    def completed_rounds(self) -> int:
        """How many rounds, from the first on, are complete."""
        number = 0
        while (self.round(number) / "round.json").exists():
            number += 1
        return number

    def round(self, number: int) -> Path:
        """The folder of a round."""
        return self.path / "rounds" / f"{number:03d}"

    def relative(self, path: Path) -> str:
        """A path inside the folder, as the write methods take it."""
        return str(path.relative_to(self.path))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(_SCRATCH + path.name)
        try:
            with scratch.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"cannot write {path} ({error.strerror}); complete rounds are kept: free space or permission, then run "
                "the same command again"
            ) from None
        scratch.replace(path)

    def write_text(self, name: str, content: str) -> None:
        """Write UTF-8 text."""
        self.write_bytes(name, content.encode())

    def write_json(self, name: str, content: Any) -> None:
        """Write JSON with sorted keys."""
        self.write_text(name, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write Parquet."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def write_array(self, name: str, array: np.ndarray[Any, Any]) -> None:
        """Write npy."""
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        self.write_bytes(name, buffer.getvalue())

    def write_arrays(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Write npz. numpy stamps its members with a fixed date, so equal arrays give equal bytes."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        self.write_bytes(name, buffer.getvalue())

    def write_csv(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows with the union of their columns, in order of first appearance."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(name, text.getvalue())

    def read_json(self, name: str) -> Any:
        """Read JSON. Raises StoreError for a damaged file."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self.path / name} cannot be read ({error.__class__.__name__}); delete its round folder and those "
                "after it, then run the same command again"
            ) from None
