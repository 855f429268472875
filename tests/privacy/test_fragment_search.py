"""What the sequence fragment puzzle finds, and what it must not report."""

from __future__ import annotations

import math

import numpy as np
import pytest

from privacy.collisions import SketchEstimate
from privacy.count_mean_sketch import CountMeanSketch
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.fragment_search import Discovery, accept_discoveries
from privacy.mechanism import Estimate
from tests.privacy.cases_puzzle import tiny
from tests.privacy.contract import stream
from tests.privacy.test_fragment_puzzle import COMMON, puzzle

RARE = [a + b + c for a in ("ka", "lo", "mi", "nu") for b in ("be", "ci", "do") for c in ("", "fu", "gami")]


def population(n: int) -> tuple[list[str], np.ndarray]:
    words = COMMON + RARE
    weights = np.array([1 / (rank + 3) for rank in range(len(COMMON))] + [0.01] * len(RARE))
    return words, np.random.default_rng(5).multinomial(n, weights / weights.sum())


def found_in(mechanism: SequenceFragmentPuzzle, n: int, seed: int = 0, **options) -> tuple[Discovery, dict[str, int]]:
    words, counts = population(n)
    codes = mechanism.codes.encode(words, unfit="refuse").codes
    tally = mechanism.simulate_tally(counts, np.random.default_rng(seed), codes)
    return mechanism.discover(tally, **options), dict(zip(words, counts.tolist(), strict=True))


def test_frequent_words_are_found_from_real_reports():
    n, mechanism = 200_000, puzzle(rows=256)
    words, counts = population(n)
    codes = mechanism.codes.encode(words, unfit="refuse").codes
    found = mechanism.discover(mechanism.tally(mechanism.privatize(np.repeat(codes, counts, axis=0), stream())))
    truth = dict(zip(words, counts.tolist(), strict=True))
    assert set(found.words) == set(COMMON)  # the rarest of them is typed by 2% of the devices; RARE by 0.3% each
    z = (found.counts - [truth[word] for word in found.words]) / found.estimate.stderr
    assert np.abs(z).max() < 5
    assert (np.diff(found.counts) <= 0).all()
    assert found.estimate.reports == n
    assert found.joined == found.wrong_hash + found.candidates
    # Hash values that the first position rules out are not followed: 256 x 702 pieces there, fewer after it.
    assert 256 * 702 < found.pieces_estimated < 2 * 256 * 702


def test_a_word_typed_by_too_few_is_not_found_and_thresholds_withhold():
    found, truth = found_in(puzzle(), 2_000)
    assert len(found.words) < 4
    found, _ = found_in(puzzle(), 200_000, minimum_count=8_000)
    assert found.words
    assert found.counts.min() >= 8_000
    assert set(found.words) < set(COMMON)
    fewer, _ = found_in(puzzle(), 200_000, top_fragments=5)
    assert fewer.pieces_kept <= 5 * 5
    assert 0 < len(fewer.words) <= 5
    assert truth["the"] > 0


def false_share(polls: int = 40) -> tuple[float, float, float]:
    """Mean share of reported words that nobody typed, its standard error, and the mean share of typed words reported;
    over noise and hash families. Few puzzle bits and a low threshold make many wrong joins, a small sketch many
    collisions with the frequent words.
    """
    wrong, right = [], []
    words = ["hello", "the", "lol", "tomorrow", "friend"]
    for poll in range(polls):
        mechanism = puzzle(rows=16, columns=64, hash_seed=poll, alphabet="abcdefghiklmnorstuwy", puzzle_bits=2)
        codes = mechanism.codes.encode(words, unfit="refuse").codes
        tally = mechanism.simulate_tally(np.full(5, 4_000), np.random.default_rng(poll), codes)
        found = mechanism.discover(tally, false_discovery_rate=0.05, fragment_z=2.6)
        wrong.append(len(set(found.words) - set(words)) / max(1, len(found.words)))
        right.append(len(set(found.words) & set(words)) / len(words))
    return float(np.mean(wrong)), float(np.std(wrong, ddof=1) / math.sqrt(polls)), float(np.mean(right))


def test_the_share_of_words_that_nobody_typed_is_below_the_stated_level():
    share, error, recall = false_share()
    assert share <= 0.05 + 5 * error
    assert error < 0.05
    assert recall > 0.8


def test_collisions_that_are_left_in_are_in_the_tails(monkeypatch):
    monkeypatch.setattr(CountMeanSketch, "estimate_jointly", CountMeanSketch.estimate)
    share, error, _ = false_share()
    assert share <= 0.05 + 5 * error


def test_negative_control_with_collisions_left_in_and_normal_tails_words_that_nobody_typed_are_reported(monkeypatch):
    monkeypatch.setattr(CountMeanSketch, "estimate_jointly", CountMeanSketch.estimate)
    monkeypatch.setattr(SketchEstimate, "p_values", Estimate.p_values)
    share, error, _ = false_share()
    assert share > 0.05 + 5 * error


def test_longer_fragments_and_other_alphabets_work():
    mechanism = puzzle(alphabet="абвгде", word_length=6, fragment_length=3, puzzle_bits=6)
    words = ["баба", "еда", "вагада", "где"]
    codes = mechanism.codes.encode(words, unfit="refuse").codes
    counts = np.array([9000, 7000, 5000, 4000])
    found = mechanism.discover(mechanism.simulate_tally(counts, np.random.default_rng(0), codes))
    assert found.words == tuple(words)


def test_an_empty_tally_gives_no_words():
    mechanism = puzzle()
    found = mechanism.discover(mechanism.tally(mechanism.privatize(np.zeros((0, 10), dtype=np.uint8), stream())))
    assert found.words == ()
    assert found.counts.shape == found.estimate.stderr.shape == (0,)
    assert found.estimate.reports == found.candidates == 0


def test_a_join_that_explodes_is_an_error():
    with pytest.raises(ValueError, match=r"join to \d+ words; expected at most largest_join = 10"):
        found_in(puzzle(), 200_000, largest_join=10)


def test_benjamini_hochberg():
    # The worked example of their paper, section 3.3: fifteen p-values, four rejections at 0.05.
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1,
    ]
    order = np.random.default_rng(0).permutation(15)
    accepted = accept_discoveries(np.array(p)[order], 0.05)
    assert sorted(np.array(p)[order][accepted].tolist()) == p[:4]
    assert not accept_discoveries(np.zeros(0), 0.05).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fragment_z": 0}, "fragment_z is 0"),
        ({"fragment_z": math.nan}, "fragment_z is nan"),
        ({"top_fragments": 0}, "top_fragments is 0"),
        ({"false_discovery_rate": 1}, "false_discovery_rate is 1"),
        ({"minimum_count": -1}, "minimum_count is -1"),
        ({"largest_join": 0}, "largest_join is 0"),
    ],
)
def test_senseless_searches_are_refused(options, message):
    mechanism = tiny()
    tally = mechanism.tally(mechanism.privatize(np.array([[1, 0]], dtype=np.uint8), stream()))
    with pytest.raises(ValueError, match=message):
        mechanism.discover(tally, **options)
