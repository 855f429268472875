"""`synthpoll audit mechanism=...`: attack a mechanism by single reports.

MechanismAudit(mechanism=partial, domain_size=41, trials=20_000, seed=0, epsilon=4.0).run().sentence
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.audit import AuditResult, audit_mechanism
from privacy.mechanism import Mechanism, Reports
from privacy.randomness import DeviceStream, Stage
from privacy.units import check_whole


@dataclass(frozen=True, kw_only=True)
class MechanismAudit:
    """`trials` reports of each of two values. Raises ValueError for values out of range, and for a sketch."""

    mechanism: Callable[..., Mechanism]
    domain_size: int
    trials: int
    seed: int
    epsilon: float

    def __post_init__(self) -> None:
        check_whole("trials", self.trials, 4, "reports of each of the two values; thousands for a useful bound")
        check_whole("seed", self.seed, 0, "what the noise is drawn from")
        try:
            self.mechanism(domain_size=self.domain_size)
        except TypeError:
            raise ValueError(
                "mechanism takes no list of values, as its audit by single reports needs; audit a run of it: synthpoll "
                "audit RUN"
            ) from None

    def run(self) -> AuditResult:
        """Attack it: by what one report, alone, says for the first value and against the second."""
        mechanism = self.mechanism(domain_size=self.domain_size)
        values = np.array([0, 1], dtype=np.int64)

        def speaks_for_first(reports: Reports) -> NDArray[np.float64]:
            found = np.empty(len(reports))
            for i in range(len(reports)):
                counts = mechanism.estimate(mechanism.tally(reports[i : i + 1]), values).counts
                found[i] = counts[0] - counts[1]
            return found

        rng = DeviceStream.simulation(seed=self.seed, round=0, stage=Stage.PRIVATIZE, chunk=0)
        return audit_mechanism(mechanism, trials=self.trials, rng=rng, observe=speaks_for_first, score=np.asarray)
