"""What a round leaves in the run folder. Public numbers and noise-free truth part ways here, by folder."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregate.round import RoundRecord, RoundState
from aggregate.selection import z_scores
from aggregate.slate_poll import SlatePoll
from embed.compact import compact
from experiments.folder.layout import Round, truth
from experiments.folder.store import RunFolder
from experiments.metrics import write_metrics
from experiments.refine.evaluate import Oracle
from experiments.refine.measures import self_similarity
from privacy.budget import MICRO
from privacy.mechanism import Estimate, Tally
from synth.corpus import Corpus


@dataclass(frozen=True)
class RoundWriter:
    """Writes rounds into `folder`. `threshold` is in standard errors; `arm` is None for the run itself."""

    folder: RunFolder
    oracle: Oracle
    threshold: float
    arm: str | None

    def write(self, state: RoundState, record: RoundRecord, following: RoundState) -> None:
        """Everything of one round, then the next corpus, then round.json as the mark that the round is complete."""
        step = Round(record.number)
        estimate, folder = record.estimate, self.folder
        picked = np.full(len(state.corpus), -1, dtype=np.int64)
        picked[record.selection.picks] = np.arange(len(record.selection.picks))
        folder.write_array(step.embeddings, record.embeddings)
        folder.write_arrays(step.tally, _saved(record.tally))
        folder.write_table(
            step.estimate,
            state.corpus.to_table(
                {"count": estimate.counts, "stderr": estimate.stderr, "z": _finite(z_scores(estimate)), "rank": picked}
            ).select(["id", "count", "stderr", "z", "rank"]),
        )
        folder.write_json(step.metrics, self._public(state.corpus, record.embeddings, record))
        votes = self.oracle.true_votes(record)
        folder.write_array(step.votes, votes)
        found = {**self._judged(step, state.corpus, record.embeddings), **self.oracle.of_poll(record, votes)}
        folder.write_json(truth(step.metrics), {"round": record.number, **found})
        shares = self.oracle.by_label(record, votes)
        if shares:
            folder.write_csv(step.shares, shares)
        watch = self.oracle.fleet.watch
        if watch is not None:
            reports = watch.drain()
            if self.arm is None:
                folder.write_json(step.report_log, reports)
        self._write_ledger(record)
        if following.pool.examples:
            newborn = Corpus(following.pool.examples[len(state.pool) :])
            folder.write_table(Round(following.number).pool, newborn.to_table())
        folder.write_table(Round(following.number).corpus, following.corpus.to_table())
        folder.write_array(step.next_weights, record.next_weights)
        folder.write_json(
            step.mark,
            {
                "round": record.number,
                "candidates": len(state.corpus),
                "reports": estimate.reports,
                "mechanism": dict(record.tally.parameters),
                "attempted": record.attempted,
                "drops": dict(record.drops),
            }
            | _kept_poll(following, record),
        )
        self._write_csv(record.number + 1)

    def write_final(self, corpus: Corpus, vectors: NDArray[np.float32], number: int) -> None:
        """The refined corpus, evaluated like the slates before it but not polled any more."""
        step = Round(number)
        self.folder.write_array(step.embeddings, vectors)
        self.folder.write_json(step.metrics, self._public(corpus, vectors, None, number))
        self.folder.write_json(truth(step.metrics), {"round": number, **self._judged(step, corpus, vectors)})
        self._write_csv(number + 1)

    def _judged(self, step: Round, corpus: Corpus, vectors: NDArray[np.float32]) -> dict[str, float]:
        """The corpus held against the truth, and where topics are known, how far its own are from them."""
        found = self.oracle.of_corpus(vectors, corpus.texts)
        topics = self.oracle.topics(self.oracle.judge.encode(corpus.texts))
        if topics:
            self.folder.write_csv(step.topics, [{"label": label, **row} for label, row in topics.items()])
            found["topic_distance"] = sum(abs(row["known"] - row["texts"]) for row in topics.values()) / 2
        return found

    def _write_ledger(self, record: RoundRecord) -> None:
        """What the ledger holds after this poll; under oracle/, for the server is told its reports only."""
        fleet, number = self.oracle.fleet, record.number
        if fleet.accounts is None:
            return
        answered = fleet.answered(compact(record.embeddings), number)
        totals = fleet.accounts.ledger.summary()
        self.folder.write_json(
            Round(number).ledger,
            {
                "round": number,
                "day": fleet.day_of(compact(record.embeddings), number),
                "asked": len(fleet.cohorts.asked[number]),
                "reachable": len(answered),
                "reported": int(answered.sum()),
                "silent": int((~answered).sum()),
                "opted_in_over_all_use_cases": totals.opted_in,
                "charged_over_all_use_cases": totals.charged,
                "largest_lifetime_spent": totals.largest_lifetime / MICRO,
                "largest_day_spent": totals.largest_day / MICRO,
            },
        )

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
            "refused_reports": record.refused,
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
            **record.told,
        }

    def _write_csv(self, rounds: int) -> None:
        write_metrics(self.folder, [Round(number) for number in range(rounds)])


def _saved(tally: Tally) -> dict[str, object]:
    """The arrays of Tally.save, which writes to a path: here a file has to appear whole or not at all."""
    return {
        "sums": tally.sums,
        "reports": np.int64(tally.reports),
        "parameters": np.array(json.dumps(dict(tally.parameters))),
    }


def _kept_poll(following: RoundState, record: RoundRecord) -> dict[str, object]:
    """What estimate.parquet lacks of a poll that later decisions look at, too."""
    if not following.polls:
        return {}
    return {"none": list(record.none), "adds_up": following.polls[-1].adds_up}


def polls_before(folder: RunFolder, number: int) -> tuple[SlatePoll, ...]:
    """What the polls before round `number` measured, as `RoundWriter` left it."""
    polls = []
    for step in map(Round, range(number)):
        mark, told = folder.read_json(step.mark), folder.files.table(step.estimate)
        counts, stderr = (
            np.append(told[name].to_numpy(), mark["none"][i]) for i, name in enumerate(("count", "stderr"))
        )
        polls.append(
            SlatePoll(
                slate=folder.files.array(step.embeddings),
                estimate=Estimate(counts, stderr, mark["reports"]),
                adds_up=mark["adds_up"],
            )
        )
    return tuple(polls)


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Infinite z-scores (no noise) as the largest float, which every reader of Parquet and JSON understands."""
    return np.nan_to_num(values, posinf=np.finfo(np.float64).max, neginf=np.finfo(np.float64).min)
