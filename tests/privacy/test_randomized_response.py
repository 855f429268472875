"""k-ary and binary randomized response: the dealing of words to symbols, and the answer 'no match'."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from privacy.binary_randomized_response import BinaryRandomizedResponse
from privacy.randomized_response import RandomizedResponse
from privacy.thresholds import WORD, exp_below
from tests.privacy.contract import skewed, stream
from tests.privacy.scripted import ScriptedStream

EPSILONS = st.sampled_from([1e-6, 0.01, 0.5, 1.0, 4.0, 12.0])
DOMAINS = st.integers(2, 40) | st.integers(2, 1 << 31) | st.integers(1, 31).map(lambda j: 1 << j)


@settings(max_examples=200, deadline=None)
@given(epsilon=EPSILONS, d=DOMAINS)
@example(epsilon=12.0, d=2)
@example(epsilon=12.0, d=1 << 31)
def test_every_domain_keeps_epsilon_exactly(epsilon: float, d: int):
    """The proof of `threshold` in integers, for domains too large to enumerate: runs have one of two lengths or are the
    last one.
    """
    m = RandomizedResponse(epsilon=epsilon, domain_size=d)
    c, f = m.dealing
    rest = WORD - m.threshold
    assert WORD // 2 <= c < WORD
    assert (rest - 1) * c >> (64 + f) == d - 1, "the last word is dealt to the last symbol"
    shortest = min((1 << (64 + f)) // c, rest - m.first_word(d - 1))
    assert shortest * d >= rest - 4 * d
    assert m.threshold <= (exp_below(epsilon) - 1) * shortest
    # Tight where 64 bits allow: two of 2^31 symbols differ by few words at tiny epsilons.
    assert m.p / m.q >= 0.98 * math.exp(epsilon)


@settings(max_examples=100, deadline=None)
@given(epsilon=EPSILONS, d=DOMAINS, data=st.data())
def test_the_kernel_deals_words_as_the_channel_says(epsilon: float, d: int, data: st.DataObject):
    m = RandomizedResponse(epsilon=epsilon, domain_size=d)
    symbol = data.draw(st.integers(0, d - 1))
    own = data.draw(st.integers(0, d - 1))
    first, after = m.first_word(symbol), m.first_word(symbol + 1)
    words = [0, m.threshold - 1, m.threshold + first, m.threshold + after - 1, WORD - 1]
    reports = m.privatize(np.full(len(words), own), ScriptedStream(words))
    assert reports.tolist() == [own, own, symbol, symbol, d - 1]


def test_binary_compares_with_its_threshold():
    m = BinaryRandomizedResponse(epsilon=1.0)
    words = [0, m.threshold - 1, m.threshold, WORD - 1]
    assert m.privatize(np.ones(4, dtype=np.int64), ScriptedStream(words)).tolist() == [1, 1, 0, 0]
    assert m.privatize(np.zeros(4, dtype=np.int64), ScriptedStream(words)).tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="domain_size is 3; binary_randomized_response supports 2"):
        BinaryRandomizedResponse(epsilon=1.0, domain_size=3)


def test_one_word_a_report_across_pieces():
    """More reports than one piece of the stream."""
    n = 70_000
    for m in (RandomizedResponse(epsilon=1.0, domain_size=10), BinaryRandomizedResponse(epsilon=1.0)):
        values = np.arange(n) % 2
        rng = ScriptedStream(np.random.default_rng(0).integers(0, WORD - 1, n, dtype=np.uint64))
        whole = m.privatize(values, rng)
        assert rng.taken == n
        rng.taken = 0
        assert np.array_equal(whole, np.concatenate([m.privatize(part, rng) for part in np.array_split(values, 7)]))


def test_variance_is_that_of_the_paper():
    grr = RandomizedResponse(epsilon=4.0, domain_size=301).standard_error(1000)
    assert grr == pytest.approx(math.sqrt(1000 * (299 + math.exp(4))) / (math.exp(4) - 1), rel=1e-9)
    null = RandomizedResponse(epsilon=4.0, domain_size=300, null=True).standard_error(1000)
    assert null == pytest.approx(grr)
    e = math.exp(1.5)
    assert BinaryRandomizedResponse(epsilon=1.5).standard_error(99, 30) ** 2 == pytest.approx(99 * e / (e - 1) ** 2)


# 'no match'


def poll(d: int = 4, epsilon: float = 3.0) -> RandomizedResponse:
    return RandomizedResponse(epsilon=epsilon, domain_size=d, null=True)


def test_no_match_is_counted_apart():
    values = np.repeat([-1, 0, 1, 3], [4000, 3000, 2000, 1000])
    tally = poll().tally(poll().privatize(values, stream()))
    estimate, null = poll().estimate(tally), poll().estimate_null(tally)
    assert tally.sums.shape == (5,)
    assert len(estimate.counts) == 4
    assert len(null.counts) == 1
    truth = np.array([3000, 2000, 0, 1000])
    assert (np.abs(estimate.counts - truth) < 5 * estimate.stderr).all()
    assert abs(null.counts[0] - 4000) < 5 * null.stderr[0]
    assert estimate.counts.sum() + null.counts[0] == pytest.approx(len(values))
    some = poll().estimate(tally, np.array([3, 0]))
    assert np.array_equal(some.counts, estimate.counts[[3, 0]])


def test_no_match_costs_one_symbol():
    assert (poll(4).report_bits, RandomizedResponse(epsilon=3.0, domain_size=4).report_bits) == (3, 2)
    assert poll(4).p == RandomizedResponse(epsilon=3.0, domain_size=5).p
    assert dict(poll().parameters)["null"] == 1
    assert "null" not in RandomizedResponse(epsilon=3.0, domain_size=4).parameters
    assert set(poll().privatize(np.full(2000, -1), stream()).tolist()) == {0, 1, 2, 3, 4}


def test_no_match_is_refused_where_it_is_no_answer():
    plain = RandomizedResponse(epsilon=3.0, domain_size=4)
    with pytest.raises(ValueError, match=r"values reach from -1"):
        plain.privatize(np.array([-1]), stream())
    with pytest.raises(ValueError, match="null is False"):
        plain.estimate_null(plain.tally(plain.privatize(skewed(9, 4), stream())))
    with pytest.raises(ValueError, match="null is 1"):
        RandomizedResponse(epsilon=3.0, domain_size=4, null=1)  # type: ignore[arg-type]
    for values in ([4], [-2], [-1, 4], [-1, -2], [-1, 1 << 40]):
        with pytest.raises(ValueError, match=r"expected"):
            poll().privatize(np.array(values), stream())
    with pytest.raises(TypeError, match="float64"):
        poll().privatize(np.array([-1.0]), stream())
    with pytest.raises(ValueError, match=r"values reach from 4 to 4; expected 0 .. 3"):
        poll().estimate(poll().tally(np.array([4, 0])), np.array([4]))
    assert poll().privatize(np.array([-1, 3], dtype=np.int8), stream()).dtype == np.int64


@pytest.mark.parametrize("reports", [np.array([5]), np.array([-1]), np.array([[1]])])
@pytest.mark.parametrize("mechanism", [poll(), BinaryRandomizedResponse(epsilon=1.0)], ids=lambda m: m.name)
def test_malformed_reports_are_refused(mechanism, reports):
    with pytest.raises(ValueError, match="expected"):
        mechanism.tally(reports)
    with pytest.raises(TypeError, match="float64"):
        mechanism.tally(np.array([1.0]))
