"""Tails of sums of binomials: which tallies chance allows, and which true counts a tally allows.

    at_least(5, ((0, 0.5), (1000, 0.001)))                       # P[Bin(0, 0.5) + Bin(1000, 0.001) >= 5], exactly
    binomial_at_least(np.array([5.0]), 1000, 0.001)              # the same, for many tallies at once
    counts_allowed(own, others, sums, error, reports)            # by saddlepoint, for any two cumulants

At large epsilon a wrong value is named by so few devices that no normal tail would be right: with n q = 0.6 expected
and 7 seen, the normal p-value is 10^-16 and the true one 10^-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammaln, ndtr, xlog1py, xlogy

from privacy.mechanism import Binomials, check_error

Floats = NDArray[np.float64]

Cumulant = Callable[[Floats], Floats]
"""A cumulant generating function at d points s, and its first and second derivative there: float64[3, d]."""

FEW = 5.0
"""The standard deviation of a sum below which its tails are to be added up exactly: no approximation is good there."""

_LARGEST_TILT = 60.0  # exp(60) is far above the quotient of any two probabilities here
_STEPS = 50  # of a bisection: to 10^-13


def binomial_at_least(sums: NDArray[Any], trials: int | NDArray[Any], probability: float) -> Floats:
    """P[Bin(trials, probability) >= sums], and between whole numbers its continuation (the incomplete beta function).

    1 where sums <= 0, 0 where sums > trials.
    """
    sums, trials = np.broadcast_arrays(np.asarray(sums, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    inside = (sums > 0) & (sums <= trials)
    tail = betainc(np.where(inside, sums, 1.0), np.where(inside, trials - sums + 1, 1.0), probability)
    return np.where(inside, tail, np.where(sums <= 0, 1.0, 0.0))


def at_least(named: int, law: Binomials) -> float:
    """P[Bin(*law[0]) + Bin(*law[1]) >= named], up to 1e-19 (`_binomial`)."""
    (own_first, own), (other_first, other) = (_binomial(*part) for part in law)
    tail = np.append(np.cumsum(other[::-1])[::-1], 0.0)  # from the far end, so that small tails are exact
    needed = named - own_first - np.arange(len(own)) - other_first
    return float(np.sum(own * tail[np.clip(needed, 0, len(other))]))


def at_most(named: int, law: Binomials) -> float:
    """P[Bin(*law[0]) + Bin(*law[1]) <= named], up to 1e-19 (`_binomial`)."""
    (own_first, own), (other_first, other) = (_binomial(*part) for part in law)
    tail = np.append(0.0, np.cumsum(other))
    allowed = named - own_first - np.arange(len(own)) - other_first + 1
    return float(np.sum(own * tail[np.clip(allowed, 0, len(other))]))


def _binomial(n: int, p: float) -> tuple[int, Floats]:
    """The results of Bin(n, p) that matter: the first of them, and the probabilities of it and those that follow.

    All others together have less than 1e-19 (Bernstein's inequality, 12 standard deviations and 30 from the mean).
    """
    reach = 12 * math.sqrt(n * p * (1 - p)) + 30
    first, last = max(0, math.floor(n * p - reach)), min(n, math.ceil(n * p + reach))
    k = np.arange(first, last + 1)
    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return first, np.asarray(np.exp(ways + xlogy(k, p) + xlog1py(n - k, -p)))


def first_that(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number in low .. high for which `holds`, which is monotone and holds at `high` (not asked there)."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def nearest(holds: Callable[[int], bool], start: int, high: int) -> int:
    """`first_that` over 0 .. high, quick where the answer is near `start`."""
    below, above, step = start, start, 1
    while below > 0 and holds(below):
        below, above, step = max(below - step, 0), below, 2 * step
    step = 1
    while above < high and not holds(above):
        below, above, step = above, min(above + step, high), 2 * step
    return first_that(holds, below, above)


def bernoulli(probability: float, s: Floats) -> Floats:
    """The cumulant of a report that adds 1 with this probability, else 0: float64[3, d]."""
    with np.errstate(divide="ignore"):  # log 0 = -inf is right where the probability is 0 or 1
        value = np.logaddexp(np.log1p(-probability), np.log(probability) + s)
        tilted = np.exp(np.log(probability) + s - value)
    return np.stack([value, tilted, tilted * (1 - tilted)])


def counts_allowed(
    own: Cumulant, others: Cumulant, sums: NDArray[np.int64], error: float, reports: int
) -> tuple[Floats, Floats]:
    """The least and the largest count, float64 in 0 .. reports, that a sum does not refute at this error on each side.

    A sum that `count` reports hold has the cumulant count `own`(s) + `others`(s) and is a whole number. Its tail is
    the saddlepoint approximation of Lugannani and Rice 1980 with Daniels' 1987 second correction for whole numbers:
    to one part in a thousand and better once the variance reaches 25. Raises ValueError for an error not below 1/2.
    """
    check_error(error)
    return (
        _allowed(own, others, sums.astype(np.float64) - 0.5, error, reports, 1.0),
        _allowed(own, others, sums.astype(np.float64) + 0.5, error, reports, -1.0),
    )


def _allowed(own: Cumulant, others: Cumulant, target: Floats, error: float, reports: int, sign: float) -> Floats:
    """One side. The tilt s and the count belong together by E[sum] = target under the tilted law, and that equation is
    linear in the count; so the search is over s alone, from the count that explains the sum best outwards."""
    near, far = np.zeros(len(target)), np.full(len(target), _LARGEST_TILT)
    ends = np.full(len(target), 0.0 if sign > 0 else reports)  # the count that belongs to `far`
    for _ in range(_STEPS):
        s = (near + far) / 2
        (k, k1, k2), (b, b1, b2) = own(sign * s), others(sign * s)
        counts = (target - b1) / k1
        inside = counts > 0 if sign > 0 else counts < reports
        w = np.sqrt(np.maximum(2 * (sign * s * target - counts * k - b), 1e-300))
        u = 2 * np.sinh(s / 2) * np.sqrt(np.maximum(counts * k2 + b2, 1e-300))
        tail = ndtr(-w) + np.exp(-w * w / 2) / math.sqrt(2 * math.pi) * (1 / u - 1 / w)
        further = inside & (tail > error)
        near, far, ends = np.where(further, s, near), np.where(further, far, s), np.where(further, ends, counts)
    return np.asarray(np.clip(ends, 0, reports))
