"""Run folders written by hand, for tests of what reads them: small, quick, and with a known truth.

`make_run(tmp_path / "a", epsilon=2, seed=1)` writes what docs/run_folder.md says, with texts from a list of words. The
metrics are simple functions of epsilon, seed and round, so that a test knows what a comparison must find.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

WORDS = (
    "meeting", "budget", "garden", "tennis", "soccer", "invoice", "weather", "train", "dinner", "contract", "server",
    "holiday", "review", "lesson",
)  # fmt: skip
TOPICS = ("tennis lessons", "soccer practice", "budget review", "garden party")
# In every file that a comparison has no business with, and nowhere else.
SECRET = "the surprise party for grandmother is on the fourteenth"


def similarity(epsilon: float, seed: int, round: int) -> float:
    """What oracle/metrics.csv of a made run says."""
    return 0.3 + 0.02 * epsilon + 0.001 * seed + 0.01 * round


def write_text(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(WORDS, size=words)) + "."


def make_run(
    folder: Path,
    *,
    epsilon: float = 4.0,
    seed: int = 0,
    rounds: int = 3,
    complete: int | None = None,
    candidates: int = 12,
    keep: int = 4,
    words: int = 12,
    dimension: int = 8,
    oracle: bool = True,
    arms: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    central: Mapping[str, Any] | None = None,
    seconds: float = 1.5,
    text: Callable[[np.random.Generator, int], str] = write_text,
    change: bool = True,
    lift: float = 0.0,
) -> Path:
    """Write a run folder with `complete` rounds of `rounds` (default: all, and the refined corpus).

    `lift` is added to its similarity.
    """
    complete = rounds if complete is None else complete
    rng = np.random.default_rng([seed, 7])
    given = {
        "_target_": "experiments.refine.job.RefineJob", "name": "made", "seed": seed, "rounds": rounds,
        "epsilon": epsilon,
        "threshold": 3.0,
        "mechanism": {"_target_": "privacy.unary_encoding.OptimizedUnaryEncoding", "epsilon": epsilon},
        "devices": {"_target_": "device_poll.devices.TownDevices", "seed": seed},
    }  # fmt: skip
    given.update(config or {})
    put(folder / "config.yaml", yaml.safe_dump(given, sort_keys=False))
    put(folder / "run.json", json.dumps(facts(epsilon, candidates)))
    if central is not None:
        put(folder / "privacy.json", json.dumps({"central": central, "secret": SECRET}))
    put_csv(folder / "timings.csv", [{"round": r, "stage": "run: round", "seconds": seconds} for r in range(complete)])
    for name in ("seed_corpus.json", "dataset/README.md", "oracle/report_log.json", "oracle/shares.csv", "devices.txt"):
        put(folder / name, SECRET)

    rows = [example(text(rng, words), rng, (), 0, change) for _ in range(candidates)]
    table, truth = [], []
    for number in range(complete + (complete == rounds)):
        place = folder / "rounds" / f"{number:03d}"
        put_table(place / "corpus.parquet", rows)
        vectors = np.random.default_rng(number).normal(size=(len(rows), dimension)).astype(np.float32)
        save(place / "embeddings.npy", vectors)
        table.append({"round": number, "topics": 4 - number, "self_similarity": 0.1 + 0.05 * number})
        truth.append(
            {"round": number, "similarity": similarity(epsilon, seed, number) + lift, "fid_pca8": 1 / epsilon + number}
        )
        if number == complete:
            break
        count = rng.normal(20, 10, size=len(rows))
        order = np.argsort(-count)
        rank = np.full(len(rows), -1, dtype=np.int64)
        rank[order[:keep]] = np.arange(keep)
        stderr = np.full(len(rows), 5.0)
        put_parquet(place / "estimate.parquet", {"id": [r["id"] for r in rows], "count": count, "stderr": stderr,
                                                 "z": count / stderr, "rank": rank})  # fmt: skip
        if oracle:
            save(place / "oracle" / "votes.npy", np.append(np.maximum(count, 0).astype(np.int64), 9))
        put(place / "oracle" / "report_log.json", json.dumps([SECRET]))
        parents = [rows[i] for i in order[:keep]]
        children = [
            example(text(rng, words), rng, (parents[i % keep],), number + 1, change) for i in range(candidates - keep)
        ]
        rows = parents + children
        save(place / "next_weights.npy", np.full(len(rows), 1 / len(rows)))
        table[-1] |= {
            "reports": 300, "over_threshold": int((count > 15).sum()), "none_share": 0.1 - 0.01 * number,
            "none_share_stderr": 0.02, "bytes_down": 1000 + number, "bytes_up": 6,
        }  # fmt: skip
        put(place / "round.json", json.dumps({"round": number, "candidates": len(rows)}))
    put_csv(folder / "metrics.csv", table)
    if oracle:
        put_csv(folder / "oracle" / "metrics.csv", truth)
    for arm in arms:
        put_csv(folder / "oracle" / "arms" / arm / "metrics.csv", table)
        put_csv(folder / "oracle" / "arms" / arm / "oracle" / "metrics.csv", truth)
        put(folder / "oracle" / "arms" / arm / "config.yaml", SECRET)
    return folder


def facts(epsilon: float, candidates: int) -> dict[str, Any]:
    """run.json."""
    return {
        "name": "made", "commit": "c0ffee", "encoder": "an encoder", "generator": "a generator", "judge": "a judge",
        "devices": {"count": 900, "asked_per_round": 300, "unit": "user"},
        "privacy": {"epsilon_per_device": epsilon, "unit": "one device", "mechanism": {"mechanism": "unary_encoding"}},
        "resolution": {"stderr_of_a_count": 5.0, "votes_per_candidate": 300 / candidates},
    }  # fmt: skip


def example(
    text: str, rng: np.random.Generator, parents: Sequence[Mapping[str, Any]], born: int, change: bool
) -> dict[str, Any]:
    """A row of corpus.parquet; a child of a tennis text is about soccer."""
    topic = str(rng.choice(TOPICS))
    if parents:
        before = dict(parents[0]["attributes"])["topic"]
        topic = TOPICS[1] if before == TOPICS[0] else before
    row = {
        "id": f"{rng.integers(2**63):016x}", "text": text, "subject": f"About {topic}",
        "attributes": [("tone", str(rng.choice(["warm", "dry"]))), ("topic", topic)],
        "operator": "entity_swap" if parents else "seed", "round": born, "model": "m", "prompt": "p",
        "parents": [parent["id"] for parent in parents], "family": "",
    }  # fmt: skip
    if parents:
        row["family"] = parents[0]["family"] or parents[0]["id"]
    if change:
        row["change"] = "tennis -> soccer" if parents else ""
    return row


def put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def put_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def put_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    columns["attributes"] = pa.array(columns["attributes"], pa.map_(pa.string(), pa.string()))
    columns["parents"] = pa.array(columns["parents"], pa.list_(pa.string()))
    put_parquet(path, columns)


def put_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)


def save(path: Path, array: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)
