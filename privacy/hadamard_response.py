"""Hadamard response (HR): report one index from half a block of a Hadamard code, or any index.

The report is one number of about log2 d + 2 bits, and the server needs one fast Walsh-Hadamard transform. Up to 1.4
times the standard error of subset selection.

    mechanism = HadamardResponse(epsilon=4.0, domain_size=1000)       # 32 blocks of 64 points
    reports = mechanism.privatize(values, rng)                        # uint32[n]
    estimate = mechanism.estimate(mechanism.tally(reports))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from privacy.block_estimate import BlockEstimate
from privacy.mechanism import Mechanism, Parameters, Reports, Tally, check_counts
from privacy.mixture import mixture_threshold, scaled_word
from privacy.randomness import RandomBytes, device_stream, random_words
from privacy.sketch_kernels import transform
from privacy.thresholds import WORD, check_domain, check_epsilon, check_values, exp_below, not_below
from privacy.unbiased import check_resolution, check_tally

SLICE = 1 << 14  # reports are drawn in slices, so that their random words (256 KiB) stay in the L2 cache
_MANY = 8  # from this many reports a point on, one multinomial is faster than drawing the reports one by one


@dataclass(frozen=True, kw_only=True)
class HadamardResponse(Mechanism):
    """Acharya, Sun, Zhang 2019, section 5 (any epsilon): B blocks of b points, both powers of 2. Value v has row
    1 + v // B of the Hadamard matrix H of order b in block v mod B; its set C_v is the half of the block where that row
    is +1. With probability M = (e^eps - 1) / (e^eps - 1 + 2 B) the report is uniform over C_v, else over all points.

    B is the power of two with the least mean variance. (The paper's rule gives this one or the next larger, which costs
    up to 39% of variance at epsilon 0.7, 19% at 1 and 13% above 3.) b is the smallest power of two with
    B (b - 1) >= d, because row 0 is no half.

    Reports: uint32[n], a point below B b. Wire size: log2(B b) bits. The tally is the histogram of the points,
    int64[B b]. The estimate of a count is the sum of H[row, y] / M over the reports y in its block. It is unbiased
    whatever the others hold, but the variance depends on how many devices n_b have a value of the same block (f of them
    the value itself): in devices squared, (n (1 - M) / B + n_b M - f M^2) / M^2, about 8 n / (e^eps - 1) for f = 0 and
    even blocks.

    Raises ValueError if epsilon is outside (0, 12] or domain_size outside 2 .. largest_domain.
    """

    epsilon: float
    domain_size: int

    name: ClassVar[str] = "hadamard_response"
    largest_domain: ClassVar[int] = 1 << 20

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_domain(self.domain_size, self.largest_domain, self.name)
        m, rest = self.threshold / WORD, (1 - self.threshold / WORD) / (2 * self.shape[0])
        check_resolution(self.epsilon, m + rest, rest)  # how often C_v is hit, and a half of another block

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(B, b): how many blocks, how many points in each."""
        d, gain = int(self.domain_size), float(exp_below(self.epsilon) - 1)  # the same on every machine

        def variance(blocks: int) -> float:
            m, shared = gain / (gain + 2 * blocks), _mean_block(d, blocks) / d
            return ((1 - m) / blocks + shared * m - m * m / d) / (m * m)

        blocks = min((1 << i for i in range((d - 1).bit_length() + 1)), key=variance)
        return blocks, 1 << (-(-d // blocks)).bit_length()

    @property
    def points(self) -> int:
        """B b: how many different reports there are."""
        return self.shape[0] * self.shape[1]

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return self.points.bit_length() - 1

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        blocks, size = self.shape
        return {
            "mechanism": self.name,
            "epsilon": float(self.epsilon),
            "domain_size": int(self.domain_size),
            "blocks": blocks,
            "block_size": size,
        }

    @cached_property
    def threshold(self) -> int:
        """T: the report is drawn from C_v if a 64-bit word is below T, else from all points.

        Both draws take a power of two of equally likely points, so they are uniform without any rounding.
        """
        return mixture_threshold(self.epsilon, Fraction(1, self.points), Fraction(2, self.shape[1]))

    def blocks_of(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """The block of each value, int64[n]."""
        return values % self.shape[0]

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values -> uint32[n] points. Two 64-bit words a report, always.

        Raises TypeError for values that are no integers, ValueError for values outside 0 .. domain_size - 1.
        """
        values = check_values(values, self.domain_size)
        reports, stream = np.empty(len(values), dtype=np.uint32), device_stream(rng)
        for start in range(0, len(values), SLICE):
            rows = values[start : start + SLICE]
            words = random_words(stream, 2 * len(rows))
            _draw(rows, words, np.uint64(self.threshold), *self.shape, reports[start : start + SLICE])
        return reports

    def tally(self, reports: Reports) -> Tally:
        """Histogram of the points, int64[B b]. Raises ValueError for anything else than uint32 points."""
        return Tally(point_histogram(reports, self.points), len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> BlockEstimate:
        """Unbiased counts and their standard errors, with the estimated counts of value and block put in the formula.

        Time: O(B b log b), whatever the number of values asked for.
        """
        check_tally(tally, self.parameters, (self.points,))
        asked = check_values(np.arange(self.domain_size) if values is None else values, self.domain_size)
        n, m, (blocks, size) = tally.reports, self.threshold / WORD, self.shape
        sums = tally.sums.reshape(blocks, size).copy()
        for block in sums:
            transform(block)
        signed, landed = sums[self.blocks_of(asked), 1 + asked // blocks], sums[self.blocks_of(asked), 0]
        counts, in_block = signed / m, (landed - n * (1 - m) / blocks) / m
        plugged = np.clip(counts, 0, n)
        stderr = np.sqrt(self._variance(n, plugged, np.clip(in_block, plugged, n)))
        return BlockEstimate(counts, stderr, n, signed, landed, m, blocks)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """Exact law of the tally: every report is uniform over C_v or over all points."""
        counts = check_counts(counts, self.domain_size)
        blocks, size = self.shape

        def own_points(values: NDArray[np.int64], choices: NDArray[np.int64]) -> NDArray[np.int64]:
            return _own_points(values, choices, blocks, size)

        sums = simulate_points(counts, self.threshold / WORD, own_points, size // 2, self.points, rng)
        return Tally(sums, int(counts.sum()), self.parameters)

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        """Numbers that are no point."""
        return not_below(reports, self.points)

    @property
    def largest_influence(self) -> float:
        """1 / M = 1 + 2 B / (e^eps - 1): a point adds H[row, y] / M to the values of its block."""
        return WORD / self.threshold

    def largest_gain(self, targets: int) -> float:
        """min(r, ceil(d / B)) / M for r targets: point 0 of a block speaks for all of its values."""
        return min(targets, -(-int(self.domain_size) // self.shape[0])) * self.largest_influence

    @property
    def total_variation(self) -> float:
        """A word below the threshold draws from C_v, any other one from all points, which all values share."""
        return self.threshold / WORD

    @property
    def tally_cells(self) -> int:
        """A count for each point."""
        return self.points

    def server_operations(self, reports: int, values: int) -> float:
        """A transform of every block, whatever the number of values."""
        return reports + self.points * math.log2(self.shape[1]) + values

    def standard_error(self, reports: int, count: float = 0.0, in_block: float | None = None) -> float:
        """Standard error of a count, in devices, when `in_block` devices (this count included) have a value of its
        block; None: the other devices are spread evenly over the other values.
        """
        if in_block is None:
            others = (_mean_block(self.domain_size, self.shape[0]) - 1) / (self.domain_size - 1)
            in_block = count + (reports - count) * others
        return float(np.sqrt(self._variance(reports, np.float64(count), np.float64(in_block))))

    def _variance(
        self, reports: int, count: NDArray[np.float64] | np.float64, in_block: NDArray[np.float64] | np.float64
    ) -> NDArray[np.float64]:
        m = self.threshold / WORD
        return np.asarray((reports * (1 - m) / self.shape[0] + in_block * m - count * m**2) / m**2)


def _mean_block(d: int, blocks: int) -> float:
    """How many values share the block of a value, itself included, on average over the d values."""
    each, more = divmod(d, blocks)
    return (more * (each + 1) ** 2 + (blocks - more) * each**2) / d


def point_histogram(reports: Reports, points: int) -> NDArray[np.int64]:
    """How many of the reports uint32[n] name each point, int64[points]. Raises ValueError for other reports."""
    reports = np.asarray(reports)
    if reports.ndim != 1 or reports.dtype != np.uint32:
        raise ValueError(
            f"reports have shape {reports.shape} and dtype {reports.dtype}; expected uint32[n], "
            "points made by this mechanism"
        )
    sums = np.zeros(points, dtype=np.int64)
    if not _count_points(reports, sums):
        raise ValueError(
            f"reports reach up to {int(reports.max())}; expected points 0 .. {points - 1} made by this mechanism"
        )
    return sums


def simulate_points(
    counts: NDArray[np.int64],
    m: float,
    own_points: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]],
    own: int,
    points: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The exact joint law of the histogram of reports that are uniform over the `own` points of the value with
    probability m, and else uniform over all `points`. int64[points].

    `own_points(values, choices)`: the points with these numbers, 0 .. own - 1, in the sets of these values. The time
    grows with the number of devices until every own point expects some, and not from there on.
    """
    kept = rng.binomial(counts, m)
    sums = rng.multinomial(int(counts.sum() - kept.sum()), np.full(points, 1 / points)).astype(np.int64)
    many = kept > _MANY * own
    choices = np.arange(own)
    for value in np.flatnonzero(many):
        sums[own_points(np.full(own, value), choices)] += rng.multinomial(kept[value], np.full(own, 1 / own))
    few = np.where(many, 0, kept)
    ends = np.cumsum(few)
    starts = ends - few
    for start in range(0, int(ends[-1]), SLICE):
        stop = min(start + SLICE, int(ends[-1]))
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        inside = np.clip(ends[first : last + 1], None, stop) - np.clip(starts[first : last + 1], start, None)
        values = np.repeat(np.arange(first, last + 1), inside)
        _count_points(own_points(values, rng.integers(0, own, len(values))), sums)
    return sums


@njit(inline="always", cache=True)
def _own_point(value: np.uint64, choice: np.uint64, blocks: np.uint64, size: np.uint64) -> np.uint64:
    """The point with this number, below b / 2, in C_v.

    H[row, y] is +1 where row & y has an even number of bits. So all bits of y but the one at the lowest bit of the row
    are free, and that one makes the number even.
    """
    one = np.uint64(1)
    row = one + value // blocks
    pivot = row & (~row + one)
    y = (choice & (pivot - one)) | ((choice & ~(pivot - one)) << one)
    odd = row & y
    for shift in (16, 8, 4, 2, 1):
        odd ^= odd >> np.uint64(shift)
    return (value % blocks) * size + (y | (pivot * (odd & one)))


@njit(cache=True, nogil=True)
def _own_points(values: NDArray[np.int64], choices: NDArray[np.int64], blocks: int, size: int) -> NDArray[np.int64]:
    points = np.empty(len(values), np.int64)
    for i in range(len(values)):
        points[i] = _own_point(np.uint64(values[i]), np.uint64(choices[i]), np.uint64(blocks), np.uint64(size))
    return points


@njit(cache=True, nogil=True)
def _draw(
    values: NDArray[np.int64],
    words: NDArray[np.uint64],
    threshold: np.uint64,
    blocks: int,
    size: int,
    out: NDArray[np.uint32],
) -> None:
    b, s = np.uint64(blocks), np.uint64(size)
    for i in range(len(values)):
        word = words[2 * i + 1]
        own = _own_point(np.uint64(values[i]), scaled_word(word, s >> np.uint64(1)), b, s)
        out[i] = own if words[2 * i] < threshold else scaled_word(word, b * s)


@njit(cache=True, nogil=True)
def _count_points(reports: Reports, sums: NDArray[np.int64]) -> bool:
    """Add the reports to the histogram; False if one is no point."""
    for i in range(len(reports)):
        if reports[i] >= len(sums):
            return False
        sums[reports[i]] += 1
    return True
