"""Exact accounting of Gaussian noise, in both directions: for the central baseline, where a server adds noise to votes.

    gaussian_sigma(1.0, delta=1e-6, rounds=10)       # noise for an epsilon
    gaussian_epsilon(12.5, delta=1e-6, rounds=10)    # epsilon of a noise

`sigma` is the standard deviation of the noise on each count, `sensitivity` the largest change, in the Euclidean norm,
that one unit of privacy can make to the counts of one round: 1 if a device adds one vote or none; sqrt(2) if one vote
moves from one count to another. Rounds of Gaussian noise compose to one Gaussian, so nothing here is an approximation
but float rounding, which is taken upwards: the true delta at what is returned is at most the one asked for.

Sources: Balle and Wang, 'Improving the Gaussian mechanism for differential privacy', ICML 2018, theorem 8; Dong, Roth,
Su, 'Gaussian differential privacy', JRSS B 2022, corollary 3.3 (composition).
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import erfcx, ndtr

from privacy.units import check_delta, check_whole

MARGIN = 1e-11
"""delta is taken this much larger, relatively, than the floats gave, whose error is below 3e-12 for whatever is within
10 standard deviations (tests/privacy/test_gaussian.py measures it in 50 digits)."""


def gaussian_delta(sigma: float, epsilon: float, *, rounds: int = 1, sensitivity: float = 1.0) -> float:
    """The exact delta: Phi(-eps/mu + mu/2) - e^eps Phi(-eps/mu - mu/2) with mu = sensitivity sqrt(rounds) / sigma.

    Raises ValueError unless sigma > 0, epsilon >= 0, rounds >= 1 and sensitivity > 0.
    """
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon!r}; expected a number >= 0")
    _check_positive("sigma", sigma, "the standard deviation of the noise on each count")
    return _delta(_change(rounds, sensitivity) / sigma, epsilon)


def gaussian_epsilon(sigma: float, *, delta: float, rounds: int = 1, sensitivity: float = 1.0) -> float:
    """The smallest epsilon that `rounds` rounds of this noise give at this delta, rounded up.

    Raises ValueError unless sigma > 0, 0 < delta < 1, rounds >= 1 and sensitivity > 0.
    """
    _check_positive("sigma", sigma, "the standard deviation of the noise on each count")
    mu = _change(rounds, sensitivity) / sigma
    check_delta(delta)
    allowed = delta * (1 - MARGIN)
    if _delta(mu, 0.0) <= allowed:
        return 0.0
    high = mu
    while _delta(mu, high) > allowed:
        high *= 2
    root = float(brentq(lambda e: _delta(mu, e) - allowed, 0.0, high, xtol=1e-300, rtol=1e-13))
    return root * (1 + 1e-12)


def gaussian_sigma(epsilon: float, *, delta: float, rounds: int = 1, sensitivity: float = 1.0) -> float:
    """The smallest noise with which `rounds` rounds are (epsilon, delta)-private, rounded up.

    Raises ValueError unless epsilon > 0, 0 < delta < 1, rounds >= 1 and sensitivity > 0.
    """
    _check_positive("epsilon", epsilon, "the central privacy budget of all rounds together")
    check_delta(delta)
    change, allowed = _change(rounds, sensitivity), delta * (1 - MARGIN)
    low = high = 1.0  # mu
    while _delta(low, epsilon) > allowed:
        low /= 2
    while _delta(high, epsilon) <= allowed:
        high *= 2
    root = float(brentq(lambda mu: _delta(mu, epsilon) - allowed, low, high, xtol=1e-300, rtol=1e-13))
    return change / root * (1 + 1e-12)


def _check_positive(name: str, value: float, meaning: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}; expected a number above 0 ({meaning})")


def _change(rounds: int, sensitivity: float) -> float:
    """How far all rounds together can move, in the Euclidean norm."""
    check_whole("rounds", rounds, 1, "how often fresh noise is added")
    _check_positive("sensitivity", sensitivity, "the largest change of one round's counts, Euclidean")
    return sensitivity * math.sqrt(rounds)


def _delta(mu: float, epsilon: float) -> float:
    """As phi(low) (R(low) - R(high)) with Mills' ratio R(x) = Phi(-x) / phi(x), which does not cancel in the tails."""
    middle = epsilon / mu
    low, high = middle - mu / 2, middle + mu / 2
    density = math.exp(-low * low / 2) / math.sqrt(2 * math.pi)
    if low < 0 and mu >= 1e-3:
        return max(0.0, float(ndtr(-low)) - density * _mills(high))
    if mu >= 1e-3:
        return density * (_mills(low) - _mills(high))
    # The two ratios are nearly equal: Taylor's series of their difference, with R' = x R - 1. The next term is below
    # mu^4 / 1000 of the first.
    ratio = _mills(middle)
    first = middle * ratio - 1
    third = 2 * first + middle * (ratio + middle * first)
    return density * -(mu * first + mu**3 / 24 * third)


def _mills(x: float) -> float:
    return math.sqrt(math.pi / 2) * float(erfcx(x / math.sqrt(2)))
