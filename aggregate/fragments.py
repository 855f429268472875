"""Fragments of prompts that hundreds of devices share, and never one that fewer do.

    poll = RandomizedResponse(epsilon=4.0, domain_size=len(fragments), null=True)
    rule = FragmentRule(minimum_count=300)
    histogram = release_fragments(poll, poll.tally(reports), fragments, rule)
    rule.count_needed(poll, reports=100_000)         # devices needed to be seen with 95% probability

A fragment is released when the reports prove that enough devices answered it: when the lower confidence bound of its
count, simultaneous over all fragments polled, reaches `minimum_count`. Reports of one fragment are a sum of two
binomials, Bin(f, p) + Bin(n - f, q), and its tails are computed as such: at large epsilon a wrong fragment is named by
so few devices that no normal tail would be right.

A device answers with one fragment of its own at most, so at least as many devices hold a fragment as answer it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlog1py, xlogy

from aggregate.histogram import Histogram
from aggregate.post_processing import PostProcessing
from privacy.mechanism import Tally
from privacy.randomized_response import RandomizedResponse


@dataclass(frozen=True, kw_only=True)
class FragmentRule:
    """Release what at least `minimum_count` devices answered, with a small chance of ANY mistake.

    `family_error`: the most probability with which one fragment or more that fewer devices answered is released, over
    all fragments of a poll, whatever the others' counts (each gets family_error / fragments: Bonferroni, which needs
    nothing of the dependence between reports of different fragments). Raises ValueError for numbers out of range.
    """

    minimum_count: int
    family_error: float = 1e-4

    post_processing: ClassVar[PostProcessing] = "none"

    def __post_init__(self) -> None:
        fewest = self.minimum_count
        if isinstance(fewest, bool) or not isinstance(fewest, int) or fewest < 1:
            raise ValueError(f"release.minimum_count is {fewest!r}; expected a whole number of devices >= 1")
        if not 1e-9 <= self.family_error < 1:
            raise ValueError(
                f"release.family_error is {self.family_error}; expected a probability from 1e-9 to below 1"
            )

    def cutoff(self, mechanism: RandomizedResponse, reports: int) -> int:
        """How many of the reports must name a fragment for it to be released; reports + 1 if none can be."""
        error, fewer = self.family_error / mechanism.domain_size, self.minimum_count - 1
        if fewer >= reports:
            return reports + 1
        return _first(
            lambda named: named > reports or at_least(named, reports, fewer, mechanism.p, mechanism.q) <= error,
            0,
            reports + 1,
        )

    def count_needed(self, mechanism: RandomizedResponse, reports: int, power: float = 0.95) -> float:
        """The fewest devices that must answer a fragment for it to be released with this probability; inf if none."""
        if not 0 < power < 1:
            raise ValueError(f"power is {power}; expected a probability between 0 and 1")
        named = self.cutoff(mechanism, reports)

        def seen(count: int) -> bool:
            return at_least(named, reports, count, mechanism.p, mechanism.q) >= power

        return float(_first(seen, 0, reports)) if named <= reports and seen(reports) else math.inf

    def describe(self, looked_at: int) -> str:
        """The rule in words, for a page or a statement."""
        return (
            f"A fragment is released if the lower bound of its count is at least {self.minimum_count} devices. "
            f"Lower and upper bounds each hold for all {looked_at} fragments at once with probability "
            f"{1 - self.family_error:.6g} (exact binomial tails, Bonferroni)."
        )


def release_fragments(
    mechanism: RandomizedResponse, tally: Tally, values: Sequence[str], rule: FragmentRule
) -> Histogram:
    """The fragments that enough devices answered, most frequent first. `values`: the fragments polled, 0 .. d - 1.

    `lower` and `upper` are the simultaneous bounds of the rule, in whole devices; `p_values` the chance of so many
    reports, or more, for a fragment that minimum_count - 1 devices answered. Raises ValueError for a tally of another
    mechanism, or values that are not one different text for each fragment.
    """
    fragments = int(mechanism.domain_size)
    if len(values) != fragments or len(set(values)) < fragments:
        raise ValueError(f"there are {len(set(values))} different values; expected {fragments}, one for each fragment")
    estimate = mechanism.estimate(tally)
    named, n, error = tally.sums[:fragments], tally.reports, rule.family_error / fragments
    order = np.flatnonzero(named >= rule.cutoff(mechanism, n))
    order = order[np.argsort(-named[order], kind="stable")]
    p, q = mechanism.p, mechanism.q
    bounds = {int(t): _bounds(int(t), n, p, q, error) for t in np.unique(named[order])}
    return Histogram(
        values=tuple(values[int(i)] for i in order),
        counts=estimate.counts[order],
        stderr=estimate.stderr[order],
        lower=np.array([bounds[int(t)][0] for t in named[order]], dtype=np.float64),
        upper=np.array([bounds[int(t)][1] for t in named[order]], dtype=np.float64),
        p_values=np.array([at_least(int(t), n, rule.minimum_count - 1, p, q) for t in named[order]], dtype=np.float64),
        processed=estimate.counts[order],
        looked_at=fragments,
        withheld=fragments - len(order),
        reports=n,
        rule=rule,
    )


def at_least(named: int, reports: int, count: int, p: float, q: float) -> float:
    """P[Bin(count, p) + Bin(reports - count, q) >= named], for 0 <= count <= reports, up to 1e-19 (`_binomial`)."""
    own_first, own = _binomial(count, p)
    other_first, other = _binomial(reports - count, q)
    tail = np.append(np.cumsum(other[::-1])[::-1], 0.0)  # from the far end, so that small tails are exact
    needed = named - own_first - np.arange(len(own)) - other_first
    return float(np.sum(own * tail[np.clip(needed, 0, len(other))]))


def at_most(named: int, reports: int, count: int, p: float, q: float) -> float:
    """P[Bin(count, p) + Bin(reports - count, q) <= named], for 0 <= count <= reports, up to 1e-19 (`_binomial`)."""
    own_first, own = _binomial(count, p)
    other_first, other = _binomial(reports - count, q)
    tail = np.append(0.0, np.cumsum(other))
    allowed = named - own_first - np.arange(len(own)) - other_first + 1
    return float(np.sum(own * tail[np.clip(allowed, 0, len(other))]))


def _binomial(n: int, p: float) -> tuple[int, NDArray[np.float64]]:
    """The results of Bin(n, p) that matter: the first of them, and the probabilities of it and those that follow.

    All others together have less than 1e-19 (Bernstein's inequality, 12 standard deviations and 30 from the mean).
    """
    reach = 12 * math.sqrt(n * p * (1 - p)) + 30
    first, last = max(0, math.floor(n * p - reach)), min(n, math.ceil(n * p + reach))
    k = np.arange(first, last + 1)
    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return first, np.asarray(np.exp(ways + xlogy(k, p) + xlog1py(n - k, -p)))


def _bounds(named: int, reports: int, p: float, q: float, error: float) -> tuple[int, int]:
    """The smallest and the largest count that so many reports do not refute at this error, on each side."""
    low = _first(lambda count: at_least(named, reports, count, p, q) > error, 0, reports)
    high = _first(lambda count: at_most(named, reports, count, p, q) <= error, 0, reports + 1)
    return low, high - 1


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number in low .. high for which `holds`, which is monotone and holds at `high` (not asked there)."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
