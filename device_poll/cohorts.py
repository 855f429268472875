"""Who is asked when: opt-in, disjoint cohorts over rounds, availability.

Each device answers at most once in a run and spends its epsilon once. Splitting one device's budget over T polls would
cost far more accuracy than asking T disjoint cohorts once each (docs/polling.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_poll.population import PopulationError
from privacy.randomness import Stage, generator


@dataclass(frozen=True, kw_only=True)
class Participation:
    """`opt_in`: share of devices whose owner agreed; `availability`: share of a cohort that is reachable in its round;
    `cohort_size`: devices asked per round (None: all opted-in devices, divided evenly over the rounds).
    """

    opt_in: float = 1.0
    availability: float = 1.0
    cohort_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("opt_in", "availability"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise PopulationError(f"participation.{name} is {value:g}; expected a share in (0, 1]")
        if self.cohort_size is not None and self.cohort_size < 1:
            raise PopulationError(
                f"participation.cohort_size is {self.cohort_size}; expected 1 or more devices, or null"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Cohorts:
    """The schedule of a run: `members` are the devices that opted in, `asked[r]` those asked in round r, `answering[r]`
    those of them that are reachable. All int64, ascending.
    """

    members: NDArray[np.int64]
    asked: tuple[NDArray[np.int64], ...]
    answering: tuple[NDArray[np.int64], ...]

    @property
    def opted_in(self) -> int:
        """How many devices opted in."""
        return len(self.members)

    @property
    def asked_size(self) -> int:
        """Devices asked in one round."""
        return len(self.asked[0])


def draw_cohorts(devices: int, rounds: int, participation: Participation, seed: int) -> Cohorts:
    """Disjoint cohorts for `rounds` rounds over a random order of the opted-in devices.

    Raises PopulationError if nobody opted in or the cohorts would need more devices than opted in.
    """
    rng = generator(seed, 0, Stage.COHORTS)
    opted_in = np.flatnonzero(rng.random(devices) < participation.opt_in)
    if len(opted_in) == 0:
        raise PopulationError(
            f"none of the {devices} devices opted in (participation.opt_in={participation.opt_in:g}); "
            "raise opt_in or bring more devices"
        )
    size = participation.cohort_size or len(opted_in) // rounds
    if size * rounds > len(opted_in) or size == 0:
        raise PopulationError(
            f"{rounds} rounds x cohorts of {max(size, 1)} need {rounds * max(size, 1)} devices, but {len(opted_in)} of "
            f"{devices} opted in; each device answers once per run, so lower rounds or participation.cohort_size"
        )
    order = rng.permutation(opted_in)
    asked = tuple(np.sort(order[r * size : (r + 1) * size]) for r in range(rounds))
    # Place 0 of the streams is the opt-in's: round r's availability draws from r + 1, or the two would be linked.
    answering = tuple(
        cohort[generator(seed, r + 1, Stage.COHORTS).random(size) < participation.availability]
        if participation.availability < 1
        else cohort
        for r, cohort in enumerate(asked)
    )
    return Cohorts(members=opted_in, asked=asked, answering=answering)
