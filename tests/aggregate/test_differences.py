"""Differences of shares between two keys."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from aggregate.differences import Difference, difference
from aggregate.histogram import Histogram, ReleaseRule, release_histogram
from privacy.mechanism import Estimate
from privacy.unary_encoding import OptimizedUnaryEncoding

RULE = ReleaseRule(minimum_count=0, threshold=4.0)
NAMES = [str(i) for i in range(40)]


def histogram(values: str, counts: list[float], stderr: float, reports: int) -> Histogram:
    return release_histogram(Estimate(np.array(counts), np.full(len(counts), stderr), reports), list(values), RULE)


def test_by_hand() -> None:
    english = histogram("abcd", [500.0, 300, 200, 5], 3.0, 1000)
    french = histogram("dcba", [1000.0, 1200, 1, 800], 8.0, 4000)
    found = difference(english, french, correction="none")
    # b and d are withheld on one side each; the largest difference comes first.
    assert found.values == ("a", "c") and found.compared == 2 and found.corrected_for == 4
    np.testing.assert_allclose(found.first, [0.5, 0.2])
    np.testing.assert_allclose(found.second, [0.2, 0.3])
    np.testing.assert_allclose(found.difference, [0.3, -0.1])
    np.testing.assert_allclose(found.stderr, np.hypot(0.003, 0.002))
    np.testing.assert_allclose(found.upper - found.lower, 2 * 1.959964 * np.hypot(0.003, 0.002), rtol=1e-6)
    np.testing.assert_allclose(found.p_values, 2 * norm.sf(np.array([0.3, 0.1]) / np.hypot(0.003, 0.002)))


def test_nothing_in_common_is_an_empty_answer() -> None:
    found = difference(histogram("ab", [500.0, 1], 3.0, 1000), histogram("ab", [1.0, 500], 3.0, 1000))
    assert found.values == () and found.compared == 0 and len(found.lower) == 0


def test_without_noise_equal_shares_differ_by_nothing() -> None:
    found = difference(histogram("ab", [500.0, 400], 0.0, 1000), histogram("ab", [250.0, 250], 0.0, 500))
    assert found.difference.tolist() == pytest.approx([-0.1, 0.0])
    assert found.p_values.tolist() == [0.0, 1.0] and found.lower.tolist() == found.upper.tolist()


def polled(truths: tuple[np.ndarray, np.ndarray], seed: int) -> Difference:
    rng, two = np.random.default_rng(seed), []
    for truth in truths:
        oracle = OptimizedUnaryEncoding(epsilon=2.0, domain_size=40)
        two.append(release_histogram(oracle.estimate(oracle.simulate_tally(truth, rng)), NAMES, RULE))
    return difference(*two, confidence=0.9)


def outside(truths: tuple[np.ndarray, np.ndarray], polls: int, scale: float) -> float:
    """In which share of polls one interval or more, `scale` times as wide, misses the difference."""
    missed = 0
    exact = dict(zip(NAMES, truths[0] / truths[0].sum() - truths[1] / truths[1].sum(), strict=True))
    for seed in range(polls):
        found = polled(truths, seed)
        half = scale * (found.upper - found.lower) / 2
        off = np.abs(found.difference - [exact[value] for value in found.values])
        missed += bool((off > half).any())
    return missed / polls


def test_the_intervals_hold_all_at_once_though_the_elements_were_picked() -> None:
    # About half of the elements are just at the bar: those released are the ones whose noise was upwards.
    truths = np.repeat([2000, 500], [10, 30]), np.repeat([500, 2000], [30, 10])
    polls = 400
    error = np.sqrt(0.1 * 0.9 / polls)
    assert outside(truths, polls, 1.0) < 0.1 + 4 * error
    # Negative control: intervals half as wide would be caught.
    assert outside(truths, 50, 0.5) > 0.1 + 4 * np.sqrt(0.1 * 0.9 / 50)


def test_refused() -> None:
    one = histogram("ab", [500.0, 400], 3.0, 1000)
    with pytest.raises(ValueError, match=r"confidence is 1\.5; expected a share"):
        difference(one, one, confidence=1.5)
    assert {f.name for f in dataclasses.fields(Difference)} >= {"values", "difference", "lower", "upper", "stderr"}
