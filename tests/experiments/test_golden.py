"""Public numbers of every experiment, as they were before a poll existed once (commit d16f76d): still the same.

golden.json was made by `python -m tests.experiments.test_golden FOLDER > golden.json` from runs of that commit, one
folder a run, with the commands below (RUNS). Whole numbers (tallies, votes, ids of texts) are compared to the last bit,
floats to nine digits, which any machine gives. The use cases' counts of sketches, all their p-values and bounds, and
the scores that follow were made again when known collisions were taken out and tails became those of the mechanism; the
tallies are those of that commit.
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
from rich.console import Console

from experiments.run import run_job
from tests.experiments.use_case_files import FILE, play, write_files

GOLDEN = Path(__file__).with_name("golden.json")
SMOKE = {
    "smoke": ["arms=[no_privacy,random_selection]"],
    "smoke_shuffled": ["trust=shuffled"],
    "smoke_secure": ["trust=secure_aggregation"],
    "smoke_central": ["trust=central"],
    "smoke_pgr": ["mechanism=projective_geometry", "workers=2"],
}
USE_CASES = {f"small_{name}": (name, []) for name in FILE} | {
    "small_emoji_days": ("emoji", ["days=3", "opt_in=0.5", "segments=[en]"]),
    "small_emoji_exact": ("emoji", ["exact_above=3999", "days=2"]),
    "small_fragments_exact": ("genmoji_fragments", ["exact_above=3999"]),
    "small_health_norm": ("health_types", ["release.post_processing=norm_sub"]),
}
OTHER_STREAM = ("small_genmoji_fragments",)
_NOISELESS = ("key", "reports", "looked_at", "stderr", "count_needed", "bytes_up", "rule")


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


@pytest.mark.parametrize("name", [name for name in USE_CASES if name not in OTHER_STREAM])
def test_a_use_case(tmp_path, files, golden, name):
    experiment, overrides = USE_CASES[name]
    assert numbers(play(tmp_path / name, files, experiment, *overrides)) == golden[name]


def test_fragments_have_the_same_law_from_another_stream(tmp_path, files, golden):
    """Their stream was also that of the first segment's events, so it had to change: equal is what noise is not in.

    The mean square of the errors in standard errors is 1 with a standard deviation of sqrt(2 / (runs x fragments)), for
    these seeds as for the old stream.
    """
    (name,) = OTHER_STREAM
    (row,) = golden[name]["metrics.csv"]
    (old,) = golden[name]["oracle/metrics.csv"]
    seeds, squares = 30, []
    for seed in range(seeds):
        found = numbers(play(tmp_path / str(seed), files, "genmoji_fragments", f"seed={seed}"))
        (now,) = found["metrics.csv"]
        assert [now[key] for key in _NOISELESS] == [row[key] for key in _NOISELESS]
        squares.append(float(found["oracle/metrics.csv"][0]["error_in_stderr"]) ** 2)
    fragments = int(row["looked_at"])
    assert abs(np.mean(squares) - 1) < 5 * np.sqrt(2 / (seeds * fragments))
    assert abs(float(old["error_in_stderr"]) ** 2 - 1) < 5 * np.sqrt(2 / fragments)
    # Negative control: with half the noise that is claimed it would be far off.
    assert abs(np.mean(squares) / 4 - 1) > 5 * np.sqrt(2 / (seeds * fragments))


def test_the_table_would_show_another_noise(tmp_path, files, golden):
    """Negative control: another seed gives other numbers in every file that noise is in."""
    found = numbers(play(tmp_path / "run", files, "health_types", "seed=1"))
    assert found["metrics.csv"] != golden["small_health_types"]["metrics.csv"]
    name = "segments/health_types/histogram.parquet"
    assert found[name]["count"] != golden["small_health_types"][name]["count"]


if __name__ == "__main__":
    folders = [Path(sys.argv[1]) / name for name in (*SMOKE, *USE_CASES)]
    json.dump({folder.name: numbers(folder) for folder in folders}, sys.stdout, ensure_ascii=False, indent=1)
