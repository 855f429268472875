"""Exact confidence limits on a probability, from how often something happened; and how many tests share one error.

low, high = clopper_pearson(17, 1000, confidence=0.99)
error_of_test(3, 1e-6)                                     # of tests without end, what the third may use: 8.3e-8
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainccinv, betaincinv

from privacy.units import check_whole


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact limits (low, high) on a probability; each is violated with chance at most (1 - confidence) / 2.

    Clopper and Pearson 1934. Raises ValueError unless 0 <= successes <= trials, trials >= 1 and 0 < confidence < 1.
    """
    check_whole("trials", trials, 1, "how often it was tried")
    check_whole("successes", successes, 0, "how often it succeeded")
    if successes > trials:
        raise ValueError(f"successes are {successes} of {trials} trials; expected at most all")
    check_confidence(confidence)
    low, high = limits(np.array([successes]), trials, 1 - confidence)
    return float(low[0]), float(high[0])


def limits(successes: NDArray[np.int64], trials: int, error: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`clopper_pearson` for many numbers of successes, int64[n], without its checks: low and high, float64[n] each.

    Each is violated with chance at most error / 2. `error` and not 1 - error, which would round a small one away.
    """
    k = successes.astype(np.float64)
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), trials - k + 1, error / 2), 0.0)
    high = np.where(k < trials, betainccinv(k + 1, np.maximum(trials - k, 1), error / 2), 1.0)
    return low, high


def error_of_test(number: int, total: float) -> float:
    """The error that test `number` = 1, 2, ... may have, so that all tests together have at most `total`.

    It is total / (number (number + 1)) = total (1 / number - 1 / (number + 1)). The first n add up to
    total (1 - 1 / (n + 1)), which is below `total` for every n: how many tests there will be need not be known. By the
    union bound the chance that any of them is wrong is at most that sum (Bonferroni with unequal parts), if each is
    wrong with at most its own chance whatever the ones before it found. Raises ValueError unless number >= 1 and 0 <
    total < 1.
    """
    check_whole("number", number, 1, "which test it is, counted from 1")
    if not 0 < total < 1:
        raise ValueError(f"total is {total!r}; expected a probability such as 1e-6")
    return total / (number * (number + 1))


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; expected a probability such as 0.95")
