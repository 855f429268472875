"""What collisions do to the counts of a sketch: their variance, their tails, and how known ones are taken out.

Both sketches estimate the count of a value d from the sum A of one cell a row, and every report i adds a_i to it:

    count(d) = m / (m - 1) * (A - n / m)     (Apple's Differential Privacy Team 2017, server side of CMS and HCMS)

Over the device's noise, its row (uniform on k) and the hash family (three-wise independent), a device that holds d adds
1 on average with variance `own_variance`, any other device 1 / m with variance `other_variance`. Two devices that hold
the same value d' != d collide with d together if they are in the same row, which gives each such pair the covariance
(1/k) (1/m) (1 - 1/m); all other pairs are uncorrelated. Hence, with F2 = sum over all values of (their count)^2,

    Var count(d) = (m/(m-1))^2 [ f own + (n - f) other + (F2 - f^2 - (n - f)) (1/k) (1/m) (1 - 1/m) ].

F2, the only thing in it that concerns values nobody asked about, is estimated from the sketch itself (the second moment
of Alon, Matias and Szegedy 1996, with the noise taken out), so no list of the other values is needed.

The hash family is public. So where frequent values are among those asked for (`heavy`), the server knows in how many of
the k rows each of them shares a column with d, C of them, and that a device with value h adds C / k to A on average,
not 1 / m. `estimate_jointly` solves these linear equations: for the heavy values together, and for each other value
with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import ndtri

from privacy.collision_tails import CollisionTail
from privacy.mechanism import Estimate, check_error

Floats = NDArray[np.float64]

Collisions = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int32]]
"""In how many rows values number i share a column with values number j: int32[len(i), len(j)]."""

_HEAVY = 0.1  # a value is taken out if its collisions move others by this many standard errors of the noise, and
_CERTAIN = 5.0  # if its own count is this many standard errors
_MOST_HEAVY = 500  # the most frequent ones: their equations take a tenth of a second
_ROUNDS = 4  # of looking for heavy values; hardly ever more than one is needed
_BLOCK = 1 << 22  # numbers of collisions held at a time
_SEPARATE = 0.5  # a value of which less than this share is seen apart from the heavy ones is not told from them
_MARGIN = 3.0  # standard errors by which the squares of the counts nobody asked about may be more than estimated


@dataclass(frozen=True, eq=False)
class SketchEstimate(Estimate):
    """Counts of a sketch, with the tails of noise and collisions (privacy/collision_tails.py).

    float64[d]: `noise`, the standard error without collisions of unknown values; `null_noise`, the same if nobody held
    the value; `null_unknown`, the square root of the sum of squared counts that could then collide with it. `unknown`:
    that of all values that were not taken out. Both are upper bounds. `success`: noise has the law of a binomial with
    this probability.
    """

    noise: Floats
    null_noise: Floats
    null_unknown: Floats
    unknown: float
    rows: int
    columns: int
    success: float

    def p_values(self) -> Floats:
        """P[noise and collisions >= count], against the worst way in which unknown values could be held."""
        result = np.ones(len(self.counts))
        possible = np.flatnonzero(self.null_noise > 0)
        own = self.null_unknown > self.unknown
        light = possible[~own[possible]]
        if len(light):
            tail = self._tail(self.unknown, float(self.null_noise[light].min()))
            result[light] = tail.at_least(self.counts[light] / self.null_noise[light])
        for i in possible[own[possible]]:
            tail = self._tail(float(self.null_unknown[i]), float(self.null_noise[i]))
            result[i] = tail.at_least(self.counts[[i]] / self.null_noise[i])[0]
        return result

    def bounds(self, error: float) -> tuple[Floats, Floats]:
        """Collisions only add, so the lower end is where their tail says; below, errors are no wider than normal."""
        above = -float(ndtri(check_error(error))) * self.stderr
        below = above
        if len(self.noise) and self.noise.min() > 0:
            below = np.maximum(self._tail(self.unknown, float(self.noise.min())).quantile(error) * self.noise, above)
        lower, upper = (np.clip(end, 0, self.reports) for end in (self.counts - below, self.counts + above))
        return lower, upper

    def _tail(self, unknown: float, noise: float) -> CollisionTail:
        k, m = self.rows, self.columns
        jump = unknown / k * m / (m - 1) / noise
        return CollisionTail(jump=jump, rows=k, columns=m, reports=self.reports, success=self.success)


@dataclass(frozen=True, kw_only=True)
class CollisionModel:
    """The moments of one report's contribution, from which everything about the estimates' spread follows.

    `own_dispersion` is the expected sum, over the m cells of its row, of the squared distance of a report's
    contributions from their mean over the row; `step` how far apart the two contributions are that a report can make
    to a cell.
    """

    rows: int
    columns: int
    own_variance: float
    other_variance: float
    own_dispersion: float
    step: float

    def variance(self, reports: int, counts: Floats, pairs: Floats | float) -> Floats:
        """Var of the estimates of values with these true counts, in devices squared.

        `pairs`: how many ordered pairs of other devices hold the same value, F2 - f^2 - (n - f).
        """
        return self._variance(counts, (reports - counts) * self.other_variance, pairs)

    def _variance(self, counts: Floats, others: Floats, pairs: Floats | float) -> Floats:
        """The same, where `others` is what all other devices add if each held a value of its own."""
        k, m = self.rows, self.columns
        inner = counts * self.own_variance + others + pairs * (1 - 1 / m) / (k * m)
        return np.asarray((m / (m - 1)) ** 2 * inner)

    def second_moment(self, reports: int, dispersion: float) -> float:
        """F2, from the sum of squared distances of all contributions from the mean of their row.

        Unbiased before it is held to the possible range, n .. n^2: reports of the same row and value add 1 - 1/m to the
        expected dispersion, of the same row and other values 0, and each report with itself `own_dispersion`. Its error
        moves a variance by about sqrt(2 / (k m)) of itself. That of f^2, which is then taken off, moves it by about
        2 f stderr / (k m), which matters only for values that most devices hold and sketches of a few hundred cells:
        there the difference, held to what is possible, makes the standard error too large.
        """
        k, m, n = self.rows, self.columns, reports
        moment = n + k * (dispersion - n * self.own_dispersion) * m / (m - 1)
        return float(np.clip(moment, n, float(n) ** 2))

    def unknown(self, reports: int, moment: float, devices: float) -> float:
        """The most that sqrt(F2) of values that `devices` hold can be, where F2 is estimated as `moment`.

        The estimate's standard error is sqrt(2 / (k m)) of what all cells' squares sum to, noise included.
        """
        k, m = self.rows, self.columns
        squares = k * reports * self.own_dispersion * m / (m - 1) + moment
        return min(float(np.sqrt(moment + _MARGIN * np.sqrt(2 / (k * m)) * squares)), max(devices, 0.0))

    def estimate(self, sums: Floats, reports: int, dispersion: float) -> SketchEstimate:
        """Unbiased counts from the sums A, and their standard errors with the estimates, held to [0, n], plugged in."""
        m, n = self.columns, reports
        counts = m / (m - 1) * (sums - n / m)
        held = np.clip(counts, 0, n)
        moment = self.second_moment(n, dispersion)
        pairs = np.maximum(moment - held**2 - (n - held), 0)
        unknown = self.unknown(n, moment, n)
        return SketchEstimate(
            counts=counts,
            stderr=np.sqrt(self.variance(n, held, pairs)),
            reports=n,
            noise=np.sqrt(self.variance(n, held, 0.0)),
            null_noise=np.full(len(counts), self.null_noise(n)),
            null_unknown=np.full(len(counts), unknown),
            unknown=unknown,
            rows=self.rows,
            columns=m,
            success=self.success(n),
        )

    def null_noise(self, reports: int) -> float:
        """Standard error of the count of a value that nobody holds, if all devices hold different values."""
        return float(np.sqrt(self.variance(reports, np.zeros(1), 0.0)[0]))

    def success(self, reports: int) -> float:
        """The probability, at most 1/2, with which a binomial has the noise of a rare value: a report's contribution is
        one of two numbers, `step` apart, so it is the rarer one's."""
        if not reports:
            return 0.5
        share = self.null_noise(reports) ** 2 / (reports * (self.step * self.columns / (self.columns - 1)) ** 2)
        return float(2 * share / (1 + np.sqrt(max(1 - 4 * share, 0.0))))

    def heavy(self, estimate: Estimate) -> NDArray[np.int64]:
        """Which values' collisions matter for others, by index, most frequent first."""
        least = _HEAVY * self.null_noise(estimate.reports) * min(self.rows, np.sqrt(self.rows * self.columns))
        found = np.flatnonzero(estimate.counts >= np.maximum(least, _CERTAIN * estimate.stderr))
        return found[np.argsort(-estimate.counts[found], kind="stable")][:_MOST_HEAVY]

    def estimate_jointly(self, alone: SketchEstimate, dispersion: float, collisions: Collisions) -> SketchEstimate:
        """The estimates of different values with their known collisions taken out.

        Where that exposes further heavy values, again with these.
        """
        estimate, taken = alone, np.zeros(0, dtype=np.int64)
        for _ in range(_ROUNDS):
            heavy = self.heavy(estimate)
            if np.isin(heavy, taken).all():
                break
            taken = np.union1d(heavy, taken)
            taken = taken[np.argsort(-estimate.counts[taken], kind="stable")][:_MOST_HEAVY]
            estimate = self.take_out(alone, dispersion, taken, collisions)
        return estimate

    def take_out(
        self, alone: SketchEstimate, dispersion: float, heavy: NDArray[np.int64], collisions: Collisions
    ) -> SketchEstimate:
        """The estimates of different values with what the `heavy` among them add to each other and to the rest.

        Unbiased given the hash family, but for collisions with values that are not heavy or not asked for; these are
        in the standard errors and tails. Where a value shares so many cells with heavy ones that it is not told apart
        from them (sketches of a few rows), its count stays, and what they may add is in its standard error. Time: one
        hash a value and row, and len(values) len(heavy)^2 products.
        """
        n, k, d = alone.reports, self.rows, len(alone.counts)
        heavy, response = self._separate(heavy, collisions)
        inverse = np.linalg.inv(response)
        found = inverse @ alone.counts[heavy]
        held = np.clip(found, 0, n)

        counts, gain, blurred, others = alone.counts.copy(), np.ones(d), np.zeros(d), np.zeros(d)
        step = max(1, _BLOCK // len(heavy))
        for start in range(0, d, step):
            which = np.arange(start, min(start + step, d))
            shared = collisions(which, heavy) / k
            known = self._response(shared)
            apart = 1 - np.einsum("ij,ij->i", known @ inverse, known)
            told = apart >= _SEPARATE
            gain[which[told]] = 1 / apart[told]
            counts[which[told]] = (counts[which] - known @ found)[told] / apart[told]
            blurred[which] = np.where(told, 0.0, np.abs(known) @ held)
            others[which] = self._others(shared) @ held
        counts[heavy], gain[heavy], blurred[heavy] = found, np.diag(inverse), 0.0
        others[heavy] -= held * self.own_variance  # which _others is where all rows are shared

        # Devices that hold none of the heavy values, the squares of their counts, and the same if one is not held.
        is_heavy = np.isin(np.arange(d), heavy)
        rest = max(n - float(held.sum()), 0.0)
        squares = self.second_moment(n, dispersion) - float(held @ response @ held)
        squares = max(squares + float((self.variance(n, held, 0.0) * np.diag(inverse)).sum()), rest)
        unknown = self.unknown(n, squares, rest)
        plugged = np.clip(counts, 0, n)
        own = np.where(is_heavy, plugged, 0.0)
        left = np.maximum(rest + own - plugged, 0.0)
        pairs = np.maximum(squares + own**2 - plugged**2 - left, 0.0)

        def error(counts: Floats, devices: Floats, pairs: Floats | float) -> Floats:
            by_noise = self._variance(counts, others + devices * self.other_variance, pairs)
            return np.asarray(np.sqrt(by_noise * gain + blurred**2))

        return SketchEstimate(
            counts=counts,
            stderr=error(plugged, left, pairs),
            reports=n,
            noise=error(plugged, left, 0.0),
            null_noise=error(np.zeros(d), rest + own, 0.0),
            null_unknown=np.sqrt(unknown**2 + own**2),
            unknown=unknown,
            rows=k,
            columns=self.columns,
            success=alone.success,
        )

    def standard_error(self, reports: int, count: float, second_moment: float | None) -> float:
        """Predicted standard error; without F2, the other devices are taken to hold all different values."""
        pairs = 0.0 if second_moment is None else max(second_moment - count**2 - (reports - count), 0.0)
        return float(np.sqrt(self.variance(reports, np.array(float(count)), pairs)))

    def _separate(self, heavy: NDArray[np.int64], collisions: Collisions) -> tuple[NDArray[np.int64], Floats]:
        """Those of the heavy values that are told apart from each other, and their response to each other.

        The response is a matrix of inner products (of the values' cells, less their mean), so a Cholesky decomposition
        with pivoting finds which of them the others explain.
        """
        response = self._response(collisions(heavy, heavy) / self.rows)
        *_, pivots, rank, _ = lapack.dpstrf(response, tol=_SEPARATE)
        kept = pivots[:rank] - 1
        return heavy[kept], response[np.ix_(kept, kept)]

    def _response(self, shared: Floats) -> Floats:
        """What a device adds to the count of another value, with which its own shares this part of the rows."""
        m = self.columns
        return np.asarray((shared - 1 / m) * m / (m - 1))

    def _others(self, shared: Floats) -> Floats:
        """The variance of what a device adds to the cells of another value."""
        m, own = self.columns, self.own_variance + 1  # expected square in a shared row
        apart = (self.other_variance + 1 / m**2 - own / m) / (1 - 1 / m)  # and in any other row
        return np.asarray(apart + shared * (own - apart) - shared**2)
