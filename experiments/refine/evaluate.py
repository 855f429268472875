"""Evaluation against the noise-free truth: simulation only. What this file computes is written under oracle/ alone.

A real deployment has no access to any of it. The second encoder (the judge) is not the one that voted: a candidate set
tuned to one embedding space must look good in another to count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aggregate.round import RoundRecord
from device_poll.fleet import SimulatedFleet
from device_poll.matching import Matcher
from device_poll.population import Population, device_codes
from embed.compact import compact
from embed.encoder import Encoder
from experiments.refine.measures import frechet_distance, manifold
from privacy.poll import Choice


@dataclass(frozen=True, kw_only=True)
class EvaluationRule:
    """`sample` real items are judged in the second encoder; `frechet_dimensions` and `neighbours` as in measures.py."""

    sample: int = 1000
    frechet_dimensions: int = 64
    neighbours: int = 5

    def __post_init__(self) -> None:
        if self.sample <= self.neighbours or self.neighbours < 1 or self.frechet_dimensions < 1:
            raise ValueError(
                f"evaluation.sample is {self.sample}, neighbours {self.neighbours}, frechet_dimensions "
                f"{self.frechet_dimensions}; expected sample > neighbours >= 1 and frechet_dimensions >= 1"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Oracle:
    """Everything the evaluation knows and the server must not.

    `sample` float32[s, d2] are real items in the judge's space, `sampled` int64[s] their places; `labels` (one per
    item, in the population's order) and `shares` are there only for a population whose truth is known, such as the
    town.
    """

    fleet: SimulatedFleet = field(repr=False)
    population: Population = field(repr=False)
    judge: Encoder
    sample: NDArray[np.float32] = field(repr=False)
    sampled: NDArray[np.int64] = field(repr=False)
    rule: EvaluationRule
    labels: NDArray[np.str_] | None = field(default=None, repr=False)
    shares: Mapping[str, float] | None = None

    def true_votes(self, record: RoundRecord) -> NDArray[np.int64]:
        """int64[Choice.answers]: how many devices of the round's cohort gave each answer."""
        answers = self.fleet.true_answers(compact(record.embeddings), record.number)
        return Choice(len(record.embeddings)).counted(answers.values)

    def of_corpus(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> dict[str, float]:
        """How well a corpus covers the devices' items, in the voting space and in the judge's."""
        matches = Matcher(compact(vectors)).match(device_codes(self.population.embeddings))
        judged = self.judge.encode(texts)
        overlap = manifold(judged, self.sample, min(self.rule.neighbours, len(texts) - 1, len(self.sample) - 1))
        dimensions = min(self.rule.frechet_dimensions, self.sample.shape[1], len(self.sample) - 1)
        return {
            "similarity": float(matches.similarity.mean()),
            "recall": overlap.recall,
            "coverage": overlap.coverage,
            "precision": overlap.precision,
            f"fid_pca{dimensions}": frechet_distance(judged, self.sample, dimensions),
        }

    def topics(self, judged: NDArray[np.float32]) -> dict[str, dict[str, float]]:
        """Of each label its known share of the devices' items and its share of these texts, float32[n, d2] in the
        judge's space; empty where the truth is not known.

        A text counts for the label whose sampled items' mean vector is nearest: labels of items are known, those of
        synthetic texts are not.
        """
        if self.labels is None or self.shares is None:
            return {}
        labels = self.labels[self.sampled]
        names = [name for name in sorted(self.shares) if (labels == name).any()]
        means = np.stack([self.sample[labels == name].mean(axis=0) for name in names])
        place = np.argmax(judged @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T, axis=1)
        found = dict(zip(names, (np.bincount(place, minlength=len(names)) / len(judged)).tolist(), strict=True))
        return {name: {"known": share, "texts": found.get(name, 0.0)} for name, share in sorted(self.shares.items())}

    def of_poll(self, record: RoundRecord, votes: NDArray[np.int64]) -> dict[str, float]:
        """How close the noisy estimate came to the true votes.

        `rank_correlation` is Spearman's; `vote_mass_kept` the share of true votes for candidates that won;
        `error_in_stderr` the root mean square of (estimate - truth) / stderr, which is near 1 if the claimed standard
        errors are right (0 without noise).
        """
        from scipy.stats import spearmanr  # takes a second to import: not before the configuration was checked

        none = Choice(len(record.embeddings)).none
        truth = votes[:none].astype(np.float64)
        error, stderr = record.estimate.counts - truth, record.estimate.stderr
        varies = np.ptp(truth) > 0 and np.ptp(record.estimate.counts) > 0
        scaled = error[stderr > 0] / stderr[stderr > 0]
        return {
            # Spearman's coefficient does not exist when one side is constant; 0 says 'no information'.
            "rank_correlation": float(spearmanr(truth, record.estimate.counts).statistic) if varies else 0.0,
            "vote_mass_kept": float(truth[record.selection.picks].sum() / max(truth.sum(), 1.0)),
            "none_share_true": float(votes[none] / votes.sum()),
            "error_in_stderr": float(np.sqrt(np.mean(scaled**2))) if len(scaled) else 0.0,
        }

    def by_label(self, record: RoundRecord, votes: NDArray[np.int64]) -> list[dict[str, object]]:
        """Known share, true votes and estimated votes of each label; empty where the truth is not known.

        A candidate counts for the label whose items' mean vector is nearest. The gap between `known` and `voted` is
        what matching loses; the gap between `voted` and `estimated` is privacy noise, to be read in `stderr`.
        """
        if self.labels is None or self.shares is None:
            return []
        names = sorted(self.shares)
        means = np.stack([self.population.embeddings[self.labels == name].mean(axis=0) for name in names])
        place = np.argmax(record.embeddings @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T, axis=1)
        reports = record.estimate.reports
        rows: list[dict[str, object]] = []
        for i, name in enumerate(names):
            mine = place == i
            rows.append(
                {
                    "label": name,
                    "known": self.shares[name],
                    "voted": float(votes[: len(place)][mine].sum() / reports),
                    "estimated": float(record.estimate.counts[mine].sum() / reports),
                    "stderr": float(np.sqrt((record.estimate.stderr[mine] ** 2).sum()) / reports),
                    "candidates": int(mine.sum()),
                }
            )
        return rows
