"""Binomial probabilities, good to eleven digits up to 1e9 trials, for bounds that have to hold.

binomial_pmf(np.arange(11.0), 10, 0.5)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammaln

Floats = NDArray[np.float64]

MARGIN = 1e-9
"""Every binomial probability is taken this much larger or smaller, relatively, whichever raises delta. The errors of
the formulas in use are below 5e-11 (tests/privacy/test_shuffling.py measures them against exact sums)."""


def binomial_pmf(k: Floats, n: Floats | int, q: float) -> Floats:
    """Pr[Bin(n, q) = k] for whole numbers 0 <= k <= n and 0 < q < 1. Relative error below 5e-11 up to n = 1e8.

    Loader 2000, 'Fast and accurate computation of binomial probabilities'.
    """
    trials: Floats = np.broadcast_to(np.asarray(n, dtype=np.float64), k.shape)
    result = np.where(k == 0, np.exp(trials * math.log1p(-q)), np.exp(trials * math.log(q)))
    inside = (k > 0) & (k < trials)
    x, y = k[inside], (trials - k)[inside]
    log_share = _stirling_error(x + y) - _stirling_error(x) - _stirling_error(y)
    log_share -= _deviance(x, (x + y) * q) + _deviance(y, (x + y) * (1 - q))
    result[inside] = np.exp(log_share) * np.sqrt((x + y) / (2 * math.pi * x * y))
    return result


def _stirling_error(x: Floats) -> Floats:
    """log(x!) minus Stirling's formula, for x >= 1."""
    y = 1 / (x * x)
    series = (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188)))) / x
    small = np.minimum(x, 16.0)
    direct = gammaln(small + 1) - (small + 0.5) * np.log(small) + small - 0.5 * math.log(2 * math.pi)
    return np.where(x < 16, direct, series)


def _deviance(x: Floats, mean: Floats) -> Floats:
    """x log(x / mean) + mean - x."""
    gap = x - mean
    return x * np.log1p(gap / mean) - gap


def binomial_window(n: int, q: float, tail: float) -> tuple[int, int]:
    """Bounds low, high with Pr[low <= Bin(n, q) <= high] >= 1 - tail, by Bernstein's inequality."""
    log_tail = math.log(2 / tail)
    reach = log_tail / 3 + math.sqrt(log_tail**2 / 9 + 2 * log_tail * n * q * (1 - q))
    return max(0, math.floor(n * q - reach)), min(n, math.ceil(n * q + reach))


def binomials_on_grid(n: Floats, share: float, step: int, tail: float) -> tuple[Floats, Floats]:
    """Bin(n, share) for each of the n, moved to a grid with its mean kept: points and masses, [len(n), points].

    With steps of 1 nothing moves. The grid's ends are 0 and n; `tail` may lie between them and its regular part.
    """
    most = int(n.max(initial=0))
    low, high = binomial_window(most, share, tail)
    side = math.ceil(max(high - most * share, most * share - low) / step) + 1
    centre = np.floor(n * share)[:, None] + step * np.arange(-side, side + 1)[None, :]
    points: Floats = np.clip(np.pad(centre, ((0, 0), (1, 1)), constant_values=(0, np.inf)), 0, n[:, None])
    below = binomial_cdf(points, n[:, None], share)
    # The mean of those up to k: n share Pr[Bin(n - 1, share) <= k - 1].
    part = n[:, None] * share * binomial_cdf(points - 1, n[:, None] - 1, share)
    width, inside, mean = (x[:, 1:] - x[:, :-1] for x in (points, below, part))
    with np.errstate(invalid="ignore", divide="ignore"):
        up = np.where(width > 0, np.clip((mean - points[:, :-1] * inside) / width, 0, inside), 0.0)
    masses: Floats = np.zeros_like(points)
    masses[:, 0] = below[:, 0]
    masses[:, :-1] += inside - up
    masses[:, 1:] += up
    return points, masses


def binomial_cdf(k: Floats, n: Floats, q: float) -> Floats:
    """Pr[Bin(n, q) <= k] for whole k and n; 0 below 0 and 1 from n on."""
    inside = (k >= 0) & (k < n)
    tail = betainc(np.where(inside, n - k, 1.0), np.where(inside, k + 1, 1.0), 1 - q)
    result: Floats = np.where(inside, tail, np.where(k < 0, 0.0, 1.0))
    return result
