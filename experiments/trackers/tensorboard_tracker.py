"""TensorBoard: event files beside the runs, written by TensorBoard's own package, without TensorFlow or torch.

    tracker = TensorboardTracker(runs="runs")            # runs/tensorboard/EXPERIMENT/RUN-KEY/
    tensorboard --logdir runs/tensorboard

The package that shows event files also writes and reads them, so one extra brings all three. (tensorboardX would be
smaller, but only writes; torch.utils.tensorboard uses this same writer, and needs torch.) A round is one record, with a
checksum: whole in the file or not there. What is there is read back before a run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.trackers.tracker import Rows, Status, TrackedRun, agrees, artifacts, as_text, check_oracle, require


@dataclass(frozen=True, kw_only=True)
class TensorboardTracker:
    """`runs` is the folder of the runs; `oracle` as in Tracker. Raises ValueError unless that is true or false."""

    runs: str
    oracle: bool = False

    def __post_init__(self) -> None:
        check_oracle(self.oracle)

    def check(self) -> None:
        """Raise TrackerError if TensorBoard is not installed."""
        require("tensorboard", "tensorboard")

    def describe(self) -> str:
        """How to look at it."""
        return f"TensorBoard: tensorboard --logdir {self._folder}"

    @property
    def _folder(self) -> Path:
        return Path(self.runs).expanduser().resolve() / "tensorboard"

    def start(self, run: TrackedRun, rows: Rows) -> TensorboardLog:
        """Continue the event folder of this key that agrees with `rows`, or begin another."""
        attempt = 1
        while True:
            again = "" if attempt == 1 else f"-{attempt}"
            folder = self._folder / run.experiment / f"{run.name}-{run.key}{again}"
            history = read_events(folder)
            if agrees(history, rows):
                return TensorboardLog(run, folder, set(history))
            attempt += 1


class TensorboardLog:
    """One folder of event files. Each process that has something to log adds a file; TensorBoard shows them as one."""

    def __init__(self, run: TrackedRun, folder: Path, rounds: set[int]) -> None:
        self._run, self._folder = run, folder
        self._events: Any = None
        self.rounds = rounds

    def log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        """One record with all scalars."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(Summary(value=values), round)
        self._events.flush()
        self.rounds.add(round)

    def log_artifacts(self, folder: Path) -> None:
        """The Markdown files as text; TensorBoard cannot show a page."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        if self._events is None:
            return  # all was logged before
        for path in artifacts(folder):
            if path.suffix == ".md":
                self._add(text_pb(path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")), 0)

    def finish(self, status: Status) -> None:
        """Close the file; TensorBoard knows no status."""
        if self._events is not None:
            self._events.close()

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if self._events is None:
            self._open()
        self._events.add_event(Event(step=step, wall_time=time.time(), summary=summary))

    def _open(self) -> None:
        """Begin a file, with the parameters for TensorBoard's table of runs."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events = EventFileWriter(str(self._folder))
        numbers = {name: value for name, value in self._run.parameters.items() if isinstance(value, int | float)}
        texts = {name: as_text(value) for name, value in self._run.parameters.items() if name not in numbers}
        self._add(hparams_pb(numbers | texts, trial_id=self._run.key), 0)


def read_events(folder: Path) -> dict[int, dict[str, float]]:
    """The scalars of each step in a folder of event files. A torn last record, left by a kill, is not counted."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    rounds: dict[int, dict[str, float]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for raw in RawEventFileLoader(str(file)).Load():
            event = Event.FromString(raw)
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    rounds.setdefault(event.step, {})[value.tag] = value.simple_value
    return rounds
