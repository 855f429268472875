"""Exact confidence limits on a probability, from how often something happened.

low, high = clopper_pearson(17, 1000, confidence=0.99)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

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
    low, high = limits(np.array([successes]), trials, confidence)
    return float(low[0]), float(high[0])


def limits(
    successes: NDArray[np.int64], trials: int, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`clopper_pearson` for many numbers of successes, int64[n], without its checks: low and high, float64[n] each."""
    error, k = (1 - confidence) / 2, successes.astype(np.float64)
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), trials - k + 1, error), 0.0)
    high = np.where(k < trials, betaincinv(k + 1, np.maximum(trials - k, 1), 1 - error), 1.0)
    return low, high


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; expected a probability such as 0.95")
