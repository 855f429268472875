"""How many bits an honest report sets: the exact law, the bounds that a server holds reports to, and the kernel."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from privacy.count_mean_sketch import CountMeanSketch
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hashing import hash_strings
from privacy.kernels import outside
from privacy.mechanism import Mechanism
from privacy.randomized_response import RandomizedResponse
from privacy.thresholds import WORD, all_below, not_below
from privacy.unary_encoding import OptimizedUnaryEncoding, SymmetricUnaryEncoding
from privacy.validity import FALSE_REFUSAL, refusal_probability, set_bit_bounds
from tests.privacy.contract import skewed, stream

SHAPES = [(width, kind, epsilon) for width in (2, 7, 64, 301, 1024) for kind in (0, 1) for epsilon in (0.5, 4.0, 12.0)]


def chances(kind: int, epsilon: float) -> tuple[Fraction, Fraction]:
    """(own, other) of optimized and of symmetric unary encoding, as fractions of 2^64."""
    mechanism = (OptimizedUnaryEncoding, SymmetricUnaryEncoding)[kind](epsilon=epsilon, domain_size=2)
    own, other = mechanism.thresholds
    return Fraction(own, WORD), Fraction(other, WORD)


def exact_law(width: int, own: Fraction, other: Fraction) -> list[int]:
    """P[0 .. width bits set] in WORD^-width: no float, no approximation."""
    mine, one, zero = int(own * WORD), int(other * WORD), WORD - int(other * WORD)
    others = [math.comb(width - 1, k) * one**k * zero ** (width - 1 - k) for k in range(width)]
    return [
        mine * (others[k - 1] if k else 0) + (WORD - mine) * (others[k] if k < width else 0) for k in range(width + 1)
    ]


@pytest.mark.parametrize(("width", "kind", "epsilon"), SHAPES)
def test_the_bounds_are_the_tightest_that_keep_the_rate_exactly(width: int, kind: int, epsilon: float) -> None:
    own, other = chances(kind, epsilon)
    law = exact_law(width, own, other)
    unit = WORD**width
    assert sum(law) == unit
    low, high = set_bit_bounds(width, float(own), float(other))
    side = Fraction(FALSE_REFUSAL) / 2 * unit
    assert sum(law[:low]) <= side and sum(law[high + 1 :]) <= side
    # Negative control: one bit tighter on either side breaks it.
    assert sum(law[: low + 1]) > side and sum(law[high:]) > side
    told = refusal_probability(width, float(own), float(other), low, high)
    assert told == pytest.approx(float(Fraction(sum(law[:low]) + sum(law[high + 1 :]), unit)), rel=1e-9)
    assert told <= FALSE_REFUSAL


def test_a_normal_approximation_would_refuse_honest_reports() -> None:
    """Negative control: six standard deviations sound like 1e-9, and are 30 times as much for the bits of OUE."""
    own, other = chances(0, 4.0)
    law = exact_law(301, own, other)
    mean, spread = float(own + 300 * other), math.sqrt(float(own * (1 - own) + 300 * other * (1 - other)))
    beyond = math.floor(mean + 6 * spread)
    assert Fraction(sum(law[beyond + 1 :]), WORD**301) > 30 * Fraction(FALSE_REFUSAL)
    assert set_bit_bounds(301, float(own), float(other))[1] > beyond


@pytest.mark.parametrize("rate", [0.2, 0.02])
def test_honest_reports_are_refused_as_often_as_the_exact_law_says(rate: float) -> None:
    """At rates that can be seen; within 5 standard errors of a share of n reports."""
    n = 40_000
    oue = OptimizedUnaryEncoding(epsilon=2.0, domain_size=301)
    bounds = set_bit_bounds(301, oue.p, oue.q, rate)
    refused = len(outside(oue.privatize(skewed(n, 301), stream()), bounds))
    expected = refusal_probability(301, oue.p, oue.q, *bounds)
    assert rate / 2 < expected <= rate
    assert abs(refused - n * expected) < 5 * math.sqrt(n * expected * (1 - expected))
    sketch = CountMeanSketch(epsilon=2.0, rows=5, columns=100, hash_seed=1)
    reports = sketch.privatize(hash_strings([str(i) for i in range(n)]), stream(1))
    expected = refusal_probability(100, 1 - sketch.q, sketch.q, *sketch.set_bits(rate))
    error = math.sqrt(n * expected * (1 - expected))
    assert abs(len(sketch.refused_at(rate, reports)) - n * expected) < 5 * error
    # Negative control: one bit fewer would be seen.
    low, high = sketch.set_bits(rate)
    assert abs(len(outside(reports[:, 1:].view(np.uint8), (low, high - 1))) - n * expected) > 5 * error


def test_the_puzzle_shares_the_rate_between_its_sketches() -> None:
    puzzle = SequenceFragmentPuzzle(epsilon=8.0, rows=4, columns=256, hash_seed=1)
    half = refusal_probability(256, 1 - puzzle.word_sketch.q, puzzle.word_sketch.q, *puzzle.word_sketch.set_bits(5e-10))
    assert 2 * half <= FALSE_REFUSAL
    assert puzzle.word_sketch.q == puzzle.fragment_sketch.q
    reports = puzzle.privatize(puzzle.encode(["hello"] * 6).values, stream())
    reports[1, 0] = puzzle.positions
    reports[2, 2:10] = 0xFFFFFFFF  # all bits of the piece
    reports[4, 11:] = 0  # no bit of the word
    reports[5, 10] = 4  # no row
    assert puzzle.refused(reports).tolist() == [1, 2, 4, 5]


def test_all_bits_and_no_bit_are_refused_and_padding_is() -> None:
    """What was accepted: a report of all ones, which counted 2.04 devices for each of 301 values."""
    oue = OptimizedUnaryEncoding(epsilon=4.0, domain_size=301)
    sue = SymmetricUnaryEncoding(epsilon=1.0, domain_size=301)
    everything = np.packbits(np.ones((1, 301), dtype=np.uint8), axis=1, bitorder="little")
    none = np.zeros_like(everything)
    both = np.concatenate([oue.privatize(np.array([3]), stream()), everything, none])
    gained = oue.estimate(oue.tally(both)).counts - oue.estimate(oue.tally(both[[0, 2]])).counts
    assert gained == pytest.approx(np.full(301, 2.037), rel=1e-3)
    assert oue.refused(both).tolist() == [1]  # at epsilon 4 one honest report in 500 sets no bit at all
    assert sue.refused(np.concatenate([everything, none])).tolist() == [0, 1]
    assert oue.set_bits == (0, 25)
    padded = both[[0, 0]]
    padded[1, -1] |= 0x80
    assert oue.refused(padded).tolist() == [1]


def test_the_issue_in_numbers() -> None:
    grr = RandomizedResponse(epsilon=1.0, domain_size=301)
    assert grr.largest_influence == pytest.approx(175.6, abs=0.05)
    oue = OptimizedUnaryEncoding(epsilon=4.0, domain_size=301)
    assert oue.largest_influence == pytest.approx(2.04, abs=0.005)
    assert oue.largest_gain(301) == pytest.approx((25 - 301 * oue.q) / (oue.p - oue.q))
    sketch = CountMeanSketch(epsilon=4.0, rows=65_536, columns=1024, hash_seed=0)
    spread = math.sqrt(1024 * sketch.q * (1 - sketch.q))
    assert (1022 * sketch.q + 1, spread) == pytest.approx((122.8, 10.4), abs=0.15)
    low, high = sketch.set_bits()
    assert 122.8 - 7 * spread < low < 122.8 - 5 * spread and 122.8 + 5 * spread < high < 122.8 + 7 * spread


# A mechanism of which nothing is known but its tally


class Plain(RandomizedResponse):
    """Randomized response with what every mechanism has."""

    _refused = Mechanism._refused
    largest_influence = Mechanism.largest_influence
    largest_gain = Mechanism.largest_gain


def test_the_defaults_hold_for_every_mechanism() -> None:
    plain = Plain(epsilon=1.0, domain_size=5)
    reports = np.array([0, -1, 2, 4, 5, 1 << 62, 3])
    for part in (reports, reports[:3], reports[4:6], reports[:0], reports[[0, 2]]):
        assert plain.refused(part).tolist() == [i for i, value in enumerate(part) if not 0 <= value < 5]
    assert plain.largest_influence == plain.largest_gain(1) == math.inf
    shared = DistributedUnaryEncoding(domain_size=2, central_epsilon=4.0, central_delta=1e-3, honest_reports=60)
    assert shared.refused(np.array([[0, 1], [3, 0], [2, 2]], dtype=np.uint8)).tolist() == [1]
    assert shared.largest_influence == math.inf


# The kernels


@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 38, 125, 132])
@pytest.mark.parametrize("first", [0, 1, 4])
def test_bits_are_counted_wherever_a_row_begins(width: int, first: int) -> None:
    rows = np.random.default_rng(width).integers(0, 256, (50, width + first), dtype=np.uint8)[:, first:]
    counted = np.bitwise_count(rows).sum(axis=1)
    for low, high in ((0, 8 * width), (3, 4 * width), (4 * width, 4 * width)):
        for n in (0, 1, 50):
            expected = np.flatnonzero((counted[:n] < low) | (counted[:n] > high))
            assert outside(rows[:n], (low, high)).tolist() == expected.tolist()


@pytest.mark.parametrize("kind", ["i1", "i8", "u1", "u4", "u8", ">i4", ">u8"])
def test_numbers_are_in_range_or_not(kind: str) -> None:
    info = np.iinfo(kind)
    numbers = np.array([0, 1, 99, 100, 101, info.max, info.min], dtype=kind)
    for bound in (1, 100, 102, 128, 200, 1 << 31, 1 << 64):
        wrong = [i for i, x in enumerate(numbers.tolist()) if not 0 <= x < bound]
        assert not_below(numbers, bound).tolist() == wrong
        assert all_below(numbers, bound) == (not wrong)
        assert all_below(numbers[::2], bound) == (not any(i % 2 == 0 for i in wrong))
    assert all_below(numbers[:0], 1)
