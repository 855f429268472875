"""Public numbers of every experiment under seeded noise: a change that is not meant to move them does not.

golden.json was made by `python -m tests.experiments.test_golden FOLDER > golden.json`, which plays the runs below into
that folder, when noise was bound to all that reports depend on and devices of a count began to report always. Whole
numbers (tallies, votes, ids of texts) are compared to the last bit, floats to nine digits, which any machine gives.
Noise is not bound to the configuration here (`unbound`): a new key of it, or another path, moves no number.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_module
from rich.console import Console

import experiments.run
from experiments.launch import load_job
from experiments.run import run_job
from privacy.randomness import NoiseSource
from tests.experiments.use_case_files import FILE, play, write_files

GOLDEN = Path(__file__).with_name("golden.json")
# A density's floats are not the same to the last bit on every machine; who survives is.
SURVIVAL = ["decision=survival", "decision.keep=12"]
SMOKE = {
    "smoke": [*SURVIVAL, "arms=[no_privacy,random_selection]"],
    "smoke_shuffled": [*SURVIVAL, "trust=shuffled"],
    "smoke_secure": [*SURVIVAL, "trust=secure_aggregation"],
    "smoke_central": [*SURVIVAL, "trust=central"],
    "smoke_pgr": [*SURVIVAL, "mechanism=projective_geometry", "workers=2"],
}
USE_CASES = {f"small_{name}": (name, []) for name in FILE} | {
    "small_emoji_days": ("emoji", ["days=3", "opt_in=0.5", "segments=[en]"]),
    "small_emoji_exact": ("emoji", ["exact_above=3999", "days=2"]),
    "small_fragments_exact": ("genmoji_fragments", ["exact_above=3999"]),
    "small_health_norm": ("health_types", ["release.post_processing=norm_sub"]),
}


def numbers(folder: Path) -> dict[str, Any]:
    """What the server of a run knows, and what the evaluation found: by file."""
    told: dict[str, Any] = {}
    for name in ("metrics.csv", "oracle/metrics.csv", "oracle/arms/random_selection/metrics.csv"):
        if (folder / name).exists():
            rows = csv.DictReader((folder / name).read_text(encoding="utf-8").splitlines())
            told[name] = [{key: _short(value) for key, value in row.items()} for row in rows]
    for path in sorted(folder.glob("rounds/*/tally.npz")):
        with np.load(path) as saved:
            told[_name(folder, path)] = [_digest(saved["sums"].astype("<i8").tobytes()), int(saved["reports"])]
    for path in sorted(folder.glob("rounds/*/corpus.parquet")):
        ids = pq.read_table(path).column("id").to_pylist()
        told[_name(folder, path)] = _digest("\n".join(ids).encode())
    for path in sorted([*folder.glob("segments/*/histogram.parquet"), *folder.glob("differences/*.parquet")]):
        columns = pq.read_table(path).to_pydict()
        told[_name(folder, path)] = {name: [_short(value) for value in column] for name, column in columns.items()}
    return told


def _name(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _short(value: object) -> str:
    try:
        return f"{float(str(value)):.9g}"
    except ValueError:
        return str(value)


@pytest.fixture(autouse=True)
def unbound(unbound_noise) -> None:
    """Test double, see there."""


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("name", SMOKE)
def test_the_main_job(tmp_path, compose_job, golden, name):
    job = compose_job("experiment=smoke", f"out={tmp_path / name}", f"cache={tmp_path / 'cache'}", *SMOKE[name])
    assert numbers(run_job(*job, Console(file=io.StringIO()))) == golden[name]


@pytest.mark.parametrize("name", USE_CASES)
def test_a_use_case(tmp_path, files, golden, name):
    experiment, overrides = USE_CASES[name]
    assert numbers(play(tmp_path / name, files, experiment, *overrides)) == golden[name]


def test_the_table_would_show_another_noise(tmp_path, files, golden):
    """Negative control: another seed gives other numbers in every file that noise is in."""
    found = numbers(play(tmp_path / "run", files, "health_types", "seed=1"))
    assert found["metrics.csv"] != golden["small_health_types"]["metrics.csv"]
    name = "segments/health_types/histogram.parquet"
    assert found[name]["count"] != golden["small_health_types"][name]["count"]


def _played(folder: Path) -> dict[str, Any]:
    """All runs, into `folder`."""
    found, of_use_cases = {}, write_files(folder / "files")
    for name, given in SMOKE.items():
        words = ["experiment=smoke", f"out={folder / name}", f"cache={folder / 'cache'}", *given]
        with initialize_config_module("conf", version_base="1.3"):
            job = load_job(compose("config", overrides=words))
        found[name] = numbers(run_job(*job, Console(file=io.StringIO())))
    for name, (experiment, overrides) in USE_CASES.items():
        found[name] = numbers(play(folder / name, of_use_cases, experiment, *overrides))
    return found


if __name__ == "__main__":
    experiments.run.noise_of = lambda job, folder, config: NoiseSource.seeded(job.seed)
    json.dump(_played(Path(sys.argv[1])), sys.stdout, ensure_ascii=False, indent=1)
