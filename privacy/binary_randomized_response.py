"""Binary randomized response: answer a yes/no question truthfully with probability p, else lie.

The oldest mechanism of all, and the best one for two values. One bit a report.

    question = BinaryRandomizedResponse(epsilon=1.0)
    estimate = question.estimate(question.tally(question.privatize(answers, rng)))   # counts of 0 and of 1
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Estimate, Mechanism, Parameters, Reports, Tally, check_counts, one_hot
from privacy.randomness import PIECE, RandomBytes, device_stream
from privacy.thresholds import WORD, check_domain, check_epsilon, check_values, exp_below, not_below
from privacy.unbiased import (
    check_resolution,
    check_tally,
    two_level_estimate,
    two_level_gain,
    two_level_influence,
    two_level_stderr,
)


@dataclass(frozen=True, kw_only=True)
class BinaryRandomizedResponse(Mechanism):
    """Warner 1965, section 2, with p = e^eps / (e^eps + 1) as in Kairouz, Oh, Viswanath 2014, section 3.1.

    Reports: uint8[n], 0 or 1. Wire size: 1 bit. Variance of either count, whatever its true value, in devices
    squared: n p(1-p)/(2p-1)^2 = n e^eps / (e^eps - 1)^2.

    Raises ValueError if epsilon is outside (0, 12] or domain_size is not 2.
    """

    epsilon: float
    domain_size: int = 2

    name: ClassVar[str] = "binary_randomized_response"
    largest_domain: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_domain(self.domain_size, self.largest_domain, self.name)
        check_resolution(self.epsilon, self.p, self.q)

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return 1

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        return {"mechanism": self.name, "epsilon": float(self.epsilon), "domain_size": 2}

    @cached_property
    def threshold(self) -> int:
        """T: the truth is reported if a 64-bit word is below T, the largest with T <= e^eps (2^64 - T)."""
        e = exp_below(self.epsilon)
        return math.floor(WORD * e / (e + 1))

    def channel(self) -> list[list[Fraction]]:
        """P[report | value] exactly, 2 x 2."""
        truth = Fraction(self.threshold, WORD)
        return [[truth, 1 - truth], [1 - truth, truth]]

    @property
    def p(self) -> float:
        """Probability of reporting the truth."""
        return self.threshold / WORD

    @property
    def q(self) -> float:
        """Probability of reporting the other value."""
        return (WORD - self.threshold) / WORD

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values 0 or 1 -> uint8[n] reports. One 64-bit word a report, always.

        Raises TypeError for values that are no integers, ValueError for values other than 0 and 1.
        """
        values = check_values(values, 2)
        reports = values.astype(np.uint8)
        stream, threshold = device_stream(rng), np.uint64(self.threshold)
        words = np.empty(max(1, min(len(values), PIECE // 8)), dtype=np.uint64)
        for start in range(0, len(values), len(words)):
            part = reports[start : start + len(words)]
            drawn = words[: len(part)]
            stream.fill(drawn)
            part ^= drawn >= threshold
        return reports

    def tally(self, reports: Reports) -> Tally:
        """How many reports are 0 and how many are 1, int64[2]."""
        reports = check_values(reports, 2)
        ones = int(np.count_nonzero(reports))
        return Tally(np.array([len(reports) - ones, ones], dtype=np.int64), len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """Unbiased counts and their standard errors."""
        check_tally(tally, self.parameters, (2,))
        return two_level_estimate(tally, self.p, self.q, values, 2)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """Exact law of the tally: T_1 = Bin(f_1, p) + Bin(f_0, q), T_0 = n - T_1."""
        zeros, ones = check_counts(counts, 2).tolist()
        said = int(rng.binomial(ones, self.p) + rng.binomial(zeros, self.q))
        return Tally(np.array([zeros + ones - said, said], dtype=np.int64), zeros + ones, self.parameters)

    def contributions(self, reports: Reports) -> NDArray[np.int64]:
        """One-hot vectors of the answers, int64[n, 2]."""
        return one_hot(reports, 2)

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        """Numbers other than 0 and 1."""
        return not_below(reports, 2)

    @property
    def largest_influence(self) -> float:
        """(1 - q) / (p - q) = e^eps / (e^eps - 1)."""
        return two_level_influence(self.p, self.q)

    def largest_gain(self, targets: int) -> float:
        """(1 - q) / (p - q) for one target, 1 for both answers together."""
        return two_level_gain(1, targets, self.p, self.q)

    @property
    def total_variation(self) -> float:
        """At most p - q, and rounding the threshold only lowers it."""
        return math.tanh(self.epsilon / 2)

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of a count, in devices; the same for every true count."""
        return two_level_stderr(reports, count, self.p, self.q)
