"""What one poll about a slate measured, as aggregate/density.py takes it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Estimate

Floats = NDArray[np.float64]
JITTER = 1e-6  # of a covariance's diagonal, so that it has an inverse


@dataclass(frozen=True, kw_only=True, eq=False)
class SlatePoll:
    """What one poll measured: `slate` float32[m, d]; `estimate` of its m candidates and of 'none of these', the last.

    `adds_up`: the mechanism's counts add up to the reports, so their errors hang together. Raises ValueError for other
    numbers of answers, without reports, and for a slate of one text, of which a poll says nothing.
    """

    slate: NDArray[np.float32] = field(repr=False)
    estimate: Estimate = field(repr=False)
    adds_up: bool = False

    def __post_init__(self) -> None:
        if len(self.estimate.counts) != len(self.slate) + 1 or self.estimate.reports < 1:
            raise ValueError(
                f"a poll has {len(self.estimate.counts)} counts of {self.estimate.reports} reports; expected one for "
                f"each of {len(self.slate)} candidates and for 'none of these', of 1 report or more"
            )
        if len(self.slate) < 2:
            raise ValueError(f"a slate has {len(self.slate)} candidates; expected 2 or more, to compare")

    @property
    def shares(self) -> Floats:
        """float64[m + 1]: the estimated share of each answer; noise takes some below 0."""
        return self.estimate.counts / self.estimate.reports

    def covariance(self, expected: Floats) -> Floats:
        """float64[m + 1, m + 1] of the shares, where `expected` is what they are on average."""
        n, answers = self.estimate.reports, len(expected)
        noise = np.diag((self.estimate.stderr / n) ** 2)
        if self.adds_up:  # errors whose sum is 0, each as large as it is
            noise -= noise.mean(axis=0) + noise.mean(axis=1)[:, None] - noise.mean()
            noise *= answers / (answers - 1)
        # A candidate can stand for a place that no text is at, so what is expected can be far too little.
        cohort = np.diag(np.maximum(expected, 1 / n)) - np.outer(expected, expected)
        matrix = noise + cohort / n
        matrix[np.diag_indices(answers)] *= 1 + JITTER  # where both add up, there is no inverse
        return np.asarray(matrix)
