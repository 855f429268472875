"""MLflow: a SQLite store beside the runs, offline, with a parent run for each sweep.

    tracker = MlflowTracker(runs="runs")               # runs/mlflow.db, artifacts in runs/mlartifacts
    mlflow ui --backend-store-uri sqlite:////.../runs/mlflow.db

The run of a run folder is found by its key, kept in a tag; which rounds it holds is read from the store itself, so
nothing else has to be kept, and a kill at any moment leaves both in step.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.trackers.tracker import (
    NoTracker,
    Rows,
    Status,
    TrackedRun,
    Tracker,
    agrees,
    artifacts,
    as_text,
    check_oracle,
    require,
)

KEY, SWEEP, PARENT, NOTE = "synthpoll.key", "synthpoll.sweep", "mlflow.parentRunId", "mlflow.note.content"
_BATCH = 100  # parameters that the store takes at once
_LONGEST_NAME, _LONGEST_VALUE = 250, 6000
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


@dataclass(frozen=True, kw_only=True)
class MlflowTracker:
    """`runs` is the folder of the runs; `uri` a store of yours (None: SQLite in that folder); `oracle` as in Tracker.

    Raises ValueError for a `uri` that names a plain folder, which MLflow no longer writes to, and for an `oracle` that
    is neither true nor false.
    """

    runs: str
    uri: str | None = None
    oracle: bool = False

    def __post_init__(self) -> None:
        check_oracle(self.oracle)
        if self.uri is not None and (self.uri.startswith("file:") or "://" not in self.uri):
            raise ValueError(
                f"tracker.uri is {self.uri!r}; expected a database or a server, such as sqlite:////data/mlflow.db or "
                "http://localhost:5000 (MLflow refuses plain folders)"
            )

    def check(self) -> None:
        """Raise TrackerError if MLflow is not installed. mlflow-skinny is not enough: it has no SQLite store."""
        require("mlflow", "mlflow")

    def describe(self) -> str:
        """How to look at the store."""
        if self.store.startswith("http"):
            return f"MLflow: {_without_password(self.store)}"
        return f"MLflow: mlflow ui --backend-store-uri {_without_password(self.store)}"

    @property
    def store(self) -> str:
        """The tracking URI."""
        return self.uri or f"sqlite:///{self._folder / 'mlflow.db'}"

    @property
    def _folder(self) -> Path:
        return Path(self.runs).expanduser().resolve()

    def start(self, run: TrackedRun, rows: Rows) -> MlflowLog:
        """Continue the newest run of this key that agrees with `rows`, or begin one."""
        _settle()
        from mlflow import MlflowClient  # seconds: not before the run's own checks

        with self._alone():
            client = MlflowClient(self.store)
            experiment = self._experiment(client, run.experiment)
            parent = None if run.sweep is None else _parent(client, experiment, run.sweep)
            for found in _search(client, experiment, KEY, run.key):
                history = _history(client, found)
                if agrees(history, rows):
                    client.update_run(found.info.run_id, status="RUNNING")
                    rounds = set(history)
                    break
            else:
                found, rounds = _create(client, experiment, run, parent), set()
        return MlflowLog(self, client, experiment, found.info.run_id, parent, rounds)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process of this machine at a time: creating a store, an experiment or a parent run twice would fail."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "mlflow.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _experiment(self, client: Any, name: str) -> str:
        found = client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":  # in the interface, where it can be restored; nothing else is lost
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        local = self.uri is None or self.uri.startswith("sqlite:")
        place = (self._folder / "mlartifacts" / name).as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=place))


class MlflowLog:
    """One MLflow run; `parent` is the run of its sweep."""

    def __init__(
        self, tracker: MlflowTracker, client: Any, experiment: str, run_id: str, parent: str | None, rounds: set[int]
    ) -> None:
        self._tracker, self._client, self._experiment = tracker, client, experiment
        self._run_id, self._parent = run_id, parent
        self.rounds = rounds

    def log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        """One batch, which the store takes in one transaction."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with self._tracker._alone():
            self._client.log_batch(self._run_id, metrics=[Metric(k, v, now, round) for k, v in metrics.items()])
        self.rounds.add(round)

    def log_artifacts(self, folder: Path) -> None:
        """Under the same relative names; a second time replaces the first."""
        for path in artifacts(folder):
            place = path.relative_to(folder).parent
            self._client.log_artifact(self._run_id, str(path), None if place == Path() else str(place))

    def finish(self, status: Status) -> None:
        """End the run, and its sweep's parent if no other run of the sweep is under way."""
        with self._tracker._alone():
            self._client.set_terminated(self._run_id, _STATUS[status])
            if self._parent is not None:
                siblings = _search(self._client, self._experiment, PARENT, self._parent)
                if all(run.info.status != "RUNNING" for run in siblings):
                    self._client.set_terminated(self._parent)


def auto_tracker(runs: str, oracle: bool = False) -> Tracker:
    """MLflow where it is installed, otherwise none, and a line that says so."""
    try:
        importlib.metadata.distribution("mlflow")
    except importlib.metadata.PackageNotFoundError:
        return NoTracker(
            reason="No tracker is installed (pip install 'synthpoll[mlflow]'); metrics go to the run folder"
        )
    return MlflowTracker(runs=runs, oracle=oracle)


def _settle() -> None:
    """Before the import: no telemetry, no chatter, and no minutes of retries when a server is gone."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _create(client: Any, experiment: str, run: TrackedRun, parent: str | None) -> Any:
    from mlflow.entities import Param

    tags = {KEY: run.key, NOTE: run.note} | ({} if parent is None else {PARENT: parent})
    created = client.create_run(experiment, run_name=run.name, tags=tags)
    params = [Param(_name(name), as_text(value)[:_LONGEST_VALUE]) for name, value in run.parameters.items()]
    for start in range(0, len(params), _BATCH):
        client.log_batch(created.info.run_id, params=params[start : start + _BATCH])
    return created


def _parent(client: Any, experiment: str, sweep: Path) -> str:
    """The run that stands for a sweep folder."""
    key = hashlib.sha256(str(sweep.resolve()).encode()).hexdigest()[:12]
    found = _search(client, experiment, SWEEP, key)
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    tags = {SWEEP: key, NOTE: f"Sweep in {sweep.name}"}
    return str(client.create_run(experiment, run_name=f"sweep {sweep.name}", tags=tags).info.run_id)


def _search(client: Any, experiment: str, tag: str, value: str) -> Sequence[Any]:
    """Runs with a tag, newest first. `value` is hexadecimal, so it needs no quoting."""
    runs: Sequence[Any] = client.search_runs(
        [experiment], f"tags.`{tag}` = '{value}'", max_results=1000, order_by=["attributes.start_time DESC"]
    )
    return runs


def _history(client: Any, run: Any) -> dict[int, dict[str, float]]:
    """Every metric of every round that a run holds."""
    rounds: dict[int, dict[str, float]] = {}
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            rounds.setdefault(point.step, {})[name] = point.value
    return rounds


def _name(name: str) -> str:
    """A parameter's name with the characters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)[:_LONGEST_NAME]


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", uri)
