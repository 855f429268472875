"""What a sweep folder says about its runs: sweep.json, written by experiments/sweep.py.

sweep = read_sweep(Path("runs/town/sweep-1a2b3c4d"))
sweep.overrides                      # {'epsilon': ('1', '2'), 'seed': ('0', '1'), 'experiment': ('town',)}
sweep.members[0].label, sweep.members[0].status, sweep.members[0].folder    # 'epsilon=1 seed=0', 'complete', Path
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from experiments.folder.layout import SWEEP
from experiments.folder.reader import CompareError

Status = Literal["planned", "begun", "complete", "failed"]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One run of a sweep: the `values` of the keys that are swept over, as they were typed.

    `folder` is None as long as it is not known; `error` says in one line why it failed.
    """

    values: Mapping[str, str]
    status: Status = "planned"
    folder: Path | None = None
    error: str | None = None

    @property
    def label(self) -> str:
        """'epsilon=1 seed=0'."""
        return " ".join(f"{key}={value}" for key, value in self.values.items()) or "the only run"

    @property
    def absence(self) -> str:
        """Why a run of this status may not be there as a whole."""
        return {
            "planned": "not begun yet",
            "begun": "begun, and stopped or still at work",
            "complete": "its run folder is gone",
            "failed": f"failed: {self.error}",
        }[self.status]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The `overrides` of the command, every key with all its values, and the members that they make."""

    overrides: Mapping[str, tuple[str, ...]]
    members: tuple[Member, ...]


def is_sweep(folder: Path) -> bool:
    """Whether a folder is a sweep folder."""
    return (folder / SWEEP).is_file()


def read_sweep(folder: Path) -> Sweep:
    """The sweep of a folder. Raises CompareError if its sweep.json is damaged."""
    path = folder / SWEEP
    try:
        content = json.loads(path.read_bytes())
        return Sweep(
            overrides={str(key): tuple(map(str, values)) for key, values in content["overrides"].items()},
            members=tuple(_member(folder, entry) for entry in content["runs"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CompareError(
            f"{path} is damaged and cannot be read ({type(error).__name__}); delete it and give the sweep's command "
            "again, or name the run folders themselves"
        ) from None


def _member(folder: Path, entry: Mapping[str, Any]) -> Member:
    values, status, place, error = (entry[key] for key in ("values", "status", "folder", "error"))
    if status not in get_args(Status) or not isinstance(values, dict):
        raise ValueError
    return Member(
        values={str(key): str(value) for key, value in values.items()},
        status=status,
        folder=None if place is None else Path(os.path.normpath(folder / str(place))),
        error=None if error is None else str(error),
    )
