"""Subset selection (SS): report a set of k values that holds the true one more often than chance.

No frequency oracle is known to be more accurate, at any epsilon and domain; the report is k numbers. At k = 1, which is
best once e^eps comes near d, it is randomized response.

    mechanism = SubsetSelection(epsilon=4.0, domain_size=1000)        # k = 18
    reports = mechanism.privatize(values, rng)                        # uint16[n, 18], each row a sorted set
    estimate = mechanism.estimate(mechanism.tally(reports))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from privacy.mechanism import Estimate, Mechanism, Parameters, Reports, Tally, simulate_by_reports
from privacy.mixture import mean_variance, mixture_threshold, scaled_word
from privacy.randomness import RandomBytes, device_stream, random_words
from privacy.thresholds import WORD, check_domain, check_epsilon, check_values, exp_below
from privacy.unbiased import (
    check_resolution,
    check_tally,
    two_level_estimate,
    two_level_gain,
    two_level_influence,
    two_level_stderr,
)

_SLICE_WORDS = 1 << 15  # reports are drawn in slices of about this many words, so that they stay in the L2 cache
_LANES = 64  # small sets are drawn for this many reports at a time, so that the compiler can use vector instructions
_LARGEST_LANE_SET = 80  # from here on a bitset per report is faster than comparing all pairs

# The index of the only bit that is set: every 6 bits of a de Bruijn sequence are different.
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT_INDEX = np.array(sorted(range(64), key=lambda i: int(_DE_BRUIJN) << i & (1 << 64) - 1), dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class SubsetSelection(Mechanism):
    """Ye and Barg 2018, section III (also Wang et al. 2016, 'k-subset mechanism'): a uniform k-subset that holds the
    true value with probability p = k e^eps / (k e^eps + d - k), and any other with
    q = p (k - 1) / (d - 1) + (1 - p) k / (d - 1).

    k is the size with the least variance, next to d / (e^eps + 1); k = 1 is randomized response.
    Reports: uint16[n, k], each row in increasing order. Wire size: k ceil(log2 d) bits.
    Variance of a count with true value f among n reports, in devices squared:
    f p(1-p)/(p-q)^2 + (n-f) q(1-q)/(p-q)^2, which for f = 0 and large d is about 4 n e^eps / (e^eps - 1)^2.

    Raises ValueError if epsilon is outside (0, 12] or domain_size outside 2 .. largest_domain.
    """

    epsilon: float
    domain_size: int

    name: ClassVar[str] = "subset_selection"
    counts_add_up: ClassVar[bool] = True
    largest_domain: ClassVar[int] = 1 << 16

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_domain(self.domain_size, self.largest_domain, self.name)
        check_resolution(self.epsilon, self.p, self.q)

    @cached_property
    def subset_size(self) -> int:
        """k, of least mean variance. The variance is convex in k and least within 1 of d / (e^eps + 1)."""
        d, e = int(self.domain_size), float(exp_below(self.epsilon))
        near = math.floor(d / (e + 1))
        sizes = [k for k in range(near - 1, near + 3) if 1 <= k < d]
        return min(sizes, key=lambda k: mean_variance(*_ideal_support(e, d, k), d))

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return self.subset_size * math.ceil(math.log2(self.domain_size))

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        return {
            "mechanism": self.name,
            "epsilon": float(self.epsilon),
            "domain_size": int(self.domain_size),
            "subset_size": self.subset_size,
        }

    @property
    def words_per_report(self) -> int:
        """64-bit random words that one report takes, always: the branch, then one for two draws."""
        return 1 + (self.subset_size + 1) // 2

    @cached_property
    def threshold(self) -> int:
        """T: the true value is forced into the set if a 64-bit word is below T (see `_draw_small`).

        Without rounding, a set has probability 1 / C(d, k) in the draw from everything and 1 / C(d - 1, k - 1) in the
        draw of sets that hold the true value: a quotient of k / d. Each result of a pair of draws with bounds b and b'
        comes from floor or ceil of 2^64 / (b b') words, so its probability is 1 / (b b') up to a factor within
        1 - b b' / 2^64 and 1 + b b' / 2^64. Both kinds of draw take the same number of equally likely ways to a set
        (k! and (k-1)!), so over all pairs the quotient keeps at least the share 1 - 2 pairs d^2 / 2^64.
        """
        d, k = int(self.domain_size), self.subset_size
        kept = 1 - Fraction((k + 1) // 2 * 2 * d * d, WORD)
        return mixture_threshold(self.epsilon, Fraction(k, d) * kept, Fraction(1))

    @property
    def p(self) -> float:
        """Probability that the set holds the true value."""
        m, d, k = self.threshold / WORD, self.domain_size, self.subset_size
        return m + (1 - m) * k / d

    @property
    def q(self) -> float:
        """Probability that the set holds one given other value."""
        m, d, k = self.threshold / WORD, self.domain_size, self.subset_size
        return m * (k - 1) / (d - 1) + (1 - m) * k / d

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values -> uint16[n, k] sorted sets. `words_per_report` 64-bit words a report, always.

        Raises TypeError for values that are no integers, ValueError for values outside 0 .. domain_size - 1.
        """
        values = check_values(values, self.domain_size)
        d, k, per = self.domain_size, self.subset_size, self.words_per_report
        draw = _draw_small if k <= _LARGEST_LANE_SET else _draw_large
        reports, stream = np.empty((len(values), k), dtype=np.uint16), device_stream(rng)
        step = max(_LANES, _SLICE_WORDS // per)
        for start in range(0, len(values), step):
            rows = values[start : start + step]
            words = random_words(stream, len(rows) * per)
            draw(rows, words, d, k, np.uint64(self.threshold), reports[start : start + step])
        return reports

    def tally(self, reports: Reports) -> Tally:
        """How many sets hold each value, int64[domain_size]. Raises ValueError for anything but k sorted values."""
        k = self.subset_size
        reports = np.asarray(reports)
        if reports.ndim != 2 or reports.dtype != np.uint16 or reports.shape[1] != k:
            raise ValueError(
                f"reports have shape {reports.shape} and dtype {reports.dtype}; expected uint16[n, {k}], "
                "sorted sets made by this mechanism"
            )
        sums = np.zeros(self.domain_size, dtype=np.int64)
        if not _count_sets(reports, sums):
            raise ValueError(
                f"reports hold a row that is not a set of {k} values in increasing order, each in "
                f"0 .. {self.domain_size - 1}; they were not made by this mechanism"
            )
        return Tally(sums, len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """Unbiased counts and their standard errors."""
        check_tally(tally, self.parameters, (self.domain_size,))
        return two_level_estimate(tally, self.p, self.q, values, self.domain_size)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """A tally of these devices, report by report, in bounded memory.

        Only the marginals of the tally are binomial: a report holds exactly k values, so the cells are dependent, and
        no shorter way with the joint law is known.
        """
        return simulate_by_reports(self, counts, rng)

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        """Rows that are no set in increasing order, and sets with numbers that are no value."""
        return np.flatnonzero(_no_sets(reports, self.domain_size))

    @property
    def largest_influence(self) -> float:
        """(1 - q) / (p - q), 2 + 2 / (e^eps - 1) for large d; where sets hold most values, q / (p - q)."""
        return two_level_influence(self.p, self.q)

    def largest_gain(self, targets: int) -> float:
        """(min(r, k) - r q) / (p - q) for r targets: a report names k values."""
        return two_level_gain(min(targets, self.subset_size), targets, self.p, self.q)

    @property
    def total_variation(self) -> float:
        """A word below the threshold draws a set with the own value, any other one from a law that all values share."""
        return self.threshold / WORD

    def server_operations(self, reports: int, values: int) -> float:
        """Every report supports k values."""
        return float(reports * self.subset_size + values)

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of a count, in devices."""
        return two_level_stderr(reports, count, self.p, self.q)


def _ideal_support(e: float, d: int, k: int) -> tuple[float, float]:
    """(p, q) without rounding, for e = e^epsilon."""
    p = k * e / (k * e + d - k)
    return p, (p * (k - 1) + (1 - p) * k) / (d - 1)


# How a set is drawn (Floyd's method, Bentley and Floyd 1987). Step s of k draws t uniform on 0 .. d - k + s and adds
# it, or, if the set holds t already, the largest candidate d - k + s, which it cannot hold yet. The result is uniform
# over all k-subsets. If the last t is replaced by the true value x, the result is uniform over the k-subsets that hold
# x: the k - 1 before are a uniform set A of values below d - 1, and a set Y with x comes from exactly one A: Y without
# d - 1 if Y holds that value, else Y without x. So both branches take the same steps.
#
# Two draws share a word w: w b = t 2^64 + rest gives the first, and the rest is the fraction that gives the second.


@njit(cache=True, nogil=True)
def _insert_sorted(chosen: NDArray[np.uint16], s: int, new: NDArray[np.uint16], largest: int) -> None:
    """Insert new[i], or `largest` if it is there already, into the increasing column chosen[:s, i], for every lane."""
    held = np.zeros(_LANES, np.uint16)
    for j in range(s):
        row = chosen[j]
        for i in range(_LANES):
            held[i] |= np.uint16(row[i] == new[i])
    for i in range(_LANES):
        new[i] = np.uint16(largest) if held[i] else new[i]
    for j in range(s):
        row = chosen[j]
        for i in range(_LANES):
            a, b = row[i], new[i]
            row[i] = a if a < b else b
            new[i] = b if a < b else a
    chosen[s] = new


@njit(cache=True, nogil=True)
def _draw_small(
    values: NDArray[np.int64], words: NDArray[np.uint64], d: int, k: int, threshold: np.uint64, out: NDArray[np.uint16]
) -> None:
    """Sets of _LANES reports side by side, each column kept in increasing order: O(k^2) vector steps, no branches."""
    per = 1 + (k + 1) // 2
    chosen = np.empty((k, _LANES), np.uint16)
    new = np.empty(_LANES, np.uint16)
    rest = np.empty(_LANES, np.uint64)
    for start in range(0, len(values), _LANES):
        lanes = min(_LANES, len(values) - start)
        for s in range(k):
            largest = d - k + s
            bound = np.uint64(largest + 1)
            if s % 2 == 0:
                for i in range(lanes):
                    rest[i] = words[(start + i) * per + 1 + s // 2]
            for i in range(lanes):
                new[i] = scaled_word(rest[i], bound)
                rest[i] *= bound
            if s == k - 1:
                for i in range(lanes):
                    new[i] = values[start + i] if words[(start + i) * per] < threshold else new[i]
            _insert_sorted(chosen, s, new, largest)
        for i in range(lanes):
            for s in range(k):
                out[start + i, s] = chosen[s, i]


@njit(cache=True, nogil=True)
def _draw_large(
    values: NDArray[np.int64], words: NDArray[np.uint64], d: int, k: int, threshold: np.uint64, out: NDArray[np.uint16]
) -> None:
    """The same sets from the same words, one report at a time through a bitset: O(k + d / 64) steps."""
    per = 1 + (k + 1) // 2
    one, low_bits = np.uint64(1), np.uint64(63)
    held = np.zeros((d + 63) // 64, np.uint64)
    for i in range(len(values)):
        rest = np.uint64(0)
        for s in range(k):
            largest = np.uint64(d - k + s)
            if s % 2 == 0:
                rest = words[i * per + 1 + s // 2]
            t = scaled_word(rest, largest + one)
            rest *= largest + one
            if s == k - 1 and words[i * per] < threshold:
                t = np.uint64(values[i])
            taken = (held[t >> np.uint64(6)] >> (t & low_bits)) & one
            t = largest if taken else t
            held[t >> np.uint64(6)] |= one << (t & low_bits)
        filled = 0
        for block in range(len(held)):
            bits = held[block]
            held[block] = 0
            while bits:
                lowest = bits & (~bits + one)
                out[i, filled] = (block << 6) | _BIT_INDEX[(lowest * _DE_BRUIJN) >> np.uint64(58)]
                filled += 1
                bits ^= lowest


@njit(cache=True, nogil=True)
def _no_sets(reports: NDArray[np.uint16], d: int) -> NDArray[np.bool_]:
    """bool[n]: whether a row is no increasing sequence of values."""
    n, k = reports.shape
    wrong = np.empty(n, np.bool_)
    for i in range(n):
        faults = np.uint16(0)  # as wide as the numbers, so that the compiler can use vector instructions
        for j in range(k - 1):
            faults |= np.uint16(reports[i, j] >= reports[i, j + 1])
        wrong[i] = faults != 0 or reports[i, k - 1] >= d
    return wrong


@njit(cache=True, nogil=True)
def _count_sets(reports: NDArray[np.uint16], sums: NDArray[np.int64]) -> bool:
    """Add every set to the sums; False if a row is not an increasing sequence of values."""
    n, k = reports.shape
    for i in range(n):
        before = np.int64(-1)
        for j in range(k):
            value = np.int64(reports[i, j])
            if value <= before or value >= len(sums):
                return False
            sums[value] += 1
            before = value
    return True
