"""How two keys differ, such as the emoji of two keyboard locales: differences of shares, with intervals.

    found = difference(english, french)
    found.values[0], found.difference[0], (found.lower[0], found.upper[0])       # the largest difference first

Two released histograms are all that it takes: reports of different keys never meet, and no withheld element is named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from aggregate.histogram import Correction, Histogram, critical_value


@dataclass(frozen=True, kw_only=True, eq=False)
class Difference:
    """Shares of the reports of two keys, float64, one entry for each element released in both; largest difference
    first. `difference` is first - second, `stderr` its standard error (both estimates' errors), `lower` and `upper` its
    interval, `p_values` the chance of so large a difference, either way, between equal shares. `compared` elements are
    here; the intervals hold for `corrected_for` elements at once.
    """

    values: tuple[str, ...]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    difference: NDArray[np.float64]
    stderr: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    p_values: NDArray[np.float64]
    compared: int
    corrected_for: int
    confidence: float
    correction: Correction


def difference(
    first: Histogram, second: Histogram, *, confidence: float = 0.95, correction: Correction = "bonferroni"
) -> Difference:
    """The elements released in both, with what their shares of the reports differ by.

    Corrected for the number of elements that could have been compared, which is the smaller number looked at: those
    released in both were picked by the same noise that the intervals speak of. Shares are of the reports sent; how far
    those stand for everything typed is a question of sampling, not of this noise.

    The two estimates' errors count as independent. Sketches of one hash family err alike where the same frequent
    values collide; that only makes differences more certain than stated.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected a share between 0 and 1")
    place = {value: i for i, value in enumerate(second.values)}
    shared = [(i, place[value]) for i, value in enumerate(first.values) if value in place]
    one, two = (np.array(column, dtype=np.int64) for column in ([i for i, _ in shared], [j for _, j in shared]))
    shares = first.shares[one], second.shares[two]
    apart = shares[0] - shares[1]
    stderr = np.hypot(first.stderr[one] / first.reports, second.stderr[two] / second.reports)
    corrected_for = min(first.looked_at, second.looked_at)
    half = critical_value(confidence, correction, corrected_for) * stderr
    scores = np.divide(np.abs(apart), stderr, out=np.where(apart == 0, 0.0, np.inf), where=stderr > 0)
    order = np.argsort(-np.abs(apart), kind="stable")
    return Difference(
        values=tuple(first.values[one[i]] for i in order),
        first=shares[0][order],
        second=shares[1][order],
        difference=apart[order],
        stderr=stderr[order],
        lower=np.clip(apart - half, -1, 1)[order],
        upper=np.clip(apart + half, -1, 1)[order],
        p_values=np.minimum(1.0, 2 * norm.sf(scores[order])),
        compared=len(order),
        corrected_for=corrected_for,
        confidence=confidence,
        correction=correction,
    )
