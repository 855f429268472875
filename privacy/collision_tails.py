"""How far collisions and noise together take an estimate of a sketch by chance.

    tail = CollisionTail(jump=2.8, rows=1024, columns=32768, reports=10**8, success=0.5)
    tail.at_least(np.array([5.4]))        # P[error >= 5.4 standard errors of the noise]: 0.0005, not 3e-8

A collision with a frequent value is rare and large: one row in m, and 1/k of that value's devices. Errors are then far
from normal, and no standard error says how far. What the sketch tells of values that were not asked for, or not taken
out, is the sum of their squared counts. So the tail is that of the worst of several ways to hold this sum: g equally
frequent values, g = 1, 2, 4, 8, 16, whose collisions are Bin(g k, 1/m) many, and the limit of very many, which is
normal. Noise is a sum of reports that add one of two numbers each: a binomial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from privacy.binomial import binomial_cdf, binomial_pmf
from privacy.tails import binomial_at_least

Floats = NDArray[np.float64]

_SHARED_BY = (1, 2, 4, 8, 16)  # how many equally frequent values hold the sum of squares
_NORMAL = 1e7  # variance of a binomial from which on its skewness moves no tail by more than a percent
_CHUNK = 1024  # errors looked at together
_TABLE, _PER_UNIT = 8, 64  # up to so many standard errors tails are interpolated, between so many points for each
_NOISE = np.arange(-10 * 32, 38 * 32 + 1) / 32  # where a binomial's tail is computed


@dataclass(frozen=True, kw_only=True)
class CollisionTail:
    """The law of an error in standard errors of the noise, that of a value whose collisions are not known.

    `jump`: what one collision adds, in these units, if one value holds the whole sum of squares. Noise is that of a
    Bin(`reports`, `success`), so it has the skewness of the bits of a count mean sketch.
    """

    jump: float
    rows: int
    columns: int
    reports: int
    success: float

    def at_least(self, errors: Floats) -> Floats:
        """P[error >= each of these], float64[d], to within 0.1% up to 8 standard errors, where it is interpolated."""
        if len(errors) <= _TABLE * _PER_UNIT:
            return self._exact(errors)
        grid = np.arange(-_TABLE * _PER_UNIT, _TABLE * _PER_UNIT + 1) / _PER_UNIT
        result = np.exp(np.interp(errors, grid, np.log(self._exact(grid))))
        far = errors > _TABLE
        result[far] = self._exact(errors[far])
        return np.asarray(result)

    def quantile(self, chance: float) -> float:
        """The error that is exceeded with this chance, below 1/2."""
        high = 1.0
        while self._exact(np.array([high]))[0] > chance:
            high *= 2

        def excess(error: float) -> float:
            return math.log(self._exact(np.array([error]))[0] / chance)

        return float(brentq(excess, 0.0 if excess(0.0) > 0 else -_TABLE, high)) if excess(high) < 0 else high

    def _exact(self, errors: Floats) -> Floats:
        parts = [self._worst(errors[i : i + _CHUNK]) for i in range(0, len(errors), _CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _worst(self, errors: Floats) -> Floats:
        chance = 1 / self.columns
        spread = math.sqrt(1 + self.jump**2 * self.rows * chance * (1 - chance))
        worst = self._noise(errors / spread)  # very many values
        for shifts, masses, more in self._profiles:
            tail = self._noise(errors[:, None] - shifts) @ masses + more
            worst = np.maximum(worst, np.minimum(tail, 1.0))
        return worst

    @cached_property
    def _profiles(self) -> list[tuple[Floats, Floats, float]]:
        """For each number of equally frequent values: what their collisions can add, how likely that is, and the chance
        of more collisions than these, which is counted as if they explained everything."""
        found, chance = [], 1 / self.columns
        for values in _SHARED_BY:
            trials, mean = values * self.rows, values * self.rows * chance
            reach = 12 * math.sqrt(mean) + 30
            collisions = np.arange(max(0, math.floor(mean - reach)), min(trials, math.ceil(mean + reach)) + 1.0)
            more = 1 - float(binomial_cdf(collisions[-1:], np.array([float(trials)]), chance)[0])
            shifts = self.jump / math.sqrt(values) * (collisions - mean)
            found.append((shifts, binomial_pmf(collisions, trials, chance), more))
        return found

    def _noise(self, errors: Floats) -> Floats:
        """P[noise >= each]."""
        if self.reports * self.success * (1 - self.success) > _NORMAL:
            return np.asarray(ndtr(-errors))
        return np.asarray(np.exp(np.interp(errors, _NOISE, _log_noise(self.reports, self.success))))


@lru_cache(maxsize=8)
def _log_noise(reports: int, success: float) -> Floats:
    """The logarithm of the tail of Bin(reports, success) at `_NOISE` of its standard deviations above its mean."""
    mean, deviation = reports * success, math.sqrt(reports * success * (1 - success))
    tail = binomial_at_least(mean + deviation * _NOISE, reports, success)
    return np.asarray(np.log(np.maximum(tail, 1e-320)))
