"""Words found by the sequence fragment puzzle, as a histogram."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from aggregate.discoveries import WordSearch, release_discoveries
from aggregate.histogram import ReleaseRule, critical_value
from aggregate.secure_aggregation import SecureAggregation
from aggregate.trust import Collected, LocalTrust
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.fragment_search import Discovery
from privacy.mechanism import Estimate
from privacy.no_privacy import NoPrivacy
from tests.aggregate.asks import ask_of

RULE = ReleaseRule(minimum_count=50, threshold=4.0)


def found(words: tuple[str, ...], counts: list[float], stderr: float = 10.0, candidates: int = 100) -> Discovery:
    array = np.array(counts)
    return Discovery(
        words=words,
        estimate=Estimate(array, np.full(len(words), stderr), 1000),
        p_values=norm.sf(array / stderr),
        pieces_estimated=0,
        pieces_kept=0,
        joined=candidates,
        wrong_hash=0,
        candidates=candidates,
    )


def test_by_hand() -> None:
    released = release_discoveries(found(("lol", "tbh", "bruh", "yeet"), [300, 90, 45, 39]), RULE)
    assert released.values == ("lol", "tbh") and released.counts.tolist() == [300, 90]
    assert (released.looked_at, released.withheld, released.reports) == (100, 98, 1000)
    # Corrected for all candidates, not for the words found.
    half = critical_value(0.95, "bonferroni", 100) * 10
    np.testing.assert_allclose(released.upper - released.counts, half)
    # A word that the search's procedure takes and the stricter one does not.
    doubtful = found(("lol", "tbh"), [300, 33])
    loose = dataclasses.replace(RULE, minimum_count=0, threshold=0)
    assert release_discoveries(doubtful, loose).values == ("lol",)
    by_search = dataclasses.replace(loose, discoveries="benjamini_hochberg")
    assert release_discoveries(doubtful, by_search).values == ("lol", "tbh")


def test_nothing_found() -> None:
    for candidates in (0, 5):
        released = release_discoveries(found((), [], candidates=candidates), RULE)
        assert released.values == () and (released.looked_at, released.withheld) == (candidates, candidates)


def test_a_total_that_nobody_knows_is_refused() -> None:
    for how in ("norm_sub", "simplex"):
        with pytest.raises(ValueError, match=f"release.post_processing is '{how}'; the words found are not all"):
            release_discoveries(found(("lol",), [300]), dataclasses.replace(RULE, post_processing=how))
    cut = release_discoveries(found(("lol",), [300]), dataclasses.replace(RULE, post_processing="threshold"))
    assert cut.processed.tolist() == [300]


def test_end_to_end() -> None:
    puzzle = SequenceFragmentPuzzle(
        epsilon=8.0, rows=64, columns=256, hash_seed=1, alphabet="abcdefgh", word_length=4, fragment_length=2
    )
    codes = puzzle.codes.encode(["abba", "cafe", "dead"], unfit="refuse").codes
    tally = puzzle.simulate_tally(np.array([12_000, 6_000, 2_000]), np.random.default_rng(0), codes)
    search = puzzle.discover(tally, false_discovery_rate=RULE.false_discovery_rate, minimum_count=RULE.minimum_count)
    released = release_discoveries(search, RULE)
    assert released.values == ("abba", "cafe", "dead")
    truth = np.array([12_000, 6_000, 2_000])
    assert ((released.lower <= truth) & (truth <= released.upper)).all()
    assert released.withheld == search.candidates - 3


# The rule that searches and decides


PUZZLE = SequenceFragmentPuzzle(
    epsilon=8.0, rows=64, columns=256, hash_seed=1, alphabet="abcdefgh", word_length=4, fragment_length=2
)
COUNTS = np.array([12_000, 6_000, 2_000])


def collected() -> Collected:
    codes = PUZZLE.encode(["abba", "cafe", "dead"]).values
    tally = PUZZLE.simulate_held(codes, COUNTS, np.random.default_rng(0))
    return Collected(tally=tally, estimate=PUZZLE.estimate(tally, codes[:0]))


def test_the_rule_searches_and_releases_what_it_finds() -> None:
    rule = WordSearch(fragment_z=3.0).rule(RULE)
    assert (rule.minimum_count, rule.confidence, rule.post_processing) == (50, RULE.confidence, "none")
    decided = rule.decide(ask_of(PUZZLE, asked=np.zeros((0, 4), dtype=np.uint8)), collected(), ())
    by_hand = release_discoveries(
        PUZZLE.discover(
            collected().tally,
            fragment_z=3.0,
            false_discovery_rate=RULE.false_discovery_rate,
            minimum_count=RULE.minimum_count,
        ),
        RULE,
    )
    assert decided.histogram.values == by_hand.values == ("abba", "cafe", "dead")
    np.testing.assert_array_equal(decided.histogram.counts, by_hand.counts)
    assert decided.more["candidates"] == by_hand.looked_at
    assert decided.more["pieces_estimated"] >= decided.more["pieces_kept"] > 0
    assert decided.more["joined"] == decided.more["candidates"] + decided.more["wrong_joins"]
    # Nothing of the words that were not released is told beside them.
    assert all(isinstance(number, int | float) for number in decided.more.values())


def test_the_search_is_the_rules_own() -> None:
    with pytest.raises(ValueError, match="join"):
        WordSearch(largest_join=1).rule(RULE).decide(ask_of(PUZZLE), collected(), ())
    few = WordSearch(top_fragments=1).rule(RULE).decide(ask_of(PUZZLE), collected(), ())
    assert few.more["pieces_kept"] < WordSearch().rule(RULE).decide(ask_of(PUZZLE), collected(), ()).more["pieces_kept"]
    assert few.histogram.values == ("abba",)


def test_words_can_only_be_searched_for_in_a_puzzle() -> None:
    rule = WordSearch().rule(RULE)
    rule.check(LocalTrust(), PUZZLE)
    said = "under trust=secure_aggregation devices run no_privacy, in whose tally no word can be searched for; words on"
    with pytest.raises(ValueError, match=said):
        rule.check(SecureAggregation(epsilon=1.0, delta=1e-6), NoPrivacy(domain_size=9))
    assert rule.needed(LocalTrust(), PUZZLE, 20_000, 0) == RULE.needed(LocalTrust(), PUZZLE, 20_000, 1) > 50
    assert rule.describe(7) == RULE.describe(7)


def test_a_rule_of_words_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"release\.post_processing is 'norm_sub'"):
        WordSearch().rule(dataclasses.replace(RULE, post_processing="norm_sub"))
    for frequencies in ((), (0.0,), (1.0,), (1e-3, -1.0)):
        with pytest.raises(ValueError, match=r"search\.frequencies is \[.*\]; expected shares between 0 and 1"):
            WordSearch(frequencies=frequencies)
