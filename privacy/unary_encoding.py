"""Optimized unary encoding (OUE): one bit per value, each flipped on its own.

Among the best frequency oracles for large domains at moderate epsilon; the report has one bit per value.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Estimate, Parameters, Reports, Tally
from privacy.randomness import RandomBytes, random_words
from privacy.thresholds import WORD, ceil_threshold, check_domain, check_epsilon, check_values, exp_below
from privacy.unbiased import check_tally, two_level_estimate, two_level_stderr

# Rows are privatized in slices of about this many bits, which bounds the memory of one call (8 bytes a bit).
_SLICE_BITS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class OptimizedUnaryEncoding:
    """Wang, Blocki, Li, Jha 2017, section 4.3 (OUE): the true bit is sent as 1 with p = 1/2, any other with
    q = 1 / (e^eps + 1).

    Reports: uint8[n, ceil(d / 8)], bits packed most significant first, padding bits 0. Wire size: d bits.
    Variance of a count with true value f among n reports: f p(1-p)/(p-q)^2 + (n-f) q(1-q)/(p-q)^2, which for f = 0 is
    4 n e^eps / (e^eps - 1)^2.

    Raises ValueError if epsilon is outside (0, 12] or domain_size outside 2 .. largest_domain.
    """

    epsilon: float
    domain_size: int

    name: ClassVar[str] = "optimized_unary_encoding"
    largest_domain: ClassVar[int] = 1 << 20  # a report of 128 KiB

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_domain(self.domain_size, self.largest_domain, self.name)

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return self.domain_size

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        return {"mechanism": self.name, "epsilon": float(self.epsilon), "domain_size": int(self.domain_size)}

    @cached_property
    def thresholds(self) -> tuple[int, int]:
        """(T_p, T_q): a 1 is sent if a 64-bit word is below T_p (the true bit) or T_q (any other).

        Two values differ in two bits; the largest ratio of report probabilities is p (1 - q) / (q (1 - p)), which at
        p = 1/2 is (1 - q) / q. Rounding q up keeps it within e^eps exactly.
        """
        return WORD // 2, ceil_threshold(Fraction(1) / (exp_below(self.epsilon) + 1))

    @property
    def p(self) -> float:
        """Probability that the true bit is sent as 1."""
        return self.thresholds[0] / WORD

    @property
    def q(self) -> float:
        """Probability that any other bit is sent as 1."""
        return self.thresholds[1] / WORD

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values -> uint8[n, ceil(d / 8)] packed bits. d 64-bit words a report, always."""
        values = check_values(values, self.domain_size)
        d, (t_p, t_q) = self.domain_size, self.thresholds
        packed = np.empty((len(values), (d + 7) // 8), dtype=np.uint8)
        step = max(1, _SLICE_BITS // d)
        for start in range(0, len(values), step):
            rows = values[start : start + step]
            words = random_words(rng, len(rows) * d).reshape(len(rows), d)
            bits = words < np.uint64(t_q)
            own = np.arange(len(rows))
            bits[own, rows] = words[own, rows] < np.uint64(t_p)
            packed[start : start + step] = np.packbits(bits, axis=1)
        return packed

    def tally(self, reports: Reports) -> Tally:
        """How many reports have each bit set, int64[domain_size]. Raises ValueError for reports of another shape."""
        d = self.domain_size
        reports = np.asarray(reports)
        if reports.ndim != 2 or reports.dtype != np.uint8 or reports.shape[1] != (d + 7) // 8:
            raise ValueError(
                f"reports have shape {reports.shape} and dtype {reports.dtype}; expected uint8[n, {(d + 7) // 8}]"
            )
        if d % 8 and np.any(reports[:, -1] & ((1 << (8 - d % 8)) - 1)):
            raise ValueError("reports have padding bits set; they were not made by this mechanism")
        sums = np.zeros(d, dtype=np.int64)
        step = max(1, _SLICE_BITS // d)
        for start in range(0, len(reports), step):
            bits = np.unpackbits(reports[start : start + step], axis=1, count=d)
            sums += bits.sum(axis=0, dtype=np.int64)
        return Tally(sums, len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """Unbiased counts and their standard errors."""
        check_tally(tally, self.parameters)
        return two_level_estimate(tally, self.p, self.q, values, self.domain_size)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """Exact law of the tally: the bits are independent, so T_v = Bin(f_v, p) + Bin(n - f_v, q)."""
        counts = np.asarray(counts, dtype=np.int64)
        n = int(counts.sum())
        sums = rng.binomial(counts, self.p) + rng.binomial(n - counts, self.q)
        return Tally(sums.astype(np.int64), n, self.parameters)

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of a count, in devices."""
        return two_level_stderr(reports, count, self.p, self.q)
