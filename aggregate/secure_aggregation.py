"""The trust model in which no server sees a report: two aggregators, additive shares, sums alone.

    trust = SecureAggregation(epsilon=1.0, delta=1e-6)
    mechanism = trust.mechanism(local, values=41, minimum_batch=500)
    trust.collect(batches, mechanism, "mail", 500, rng).estimate         # from one sum over at least 500 reports

Who may be curious, and about what: privacy/secret_sharing.py.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from aggregate.ingest import BatchError
from aggregate.trust import (
    AES,
    COLLUDING,
    NEIGHBOURS,
    NO_FLOATS,
    Claim,
    Collected,
    Local,
    Words,
    check_colluding,
    check_epsilon,
    check_honest,
)
from privacy import secret_sharing
from privacy.central_noise import AggregatorNoise
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.mechanism import Mechanism, Parameters, ReportBatch, Tally
from privacy.no_privacy import NoPrivacy
from privacy.randomness import device_stream
from privacy.secret_sharing import Aggregator, Batch, chunks, contributions, recombine, split
from privacy.units import check_delta


@dataclass(frozen=True, kw_only=True)
class SecureAggregation:
    """Every report is split into two additive shares; two aggregators sum them; only sums are recombined.

    `noise_by` devices: each device adds so little that only the sum over a minimum batch is (epsilon, delta)-private;
    `noise_by` aggregators: each adds discrete Gaussian noise, and the guarantee rests on the other one's. `colluding`
    devices are not counted on for noise. All roles run in one process here: the split stands for the devices' half.
    Raises ValueError for epsilon <= 0, delta outside (0, 1), colluding < 0, another noise_by, or if opendp is missing.
    """

    epsilon: float
    delta: float
    noise_by: str = "devices"
    colluding: int = 0

    name: ClassVar[str] = "secure_aggregation"
    baseline: ClassVar[bool] = False

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
            server_sees="only the sum over all reports of a round; each aggregator also uniformly random shares",
            randomness=(
                "the operating system's, through opendp, so that a round that was killed and is played again releases "
                "another sum"
                if aggregators
                else AES
            ),
            floating_point=(
                "none: opendp samples the discrete Gaussian exactly in whole numbers" if aggregators else NO_FLOATS
            ),
            assumes=(
                "the two aggregators follow the protocol and do not work together",
                "devices share what the mechanism made: no proof is sent, so one device can shift the sums at will",
                COLLUDING.format(self.colluding),
            ),
            seeded=not aggregators,
        )

    @cached_property
    def noise(self) -> AggregatorNoise:
        """The aggregators' noise, where they add it."""
        return AggregatorNoise.calibrate(epsilon=self.epsilon, delta=self.delta, neighbours=NEIGHBOURS)

    def mechanism(self, local: Local, values: int, minimum_batch: int) -> Mechanism:
        """A unary encoding that is private in sum alone, or raw votes, which travel as shares only."""
        honest = check_honest(minimum_batch, self.colluding)
        if self.noise_by == "aggregators":
            return NoPrivacy(domain_size=values)
        return DistributedUnaryEncoding(
            domain_size=values, central_epsilon=self.epsilon, central_delta=self.delta, honest_reports=honest
        )

    def collect(
        self,
        batches: Iterable[ReportBatch],
        mechanism: Mechanism,
        use_case: str,
        minimum_batch: int,
        rng: np.random.Generator,
    ) -> Collected:
        """Split on behalf of the devices, sum at both aggregators, recombine."""
        stream, noisy = device_stream(rng), self.noise_by == "aggregators"
        batch = Batch.of(
            mechanism,
            minimum_reports=minimum_batch,
            batch_id=stream.bytes(16),
            highest=1 if noisy else 2,  # a vote and a coin in one count
            largest_noise=self.noise.largest if noisy else 0,
        )
        aggregators = Aggregator(batch, party=0), Aggregator(batch, party=1)
        blocks = (block for b in batches if b.use_case == use_case for block in chunks(batch, b.reports))
        try:
            for sequence, reports in enumerate(blocks):
                for share in split(batch, contributions(mechanism, reports), stream, sequence):
                    aggregators[share.party].receive(share)
            sums = [one.close(self.noise.draw(batch.width) if noisy else None) for one in aggregators]
            tally = recombine(batch, *sums)
        except secret_sharing.BatchError as error:
            raise BatchError(f"use case {use_case!r}: {error}") from None
        bits = 2 * batch.share_bits  # a share to each aggregator
        if not noisy:
            return Collected(tally=tally, estimate=mechanism.estimate(tally), report_bits=bits)
        named = Tally(tally.sums, tally.reports, self.parameters(mechanism))
        return Collected(tally=named, estimate=self.noise.estimate(tally), report_bits=bits)

    def parameters(self, mechanism: Mechanism) -> Parameters:
        """Of the devices' coins, or of the aggregators' noise."""
        if self.noise_by == "devices":
            return mechanism.parameters
        return {"mechanism": self.noise.name, "scale": self.noise.scale, "domain_size": mechanism.domain_size}

    def standard_error(self, mechanism: Mechanism, reports: int) -> float:
        """Of the devices' coins, or of both aggregators' noise."""
        return self.noise.scale * math.sqrt(2) if self.noise_by == "aggregators" else mechanism.standard_error(reports)

    def claim(self, mechanism: Mechanism, reports: int) -> Claim:
        """From the coins of the honest reports, or from one aggregator's noise, at most what was asked for."""
        honest = check_honest(reports, self.colluding)
        if isinstance(mechanism, DistributedUnaryEncoding):
            return Claim(epsilon=mechanism.central_epsilon_of(honest, self.delta), delta=self.delta)
        found = self.noise.known_to_one.epsilon(self.delta, NEIGHBOURS)
        return Claim(epsilon=min(self.epsilon, found), delta=self.delta)

    def cost(self, mechanism: Mechanism) -> float:
        """The epsilon of the sum."""
        return self.epsilon
