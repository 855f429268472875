"""The trust model in which no server sees a report: two aggregators, additive shares, sums alone.

    trust = SecureAggregation(epsilon=1.0, delta=1e-6)
    mechanism = trust.mechanism(local, values=41, minimum_batch=500)
    ask = trust.ask(use_case="mail", round=0, mechanism=mechanism, needs=slate, minimum_batch=500, rng=rng)
    counts = trust.collect(fleet.answer([ask]), [ask], 500, {"mail": rng})      # from one sum over at least 500 reports

Devices split their reports (device_poll/sealing.py). Who may be curious, and about what: privacy/secret_sharing.py.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from aggregate.intake import BatchError, Sum
from aggregate.trust import (
    AES,
    COLLUDING,
    NEIGHBOURS,
    NO_FLOATS,
    Claim,
    Collected,
    Local,
    TrustModel,
    Words,
    asked_of,
    check_colluding,
    check_epsilon,
    check_honest,
    check_per_device,
)
from privacy import secret_sharing
from privacy.accounting import group_delta, group_epsilon
from privacy.central_noise import AggregatorNoise
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.mechanism import Binomials, Mechanism, Parameters, Reports, Tally
from privacy.no_privacy import NoPrivacy
from privacy.poll import Ask, Needs
from privacy.secret_shares import LARGEST_WIDTH
from privacy.secret_sharing import Aggregator, Batch, Share, recombine
from privacy.thresholds import check_domain
from privacy.units import check_delta


class SharedSum:
    """Two aggregators, each of which sees one share of every report; here both run in this process.

    `noise` gives one aggregator's own noise, int64[width], where they add any.
    """

    def __init__(self, batch: Batch, use_case: str, noise: Callable[[int], NDArray[np.int64]] | None) -> None:
        self._batch, self._use_case, self._noise = batch, use_case, noise
        self._aggregators = Aggregator(batch, party=0), Aggregator(batch, party=1)

    @property
    def reports(self) -> int:
        """Reports of which both halves have arrived."""
        return min(aggregator.reports for aggregator in self._aggregators)

    @property
    def refused(self) -> None:
        """A share is uniform whatever the report is: nobody can tell."""

    def add(self, reports: Reports | Share) -> None:
        """Hand a share to its aggregator. Raises BatchError for whole reports, which no server may see."""
        if not isinstance(reports, Share):
            raise BatchError("whole reports arrived where shares were expected; devices and server disagree on trust")
        with self._explained():
            self._aggregators[reports.party].receive(reports)

    def close(self) -> Tally:
        """The sum of both aggregators' sums."""
        with self._explained():
            noises = [None if self._noise is None else self._noise(self._batch.width) for _ in self._aggregators]
            sums = [one.close(noise) for one, noise in zip(self._aggregators, noises, strict=True)]
            return recombine(self._batch, *sums)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except secret_sharing.BatchError as error:
            raise BatchError(f"use case {self._use_case!r}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class SecureAggregation(TrustModel):
    """Every report is split into two additive shares; two aggregators sum them; only sums are recombined.

    `noise_by` devices: each device adds so little that only the sum over a minimum batch is (epsilon, delta)-private;
    `noise_by` aggregators: each adds discrete Gaussian noise, and the guarantee rests on the other one's. `colluding`
    devices are not counted on for noise. Both aggregators run in one process here.
    Raises ValueError for epsilon <= 0, delta outside (0, 1), colluding < 0, another noise_by, or if opendp is missing.
    """

    epsilon: float
    delta: float
    noise_by: str = "devices"
    colluding: int = 0

    name: ClassVar[str] = "secure_aggregation"
    baseline: ClassVar[bool] = False
    sees_reports: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_delta(self.delta)
        check_colluding(self.colluding)
        if self.noise_by not in ("devices", "aggregators"):
            raise ValueError(f"trust.noise_by is {self.noise_by!r}; expected devices or aggregators")
        if self.noise_by == "aggregators":
            if importlib.util.find_spec("opendp") is None:
                raise ValueError(
                    "trust.noise_by is aggregators, which needs the package opendp; install it with: pip install "
                    "'synthpoll[central]', or use trust.noise_by=devices"
                )
            _ = self.noise  # raises now if no noise is enough

    @property
    def words(self) -> Words:
        """The model in words."""
        aggregators = self.noise_by == "aggregators"
        return Words(
            noise_from="each of two aggregators" if aggregators else "each device (too little on its own)",
            server_sees="only the sum over all reports of a poll; each aggregator also uniformly random shares",
            randomness=(
                "the operating system's, through opendp, so a round that was killed could be played again only with "
                "another sum"
                if aggregators
                else AES
            ),
            floating_point=(
                "none: opendp samples the discrete Gaussian exactly in whole numbers" if aggregators else NO_FLOATS
            ),
            assumes=(
                "the two aggregators follow the protocol and do not work together",
                "devices share what the mechanism made: no proof of it is sent, so one device can shift the sums at "
                "will, as far as so many reports could add up to it",
                COLLUDING.format(self.colluding),
            ),
            repeats=not aggregators,
        )

    @property
    def exact(self) -> bool:
        """Not where the aggregators add the noise: it is in the sums that they close."""
        return self.noise_by == "devices"

    @cached_property
    def noise(self) -> AggregatorNoise:
        """The aggregators' noise, where they add it."""
        return AggregatorNoise.calibrate(epsilon=self.epsilon, delta=self.delta, neighbours=NEIGHBOURS)

    def mechanism(self, local: Local, values: int, minimum_batch: int, per_device: int = 1) -> Mechanism:
        """A unary encoding that is private in sum alone, or raw votes, which travel as shares only."""
        honest = check_honest(minimum_batch, self.colluding * per_device)
        if self.noise_by == "aggregators":
            if per_device > 1:
                raise ValueError(
                    f"a device may send {per_device} reports in this run, but under trust.noise_by=aggregators it can "
                    "send one; use trust.noise_by=devices"
                )
            check_domain(values, LARGEST_WIDTH, "trust=secure_aggregation")
            return NoPrivacy(domain_size=values)
        share = group_delta(self.epsilon, per_device, self.delta)
        if not share > 0:
            raise ValueError(
                f"a device may send {per_device} reports in this run, too many to hide in one sum, each at epsilon "
                f"{self.epsilon:g}, at delta {self.delta:g} for all of them; send fewer, lower epsilon, or use "
                "trust=local"
            )
        return DistributedUnaryEncoding(
            domain_size=values,
            central_epsilon=self.epsilon,
            central_delta=share,
            honest_reports=honest,
        )

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
        """A question whose reports travel as shares. Raises ValueError for more values than shares can carry."""
        batch = Batch.of(
            mechanism,
            minimum_reports=minimum_batch,
            batch_id=rng.bytes(16),
            highest=mechanism.largest_contribution,
            largest_noise=self.noise.largest if self.noise_by == "aggregators" else 0,
        )
        return Ask(use_case=use_case, round=round, mechanism=mechanism, needs=needs, days=days, shares=batch)

    def open(self, ask: Ask, rng: np.random.Generator) -> Sum:
        """Two aggregators. Raises ValueError for an ask of another trust model."""
        if ask.shares is None:
            raise ValueError(f"the ask of {ask.use_case!r} has no batch of shares; make it with SecureAggregation.ask")
        return SharedSum(ask.shares, ask.use_case, self.noise.draw if self.noise_by == "aggregators" else None)

    def conclude(self, ask: Ask, tally: Tally, rng: np.random.Generator) -> Collected:
        """The estimate under the devices' coins, or under the aggregators' noise, which is in the sum already."""
        if self.noise_by == "devices":
            return super().conclude(ask, tally, rng)
        named = Tally(tally.sums, tally.reports, self.parameters(ask.mechanism))
        return Collected(tally=named, estimate=asked_of(self.noise.estimate(tally), ask))

    def parameters(self, mechanism: Mechanism) -> Parameters:
        """Of the devices' coins, or of the aggregators' noise."""
        if self.noise_by == "devices":
            return super().parameters(mechanism)
        return {"mechanism": self.noise.name, "scale": self.noise.scale, "domain_size": mechanism.domain_size}

    def standard_error(self, mechanism: Mechanism, reports: int, count: float = 0.0) -> float:
        """Of the devices' coins, or of both aggregators' noise."""
        if self.noise_by == "devices":
            return super().standard_error(mechanism, reports, count)
        return self.noise.scale * math.sqrt(2)

    def support_law(self, mechanism: Mechanism, reports: int, count: int) -> Binomials:
        """Of the devices' coins. Raises ValueError for the aggregators' noise, which is a discrete Gaussian."""
        if self.noise_by == "aggregators":
            raise ValueError(
                "under trust.noise_by=aggregators the noise on a count is a discrete Gaussian, no sum of two "
                "binomials; use trust.noise_by=devices"
            )
        return super().support_law(mechanism, reports, count)

    def claim(self, mechanism: Mechanism, reports: int, per_device: int = 1) -> Claim:
        """From the coins of the honest reports, or from one aggregator's noise, at most what was asked for.

        Several reports of one device are in one sum, so they count as a group (privacy.accounting).
        """
        check_per_device(per_device)
        honest = check_honest(reports, self.colluding * per_device)
        devices = self.noise_by == "devices"
        noise = cast(DistributedUnaryEncoding, mechanism).noise(honest) if devices else self.noise.known_to_one
        found = group_epsilon(lambda delta: float(noise.epsilon(delta, NEIGHBOURS)), per_device, self.delta)
        # What the noise was made for: the search for a group's epsilon stops a little above it.
        asked = group_delta(self.epsilon, per_device, self.delta)
        if noise.delta(self.epsilon, NEIGHBOURS) <= asked:
            found = min(per_device * self.epsilon, found)
        if math.isinf(found):
            raise ValueError(
                f"{reports} reports, up to {per_device} of one device, give no guarantee at delta {self.delta:g}: ask "
                "more devices or raise minimum_batch"
            )
        return Claim(epsilon=found, delta=self.delta)

    def cost(self, mechanism: Mechanism, per_device: int = 1) -> float:
        """The epsilon of the sum, which a minimum batch's noise was made for, however many reports a device sends."""
        return self.epsilon
