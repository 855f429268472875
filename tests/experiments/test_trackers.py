"""Experiment trackers: one behaviour suite for all of them, each read back with its own package; and what may fail.

A tracker whose package is not installed is skipped, with a reason.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import logging
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from experiments.store import RunFolder
from experiments.trackers.mlflow_tracker import MlflowTracker, auto_tracker
from experiments.trackers.run_folder import read_rows, tracked_run, write_parquet
from experiments.trackers.tensorboard_tracker import TensorboardTracker, read_events
from experiments.trackers.tracker import ARTIFACTS, NoTracker, TrackerError, agrees
from experiments.trackers.tracking import Tracking
from experiments.trackers.wandb_tracker import WandbTracker
from tests.experiments.run_folders import SECRET, make_run

NOTE = "epsilon 4 per report and per device"
CARD = "# A data set\n\nIts card."


def run_in(folder: Path, **given: Any) -> Path:
    """A run folder as a tracker finds it: with the statement and the released card."""
    make_run(folder, arms=["no_privacy"], config={"watch": SECRET}, central={"epsilon": 0.5, "delta": 1e-6}, **given)
    statement = json.loads((folder / "privacy.json").read_text())
    (folder / "privacy.json").write_text(json.dumps(statement | {"headline": NOTE}))
    (folder / "privacy.md").write_text("# What this run reveals\n")
    (folder / "report.html").write_text("<html>the page</html>")
    (folder / "dataset" / "README.md").write_text(CARD)
    return folder


def cut(folder: Path, rounds: int) -> None:
    """Take the rounds after the first `rounds` out of a run's tables, as if it had been stopped there."""
    for path in (folder / "metrics.csv", folder / "oracle" / "metrics.csv"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[: rounds + 1]))


def track(tracker: Any, folder: Path, experiment: str = "made", sweep: Path | None = None) -> str:
    """Log a run folder; returns what was shown."""
    screen = io.StringIO()
    config = (folder / "config.yaml").read_text()
    with Tracking(tracker, folder, experiment, config, Console(file=screen, width=300), sweep):
        pass
    return screen.getvalue()


def truth(folder: Path) -> dict[tuple[int, str], float]:
    """Every number of every table of a run, read without the code under test."""
    found = {}
    for place in ("", "oracle/", "oracle/arms/no_privacy/", "oracle/arms/no_privacy/oracle/"):
        for row in csv.DictReader((folder / f"{place}metrics.csv").open()):
            for name, value in row.items():
                if name != "round" and value != "":
                    found[int(row["round"]), f"{place}{name}"] = float(value)
    return found


@dataclass(frozen=True)
class Seen:
    """What a tracker's own package finds: how often each number, the parameters, and the names of the files."""

    numbers: Counter[tuple[int, str, float]]
    parameters: dict[str, str]
    files: set[str]


class Reader(Protocol):
    """Reads all runs of a tracker back."""

    tracker: Any

    def runs(self, experiment: str) -> list[Seen]: ...


@dataclass
class Mlflow:
    """The MLflow client on the SQLite store."""

    tracker: MlflowTracker

    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.tracker.store)

    def all(self, experiment: str) -> list[Any]:
        client = self.client()
        found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
        return sorted(found, key=lambda run: run.info.start_time)

    def runs(self, experiment: str) -> list[Seen]:
        return [self.seen(run) for run in self.all(experiment) if "synthpoll.key" in run.data.tags]

    def seen(self, run: Any) -> Seen:
        client, numbers = self.client(), Counter[tuple[int, str, float]]()
        for name in run.data.metrics:
            numbers.update((p.step, name, p.value) for p in client.get_metric_history(run.info.run_id, name))
        files = {f.path for place in (None, "dataset") for f in client.list_artifacts(run.info.run_id, place)}
        return Seen(numbers, run.data.params, files - {"dataset"})


@dataclass
class Tensorboard:
    """TensorBoard's own accumulator."""

    tracker: TensorboardTracker

    def runs(self, experiment: str) -> list[Seen]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = []
        for folder in sorted((Path(self.tracker.runs) / "tensorboard" / experiment).iterdir()):
            events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
            events.Reload()
            points = [(e.step, tag, e.value) for tag in events.Tags()["scalars"] for e in events.Scalars(tag)]
            texts = {tag for tag in events.Tags()["tensors"] if not tag.startswith("_hparams_")}
            (entry,) = set(events.PluginTagToContent("hparams").values())
            found.append(Seen(Counter(points), hparams(entry), texts))
        return found


def hparams(entry: bytes) -> dict[str, str]:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    given = HParamsPluginData.FromString(entry).session_start_info.hparams
    return {name: str(value.string_value or value.number_value) for name, value in given.items()}


@dataclass
class Wandb:
    """The records of offline runs."""

    tracker: WandbTracker

    def runs(self, experiment: str) -> list[Seen]:
        seen: dict[str, Seen] = {}
        for path in sorted((Path(self.tracker.runs) / "wandb").glob("offline-run-*/run-*.wandb")):
            records = scan(path)
            (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
            if run.project != experiment:
                continue
            parameters = {item.key: item.value_json for item in run.config.update if item.key != "_wandb"}
            one = seen.setdefault(run.run_id, Seen(Counter(), parameters, set()))
            for record in records:
                items = {".".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
                step = json.loads(items.get("_step", "0"))
                numbers = {name: value for name, value in items.items() if not name.startswith("_")}
                one.numbers.update((step, name, float(json.loads(value))) for name, value in numbers.items())
                one.files.update(file.path for file in record.files.files)
        return [seen[name] for name in sorted(seen)]


def scan(path: Path) -> list[Any]:
    """The records of a .wandb file: a log in LevelDB's format, blocks of 32 KiB with headers of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, block, place, part, found = path.read_bytes(), 32768, 7, b"", []
    while place + 7 <= len(data):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        part += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(part))
            part = b""
        elif kind == 0:
            break
    return found


KINDS = {
    "mlflow": (MlflowTracker, Mlflow),
    "tensorboard": (TensorboardTracker, Tensorboard),
    "wandb": (WandbTracker, Wandb),
}


def skip_without(package: str) -> None:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed (pip install 'synthpoll[{package}]')")


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
    expected = truth(folder)
    assert_holds(seen, expected)
    assert {"reports", "oracle/similarity", "oracle/arms/no_privacy/oracle/similarity"} <= {n for _, n in expected}
    assert float(seen.parameters["run.privacy.central.epsilon"]) == 0.5
    assert seen.parameters["mechanism._target_"].strip('"').endswith("OptimizedUnaryEncoding")
    shows_pages = not isinstance(reader, Tensorboard)
    assert seen.files >= {name for name in ARTIFACTS if shows_pages or name.endswith(".md")}


def test_a_continued_run_is_one_run_and_no_round_is_logged_twice(reader, tmp_path):
    folder = run_in(tmp_path / "run")
    expected, whole = (
        truth(folder),
        {p: p.read_bytes() for p in (folder / "metrics.csv", folder / "oracle/metrics.csv")},
    )
    cut(folder, 2)
    track(reader.tracker, folder, "continued")
    (before,) = reader.runs("continued")
    assert {step for step, _, _ in before.numbers} == {0, 1}
    for path, content in whole.items():
        path.write_bytes(content)
    track(reader.tracker, folder, "continued")
    track(reader.tracker, folder, "continued")
    (seen,) = reader.runs("continued")
    assert_holds(seen, expected)


def test_a_folder_begun_anew_with_other_numbers_is_another_run(reader, tmp_path):
    folder = run_in(tmp_path / "run")
    first = truth(folder)
    track(reader.tracker, folder, "anew")
    run_in(folder, lift=0.1)
    track(reader.tracker, folder, "anew")
    second = truth(folder)
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


def test_values_of_a_tracker_are_checked():
    with pytest.raises(ValueError, match=r"tracker.uri is 'mlruns'; expected a database or a server"):
        MlflowTracker(runs="runs", uri="mlruns")
    secret = MlflowTracker(runs="runs", uri="postgresql://me:password@host/db")
    assert "password" not in secret.describe()


class BrokenError(Exception):
    """An error that only a tracker's package knows."""


@dataclass
class Failing:
    """A tracker and its log, of which the call `at` raises `error`."""

    at: str
    error: BaseException = field(default_factory=lambda: BrokenError("user:password@host"))
    calls: list[str] = field(default_factory=list)
    rounds: set[int] = field(default_factory=set)

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
def test_a_tracker_that_fails_never_costs_the_run(tmp_path, caplog, monkeypatch, at):
    monkeypatch.setattr(logging.getLogger("synthpoll"), "propagate", True)
    tracker = Failing(at)
    shown = track(tracker, run_in(tmp_path / "run"))
    # Off after its first failure, with one line in the log, and the end of the run says so.
    assert tracker.calls == ALL[: ALL.index(at) + 1]
    # A set, because MLflow, once imported, has pytest hear a line of ours twice.
    assert {record.message for record in caplog.records if "BrokenError at" in record.message} == {caplog.messages[-1]}
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
        assert_holds(mlflow.seen(child), truth(folder))


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
    assert_holds(seen, truth(folder))


def test_a_torn_event_is_logged_again(tmp_path):
    skip_without("tensorboard")
    reader = Tensorboard(TensorboardTracker(runs=str(tmp_path / "runs")))
    folder = run_in(tmp_path / "run")
    expected = truth(folder)
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


def test_a_key_belongs_to_one_folder_and_one_configuration(tmp_path):
    first, second = run_in(tmp_path / "a"), run_in(tmp_path / "b")
    keys = {tracked_run(folder, "made", config, None).key for folder in (first, second) for config in ("x: 1", "x: 2")}
    assert len(keys) == 4
    run = tracked_run(first, "made", "x: 1", None)
    assert run.key in keys
    assert "watch" not in run.parameters
    assert run.parameters["epsilon"] == yaml.safe_load((first / "config.yaml").read_text())["epsilon"]


def test_what_is_logged_is_compared_as_float32():
    rows = {0: {"a": 0.1, "b": 3.0}}
    assert agrees({0: {"a": 0.10000000149011612}}, rows)
    assert agrees({}, rows)
    assert not agrees({0: {"a": 0.1001}}, rows)
    assert not agrees({1: {"a": 0.1}}, rows)
    assert not agrees({0: {"c": 0.1}}, rows)


def test_metrics_in_parquet_are_those_in_csv(tmp_path):
    folder = RunFolder(tmp_path)
    rows = [{"round": 0, "share": 0.1, "reports": 300}, {"round": 1, "share": 2.0, "late": 1}, {"round": 2, "share": 3}]
    folder.write_csv("metrics.csv", rows)
    write_parquet(folder, "metrics.parquet", rows)
    table = pq.read_table(tmp_path / "metrics.parquet")
    assert {name: str(kind) for name, kind in zip(table.column_names, table.schema.types, strict=True)} == {
        "round": "int64", "share": "double", "reports": "int64", "late": "int64",
    }  # fmt: skip
    cells = [{name: "" if value is None else float(value) for name, value in row.items()} for row in table.to_pylist()]
    text = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert cells == [{name: value if value == "" else float(value) for name, value in row.items()} for row in text]
    once = (tmp_path / "metrics.parquet").read_bytes()
    write_parquet(folder, "metrics.parquet", rows)
    assert (tmp_path / "metrics.parquet").read_bytes() == once


@pytest.mark.parametrize("value", ["a text", True, [1]])
def test_only_numbers_get_into_a_table_of_metrics(tmp_path, value):
    rows = [{"round": 0, "note": value}]
    with pytest.raises(ValueError, match=r"metric note is a .*; expected a number"):
        write_parquet(RunFolder(tmp_path), "metrics.parquet", rows, names=["key"])
    write_parquet(RunFolder(tmp_path), "metrics.parquet", [{"key": "emoji.en", "reports": 3}], names=["key"])
    assert pq.read_table(tmp_path / "metrics.parquet").to_pylist() == [{"key": "emoji.en", "reports": 3}]


def test_rows_of_use_cases_are_named_after_their_keys(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_csv("metrics.csv", [{"key": "emoji.en", "rule": "none", "reports": 3}, {"key": "words", "reports": 4}])
    folder.write_csv("oracle/metrics.csv", [{"key": "emoji.en", "recall": 0.5}])
    assert read_rows(tmp_path) == {0: {"emoji.en/reports": 3, "words/reports": 4, "oracle/emoji.en/recall": 0.5}}


def test_rows_before_the_first_round(tmp_path):
    folder = run_in(tmp_path / "run")
    (folder / "metrics.csv").unlink()
    assert read_rows(folder) == {}
