"""Experiment trackers: one behaviour suite for all of them, each read back with its own package.

A tracker whose package is not installed is skipped, with a reason.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from experiments.trackers.mlflow_tracker import MlflowTracker, auto_tracker
from experiments.trackers.run_folder import read_rows, read_truth, tracked_run
from experiments.trackers.tensorboard_tracker import TensorboardTracker, read_events
from experiments.trackers.tracker import ARTIFACTS, NoTracker, TrackerError
from experiments.trackers.tracking import Tracking
from experiments.trackers.wandb_tracker import WandbTracker
from tests.experiments.run_folders import SECRET
from tests.experiments.tracked_runs import NOTE, run_in, track
from tests.experiments.tracker_readers import KINDS, Mlflow, Reader, Seen, Tensorboard, Wandb, skip_without


def cut(folder: Path, rounds: int) -> None:
    """Take the rounds after the first `rounds` out of a run's tables, as if it had been stopped there."""
    for path in (folder / "metrics.csv", folder / "oracle" / "metrics.csv"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[: rounds + 1]))


def public(folder: Path) -> dict[tuple[int, str], float]:
    """Every number of a run that the server itself knows, read without the code under test."""
    return numbers(folder, "")


def truth(folder: Path) -> dict[tuple[int, str], float]:
    """Every number of a run that only a simulation knows."""
    return numbers(folder, "oracle/", "oracle/arms/no_privacy/", "oracle/arms/no_privacy/oracle/")


def numbers(folder: Path, *places: str) -> dict[tuple[int, str], float]:
    found = {}
    for place in places:
        for row in csv.DictReader((folder / f"{place}metrics.csv").open()):
            for name, value in row.items():
                if name != "round" and value != "":
                    found[int(row["round"]), f"{place}{name}"] = float(value)
    return found


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> Path:
    """One folder of runs for the file: creating MLflow's database takes seconds."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(params=sorted(KINDS))
def reader(request, stores, monkeypatch, tmp_path_factory) -> Reader:
    skip_without(request.param)
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path_factory.mktemp("wandb")))  # its own logs
    tracker, read = KINDS[request.param]
    made: Reader = read(tracker(runs=str(stores)))
    return made


@pytest.fixture
def mlflow(stores) -> Mlflow:
    skip_without("mlflow")
    return Mlflow(MlflowTracker(runs=str(stores)))


def assert_holds(seen: Seen, expected: dict[tuple[int, str], float]) -> None:
    """Each number of the tables once, and no other."""
    assert {(step, name): value for step, name, value in seen.numbers} == pytest.approx(expected, rel=1e-6)
    assert seen.numbers.total() == len(expected)


def test_a_tracker_holds_the_run_folder_s_numbers(reader, tmp_path):
    folder = run_in(tmp_path / "run")
    reader.tracker.check()
    shown = track(reader.tracker, folder, "whole")
    assert "failed" not in shown
    (seen,) = reader.runs("whole")
    expected = public(folder)
    assert_holds(seen, expected)
    assert "reports" in {name for _, name in expected}
    assert float(seen.parameters["run.privacy.central.epsilon"]) == 0.5
    assert seen.parameters["mechanism._target_"].strip('"').endswith("OptimizedUnaryEncoding")
    shows_pages = not isinstance(reader, Tensorboard)
    assert seen.files >= {name for name in ARTIFACTS if shows_pages or name.endswith(".md")}


def test_a_continued_run_is_one_run_and_no_round_is_logged_twice(reader, tmp_path):
    folder = run_in(tmp_path / "run")
    expected, known = public(folder), truth(folder)
    whole = {p: p.read_bytes() for p in (folder / "metrics.csv", folder / "oracle/metrics.csv")}
    tracker = replace(reader.tracker, oracle=True)
    cut(folder, 2)
    track(tracker, folder, "continued")
    for name in ("continued", "continued.oracle"):
        (before,) = reader.runs(name)
        assert {step for step, _, _ in before.numbers} == {0, 1}
    for path, content in whole.items():
        path.write_bytes(content)
    track(tracker, folder, "continued")
    track(tracker, folder, "continued")
    for name, numbers in (("continued", expected), ("continued.oracle", known)):
        (seen,) = reader.runs(name)
        assert_holds(seen, numbers)


def test_the_truth_has_an_experiment_of_its_own_and_can_be_asked_for_in_any_session(reader, tmp_path):
    """Off, on, off again, with rounds in between: the run itself never holds a number of the truth."""
    folder = run_in(tmp_path / "run")
    whole = {p: p.read_bytes() for p in (folder / "metrics.csv", folder / "oracle/metrics.csv")}
    for oracle, rounds in ((False, 1), (True, 2), (False, 4)):
        for path, content in whole.items():
            path.write_bytes(content)
        cut(folder, rounds)
        assert "failed" not in track(replace(reader.tracker, oracle=oracle), folder, "switched")
        (seen,) = reader.runs("switched")
        assert_holds(seen, public(folder))
        if oracle:
            (apart,) = reader.runs("switched.oracle")
            known = {(step, name): value for (step, name), value in truth(folder).items() if step < rounds}
            assert {"oracle/similarity", "oracle/arms/no_privacy/oracle/similarity"} <= {name for _, name in known}
            assert_holds(apart, known)
            assert apart.files == set()
    # What was logged of the truth stays as it was: two rounds.
    (apart,) = reader.runs("switched.oracle")
    assert {step for step, _, _ in apart.numbers} == {0, 1}


def test_a_run_of_an_earlier_version_which_held_the_truth_is_not_continued(reader, tmp_path):
    """It stays in the store as it is; the folder gets a run without it."""
    folder = run_in(tmp_path / "run")
    run, rows = tracked_run(folder, "mixed", (folder / "config.yaml").read_text(), None), read_rows(folder)
    mixed = {number: row | read_truth(folder)[number] for number, row in rows.items()}
    log = reader.tracker.start(run, mixed)
    for number, row in mixed.items():
        log.log_round(number, row)
    log.finish("finished")
    track(reader.tracker, folder, "mixed")
    before, now = reader.runs("mixed")
    assert_holds(before, public(folder) | truth(folder))
    assert_holds(now, public(folder))


def test_a_folder_begun_anew_with_other_numbers_is_another_run(reader, tmp_path):
    folder = run_in(tmp_path / "run")
    first = public(folder)
    track(reader.tracker, folder, "anew")
    table = folder / "metrics.csv"
    table.write_text(table.read_text().replace(",300,", ",299,"))
    track(reader.tracker, folder, "anew")
    second = public(folder)
    assert first != second
    seen = reader.runs("anew")
    assert len(seen) == 2
    assert_holds(seen[0], first)
    assert_holds(seen[1], second)


def test_no_private_text_reaches_a_tracker(reader, stores, tmp_path):
    folder = run_in(tmp_path / "run")
    track(reader.tracker, folder, "private")
    secret = SECRET.encode()

    def holds(text: bytes) -> list[Path]:
        return [path for path in stores.rglob("*") if path.is_file() and text in path.read_bytes()]

    assert holds(secret) == []
    # Negative controls: the same search finds what was logged, and the folder is full of what was not.
    assert holds(b"OptimizedUnaryEncoding")
    assert secret in (folder / "seed_corpus.json").read_bytes()
    assert secret in (folder / "config.yaml").read_bytes()


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_tracker_that_is_not_installed_names_its_extra(monkeypatch, tmp_path, name):
    def missing(package: str) -> None:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(TrackerError, match=rf"tracker={name} needs .*pip install 'synthpoll\[{name}\]'"):
        KINDS[name][0](runs=str(tmp_path)).check()
    automatic = auto_tracker(str(tmp_path))
    assert isinstance(automatic, NoTracker)
    assert "No tracker is installed" in track(automatic, run_in(tmp_path / "run"))


def test_automatic_is_mlflow_where_it_is_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.metadata, "distribution", lambda package: package)
    assert auto_tracker(str(tmp_path)) == MlflowTracker(runs=str(tmp_path))
    assert auto_tracker(str(tmp_path), oracle=True).oracle


def test_values_of_a_tracker_are_checked():
    with pytest.raises(ValueError, match=r"tracker.uri is 'mlruns'; expected a database or a server"):
        MlflowTracker(runs="runs", uri="mlruns")
    for name, (tracker, _) in KINDS.items():
        assert tracker(runs="runs").oracle is NoTracker().oracle is False, name
        with pytest.raises(ValueError, match=r"tracker\.oracle is 'no'; expected true or false"):
            tracker(runs="runs", oracle="no")
    with pytest.raises(ValueError, match=r"tracker\.oracle is 'no'; expected true or false"):
        NoTracker(oracle="no")
    secret = MlflowTracker(runs="runs", uri="postgresql://me:password@host/db")
    assert "password" not in secret.describe()


def test_mlflow_s_status_and_note(mlflow, tmp_path):
    folder = run_in(tmp_path / "run")
    config = (folder / "config.yaml").read_text()
    with pytest.raises(ValueError), Tracking(mlflow.tracker, folder, "status", config, Console(file=io.StringIO())):
        raise ValueError
    assert [run.info.status for run in mlflow.all("status")] == ["FAILED"]
    track(mlflow.tracker, folder, "status")
    (run,) = mlflow.all("status")
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.note.content"] == NOTE
    with sqlite3.connect(Path(mlflow.tracker.runs) / "mlflow.db") as store:
        assert store.execute("select count(*) from runs").fetchone()[0] >= 1
    assert Path(run.info.artifact_uri.removeprefix("file://")).is_relative_to(Path(mlflow.tracker.runs) / "mlartifacts")


def test_runs_of_a_sweep_have_one_parent_however_many_start_at_once(mlflow, tmp_path):
    folders = [run_in(tmp_path / "sweep" / f"seed{seed}", seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        shown = list(pool.map(lambda folder: track(mlflow.tracker, folder, "sweep", tmp_path / "sweep"), folders))
    assert not any("failed" in text for text in shown)
    runs = mlflow.all("sweep")
    (parent,) = [run for run in runs if "synthpoll.sweep" in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.info.run_name for run in children) == ["seed0", "seed1", "seed2", "seed3"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for folder in folders:
        (child,) = [run for run in children if run.info.run_name == folder.name]
        assert_holds(mlflow.seen(child), public(folder))


def test_mlflow_s_server_that_is_gone_costs_nothing(mlflow, tmp_path):
    gone = MlflowTracker(runs=str(tmp_path), uri="http://127.0.0.1:9")
    assert "The tracker failed" in track(gone, run_in(tmp_path / "run"))


def test_mlflow_sends_no_telemetry(mlflow, tmp_path):
    track(mlflow.tracker, run_in(tmp_path / "run"), "telemetry")
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert is_telemetry_disabled()


def test_an_offline_run_is_whole_before_it_counts_as_logged(tmp_path, monkeypatch):
    """Killed before the end, W&B's own process loses what it was told; nothing is then taken for logged."""
    skip_without("wandb")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    reader = Wandb(WandbTracker(runs=str(tmp_path / "runs")))
    folder = run_in(tmp_path / "run")
    run, rows = tracked_run(folder, "made", (folder / "config.yaml").read_text(), None), read_rows(folder)
    killed = reader.tracker.start(run, rows)
    for number in rows:
        killed.log_round(number, rows[number])
    assert reader.tracker.start(run, rows).rounds == set()
    track(reader.tracker, folder)
    assert reader.tracker.start(run, rows).rounds == set(rows)
    (seen,) = reader.runs("made")
    assert_holds(seen, public(folder))


def test_a_torn_event_is_logged_again(tmp_path):
    skip_without("tensorboard")
    reader = Tensorboard(TensorboardTracker(runs=str(tmp_path / "runs")))
    folder = run_in(tmp_path / "run")
    expected = public(folder)
    (folder / "dataset" / "README.md").unlink()
    (folder / "privacy.md").unlink()
    track(reader.tracker, folder)
    (place,) = (tmp_path / "runs" / "tensorboard" / "made").iterdir()
    (file,) = place.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    assert set(read_events(place)) == {0, 1, 2}
    track(reader.tracker, folder)
    (seen,) = reader.runs("made")
    assert_holds(seen, expected)


def test_an_experiment_that_was_deleted_in_the_interface_is_restored(tmp_path):
    skip_without("mlflow")
    tracker = MlflowTracker(runs=str(tmp_path))
    assert "failed" not in track(tracker, run_in(tmp_path / "a"))
    client = Mlflow(tracker).client()
    client.delete_experiment(client.get_experiment_by_name("made").experiment_id)
    assert "failed" not in track(tracker, run_in(tmp_path / "b", seed=1))
    found = client.get_experiment_by_name("made")
    assert found.lifecycle_stage == "active"
    assert len(client.search_runs([found.experiment_id])) == 2
