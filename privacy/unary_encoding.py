"""Unary encoding: one bit per value, each flipped on its own. Optimized (OUE) and symmetric (basic RAPPOR).

OUE is among the best frequency oracles for large domains at moderate epsilon; SUE is the classic, a little worse at
every epsilon. A report has one bit per value.

    mechanism = OptimizedUnaryEncoding(epsilon=4.0, domain_size=301)
    estimate = mechanism.estimate(mechanism.tally(mechanism.privatize(values, rng)))
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.kernels import OwnBit, count_bits, noisy_one_hot, outside
from privacy.mechanism import Binomials, Estimate, Mechanism, Parameters, Reports, Tally, check_counts
from privacy.randomness import RandomBytes, device_stream
from privacy.thresholds import WORD, ceil_threshold, check_domain, check_epsilon, check_values, exp_below
from privacy.unbiased import (
    check_resolution,
    check_tally,
    two_level_estimate,
    two_level_gain,
    two_level_influence,
    two_level_stderr,
)
from privacy.validity import set_bit_bounds


@dataclass(frozen=True, kw_only=True)
class _UnaryEncoding(Mechanism):
    """What both unary encodings share: everything but the two probabilities."""

    epsilon: float
    domain_size: int

    name: ClassVar[str]
    own: ClassVar[OwnBit]
    largest_domain: ClassVar[int] = 1 << 20  # a report of 128 KiB

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_domain(self.domain_size, self.largest_domain, self.name)
        check_resolution(self.epsilon, self.p, self.q)

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return int(self.domain_size)

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        return {"mechanism": self.name, "epsilon": float(self.epsilon), "domain_size": int(self.domain_size)}

    @property
    @abstractmethod
    def thresholds(self) -> tuple[int, int]:
        """(T_p, T_q): the true bit is sent as 1 with probability T_p / 2^64, any other with T_q / 2^64."""

    @property
    def p(self) -> float:
        """Probability that the true bit is sent as 1."""
        return self.thresholds[0] / WORD

    @property
    def q(self) -> float:
        """Probability that any other bit is sent as 1."""
        return self.thresholds[1] / WORD

    def channel(self) -> list[list[Fraction]]:
        """P[report | value] exactly, rows by value, columns by the report's bits read as a number (value v is bit v).

        For domains of at most 12 values: 2^d columns.
        """
        d = self.domain_size
        if d > 12:
            raise ValueError(f"domain_size is {d}; the channel is enumerated for 2 to 12 values (2^d reports)")
        p, q = (Fraction(t, WORD) for t in self.thresholds)

        def probability(bits: tuple[int, ...], value: int) -> Fraction:
            result = Fraction(1)
            for i, bit in enumerate(reversed(bits)):
                one = p if i == value else q
                result *= one if bit else 1 - one
            return result

        return [[probability(bits, v) for bits in itertools.product((0, 1), repeat=d)] for v in range(d)]

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values -> uint8[n, ceil(d / 8)] packed bits. About 8 random bits a value of the domain.

        Raises TypeError for values that are no integers, ValueError for values outside 0 .. domain_size - 1.
        """
        values = check_values(values, self.domain_size)
        return noisy_one_hot(values, self.domain_size, self.thresholds[1], self.own, device_stream(rng))

    def tally(self, reports: Reports) -> Tally:
        """How many reports have each bit set, int64[domain_size]. Raises ValueError for reports of another shape."""
        return Tally(count_bits(reports, self.domain_size), len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """Unbiased counts and their standard errors."""
        check_tally(tally, self.parameters, (self.domain_size,))
        return two_level_estimate(tally, self.p, self.q, values, self.domain_size)

    def support_law(self, reports: int, count: int) -> Binomials:
        """Own reports with probability p, those of all others with q."""
        return (count, self.p), (reports - count, self.q)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """Exact law of the tally: the bits are independent, so T_v = Bin(f_v, p) + Bin(n - f_v, q)."""
        counts = check_counts(counts, self.domain_size)
        n = int(counts.sum())
        sums = rng.binomial(counts, self.p) + rng.binomial(n - counts, self.q)
        return Tally(sums.astype(np.int64), n, self.parameters)

    @property
    def set_bits(self) -> tuple[int, int]:
        """How many bits of a report are set, at least and at most; a server refuses others (privacy/validity.py)."""
        return set_bit_bounds(int(self.domain_size), self.p, self.q)

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        """Rows with padding bits, or with too few or too many bits set."""
        refused, padding = outside(reports, self.set_bits), int(self.domain_size) % 8
        if padding:
            refused = np.union1d(refused, np.flatnonzero(reports[:, -1] >> padding))
        return refused

    @property
    def largest_influence(self) -> float:
        """(1 - q) / (p - q), which for OUE is 2 + 2 / (e^eps - 1): 2.04 devices at epsilon 4."""
        return two_level_influence(self.p, self.q)

    def largest_gain(self, targets: int) -> float:
        """(min(r, h) - r q) / (p - q) for r targets, where h is the most bits of `set_bits`."""
        return two_level_gain(min(targets, self.set_bits[1]), targets, self.p, self.q)

    def contributions(self, reports: Reports) -> NDArray[np.int64]:
        """The bits of the reports, int64[n, domain_size]."""
        bits = np.unpackbits(reports, axis=1, count=int(self.domain_size), bitorder="little")
        return bits.astype(np.int64)

    def server_operations(self, reports: int, values: int) -> float:
        """Bits are counted a byte at a time."""
        return reports * self.domain_size / 8 + values

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of a count, in devices."""
        return two_level_stderr(reports, count, self.p, self.q)


@dataclass(frozen=True, kw_only=True)
class OptimizedUnaryEncoding(_UnaryEncoding):
    """Wang, Blocki, Li, Jha 2017, section 4.3 (OUE): the true bit is sent as 1 with p = 1/2, any other with
    q = 1 / (e^eps + 1).

    Reports: uint8[n, ceil(d / 8)]; value v is bit v % 8 of byte v // 8, counted from the least significant; padding
    bits are 0. Wire size: d bits. Variance of a count with true value f among n reports, in devices squared:
    f p(1-p)/(p-q)^2 + (n-f) q(1-q)/(p-q)^2, which for f = 0 is 4 n e^eps / (e^eps - 1)^2.

    Raises ValueError if epsilon is outside (0, 12] or domain_size outside 2 .. largest_domain.
    """

    name: ClassVar[str] = "optimized_unary_encoding"
    own: ClassVar[OwnBit] = OwnBit.FAIR

    @cached_property
    def thresholds(self) -> tuple[int, int]:
        """(T_p, T_q): the true bit is sent as 1 with probability T_p / 2^64, any other with T_q / 2^64.

        Two values differ in two bits; the largest ratio of report probabilities is p (1 - q) / (q (1 - p)), which at
        p = 1/2 is (1 - q) / q. Rounding q up keeps it within e^eps exactly.
        """
        return WORD // 2, ceil_threshold(Fraction(1) / (exp_below(self.epsilon) + 1))

    @property
    def total_variation(self) -> float:
        """Two values differ in two bits, and (1, 0) against (0, 1) is all that tells them apart: p - q, at most."""
        return math.tanh(self.epsilon / 2) / 2  # rounding the threshold only lowers it


@dataclass(frozen=True, kw_only=True)
class SymmetricUnaryEncoding(_UnaryEncoding):
    """Wang, Blocki, Li, Jha 2017, section 4.2 (SUE); Erlingsson, Pihur, Korolova 2014 (basic one-time RAPPOR).

    Every bit of the one-hot vector is flipped with probability q = 1 / (e^(eps/2) + 1): the true one is sent as 1 with
    p = 1 - q and, unlike in some implementations, as 0 with q. Reports: uint8[n, ceil(d / 8)] as of
    OptimizedUnaryEncoding. Wire size: d bits. Variance of a count, whatever its true value, in devices squared:
    n q(1-q)/(1-2q)^2 = n e^(eps/2) / (e^(eps/2) - 1)^2.

    Raises ValueError if epsilon is outside (0, 12] or domain_size outside 2 .. largest_domain.
    """

    name: ClassVar[str] = "symmetric_unary_encoding"
    own: ClassVar[OwnBit] = OwnBit.FLIPPED

    @cached_property
    def thresholds(self) -> tuple[int, int]:
        """(T_p, T_q) with T_p = 2^64 - T_q: a bit is flipped with probability T_q / 2^64.

        Two values differ in two bits; the largest ratio of report probabilities is ((1 - q) / q)^2. Rounding q up keeps
        (1 - q) / q within e^(eps/2), and so the square within e^eps, exactly (halving a float is exact).
        """
        t_q = ceil_threshold(Fraction(1) / (exp_below(self.epsilon / 2) + 1))
        return WORD - t_q, t_q

    @property
    def total_variation(self) -> float:
        """p - q, at most, as of OptimizedUnaryEncoding; rounding the threshold only lowers it."""
        return math.tanh(self.epsilon / 4)
