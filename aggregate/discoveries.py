"""Words on nobody's list: how the server looks for them, and which of those it found may leave.

    rule = WordSearch(fragment_z=3.5).rule(ReleaseRule(minimum_count=100, threshold=4.0))
    rule.decide(ask, collected, ()).histogram

Looked at are the candidates that were put to the word sketch: which those are was decided by the pieces, whose noise is
independent of the word sketch's, so the corrections count them and not all words that could be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aggregate.histogram import Decided, Histogram, ReleaseRule, intervals
from aggregate.post_processing import PostProcessing, post_process
from aggregate.trust import Collected, Trust
from privacy.fragment_search import Discovery, FragmentSearch, SearchError, accept_discoveries
from privacy.mechanism import Mechanism
from privacy.poll import Ask


@dataclass(frozen=True, kw_only=True)
class WordSearch:
    """How the server looks for words on nobody's list (`SequenceFragmentPuzzle.discover`), and what counts as new.

    `lexicon`: marks of the vocabulary; a word that has one of them is in the device's dictionary and so not new. With
    `lexicon_on_device` a device looks there first, and only a word that is new to it is an event at all.
    `frequencies`: shares of all typed words at which precision and recall are told, under oracle/.
    """

    fragment_z: float = 3.5
    top_fragments: int | None = None
    largest_join: int = 1_000_000
    lexicon: Sequence[str] = ()
    lexicon_on_device: bool = True
    frequencies: Sequence[float] = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5)

    def __post_init__(self) -> None:
        if not self.frequencies or not all(0 < frequency < 1 for frequency in self.frequencies):
            raise ValueError(f"search.frequencies is {list(self.frequencies)}; expected shares between 0 and 1")

    def rule(self, release: ReleaseRule) -> WordRule:
        """The decision: search, then release by this rule."""
        return WordRule(search=self, release=release)


@dataclass(frozen=True, kw_only=True)
class WordRule:
    """Search for words, and release those found by a `ReleaseRule`.

    Raises ValueError for a post-processing that needs the total of all words, which nobody knows here.
    """

    search: WordSearch
    release: ReleaseRule

    def __post_init__(self) -> None:
        check_post_processing(self.release)

    @property
    def minimum_count(self) -> float:
        """The release rule's."""
        return self.release.minimum_count

    @property
    def confidence(self) -> float:
        """The release rule's."""
        return self.release.confidence

    @property
    def post_processing(self) -> PostProcessing:
        """The release rule's."""
        return self.release.post_processing

    def check(self, trust: Trust, mechanism: Mechanism) -> None:
        """Raise ValueError unless words can be searched for in the tally, in the way that is configured."""
        if not mechanism.searchable:
            raise ValueError(
                f"under trust={trust.name} devices run {mechanism.name}, in whose tally no word can be searched for; "
                "words on nobody's list need trust=local or trust=shuffled, and mechanism=sequence_fragment_puzzle"
            )
        pieces: Any = mechanism
        FragmentSearch(pieces=pieces, **self._parameters)

    def decide(self, ask: Ask, collected: Collected, values: Sequence[str]) -> Decided:
        """What the search finds, and what of it may leave. Raises SearchError if more pieces join than are allowed."""
        puzzle: Any = ask.mechanism  # `check` has seen that it can be searched
        try:
            found: Discovery = puzzle.discover(collected.tally, **self._parameters)
        except SearchError as error:
            raise SearchError(f"{error} (search.fragment_z, search.top_fragments, search.largest_join)") from None
        more = {
            "pieces_estimated": found.pieces_estimated,
            "pieces_kept": found.pieces_kept,
            "joined": found.joined,
            "wrong_joins": found.wrong_hash,
            "candidates": found.candidates,
        }
        return Decided(histogram=release_discoveries(found, self.release), more=more)

    @property
    def _parameters(self) -> dict[str, Any]:
        """Of `SequenceFragmentPuzzle.discover`."""
        return {
            "fragment_z": self.search.fragment_z,
            "top_fragments": self.search.top_fragments,
            "false_discovery_rate": self.release.false_discovery_rate,
            "minimum_count": self.release.minimum_count,
            "largest_join": self.search.largest_join,
        }

    def needed(self, trust: Trust, mechanism: Mechanism, reports: int, looked_at: int) -> float:
        """By the word sketch alone: what the pieces need is not in it, so it is a lower bound."""
        return self.release.needed(trust, mechanism, reports, max(looked_at, 1))

    def describe(self, looked_at: int) -> str:
        """The release rule in words."""
        return self.release.describe(looked_at)


def check_post_processing(rule: ReleaseRule) -> None:
    """Raise ValueError for a post-processing that needs the total of all words."""
    if rule.post_processing in ("norm_sub", "simplex"):
        raise ValueError(
            f"release.post_processing is {rule.post_processing!r}; the words found are not all that devices hold, so "
            "their total is unknown: expected 'none' or 'threshold'"
        )


def release_discoveries(found: Discovery, rule: ReleaseRule) -> Histogram:
    """What the rule lets out of the words found; the candidates that were not accepted in the search stay withheld.

    The search accepts by Benjamini and Hochberg; a rule of Benjamini and Yekutieli takes fewer of these. Raises
    ValueError for a post-processing that needs the total of all words, which nobody knows here.
    """
    check_post_processing(rule)
    looked_at = max(found.candidates, 1)
    others = np.ones(looked_at - len(found.words))  # not accepted in the search, so not here either
    released = accept_discoveries(np.concatenate([found.p_values, others]), rule.rate(looked_at))[: len(found.words)]
    released &= (found.counts >= rule.threshold * found.estimate.stderr) & (found.counts >= rule.minimum_count)
    order = np.flatnonzero(released)
    order = order[np.argsort(-found.counts[order], kind="stable")]
    estimate = found.estimate.take(order)
    lower, upper = intervals(estimate, rule.confidence, rule.correction, looked_at=looked_at)
    return Histogram(
        values=tuple(found.words[int(i)] for i in order),
        counts=estimate.counts,
        stderr=estimate.stderr,
        lower=lower,
        upper=upper,
        p_values=found.p_values[order],
        processed=post_process(estimate, rule.post_processing, z=rule.threshold) if len(order) else estimate.counts,
        looked_at=found.candidates,
        withheld=found.candidates - len(order),
        reports=estimate.reports,
        rule=rule,
    )
