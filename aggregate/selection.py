"""Which candidates go on to the next round, and how many children each gets.

A selector sees the estimate with its standard errors and nothing else: no truth, no device.

    selection = RankSelector().pick(estimate, k=75, rng=rng)
    corpus.take(selection.picks)         # winners, best first
    selection.weights                    # children in proportion to these
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """`picks` int64[<= k], distinct, best first; `weights` float64, one per pick, >= 0 and not all 0."""

    picks: NDArray[np.int64]
    weights: NDArray[np.float64]


class Selector(Protocol):
    """Chooses at most k of the candidates that an estimate is about."""

    def pick(self, estimate: Estimate, k: int, rng: np.random.Generator) -> Selection:
        """At most k candidates, best first. `estimate` has one entry per candidate ('none of these' is not among)."""


def z_scores(estimate: Estimate) -> NDArray[np.float64]:
    """Each count in its own standard errors; without noise any positive count is infinitely significant."""
    noisy = estimate.stderr > 0
    z = np.where(estimate.counts > 0, np.inf, -np.inf)
    z[noisy] = estimate.counts[noisy] / estimate.stderr[noisy]
    return z


def _weights(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimated votes, held at 0 from below (post-processing); even weights if none is positive."""
    positive = np.maximum(counts, 0.0)
    return positive if positive.sum() > 0 else np.ones(len(counts))


@dataclass(frozen=True, kw_only=True)
class RankSelector:
    """The k candidates with the most estimated votes; ties to the lowest index. Aug-PE's rank selection."""

    def pick(self, estimate: Estimate, k: int, rng: np.random.Generator) -> Selection:
        """The k largest counts."""
        picks = np.argsort(-estimate.counts, kind="stable")[:k].astype(np.int64)
        return Selection(picks=picks, weights=_weights(estimate.counts[picks]))


@dataclass(frozen=True, kw_only=True)
class ZScoreSelector:
    """The candidates whose count is at least `z` standard errors above zero, at most k of them, at least `at_least`.

    Where the budget resolves few candidates, this keeps noise out of the next round. With m candidates about
    m (1 - Phi(z)) candidates without any vote pass: 0.4 of 300 at z = 3, 7 at z = 2. `at_least` keeps the best few
    of a poll in which hardly anything is significant.
    """

    z: float = 2.0
    at_least: int = 10

    def __post_init__(self) -> None:
        if self.at_least < 1:
            raise ValueError(f"decision.selector.at_least is {self.at_least}; expected 1 or more candidates")

    def pick(self, estimate: Estimate, k: int, rng: np.random.Generator) -> Selection:
        """The significant candidates, largest count first."""
        order = np.argsort(-estimate.counts, kind="stable").astype(np.int64)
        significant = order[z_scores(estimate)[order] >= self.z]
        picks = (significant if len(significant) >= self.at_least else order[: self.at_least])[:k]
        return Selection(picks=picks, weights=_weights(estimate.counts[picks]))


@dataclass(frozen=True, kw_only=True)
class SampleSelector:
    """k candidates drawn without replacement, in proportion to their estimated votes (held at 0 from below)."""

    def pick(self, estimate: Estimate, k: int, rng: np.random.Generator) -> Selection:
        """A weighted draw, largest count first."""
        votes = _weights(estimate.counts)
        drawable = int((votes > 0).sum())
        drawn = rng.choice(len(votes), size=min(k, drawable), replace=False, p=votes / votes.sum())
        picks = drawn[np.argsort(-estimate.counts[drawn], kind="stable")].astype(np.int64)
        return Selection(picks=picks, weights=_weights(estimate.counts[picks]))


@dataclass(frozen=True, kw_only=True)
class RandomSelector:
    """k candidates at random, whatever the votes: the floor that a poll must beat."""

    def pick(self, estimate: Estimate, k: int, rng: np.random.Generator) -> Selection:
        """A uniform draw with even weights."""
        picks = rng.permutation(len(estimate.counts))[:k].astype(np.int64)
        return Selection(picks=picks, weights=np.ones(len(picks)))
