"""Who adds the noise, and what the server sees: how the reports of a round become a tally under each trust model.

    trust = ShuffledTrust(delta=1e-6)
    mechanism = trust.mechanism(local, values=41, minimum_batch=500)     # what the devices run
    collected = trust.collect(batches, mechanism, "mail", 500, rng)      # tally, estimate, bits sent
    trust.claim(mechanism, reports=800)                                  # what the server learns of one device

The round asks all models the same questions; nothing else in the code path knows which model it is. Each round polls
its own devices (disjoint cohorts), so a claim about one round is a claim about the run. Neighbours: one device's data
is replaced; who reports stays the same. `SecureAggregation` has a file of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from aggregate.ingest import ingest
from privacy.accounting import amplify_by_shuffling
from privacy.central_noise import GaussianBaseline
from privacy.gaussian import gaussian_epsilon, gaussian_sigma
from privacy.mechanism import Estimate, Mechanism, Parameters, ReportBatch, Tally
from privacy.no_privacy import NoPrivacy
from privacy.units import Neighbours, check_delta, check_whole

Local = Callable[[int], Mechanism]
"""Makes the configured local randomizer for a number of values."""

NEIGHBOURS = Neighbours.REPLACEMENT
_MOVED_VOTE = math.sqrt(2)  # a vote leaves one count and enters another: how far the counts move, Euclidean


@dataclass(frozen=True, kw_only=True, eq=False)
class Collected:
    """What the server holds after a poll. `report_bits`: what one device sent, shares included."""

    tally: Tally
    estimate: Estimate
    report_bits: int


@dataclass(frozen=True, kw_only=True)
class Words:
    """A trust model in the statement's words: who adds the noise, what the server sees, where the noise comes from in a
    simulation, what floating point can give away, and what has to hold beyond devices that run the mechanism.
    `seeded`: the seed repeats the noise.
    """

    noise_from: str
    server_sees: str
    randomness: str
    floating_point: str
    assumes: tuple[str, ...] = ()
    seeded: bool = True


AES = "AES-256-CTR keyed from the seed, repeatable"
NO_FLOATS = "none: the noise is made of 64-bit words that are compared with whole numbers"
COLLUDING = "at most {} devices of a cohort are controlled by an attacker"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What all that the server sees of a run reveals about one device: (epsilon, delta), delta 0 for pure privacy."""

    epsilon: float
    delta: float


class Trust(Protocol):
    """A trust model; `baseline` ones are for comparison and never for a release."""

    name: ClassVar[str]
    baseline: ClassVar[bool]

    @property
    def words(self) -> Words:
        """The model in words."""

    @property
    def colluding(self) -> int:
        """Devices of a cohort that an attacker may control."""

    def mechanism(self, local: Local, values: int, minimum_batch: int) -> Mechanism:
        """What the devices run. Raises ValueError if the model cannot work with so few reports."""

    def collect(
        self,
        batches: Iterable[ReportBatch],
        mechanism: Mechanism,
        use_case: str,
        minimum_batch: int,
        rng: np.random.Generator,
    ) -> Collected:
        """From reports to released counts. Raises BatchError if too few arrive or the batch cannot be trusted."""

    def parameters(self, mechanism: Mechanism) -> Parameters:
        """What the released counts rest on: of the devices' mechanism, or of the noise on their sum."""

    def standard_error(self, mechanism: Mechanism, reports: int) -> float:
        """Standard error of a small released count, in devices."""

    def claim(self, mechanism: Mechanism, reports: int) -> Claim:
        """The guarantee when so many devices report. Raises ValueError for too few reports to hide in."""

    def cost(self, mechanism: Mechanism) -> float:
        """The epsilon that a ledger debits a device for one report."""


class _NoisyReports:
    """What the trust models share in which every report is private on its own."""

    def mechanism(self, local: Local, values: int, minimum_batch: int) -> Mechanism:
        """The local randomizer."""
        return local(values)

    def collect(
        self,
        batches: Iterable[ReportBatch],
        mechanism: Mechanism,
        use_case: str,
        minimum_batch: int,
        rng: np.random.Generator,
    ) -> Collected:
        """Ingest, tally, estimate."""
        tally = mechanism.tally(ingest(batches, minimum_batch, rng)[use_case])
        return Collected(tally=tally, estimate=mechanism.estimate(tally), report_bits=mechanism.report_bits)

    def parameters(self, mechanism: Mechanism) -> Parameters:
        """The mechanism's own."""
        return mechanism.parameters

    def standard_error(self, mechanism: Mechanism, reports: int) -> float:
        """The mechanism's own."""
        return mechanism.standard_error(reports)

    def cost(self, mechanism: Mechanism) -> float:
        """The local epsilon of a report."""
        return mechanism.epsilon


@dataclass(frozen=True, kw_only=True)
class LocalTrust(_NoisyReports):
    """Each device adds the noise; nobody is trusted."""

    name: ClassVar[str] = "local"
    baseline: ClassVar[bool] = False
    words: ClassVar[Words] = Words(
        noise_from="each device", server_sees="each noisy report", randomness=AES, floating_point=NO_FLOATS
    )
    colluding: ClassVar[int] = 0

    def claim(self, mechanism: Mechanism, reports: int) -> Claim:
        """The local epsilon, whatever the number of reports."""
        return Claim(epsilon=mechanism.epsilon, delta=0.0)


@dataclass(frozen=True, kw_only=True)
class ShuffledTrust(_NoisyReports):
    """As LocalTrust, and a shuffler between devices and server is trusted with the order of reports.

    The shuffler is `aggregate.ingest`, which here runs under one roof with the server: the claim is for a deployment in
    which it does not. `colluding` devices are taken off the reports that a device hides in. Raises ValueError for delta
    outside (0, 1) or colluding < 0.
    """

    delta: float
    colluding: int = 0

    name: ClassVar[str] = "shuffled"
    baseline: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_delta(self.delta)
        check_colluding(self.colluding)

    @property
    def words(self) -> Words:
        """The model in words."""
        return Words(
            noise_from="each device",
            server_sees="the noisy reports of a round in random order, without senders",
            randomness=AES,
            floating_point=NO_FLOATS,
            assumes=(
                "the shuffler drops senders, arrival times and order, and does not work together with the server",
                COLLUDING.format(self.colluding),
            ),
        )

    def mechanism(self, local: Local, values: int, minimum_batch: int) -> Mechanism:
        """The local randomizer, if a minimum batch hides anybody."""
        check_honest(minimum_batch, self.colluding)
        return super().mechanism(local, values, minimum_batch)

    def claim(self, mechanism: Mechanism, reports: int) -> Claim:
        """Amplification by shuffling among the honest reports; never above the local epsilon."""
        return Claim(
            epsilon=amplify_by_shuffling(mechanism, reports - self.colluding, self.delta),
            delta=self.delta,
        )


@dataclass(frozen=True, kw_only=True)
class CentralBaseline:
    """BASELINE, not for release: the server sees raw votes and adds Gaussian noise to their histogram.

    This is Private Evolution (Lin et al. 2024). The tally that is kept is the noisy one, rounded. Raises ValueError for
    epsilon <= 0 or delta outside (0, 1).
    """

    epsilon: float
    delta: float

    name: ClassVar[str] = "central"
    baseline: ClassVar[bool] = True
    colluding: ClassVar[int] = 0
    words: ClassVar[Words] = Words(
        noise_from="the server, trusted with raw votes (baseline),",
        server_sees="each device's true answer (baseline)",
        randomness="numpy's PCG64 from the seed, no cryptographic source",
        floating_point="continuous noise in floats, whose last bits can give a vote away (Mironov 2012)",
        assumes=(
            "the server forgets the raw votes and releases nothing but noisy counts",
            "nobody who can read the server's memory or network is curious",
        ),
    )

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_delta(self.delta)

    @cached_property
    def noise(self) -> GaussianBaseline:
        """The least Gaussian noise for this (epsilon, delta)."""
        return GaussianBaseline(sigma=gaussian_sigma(self.epsilon, delta=self.delta, sensitivity=_MOVED_VOTE))

    def mechanism(self, local: Local, values: int, minimum_batch: int) -> Mechanism:
        """Raw votes."""
        check_honest(minimum_batch, 0)
        return NoPrivacy(domain_size=values)

    def collect(
        self,
        batches: Iterable[ReportBatch],
        mechanism: Mechanism,
        use_case: str,
        minimum_batch: int,
        rng: np.random.Generator,
    ) -> Collected:
        """Count raw votes, add noise, keep only what has noise on it."""
        raw = mechanism.tally(ingest(batches, minimum_batch, rng)[use_case])
        estimate = self.noise.estimate(raw, rng)
        kept = Tally(np.rint(estimate.counts).astype(np.int64), raw.reports, self.parameters(mechanism))
        return Collected(tally=kept, estimate=estimate, report_bits=mechanism.report_bits)

    def parameters(self, mechanism: Mechanism) -> Parameters:
        """Of the Gaussian noise."""
        return {"mechanism": self.noise.name, "sigma": self.noise.sigma, "domain_size": mechanism.domain_size}

    def standard_error(self, mechanism: Mechanism, reports: int) -> float:
        """The noise's standard deviation."""
        return self.noise.sigma

    def claim(self, mechanism: Mechanism, reports: int) -> Claim:
        """Exact Gaussian accounting of one round."""
        check_honest(reports, 0)
        found = gaussian_epsilon(self.noise.sigma, delta=self.delta, sensitivity=_MOVED_VOTE)
        return Claim(epsilon=min(self.epsilon, found), delta=self.delta)

    def cost(self, mechanism: Mechanism) -> float:
        """The epsilon of the noisy histogram."""
        return self.epsilon


def check_epsilon(epsilon: float) -> None:
    """Raise ValueError unless epsilon is a finite number > 0."""
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon!r}; expected a number above 0, the privacy budget of a device in a run")


def check_colluding(colluding: int) -> None:
    """Raise ValueError unless colluding is a whole number >= 0."""
    check_whole("trust.colluding", colluding, 0, "devices of a cohort that an attacker may control")


def check_honest(reports: int, colluding: int) -> int:
    """How many reports hide a device. Raises ValueError for fewer than 2."""
    if reports - colluding < 2:
        raise ValueError(
            f"{reports} reports with {colluding} colluding devices hide nobody; expected at least {colluding + 2}: "
            "raise minimum_batch and ask more devices"
        )
    return reports - colluding
