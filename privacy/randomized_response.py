"""k-ary randomized response (GRR): report the true value with probability p, any other value with probability q.

The best frequency oracle for small domains (roughly d < 3 e^epsilon + 2), and the smallest report: one number. Where
'none of these' is an answer, it is a value like any other, and as private (privacy.poll.Choice):

    choice = Choice(20)
    poll = RandomizedResponse(epsilon=2.0, domain_size=choice.answers)
    tally = poll.tally(poll.privatize(np.array([3, choice.none, 7]), rng))
    found, none = choice.split(poll.estimate(tally))      # devices per candidate, 20 entries; devices without, one
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from privacy.mechanism import (
    Binomials,
    Estimate,
    Mechanism,
    Parameters,
    Reports,
    Tally,
    check_counts,
    one_hot,
)
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
class RandomizedResponse(Mechanism):
    """Generalized randomized response, Kairouz, Bonawitz, Ramage 2016, section 3 (k-RR).

    With d values: p = e^eps / (e^eps + d - 1), q = 1 / (e^eps + d - 1).

    Reports: int64[n], 0 .. d - 1. Wire size: ceil(log2 d) bits. Variance of a count with true value f among n reports,
    in devices squared: f p(1-p)/(p-q)^2 + (n-f) q(1-q)/(p-q)^2, which for f = 0 is n (d - 2 + e^eps) / (e^eps - 1)^2.

    Raises ValueError if epsilon is outside (0, 12] or domain_size outside 2 .. largest_domain.
    """

    epsilon: float
    domain_size: int

    name: ClassVar[str] = "randomized_response"
    counts_add_up: ClassVar[bool] = True
    largest_domain: ClassVar[int] = 1 << 31

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_domain(self.domain_size, self.largest_domain, self.name)
        check_resolution(self.epsilon, self.p, self.q)

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return (int(self.domain_size) - 1).bit_length()

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        return {"mechanism": self.name, "epsilon": float(self.epsilon), "domain_size": int(self.domain_size)}

    @cached_property
    def threshold(self) -> int:
        """T: with probability T / 2^64 the report is the true value, else it is uniform over all d values.

        One word w decides both: w < T keeps, and the R = 2^64 - T words from T on are dealt to the values in d nearly
        equal runs, the shortest of s >= R / d - 4 words (`dealing`). A value is reported by T + s words of its own
        devices and s of any other, at the least favourable, so T <= (e^eps - 1) s keeps every ratio within e^eps
        exactly; this is the largest T with T <= (e^eps - 1) (R / d - 4).
        """
        gain, d = exp_below(self.epsilon) - 1, int(self.domain_size)
        return math.floor(gain * (WORD - 4 * d) / (d + gain))

    @cached_property
    def dealing(self) -> tuple[int, int]:
        """(c, f): the word T + u is dealt to value floor(u c / 2^(64 + f)), with 2^63 <= c < 2^64.

        c is d 2^(64 + f) / R rounded down, so the value is at most d - 1, and relative to c the rounding is below
        2^-63: the last run, which bears all of it, is at most 4 words shorter than R / d.
        """
        rest, d = WORD - self.threshold, int(self.domain_size)
        f = 64 - (d * WORD // rest).bit_length()
        return d * (1 << (64 + f)) // rest, f

    def first_word(self, value: int) -> int:
        """The smallest u whose word T + u is dealt to this value or a later one; 2^64 - T for the value d."""
        c, f = self.dealing
        return min(WORD - self.threshold, -((-value << (64 + f)) // c))

    def channel(self) -> list[list[Fraction]]:
        """P[report | value] exactly, d x d."""
        d = int(self.domain_size)
        runs = [b - a for a, b in itertools.pairwise(self.first_word(y) for y in range(d + 1))]
        return [[Fraction(run + self.threshold * (y == v), WORD) for y, run in enumerate(runs)] for v in range(d)]

    @property
    def p(self) -> float:
        """Probability of reporting the true value."""
        return (self.threshold + (WORD - self.threshold) / int(self.domain_size)) / WORD

    @property
    def q(self) -> float:
        """Probability of reporting one given other value; a single one is off by at most 4 / 2^64."""
        return (WORD - self.threshold) / int(self.domain_size) / WORD

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values -> int64[n] reports. One 64-bit word a report, always.

        Raises TypeError for values that are no integers, ValueError for values outside the domain.
        """
        values = check_values(values, self.domain_size)
        reports = np.empty(len(values), dtype=np.int64)
        stream, (c, f) = device_stream(rng), self.dealing
        words = np.empty(max(1, min(len(values), PIECE // 8)), dtype=np.uint64)
        for start in range(0, len(values), len(words)):
            part = slice(start, min(start + len(words), len(values)))
            drawn = words[: part.stop - part.start]
            stream.fill(drawn)
            respond(drawn, values[part], np.uint64(self.threshold), np.uint64(c), np.uint64(f), reports[part])
        return reports

    def tally(self, reports: Reports) -> Tally:
        """Histogram of reported values, int64[d]."""
        reports = check_values(reports, self.domain_size)
        return Tally(np.bincount(reports, minlength=self.domain_size), len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """Unbiased counts and their standard errors: of the d values, or of those asked for."""
        check_tally(tally, self.parameters, (int(self.domain_size),))
        return two_level_estimate(tally, self.p, self.q, values, self.domain_size)

    def support_law(self, reports: int, count: int) -> Binomials:
        """Own reports with probability p, those of all others with q."""
        return (count, self.p), (reports - count, self.q)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """Exact law of the tally for devices with these true counts, int64[d].

        Keep-or-replace as a mixture: with probability p - q the value itself, else uniform over all d values.
        """
        counts = check_counts(counts, self.domain_size)
        kept = rng.binomial(counts, self.threshold / WORD)
        uniform = rng.multinomial(int(counts.sum() - kept.sum()), np.full(self.domain_size, 1 / self.domain_size))
        return Tally((kept + uniform).astype(np.int64), int(counts.sum()), self.parameters)

    def contributions(self, reports: Reports) -> NDArray[np.int64]:
        """One-hot vectors of the reported values, int64[n, d]."""
        return one_hot(reports, self.domain_size)

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        """Numbers that are no value."""
        return not_below(reports, self.domain_size)

    @property
    def largest_influence(self) -> float:
        """(1 - q) / (p - q) = 1 + (d - 1) / (e^eps - 1): 176 devices at 301 values and epsilon 1."""
        return two_level_influence(self.p, self.q)

    def largest_gain(self, targets: int) -> float:
        """(1 - r q) / (p - q) = 1 + (d - r) / (e^eps - 1) for r targets: a report names one value."""
        return two_level_gain(1, targets, self.p, self.q)

    @property
    def total_variation(self) -> float:
        """A word below the threshold reports the own value, any other one from a law that all values share."""
        return self.threshold / WORD

    @property
    def log_q_silent(self) -> float:
        """0: a report that is neither of two values is at least as likely from any other value."""
        return 0.0

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of a count, in devices."""
        return two_level_stderr(reports, count, self.p, self.q)


@njit(cache=True, nogil=True)
def respond(
    words: NDArray[np.uint64],
    values: NDArray[np.int64],
    threshold: np.uint64,
    c: np.uint64,
    f: np.uint64,
    reports: NDArray[np.int64],
) -> None:
    """One report for each value and its word: RandomizedResponse.threshold and dealing."""
    low_mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1 = c & low_mask, c >> shift
    for i in range(len(words)):
        u = words[i] - threshold  # wraps where the word is below the threshold; then the value is kept
        u0, u1 = u & low_mask, u >> shift
        # The upper half of the 128-bit product u c.
        inner = u1 * c0 + (u0 * c0 >> shift)
        outer = u0 * c1 + (inner & low_mask)
        dealt = (u1 * c1 + (inner >> shift) + (outer >> shift)) >> f
        reports[i] = values[i] if words[i] < threshold else np.int64(dealt)
