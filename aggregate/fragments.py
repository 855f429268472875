"""Fragments of prompts that hundreds of devices share, and never one that fewer do.

    rule = FragmentRule(minimum_count=300)
    rule.decide(ask, collected, fragments).histogram
    rule.needed(trust, mechanism, 100_000, 100)      # devices needed to be seen with 95% probability

A fragment is released when the reports prove that enough devices answered it: when the lower confidence bound of its
count, simultaneous over all fragments polled, reaches `minimum_count`. Reports of one fragment are a sum of two
binomials (`Trust.support_law`), such as Bin(f, p) + Bin(n - f, q) for randomized response, and its tails are computed
as such: at large epsilon a wrong fragment is named by so few devices that no normal tail would be right.

A device answers with one fragment of its own at most, so at least as many devices hold a fragment as answer it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from aggregate.histogram import Decided, Histogram
from aggregate.post_processing import PostProcessing
from aggregate.trust import Collected, Trust
from privacy.mechanism import Binomials, Estimate, Mechanism
from privacy.poll import Ask, Choice
from privacy.tails import at_least, at_most, first_that

Law = Callable[[int], Binomials]
"""The law of the tally of a fragment that so many of the reports hold."""


@dataclass(frozen=True, kw_only=True)
class FragmentRule:
    """Release what at least `minimum_count` devices answered, with a small chance of ANY mistake.

    `family_error`: the most probability with which one fragment or more that fewer devices answered is released, over
    all fragments of a poll, whatever the others' counts (each gets family_error / fragments: Bonferroni, which needs
    nothing of the dependence between reports of different fragments). Raises ValueError for numbers out of range.
    """

    minimum_count: int
    family_error: float = 1e-4

    confidence: ClassVar[float] = 0.95  # of an interval by itself, in evaluation; the rule's own bounds are far wider
    post_processing: ClassVar[PostProcessing] = "none"

    def __post_init__(self) -> None:
        fewest = self.minimum_count
        if isinstance(fewest, bool) or not isinstance(fewest, int) or fewest < 1:
            raise ValueError(f"release.minimum_count is {fewest!r}; expected a whole number of devices >= 1")
        if not 1e-9 <= self.family_error < 1:
            raise ValueError(
                f"release.family_error is {self.family_error}; expected a probability from 1e-9 to below 1"
            )

    def check(self, trust: Trust, mechanism: Mechanism) -> None:
        """Raise ValueError unless tails can be computed exactly."""
        trust.support_law(mechanism, 1, 0)

    def decide(self, ask: Ask, collected: Collected, values: Sequence[str]) -> Decided:
        """See `release_fragments`; and the share of devices that answered 'no match'."""
        found, none = Choice(len(values)).split(collected.estimate)
        named = collected.tally.sums[: len(values)]
        histogram = release_fragments(named, found, values, self, lambda count: law_of(ask, found.reports, count))
        more = {
            "no_match": float(none.counts[0]) / none.reports,
            "no_match_stderr": float(none.stderr[0]) / none.reports,
        }
        return Decided(histogram=histogram, more=more)

    def needed(self, trust: Trust, mechanism: Mechanism, reports: int, looked_at: int) -> float:
        """See `count_needed`."""
        return self.count_needed(lambda count: trust.support_law(mechanism, reports, count), reports, looked_at)

    def cutoff(self, law: Law, reports: int, fragments: int) -> int:
        """How many of the reports must name a fragment for it to be released: one more than can if none can be.

        Where a device's report can name a fragment twice (a vote and a coin), that may be more than there are reports.
        """
        error, fewer = self.family_error / fragments, self.minimum_count - 1
        if fewer >= reports:
            return _most(law(reports)) + 1
        rare = law(fewer)
        return first_that(lambda named: at_least(named, rare) <= error, 0, _most(rare) + 1)

    def count_needed(self, law: Law, reports: int, fragments: int, power: float = 0.95) -> float:
        """The fewest devices that must answer a fragment for it to be released with this probability; inf if none."""
        if not 0 < power < 1:
            raise ValueError(f"power is {power}; expected a probability between 0 and 1")
        named = self.cutoff(law, reports, fragments)

        def seen(count: int) -> bool:
            return at_least(named, law(count)) >= power

        return float(first_that(seen, 0, reports)) if seen(reports) else math.inf

    def describe(self, looked_at: int) -> str:
        """The rule in words, for a page or a statement."""
        return (
            f"A fragment is released if the lower bound of its count is at least {self.minimum_count} devices. "
            f"Lower and upper bounds each hold for all {looked_at} fragments at once with probability "
            f"{1 - self.family_error:.6g} (exact binomial tails, Bonferroni)."
        )


def law_of(ask: Ask, reports: int, count: int) -> Binomials:
    """The law of an ask's tally, which `check` has seen. Raises ValueError where there is none."""
    found = ask.mechanism.support_law(reports, count)
    if found is None:
        raise ValueError(f"the tally of {ask.mechanism.name} is no sum of two binomials")
    return found


def release_fragments(
    named: NDArray[np.int64], estimate: Estimate, values: Sequence[str], rule: FragmentRule, law: Law
) -> Histogram:
    """The fragments that enough devices answered, most frequent first.

    `named` int64[d]: the reports that name each of the d `values`; `estimate` of the same. `lower` and `upper` are the
    simultaneous bounds of the rule, in whole devices; `p_values` the chance of so many reports, or more, for a fragment
    that minimum_count - 1 devices answered. Raises ValueError for values that are not one different text for each.
    """
    fragments, n = len(named), estimate.reports
    if len(values) != fragments or len(set(values)) < fragments:
        raise ValueError(f"there are {len(set(values))} different values; expected {fragments}, one for each fragment")
    error = rule.family_error / fragments
    order = np.flatnonzero(named >= rule.cutoff(law, n, fragments))
    order = order[np.argsort(-named[order], kind="stable")]
    bounds = {int(t): _bounds(int(t), n, law, error) for t in np.unique(named[order])}
    fewer = law(rule.minimum_count - 1) if len(order) else None
    return Histogram(
        values=tuple(values[int(i)] for i in order),
        counts=estimate.counts[order],
        stderr=estimate.stderr[order],
        lower=np.array([bounds[int(t)][0] for t in named[order]], dtype=np.float64),
        upper=np.array([bounds[int(t)][1] for t in named[order]], dtype=np.float64),
        p_values=np.array([at_least(int(t), fewer) for t in named[order]] if fewer else [], dtype=np.float64),
        processed=estimate.counts[order],
        looked_at=fragments,
        withheld=fragments - len(order),
        reports=n,
        rule=rule,
    )


def _most(law: Binomials) -> int:
    """The largest tally that the law allows."""
    return law[0][0] + law[1][0]


def _bounds(named: int, reports: int, law: Law, error: float) -> tuple[int, int]:
    """The smallest and the largest count that so many reports do not refute at this error, on each side."""
    low = first_that(lambda count: at_least(named, law(count)) > error, 0, reports)
    high = first_that(lambda count: at_most(named, law(count)) <= error, 0, reports + 1)
    return low, high - 1
