"""The run folder: everything a run leaves, readable without the program (experiments/folder/layout.py has the names).

    with RunFolder(path).opened(config) as folder:      # locked, checked, and swept of what a killed run left
        folder.write_json("run.json", {"seed": 0})

Every file is written under a scratch name, flushed and renamed, so a killed run leaves whole files or none. Nothing in
the folder holds a time of day except timings.csv; a resumed run ends with the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from experiments.folder import layout
from experiments.folder.damage import UNREADABLE, StoreError, mending, read_whole
from experiments.folder.layout import Round, Step
from experiments.folder.reader import RunFiles

__all__ = ["RunFolder", "StoreError"]

_SCRATCH = ".writing-"


@dataclass(frozen=True)
class RunFolder:
    """A run folder at `path`."""

    path: Path

    @classmethod
    def of(cls, *, out: str | None, runs: str, name: str, seed: int, digest: str) -> RunFolder:
        """A job's folder: `out`, or RUNS/NAME/seedN-DIGEST; `digest` is the short one of its configuration."""
        return cls(Path(out) if out else Path(runs) / name / f"seed{seed}-{digest}")

    @contextmanager
    def opened(self, config: str) -> Iterator[RunFolder]:
        """Create or continue the folder, locked against other processes.

        Raises StoreError if it cannot be written, is in use, was made with another configuration, or holds a damaged
        file that would be kept.
        """
        what = f"cannot write to the run folder {self.path}"
        todo = "free space or allow writing and run the same command again, or choose another with out=DIR"
        with self._explained(what, todo):
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY)
        try:
            self._lock(descriptor)
            self._check_config(config)
            with self._explained(what, todo):
                probe = self.path / f"{_SCRATCH}probe"
                probe.touch()
                # Only now: in a folder of something else, such names may mean something else.
                for leftover in self.path.rglob(f"{_SCRATCH}*"):
                    leftover.unlink()
            for place in (self.path, *sorted(self.path.glob(f"{layout.ARMS}/*"))):
                RunFolder(place)._check_kept()
                with self._explained(what, todo):
                    RunFolder(place)._forget_later_rounds()
            yield self
        finally:
            os.close(descriptor)

    @contextmanager
    def reopened(self) -> Iterator[RunFolder]:
        """The folder of a run that was begun, `opened` with the configuration that it has: for what is added to it.

        Raises StoreError as `opened`, and if the run's statement is not about this configuration.
        """
        path = self.path / layout.CONFIG
        try:
            config = path.read_bytes().decode()
        except (OSError, ValueError) as error:
            raise self._damaged(path, type(error).__name__) from None
        if not self._began_with(config):
            raise StoreError(
                f"{self.path / layout.STATEMENT} is no statement about {path}; give the run's command again, which "
                "writes it or says what to mend"
            )
        with self.opened(config) as folder:
            yield folder

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"another process is using the run folder {self.path}; wait for it or use out=DIR"
            ) from None
        except OSError as error:
            raise StoreError(
                f"the run folder {self.path} cannot be locked ({error.strerror}); choose one on a local disk with "
                "out=DIR"
            ) from None

    def _check_config(self, config: str) -> None:
        path = self.path / layout.CONFIG
        if not path.exists():
            others = any(not entry.name.startswith(_SCRATCH) for entry in self.path.iterdir())
            if others and not self._began_with(config):
                raise StoreError(f"{self.path} is not empty and not a run folder; choose another with out=DIR")
            self.write_text(layout.CONFIG, config)
            return
        try:
            before = path.read_bytes()
            if before == config.encode():
                return
            old = yaml.load(before, yaml.BaseLoader)  # makes strings only, as they are written
        except (OSError, ValueError, yaml.YAMLError):
            old = None
        if self._began_with(config):
            raise self._damaged(path, "not what the run was begun with")
        if not isinstance(old, dict):
            raise StoreError(f"{path} cannot be read (damaged); restore it, or choose another folder with out=DIR")
        begun, wanted = (given.get("_target_") for given in (old, yaml.load(config, yaml.BaseLoader)))
        if begun and wanted and begun != wanted:
            raise StoreError(
                f"{self.path} holds a run of another kind or of an earlier version (_target_: {begun} -> {wanted}), "
                "which cannot be continued; choose another folder with out=DIR"
            )
        raise StoreError(
            f"{self.path} holds a run with another configuration ({_changes(old, config)}); choose another with out=DIR"
        )

    def _began_with(self, config: str) -> bool:
        """Whether the run's statement names this configuration."""
        try:
            named = json.loads((self.path / layout.STATEMENT).read_bytes())["run"]["configuration_sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return bool(named == hashlib.sha256(config.encode()).hexdigest())

    def _check_kept(self) -> None:
        """Read all that a resumed run keeps and does not write again. Raises StoreError for what is damaged."""
        for name in (layout.FACTS, layout.DEVICES, layout.AUDIT):
            if (self.path / name).exists():
                self.read_json(name)
        done = self.completed_rounds()
        for number in range(done):
            step = Round(number)
            more = {path for path in (self.path / step.place).rglob("*") if path.is_file()}
            for path in sorted(more | {self.path / name for name in step.kept}):
                self._check(path)
        if (start := self.path / Round(done).corpus).exists():
            self._check(start)
        if (self.path / Round(0).place).exists() and (self.path / layout.SEED_CORPUS).exists():
            self.read_json(layout.SEED_CORPUS)

    def _forget_later_rounds(self) -> None:
        """Rounds behind a gap are played again; until then nobody, such as the page, shall take them for complete."""
        complete = {self.path / Round(number).mark for number in range(self.completed_rounds())}
        for mark in layout.rounds(self.path):
            if mark not in complete:
                mark.unlink()

    def completed_rounds(self) -> int:
        """How many rounds, from the first on, are complete and have left the corpus of the next."""
        number = 0
        while self.is_complete(Round(number)) and self.has(Round(number + 1).corpus):
            number += 1
        return number

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).exists()

    def is_complete(self, step: Step) -> bool:
        """Whether everything of this step is on disk."""
        return self.has(step.mark)

    def relative(self, path: Path) -> str:
        """A path inside the folder, as the write methods take it."""
        return str(path.relative_to(self.path))

    def write_bytes(self, name: str, content: bytes, mode: int = 0o666) -> None:
        """Write a file whole or not at all. Raises StoreError if the disk is full or refuses."""
        path = self.path / name
        scratch = path.with_name(_SCRATCH + path.name)
        todo = "what is complete is kept: free space or allow writing, then run the same command again"
        with self._explained(f"cannot write {path}", todo):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(scratch, "wb", opener=lambda at, flags: os.open(at, flags, mode)) as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                scratch.replace(path)
            except OSError:
                with suppress(OSError):
                    scratch.unlink()  # a full disk needs the space
                raise

    def write_secret(self, name: str, content: str) -> None:
        """Write text that its owner alone can read."""
        self.write_bytes(name, content.encode(), mode=0o600)

    def write_text(self, name: str, content: str) -> None:
        """Write UTF-8 text."""
        self.write_bytes(name, content.encode())

    def write_json(self, name: str, content: Any) -> None:
        """Write JSON with sorted keys."""
        self.write_text(name, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write Parquet, with checksums."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, write_page_checksum=True)
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

    @property
    def files(self) -> RunFiles:
        """All files, to read."""
        return RunFiles.everything(self.path)

    def read_json(self, name: str) -> Any:
        """Read JSON. Raises StoreError for a damaged file."""
        return self.files.content(name)

    @contextmanager
    def _explained(self, what: str, todo: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{what} ({error.strerror}); {todo}") from None

    def _check(self, path: Path) -> None:
        """Raise StoreError if a file of a complete round is damaged or missing."""
        try:
            read_whole(path)
        except UNREADABLE as error:
            raise self._damaged(path, type(error).__name__) from None

    def _damaged(self, path: Path, why: str) -> StoreError:
        todo = mending(self.path, self.relative(path))
        return StoreError(f"{path} cannot be read (damaged: {why}); {todo}")


def _changes(old: Mapping[str, Any], config: str) -> str:
    """'epsilon: 4.0 -> 2.0; arms: [] -> [no_privacy]': what differs, by full name, as it is written."""
    before = _flat(old)
    now = _flat(yaml.load(config, yaml.BaseLoader))
    return (
        "; ".join(
            f"{key}: {before.get(key, '(absent)')} -> {now.get(key, '(absent)')}"
            for key in dict.fromkeys([*before, *now])
            if before.get(key) != now.get(key)
        )
        or "the same values in another order"
    )


def _flat(node: Any, name: str = "") -> dict[str, str]:
    """A configuration of strings as {'mechanism.epsilon': '4.0'}; lists of plain values stay in one piece."""
    if isinstance(node, dict) and node:
        entries = [(f"{name}.{key}" if name else str(key), value) for key, value in node.items()]
    elif isinstance(node, list) and any(isinstance(value, dict | list) for value in node):
        entries = [(f"{name}.{position}", value) for position, value in enumerate(node)]
    else:
        return {name: f"[{', '.join(node)}]" if isinstance(node, list) else "{}" if node == {} else str(node)}
    return {key: value for entry in entries for key, value in _flat(entry[1], entry[0]).items()}
