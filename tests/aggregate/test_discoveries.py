"""Words found by the sequence fragment puzzle, as a histogram."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from aggregate.discoveries import release_discoveries
from aggregate.histogram import ReleaseRule, critical_value
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.fragment_search import Discovery

RULE = ReleaseRule(minimum_count=50, threshold=4.0)


def found(words: tuple[str, ...], counts: list[float], stderr: float = 10.0, candidates: int = 100) -> Discovery:
    array = np.array(counts)
    return Discovery(
        words=words,
        counts=array,
        stderr=np.full(len(words), stderr),
        p_values=norm.sf(array / stderr),
        reports=1000,
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
