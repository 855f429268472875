"""Exact central guarantees of whole-number noise on vote counts: binomial and discrete Gaussian.

    noise = binomial_noise(1_000_000, 2.8e-5)                  # one coin of every device, summed up
    noise.delta(1.0, Neighbours.REPLACEMENT)                   # delta of (epsilon = 1, delta)
    noise.epsilon(1e-6, Neighbours.REPLACEMENT)

Every count gets its own noise of probability f(z). A vote that moves from one count to another (REPLACEMENT) shows as
(+1, -1) in two counts, a vote instead of none as +1 in one. delta(epsilon) is the hockey-stick divergence between the
two pairs of counts, summed outcome by outcome: no Gaussian approximation and no asymptotics (Balle and Wang 2018,
theorem 5, has the definition; Canonne, Kamath, Steinke 2020, theorem 7, the discrete Gaussian's; for binomial noise
Agarwal et al. 2018 give bounds that this replaces). Float rounding and the dropped tails are added, so every number
returned is an upper bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from privacy.units import Neighbours, check_delta

Floats = NDArray[np.float64]

TAIL = 1e-20
"""Probability of noise outside of the window that is looked at; added to delta once for every count that changes."""
MARGIN = 1e-8
"""Relative allowance for float rounding: three times what sums over the largest window can lose."""
LARGEST_EPSILON = 700.0  # e^epsilon is still a float
_LARGEST_WINDOW = 1 << 18


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerNoise:
    """Log-concave noise on consecutive whole numbers, cut where at most TAIL is left.

    `up[i]` is log f(z_{i+1}) - log f(z_i), decreasing in i; `variance` that of the noise.
    """

    up: Floats = field(repr=False)
    variance: float

    def delta(self, epsilon: float, neighbours: Neighbours) -> float:
        """The smallest delta (rounded up) with which one release of all counts is (epsilon, delta)-private.

        Raises ValueError unless 0 <= epsilon <= 700.
        """
        if not 0 <= epsilon <= LARGEST_EPSILON:
            raise ValueError(f"epsilon is {epsilon!r}; expected a number from 0 to {LARGEST_EPSILON:g}")
        moved = self._moved(epsilon)
        return min(1.0, moved if neighbours is Neighbours.REPLACEMENT else max(moved, self._added(epsilon)))

    def epsilon(self, delta: float, neighbours: Neighbours) -> float:
        """The smallest epsilon (rounded up) at this delta; infinity if no epsilon up to 700 reaches it.

        Raises ValueError unless 0 < delta < 1.
        """
        check_delta(delta)
        low, high = 0.0, LARGEST_EPSILON
        if self.delta(low, neighbours) <= delta:
            return low
        if self.delta(high, neighbours) > delta:
            return math.inf
        while high - low > 1e-9 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if self.delta(middle, neighbours) <= delta else (middle, high)
        return high

    @cached_property
    def _probabilities(self) -> Floats:
        logs = np.concatenate([[0.0], np.cumsum(self.up)])
        shares = np.exp(logs - logs.max())
        return np.asarray(shares / shares.sum())

    def _moved(self, epsilon: float) -> float:
        """(z1 + 1, z2) against (z1, z2 + 1), z1 and z2 noise: the other of two neighbours follows by symmetry.

        The second outcome is e^(up[z1] - up[z2 - 1]) times as probable as the first. For each z1 the z2 that count are
        those with a large up[z2 - 1], a prefix, since f is log-concave.
        """
        f = self._probabilities
        # Beyond the window the neighbour's probability is taken as 0, which only raises delta.
        up = np.concatenate([self.up, [-np.inf]])
        before = np.concatenate([[np.inf], self.up])
        total = np.concatenate([[0.0], np.cumsum(f)])
        count = np.searchsorted(-before, -(epsilon + up), side="left")
        # Over the prefix, f(z2) - e^(epsilon + up1) f(z2 - 1) adds up to F(count) - e^(epsilon + up1) F(count - 1).
        with np.errstate(over="ignore", invalid="ignore"):
            lost = np.where(count > 1, np.exp(epsilon + up) * total[np.maximum(count - 1, 0)], 0.0)
        loss = float(np.sum(f * np.maximum(total[count] - lost, 0.0)))
        return loss + MARGIN * float(np.sum(f * total[count])) + 2 * TAIL

    def _added(self, epsilon: float) -> float:
        """z + 1 against z, and z against z + 1."""
        f = self._probabilities
        ratios = np.concatenate([self.up, [-np.inf]]), -np.concatenate([[np.inf], self.up])
        losses = [float(np.sum(f * -np.expm1(np.minimum(epsilon + ratio, 0.0)))) for ratio in ratios]
        masses = [float(np.sum(f[epsilon + ratio < 0])) for ratio in ratios]
        return max(loss + MARGIN * mass for loss, mass in zip(losses, masses, strict=True)) + TAIL


def binomial_noise(trials: int, probability: float) -> IntegerNoise:
    """Bin(trials, probability): what `trials` independent coins add up to.

    More coins never cost privacy: the further ones are independent noise on top. Raises ValueError unless trials >= 1
    and 0 < probability <= 1/2.
    """
    if isinstance(trials, bool) or not isinstance(trials, int | np.integer) or not 1 <= trials <= 1 << 40:
        raise ValueError(f"trials is {trials!r}; expected a whole number from 1 to 2^40")
    if not 0 < probability <= 0.5:
        raise ValueError(f"probability is {probability!r}; expected a number in (0, 1/2]")
    n, q = int(trials), probability
    variance = n * q * (1 - q)
    # Bernstein's inequality: at most TAIL on both sides together.
    log_tail = math.log(2 / TAIL)
    reach = log_tail / 3 + math.sqrt(log_tail**2 / 9 + 2 * log_tail * variance)
    low, high = max(0, math.floor(n * q - reach)), min(n, math.ceil(n * q + reach))
    _check_window(high - low)
    z = np.arange(low, high, dtype=np.float64)
    up = np.log(n - z) - np.log(z + 1) + (math.log(q) - math.log1p(-q))
    return IntegerNoise(up=up, variance=variance)


def discrete_gaussian_noise(scale: float) -> IntegerNoise:
    """f(z) proportional to exp(-z^2 / (2 scale^2)); its variance is at most scale^2.

    Canonne, Kamath, Steinke 2020, definition 1 and corollary 9. Raises ValueError unless
    0.1 <= scale <= 10000.
    """
    check_scale(scale)
    # Proposition 25 there: Pr[Z >= m] <= Pr[N(0, scale^2) >= m - 1] <= exp(-(m - 1)^2 / (2 scale^2)).
    reach = 1 + math.ceil(scale * math.sqrt(2 * math.log(2 / TAIL)))
    _check_window(2 * reach)
    z = np.arange(-reach, reach, dtype=np.float64)
    return IntegerNoise(up=-(2 * z + 1) / (2 * scale * scale), variance=scale * scale)


def check_scale(scale: float) -> None:
    """Raise ValueError unless 0.1 <= scale <= 10000."""
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0.1 <= scale <= 10_000:
        raise ValueError(f"scale is {scale!r}; expected a number from 0.1 to 10000, the standard deviation in votes")


def _check_window(width: int) -> None:
    if width > _LARGEST_WINDOW:
        raise ValueError(
            f"the noise spreads over {width} whole numbers; expected at most {_LARGEST_WINDOW}: use less noise"
        )
