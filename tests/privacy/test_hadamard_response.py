"""Hadamard response beyond the contract: the code, its blocks at every boundary, the variance that depends on them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from privacy.hadamard_response import HadamardResponse, _own_points
from privacy.mechanism import Tally
from privacy.randomness import random_words
from privacy.subset_selection import SubsetSelection
from privacy.thresholds import WORD
from tests.privacy import contract
from tests.privacy.cases_sets import CASES, claimed_with_blocks, half_block
from tests.privacy.contract import skewed, stream

CASE = CASES[1]


def make(epsilon: float, d: int) -> HadamardResponse:
    return HadamardResponse(epsilon=epsilon, domain_size=d)


# Domains at and beside B (2^j - 1), where one published implementation fails, and at powers of two.
BOUNDARIES = sorted(
    {
        max(2, blocks * ((1 << j) - 1) + off)
        for blocks in (1, 2, 4, 8, 32, 64)
        for j in (1, 2, 3, 4, 6)
        for off in (-1, 0, 1)
    }
    | {(1 << j) + off for j in range(2, 10) for off in (-1, 0, 1)}
)


@settings(max_examples=80, deadline=None)
@given(d=st.one_of(st.sampled_from(BOUNDARIES), st.integers(2, 600)), epsilon=st.floats(0.05, 12.0))
def test_every_value_has_its_own_half_of_a_block(d: int, epsilon: float):
    m = make(epsilon, d)
    (blocks, size), values = m.shape, np.arange(d)
    rows = 1 + values // blocks
    assert rows.max() < size  # and row 0, which is no half, is not used
    assert blocks * (size // 2 - 1) < d <= blocks * (size - 1)  # the smallest power of two that does
    assert m.points == blocks * size == 1 << m.report_bits
    assert m.points <= 4 * d
    half = size // 2
    sets = np.array([_own_points(np.full(half, v), np.arange(half), blocks, size) for v in values])
    assert (sets // size == m.blocks_of(values)[:, None]).all()
    matrix = hadamard(size)
    assert (matrix[rows[:, None], sets % size] == 1).all()
    assert (np.diff(np.sort(sets, axis=1), axis=1) > 0).all()  # b / 2 different points: all of the row's


@pytest.mark.parametrize("d", [3, 12, 28, 96, 97])
def test_two_values_of_a_block_share_half_of_their_points_and_others_none(d: int):
    m = make(2.0, d)
    sets = [set(half_block(m, v)) for v in range(d)]
    for v in range(d):
        for w in range(v):
            same = v % m.shape[0] == w % m.shape[0]
            assert len(sets[v] & sets[w]) == (m.shape[1] // 4 if same else 0)


def test_negative_control_a_block_without_room_for_row_0_is_caught():
    """b = 2^ceil(log2(d / B)) instead of d / B + 1: at d = B 2^j the last value's row does not exist."""
    m = make(2.0, 64)
    m.__dict__["shape"] = (4, 16)
    assert (1 + np.arange(64) // 4).max() == 16
    reports = m.privatize(np.arange(64).repeat(50), stream())
    with pytest.raises((ValueError, IndexError)):
        m.estimate(m.tally(reports))


@settings(max_examples=40, deadline=None)
@given(
    d=st.one_of(st.sampled_from(BOUNDARIES), st.sampled_from([1 << 20, 99_999])),
    epsilon=st.sampled_from([0.3, 2.0, 5.0, 12.0]),
)
def test_reports_are_the_documented_function_of_the_words(d: int, epsilon: float):
    m = make(epsilon, d)
    blocks, size = m.shape
    values = np.random.default_rng(d).integers(0, d, 50)
    words = random_words(stream(), 100).reshape(50, 2).tolist()
    expected = []
    for v, (branch, word) in zip(values.tolist(), words, strict=True):
        row, choice = 1 + v // blocks, word * (size // 2) >> 64
        low = (row & -row).bit_length() - 1
        y = (choice >> low << (low + 1)) | (choice & ((1 << low) - 1))
        y |= (bin(row & y).count("1") & 1) << low
        expected.append((v % blocks) * size + y if branch < m.threshold else word * m.points >> 64)
    rng = stream()
    reports = m.privatize(values, rng)
    assert reports.tolist() == expected
    assert reports.dtype == np.uint32
    following = stream()
    following.bytes(16 * 50)
    assert rng.bytes(16) == following.bytes(16)


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 2.0, 4.0, 6.0, 9.0, 12.0])
@pytest.mark.parametrize("d", [2, 3, 10, 31, 100, 1000, 100_000])
def test_no_power_of_two_has_a_smaller_mean_variance(d: int, epsilon: float):
    chosen = make(epsilon, d)

    def variance(blocks: int) -> float:
        """Mean over the values of the documented variance, devices spread evenly; M from the documented quotient."""
        m = math.expm1(epsilon) / (math.expm1(epsilon) + 2 * blocks)
        in_block = np.bincount(np.arange(d) % blocks, minlength=blocks)[np.arange(d) % blocks] / d
        return float(np.mean(((1 - m) / blocks + in_block * m - m * m / d) / m**2))

    assert chosen.threshold / WORD == pytest.approx(
        math.expm1(epsilon) / (math.expm1(epsilon) + 2 * chosen.shape[0]), rel=1e-12
    )
    powers = [1 << i for i in range((d - 1).bit_length() + 1)]
    assert variance(chosen.shape[0]) <= min(map(variance, powers)) * (1 + 1e-12)
    paper = 1 << (math.ceil(math.log2(min(math.exp(epsilon), 2 * d))) - 1)
    if d > 20 * math.exp(epsilon):  # away from randomized response the two rules stay close
        assert paper in (chosen.shape[0], 2 * chosen.shape[0])
        assert variance(paper) <= 1.4 * variance(chosen.shape[0])


def test_standard_error_is_at_most_the_root_of_two_above_subset_selection():
    for epsilon in (1.0, 2.0, 4.0, 6.0):
        ours = make(epsilon, 3000).standard_error(1000)
        best = SubsetSelection(epsilon=epsilon, domain_size=3000).standard_error(1000)
        assert best < ours < 1.05 * math.sqrt(2) * best


@pytest.mark.parametrize(("epsilon", "d"), [(0.5, 5), (1.0, 6), (4.0, 13), (12.0, 3)])
def test_the_threshold_is_the_largest_that_keeps_epsilon(epsilon: float, d: int):
    """Negative control: one more unit in 2^64 and the exact channel breaks its bound."""
    m = make(epsilon, d)
    contract.check_channel(CASE.channel(m), epsilon)
    m.__dict__["threshold"] += 1
    with pytest.raises(AssertionError, match="more than epsilon"):
        contract.check_channel(CASE.channel(m), epsilon)


def in_one_block(m: HadamardResponse, n: int) -> np.ndarray:
    """n devices, all with values of block 0."""
    return np.random.default_rng(2).integers(0, m.domain_size // m.shape[0], n) * m.shape[0]


def test_the_variance_follows_how_full_the_block_is():
    m, n = make(4.0, 300), 400
    truth = np.bincount(in_one_block(m, n), minlength=300)
    claimed = claimed_with_blocks(m, truth)
    assert claimed[0] > 3 * claimed[1]
    errors = []
    for poll in range(300):
        tally = m.tally(m.privatize(np.repeat(np.arange(300), truth), stream(poll)))
        errors.append(m.estimate(tally).counts - truth)
    contract.check_unbiased(np.array(errors))
    contract.check_spread(np.array(errors), np.tile(claimed, (300, 1)))
    even = np.array([m.standard_error(n, float(f)) for f in truth])  # as if the others were spread evenly
    with pytest.raises(AssertionError, match="variance"):
        contract.check_spread(np.array(errors), np.tile(even, (300, 1)))


def test_estimates_carry_the_standard_error_of_their_value_and_block():
    m = make(3.0, 200)
    tally = m.tally(m.privatize(skewed(5000, 200), stream()))
    estimate = m.estimate(tally)
    blocks, size = m.shape
    share = m.threshold / WORD
    seen = tally.sums.reshape(blocks, size).sum(axis=1)
    for v in (0, 1, 17, 199):
        in_block = (seen[v % blocks] - 5000 * (1 - share) / blocks) / share
        count = min(max(estimate.counts[v], 0), 5000)
        expected = m.standard_error(5000, count, min(max(in_block, count), 5000))
        assert estimate.stderr[v] == pytest.approx(expected, rel=1e-12)
    some = m.estimate(tally, np.array([17, 0]))
    assert some.counts.tolist() == estimate.counts[[17, 0]].tolist()
    assert some.stderr.tolist() == estimate.stderr[[17, 0]].tolist()
    for asked in ([200], [-1]):
        with pytest.raises(ValueError, match="expected"):
            m.estimate(tally, np.array(asked))


@pytest.mark.parametrize(("epsilon", "d"), [(4.0, 13), (4.0, 224), (2.0, 252), (1.5, 508)])
def test_estimates_follow_the_definition_to_the_last_digit(epsilon: float, d: int):
    """The sum of H[row, y] / M over the reports y of the block. 224, 252 and 508 are B (2^j - 1) for the B of the
    paper, where one library fails; sums that are cut to whole numbers, the fault of another, are seen at once.
    """
    m = make(epsilon, d)
    (blocks, size), matrix = m.shape, hadamard(m.shape[1])
    reports = m.privatize(skewed(3000, d), stream()).astype(np.int64)
    expected = np.array(
        [matrix[1 + v // blocks, reports[reports // size == v % blocks] % size].sum() for v in range(d)]
    ) / (m.threshold / WORD)
    got = m.estimate(m.tally(reports.astype(np.uint32))).counts
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(np.trunc(got), expected, rtol=1e-12)


def many_and_few(d: int) -> np.ndarray:
    """Counts for which the simulation takes both of its ways."""
    counts = np.full(d, 2)
    counts[[1, d - 1]] = 900, 300
    return counts


def test_the_simulated_tally_has_the_law_of_reports_on_both_ways():
    m, counts, rng = make(2.0, 12), many_and_few(12), np.random.default_rng(8)
    values = np.repeat(np.arange(12), counts)
    reported = np.array([m.tally(m.privatize(values, stream(i))).sums for i in range(400)], dtype=float)
    simulated = np.array([m.simulate_tally(counts, rng).sums for i in range(400)], dtype=float)
    assert (simulated.sum(axis=1) == counts.sum()).all()
    contract.check_two_samples(reported, simulated)

    def shared_choice(counts: np.ndarray) -> np.ndarray:
        """A wrong shortcut: all devices of a value name the same own point."""
        sums = m.simulate_tally(np.zeros_like(counts), rng).sums
        kept = rng.binomial(counts, m.threshold / WORD)
        for v in range(12):
            sums[rng.choice(half_block(m, v))] += kept[v]
        return sums + rng.multinomial(counts.sum() - kept.sum(), np.full(m.points, 1 / m.points))

    wrong = np.array([shared_choice(counts) for _ in range(400)], dtype=float)
    with pytest.raises(AssertionError, match="variances differ"):
        contract.check_two_samples(reported, wrong)


def test_simulation_of_many_devices_takes_no_longer_than_their_values():
    m, counts = make(4.0, 40), np.full(40, 10**9)
    tally = m.simulate_tally(counts, np.random.default_rng(0))
    assert tally.reports == tally.sums.sum() == 40 * 10**9
    z = (m.estimate(tally).counts - counts) / claimed_with_blocks(m, counts)
    assert np.abs(z).max() < 5


def test_malformed_reports_are_refused():
    m = make(1.0, 5)
    with pytest.raises(ValueError, match=rf"expected points 0 \.\. {m.points - 1}"):
        m.tally(np.array([0, m.points], dtype=np.uint32))
    for reports in (np.zeros(2, np.int64), np.zeros((2, 1), np.uint32)):
        with pytest.raises(ValueError, match=r"expected uint32\[n\]"):
            m.tally(reports)
    with pytest.raises(ValueError, match="the tally was made with"):
        m.estimate(Tally(np.zeros(m.points, np.int64), 0, {**m.parameters, "blocks": 64}))
    with pytest.raises(ValueError, match="2 to 1048576"):
        make(1.0, (1 << 20) + 1)
    with pytest.raises(ValueError, match="epsilon is 1e-30"):
        make(1e-30, 4)
    assert dataclasses.replace(m, domain_size=np.int64(5)) == m
