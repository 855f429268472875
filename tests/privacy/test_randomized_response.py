"""k-ary and binary randomized response: the dealing of words to values, and the answer 'none of these'."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from privacy.binary_randomized_response import BinaryRandomizedResponse
from privacy.poll import Choice
from privacy.randomized_response import RandomizedResponse
from privacy.thresholds import WORD, exp_below
from tests.privacy.contract import check_channel, skewed, stream
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
    assert (rest - 1) * c >> (64 + f) == d - 1, "the last word is dealt to the last value"
    shortest = min((1 << (64 + f)) // c, rest - m.first_word(d - 1))
    assert shortest * d >= rest - 4 * d
    assert m.threshold <= (exp_below(epsilon) - 1) * shortest
    # Tight where 64 bits allow: two of 2^31 values differ by few words at tiny epsilons.
    assert m.p / m.q >= 0.98 * math.exp(epsilon)


@settings(max_examples=100, deadline=None)
@given(epsilon=EPSILONS, d=DOMAINS, data=st.data())
def test_the_kernel_deals_words_as_the_channel_says(epsilon: float, d: int, data: st.DataObject):
    m = RandomizedResponse(epsilon=epsilon, domain_size=d)
    other = data.draw(st.integers(0, d - 1))
    own = data.draw(st.integers(0, d - 1))
    first, after = m.first_word(other), m.first_word(other + 1)
    words = [0, m.threshold - 1, m.threshold + first, m.threshold + after - 1, WORD - 1]
    reports = m.privatize(np.full(len(words), own), ScriptedStream(words))
    assert reports.tolist() == [own, own, other, other, d - 1]


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
    e = math.exp(1.5)
    assert BinaryRandomizedResponse(epsilon=1.5).standard_error(99, 30) ** 2 == pytest.approx(99 * e / (e - 1) ** 2)


# 'none of these'

CHOICE = Choice(4)


def poll(epsilon: float = 3.0) -> RandomizedResponse:
    return RandomizedResponse(epsilon=epsilon, domain_size=CHOICE.answers)


@pytest.mark.parametrize("epsilon", [0.1, 3.0, 12.0])
def test_none_of_these_is_as_private_as_any_other_answer(epsilon: float):
    """Nobody can tell a device without a match from one that has it, nor is one of the two protected better: of the
    channel, and of its inverse, no more depends on `none` than on any candidate.
    """
    channel, bound = poll(epsilon).channel(), exp_below(epsilon)
    assert len(channel) == CHOICE.answers == 5
    check_channel(channel, epsilon)
    none = channel[CHOICE.none]
    for candidate in channel[: CHOICE.none]:
        ratios = [max(a / b, b / a) for a, b in zip(none, candidate, strict=True)]
        assert 0.98 * bound < max(ratios) <= bound
    for row in channel[: CHOICE.none]:
        # Runs of words of two candidates differ by a few words of 2^64; so does that of `none`.
        assert abs(row[CHOICE.none] - row[(channel.index(row) + 1) % CHOICE.none]) <= Fraction(4, WORD)


def test_none_of_these_is_counted_apart():
    answers = np.repeat([CHOICE.none, 0, 1, 3], [4000, 3000, 2000, 1000])
    tally = poll().tally(poll().privatize(answers, stream()))
    found, none = CHOICE.split(poll().estimate(tally))
    assert CHOICE.counted(answers).tolist() == [3000, 2000, 0, 1000, 4000]
    assert (len(found.counts), len(none.counts)) == (4, 1)
    assert (np.abs(found.counts - [3000, 2000, 0, 1000]) < 5 * found.stderr).all()
    assert abs(none.counts[0] - 4000) < 5 * none.stderr[0]
    assert found.counts.sum() + none.counts[0] == pytest.approx(len(answers))
    assert set(poll().privatize(np.full(2000, CHOICE.none), stream()).tolist()) == {0, 1, 2, 3, 4}


def test_some_values_are_estimated_as_among_all():
    tally = poll().tally(poll().privatize(skewed(900, 5), stream()))
    assert np.array_equal(poll().estimate(tally, np.array([3, 0])).counts, poll().estimate(tally).counts[[3, 0]])
    with pytest.raises(ValueError, match=r"values reach from 5 to 5; expected 0 .. 4"):
        poll().estimate(tally, np.array([5]))


def test_values_outside_the_domain_are_refused():
    for values in ([5], [-1], [0, 5], [0, -2], [0, 1 << 40]):
        with pytest.raises(ValueError, match=r"expected 0 .. 4"):
            poll().privatize(np.array(values), stream())
    with pytest.raises(TypeError, match="float64"):
        poll().privatize(np.array([1.0]), stream())
    assert poll().privatize(np.array([0, 4], dtype=np.int8), stream()).dtype == np.int64


@pytest.mark.parametrize("reports", [np.array([5]), np.array([-1]), np.array([[1]])])
@pytest.mark.parametrize("mechanism", [poll(), BinaryRandomizedResponse(epsilon=1.0)], ids=lambda m: m.name)
def test_malformed_reports_are_refused(mechanism, reports):
    with pytest.raises(ValueError, match="expected"):
        mechanism.tally(reports)
    with pytest.raises(TypeError, match="float64"):
        mechanism.tally(np.array([1.0]))
