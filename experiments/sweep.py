"""The sweep folder: which runs a sweep consists of and how they ended, in sweep.json, and the pages that compare them.

    sweep = SweepFolder(path=Path("runs/town/sweep-1a2b"), overrides={"seed": ("0", "1")}, values=[{"seed": "0"}, ...])
    with sweep.opened():
        sweep.record(0, "begun", Path("runs/town/seed0-5e6f7a8b"))     # by whichever process carries the run out
        sweep.record(0, "complete", Path("runs/town/seed0-5e6f7a8b"))
    sweep.collect(Console())

Runs stay where a run alone would be, so that sweeps share them; the sweep folder only lists them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from experiments.compare.find import find_runs
from experiments.compare.groups import Group, KindsError, group_runs
from experiments.compare.load import load_run
from experiments.compare.metrics import find_metric
from experiments.compare.page import write_comparison
from experiments.compare.sweeps import Member, Status, is_sweep, read_sweep
from experiments.compare.table import print_comparison
from experiments.folder.layout import CONFIG, ORACLE, PAGE, SWEEP
from experiments.folder.layout import truth as truth_of
from experiments.folder.store import RunFolder, StoreError

_LOCK = ".sweep.lock"
_ASKED = "multirun.yaml"
"""What Hydra was asked, which Hydra writes; it holds the id of a watched device."""


def digest_of(overrides: Mapping[str, Sequence[str]]) -> str:
    """A short digest of a sweep: of its overrides in whatever order they were given."""
    sets = {key: sorted(values) for key, values in overrides.items()}
    return hashlib.sha256(json.dumps(sets, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class SweepFolder:
    """The sweep of `overrides`, every key with all its values, in the folder `path`.

    `values` has an entry for each run: the keys that are swept over, with the values that this run takes.
    """

    path: Path
    overrides: Mapping[str, Sequence[str]]
    values: Sequence[Mapping[str, str]]

    @property
    def of_hydra(self) -> Path:
        """Where Hydra writes. It keeps every word of the command, so it is where the devices' ids may be."""
        return self.path / ORACLE

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Create or continue the folder, locked against a second process that would work on the same sweep.

        Raises StoreError if it cannot be written, is in use, or holds something else.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise StoreError(
                f"cannot write to the sweep folder {self.path} ({error.strerror}); choose another with out=DIR"
            ) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"another process is working on the sweep {self.path}; wait for it or use out=DIR"
                ) from None
            self._check()
            (self.path / _ASKED).unlink(missing_ok=True)  # of earlier versions
            yield
        finally:
            os.close(descriptor)

    def _check(self) -> None:
        if not is_sweep(self.path):
            # What a sweep leaves that was stopped before its first run.
            left = {self.path / _LOCK, self.path / _ASKED, self.of_hydra, self.of_hydra / _ASKED}
            if not left.issuperset([*self.path.iterdir(), *self.of_hydra.glob("*")]):
                raise StoreError(f"{self.path} is not empty and not a sweep folder; choose another with out=DIR")
            return
        before = read_sweep(self.path).overrides
        if digest_of(before) != digest_of(self.overrides):
            keys = [
                key
                for key in dict.fromkeys([*before, *self.overrides])
                if sorted(before.get(key, ())) != sorted(self.overrides.get(key, ()))
            ]
            changed = "; ".join(
                f"{key}: {','.join(before.get(key, ('(absent)',)))} -> "
                f"{','.join(self.overrides.get(key, ('(absent)',)))}"
                for key in keys
            )
            raise StoreError(f"{self.path} holds another sweep ({changed}); choose another folder with out=DIR")

    def read(self) -> tuple[Member, ...]:
        """The runs in the order of `values`. What sweep.json does not say of one is that it is planned."""
        known = {_key(member.values): member for member in read_sweep(self.path).members} if is_sweep(self.path) else {}
        return tuple(known.get(_key(values), Member(values=values)) for values in self.values)

    def restart(self) -> tuple[Member, ...]:
        """The runs, of which those that are not complete count as planned again."""
        with self._changing() as members:
            for number, member in enumerate(members):
                if member.status != "complete":
                    members[number] = replace(member, status="planned", error=None)
            return tuple(members)

    def number_of(self, overrides: Sequence[str]) -> int:
        """Which run has these overrides, as in ['seed=0', 'rounds=1']. Raises ValueError if none has."""
        for number, values in enumerate(self.values):
            if all(f"{key}={value}" in overrides for key, value in values.items()):
                return number
        raise ValueError(f"overrides are {list(overrides)}; expected those of a run of {self.path}")

    def is_complete(self, number: int, folder: Path, config: str) -> bool:
        """Whether the run was completed by this sweep before, and is still there with the same configuration."""
        member = self.read()[number]
        if member.status != "complete" or member.folder is None or member.folder.resolve() != folder.resolve():
            return False
        path = folder / CONFIG
        return path.is_file() and path.read_bytes() == config.encode()

    def record(self, number: int, status: Status, folder: Path | None, error: str | None = None) -> None:
        """Write down how a run stands. Any number of processes may do so at once."""
        with self._changing() as members:
            members[number] = replace(members[number], status=status, folder=folder, error=error)

    @contextmanager
    def _changing(self) -> Iterator[list[Member]]:
        """The runs, to be changed by one process at a time. A sweep of which no run has begun leaves no list."""
        with (self.path / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            members = list(self.read())
            yield members
            if is_sweep(self.path) or any(member.status != "planned" for member in members):
                self._write(members)

    def _write(self, members: Sequence[Member]) -> None:
        runs = [
            {
                "values": dict(member.values),
                "status": member.status,
                "folder": None if member.folder is None else os.path.relpath(member.folder, self.path),
                "error": member.error,
            }
            for member in members
        ]
        content = {"overrides": {key: list(values) for key, values in self.overrides.items()}, "runs": runs}
        RunFolder(self.path).write_text(SWEEP, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def forget(self) -> None:
        """Remove the folder of a sweep that never had a run."""
        if not is_sweep(self.path):
            for path in (self.path / _LOCK, self.of_hydra / _ASKED):
                path.unlink(missing_ok=True)
            if self.of_hydra.is_dir():
                self.of_hydra.rmdir()
            self.path.rmdir()

    def collect(self, console: Console) -> None:
        """Print the table of all runs that have a round or a key, and write the pages.

        report.html has released numbers only, oracle/report.html noise-free truth, too, as the pages of a run. Runs of
        different kinds have no common page; a line says so. Raises CompareError if there is nothing to compare.
        """
        found = find_runs([str(self.path)])
        try:
            told, repeated = self._groups(found.folders, oracle=True)
        except KindsError as error:
            console.print(Text(f"No page of all runs: {error}"), soft_wrap=True)
            return
        print_comparison(console, told, find_metric(told, None), left_out=[*found.left_out, *repeated])
        truth = all(run.truth for group in told for run in group.runs)
        if truth:
            (self.path / ORACLE).mkdir(exist_ok=True)
            write_comparison(told, self.path / truth_of(PAGE), twin=f"../{PAGE}")
        released, _ = self._groups(found.folders, oracle=False)
        write_comparison(released, self.path / PAGE, twin=truth_of(PAGE) if truth else None)
        console.print(f"Page: {self.path / (truth_of(PAGE) if truth else PAGE)}", soft_wrap=True)

    @staticmethod
    def _groups(folders: Sequence[Path], *, oracle: bool) -> tuple[list[Group], list[str]]:
        return group_runs([load_run(folder, oracle=oracle) for folder in folders])


def _key(values: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())
