"""Projective geometry response (PGR): report a point that lies on the value's hyperplane more often than chance.

The standard error of subset selection at log2 d bits a report: any two hyperplanes meet in equally many points, so the
sets of two values overlap as sets drawn at random would.

    mechanism = ProjectiveGeometryResponse(epsilon=4.0, domain_size=3000)   # the plane over 59 elements: 3541 points
    reports = mechanism.privatize(values, rng)                              # uint32[n]
    estimate = mechanism.estimate(mechanism.tally(reports))                 # under a millisecond
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from privacy.finite_geometry import (
    Geometry,
    count_points,
    geometry_of,
    is_field_order,
    point_on_plane,
    points_on_plane,
    reports_on_hyperplanes,
)
from privacy.hadamard_response import SLICE, point_histogram, simulate_points
from privacy.mechanism import Estimate, Mechanism, Parameters, Reports, Tally, check_counts
from privacy.mixture import mean_variance, mixture_threshold, scaled_word
from privacy.randomness import RandomBytes, device_stream, random_words
from privacy.thresholds import WORD, check_domain, check_epsilon, check_values, exp_below, not_below
from privacy.unbiased import (
    check_resolution,
    check_tally,
    two_level_estimate,
    two_level_gain,
    two_level_influence,
    two_level_stderr,
)

_MOST_POINTS = 1 << 22  # a tally of 32 MiB
_VARIANCE_GIVEN = 1.02  # how much variance is given away for a smaller geometry (1% of the standard error)


@dataclass(frozen=True, kw_only=True)
class ProjectiveGeometryResponse(Mechanism):
    """Feldman, Nelson, Nguyen, Talwar 2022 (ICML), section 3: there are K = (q^t - 1) / (q - 1) points; a hyperplane
    holds s = (q^(t-1) - 1) / (q - 1) of them and shares u = (q^(t-2) - 1) / (q - 1) with any other. The points of the
    value's hyperplane are reported with e^eps times the probability of the others. As a mixture: with probability
    M = (e^eps - 1) s / ((e^eps - 1) s + K) a uniform point of the hyperplane, else a uniform point of all. The report
    lies on the value's own hyperplane with p = M + (1 - M) s / K, on another with q' = M u / s + (1 - M) s / K.

    q is a prime or a prime power up to 128 near e^eps + 1, with K >= d: among all geometries of up to 2^22 points whose
    variance is within 2% of the best, the one with the fewest points. t = 2 is randomized response over q + 1 values,
    chosen where e^eps exceeds d.

    Reports: uint32[n], a point below K. Wire size: ceil(log2 K) bits. The tally is the histogram of points, int64[K].
    Variance of a count with true value f among n reports, in devices squared:
    f p(1-p)/(p-q')^2 + (n-f) q'(1-q')/(p-q')^2, which for f = 0, q = e^eps + 1 and large t is
    4 n e^eps / (e^eps - 1)^2.

    Raises ValueError if epsilon is outside (0, 12] or domain_size outside 2 .. largest_domain.
    """

    epsilon: float
    domain_size: int

    name: ClassVar[str] = "projective_geometry_response"
    largest_domain: ClassVar[int] = 1 << 20

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_domain(self.domain_size, self.largest_domain, self.name)
        check_resolution(self.epsilon, self.p, self.q)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(q, t): elements of the field, coordinates of a point."""
        return choose_geometry(float(self.epsilon), int(self.domain_size))

    @property
    def points(self) -> int:
        """K: how many different reports there are."""
        return count_points(*self.shape)

    @property
    def hyperplane_size(self) -> int:
        """s: how many of them lie on the hyperplane of a value."""
        q, t = self.shape
        return count_points(q, t - 1)

    @property
    def _geometry(self) -> Geometry:
        return geometry_of(*self.shape, int(self.domain_size))

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return (self.points - 1).bit_length()

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        q, t = self.shape
        return {
            "mechanism": self.name,
            "epsilon": float(self.epsilon),
            "domain_size": int(self.domain_size),
            "field": q,
            "coordinates": t,
        }

    @cached_property
    def threshold(self) -> int:
        """T: the report is drawn from the hyperplane if a 64-bit word is below T, else from all points.

        Each of b points is drawn by floor or ceil of 2^64 / b words (privacy.thresholds.scaled_words).
        """
        least_uniform, most_own = WORD // self.points, -(-WORD // self.hyperplane_size)
        return mixture_threshold(self.epsilon, Fraction(least_uniform, WORD), Fraction(most_own, WORD))

    @cached_property
    def _support(self) -> tuple[float, float]:
        return _mixture_support(self.threshold / WORD, *self.shape)

    @property
    def p(self) -> float:
        """Probability that a report lies on the hyperplane of the device's own value."""
        return self._support[0]

    @property
    def q(self) -> float:
        """Probability that a report lies on the hyperplane of one given other value (q' above)."""
        return self._support[1]

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values -> uint32[n] points. Two 64-bit words a report, always, and at most 2 t steps.

        Raises TypeError for values that are no integers, ValueError for values outside 0 .. domain_size - 1.
        """
        values = check_values(values, self.domain_size)
        geometry, own, points = self._geometry, self.hyperplane_size, self.points
        reports, stream = np.empty(len(values), dtype=np.uint32), device_stream(rng)
        for start in range(0, len(values), SLICE):
            rows = values[start : start + SLICE]
            words = random_words(stream, 2 * len(rows))
            _draw(rows, words, np.uint64(self.threshold), own, points, geometry, reports[start : start + SLICE])
        return reports

    def tally(self, reports: Reports) -> Tally:
        """Histogram of the points, int64[K]. Raises ValueError for anything else than uint32 points."""
        return Tally(point_histogram(reports, self.points), len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """Unbiased counts and their standard errors. Time: O(K + d q t), whatever the number of values asked for."""
        check_tally(tally, self.parameters, (self.points,))
        supports = reports_on_hyperplanes(tally.sums, self._geometry)
        on_planes = Tally(supports, tally.reports, tally.parameters)
        return two_level_estimate(on_planes, self.p, self.q, values, self.domain_size)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """Exact law of the tally: every report is uniform over the value's hyperplane or over all points."""
        counts = check_counts(counts, self.domain_size)
        geometry = self._geometry

        def own_points(values: NDArray[np.int64], choices: NDArray[np.int64]) -> NDArray[np.int64]:
            return points_on_plane(values, choices, geometry)

        sums = simulate_points(counts, self.threshold / WORD, own_points, self.hyperplane_size, self.points, rng)
        return Tally(sums, int(counts.sum()), self.parameters)

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        """Numbers that are no point."""
        return not_below(reports, self.points)

    @property
    def largest_influence(self) -> float:
        """(1 - q') / (p - q'), 2 + 2 / (e^eps - 1) for large d."""
        return two_level_influence(self.p, self.q)

    def largest_gain(self, targets: int) -> float:
        """(min(r, s) - r q') / (p - q') for r targets: a point lies on s hyperplanes.

        An attacker whose targets are given gets less where their hyperplanes have no point in common.
        """
        return two_level_gain(min(targets, self.hyperplane_size), targets, self.p, self.q)

    @property
    def total_variation(self) -> float:
        """A word below the threshold draws from the hyperplane, any other one from all points, as for every value."""
        return self.threshold / WORD

    @property
    def tally_cells(self) -> int:
        """A count for each point."""
        return self.points

    def server_operations(self, reports: int, values: int) -> float:
        """q additions a coordinate and value of the domain, whatever the number of values asked for."""
        q, t = self.shape
        return float(reports + self.points + self.domain_size * q * (t - 2) + values)

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of a count, in devices."""
        return two_level_stderr(reports, count, self.p, self.q)


def _mixture_support(m: float, q: int, t: int) -> tuple[float, float]:
    """(p, q'): how often a report lies on the own and on another hyperplane, if M = m."""
    all_points, own, shared = (count_points(q, i) for i in (t, t - 1, t - 2))
    anywhere = (1 - m) * own / all_points
    return m + anywhere, m * shared / own + anywhere


@lru_cache(maxsize=256)
def choose_geometry(epsilon: float, domain_size: int) -> tuple[int, int]:
    """(q, t) with at least `domain_size` points: near the least variance, with few points. See the class."""
    # On the line (t = 2) more points than values only add noise, so its only candidate is the smallest.
    line = next(q for q in range(domain_size - 1, 2 * domain_size) if q > 1 and is_field_order(q))
    orders = [q for q in range(2, math.isqrt(_MOST_POINTS)) if is_field_order(q)]
    shapes = [(line, 2)] + [(q, t) for t in range(3, _MOST_POINTS.bit_length()) for q in orders]
    candidates, gain = [], float(exp_below(epsilon) - 1)  # the same on every machine
    for q, t in shapes:
        points = count_points(q, t)
        if domain_size <= points <= _MOST_POINTS:
            r = gain * count_points(q, t - 1) / points
            candidates.append((mean_variance(*_mixture_support(r / (1 + r), q, t), domain_size), points, q, t))
    best = min(candidates)[0]
    _, q, t = min(c[1:] for c in candidates if c[0] <= _VARIANCE_GIVEN * best)
    return q, t


@njit(cache=True, nogil=True)
def _draw(
    values: NDArray[np.int64],
    words: NDArray[np.uint64],
    threshold: np.uint64,
    own: int,
    points: int,
    geometry: Geometry,
    out: NDArray[np.uint32],
) -> None:
    for i in range(len(values)):
        word = words[2 * i + 1]
        on_plane = point_on_plane(values[i], np.int64(scaled_word(word, np.uint64(own))), geometry)
        anywhere = np.int64(scaled_word(word, np.uint64(points)))
        out[i] = on_plane if words[2 * i] < threshold else anywhere
