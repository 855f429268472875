"""Who adds the noise, and what the server sees: how the reports of a poll become counts under each trust model.

    trust = ShuffledTrust(delta=1e-6)
    mechanism = trust.mechanism(local, values=41, minimum_batch=500)     # what the devices run
    ask = trust.ask(use_case="mail", round=0, mechanism=mechanism, needs=slate, minimum_batch=500, rng=rng)
    collected = trust.collect(fleet.answer([ask]), [ask], 500, {"mail": rng})["mail"]       # tally, estimate
    trust.claim(mechanism, reports=800)                                  # what the server learns of one device

Every workload asks all models the same questions; nothing else in the code path knows which model it is. Devices of
different polls are different ones (disjoint cohorts, keys of one segment each), so a claim about one poll is a claim
about the run; where a device sends several reports, `per_device` says how many. Neighbours: one device's data is
replaced; who reports stays the same. `SecureAggregation` has a file of its own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import ClassVar, Protocol

import numpy as np

from aggregate.intake import PermutedSum, Sum, intake
from privacy.accounting import amplify_by_shuffling, group_epsilon
from privacy.central_noise import GaussianBaseline
from privacy.gaussian import gaussian_epsilon, gaussian_sigma
from privacy.mechanism import Binomials, Estimate, Mechanism, Parameters, Tally
from privacy.no_privacy import NoPrivacy
from privacy.poll import Ask, Needs, ReportBatch
from privacy.units import Neighbours, check_delta, check_whole

Local = Callable[[int], Mechanism]
"""Makes the configured local randomizer for a number of values."""

NEIGHBOURS = Neighbours.REPLACEMENT
_MOVED_VOTE = math.sqrt(2)  # a vote leaves one count and enters another: how far the counts move, Euclidean


@dataclass(frozen=True, kw_only=True, eq=False)
class Collected:
    """What the server holds of one use case after a poll: a tally that may be kept, and the counts of what is asked.

    `total`: what the counts of all values add up to, where that is not the number of reports.
    `refused`: how many reports it refused, which are not in the tally; None: it saw no report of which it could tell.
    """

    tally: Tally
    estimate: Estimate
    total: float | None = None
    refused: int | None = None


Rngs = Mapping[str, np.random.Generator]
"""By use case, so that which use cases are collected together changes no result."""

Counts = dict[str, Collected]
"""What was collected, by use case."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """A trust model in the statement's words: who adds the noise, what the server sees, what the noise is drawn with,
    what floating point can give away, and what has to hold beyond devices that run the mechanism. `repeats`: the key of
    the run's noise repeats it, so a poll that was killed can be played again.
    """

    noise_from: str
    server_sees: str
    randomness: str
    floating_point: str
    assumes: tuple[str, ...] = ()
    repeats: bool = True


AES = "AES-256-CTR"
NO_FLOATS = "none: the noise is made of 64-bit words that are compared with whole numbers"
COLLUDING = "at most {} devices of a cohort are controlled by an attacker"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What all that the server sees of a run reveals about one device: (epsilon, delta), delta 0 for pure privacy."""

    epsilon: float
    delta: float


class Trust(Protocol):
    """A trust model; `baseline` ones are for comparison and never for a release. `sees_reports`: somebody on the server
    sees single reports, and can refuse one."""

    name: ClassVar[str]
    baseline: ClassVar[bool]
    sees_reports: ClassVar[bool]

    @property
    def words(self) -> Words:
        """The model in words."""

    @property
    def exact(self) -> bool:
        """Whether `conclude` takes a tally that was drawn from its law without any report."""

    @property
    def colluding(self) -> int:
        """Devices of a cohort that an attacker may control."""

    def mechanism(self, local: Local, values: int, minimum_batch: int, per_device: int = 1) -> Mechanism:
        """What the devices run, at most `per_device` reports each.

        Raises ValueError if the model cannot work with so few reports, or such values.
        """

    def ask(
        self,
        *,
        use_case: str,
        round: int,
        mechanism: Mechanism,
        needs: Needs,
        minimum_batch: int,
        rng: np.random.Generator,
        days: int = 1,
    ) -> Ask:
        """The question to devices, which says how their reports travel. `rng` names the batch where one is named."""

    def collect(self, batches: Iterable[ReportBatch], asks: Sequence[Ask], minimum_batch: int, rngs: Rngs) -> Counts:
        """From reports to counts, by use case. Raises BatchError if too few arrive or a batch cannot be trusted."""

    def conclude(self, ask: Ask, tally: Tally, rng: np.random.Generator) -> Collected:
        """From a tally of all reports to what the server holds."""

    def parameters(self, mechanism: Mechanism) -> Parameters:
        """What the released counts rest on: of the devices' mechanism, or of the noise on their sum."""

    def standard_error(self, mechanism: Mechanism, reports: int, count: float = 0.0) -> float:
        """Standard error of a released count, in devices, when `count` of the `reports` hold the value."""

    @property
    def delta(self) -> float:
        """That of what is claimed; 0 for pure privacy."""

    def support_law(self, mechanism: Mechanism, reports: int, count: int) -> Binomials:
        """The law of the tally of a value that `count` of the `reports` hold, as a sum of two binomials.

        Raises ValueError where it is none.
        """

    def claim(self, mechanism: Mechanism, reports: int, per_device: int = 1) -> Claim:
        """The guarantee when so many reports come, at most `per_device` of one device.

        Raises ValueError for too few reports to hide in.
        """

    def largest_influence(self, mechanism: Mechanism) -> float:
        """The most that one report moves a released count, in devices, if the device that sends it lies."""

    def cost(self, mechanism: Mechanism, per_device: int = 1) -> float:
        """The epsilon that a ledger debits a device for one report of at most `per_device`: so much that what all of
        them are debited is no less than what is claimed of all of them.
        """


class TrustModel:
    """What the trust models share: reports travel as they are, are added up at the front door, and are estimated."""

    sees_reports: ClassVar[bool] = True

    @property
    def exact(self) -> bool:
        """A tally is a tally, however it was made."""
        return True

    def mechanism(self, local: Local, values: int, minimum_batch: int, per_device: int = 1) -> Mechanism:
        """The local randomizer."""
        return local(values)

    def ask(
        self,
        *,
        use_case: str,
        round: int,
        mechanism: Mechanism,
        needs: Needs,
        minimum_batch: int,
        rng: np.random.Generator,
        days: int = 1,
    ) -> Ask:
        """A question whose reports travel as they are."""
        return Ask(use_case=use_case, round=round, mechanism=mechanism, needs=needs, days=days)

    def open(self, ask: Ask, rng: np.random.Generator) -> Sum:
        """What adds the reports up."""
        return PermutedSum(ask, rng)

    def collect(self, batches: Iterable[ReportBatch], asks: Sequence[Ask], minimum_batch: int, rngs: Rngs) -> Counts:
        """Through the front door, then `conclude`."""
        keys = {ask.use_case: ask for ask in asks}
        sums = {key: self.open(ask, rngs[key]) for key, ask in keys.items()}
        tallies = intake(batches, sums, minimum_batch)
        concluded = {key: self.conclude(ask, tallies[key], rngs[key]) for key, ask in keys.items()}
        return {key: replace(found, refused=sums[key].refused) for key, found in concluded.items()}

    def conclude(self, ask: Ask, tally: Tally, rng: np.random.Generator) -> Collected:
        """The tally and its mechanism's estimate."""
        return Collected(tally=tally, estimate=ask.estimate(tally))

    def parameters(self, mechanism: Mechanism) -> Parameters:
        """The mechanism's own."""
        return mechanism.parameters

    def standard_error(self, mechanism: Mechanism, reports: int, count: float = 0.0) -> float:
        """The mechanism's own."""
        return mechanism.standard_error(reports, count)

    def support_law(self, mechanism: Mechanism, reports: int, count: int) -> Binomials:
        """The mechanism's own. Raises ValueError for one that has none."""
        law = mechanism.support_law(reports, count)
        if law is None:
            raise ValueError(
                f"the tally of {mechanism.name} is no sum of two binomials, as exact bounds need; use "
                "mechanism=randomized_response"
            )
        return law

    def largest_influence(self, mechanism: Mechanism) -> float:
        """The mechanism's own, if the front door can refuse what is beyond it; else infinite: a share may hold
        anything, and no proof travels with it."""
        return mechanism.largest_influence if self.sees_reports else math.inf

    def cost(self, mechanism: Mechanism, per_device: int = 1) -> float:
        """The local epsilon of a report."""
        return mechanism.epsilon


@dataclass(frozen=True, kw_only=True)
class LocalTrust(TrustModel):
    """Each device adds the noise; nobody is trusted."""

    name: ClassVar[str] = "local"
    baseline: ClassVar[bool] = False
    words: ClassVar[Words] = Words(
        noise_from="each device", server_sees="each noisy report", randomness=AES, floating_point=NO_FLOATS
    )
    colluding: ClassVar[int] = 0
    delta: ClassVar[float] = 0.0

    def claim(self, mechanism: Mechanism, reports: int, per_device: int = 1) -> Claim:
        """The local epsilon of all of a device's reports, however many others there are."""
        check_per_device(per_device)
        return Claim(epsilon=per_device * mechanism.epsilon, delta=0.0)


@dataclass(frozen=True, kw_only=True)
class ShuffledTrust(TrustModel):
    """As LocalTrust, and a shuffler between devices and server is trusted with the order of reports.

    The shuffler is `aggregate.intake`, which here runs under one roof with the server: the claim is for a deployment in
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
            server_sees="the noisy reports of a poll in random order, without senders",
            randomness=AES,
            floating_point=NO_FLOATS,
            assumes=(
                "the shuffler drops senders, arrival times and order, and does not work together with the server",
                COLLUDING.format(self.colluding),
            ),
        )

    def mechanism(self, local: Local, values: int, minimum_batch: int, per_device: int = 1) -> Mechanism:
        """The local randomizer, if a minimum batch hides anybody."""
        check_honest(minimum_batch, self.colluding * per_device)
        return super().mechanism(local, values, minimum_batch)

    def claim(self, mechanism: Mechanism, reports: int, per_device: int = 1) -> Claim:
        """Amplification by shuffling among the honest reports; never above the local epsilon.

        Several reports of one device may be in one shuffle, so they count as a group (privacy.accounting).
        """
        check_per_device(per_device)
        epsilon = _shuffled(mechanism, reports - self.colluding * per_device, per_device, self.delta)
        return Claim(epsilon=min(epsilon, per_device * mechanism.epsilon), delta=self.delta)


@lru_cache(maxsize=256)
def _shuffled(mechanism: Mechanism, honest: int, per_device: int, delta: float) -> float:
    """Takes up to a second, and every statement of a run asks again."""
    return group_epsilon(lambda share: amplify_by_shuffling(mechanism, honest, share), per_device, delta)


@dataclass(frozen=True, kw_only=True)
class CentralBaseline(TrustModel):
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
        randomness="numpy's PCG64, no cryptographic source",
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

    def mechanism(self, local: Local, values: int, minimum_batch: int, per_device: int = 1) -> Mechanism:
        """Raw votes."""
        check_honest(minimum_batch, 0)
        return NoPrivacy(domain_size=values)

    def conclude(self, ask: Ask, tally: Tally, rng: np.random.Generator) -> Collected:
        """Add noise to the raw votes, and keep only what has noise on it.

        The noise is bound to the votes: two sums that share noise would tell exactly in what they differ.
        """
        votes = hashlib.sha256(np.ascontiguousarray(tally.sums).data).digest()
        own = np.random.default_rng(np.frombuffer(rng.bytes(32) + votes, dtype="<u4"))
        estimate = self.noise.estimate(tally, own)
        kept = Tally(np.rint(estimate.counts).astype(np.int64), tally.reports, self.parameters(ask.mechanism))
        return Collected(tally=kept, estimate=asked_of(estimate, ask))

    def parameters(self, mechanism: Mechanism) -> Parameters:
        """Of the Gaussian noise."""
        return {"mechanism": self.noise.name, "sigma": self.noise.sigma, "domain_size": mechanism.domain_size}

    def standard_error(self, mechanism: Mechanism, reports: int, count: float = 0.0) -> float:
        """The noise's standard deviation."""
        return self.noise.sigma

    def support_law(self, mechanism: Mechanism, reports: int, count: int) -> Binomials:
        """None: the noise is Gaussian."""
        raise ValueError(
            "under trust=central the noise on a count is Gaussian, no sum of two binomials; use trust=local"
        )

    def claim(self, mechanism: Mechanism, reports: int, per_device: int = 1) -> Claim:
        """Exact Gaussian accounting of what is released; all reports of a device move the counts together."""
        check_per_device(per_device)
        check_honest(reports, 0)
        moved = per_device * _MOVED_VOTE
        found = gaussian_epsilon(self.noise.sigma, delta=self.delta, sensitivity=moved)
        return Claim(epsilon=min(self.epsilon, found) if per_device == 1 else found, delta=self.delta)

    def cost(self, mechanism: Mechanism, per_device: int = 1) -> float:
        """The epsilon of the noisy histogram, and more where several reports move it together."""
        if per_device == 1:
            return self.epsilon
        return max(self.epsilon, self.claim(mechanism, 2, per_device).epsilon / per_device)


def asked_of(estimate: Estimate, ask: Ask) -> Estimate:
    """Of an estimate of all values of a histogram, those that are asked for."""
    wanted = ask.needs.asked
    if wanted is None:
        return estimate
    return estimate.take(wanted)


def check_epsilon(epsilon: float) -> None:
    """Raise ValueError unless epsilon is a finite number > 0."""
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon!r}; expected a number above 0, the privacy budget of a device in a run")


def check_colluding(colluding: int) -> None:
    """Raise ValueError unless colluding is a whole number >= 0."""
    check_whole("trust.colluding", colluding, 0, "devices of a cohort that an attacker may control")


def check_per_device(per_device: int) -> None:
    """Raise ValueError unless per_device is a whole number >= 1: a claim for no report would be epsilon 0."""
    check_whole("per_device", per_device, 1, "reports of one device")


def check_honest(reports: int, colluding: int) -> int:
    """How many reports hide a device. Raises ValueError for fewer than 2."""
    if reports - colluding < 2:
        raise ValueError(
            f"{reports} reports with {colluding} colluding devices hide nobody; expected at least {colluding + 2}: "
            "raise minimum_batch and ask more devices"
        )
    return reports - colluding
