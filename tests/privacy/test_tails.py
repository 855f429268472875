"""Tails of sums of binomials, and the estimates that rest on them, against sums that are added up exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.hadamard_response import HadamardResponse
from privacy.mechanism import Estimate
from privacy.randomized_response import RandomizedResponse
from privacy.tails import FEW, at_least, at_most, bernoulli, binomial_at_least, counts_allowed, nearest
from privacy.unary_encoding import OptimizedUnaryEncoding


def test_the_tail_of_a_binomial_is_that_of_scipy_and_continues_between_whole_numbers() -> None:
    k = np.arange(-2.0, 13.0)
    np.testing.assert_allclose(binomial_at_least(k, 10, 0.3), binom.sf(k - 1, 10, 0.3), rtol=1e-12)
    between = binomial_at_least(np.array([3.0, 3.5, 4.0]), 10, 0.3)
    assert between[0] > between[1] > between[2]


def test_the_search_for_a_number_near_another_finds_the_first() -> None:
    for answer in range(12):
        for start in range(12):
            assert nearest(lambda x, a=answer: x >= a, start, 11) == answer


@pytest.mark.parametrize(("p", "q", "n"), [(0.5, 0.018, 100_000), (0.9, 0.05, 2000), (0.98, 0.3, 500)])
def test_counts_allowed_by_saddlepoint_have_exactly_the_stated_tails(p: float, q: float, n: int) -> None:
    """Within 1% of the error in probability, wherever the sum varies by 5 or more; a count in between whole numbers has
    a tail between theirs."""
    counts, error, rng = np.array([0, n // 50, n // 5, n // 2]), 1e-5, np.random.default_rng(0)
    sums = rng.binomial(counts, p) + rng.binomial(n - counts, q)
    low, high = counts_allowed(
        lambda s: bernoulli(p, s) - bernoulli(q, s), lambda s: n * bernoulli(q, s), sums, error, n
    )
    for total, first, last in zip(sums.tolist(), low, high, strict=True):
        for end, tail, outwards in ((first, at_least, -1), (last, at_most, 1)):
            inner, outer = (math.ceil(end), math.floor(end)) if outwards < 0 else (math.floor(end), math.ceil(end))
            if 0 < end < n:
                assert tail(total, ((inner, p), (n - inner, q))) > 0.99 * error
                assert tail(total, ((outer, p), (n - outer, q))) < 1.01 * error


def test_errors_out_of_range_are_refused() -> None:
    found = OptimizedUnaryEncoding(epsilon=2.0, domain_size=4).estimate(
        OptimizedUnaryEncoding(epsilon=2.0, domain_size=4).simulate_tally(
            np.array([5, 5, 5, 5]), np.random.default_rng()
        )
    )
    for error in (0.0, 0.5, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"error is .*; expected a probability above 0 and below 1/2"):
            found.bounds(error)
        with pytest.raises(ValueError, match="error is"):
            Estimate(found.counts, found.stderr, found.reports).bounds(error)


@pytest.mark.parametrize("epsilon", [4.0, 8.0, 12.0])
def test_bounds_of_randomized_response_are_the_exact_ones(epsilon: float) -> None:
    mechanism, n, error = RandomizedResponse(epsilon=epsilon, domain_size=300), 3000, 0.001
    truth = np.zeros(300, dtype=np.int64)
    truth[:5] = [2800, 150, 40, 9, 1]
    found = mechanism.estimate(mechanism.simulate_tally(truth, np.random.default_rng(1)))
    low, high = found.bounds(error)
    few = found.stderr * (mechanism.p - mechanism.q) < FEW
    assert few.any()
    for i in np.flatnonzero(few)[:30]:
        total, first, last = int(found.sums[i]), int(low[i]), int(high[i])

        def law(count: int):
            return (count, mechanism.p), (n - count, mechanism.q)

        assert at_least(total, law(first)) > error and (first == 0 or at_least(total, law(first - 1)) <= error)
        assert at_most(total, law(last)) > error and (last == n or at_most(total, law(last + 1)) <= error)
    np.testing.assert_allclose(found.p_values(), binom.sf(found.sums - 1, n, mechanism.q), rtol=1e-9)


def test_negative_control_the_normal_p_value_is_wrong_by_orders_of_magnitude() -> None:
    """7 reports name a value that 0.6 are expected to name by chance."""
    chance = float(binomial_at_least(np.array([7.0]), 10_000, 6e-5)[0])
    assert chance == pytest.approx(3.3e-6, rel=0.05)
    assert norm.sf((7 - 0.6) / math.sqrt(0.6)) < chance / 1e9


def test_coins_of_all_have_the_law_of_coins_of_all() -> None:
    """Where every device tosses a coin beside its vote, the count is the sum less the coins, and so are its bounds."""
    mechanism = DistributedUnaryEncoding(domain_size=3, central_epsilon=1.0, central_delta=1e-6, honest_reports=1000)
    found = mechanism.estimate(mechanism.simulate_tally(np.array([700, 300, 0]), np.random.default_rng(0)))
    low, high = found.bounds(0.01)
    coins = binom(1000, mechanism.q)
    np.testing.assert_allclose(low, np.maximum(found.sums - coins.isf(0.01), 0), atol=1.01)
    np.testing.assert_allclose(high, np.maximum(found.sums - coins.ppf(0.01), 0), atol=1.01)
    np.testing.assert_allclose(found.p_values(), coins.sf(found.sums - 1), rtol=1e-9)


def test_hadamard_response_compares_two_halves_of_a_block() -> None:
    mechanism = HadamardResponse(epsilon=10.0, domain_size=200)
    truth = np.zeros(200, dtype=np.int64)
    truth[3] = 30
    found = mechanism.estimate(mechanism.simulate_tally(truth, np.random.default_rng(0)))
    assert found.p_values()[3] < 2.0**-20
    others = np.arange(200) != 3
    assert (found.p_values()[others] >= 0.5 ** found.landed[others]).all()
    low, high = found.bounds(0.001)
    assert low[3] <= 30 <= high[3] and (low[others] == 0).all()


def test_some_of_an_estimate_keeps_its_law() -> None:
    mechanism = RandomizedResponse(epsilon=8.0, domain_size=50)
    found = mechanism.estimate(mechanism.simulate_tally(np.full(50, 20), np.random.default_rng(0)))
    some = found.take(np.array([7, 3]))
    np.testing.assert_array_equal(some.p_values(), found.p_values()[[7, 3]])
    np.testing.assert_array_equal(some.bounds(0.01), np.array(found.bounds(0.01))[:, [7, 3]])
