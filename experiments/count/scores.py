"""How good a released histogram is, judged by the truth that only a simulation has. For oracle/ only.

    score(estimate, truth, values, histogram, confidence=0.95)["coverage"]       # about 0.95
    words_by_frequency(histogram, held, frequencies, new)                        # precision and recall of a word search

Scores over all elements are single numbers; nothing here names an element that was withheld.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from aggregate.histogram import Histogram, intervals
from aggregate.selection import z_scores
from privacy.mechanism import Estimate

TOP = 20


def score(
    estimate: Estimate,
    truth: NDArray[np.int64],
    values: Sequence[str],
    histogram: Histogram,
    *,
    confidence: float,
    minimum_count: float,
) -> dict[str, Any]:
    """Scores of one key. `estimate` and `truth` are of all `values` looked at, in the same order.

    coverage: share of the intervals at `confidence`, each by itself, that hold the truth, over all values, with the
    standard error that it has if the claim is right; coverage_released: of the released intervals as they are printed;
    error_in_stderr: root mean square of (estimate - truth) / stderr over all values; rank_correlation: Spearman, of the
    released; top_recovered: share released of the TOP values that were really sent most; false_releases: released
    elements that no device sent; below_minimum: released elements that fewer than `minimum_count` reports were of;
    recall: share released of the values with at least `minimum_count` reports.
    """
    lower, upper = intervals(estimate, confidence, "none")
    inside = (lower <= truth) & (truth <= upper)
    place = {value: i for i, value in enumerate(values)}
    sent = true_counts(histogram, place, truth)
    released = np.zeros(len(values), dtype=np.bool_)
    released[[place[value] for value in histogram.values if value in place]] = True
    held_back = (histogram.lower <= sent) & (sent <= histogram.upper)
    frequent = truth >= max(minimum_count, 1)
    errors = z_scores(Estimate(estimate.counts - truth, estimate.stderr, estimate.reports))
    return {
        "coverage": float(inside.mean()),
        "coverage_stderr": math.sqrt(confidence * (1 - confidence) / len(values)),
        "coverage_released": _share(held_back),
        "error_in_stderr": float(np.sqrt(np.mean(np.square(errors)))) if np.isfinite(errors).all() else None,
        "rank_correlation": rank_correlation(histogram.counts, sent),
        "top_recovered": _share(released[np.argsort(-truth, kind="stable")[:TOP]]),
        "false_releases": int((sent == 0).sum()),
        "below_minimum": int((sent < minimum_count).sum()),
        "recall": _share(released[frequent]),
    }


def true_counts(histogram: Histogram, place: Mapping[str, int], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """What was sent of each released element, int64[released]; 0 for one that no device holds."""
    return np.array([truth[place[value]] if value in place else 0 for value in histogram.values], dtype=np.int64)


def rank_correlation(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """Spearman's, or None where it is not defined (fewer than 3 elements, or all alike)."""
    if len(first) < 3:
        return None
    ranks = rankdata(first), rankdata(second)
    if min(float(np.ptp(rank)) for rank in ranks) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def words_by_frequency(
    histogram: Histogram,
    shares: Mapping[str, float],
    truth: NDArray[np.int64],
    new: NDArray[np.bool_],
    frequencies: Sequence[float],
) -> list[dict[str, object]]:
    """Recall and precision of a word search, for words at least so frequent.

    `shares`: of each word that devices can send, its share of all typed words; `truth`: reports sent of each, in that
    order; `new` of each released word. recall: share found of the words that are typed so often. precision: share
    really sent by somebody, of the words found whose estimate is so high. Words nobody ever sends are counted as wrong.
    """
    typed = np.array(list(shares.values()))
    released = set(histogram.values)
    found = np.array([word in released for word in shares], dtype=np.bool_)
    sent = true_counts(histogram, {word: i for i, word in enumerate(shares)}, truth)
    rows: list[dict[str, object]] = []
    for frequency in sorted(frequencies, reverse=True):
        often, high = typed >= frequency, histogram.shares >= frequency
        rows.append(
            {
                "frequency": frequency,
                "words": int(often.sum()),
                "recall": _share(found[often]),
                "found": int(high.sum()),
                "precision": _share(sent[high] > 0),
                "found_new": int((high & new).sum()),
                "wrong": int((sent[high] == 0).sum()),
            }
        )
    return rows


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None
