"""What mechanisms share that mix two draws: with probability M from the value's own set of reports, else from all.

Subset selection, Hadamard response and projective geometry response are of this kind.

    t = mixture_threshold(1.0, Fraction(1, 64), Fraction(1, 32))   # M = t / 2^64: 64 reports, of which 32 are own
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numba import njit

from privacy.thresholds import WORD, exp_below


def mixture_threshold(epsilon: float, least_uniform: Fraction, most_own: Fraction) -> int:
    """The largest T such that 'with probability T / 2^64 draw from the own set, else from everything' keeps epsilon.

    Let U(y) be the probability of report y in the draw from everything, the same for all values and at least
    `least_uniform`, and S_x(y) <= `most_own` that in the draw from the own set of value x. With M = T / 2^64,

        (1 - M) U(y)  <=  P[y | x]  <=  (1 - M) U(y) + M most_own        for every x and y,

    so no ratio is above 1 + M / (1 - M) * most_own / least_uniform, which is at most e^eps if M / (1 - M) is at most
    r = (e^eps - 1) * least_uniform / most_own. The bounds hold whatever rounding the uniform draws do.
    """
    r = (exp_below(epsilon) - 1) * least_uniform / most_own
    return max(0, math.floor(WORD * r / (1 + r)))


def mean_variance(p: float, q: float, domain_size: int) -> float:
    """Variance of a count per report, averaged over the values when devices are spread evenly over them.

    Parameters are chosen by it, on devices and on the server: only basic operations, which are the same everywhere.
    """
    f = 1 / domain_size
    if p == q:
        return math.inf
    return (f * p * (1 - p) + (1 - f) * q * (1 - q)) / ((p - q) * (p - q))


@njit(inline="always", cache=True)
def scaled_word(word: np.uint64, bound: np.uint64) -> np.uint64:
    """floor(word * bound / 2^64) for bound <= 2^32: privacy.thresholds.scaled_words, one word at a time."""
    low = ((word & np.uint64(0xFFFFFFFF)) * bound) >> np.uint64(32)
    return ((word >> np.uint64(32)) * bound + low) >> np.uint64(32)
