"""Words that the sequence fragment puzzle found, as a histogram that may leave the server.

    found = puzzle.discover(tally, false_discovery_rate=rule.false_discovery_rate, minimum_count=rule.minimum_count)
    histogram = release_discoveries(found, rule)

Looked at are the candidates that were put to the word sketch: which those are was decided by the pieces, whose noise is
independent of the word sketch's, so the corrections count them and not all words that could be written.
"""

from __future__ import annotations

import numpy as np

from aggregate.histogram import Histogram, ReleaseRule, intervals
from aggregate.post_processing import post_process
from privacy.fragment_search import Discovery, accept_discoveries
from privacy.mechanism import Estimate


def release_discoveries(found: Discovery, rule: ReleaseRule) -> Histogram:
    """What the rule lets out of the words found; the candidates that were not accepted in the search stay withheld.

    The search accepts by Benjamini and Hochberg; a rule of Benjamini and Yekutieli takes fewer of these. Raises
    ValueError for a post-processing that needs the total of all words, which nobody knows here.
    """
    if rule.post_processing in ("norm_sub", "simplex"):
        raise ValueError(
            f"release.post_processing is {rule.post_processing!r}; the words found are not all that devices hold, so "
            "their total is unknown: expected 'none' or 'threshold'"
        )
    looked_at = max(found.candidates, 1)
    others = np.ones(looked_at - len(found.words))  # not accepted in the search, so not here either
    released = accept_discoveries(np.concatenate([found.p_values, others]), rule.rate(looked_at))[: len(found.words)]
    released &= (found.counts >= rule.threshold * found.stderr) & (found.counts >= rule.minimum_count)
    order = np.flatnonzero(released)
    order = order[np.argsort(-found.counts[order], kind="stable")]
    estimate = Estimate(found.counts[order], found.stderr[order], found.reports)
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
        reports=found.reports,
        rule=rule,
    )
