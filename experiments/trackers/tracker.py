"""What every experiment tracker looks like: a description that `conf/tracker/` makes, and the log of one run.

    tracker.check()                                  # before any work: is it installed?
    log = tracker.start(run, rows)                   # a new run, or the one that this run folder had before
    log.log_round(0, {"reports": 300.0, "stderr": 41.5})
    log.log_artifacts(folder)
    log.finish("finished")

A tracker is told numbers, the configuration, and the files in ARTIFACTS; nothing else, so no private text can reach it.
What only a simulation knows is told to a second run, in an experiment of its own, and only if `oracle` asks for it
(experiments/trackers/tracking.py). What a tracker holds is checked against the run folder, which decides: a run is
continued where both agree, and a folder that was begun anew gets a run of its own.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from experiments.folder.layout import CARD, PAGE, STATEMENT_PAGE

Value = str | int | float | bool | None
Rows = Mapping[int, Mapping[str, float]]
Status = Literal["finished", "failed", "killed"]

# Of the run folder: the page of what the server itself knows, the privacy statement, the data set's card.
ARTIFACTS = (PAGE, STATEMENT_PAGE, CARD)


class TrackerError(RuntimeError):
    """A tracker cannot be used; the message says what to install or to change, in one line."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told about a run before its first round.

    `key` is the same for the same folder and configuration, and for no other; `parameters` are flat; `note` is one
    sentence on what the run reveals about a device; `sweep` is the folder of the sweep that the run is part of.
    """

    experiment: str
    name: str
    key: str
    parameters: Mapping[str, Value]
    note: str
    sweep: Path | None = None


class RunLog(Protocol):
    """One run in a tracker; the rounds of a count are its keys.

    Everything may raise whatever the tracker's own package raises.
    """

    @property
    def rounds(self) -> Set[int]:
        """The rounds that it holds."""

    def log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        """Log a round, whole or not at all."""

    def log_artifacts(self, folder: Path) -> None:
        """Log what there is of ARTIFACTS in the run folder."""

    def finish(self, status: Status) -> None:
        """End the run."""


class Tracker(Protocol):
    """A tracker as it is configured. `oracle`: whether it is told, apart, what only a simulation knows."""

    @property
    def oracle(self) -> bool:
        """False unless the configuration says otherwise."""

    def check(self) -> None:
        """Raise TrackerError if its package is not installed."""

    def describe(self) -> str:
        """One line for the screen: where to look. Empty: nothing to say."""

    def start(self, run: TrackedRun, rows: Rows) -> RunLog:
        """Begin the run, or continue the one of the same key that agrees with `rows`, those of the run folder."""


@dataclass(frozen=True, kw_only=True)
class NoTracker:
    """No tracker: the run folder alone. `reason` is said on the screen; whatever `oracle` says, nothing is told."""

    reason: str = ""
    oracle: bool = False

    def __post_init__(self) -> None:
        check_oracle(self.oracle)

    def check(self) -> None:
        """Nothing can be missing."""

    def describe(self) -> str:
        """The reason."""
        return self.reason

    def start(self, run: TrackedRun, rows: Rows) -> NoLog:
        """A log that takes everything and keeps nothing."""
        return NoLog()


@dataclass(frozen=True)
class NoLog:
    """The log of no tracker."""

    rounds: frozenset[int] = field(default=frozenset())

    def log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def log_artifacts(self, folder: Path) -> None:
        """Nothing."""

    def finish(self, status: Status) -> None:
        """Nothing."""


def require(package: str, extra: str) -> None:
    """Raise TrackerError unless `package` is installed."""
    # By its metadata: a folder named wandb in the current directory would pass for a package that can be imported.
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise TrackerError(
            f"tracker={extra} needs the package {package}, which is not installed; "
            f"pip install 'synthpoll[{extra}]', or go on without: tracker=none"
        ) from None


def check_oracle(oracle: object) -> None:
    """Raise ValueError unless it is true or false: on a command line `no` is a text, which Python takes for true."""
    if not isinstance(oracle, bool):
        raise ValueError(f"tracker.oracle is {oracle!r}; expected true or false")


def agrees(logged: Rows, rows: Rows) -> bool:
    """Whether everything that a tracker holds is what the run folder says, to the float32 that TensorBoard keeps."""
    return all(
        math.isclose(value, rows.get(number, {}).get(name, math.nan), rel_tol=1e-6, abs_tol=1e-30)
        for number, metrics in logged.items()
        for name, value in metrics.items()
    )


def artifacts(folder: Path) -> list[Path]:
    """What there is of ARTIFACTS in a run folder."""
    return [folder / name for name in ARTIFACTS if (folder / name).is_file()]


def as_text(value: Value) -> str:
    """A parameter as YAML would write it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
