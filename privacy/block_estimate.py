"""Counts that compare the two halves of a block of reports, as Hadamard response does, with their tails.

found = mechanism.estimate(tally)      # HadamardResponse
found.p_values(), found.bounds(0.025)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Binomials, Estimate
from privacy.tails import FEW, at_least, at_most, binomial_at_least, counts_allowed, first_that, nearest


@dataclass(frozen=True, eq=False)
class BlockEstimate(Estimate):
    """Counts of signed sums: of the `landed` int64[d] reports in the value's block, those in C_v less the others,
    `signed` int64[d]. `m` is the mechanism's M, `blocks` its B."""

    signed: NDArray[np.int64]
    landed: NDArray[np.int64]
    m: float
    blocks: int

    def p_values(self) -> NDArray[np.float64]:
        """P[Bin(landed, 1/2) >= those in C_v]: a report of any other value is as likely in C_v as in the other half of
        its block, so given how many landed there, their law is exact."""
        return binomial_at_least((self.landed + self.signed) / 2, self.landed, 0.5)

    def bounds(self, error: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """By saddlepoint, with as many devices in the block as landed there suggest; 0 where the exact p-value is
        above `error`. Where the standard deviation of the sum is below 5, exactly (`_exact`)."""
        anywhere = (1 - self.m) / (2 * self.blocks)
        in_block = np.clip((self.landed - 2 * self.reports * anywhere) / self.m, 0, self.reports)

        def law(plus: float, minus: float, s: NDArray[np.float64]) -> NDArray[np.float64]:
            up, down = plus * np.exp(s), minus * np.exp(-s)
            mean, total = up - down, 1 - plus - minus + up + down
            return np.stack([np.log(total), mean / total, (up + down) / total - (mean / total) ** 2])

        def own(s: NDArray[np.float64]) -> NDArray[np.float64]:
            return law(self.m + anywhere, anywhere, s) - law(self.m / 2 + anywhere, self.m / 2 + anywhere, s)

        def others(s: NDArray[np.float64]) -> NDArray[np.float64]:
            near, far = law(self.m / 2 + anywhere, self.m / 2 + anywhere, s), law(anywhere, anywhere, s)
            return np.asarray(in_block * near + (self.reports - in_block) * far)

        lower, upper = counts_allowed(own, others, self.signed, error, self.reports)
        lower = np.where(self.p_values() > error, 0.0, lower)
        few = np.flatnonzero(self.stderr * self.m < FEW)
        sums = np.stack([self.landed[few], self.signed[few]], axis=1).tolist()
        exact = {pair: self._exact(*pair, error / 2) for pair in {(a, b) for a, b in sums}}
        for i, (landed, signed) in zip(few, sums, strict=True):
            lower[i], upper[i] = exact[landed, signed]
        return lower, upper

    def _exact(self, landed: int, signed: int, error: float) -> tuple[int, int]:
        """Counts in two steps, each of which fails with at most this chance on each side.

        How many reports of the block can be own ones, if all others are in either half by chance; and how many devices
        can have sent so many own ones.
        """
        inside = (landed + signed) // 2

        def law(own: int) -> Binomials:
            return (own, 1.0), (landed - own, 0.5)

        least = first_that(lambda own: at_least(inside, law(own)) > error, 0, inside)
        most = first_that(lambda own: at_most(inside, law(own)) <= error, 0, inside + 1) - 1
        nobody = (0, 0.5)
        low = nearest(lambda count: at_least(least, ((count, self.m), nobody)) > error, least, self.reports)
        high = nearest(lambda count: at_most(most, ((count, self.m), nobody)) <= error, most, self.reports + 1)
        return low, high - 1
