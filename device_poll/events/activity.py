"""How much happens on a device in a day: few devices do much, most do little.

activity = Activity(mean=3.0, sigma=1.0)
rates = activity.rates(1000, rng)            # float64[1000], a device's own and the same every day
events = rng.poisson(rates)                  # of one day
activity.sent_law(cap=2)                     # P(0, 1, 2 reports), if at most two a day may be sent
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

LARGEST_MEAN = 10_000.0
LARGEST_SIGMA = 3.0
"""At sigma = 3 the mean is 90 times the median; beyond, single devices would hold most of the events."""

_NODES = 4001  # the trapezoidal rule on a Gaussian converges faster than any power: error below 1e-14 here
_REACH = 12.0  # standard deviations on each side; the tails beyond weigh 4e-33


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Events of a device and day: Poisson with the device's own rate, which is log-normal over devices.

    `mean`: events a device and day, on average over devices, above 0 and at most 10,000; `sigma`: standard deviation of
    the log of the rate, 0 (all devices alike) to 3. Raises ValueError outside.
    """

    mean: float = 3.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.mean <= LARGEST_MEAN:
            raise ValueError(f"activity.mean is {self.mean:g}; expected events a day, above 0 and at most 10000")
        if not 0 <= self.sigma <= LARGEST_SIGMA:
            raise ValueError(f"activity.sigma is {self.sigma:g}; expected 0 (all devices alike) to 3 (very uneven)")

    @property
    def median(self) -> float:
        """Rate of the device in the middle: mean e^(-sigma^2 / 2)."""
        return float(self.mean * np.exp(-(self.sigma**2) / 2))

    def rates(self, devices: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Events a day that each device does on average, float64[devices]."""
        return rng.lognormal(np.log(self.median), self.sigma, devices)

    def sent_law(self, cap: int, thinning: float = 1.0) -> NDArray[np.float64]:
        """P(min(N, cap) = j) for j = 0 .. cap, float64[cap + 1]; N: a device's events of a day that are kept.

        `thinning`: the probability with which an event is kept; a thinned Poisson count is a Poisson count. Exact up to
        rounding: the mean of Poisson probabilities over the log-normal rate, by the trapezoidal rule.
        """
        if cap < 0:
            raise ValueError(f"cap is {cap}; expected 0 or more reports a device and day")
        if not 0 <= thinning <= 1:
            raise ValueError(f"thinning is {thinning:g}; expected a probability")
        normal = np.linspace(-_REACH, _REACH, _NODES)
        weights = np.exp(-(normal**2) / 2)
        rates = thinning * self.median * np.exp(self.sigma * normal)
        below = poisson.pmf(np.arange(cap)[:, None], rates) @ (weights / weights.sum())
        return np.append(below, max(0.0, 1.0 - float(below.sum())))

    def expected_sent(self, cap: int, thinning: float = 1.0) -> float:
        """Mean of min(N, cap): reports a device and day."""
        return float(np.arange(cap + 1) @ self.sent_law(cap, thinning))
