"""Small files of the shapes that the use cases read, written here, and runs of the use cases on them.

    files = write_files(tmp_path)
    folder = play(tmp_path / "run", files, "emoji", "seed=3")

Sketches are small (a tally of a few kilobytes); everything else is as in the packaged experiments.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_module
from rich.console import Console

from experiments.launch import load_job
from experiments.run import run_job

EMOJI = [chr(0x1F600 + i) for i in range(60)]
DOMAINS = [f"site{i:03d}.example" for i in range(150)]
KNOWN = ["the", "and", "you", "that", "this", "with", "have", "from", "they", "what"]
NEW = ["lol", "bruh", "yeet", "tbh", "rizz", "smol"]
UNFIT = ["extraordinarily", "don't", "café"]
SUBJECTS = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("cat", "dog", "frog", "rocket")]

FILE = {
    "emoji": "emoji.jsonl",
    "safari_energy": "domains.tsv",
    "safari_memory": "domains.tsv",
    "safari_costly": "domains.tsv",
    "safari_autoplay": "domains.tsv",
    "health_types": None,
    "new_words": "words.tsv",
    "genmoji_fragments": "prompts.jsonl",
}
SKETCH = ("mechanism.rows=64", "mechanism.columns=256")
SMALL: Mapping[str, tuple[str, ...]] = {
    "emoji": SKETCH,
    "safari_energy": SKETCH,
    "safari_memory": SKETCH,
    "safari_costly": SKETCH,
    "safari_autoplay": SKETCH,
    "health_types": (),
    "new_words": ("mechanism.rows=64", "mechanism.columns=64", "mechanism.puzzle_bits=4"),
    "genmoji_fragments": ("vocabulary.candidates=12", "release.minimum_count=60"),
}


def write_files(folder: Path) -> Path:
    """Write one file of each shape into `folder`; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, emoji in enumerate(EMOJI):
        # The two locales like different emoji best.
        lines.append({"emoji": emoji, "per_billion_words": {"en": 1e6 / (i + 1), "fr": 1e6 / ((i + 7) % 60 + 1)}})
    _jsonl(folder / "emoji.jsonl", lines)
    rows = ["domain\trank_tranco_2025\trank_list_2023"]
    rows += [f"{domain}\t{i + 1}\t{(i * 7) % 150 + 1}" for i, domain in enumerate(DOMAINS)]
    (folder / "domains.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    rows = ["locale\trank\tword\tcount_per_billion\tin_debian_wamerican_huge\tin_npm_word_list"]
    for i, word in enumerate([*KNOWN, *NEW, *UNFIT]):
        known = int(word in KNOWN)
        rows.append(f"en\t{i + 1}\t{word}\t{1_000_000 // (i + 1)}\t{known}\t{known}")
    (folder / "words.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    rng = np.random.default_rng(7)
    weights = 1 / np.arange(1, len(SUBJECTS) + 1)
    prompts = [
        {"id": f"p{i}", "kind": "emoji", "text": str(rng.choice(SUBJECTS, p=weights / weights.sum()))}
        for i in range(2000)
    ]
    _jsonl(folder / "prompts.jsonl", prompts)
    return folder


def _jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def arguments(files: Path, experiment: str, *overrides: str) -> list[str]:
    """The command line of a small run of this experiment."""
    name = FILE[experiment]
    path = [] if name is None else [f"vocabulary.path={files / name}"]
    kinds = ["vocabulary.kinds=[emoji]"] if experiment == "genmoji_fragments" else []
    noise = [] if any(each.startswith("noise=") for each in overrides) else ["noise=seeded"]
    return [
        f"experiment={experiment}", *path, *kinds, *SMALL[experiment], *noise, "population=4000", "minimum_batch=100",
        "tracker=none", *overrides,
    ]  # fmt: skip


def job_of(files: Path, experiment: str, *overrides: str):
    """The job, its identity and digest."""
    given = arguments(files, experiment, *overrides)
    with initialize_config_module("conf", version_base="1.3"):
        return load_job(compose("config", overrides=given))


def play(out: Path, files: Path, experiment: str, *overrides: str, console: Console | None = None) -> Path:
    """Run the experiment into the folder `out`."""
    job = job_of(files, experiment, f"out={out}", *overrides)
    return run_job(*job, console or screen())


def screen() -> Console:
    """What nobody looks at."""
    return Console(file=io.StringIO(), width=150)
