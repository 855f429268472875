"""What may leave the server of a use case: of all counts that were estimated, those that the rule lets out.

    rule = ReleaseRule(minimum_count=100, threshold=4.0)
    histogram = rule.decide(ask, collected, values).histogram
    histogram.values, histogram.counts, histogram.lower, histogram.upper      # most frequent first

The estimate of the whole dictionary and the tally stay inside: a `Histogram` names no withheld element and has no
number of one. But the reports less the released counts estimate how many devices hold any of the withheld elements.
They are exactly the sum of the withheld counts where all counts sum to the reports: with randomized response, with
subset selection, for some sizes with projective geometry response, and with norm_sub and simplex whatever the
mechanism. If one element is withheld, that is its count. Withholding is for readers, who would take noise for news;
privacy does not rest on it, because all counts are computed from what devices sent, which is private. Counts are
counts of reports; they are devices where a device sends one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from aggregate.post_processing import POST_PROCESSINGS, PostProcessing, post_process
from aggregate.selection import z_scores
from aggregate.trust import Collected, Trust
from privacy.fragment_search import accept_discoveries
from privacy.mechanism import Estimate, Mechanism
from privacy.poll import Ask

Correction = Literal["none", "bonferroni", "sidak"]
Discoveries = Literal["benjamini_hochberg", "benjamini_yekutieli"]


class Rule(Protocol):
    """A release rule: the decision that a use case takes on what was collected."""

    @property
    def minimum_count(self) -> float:
        """Reports below which nothing is released."""

    @property
    def confidence(self) -> float:
        """Of an interval by itself."""

    @property
    def post_processing(self) -> PostProcessing:
        """What is released beside the unbiased counts."""

    def check(self, trust: Trust, mechanism: Mechanism) -> None:
        """Raise ValueError now if the rule cannot decide on what this trust model collects with this mechanism."""

    def decide(self, ask: Ask, collected: Collected, values: Sequence[str]) -> Decided:
        """What is released of `values`, in the order in which they were asked for."""

    def needed(self, trust: Trust, mechanism: Mechanism, reports: int, looked_at: int) -> float:
        """How many of the reports must hold an element for it to be released with probability 0.95; inf if none do."""

    def describe(self, looked_at: int) -> str:
        """The rule in words, for a page or a statement."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """`histogram`: what may leave; `more`: public numbers that only this kind of rule has."""

    histogram: Histogram
    more: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReleaseRule:
    """What may leave the server, and with which statements.

    An element is released if its count is at least `minimum_count`, at least `threshold` of its standard errors, and a
    discovery at `false_discovery_rate`: on average at most this share of the released elements is held by nobody.
    Everything else is withheld.

    p-values and intervals are those of the mechanism's own law (`Estimate.p_values`, `Estimate.bounds`): exact binomial
    tails for lists, and for sketches noise and what unknown values could add by collisions.

    `discoveries`: the procedure of Benjamini and Hochberg 1995 needs independent counts (OUE has them) or positively
    dependent ones. Counts of one sketch are neither for certain: those that share a cell move together, but every row's
    cells have one sum, and a report that goes to one row is missing in the others; and reports that name one value
    (GRR) or a set of fixed size are negatively dependent. So the default is Benjamini and Yekutieli 2001, theorem 1.3,
    which holds however the tests depend. It costs little: for 2,600 elements the bar is higher by about half a
    standard error.

    `confidence` of the intervals: with correction "bonferroni" or "sidak" (Šidák 1967: a little narrower, for normal
    errors however correlated) of ALL intervals at once, over the elements looked at, so that it also holds for those
    picked out because their counts are large; with "none" of a single one, chosen beforehand.

    Raises ValueError for numbers out of range and unknown names.
    """

    minimum_count: float
    threshold: float
    confidence: float = 0.95
    correction: Correction = "bonferroni"
    false_discovery_rate: float = 0.05
    discoveries: Discoveries = "benjamini_yekutieli"
    post_processing: PostProcessing = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.minimum_count < math.inf:
            raise ValueError(f"release.minimum_count is {self.minimum_count}; expected a number of reports >= 0")
        if not 0 <= self.threshold < math.inf:
            raise ValueError(f"release.threshold is {self.threshold}; expected a number of standard errors >= 0")
        for name in ("confidence", "false_discovery_rate"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"release.{name} is {getattr(self, name)}; expected a share between 0 and 1")
        for name, known in (
            ("correction", get_args(Correction)),
            ("discoveries", get_args(Discoveries)),
            ("post_processing", POST_PROCESSINGS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"release.{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")

    def check(self, trust: Trust, mechanism: Mechanism) -> None:
        """Any counts with standard errors will do."""

    def decide(self, ask: Ask, collected: Collected, values: Sequence[str]) -> Decided:
        """See `release_histogram`."""
        return Decided(histogram=release_histogram(collected.estimate, values, self, total=collected.total))

    def needed(self, trust: Trust, mechanism: Mechanism, reports: int, looked_at: int) -> float:
        """See `count_needed`."""

        def stderr(n: int, count: float) -> float:
            return trust.standard_error(mechanism, n, count)

        return count_needed(stderr, reports, self, looked_at=looked_at)

    def rate(self, looked_at: int) -> float:
        """The level of the step-up procedure over so many elements."""
        if self.discoveries == "benjamini_hochberg":
            return self.false_discovery_rate
        return self.false_discovery_rate / float(np.sum(1 / np.arange(1, looked_at + 1)))

    def describe(self, looked_at: int) -> str:
        """The rule in words, for a page or a statement."""
        together = {
            "none": "each by itself, not corrected",
            "bonferroni": f"all {looked_at} elements looked at together, Bonferroni",
            "sidak": f"all {looked_at} elements looked at together, Šidák",
        }[self.correction]
        procedure = {
            "benjamini_hochberg": "Benjamini and Hochberg 1995",
            "benjamini_yekutieli": "Benjamini and Yekutieli 2001",
        }[self.discoveries]
        return (
            f"An element is released if its count is at least {self.minimum_count:g} and at least {self.threshold:g} "
            f"standard errors, and if it is a discovery at a false discovery rate of {self.false_discovery_rate:.3g} "
            f"({procedure}). Intervals: {self.confidence:.4g} ({together}). Post-processing: {self.post_processing}."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """What may leave the server: released elements only, largest count first.

    `counts` float64 are unbiased before the choice of what to release (those that only just passed are too large on
    average: the intervals, not the counts, hold for what was picked); `stderr` their standard errors; `lower` and
    `upper` the ends of their intervals, held to 0 .. reports; `p_values` the chance of such a count, or a larger one,
    for an element that nobody holds (for fragments: that too few hold). `processed` are the counts after
    `rule.post_processing` over all elements looked at: biased, without a standard error. `looked_at` elements were
    estimated, `withheld` of them are not here (what can be said of these together, the top of this file says);
    `reports` is what all of them rest on.
    """

    values: tuple[str, ...]
    counts: NDArray[np.float64]
    stderr: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    p_values: NDArray[np.float64]
    processed: NDArray[np.float64]
    looked_at: int
    withheld: int
    reports: int
    rule: Rule

    @property
    def shares(self) -> NDArray[np.float64]:
        """The counts as shares of the reports."""
        return self.counts / self.reports


def side_error(confidence: float, correction: Correction, looked_at: int) -> float:
    """The chance with which one side of each two-sided interval may miss, for so many elements."""
    error = 1 - confidence
    if correction == "bonferroni":
        error = error / looked_at
    elif correction == "sidak":
        error = -math.expm1(math.log(confidence) / looked_at)
    return error / 2


def critical_value(confidence: float, correction: Correction, looked_at: int) -> float:
    """Half the width, in standard errors, of two-sided normal intervals for so many elements."""
    return float(norm.isf(side_error(confidence, correction, looked_at)))


def intervals(
    estimate: Estimate, confidence: float, correction: Correction, *, looked_at: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends for every count of the estimate, in 0 .. reports, by the law of its errors.

    Corrected for `looked_at` elements; None: for those in the estimate.
    """
    return estimate.bounds(side_error(confidence, correction, looked_at or len(estimate.counts)))


def release_histogram(
    estimate: Estimate, values: Sequence[str], rule: ReleaseRule, *, total: float | None = None
) -> Histogram:
    """What the rule lets out of an estimate of all `values` looked at (all of them, or the corrections are wrong).

    `total`: what the post-processed counts of all values sum to; the number of reports if None. Raises ValueError if
    there is not one different value for each count, or no value at all.
    """
    looked_at = len(values)
    if looked_at != len(estimate.counts) or not looked_at:
        raise ValueError(f"there are {looked_at} values and {len(estimate.counts)} counts; expected one for each, some")
    if len(set(values)) < looked_at:
        raise ValueError("values holds a value twice; expected each once, with the count of all its reports")
    counts, stderr = estimate.counts, estimate.stderr
    scores = z_scores(estimate)
    p_values = estimate.p_values()
    released = accept_discoveries(p_values, rule.rate(looked_at))
    released &= (scores >= rule.threshold) & (counts >= rule.minimum_count)
    order = np.flatnonzero(released)
    order = order[np.argsort(-counts[order], kind="stable")]
    lower, upper = intervals(estimate.take(order), rule.confidence, rule.correction, looked_at=looked_at)
    processed = post_process(estimate, rule.post_processing, total=total, z=rule.threshold)
    return Histogram(
        values=tuple(values[int(i)] for i in order),
        counts=counts[order],
        stderr=stderr[order],
        lower=lower,
        upper=upper,
        p_values=p_values[order],
        processed=processed[order],
        looked_at=looked_at,
        withheld=looked_at - len(order),
        reports=estimate.reports,
        rule=rule,
    )


def count_needed(
    standard_error: Callable[[int, float], float],
    reports: int,
    rule: ReleaseRule,
    *,
    looked_at: int,
    others: int = 0,
    power: float = 0.95,
) -> float:
    """How many of the `reports` must hold an element for it to be released with probability `power`; inf if none do.

    By `standard_error(reports, count)` and the normal law: the bar is where a count equals the largest of
    minimum_count, `threshold` and the discoveries' own score in its standard errors; the count needed exceeds it by
    norm.ppf(power) standard errors. It is too low where only a few reports name a value by chance (lists at epsilon 10
    and above): there the rule's own tails are not normal. `others`: how many other elements are discoveries for certain
    (0, the least favourable, asks for most). Raises ValueError for a power below one half.
    """
    if not 0.5 <= power < 1:
        raise ValueError(f"power is {power}; expected a probability from 0.5 to below 1")
    if not 0 <= others < looked_at:
        raise ValueError(f"others is {others}; expected 0 to looked_at - 1 = {looked_at - 1}")
    score = max(rule.threshold, float(norm.isf((others + 1) * rule.rate(looked_at) / looked_at)))

    def stderr(count: float) -> float:
        return standard_error(reports, count)

    bar = _smallest(lambda count: count - max(rule.minimum_count, score * stderr(count)), reports)
    needed = _smallest(lambda count: count - bar - float(norm.ppf(power)) * stderr(count), reports)
    return max(needed, 1.0)  # without noise and without a minimum, one report is enough


def _smallest(excess: Callable[[float], float], reports: int) -> float:
    """The count from which on the excess is positive. A variance is linear in the count, so there is one at most."""
    if excess(float(reports)) < 0:
        return math.inf
    return 0.0 if excess(0.0) >= 0 else float(brentq(excess, 0.0, float(reports)))
