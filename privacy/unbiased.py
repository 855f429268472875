"""The server half that all two-level mechanisms share.

Two-level: a report supports the device's own value with probability p and any other given value with probability q.
Wang, Blocki, Li, Jha 2017, section 3 ('pure' protocols), equations 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Binomials, Estimate, Parameters, Tally, check_error
from privacy.tails import FEW, at_least, at_most, bernoulli, binomial_at_least, counts_allowed, nearest
from privacy.thresholds import check_values


def check_tally(tally: Tally, parameters: Parameters, shape: tuple[int, ...]) -> None:
    """Raise ValueError if the tally was made by a mechanism with other parameters, or its sums are not int64[shape]."""
    got: Mapping[str, object] = dict(tally.parameters)
    if got != dict(parameters):
        raise ValueError(f"the tally was made with {got}; this mechanism is {dict(parameters)}")
    if tally.sums.shape != tuple(shape) or tally.sums.dtype != np.int64:
        raise ValueError(
            f"the tally's sums have shape {tally.sums.shape} and dtype {tally.sums.dtype}; expected int64{list(shape)}"
        )


def check_resolution(epsilon: float, p: float, q: float) -> None:
    """Raise ValueError if p and q are so close that no estimate could be computed from them."""
    if not p - q > p * 2.0**-30:
        raise ValueError(
            f"epsilon is {epsilon:g}; true and other values would be reported equally often to nine digits; "
            "expected at least about 1e-8"
        )


def two_level_stderr(reports: int, count: float, p: float, q: float) -> float:
    """Standard error of an estimated count whose true value is `count`, in devices."""
    return math.sqrt(count * p * (1 - p) + (reports - count) * q * (1 - q)) / (p - q)


def two_level_influence(p: float, q: float) -> float:
    """The most that one report moves an estimated count, in devices: (1 - q) / (p - q) up, q / (p - q) down."""
    return max(1 - q, q) / (p - q)


def two_level_gain(supported: int, targets: int, p: float, q: float) -> float:
    """What a report that supports `supported` of the `targets` adds to the sum of their estimated counts, in devices.

    Cao, Jia, Gong 2021 (USENIX Security): a value that the report supports gains (1 - q) / (p - q), any other loses
    q / (p - q).
    """
    return (supported - targets * q) / (p - q)


def two_level_estimate(
    tally: Tally, p: float, q: float, values: NDArray[np.int64] | None, domain_size: int
) -> BinomialEstimate:
    """Unbiased counts (T_v - n q) / (p - q) and their standard errors.

    The variance depends on the unknown true count; the estimate, held to [0, n], is put in its place.
    """
    n = tally.reports
    sums = tally.sums if values is None else tally.sums[check_values(values, domain_size)]
    counts = (sums - n * q) / (p - q)
    plugged = np.clip(counts, 0, n)
    stderr = np.sqrt(plugged * p * (1 - p) + (n - plugged) * q * (1 - q)) / (p - q)
    return BinomialEstimate(counts.astype(np.float64), stderr.astype(np.float64), n, sums, p, q)


@dataclass(frozen=True, eq=False)
class BinomialEstimate(Estimate):
    """Counts of sums T = Bin(f, p) + Bin(n - f, q), with the tails of that law.

    `sums` int64, one a value. Where `coins_of_all`, the second part is Bin(n, q): every device tosses that coin.
    """

    sums: NDArray[np.int64]
    p: float
    q: float
    coins_of_all: bool = False

    def p_values(self) -> NDArray[np.float64]:
        """P[Bin(n, q) >= T]."""
        return binomial_at_least(self.sums, self.reports, self.q)

    def bounds(self, error: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Counts for which neither tail of the law is below `error`: Clopper and Pearson's 1934 interval of this sum.

        By exact sums where the standard deviation is below 5, else by saddlepoint (privacy/tails.py).
        """

        def own(s: NDArray[np.float64]) -> NDArray[np.float64]:
            return bernoulli(self.p, s) - (0 if self.coins_of_all else bernoulli(self.q, s))

        def others(s: NDArray[np.float64]) -> NDArray[np.float64]:
            return self.reports * bernoulli(self.q, s)

        check_error(error)
        few = self.stderr * (1 if self.coins_of_all else self.p - self.q) < FEW
        lower, upper = np.empty(len(self.sums)), np.empty(len(self.sums))
        lower[~few], upper[~few] = counts_allowed(own, others, self.sums[~few], error, self.reports)
        near = {int(self.sums[i]): (self.counts[i], self.stderr[i]) for i in np.flatnonzero(few)}
        exact = {total: self._exact(total, error, *normal) for total, normal in near.items()}
        for i in np.flatnonzero(few):
            lower[i], upper[i] = exact[int(self.sums[i])]
        return lower, upper

    def _law(self, count: int) -> Binomials:
        return (count, self.p), (self.reports if self.coins_of_all else self.reports - count, self.q)

    def _exact(self, total: int, error: float, count: float, stderr: float) -> tuple[int, int]:
        """The smallest and the largest whole count that this sum does not refute, searched from 2 standard errors."""
        low, high = (round(min(max(count + z * stderr, 0), self.reports)) for z in (-2, 2))

        def least(count: int) -> bool:
            return at_least(total, self._law(count)) > error

        def beyond(count: int) -> bool:
            return at_most(total, self._law(count)) <= error

        return nearest(least, low, self.reports), nearest(beyond, high, self.reports + 1) - 1
