"""k-ary randomized response (GRR): report the true value with probability p, any other value with probability q.

The best frequency oracle for small domains (roughly d < 3 e^epsilon + 2), and the smallest report: one number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Estimate, Parameters, Reports, Tally
from privacy.randomness import RandomBytes, random_words
from privacy.thresholds import WORD, check_domain, check_epsilon, check_values, exp_below, scaled_words
from privacy.unbiased import check_tally, two_level_estimate, two_level_stderr


@dataclass(frozen=True, kw_only=True)
class RandomizedResponse:
    """Generalized randomized response, Kairouz, Bonawitz, Ramage 2016, section 3 (k-RR).

    p = e^eps / (e^eps + d - 1), q = 1 / (e^eps + d - 1). Reports: int64[n]. Wire size: ceil(log2 d) bits.
    Variance of a count with true value f among n reports: f p(1-p)/(p-q)^2 + (n-f) q(1-q)/(p-q)^2, which for f = 0 is
    n (d - 2 + e^eps) / (e^eps - 1)^2.

    Raises ValueError if epsilon is outside (0, 12] or domain_size outside 2 .. largest_domain.
    """

    epsilon: float
    domain_size: int

    name: ClassVar[str] = "randomized_response"
    largest_domain: ClassVar[int] = 1 << 31

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_domain(self.domain_size, self.largest_domain, self.name)

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return math.ceil(math.log2(self.domain_size))

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        return {"mechanism": self.name, "epsilon": float(self.epsilon), "domain_size": int(self.domain_size)}

    @cached_property
    def threshold(self) -> int:
        """T: the true value is reported if a 64-bit word is below T.

        The rarest other value has probability (2^64 - T) s / 2^128 with s = floor(2^64 / (d - 1)), so the largest T
        with T 2^64 <= e^eps (2^64 - T) s keeps every ratio within e^eps exactly.
        """
        s = WORD // (self.domain_size - 1)
        e = exp_below(self.epsilon)
        return math.floor(Fraction(WORD) * e * s / (WORD + e * s))

    @property
    def p(self) -> float:
        """Probability of reporting the true value."""
        return self.threshold / WORD

    @property
    def q(self) -> float:
        """Probability of reporting one given other value."""
        return (WORD - self.threshold) / WORD / (self.domain_size - 1)

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values -> int64[n] reported values. Two 64-bit words a report, always."""
        values = check_values(values, self.domain_size)
        words = random_words(rng, 2 * len(values))
        keep, other = words[0::2] < np.uint64(self.threshold), scaled_words(words[1::2], self.domain_size - 1)
        other += other >= values  # skip the true value
        return np.where(keep, values, other)

    def tally(self, reports: Reports) -> Tally:
        """Histogram of reported values, int64[domain_size]."""
        reports = check_values(reports, self.domain_size)
        return Tally(np.bincount(reports, minlength=self.domain_size), len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """Unbiased counts and their standard errors."""
        check_tally(tally, self.parameters)
        return two_level_estimate(tally, self.p, self.q, values, self.domain_size)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """Exact law of the tally for devices with these true counts.

        Keep-or-replace as a mixture: with probability p - q the value itself, else uniform over all d values.
        """
        counts = np.asarray(counts, dtype=np.int64)
        kept = rng.binomial(counts, self.p - self.q)
        uniform = rng.multinomial(int(counts.sum() - kept.sum()), np.full(self.domain_size, 1 / self.domain_size))
        return Tally((kept + uniform).astype(np.int64), int(counts.sum()), self.parameters)

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of a count, in devices."""
        return two_level_stderr(reports, count, self.p, self.q)
