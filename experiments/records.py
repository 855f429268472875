"""What a round leaves in the run folder. Public numbers and noise-free truth part ways here, by folder.

rounds/000/metrics.json             what the server itself knows       -> metrics.csv
rounds/000/oracle/metrics.json      what only a simulation can know    -> oracle/metrics.csv
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aggregate.round import RoundRecord, RoundState
from aggregate.selection import z_scores
from experiments.evaluate import Oracle
from experiments.measures import self_similarity
from experiments.store import RunFolder
from synth.corpus import Corpus


@dataclass(frozen=True)
class Timings:
    """Seconds per stage, in timings.csv: the only file of a run folder that may differ between equal runs."""

    folder: RunFolder
    _rows: list[dict[str, object]] = field(default_factory=list, init=False)

    @contextmanager
    def measure(self, round: int, stage: str) -> Iterator[None]:
        """Time a block. `round` is -1 for work before the first."""
        start = time.perf_counter()
        yield
        self._rows.append({"round": round, "stage": stage, "seconds": round_to(time.perf_counter() - start, 3)})
        self.folder.write_csv("timings.csv", self._rows)


def round_to(value: float, digits: int) -> float:
    """A float, rounded for reading."""
    return float(f"{value:.{digits}f}")


@dataclass(frozen=True)
class RoundWriter:
    """Writes rounds into `folder`. `threshold` is in standard errors; `arm` is None for the run itself."""

    folder: RunFolder
    oracle: Oracle
    threshold: float
    arm: str | None

    def write(self, state: RoundState, record: RoundRecord, following: RoundState) -> None:
        """Everything of one round, then the next corpus, then round.json as the mark that the round is complete."""
        place = f"rounds/{record.number:03d}"
        estimate, folder = record.estimate, self.folder
        picked = np.full(len(state.corpus), -1, dtype=np.int64)
        picked[record.selection.picks] = np.arange(len(record.selection.picks))
        folder.write_array(f"{place}/embeddings.npy", record.embeddings)
        folder.write_arrays(f"{place}/tally.npz", {"sums": record.tally.sums, "reports": record.tally.reports})
        folder.write_table(
            f"{place}/estimate.parquet",
            state.corpus.to_table(
                {"count": estimate.counts, "stderr": estimate.stderr, "z": _finite(z_scores(estimate)), "rank": picked}
            ).select(["id", "count", "stderr", "z", "rank"]),
        )
        folder.write_json(f"{place}/metrics.json", self._public(state.corpus, record.embeddings, record))
        votes = self.oracle.true_votes(record)
        folder.write_array(f"{place}/oracle/votes.npy", votes)
        truth = {**self.oracle.of_corpus(record.embeddings, state.corpus.texts), **self.oracle.of_poll(record, votes)}
        folder.write_json(f"{place}/oracle/metrics.json", {"round": record.number, **truth})
        shares = self.oracle.by_label(record, votes)
        if shares:
            folder.write_csv(f"{place}/oracle/shares.csv", shares)
        watch = self.oracle.fleet.watch
        if watch is not None:
            reports = watch.drain()
            if self.arm is None:
                folder.write_json(f"{place}/oracle/report_log.json", reports)
        folder.write_table(f"rounds/{following.number:03d}/corpus.parquet", following.corpus.to_table())
        folder.write_array(f"{place}/next_weights.npy", record.next_weights)
        folder.write_json(
            f"{place}/round.json",
            {
                "round": record.number,
                "candidates": len(state.corpus),
                "reports": estimate.reports,
                "mechanism": dict(record.tally.parameters),
                "attempted": record.attempted,
                "drops": dict(record.drops),
            },
        )
        self._write_csv(record.number + 1)

    def write_final(self, corpus: Corpus, vectors: NDArray[np.float32], number: int) -> None:
        """The refined corpus, evaluated like the slates before it but not polled any more."""
        place = f"rounds/{number:03d}"
        self.folder.write_array(f"{place}/embeddings.npy", vectors)
        self.folder.write_json(f"{place}/metrics.json", self._public(corpus, vectors, None, number))
        truth = self.oracle.of_corpus(vectors, corpus.texts)
        self.folder.write_json(f"{place}/oracle/metrics.json", {"round": number, **truth})
        self._write_csv(number + 1)

    def _public(
        self, corpus: Corpus, vectors: NDArray[np.float32], record: RoundRecord | None, number: int = 0
    ) -> dict[str, object]:
        metrics: dict[str, object] = {
            "round": record.number if record else number,
            "candidates": len(corpus),
            "topics": len({example.attributes.get("topic", "") for example in corpus}),
            "families": len({example.root for example in corpus}),
            "self_similarity": self_similarity(vectors),
        }
        if record is None:
            return metrics
        counts, reports = record.estimate.counts, record.estimate.reports
        noise = float(np.min(record.estimate.stderr))
        return metrics | {
            "reports": reports,
            "stderr": noise,
            "votes_per_candidate": reports / len(corpus),
            "over_threshold": int((z_scores(record.estimate) >= self.threshold).sum()),
            "winners": len(record.selection.picks),
            "largest_count": float(counts.max()),
            "none_share": record.none[0] / reports,
            "none_share_stderr": record.none[1] / reports,
            "bytes_down": record.bytes_down,
            "bytes_up": -(-record.report_bits // 8),
            "attempted": record.attempted,
        }

    def _write_csv(self, rounds: int) -> None:
        for name, place in (("metrics.csv", ""), ("oracle/metrics.csv", "oracle/")):
            rows = [self.folder.read_json(f"rounds/{r:03d}/{place}metrics.json") for r in range(rounds)]
            self.folder.write_csv(name, rows)


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Infinite z-scores (no noise) as the largest float, which every reader of Parquet and JSON understands."""
    return np.nan_to_num(values, posinf=np.finfo(np.float64).max, neginf=np.finfo(np.float64).min)
