"""The null object: reports are the true values. For ceilings in evaluation, never for a release."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Estimate, Mechanism, Parameters, Reports, Tally, check_counts, one_hot
from privacy.randomness import RandomBytes
from privacy.thresholds import check_domain, check_values, not_below
from privacy.unbiased import check_tally


@dataclass(frozen=True, kw_only=True)
class NoPrivacy(Mechanism):
    """Privacy off, as a class rather than an `if`. Epsilon is infinite, estimates are exact, standard errors are 0.

    Reports: int64[n], the values. Wire size: ceil(log2 d) bits. Variance of a count: 0 devices squared.

    Raises ValueError if domain_size is outside 2 .. largest_domain.
    """

    domain_size: int

    name: ClassVar[str] = "no_privacy"
    largest_domain: ClassVar[int] = 1 << 31
    epsilon: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        check_domain(self.domain_size, self.largest_domain, self.name)

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return (int(self.domain_size) - 1).bit_length()

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        return {"mechanism": self.name, "domain_size": int(self.domain_size)}

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """The values themselves."""
        return check_values(values, self.domain_size).copy()

    def tally(self, reports: Reports) -> Tally:
        """The true histogram."""
        reports = check_values(reports, self.domain_size)
        return Tally(np.bincount(reports, minlength=self.domain_size), len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """The true counts; standard errors are 0."""
        check_tally(tally, self.parameters, (self.domain_size,))
        sums = tally.sums if values is None else tally.sums[check_values(values, self.domain_size)]
        counts = sums.astype(np.float64)
        return Estimate(counts, np.zeros_like(counts), tally.reports)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """The counts themselves."""
        counts = check_counts(counts, self.domain_size).copy()
        return Tally(counts, int(counts.sum()), self.parameters)

    def contributions(self, reports: Reports) -> NDArray[np.int64]:
        """One-hot vectors of the values, int64[n, domain_size]."""
        return one_hot(reports, int(self.domain_size))

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        """Numbers that are no value."""
        return not_below(reports, self.domain_size)

    @property
    def largest_influence(self) -> float:
        """1: a report is a vote."""
        return 1.0

    def largest_gain(self, targets: int) -> float:
        """1, for one of the targets."""
        return 1.0

    @property
    def total_variation(self) -> float:
        """1: no report can be made by two values."""
        return 1.0

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Zero."""
        return 0.0
