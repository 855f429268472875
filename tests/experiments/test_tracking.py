"""A tracker can fail at any moment, and never costs the run; what it is called for when it does not."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from experiments.trackers.tracking import Tracking
from tests.experiments.tracked_runs import run_in, track


class BrokenError(Exception):
    """An error that only a tracker's package knows."""


@dataclass
class Failing:
    """A tracker and its log, of which the call `at` raises `error`."""

    at: str
    error: BaseException = field(default_factory=lambda: BrokenError("user:password@host"))
    calls: list[str] = field(default_factory=list)
    rounds: set[int] = field(default_factory=set)
    oracle: bool = False

    def describe(self) -> str:
        return ""

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.at:
            raise self.error

    def start(self, run: object, rows: object) -> Failing:
        self._call("start")
        return self

    def log_round(self, round: int, metrics: object) -> None:
        self._call(f"round {round}")
        self.rounds.add(round)

    def log_artifacts(self, folder: Path) -> None:
        self._call("artifacts")

    def finish(self, status: str) -> None:
        self._call(status)


ALL = ["start", "round 0", "round 1", "round 2", "round 3", "artifacts", "finished"]


@pytest.mark.parametrize("at", ALL)
def test_a_tracker_that_fails_never_costs_the_run(tmp_path, caplog, at):
    tracker = Failing(at)
    shown = track(tracker, run_in(tmp_path / "run"))
    # Off after its first failure, with one line in the log, and the end of the run says so.
    assert tracker.calls == ALL[: ALL.index(at) + 1]
    assert [line for line in caplog.messages if "BrokenError at" in line] == [caplog.messages[-1]]
    assert "The tracker failed (BrokenError at" in shown.splitlines()[-1]
    assert "password" not in shown + caplog.text


def test_a_tracker_that_works_is_called_for_everything_once(tmp_path):
    tracker = Failing("nothing")
    assert track(tracker, run_in(tmp_path / "run")) == ""
    assert tracker.calls == ALL


def test_an_interrupt_inside_a_tracker_is_not_swallowed(tmp_path):
    tracker = Failing("round 1", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        track(tracker, run_in(tmp_path / "run"))


@pytest.mark.parametrize(("error", "status"), [(ValueError(), "failed"), (KeyboardInterrupt(), "killed")])
def test_the_status_of_a_run_that_fails(tmp_path, error, status):
    folder, tracker = run_in(tmp_path / "run"), Failing("nothing")
    with (
        pytest.raises(type(error)),
        Tracking(tracker, folder, "made", (folder / "config.yaml").read_text(), Console(file=io.StringIO())),
    ):
        raise error
    assert tracker.calls == ["start", status]
