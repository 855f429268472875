"""What a tracker holds, read back with its own package: for tests of experiments/trackers/.

    skip_without("mlflow")
    tracker, read = KINDS["mlflow"]
    (seen,) = read(tracker(runs=str(folder))).runs("an experiment")

The trackers themselves also read back what they logged; none of that is used here.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from experiments.trackers.mlflow_tracker import MlflowTracker
from experiments.trackers.tensorboard_tracker import TensorboardTracker
from experiments.trackers.wandb_tracker import WandbTracker


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
