"""What a round leaves in the run folder. Public numbers and noise-free truth part ways here, by folder.

rounds/000/metrics.json             what the server itself knows       -> metrics.csv
rounds/000/oracle/metrics.json      what only a simulation can know    -> oracle/metrics.csv
rounds/000/oracle/ledger.json       what only the devices' side knows: who was silent, what other use cases cost
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from aggregate.round import RoundRecord, RoundState
from aggregate.selection import z_scores
from device_poll.fleet import SimulatedFleet
from embed.compact import CompactEmbeddings, compact
from experiments.evaluate import Oracle
from experiments.measures import self_similarity
from experiments.progress import bar
from experiments.store import RunFolder
from experiments.trackers.run_folder import write_parquet
from privacy.budget import MICRO
from privacy.ledger import LedgerSummary
from privacy.mechanism import Mechanism, ReportBatch, Tally
from synth.corpus import Corpus
from synth.generator import Encode, Generation, Generator, Progress

log = logging.getLogger("synthpoll")


@dataclass(frozen=True)
class Timings:
    """Seconds per stage, in timings.csv: the only file of a run folder that may differ between equal runs."""

    folder: RunFolder
    _rows: list[dict[str, object]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        path = self.folder.path / "timings.csv"
        if path.exists():  # a resumed run adds to what it took before
            self._rows.extend(self.folder.read_csv(path.name))

    @contextmanager
    def measure(self, round: int, stage: str) -> Iterator[dict[str, object]]:
        """Time a block, which may add facts to its row. `round` is -1 for work before the first."""
        start, facts = time.perf_counter(), dict[str, object]()
        yield facts
        seconds = round_to(time.perf_counter() - start, 3)
        self._rows.append({"round": round, "stage": stage, "seconds": seconds, **facts})
        self.folder.write_csv("timings.csv", self._rows)


def effort(made: Generation) -> dict[str, object]:
    """What writing took, for its row of timings.csv: with the cache it is less, so equal runs may differ in it."""
    return {"attempted": made.attempted, "kept": len(made.corpus), "tokens": made.tokens, "reused": made.reused}


class Stages:
    """The stages of a round, one after the other: each is timed, and a terminal shows which runs now.

    with stages.of(3):
        advance = stages.enter("poll", "polling")     # ends the stage before
        advance(done, wanted)
    """

    def __init__(self, timings: Timings, console: Console, title: str) -> None:
        self._timings, self._console, self.title = timings, console, title
        self._round, self._open, self._facts = 0, ExitStack(), dict[str, object]()

    @contextmanager
    def of(self, round: int) -> Iterator[None]:
        """A round's stages. One that fails is not timed."""
        self._round = round
        with ExitStack() as self._open:
            yield

    def enter(self, stage: str, doing: str) -> Progress:
        """Begin a stage, named so in timings.csv and in words on the terminal; returns its bar."""
        self._open.close()
        self._facts = self._open.enter_context(self._timings.measure(self._round, f"{self.title}: {stage}"))
        return self._open.enter_context(bar(self._console, f"{self.title}, round {self._round}: {doing}"))

    def note(self, facts: Mapping[str, object]) -> None:
        """Facts for the row of the stage that is open."""
        self._facts.update(facts)


@dataclass(frozen=True, kw_only=True)
class StagedFleet:
    """A fleet whose polls are a stage. A round stays pure: what is timed are its ports."""

    fleet: SimulatedFleet
    stages: Stages

    def poll(self, use_case: str, slate: CompactEmbeddings, mechanism: Mechanism, round: int) -> Iterator[ReportBatch]:
        """The fleet's reports, counted as they come."""
        advance, done, wanted = self.stages.enter("poll", "polling"), 0, len(self.fleet.cohorts.answering[round])
        advance(done, wanted)
        for batch in self.fleet.poll(use_case, slate, mechanism, round):
            done += len(batch.senders)
            advance(done, wanted)
            yield batch
        self.stages.enter("tally", "counting")


@dataclass(frozen=True, kw_only=True)
class StagedGenerator:
    """A generator whose variations are a stage."""

    generator: Generator
    stages: Stages

    @property
    def name(self) -> str:
        """The generator's."""
        return self.generator.name

    @property
    def reproducible(self) -> str | None:
        """The generator's."""
        return self.generator.reproducible

    def check(self) -> None:
        """The generator's."""
        self.generator.check()

    def with_encoder(self, encode: Encode) -> StagedGenerator:
        """The same, staged."""
        return StagedGenerator(generator=self.generator.with_encoder(encode), stages=self.stages)

    def seed(self, n: int, stream: np.random.SeedSequence, progress: Progress) -> Generation:
        """The generator's; it is no part of a round."""
        return self.generator.seed(n, stream, progress)

    def vary(
        self,
        parents: Corpus,
        weights: NDArray[np.float64],
        n: int,
        round: int,
        stream: np.random.SeedSequence,
        progress: Progress,
    ) -> Generation:
        """The generator's, on this stage's bar."""
        made = self.generator.vary(parents, weights, n, round, stream, self.stages.enter("vary", "varying"))
        self.stages.note(effort(made))
        log.info("%s, round %d: %s", self.stages.title, round, made.counted)
        return made


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
        folder.write_arrays(f"{place}/tally.npz", _saved(record.tally))
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
        paid = self._paid(record)
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
                **({} if paid is None else {"largest_lifetime_spent": paid.largest_lifetime / MICRO}),
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

    def _paid(self, record: RoundRecord) -> LedgerSummary | None:
        """What the ledger holds after this poll; written under oracle/, for the server is told its reports only."""
        fleet, number = self.oracle.fleet, record.number
        if fleet.accounts is None:
            return None
        answered = fleet.answered(compact(record.embeddings), number)
        totals = fleet.accounts.ledger.summary()
        self.folder.write_json(
            f"rounds/{number:03d}/oracle/ledger.json",
            {
                "round": number,
                "day": fleet.accounts.first_day + number,
                "asked": len(fleet.cohorts.asked[number]),
                "reachable": len(answered),
                "reported": int(answered.sum()),
                "silent_without_budget": int((~answered).sum()),
                "opted_in_over_all_use_cases": totals.opted_in,
                "charged_over_all_use_cases": totals.charged,
                "largest_lifetime_spent": totals.largest_lifetime / MICRO,
                "largest_day_spent": totals.largest_day / MICRO,
            },
        )
        return totals

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
            "report_bits": record.report_bits,
            "attempted": record.attempted,
        }

    def _write_csv(self, rounds: int) -> None:
        for name, place in (("metrics.csv", ""), ("oracle/metrics.csv", "oracle/")):
            rows = [self.folder.read_json(f"rounds/{r:03d}/{place}metrics.json") for r in range(rounds)]
            self.folder.write_csv(name, rows)
            write_parquet(self.folder, name.replace(".csv", ".parquet"), rows)


def _saved(tally: Tally) -> dict[str, object]:
    """The arrays of Tally.save, which writes to a path: here a file has to appear whole or not at all."""
    return {
        "sums": tally.sums,
        "reports": np.int64(tally.reports),
        "parameters": np.array(json.dumps(dict(tally.parameters))),
    }


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Infinite z-scores (no noise) as the largest float, which every reader of Parquet and JSON understands."""
    return np.nan_to_num(values, posinf=np.finfo(np.float64).max, neginf=np.finfo(np.float64).min)
