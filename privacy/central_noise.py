"""Noise added after the votes are counted: at the two aggregators, or by a trusted server (baseline only).

    noise = AggregatorNoise.calibrate(epsilon=1.0, delta=1e-6, neighbours=Neighbours.REPLACEMENT)
    batch = Batch.of(NoPrivacy(domain_size=1001), minimum_reports=1000, batch_id=..., largest_noise=noise.largest)
    tally = recombine(batch, left.close(noise.draw(1001)), right.close(noise.draw(1001)))
    noise.estimate(tally)

Each aggregator adds its own discrete Gaussian noise before it releases its sum, drawn by OpenDP's exact sampler
(Canonne, Kamath, Steinke 2020). It knows its own noise, so the guarantee rests on the OTHER one's alone, and outsiders
have twice the variance as a bonus. The random numbers come from the operating system: no seed repeats them, so a
resumed run must keep the tally it has.

`GaussianBaseline` is Private Evolution's trusted server, for comparison and never for a release: it sees raw votes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.integer_noise import IntegerNoise, check_scale, discrete_gaussian_noise
from privacy.mechanism import Estimate, Tally
from privacy.units import Neighbours, check_delta

_RESOLUTION = 1e-6
_LARGEST_DRAW = 1 << 24


def discrete_gaussian(size: int, scale: float) -> NDArray[np.int64]:
    """int64[size] independent draws with probability proportional to exp(-z^2 / (2 scale^2)).

    About 90,000 a second. Raises ImportError naming the extra to install if opendp is missing, ValueError for a scale
    outside 0.1 .. 10000 or a size outside 1 .. 2^24.
    """
    check_scale(scale)
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 1 <= size <= _LARGEST_DRAW:
        raise ValueError(f"size is {size!r}; expected a whole number from 1 to {_LARGEST_DRAW}")
    try:
        import opendp.prelude as dp
    except ImportError as error:
        raise ImportError(
            "noise at the aggregators needs the package opendp; install it with: pip install 'synthpoll[central]'"
        ) from error
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="i64")
    # On a vector of zeros the measurement releases the noise itself.
    drawn = dp.m.make_gaussian(*space, scale=float(scale))([0] * int(size))
    return np.array(drawn, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class AggregatorNoise:
    """Discrete Gaussian noise of this scale, from each of two aggregators, on every count.

    Raises ValueError unless 0.1 <= scale <= 10000.
    """

    scale: float

    name: ClassVar[str] = "discrete_gaussian_at_aggregators"

    def __post_init__(self) -> None:
        check_scale(self.scale)

    @classmethod
    def calibrate(cls, *, epsilon: float, delta: float, neighbours: Neighbours) -> AggregatorNoise:
        """The least noise (to 1 part in 10^6) that is (epsilon, delta)-private against either aggregator.

        Raises ValueError for epsilon <= 0, delta outside (0, 1), or if no scale of 0.1 .. 10000 fits.
        """
        check_delta(delta)
        if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not epsilon > 0:
            raise ValueError(f"epsilon is {epsilon!r}; expected a number > 0, the central budget of one release")
        low, high = 0.1, 10_000.0
        if discrete_gaussian_noise(high).delta(epsilon, neighbours) > delta:
            raise ValueError(f"epsilon is {epsilon:g} at delta {delta:g}; noise of scale 10000 is not enough for that")
        while high - low > _RESOLUTION * high:
            middle = math.sqrt(low * high)
            fits = discrete_gaussian_noise(middle).delta(epsilon, neighbours) <= delta
            low, high = (low, middle) if fits else (middle, high)
        return cls(scale=high)

    @cached_property
    def known_to_one(self) -> IntegerNoise:
        """The noise that hides a vote from an aggregator: the other one's."""
        return discrete_gaussian_noise(self.scale)

    @property
    def largest(self) -> int:
        """What one aggregator's noise never passes (probability below 10^-300), for Batch.largest_noise."""
        return 2 + math.ceil(40 * self.scale)

    def draw(self, width: int) -> NDArray[np.int64]:
        """One aggregator's noise, int64[width]. Raises ImportError if opendp is missing."""
        return discrete_gaussian(width, self.scale)

    def estimate(self, tally: Tally) -> Estimate:
        """Counts of a tally of raw votes with both noises on it; standard errors scale sqrt(2), an upper bound."""
        counts = tally.sums.astype(np.float64)
        return Estimate(counts, np.full(counts.shape, self.scale * math.sqrt(2)), tally.reports)


@dataclass(frozen=True, kw_only=True)
class GaussianBaseline:
    """Baseline, not for release: a trusted server adds N(0, sigma^2) to every raw count, as Private Evolution does.

    Lin et al. 2024, 'Differentially private synthetic data via foundation model APIs 1: images', algorithm 2. The exact
    epsilon of a sigma is in privacy/gaussian.py. Continuous noise from floats has known side channels (Mironov 2012),
    one more reason to call it a baseline. Raises ValueError unless sigma is a finite number > 0.
    """

    sigma: float

    name: ClassVar[str] = "central_gaussian_baseline"

    def __post_init__(self) -> None:
        if isinstance(self.sigma, bool) or not isinstance(self.sigma, int | float) or not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma is {self.sigma!r}; expected a finite number > 0, the standard deviation in votes")

    def estimate(self, tally: Tally, rng: np.random.Generator) -> Estimate:
        """One release of a tally of raw votes: counts + N(0, sigma^2), standard errors sigma. Call it once a tally."""
        counts = tally.sums + rng.normal(0.0, self.sigma, tally.sums.shape)
        return Estimate(counts, np.full(counts.shape, float(self.sigma)), tally.reports)
