"""What one shuffled poll reveals about one device: the variation-ratio analysis.

Reports that a shuffler has separated from their senders hide in each other. Seen against any other device's report, the
report of one device is either a copy of a report that many others also send (a clone) or says nothing. This module
turns that into two explicit distributions that are never easier to tell apart than the real shuffled polls are.

    pair = ShuffledPair(parameters_of(mechanism), reports=1_000_000, tail=1e-15)
    pair.epsilon(1e-6)        # central epsilon of one poll

Sources: Feldman, McMillan, Talwar, 'Stronger privacy amplification by shuffling for Renyi and approximate differential
privacy', SODA 2023 (the reduction to clones); Wang et al., 'Privacy amplification via shuffling: unified, simplified,
and tightened', VLDB 2024 (the parameters p, beta, q); Balle, Bell, Gascon, Nissim, 'The privacy blanket of the shuffle
model', CRYPTO 2019 (what all devices' reports have in common).

`privacy.accounting` is the interface for users; here are the numbers behind it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc

from privacy.binomial import MARGIN, Floats, binomial_pmf, binomial_window, binomials_on_grid
from privacy.thresholds import check_epsilon

LARGEST_REPORTS = 10**9
"""More reports than this are counted as this many, which is still an upper bound and bounds the memory."""

_GRID = 500.0  # the inverse of the grid's step for silent clones; larger: finer, slower


class LocalRandomizer(Protocol):
    """Whatever has a local epsilon. What it knows beyond that (`Mechanism.total_variation` and `log_q_silent`) is used,
    and a `variation_ratio` attribute or method, if there is one, takes precedence over both."""

    @property
    def epsilon(self) -> float:
        """Local privacy budget of one report (pure LDP)."""


@dataclass(frozen=True, kw_only=True)
class PureLDP:
    """A randomizer of which nothing is known but its local epsilon: the worst case over all of them."""

    epsilon: float

    name: ClassVar[str] = "pure_ldp"

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)


@dataclass(frozen=True, kw_only=True)
class VariationRatio:
    """What the analysis needs to know of a randomizer R, for any two values x and x' (Wang et al. 2024).

    epsilon: log p; R(x) and R(x') differ by a factor of at most p = e^epsilon on every report.
    beta: the total variation distance of R(x) and R(x'), at most. More than tanh(epsilon / 2) counts as that.
    log_q: log q; R(x) is at most q times the report probabilities of any OTHER device.
    log_q_silent: the same for the part of R(x) that R(x') shares; None for log_q, which always holds.

    Larger values always claim less (ShuffledPair says why). Raises ValueError unless epsilon and log_q are in (0, 50],
    beta in (0, 1], log_q_silent in [0, log_q], and if they contradict each other (the clones of another device would
    have a probability above 1).
    """

    epsilon: float
    beta: float
    log_q: float
    log_q_silent: float | None = None

    def __post_init__(self) -> None:
        for name, value, largest in (("epsilon", self.epsilon, 50), ("log_q", self.log_q, 50), ("beta", self.beta, 1)):
            if not 0 < value <= largest:
                raise ValueError(f"{name} is {value!r}; expected a number in (0, {largest}]")
        if self.log_q_silent is not None and not 0 <= self.log_q_silent <= self.log_q:
            raise ValueError(f"log_q_silent is {self.log_q_silent!r}; expected a number in [0, log_q] or None")
        if 2 * self.clone + self.silent_clone > 1 + 1e-12:
            raise ValueError(
                f"log_q is {self.log_q:g} and log_q_silent {self.log_q_silent}: the other devices would send clones "
                "with a probability above 1; a larger log_q is always a valid claim"
            )

    @property
    def p(self) -> float:
        """Largest ratio of report probabilities."""
        return math.exp(self.epsilon)

    @cached_property
    def alpha(self) -> float:
        """Probability that the device sends what its neighbour most often sends: beta / (p - 1)."""
        return min(self.beta / math.expm1(self.epsilon), 1 / (1 + self.p))

    @property
    def clone(self) -> float:
        """r = alpha p / q: probability that another device sends a given one of the two telling reports, at least."""
        return min(self.alpha * math.exp(self.epsilon - self.log_q), math.nextafter(0.5, 0))

    @property
    def silent(self) -> float:
        """1 - alpha - p alpha: probability that the device's report does not tell x from x'. Exactly 0 at the largest
        beta, where rounding would leave a crumb."""
        return max(0.0, 1 - self.alpha * (1 + self.p)) if self.beta < math.tanh(self.epsilon / 2) else 0.0

    @property
    def silent_clone(self) -> float:
        """Probability that another device sends a report that looks like a silent one, at least."""
        return self.silent * math.exp(-(self.log_q if self.log_q_silent is None else self.log_q_silent))


def parameters_of(mechanism: LocalRandomizer) -> VariationRatio:
    """What the mechanism says of itself (see LocalRandomizer), and where it says nothing, what holds for any pure LDP
    randomizer.

    Pure LDP alone gives p = q = e^epsilon and beta = (p - 1) / (p + 1), so that alpha = r = 1 / (p + 1) (Feldman et al.
    2023). Raises ValueError for an epsilon outside (0, 12], infinite ones included.
    """
    epsilon = mechanism.epsilon
    check_epsilon(epsilon)
    own = getattr(mechanism, "variation_ratio", None)
    if own is not None:
        result = own() if callable(own) else own
        if not isinstance(result, VariationRatio):
            raise TypeError(f"variation_ratio gave a {type(result).__name__}; expected a VariationRatio")
        return result
    beta, distance = math.tanh(epsilon / 2), getattr(mechanism, "total_variation", None)
    if distance is not None:
        beta = min(beta, distance)
    beta = math.nextafter(beta, math.inf)  # the formulas hold for real numbers
    silent = getattr(mechanism, "log_q_silent", None)
    return VariationRatio(epsilon=epsilon, beta=beta, log_q=epsilon, log_q_silent=silent)


class ShuffledPair:
    """Two distributions that dominate one shuffled poll, before and after one device's data is replaced.

    Each of the n - 1 other devices sends, on its own, a clone of the first or the second telling kind with probability
    r each, or of the silent kind with probability s; the rest is given to the attacker. The device in question sends
    the first kind with probability p alpha, the second with alpha, else the silent kind. What is seen is how many there
    are of each: a, m - a and c. For the neighbour the first two kinds swap. Counting which of the n devices is the one
    in question gives, with w(m, c) the multinomial probability of n devices and b_m(a) = Pr[Bin(m, 1/2) = a],

        P(a, m, c) = w(m, c) b_m(a) (alpha / r (p a + (m - a)) + silent / s c) / n,    Q: a and m - a exchanged.

    The real poll is P or Q after a step that does not know which: the non-clones are a uniformly random set of the
    others. This is where it differs from the published reduction (Wang et al. 2024, and its code), which counts every
    non-clone among the silent reports. That would need the non-clones to look like them, and it understates delta for
    few reports or an epsilon near the local one (tests/privacy/test_shuffling.py has the smallest counterexample).
    The two agree where nothing is silent, as in the generic pure LDP bound, and nearly for many reports.

    P - e^eps Q is linear in (a, m, c), so its positive part is convex, and spreading c to points on either side
    with its mean kept can only raise delta. So c is moved to a grid so coarse that the work does not grow, and so fine
    that epsilon grows by less than one part in 1e4.

    In other words delta is the mean of (X_1 + ... + X_n)+ / n with independent X_i, where t = e^eps and X_i is
    q / p (p - t) or q / p (1 - p t) with probability r each, q_silent (1 - t) with s, else 0. A larger beta moves
    probability from the two middle values, which it takes in the right amounts to keep the mean, to the two outer ones;
    larger q and q_silent spread out as well, and so do fewer devices. Hence delta grows with all of them.

    `tail` is a probability that may be dropped, up to twice; what was dropped is added to every delta.
    """

    def __init__(self, parameters: VariationRatio, *, reports: int, tail: float) -> None:
        self.parameters, self.reports, self.tail = parameters, min(int(reports), LARGEST_REPORTS), tail
        n, telling = self.reports, 2 * parameters.clone
        low, high = binomial_window(n - 1, telling, tail)
        m: Floats = np.arange(max(1, low), min(n, high + 1) + 1, dtype=np.float64)
        weight = binomial_pmf(m, n, telling)
        c: Floats = np.zeros_like(m)
        odds = 0.0  # silent / s
        if parameters.silent > 0:
            odds = parameters.silent / parameters.silent_clone
            # Small against the weight of all reports and against the silent clones themselves.
            step = max(1, math.floor(n * min(1 / odds, 5 * parameters.silent_clone) / _GRID))
            points, masses = binomials_on_grid(n - m, min(1.0, parameters.silent_clone / (1 - telling)), step, tail)
            # Cells that weigh next to nothing go; what they hold together is added to the tail.
            cells = weight[:, None] * masses
            held = (
                cells * (parameters.alpha / parameters.clone * (1 + parameters.p) * m[:, None] / 2 + odds * points) / n
            )
            some = held > tail / held.size
            self.tail += float(held[~some].sum())
            m, c, weight = np.broadcast_to(m[:, None], points.shape)[some], points[some], cells[some]
        self.m = m
        """How many telling reports there are, one entry per cell (m, c)."""
        self.told = weight * math.exp(parameters.log_q - parameters.epsilon) / n
        """w alpha / (r n)."""
        self.silence = weight * odds * c / n
        """w silent c / (s n)."""
        # The loss reaches epsilon at a = m / 2 (1 + tanh(epsilon / 2) spread).
        relative = 2 * odds * math.exp(parameters.epsilon - parameters.log_q) * c / m
        self.spread = (parameters.p + 1 + relative) / math.expm1(parameters.epsilon)

    def delta(self, epsilon: float) -> float:
        """Upper bound on the hockey-stick divergence: the delta of one poll at this central epsilon >= 0.

        Uses sum over a >= k of (a - m/2) b_m(a) = (k / 2) b_m(k), so that each cell takes one binomial probability and
        one tail.
        """
        half = self.m / 2
        x = half * math.tanh(epsilon / 2) * self.spread
        k = np.floor(half + x) + 1
        some = k <= self.m
        m, k, x = self.m[some], k[some], x[some]
        up, down = k / 2 * binomial_pmf(k, m, 0.5), x * betainc(k, m - k + 1, 0.5)
        terms = self.told[some] * (up * (1 + MARGIN) - down * (1 - MARGIN))
        scale = math.expm1(self.parameters.epsilon) * (1 + math.exp(epsilon))
        return self.tail + scale * float(terms.sum()) * (1 + MARGIN)

    def epsilon(self, delta: float) -> float:
        """The smallest central epsilon of one poll at this delta, rounded up: `self.delta(result) <= delta`.

        Where even the local epsilon has a computed delta above that (its margins, with very few reports), the local one
        is returned, which needs no delta. Raises ValueError unless delta is above the dropped tail.
        """
        if not delta > self.tail:
            raise ValueError(f"delta is {delta:g}; expected more than the dropped tail {self.tail:g}")
        if self.delta(0.0) <= delta:
            return 0.0
        top = self.parameters.epsilon
        if self.delta(top) > delta:
            return top
        root = float(brentq(lambda e: math.log(self.delta(e) / delta), 0.0, top, xtol=1e-300, rtol=1e-12))
        step = 1e-12
        while root < top and self.delta(root) > delta:
            root, step = root * (1 + step), 2 * step
        return min(root, top)
