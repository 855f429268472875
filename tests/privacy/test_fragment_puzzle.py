"""The sequence fragment puzzle: privacy of both reports together, and their law. See test_fragment_search.py, too."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hashing import PRIME
from privacy.thresholds import WORD, exp_below, split_epsilon
from tests.privacy.cases_puzzle import TINY_WORDS, channel, channel_column, codes_of, tiny
from tests.privacy.contract import check_channel, check_same_bits, check_tallies_add, check_two_samples, stream
from tests.privacy.contract_edges import check_tally_survives_disk

COMMON = [
    *("the", "and", "you", "that", "was", "lol", "tbh", "bruh", "hello", "friend", "coffee", "tomorrow"),
    *("yesterday", "weekend", "a", "understand"),
]


def puzzle(**changes) -> SequenceFragmentPuzzle:
    return SequenceFragmentPuzzle(**{"epsilon": 8.0, "rows": 64, "columns": 256, "hash_seed": 1} | changes)


# Privacy


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 4.0, 8.0, 12.0])
@pytest.mark.parametrize("share", [0.5, 0.3])
def test_both_reports_together_keep_epsilon_exactly(epsilon, share):
    check_channel(channel(tiny(epsilon=epsilon, fragment_share=share)), epsilon)


def test_negative_control_spending_epsilon_on_each_report_is_caught():
    twice = tiny(epsilon=2.0)
    with pytest.raises(AssertionError, match="more than epsilon"):
        check_channel(channel(twice), 1.0)


def test_the_reports_follow_the_channel_jointly():
    """Also that the streams of the two sketches and of the position are independent."""
    check_reports_follow_joint_channel(tiny(rows=2))


def check_reports_follow_joint_channel(mechanism: SequenceFragmentPuzzle) -> None:
    rows, n = channel(mechanism), 60_000
    for codes, law in zip(codes_of(len(TINY_WORDS)), rows, strict=True):
        reports = mechanism.privatize(np.repeat(codes[None], n, axis=0), stream())
        seen = np.bincount(channel_column(mechanism, reports), minlength=len(law))
        p = np.array([float(x) for x in law])
        assert (np.abs(seen - n * p) <= 5 * np.sqrt(n * p * (1 - p)) + 4).all()


def test_negative_control_one_stream_for_both_sketches_is_caught(monkeypatch):
    monkeypatch.setattr("privacy.fragment_puzzle._companion", lambda rng, number: stream())
    with pytest.raises(AssertionError):
        check_reports_follow_joint_channel(tiny(rows=2))


@given(st.floats(1e-12, 12), st.floats(0.001, 0.999))
def test_the_split_never_exceeds_epsilon(epsilon, share):
    first, rest = split_epsilon(epsilon, share)
    assert first > 0
    assert rest > 0
    assert Fraction(first) + Fraction(rest) <= Fraction(epsilon)
    assert first + rest == pytest.approx(epsilon, rel=1e-15)


def test_the_sketches_spend_what_the_split_gives_them():
    mechanism = puzzle(fragment_share=0.3)
    parts = mechanism.fragment_sketch.epsilon, mechanism.word_sketch.epsilon
    assert parts == split_epsilon(8.0, 0.3)
    q = [Fraction(s.threshold, WORD) for s in (mechanism.fragment_sketch, mechanism.word_sketch)]
    assert math.prod(((1 - x) / x) ** 2 for x in q) <= exp_below(8.0)


# Values


def test_pieces_are_numbered_one_to_one():
    mechanism = tiny(alphabet="abc", word_length=4, fragment_length=2, puzzle_bits=3)
    fragments = np.array(list(itertools.product(range(4), repeat=2)), dtype=np.uint8)
    seen = set()
    for position, hashed in itertools.product(range(2), range(8)):
        values = mechanism.piece_values(position, np.full(16, hashed), fragments)
        seen |= set(values.tolist())
    assert len(seen) == 2 * 8 * 16
    assert max(seen) < PRIME


def test_word_values_are_polynomials_and_puzzles_are_even():
    mechanism = puzzle()
    codes = mechanism.codes.encode(COMMON, unfit="refuse").codes
    values = mechanism.word_values(codes)
    t = int(mechanism.word_values(np.array([[1, 0]], dtype=np.uint8))[0])  # the point: 1 t + 0
    for row, value in zip(codes.tolist(), values.tolist(), strict=True):
        assert value == sum(code * pow(t, 9 - i, PRIME) for i, code in enumerate(row)) % PRIME
    many = np.random.default_rng(0).integers(1, 27, (20_000, 10)).astype(np.uint8)
    counts = np.bincount(mechanism.puzzles(many), minlength=256)
    assert len(counts) == 256
    assert (np.abs(counts - 20_000 / 256) < 5 * math.sqrt(20_000 / 256)).all()


def test_only_codes_of_words_are_privatized():
    mechanism, good = tiny(), np.array([[1, 0], [2, 1]], dtype=np.uint8)
    assert len(mechanism.privatize(good, stream())) == 2
    assert mechanism.privatize(good[:0], stream()).shape == (0, 5)
    for wrong, error in (
        (good.astype(np.int64), TypeError),
        (good.astype(float), TypeError),
        (good[:, :1], ValueError),
        (good[0], ValueError),
        (np.array([[3, 0]], dtype=np.uint8), ValueError),
        (np.array([[0, 1]], dtype=np.uint8), ValueError),
    ):
        with pytest.raises(error, match="expected"):
            mechanism.privatize(wrong, stream())


# Reports and tallies


def some_codes(mechanism: SequenceFragmentPuzzle, n: int) -> np.ndarray:
    encoded = mechanism.codes.encode(COMMON, unfit="refuse")
    return encoded.codes[np.arange(n) % len(COMMON)]


def test_reports_and_tallies_behave_as_those_of_every_mechanism(tmp_path):
    mechanism = puzzle(rows=5, columns=37)
    codes = some_codes(mechanism, 500)
    check_same_bits(mechanism, codes, [0, 1, 64, 333])
    reports = mechanism.privatize(codes, stream())
    check_tallies_add(mechanism, reports, [0, 3, 250])
    check_tally_survives_disk(mechanism, mechanism.tally(reports), tmp_path / "tally.npz")
    streamed = mechanism.tally(reports[:100])
    streamed = mechanism.tally(reports[100:], onto=streamed)
    assert (streamed.sums == mechanism.tally(reports).sums).all()
    assert streamed.reports == 500
    assert mechanism.report_bits == 3 + 2 * (3 + 37)
    with pytest.raises(ValueError, match=r"expected uint32\[n, 7\]"):
        mechanism.tally(reports[:, 1:])
    reports[3, 0] = 5
    with pytest.raises(ValueError, match="name position 5"):
        mechanism.tally(reports)
    with pytest.raises(ValueError, match="different mechanisms"):
        streamed + puzzle(rows=5, columns=37, hash_seed=2).tally(reports[:0])


def test_the_simulated_tally_has_the_law_of_reports():
    mechanism, rng = puzzle(rows=3, columns=8, epsilon=3.0), np.random.default_rng(3)
    codes, counts = some_codes(mechanism, 4), np.array([150, 60, 0, 30])
    held = np.repeat(codes, counts, axis=0)
    reported = [mechanism.tally(mechanism.privatize(held, stream(i))) for i in range(500)]
    simulated = [mechanism.simulate_tally(counts, rng, codes) for _ in range(500)]
    skew = [mechanism.simulate_tally(np.add(counts, [10, -10, 0, 0]), rng, codes) for _ in range(500)]
    real, exact, wrong = (np.array([t.sums for t in ts], dtype=float) for ts in (reported, simulated, skew))
    assert {t.reports for t in reported + simulated} == {240}
    check_two_samples(real, exact)
    with pytest.raises(AssertionError):
        check_two_samples(real, wrong)


def test_word_estimates_are_unbiased():
    counts = np.array([300, 100, 50, 0])
    for decoder, unbiased in ((8.0, True), (12.0, False)):
        errors = []
        for family in range(120):
            mechanism = puzzle(rows=8, columns=64, hash_seed=family, epsilon=8.0 if unbiased else 5.0)
            other = puzzle(rows=8, columns=64, hash_seed=family, epsilon=decoder if unbiased else 7.5)
            codes = some_codes(mechanism, 4)
            tally = mechanism.tally(mechanism.privatize(np.repeat(codes, counts, axis=0), stream(family)))
            tally = type(tally)(tally.sums, tally.reports, other.parameters)
            errors.append(other.estimate(tally, codes).counts - counts)
        z = np.mean(errors, axis=0) / (np.std(errors, axis=0, ddof=1) / math.sqrt(len(errors)))
        assert (np.abs(z).max() < 5) == unbiased
    with pytest.raises(ValueError, match="values is None"):
        other.estimate(tally)


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": 0.0}, "epsilon is 0"),
        ({"rows": 0}, "rows is 0"),
        ({"columns": 1}, "columns is 1"),
        ({"hash_seed": -1}, "hash_seed is -1"),
        ({"alphabet": ""}, "alphabet is ''"),
        ({"alphabet": "aba"}, "different characters"),
        ({"word_length": 0}, "word_length is 0"),
        ({"fragment_length": 3}, "expected a divisor of word_length, 10"),
        ({"fragment_length": 0}, "fragment_length is 0"),
        ({"puzzle_bits": 17}, "puzzle_bits is 17"),
        ({"fragment_share": 1.0}, "fragment_share is 1.0"),
        ({"fragment_share": 1}, "fragment_share is 1;"),
        ({"word_length": 12, "fragment_length": 12}, "61 bits number"),
    ],
)
def test_senseless_parameters_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        puzzle(**changes)
