"""Weights & Biases: offline runs beside the run folders, to be synced when and where you like.

    tracker = WandbTracker(runs="runs")                  # runs/wandb/offline-run-...-KEY
    wandb sync runs/wandb/offline-run-*

An offline run cannot be looked at before it is synced, cannot be read back, and loses what it buffers when its process
is killed. So all rounds are written at the end of the run, and what was written is then kept in
runs/wandb/synthpoll-KEY.json; a killed run writes them when it is continued. Code, git state, command line, terminal
output and facts about the machine, which the package collects by itself, are off.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.trackers.tracker import Rows, Status, TrackedRun, agrees, artifacts, check_oracle, require


@dataclass(frozen=True, kw_only=True)
class WandbTracker:
    """`runs` is the folder of the runs; `oracle` as in Tracker. Raises ValueError unless that is true or false."""

    runs: str
    oracle: bool = False

    def __post_init__(self) -> None:
        check_oracle(self.oracle)

    def check(self) -> None:
        """Raise TrackerError if wandb is not installed."""
        require("wandb", "wandb")

    def describe(self) -> str:
        """How to send the runs."""
        return f"Weights & Biases, offline; to send: wandb sync {self._folder / 'wandb'}/offline-run-*"

    @property
    def _folder(self) -> Path:
        return Path(self.runs).expanduser().resolve()

    def start(self, run: TrackedRun, rows: Rows) -> WandbLog:
        """Continue the run of this key if it agrees with `rows`, or begin one under another id."""
        memory = self._folder / "wandb" / f"synthpoll-{run.key}.json"
        attempt, logged = 1, dict[int, Mapping[str, float]]()
        if memory.is_file():
            kept = json.loads(memory.read_text(encoding="utf-8"))
            attempt, logged = kept["attempt"], {int(number): row for number, row in kept["rounds"].items()}
        if not agrees(logged, rows):
            attempt, logged = attempt + 1, {}
        return WandbLog(self._folder, run, memory, attempt, logged)


class WandbLog:
    """One wandb run, written at the end if there is something to write; `logged` are the rounds that it holds."""

    def __init__(
        self, runs: Path, run: TrackedRun, memory: Path, attempt: int, logged: Mapping[int, Mapping[str, float]]
    ) -> None:
        self._runs, self._tracked, self._memory, self._attempt = runs, run, memory, attempt
        self._logged, self._new = dict(logged), dict[int, Mapping[str, float]]()
        self._released: Path | None = None

    @property
    def rounds(self) -> set[int]:
        """The rounds that were logged."""
        return set(self._logged | self._new)

    def log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        """A step, written by `finish`."""
        self._new[round] = dict(metrics)

    def log_artifacts(self, folder: Path) -> None:
        """Files of the run, written by `finish`."""
        self._released = folder

    def finish(self, status: Status) -> None:
        """Write the run, or this part of it, and then the memory of it."""
        if not self._new:
            return
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # crash reports to the package's makers
        import wandb

        run = self._begin(wandb)
        for number, metrics in self._new.items():
            run.log(dict(metrics), step=number)
        if self._released is not None:
            self._copy(run, self._released)
        run.finish(exit_code=0 if status == "finished" else 1)
        wandb.teardown()  # the file is written by a process of its own: only now is it whole
        content = {"attempt": self._attempt, "rounds": self._logged | self._new}
        scratch = self._memory.with_suffix(".writing")
        scratch.write_text(json.dumps(content), encoding="utf-8")
        scratch.replace(self._memory)

    def _copy(self, run: Any, folder: Path) -> None:
        """Copies: what wandb itself would keep in offline mode is a link into the run folder."""
        for path in artifacts(folder):
            target = Path(run.dir) / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            run.save(str(target), base_path=run.dir, policy="end")

    def _begin(self, wandb: Any) -> Any:
        (self._runs / "wandb").mkdir(parents=True, exist_ok=True)
        tracked, again = self._tracked, "" if self._attempt == 1 else f"-{self._attempt}"
        return wandb.init(
            project=tracked.experiment,
            id=f"{tracked.key}{again}",
            name=tracked.name,
            notes=tracked.note,
            group=None if tracked.sweep is None else tracked.sweep.name,
            config=dict(tracked.parameters),
            dir=str(self._runs),
            mode="offline",
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_code=True,
                disable_git=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
