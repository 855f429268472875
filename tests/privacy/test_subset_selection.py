"""Subset selection beyond the contract: size of the sets, bits from words, rounding, a published fault."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import subset_selection
from privacy.mechanism import Tally
from privacy.mixture import mean_variance, mixture_threshold
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import random_words
from privacy.subset_selection import SubsetSelection
from privacy.thresholds import WORD, exp_below
from tests.privacy import contract, contract_audit
from tests.privacy.cases_sets import CASES, subset_channel
from tests.privacy.contract import skewed, stream

CASE = CASES[0]


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0])
@pytest.mark.parametrize("d", [2, 3, 4, 5, 7, 10, 33, 56, 57, 100, 301])
def test_the_size_is_the_best_of_all(d: int, epsilon: float):
    def variance(k: int) -> float:
        e = Fraction(math.exp(epsilon))
        p = k * e / (k * e + d - k)
        q = (p * (k - 1) + (1 - p) * k) / (d - 1)
        return mean_variance(float(p), float(q), d)

    best = min(variance(k) for k in range(1, d))
    assert variance(SubsetSelection(epsilon=epsilon, domain_size=d).subset_size) <= best * (1 + 1e-12)


def test_sets_of_one_are_randomized_response():
    for epsilon, d in [(4.0, 10), (1.0, 3), (12.0, 60_000)]:
        one, grr = SubsetSelection(epsilon=epsilon, domain_size=d), RandomizedResponse(epsilon=epsilon, domain_size=d)
        assert one.subset_size == 1
        assert (one.p, one.q) == pytest.approx((grr.p, grr.q), rel=1e-9)
        assert one.standard_error(1000, 10) == pytest.approx(grr.standard_error(1000, 10), rel=1e-9)


@pytest.mark.parametrize("epsilon", [1.0, 2.0, 4.0])
def test_support_and_standard_error_are_those_of_the_paper(epsilon: float):
    d, e = 1000, math.exp(epsilon)
    m = SubsetSelection(epsilon=epsilon, domain_size=d)
    k = m.subset_size
    assert k in (math.floor(d / (e + 1)), math.ceil(d / (e + 1)))
    p = k * e / (k * e + d - k)
    assert (m.p, m.q) == pytest.approx((p, p * (k - 1) / (d - 1) + (1 - p) * k / (d - 1)), rel=1e-9)
    # A finite domain is a little easier than the limit, 4 e^eps / (e^eps - 1)^2.
    assert 0.97 < m.standard_error(1) ** 2 / (4 * e / (e - 1) ** 2) < 1.001


def set_from_words(m: SubsetSelection, value: int, words: list[int]) -> list[int]:
    """What the documentation says, with whole numbers of any size."""
    d, k = m.domain_size, m.subset_size
    draws: list[int] = []
    for s in range(0, k, 2):
        product, bounds = words[1 + s // 2], [d - k + s + 1, d - k + s + 2]
        draws += divmod(product * math.prod(bounds) >> 64, bounds[1]) if s + 1 < k else [product * bounds[0] >> 64]
    if words[0] < m.threshold:
        draws[-1] = value
    chosen: set[int] = set()
    for s, t in enumerate(draws):
        chosen.add(d - k + s if t in chosen else t)
    return sorted(chosen)


@settings(max_examples=60, deadline=None)
@given(
    d=st.one_of(st.integers(2, 400), st.sampled_from([4095, 4096, 4097, 65_535, 65_536])),
    epsilon=st.sampled_from([0.3, 1.0, 3.0, 5.0, 9.0]),
    seed=st.integers(0, 9),
)
def test_reports_are_the_documented_function_of_the_words(d: int, epsilon: float, seed: int):
    m = SubsetSelection(epsilon=epsilon, domain_size=d)
    values = np.random.default_rng(seed).integers(0, d, 3 if m.subset_size > 1000 else 70)
    words = random_words(stream(seed), len(values) * m.words_per_report).reshape(len(values), -1).tolist()
    rng = stream(seed)
    reports = m.privatize(values, rng)
    assert reports.tolist() == [set_from_words(m, int(v), w) for v, w in zip(values, words, strict=True)]
    assert reports.dtype == np.uint16
    following = stream(seed)
    following.bytes(8 * len(values) * m.words_per_report)
    assert rng.bytes(16) == following.bytes(16)  # a fixed number of words a report


def test_both_kernels_make_the_same_sets():
    for d, k in [(7, 1), (100, 2), (100, 79), (1000, 80)]:
        values, words = np.arange(150) % d, random_words(stream(), 150 * (1 + (k + 1) // 2))
        small, large = np.zeros((2, 150, k), dtype=np.uint16)
        subset_selection._draw_small(values, words, d, k, np.uint64(WORD // 2), small)
        subset_selection._draw_large(values, words, d, k, np.uint64(WORD // 2), large)
        assert (small == large).all()


@pytest.mark.parametrize(("epsilon", "d"), [(1.0, 60), (0.1, 301), (4.0, 65_536), (3.0, 1000)])
def test_the_rounding_of_the_draws_is_within_the_proof(epsilon: float, d: int):
    """least / most is the smallest quotient that any set's two probabilities could have, to the last word."""
    m = SubsetSelection(epsilon=epsilon, domain_size=d)
    k = m.subset_size
    bounds = [d - k + s + 1 for s in range(k)]
    products = [math.prod(bounds[s : s + 2]) for s in range(0, k, 2)]
    quotient = Fraction(k, d)
    for product in products:
        # floor / ceil of the words for each result, as shares of the 2^64 / product that it should be
        quotient *= Fraction(WORD // product, -(-WORD // product))
    own = Fraction(m.threshold, WORD)
    assert 1 + own / (1 - own) / quotient <= exp_below(epsilon)
    assert own >= Fraction(99_999, 100_000) * mixture_threshold(epsilon, Fraction(k, d), Fraction(1)) / WORD


def keeps_own_value_in_the_other_branch(epsilon: float, d: int) -> SubsetSelection:
    """Replica of a published fault: the true value is put in with the paper's p = k e^eps / (k e^eps + d - k), but the
    other branch draws from all d values, the true one included, instead of from the d - 1 others.
    """
    broken = SubsetSelection(epsilon=epsilon, domain_size=d)
    k, e = broken.subset_size, exp_below(epsilon)
    broken.__dict__["threshold"] = math.floor(WORD * k * e / (k * e + d - k))
    return broken


@pytest.mark.parametrize(("epsilon", "d"), [(1.0, 6), (0.5, 6), (2.0, 5), (1.0, 9)])
def test_the_exact_channel_catches_the_fault(epsilon: float, d: int):
    contract.check_channel(subset_channel(SubsetSelection(epsilon=epsilon, domain_size=d)), epsilon)
    with pytest.raises(AssertionError, match="more than epsilon"):
        contract.check_channel(subset_channel(keeps_own_value_in_the_other_branch(epsilon, d)), epsilon)


def test_the_audit_catches_the_fault_on_a_large_domain():
    honest, broken = SubsetSelection(epsilon=1.0, domain_size=301), keeps_own_value_in_the_other_branch(1.0, 301)
    found = [
        contract_audit.audit(m.privatize, lambda reports, v: (reports == v).any(axis=1), 3, 200, 60_000)
        for m in (honest, broken)
    ]
    assert 0.8 < found[0] <= 1.0
    assert 1.3 < found[1] < 1.56  # its epsilon is ln(2 + e) = 1.55


def test_independent_cells_are_not_the_law_of_the_tally():
    """Why `simulate_tally` makes reports: binomial cells have the right means and variances only."""

    def simulate(m: SubsetSelection, counts: np.ndarray, rng: np.random.Generator) -> Tally:
        n = int(counts.sum())
        sums = rng.binomial(counts, m.p) + rng.binomial(n - counts, m.q)
        return Tally(sums.astype(np.int64), n, m.parameters)

    m, counts = SubsetSelection(epsilon=1.5, domain_size=12), np.bincount(skewed(400, 12), minlength=12)
    rng = np.random.default_rng(5)
    a, b, c = (
        np.array([f(m, counts, rng).sums for _ in range(400)], dtype=float)
        for f in (SubsetSelection.simulate_tally, SubsetSelection.simulate_tally, simulate)
    )
    contract.check_two_samples(a, b)
    with pytest.raises(AssertionError, match=r"total differs|variances differ"):
        contract.check_two_samples(a, c)


def test_simulation_by_reports_is_cut_into_chunks_and_refuses_what_are_no_counts():
    m = SubsetSelection(epsilon=4.0, domain_size=50)
    counts = np.zeros(50, dtype=np.int64)
    counts[[3, 49]] = 20_000, 15_000
    tally = m.simulate_tally(counts, np.random.default_rng(0))
    assert tally.reports == 35_000
    assert tally.sums.sum() == 35_000 * m.subset_size
    z = (m.estimate(tally).counts - counts) / [m.standard_error(35_000, f) for f in counts]
    assert np.abs(z).max() < 5
    for bad in (np.ones(49, dtype=int), np.full(50, -1)):
        with pytest.raises(ValueError, match="counts"):
            m.simulate_tally(bad, np.random.default_rng(0))


def test_malformed_reports_are_refused():
    m = SubsetSelection(epsilon=1.0, domain_size=9)
    assert m.subset_size == 2
    m.tally(np.array([[0, 8]], dtype=np.uint16))
    for row in ([8, 0], [3, 3], [0, 9], [65_535, 2]):
        with pytest.raises(ValueError, match=r"increasing order, each in 0 \.\. 8"):
            m.tally(np.array([[0, 8], row], dtype=np.uint16))
    for reports in (np.zeros((2, 3), np.uint16), np.zeros((2, 2), np.int64), np.zeros(2, np.uint16)):
        with pytest.raises(ValueError, match=r"expected uint16\[n, 2\]"):
            m.tally(reports)


def test_wire_size_and_domain_limits():
    assert SubsetSelection(epsilon=4.0, domain_size=1000).report_bits == 18 * 10
    assert SubsetSelection(epsilon=8.0, domain_size=65_536).report_bits == 22 * 16
    assert SubsetSelection(epsilon=1.0, domain_size=np.int64(1000)) == SubsetSelection(epsilon=1.0, domain_size=1000)
    with pytest.raises(ValueError, match="2 to 65536"):
        SubsetSelection(epsilon=1.0, domain_size=65_537)
    with pytest.raises(ValueError, match="epsilon is 1e-30"):
        SubsetSelection(epsilon=1e-30, domain_size=4)


def test_every_set_has_the_same_number_of_ways_to_be_drawn():
    """The counting argument of the proof: k! ways to a set, (k-1)! to one that is forced to hold a value."""
    for d, k in [(5, 2), (6, 3), (7, 4)]:
        for forced in (None, 0, 2, d - 1):
            ways: dict[frozenset[int], int] = {}
            ranges = [range(d - k + s + 1) for s in range(k - (forced is not None))]
            for draws in itertools.product(*ranges):
                chosen: set[int] = set()
                for s, t in enumerate(draws if forced is None else (*draws, forced)):
                    chosen.add(d - k + s if t in chosen else t)
                ways[frozenset(chosen)] = ways.get(frozenset(chosen), 0) + 1
            size = math.comb(d, k) if forced is None else math.comb(d - 1, k - 1)
            assert len(ways) == size
            assert set(ways.values()) == {math.factorial(k if forced is None else k - 1)}
            assert forced is None or all(forced in chosen for chosen in ways)
