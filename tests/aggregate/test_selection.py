"""Selectors on hand-made estimates, and on noise alone. Tolerances are five standard errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from aggregate.selection import (
    RandomSelector,
    RankSelector,
    SampleSelector,
    Selection,
    Selector,
    ZScoreSelector,
    z_scores,
)
from privacy.mechanism import Estimate
from privacy.unary_encoding import OptimizedUnaryEncoding

SELECTORS = [RankSelector(), ZScoreSelector(), SampleSelector(), RandomSelector()]


def estimate(counts: list[float], stderr: float | list[float] = 10.0) -> Estimate:
    array = np.array(counts, dtype=np.float64)
    return Estimate(array, np.broadcast_to(np.asarray(stderr, np.float64), array.shape).copy(), 1000)


def pick(selector: Selector, counts: list[float], k: int, stderr: float | list[float] = 10.0) -> Selection:
    return selector.pick(estimate(counts, stderr), k, np.random.default_rng(0))


def test_rank_takes_the_largest_counts_ties_to_the_lowest_index() -> None:
    selection = pick(RankSelector(), [5, 80, -3, 80, 20, 0, 20], k=5)
    assert selection.picks.tolist() == [1, 3, 4, 6, 0]
    assert selection.weights.tolist() == [80, 80, 20, 20, 5]


def test_rank_holds_weights_at_zero_from_below() -> None:
    selection = pick(RankSelector(), [-5, 8, -3], k=3)
    assert selection.picks.tolist() == [1, 2, 0]
    assert selection.weights.tolist() == [8, 0, 0]


def test_z_takes_what_stands_out_at_most_k_at_least_a_few() -> None:
    counts = [25, 19, 40, -50, 20, 0]
    assert pick(ZScoreSelector(z=2, at_least=1), counts, k=6).picks.tolist() == [2, 0, 4]
    assert pick(ZScoreSelector(z=2, at_least=1), counts, k=2).picks.tolist() == [2, 0]
    assert pick(ZScoreSelector(z=9, at_least=1), counts, k=6).picks.tolist() == [2]
    assert pick(ZScoreSelector(z=9, at_least=4), counts, k=6).picks.tolist() == [2, 0, 4, 1]
    assert pick(ZScoreSelector(z=9, at_least=4), counts, k=3).picks.tolist() == [2, 0, 4]
    # Twice the standard error, and none of them stands out.
    assert pick(ZScoreSelector(z=2.1, at_least=1), counts, k=6, stderr=20).picks.tolist() == [2]


def test_z_scores_without_noise() -> None:
    scores = z_scores(estimate([3, 0, -1, 30], stderr=[0, 0, 0, 10]))
    assert scores.tolist() == [np.inf, -np.inf, -np.inf, 3.0]
    assert pick(ZScoreSelector(z=5, at_least=1), [3, 0, 1, 0], k=4, stderr=0.0).picks.tolist() == [0, 2]


def test_sample_draws_in_proportion_and_never_what_has_no_votes() -> None:
    counts = [60, 30, 10, 0, -20]
    rng = np.random.default_rng(0)
    draws = 4000
    first = np.zeros(5)
    for _ in range(draws):
        first[SampleSelector().pick(estimate(counts), 1, rng).picks] += 1
    share = np.array([0.6, 0.3, 0.1, 0, 0])
    assert (np.abs(first - draws * share) <= 5 * np.sqrt(draws * share * (1 - share))).all()
    # Negative control: even shares are far off.
    assert (np.abs(first - draws / 5) > 5 * np.sqrt(draws * 0.2 * 0.8)).any()
    both = pick(SampleSelector(), counts, k=5)
    assert both.picks.tolist() == [0, 1, 2], "only three have votes, largest first"
    assert both.weights.tolist() == [60, 30, 10]


def test_random_ignores_the_votes() -> None:
    counts = [1000, 0, 0, 0, -1000]
    rng = np.random.default_rng(0)
    draws, chosen = 4000, np.zeros(5)
    for _ in range(draws):
        selection = RandomSelector().pick(estimate(counts), 2, rng)
        chosen[selection.picks] += 1
        assert selection.weights.tolist() == [1, 1]
    assert np.abs(chosen - draws * 0.4).max() < 5 * np.sqrt(draws * 0.4 * 0.6)


@pytest.mark.parametrize("selector", SELECTORS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("stderr", [0.0, 10.0])
@pytest.mark.parametrize("counts", [[-1.0] * 20, [0.0] * 20, [-5.0, 3.0] * 10, list(range(20))])
def test_every_selection_can_be_varied(selector: Selector, counts: list[float], stderr: float) -> None:
    asked = estimate(counts, stderr)
    before = asked.counts.copy(), asked.stderr.copy()
    for k in (1, 7, 20, 50):
        selection = selector.pick(asked, k, np.random.default_rng(1))
        picks = selection.picks.tolist()
        assert 1 <= len(picks) == len(set(picks)) <= k
        assert selection.picks.dtype == np.int64 and set(picks) <= set(range(20))
        assert len(selection.weights) == len(picks)
        assert (selection.weights >= 0).all() and selection.weights.sum() > 0
    np.testing.assert_array_equal(asked.counts, before[0])
    np.testing.assert_array_equal(asked.stderr, before[1])


@pytest.mark.parametrize("selector", [RankSelector(), ZScoreSelector(at_least=3), SampleSelector()])
def test_all_counts_negative_means_even_weights(selector: Selector) -> None:
    selection = pick(selector, [-4, -1, -2, -9], k=3)
    assert len(selection.picks) == 3
    assert selection.weights.tolist() == [1, 1, 1]
    if not isinstance(selector, SampleSelector):
        assert selection.picks.tolist() == [1, 2, 0]


def false_positives(z: float, seed: int, polls: int, m: int) -> int:
    """How many of m candidates without any vote pass a test at z, over many polls in which all answer 'none'."""
    mechanism = OptimizedUnaryEncoding(epsilon=4.0, domain_size=m + 1)
    rng = np.random.default_rng(seed)
    votes = np.append(np.zeros(m, dtype=np.int64), 100_000)
    passed = 0
    for _ in range(polls):
        whole = mechanism.estimate(mechanism.simulate_tally(votes, rng))
        noise = Estimate(whole.counts[:-1], whole.stderr[:-1], whole.reports)
        picks = ZScoreSelector(z=z, at_least=1).pick(noise, m, rng).picks
        # A single pick may be there by at_least alone.
        passed += len(picks) if len(picks) > 1 else int(z_scores(noise)[picks[0]] >= z)
    return passed


@pytest.mark.parametrize("z", [2.0, 3.0])
def test_noise_passes_the_z_score_as_often_as_said(z: float) -> None:
    polls, m = 200, 300
    tail = norm.sf(z)
    stderr = np.sqrt(polls * m * tail * (1 - tail))
    passed = false_positives(z, seed=0, polls=polls, m=m)
    assert abs(passed - polls * m * tail) < 5 * stderr
    # Negative control: a threshold a quarter of a standard error lower would be seen.
    assert abs(false_positives(z - 0.25, seed=0, polls=polls, m=m) - polls * m * tail) > 5 * stderr


def test_at_least_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decision\.selector\.at_least is 0"):
        ZScoreSelector(at_least=0)
