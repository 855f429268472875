"""The audit of whole runs: a device's mail is one thing or another, and everything that leaves the folder is observed.

Every play is a run of its own, as `synthpoll run` makes it: its folder, its source of noise, its ledger, its front
door. Observed are all released counts, every public number of the poll, and the size of every file outside oracle/
(but of timings.csv: timing is outside of the claim). The test that tells both apart is learned from half of the plays,
so nobody says where to look. Takes minutes: `make soak`.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_module
from rich.console import Console

import experiments.refine.refinement
import experiments.run
from experiments.launch import load_job
from experiments.run import run_job
from privacy.audit import audit_run
from tests.attacks.test_participation import refuted

pytestmark = pytest.mark.soak

USERS, EPSILON, TRIALS = 40, 1.0, 400
SHORT = ["rounds=1", "candidates=8", "minimum_batch=20", "evaluation.sample=20", f"epsilon={EPSILON}"]

Play = Callable[[str | None], np.ndarray]


@pytest.fixture
def play(tmp_path, monkeypatch) -> Play:
    """Plays a run in which one device holds this text, or is not there, and returns what leaves it."""
    monkeypatch.setattr(experiments.refine.refinement, "write_plots", lambda *_: None)
    number = itertools.count()

    def mail(canary: str | None) -> str:
        texts = [f"the meeting about topic {user % 5} is next week" for user in range(USERS)]
        rows = [{"user": f"u{user:02d}", "text": text} for user, text in enumerate(texts)]
        rows[0]["text"] = canary or ""
        path = tmp_path / f"{abs(hash(canary))}.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows[canary is None :]) + "\n")
        return str(path)

    words = ["experiment=smoke", "devices=mail", f"devices.path={mail('a mail of somebody')}", *SHORT]
    with initialize_config_module("conf", version_base="1.3"):
        job, config, digest = load_job(compose("config", overrides=[*words, f"cache={tmp_path / 'cache'}"]))
    assert job.system_noise, "noise of the operating system, as every run over mail of a user's own has"

    def played(canary: str | None) -> np.ndarray:
        out = tmp_path / f"run{next(number)}"
        devices = replace(job.devices, path=mail(canary))
        folder = run_job(replace(job, devices=devices, out=str(out)), config, digest, Console(file=io.StringIO()))
        return observed(folder)

    return played


def observed(folder: Path) -> np.ndarray:
    """All released counts, the numbers of the poll, and the size of every public file."""
    place = folder / "rounds" / "000"
    counts = pq.read_table(place / "estimate.parquet")["count"].to_numpy()
    metrics = json.loads((place / "metrics.json").read_text())
    numbers = [float(value) for value in metrics.values() if isinstance(value, int | float)]
    sizes = [path.stat().st_size for path in public_files(folder)]
    return np.array([*counts, *numbers, *sizes], dtype=np.float64)


def public_files(folder: Path) -> list[Path]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "timings.csv")
    return [path for path in files if "oracle" not in path.relative_to(folder).parts]


@pytest.fixture
def texts(tmp_path, play) -> tuple[str, str]:
    """Two of the candidates that devices are asked about: who holds one votes for it."""
    play("a mail of somebody")
    corpus = pq.read_table(tmp_path / "run0" / "rounds" / "000" / "corpus.parquet")["text"].to_pylist()
    return corpus[0], corpus[1]


def found(release: Callable[[bool, int], Any], claimed: float, trials: int = TRIALS) -> bool:
    result = audit_run(release, trials=trials, claimed_epsilon=claimed)
    told = f"shown {result.epsilon_lower:.2f}, refuting {result.epsilon_refuting:.2f}, claimed {claimed:g}"
    sys.stdout.write(f"\n{os.environ.get('PYTEST_CURRENT_TEST')}: {result.hits} and {result.alarms}: {told}\n")
    assert result.refuting_ceiling > claimed
    return refuted(result)


def test_all_that_leaves_a_run_tells_no_more_of_a_device_than_it_costs(play, texts) -> None:
    assert not found(lambda world, _: play(texts[world]), EPSILON)


# Negative controls: what the audit must not overlook.


def test_a_device_that_is_not_there_is_found(play, texts) -> None:
    """Taking part is not protected, and is seen in the number of reports: the audit looks at it."""
    assert found(lambda world, _: play(texts[0] if world else None), EPSILON, trials=100)


def test_a_file_whose_size_tells_is_found(play, texts, monkeypatch) -> None:
    """A double of the statement's writer leaves a file as long as the first candidate has true votes."""
    written = experiments.run.write_statement

    def leaky(folder: Any, statement: Any) -> None:
        written(folder, statement)
        votes = folder.path / "rounds" / "000" / "oracle" / "votes.npy"
        folder.write_bytes("notes.txt", b"x" * (1 + int(np.load(votes)[0]) if votes.exists() else 0))

    monkeypatch.setattr(experiments.run, "write_statement", leaky)
    assert found(lambda world, _: play(texts[world]), EPSILON, trials=100)
