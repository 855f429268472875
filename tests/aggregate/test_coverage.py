"""Do the intervals cover the truth as often as they say? Real mechanisms, through their reports, at reduced size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from aggregate.histogram import intervals
from aggregate.intake import PermutedSum, intake
from privacy.count_mean_sketch import CountMeanSketch
from privacy.hadamard_sketch import HadamardCountMeanSketch
from privacy.hashing import hash_strings
from privacy.poll import Choice, ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.aggregate.asks import ask_of

DEVICES, D, POLLS = 20_000, 200, 30
HASHES = hash_strings([str(i) for i in range(D)])


def zipf() -> np.ndarray:
    """int64[D]: devices by value in proportion to 1 / rank, all DEVICES of them."""
    ends = np.rint(np.cumsum(1 / np.arange(1, D + 1)) / np.sum(1 / np.arange(1, D + 1)) * DEVICES)
    return np.diff(ends, prepend=0).astype(np.int64)


TRUTH = zipf()
VALUES = np.repeat(np.arange(D), TRUTH)
NONE_EVERY = 3
"""With 'none of these' among the answers, every third device gives it."""


def oue(poll: int) -> tuple[Any, np.ndarray, np.ndarray | None]:
    return OptimizedUnaryEncoding(epsilon=2.0, domain_size=D), VALUES, None


def grr(poll: int) -> tuple[Any, np.ndarray, np.ndarray | None]:
    choice = Choice(D)
    held = np.where(np.arange(DEVICES) % NONE_EVERY == 0, choice.none, VALUES)
    return RandomizedResponse(epsilon=4.0, domain_size=choice.answers), held, None


def cms(poll: int) -> tuple[Any, np.ndarray, np.ndarray | None]:
    return CountMeanSketch(epsilon=4.0, rows=256, columns=128, hash_seed=poll), HASHES[VALUES], HASHES


def hcms(poll: int) -> tuple[Any, np.ndarray, np.ndarray | None]:
    return HadamardCountMeanSketch(epsilon=4.0, rows=64, columns=256, hash_seed=poll), HASHES[VALUES], HASHES


def coverage(
    make: Callable[[int], tuple[Any, np.ndarray, np.ndarray | None]], confidence: float
) -> tuple[np.ndarray, float]:
    """float64[POLLS]: the share of the intervals of a poll that cover the true count; and the most by which exact tails
    of whole counts may cover more than that: at each end, the chance of one value of a count.
    """
    rng, shares, steps = np.random.default_rng(0), [], []
    for poll in range(POLLS):
        mechanism, held, asked = make(poll)
        batches = (
            ReportBatch("k", part, mechanism.privatize(held[part], rng)) for part in np.split(np.arange(DEVICES), 4)
        )
        ask = ask_of(mechanism, "k", asked)
        estimate = ask.estimate(intake(batches, {"k": PermutedSum(ask, rng)}, DEVICES)["k"])
        truth = np.bincount(held, minlength=len(estimate.counts)) if asked is None else TRUTH
        lower, upper = intervals(estimate, confidence, "none")
        shares.append(np.mean((lower <= truth) & (truth <= upper)))
        # Counts of a list lie on a lattice, those of a sketch on one that is too fine to be seen.
        steps.append(np.diff(np.unique(estimate.counts)).min() / np.median(estimate.stderr))
    return np.array(shares), 2 * norm.pdf(norm.isf((1 - confidence) / 2)) * np.median(steps)


@pytest.mark.parametrize("make", [oue, grr, cms, hcms], ids=lambda make: make.__name__)
def test_95_of_100_intervals_cover_the_truth(make: Callable[[int], tuple[Any, np.ndarray, np.ndarray | None]]) -> None:
    shares, more = coverage(make, 0.95)
    # Errors of one poll may hang together, so the sampling error comes from the spread between polls.
    error = max(shares.std(ddof=1), np.sqrt(0.95 * 0.05 / D)) / np.sqrt(POLLS)
    assert -4 * error < shares.mean() - 0.95 < 4 * error + more
    # Negative control: intervals of 1.0 instead of 1.96 standard errors cover 68%, and that is seen.
    one = 1 - 2 * norm.sf(1.0)
    narrow, more = coverage(make, one)
    assert abs(narrow.mean() - 0.95) > 20 * error
    error = max(narrow.std(ddof=1), np.sqrt(one * (1 - one) / D)) / np.sqrt(POLLS)
    assert -4 * error < narrow.mean() - one < 4 * error + more
