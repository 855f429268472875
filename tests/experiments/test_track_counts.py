"""A use case in MLflow: the numbers of metrics.csv, once each, also when it was killed between keys; and a sweep."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import pytest

from experiments.trackers.mlflow_tracker import MlflowTracker
from tests.experiments.fault_driver import shared_driver
from tests.experiments.tracker_readers import Mlflow, skip_without
from tests.experiments.use_case_files import arguments, write_files

KILLED = -int(signal.SIGKILL)
TEXTS = {"key", "use_case", "segment", "post_processing", "rule"}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory) -> Mlflow:
    """One store for the file: creating its database takes seconds."""
    skip_without("mlflow")
    return Mlflow(MlflowTracker(runs=str(tmp_path_factory.mktemp("runs"))))


def command(mlflow: Mlflow, files: Path, *overrides: str) -> list[str]:
    return [*arguments(files, "emoji"), "tracker=mlflow", f"runs={mlflow.tracker.runs}", *overrides]


def numbers(folder: Path, place: str = "") -> dict[tuple[int, str], float]:
    """Every number of a table of the run by step and name; its rows are in the order of the keys."""
    found, steps = {}, dict[str, int]()
    for row in csv.DictReader((folder / f"{place}metrics.csv").open()):
        steps.setdefault(row["key"], len(steps))
        for name, value in row.items():
            if name not in TEXTS and value != "":
                found[steps[row["key"]], f"{place}{row['key']}/{name}"] = float(value)
    return found


def seen(mlflow: Mlflow, name: str) -> dict[tuple[int, str], float]:
    """What the run of this name holds; nothing of it twice."""
    (run,) = [run for run in mlflow.all(name) if "synthpoll.key" in run.data.tags]
    found = mlflow.seen(run).numbers
    assert found.total() == len({(step, metric) for step, metric, _ in found})
    return {(step, metric): value for step, metric, value in found}


def test_mlflow_holds_the_numbers_of_a_use_case(mlflow, files, tmp_path):
    done = shared_driver().run("run", *command(mlflow, files, "name=whole", f"out={tmp_path / 'run'}"))
    assert done.code == 0, done.error
    assert "MLflow: mlflow ui" in done.out
    expected = numbers(tmp_path / "run")
    assert (0, "whole.en/released") in expected
    assert seen(mlflow, "whole") == pytest.approx(expected)
    (run,) = mlflow.all("whole")
    assert run.info.status == "FINISHED"
    assert run.data.params["run.privacy.epsilon_per_device"] == "4"
    assert run.data.tags["mlflow.note.content"].startswith("epsilon 4 per report")
    assert mlflow.seen(run).files == {"report.html", "privacy.md"}
    assert not any("expected_reports" in name or "resolution" in name for name in run.data.params)
    # Given again, it is the same run and holds the same; asked for, the truth has an experiment of its own.
    again = command(mlflow, files, "name=whole", f"out={tmp_path / 'run'}", "tracker.oracle=true")
    assert shared_driver().run("run", *again).code == 0
    assert seen(mlflow, "whole") == pytest.approx(expected)
    known = numbers(tmp_path / "run", "oracle/")
    assert (1, "oracle/whole.fr/recall") in known
    assert seen(mlflow, "whole.oracle") == pytest.approx(known)
    (apart,) = mlflow.all("whole.oracle")
    assert int(apart.data.params["run.keys.whole.en.expected_reports"]) > 0


def test_a_use_case_that_was_killed_between_keys_is_logged_once(mlflow, files, tmp_path):
    words = command(mlflow, files, "name=killed", f"out={tmp_path / 'run'}")
    killed = shared_driver().run("run", *words, kill=["mkdir .*/killed.fr"])
    assert killed.code == KILLED, killed.error
    assert {step for step, _ in seen(mlflow, "killed")} == {0}
    resumed = shared_driver().run("run", *words)
    assert resumed.code == 0, resumed.error
    assert seen(mlflow, "killed") == pytest.approx(numbers(tmp_path / "run"))
    assert {step for step, _ in seen(mlflow, "killed")} == {0, 1}


def test_a_sweep_of_a_use_case_has_one_parent(mlflow, files):
    done = shared_driver().run("run", "--multirun", *command(mlflow, files, "name=swept", "seed=0,1"))
    assert done.code == 0, done.error
    runs = mlflow.all("swept")
    (parent,) = [run for run in runs if "synthpoll.sweep" in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.info.run_name[:5] for run in children) == ["seed0", "seed1"]
    assert {run.info.status for run in runs} == {"FINISHED"}
