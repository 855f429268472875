"""Unary encoding with so little noise on each device that only the SUM is private: for secure aggregation.

    mechanism = DistributedUnaryEncoding(
        domain_size=1001, central_epsilon=1.0, central_delta=1e-6, honest_reports=9_000
    )
    mechanism.q                          # 0.005: the chance of a noise bit on a device
    mechanism.central_epsilon_of(4_500)  # what is left if half of them drop out or tell their noise
    tally = secure_tally(batch, mechanism, blocks, rng)
    mechanism.estimate(tally)

A device with value v sends the vector 1[j = v] + B_j with independent coins B_j ~ Bernoulli(q), so count j is the true
count plus Bin(n, q), whatever the devices hold. (A bit that is set OR flipped, as in local unary encodings, would leave
a count to which everybody agrees with no noise from anybody.) Binomial noise from devices: Dwork et al. 2006, 'Our
data, ourselves', section 3; Agarwal et al. 2018, 'cpSGD'. One report alone protects NOTHING: it is safe only as shares
at two aggregators that do not work together (privacy/secret_sharing.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.integer_noise import LARGEST_EPSILON, IntegerNoise, binomial_noise
from privacy.mechanism import Binomials, Estimate, Mechanism, Parameters, Reports, Tally, check_counts
from privacy.randomness import RandomBytes, random_words
from privacy.thresholds import WORD, check_domain, check_values
from privacy.unbiased import BinomialEstimate, check_tally
from privacy.units import Neighbours, check_delta

_SLICE_WORDS = 1 << 20
_RESOLUTION = 1e-6  # of q: the relative noise given away by not searching further


@dataclass(frozen=True, kw_only=True)
class DistributedUnaryEncoding(Mechanism):
    """The least q for which the sum over `honest_reports` reports is (central_epsilon, central_delta)-private.

    `honest_reports`: how many devices surely send a report and keep their coins to themselves. Take the minimum batch,
    less the devices that may collude with whoever sees the sum. More honest reports only add noise
    (`central_epsilon_of`). An aggregator that shares what it sees adds nothing as long as the other one does not: its
    shares are uniform. `neighbours`: REPLACEMENT (a vote moves) or PARTICIPATION (a vote moves
    or is absent; devices without a vote send `silence`).

    Reports: uint8[n, d], entries 0, 1, 2. Wire size: 2 d bits before sharing. Variance of a count, in devices squared:
    n q (1 - q) for n reports, whatever is counted. The local epsilon of a report is infinite.

    Raises ValueError if a field is out of range, or if fair coins on all devices are not enough noise.
    """

    domain_size: int
    central_epsilon: float
    central_delta: float
    honest_reports: int
    neighbours: Neighbours = Neighbours.REPLACEMENT

    name: ClassVar[str] = "distributed_unary_encoding"
    largest_domain: ClassVar[int] = 1 << 20
    epsilon: ClassVar[float] = math.inf
    largest_contribution: ClassVar[int] = 2  # a vote and a coin in one count

    def __post_init__(self) -> None:
        check_domain(self.domain_size, self.largest_domain, self.name)
        if isinstance(self.central_epsilon, bool) or not 0 < self.central_epsilon <= LARGEST_EPSILON:
            raise ValueError(f"central_epsilon is {self.central_epsilon!r}; expected a number in (0, 700]")
        check_delta(self.central_delta)
        if isinstance(self.honest_reports, bool) or not isinstance(self.honest_reports, int | np.integer):
            raise ValueError(f"honest_reports is {self.honest_reports!r}; expected a whole number")
        if not 2 <= self.honest_reports <= 1 << 40:
            raise ValueError(f"honest_reports is {self.honest_reports}; expected 2 to 2^40")
        if not isinstance(self.neighbours, Neighbours):
            raise ValueError(f"neighbours is {self.neighbours!r}; expected a Neighbours")
        if not self._private(0.5):
            raise ValueError(
                f"honest_reports is {self.honest_reports}; even fair coins on that many devices give no central "
                f"guarantee of epsilon {self.central_epsilon:g} at delta {self.central_delta:g}: ask more devices "
                "and raise minimum_batch"
            )

    @property
    def report_bits(self) -> int:
        """Bits of one report before it is shared; shares are larger (`Batch.share_bits`)."""
        return 2 * int(self.domain_size)

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        return {
            "mechanism": self.name,
            "domain_size": int(self.domain_size),
            "threshold": self.threshold,
            "central_epsilon": float(self.central_epsilon),
            "central_delta": float(self.central_delta),
            "honest_reports": int(self.honest_reports),
            "neighbours": self.neighbours.value,
        }

    @cached_property
    def threshold(self) -> int:
        """T: a coin is 1 if a 64-bit word is below T; q = T / 2^64, and the guarantee is computed for this q."""
        low, high = 0.0, 0.5
        while high - low > _RESOLUTION * high:
            middle = math.sqrt(low * high) if low > 0 else high / 1024
            low, high = (low, middle) if self._private(middle) else (middle, high)
        threshold = math.ceil(high * WORD)
        while not self._private(threshold / WORD):
            threshold += 1 + (threshold >> 30)
        return threshold

    @property
    def q(self) -> float:
        """Probability of a noise bit."""
        return self.threshold / WORD

    def noise(self, honest_reports: int) -> IntegerNoise:
        """The law of the noise on each count that nobody else knows, from so many honest reports."""
        return binomial_noise(honest_reports, self.q)

    def central_epsilon_of(self, honest_reports: int, delta: float | None = None) -> float:
        """The central epsilon (rounded up) if so many honest devices report, at `delta` or the mechanism's own."""
        return self.noise(honest_reports).epsilon(self.central_delta if delta is None else delta, self.neighbours)

    def central_delta_of(self, honest_reports: int, epsilon: float | None = None) -> float:
        """The central delta (rounded up) if so many honest devices report, at `epsilon` or the mechanism's own."""
        return self.noise(honest_reports).delta(self.central_epsilon if epsilon is None else epsilon, self.neighbours)

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values -> uint8[n, d]. d 64-bit words a report, always. NOT private on its own."""
        values = check_values(values, self.domain_size)
        reports = self.silence(len(values), rng)
        reports[np.arange(len(values)), values] += 1
        return reports

    def silence(self, n: int, rng: RandomBytes) -> Reports:
        """Reports of n devices without a vote, coins alone: uint8[n, d]. PARTICIPATION needs these from them."""
        reports = np.empty((n, self.domain_size), dtype=np.uint8)
        step = max(1, _SLICE_WORDS // self.domain_size)
        for start in range(0, n, step):
            rows = reports[start : start + step]
            words = random_words(rng, rows.size).reshape(rows.shape)
            np.less(words, np.uint64(self.threshold), out=rows.view(np.bool_))
        return reports

    def tally(self, reports: Reports) -> Tally:
        """The sums of the reports, int64[domain_size]. Raises ValueError for other shapes or entries > 2."""
        reports = np.asarray(reports)
        if reports.ndim != 2 or reports.dtype != np.uint8 or reports.shape[1] != self.domain_size:
            raise ValueError(
                f"reports have shape {reports.shape} and dtype {reports.dtype}; expected uint8[n, {self.domain_size}]"
            )
        if reports.size and int(reports.max()) > 2:
            raise ValueError(f"reports reach up to {int(reports.max())}; expected entries 0, 1 and 2")
        return Tally(reports.sum(axis=0, dtype=np.int64), len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """Unbiased counts and their standard errors."""
        check_tally(tally, self.parameters, (self.domain_size,))
        sums = tally.sums if values is None else tally.sums[check_values(values, self.domain_size)]
        counts = np.asarray(sums - tally.reports * self.q, dtype=np.float64)
        stderr = np.full(len(counts), self.standard_error(tally.reports))
        return BinomialEstimate(counts, stderr, tally.reports, sums, p=1.0, q=self.q, coins_of_all=True)

    def support_law(self, reports: int, count: int) -> Binomials:
        """Every vote, and a coin from every device."""
        return (count, 1.0), (reports, self.q)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """Exact law of the tally: independent Bin(n, q) on each true count."""
        counts = check_counts(counts, self.domain_size)
        n = int(counts.sum())
        return Tally(counts + rng.binomial(n, self.q, self.domain_size), n, self.parameters)

    def contributions(self, reports: Reports) -> NDArray[np.int64]:
        """The reports themselves, int64[n, domain_size]."""
        return np.asarray(reports).astype(np.int64)

    def server_operations(self, reports: int, values: int) -> float:
        """Every report has a number for each value."""
        return float(reports * self.domain_size + values)

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of a count, in devices; the same for every count."""
        return math.sqrt(reports * self.q * (1 - self.q))

    def _private(self, q: float) -> bool:
        noise = binomial_noise(self.honest_reports, q)
        return noise.delta(self.central_epsilon, self.neighbours) <= self.central_delta
