"""What many shuffled polls of the same devices reveal together: privacy-loss distributions.

The two distributions of one poll are rounded, pessimistically, to losses on a grid; the `dp_accounting` package then
convolves the losses of all polls.

    losses = poll_losses(pair, rate=1.0, tail=1e-18, step=2.0**-11)
    compose(losses, polls=100, delta=1e-6)        # central epsilon of 100 polls

Sources: Sommer, Meiser, Mohammadi 2019 (privacy-loss distributions); Doroshenko, Ghazi, Kamath, Kumar, Manurangsi,
'Connect the dots: tighter discrete approximations of privacy loss distributions', PETS 2022 (the rounding); Zhu, Dong,
Wang, 'Optimal accounting of differential privacy via characteristic function', AISTATS 2022 (pairs under sampling).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from privacy.binomial import MARGIN, Floats, binomial_pmf
from privacy.shuffling import ShuffledPair

CONVOLUTION_ERROR = 1e-14
"""Probability per poll by which the floating-point convolution may be off; subtracted from delta. (Each Fourier
coefficient is at most 1 and is computed to a few units of 1e-16, which the power of `polls` multiplies.) The masses
themselves may be off by the MARGIN of binomial probabilities, the same in P and Q: a factor 1 + MARGIN a poll."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PollLosses:
    """Losses of one poll: probability `masses[i]` of the loss `(i - G) * step`, i = 0 .. 2 G; `infinite` of any loss.

    The same for both directions of the neighbouring relation.
    """

    step: float
    masses: Floats
    infinite: float


def poll_losses(pair: ShuffledPair, *, rate: float, tail: float, step: float) -> PollLosses:
    """The poll's losses, moved to the grid so that every delta of every composition can only grow.

    An outcome with loss between two grid points becomes a lottery between these points that keeps both its
    probabilities; above the grid, one between the last point and infinity. `rate` is the share of the population that
    is secretly sampled to report (1: all of it): under replacement, a poll of a random subset of fixed size is
    dominated by (rate P + (1 - rate) Q, Q) for losses >= 0, and by symmetry below. `tail` bounds what lies above the
    grid.
    """
    top = math.log1p(rate * math.expm1(pair.epsilon(2 * tail + pair.tail)))
    points = max(1, math.ceil(top / step))
    grid = np.arange(points + 1) * step
    likely, rare, dropped = _bin_masses(pair, np.log1p(np.expm1(grid) / rate), tail)
    likely = rate * likely + (1 - rate) * rare
    # In the bin from e^u to e^v, the neighbour's probability of the outcomes is split into low + high, with
    # e^u low + e^v high equal to the probability of the outcomes themselves.
    bottom, growth = np.exp(grid[:-1]), math.expm1(step)
    high = np.maximum(likely[:-1] / bottom - rare[:-1], 0) / growth
    low = np.maximum(rare[:-1] - high, 0)
    positive = np.zeros(points + 1)
    positive[:-1] += low * bottom
    positive[1:] += high * bottom * (1 + growth)
    negative = np.zeros(points + 1)
    negative[:-1] += low
    negative[1:] += high
    last = rare[-1] * math.exp(grid[-1])
    positive[-1] += last
    negative[-1] += rare[-1]
    infinite = max(0.0, likely[-1] - last) + dropped + pair.tail
    masses = np.concatenate([negative[:0:-1], [positive[0] + negative[0]], positive[1:]])
    # Outcomes that tell nothing make up the rest.
    masses[points] += max(0.0, 1 - infinite - masses.sum())
    return PollLosses(step=step, masses=masses, infinite=infinite)


def _bin_masses(pair: ShuffledPair, edges: Floats, tail: float) -> tuple[Floats, Floats, float]:
    """Probabilities under P and under Q of losses in [edges[i], edges[i + 1]), i.e. above 0; the last bin is open.

    The third value bounds the probability of the outcomes that were left out.
    """
    m = pair.m
    # Hoeffding: a binomial of m coins is above m / 2 + reach with probability at most exp(-2 reach^2 / m).
    reach = np.sqrt(m * math.log(1 / tail) / 2)
    first = np.minimum(m, np.ceil(m / 2 + reach) + 1)
    likely, rare = _walk(
        m,
        first,
        binomial_pmf(first, m, 0.5),
        pair.told,
        pair.silence,
        pair.parameters.p,
        pair.spread,
        np.tanh(edges / 2),
    )
    return likely, rare, tail if bool(np.any(first < m)) else 0.0


@njit(cache=True)
def _walk(
    m: Floats, first: Floats, at_first: Floats, told: Floats, silence: Floats, p: float, spread: Floats, edges: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each cell, from a = first down to loss 0: probabilities added up between edges, given as tanh(loss / 2)."""
    bins = len(edges)
    likely, rare = np.zeros(bins), np.zeros(bins)
    for i in range(len(m)):
        n, a, b = m[i], first[i], at_first[i]
        for j in range(bins - 1, -1, -1):
            stop = n / 2 * (1 + edges[j] * spread[i])  # outcomes with a above this have at least the loss of edge j
            mine, other, all_ = 0.0, 0.0, 0.0
            while a > stop:
                mine += a * b
                other += (n - a) * b
                all_ += b
                b *= a / (n - a + 1)
                a -= 1
            if all_ > 0:
                likely[j] += told[i] * (p * mine + other) + silence[i] * all_
                rare[j] += told[i] * (mine + p * other) + silence[i] * all_
    return likely, rare


def compose(losses: PollLosses, *, polls: int, delta: float) -> float:
    """Central epsilon of `polls` polls at this total delta: the better of two upper bounds. Infinite if delta is too
    small for either."""
    return min(_by_convolution(losses, polls, delta), _by_moments(losses, polls, delta))


def _by_convolution(losses: PollLosses, polls: int, delta: float) -> float:
    from dp_accounting.pld import pld_pmf, privacy_loss_distribution  # type: ignore[import-untyped,unused-ignore]

    spare = delta * (1 - polls * MARGIN) - polls * CONVOLUTION_ERROR
    if spare <= 0:
        return math.inf
    lowest = -(len(losses.masses) // 2)
    one = pld_pmf.DensePLDPmf(losses.step, lowest, losses.masses, losses.infinite, True)
    all_polls = privacy_loss_distribution.PrivacyLossDistribution(one).self_compose(polls)
    return float(all_polls.get_epsilon_for_delta(spare))


def _by_moments(losses: PollLosses, polls: int, delta: float) -> float:
    """Chernoff's bound on the summed losses, good where delta is below what a convolution in floats can resolve.

    (1 - e^-x)+ is at most e^(t x) t^t / (t + 1)^(t + 1) for every t > 0 (Canonne, Kamath, Steinke 2020, proposition
    12), so delta <= polls * infinite + that factor * E[e^(t loss)]^polls e^(-t epsilon).
    """
    spare = delta * (1 - polls * MARGIN) - polls * losses.infinite
    if spare <= 0:
        return math.inf
    grid = (np.arange(len(losses.masses)) - len(losses.masses) // 2) * losses.step
    some = losses.masses > 0
    log_masses, grid = np.log(losses.masses[some]), grid[some]
    best = math.inf
    for t in np.geomspace(1e-2, 1e7, 271):
        exponents = log_masses + t * grid
        most = float(exponents.max())
        log_moment = most + math.log(float(np.exp(exponents - most).sum()))
        log_factor = t * math.log(t) - (t + 1) * math.log1p(t)
        best = min(best, (polls * log_moment + log_factor - math.log(spare)) / t)
    return max(0.0, float(best))
