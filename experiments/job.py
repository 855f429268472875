"""What every job has, whatever it asks devices: who adds the noise, what a report may cost, where results go.

    job.randomizer(values=41)        # what the devices run, under the job's trust model

A job is one frozen description, made from conf/ and carried out by experiments/run.py. `experiments.refine.job` polls
about slates of synthetic texts, `experiments.count.job` about what devices hold. Every part checks its own values when
it is made, so a wrong configuration fails before any work starts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from aggregate.trust import NEIGHBOURS, LocalTrust, Trust
from experiments.trackers.tracker import NoTracker, Tracker
from privacy.budget import LARGEST_BUDGET, MICRO, Budget, Token, micro_budget, micro_epsilon
from privacy.mechanism import Mechanism
from privacy.units import Unit, check_delta

NOISE = ("auto", "system", "seeded")


@dataclass(frozen=True, kw_only=True)
class Caps:
    """What a device may spend in its lifetime, over all runs that debit its account, and in a day; None: no cap.

    Raises ValueError for a cap that is not above 0, or a daily one above the lifetime's.
    """

    lifetime: float | None = None
    daily: float | None = None

    def __post_init__(self) -> None:
        _ = self.budget

    @property
    def budget(self) -> Budget:
        """The caps as a ledger counts them. Without a daily cap the lifetime's holds for a day too."""
        lifetime = LARGEST_BUDGET if self.lifetime is None else micro_budget(self.lifetime, "caps.lifetime")
        return Budget(
            lifetime=lifetime, daily=lifetime if self.daily is None else micro_budget(self.daily, "caps.daily")
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """The part of a job that its privacy rests on, and where it puts what.

    `noise` says where the noise comes from: 'system', from the operating system, or 'seeded', repeatable, for
    simulations; 'auto' is the first where devices hold data that somebody brought. `epsilon` is what a report costs;
    `mechanism` makes the local randomizer, for a number of values where it needs one; `trust` says who adds the noise;
    `delta` is that of every central guarantee; `minimum_batch` the fewest devices whose reports the server uses.
    `caps`: what a device may spend; `ledger`: the file in which runs debit accounts of equal ids (None: one of this run
    alone, in memory); `first_day`: the simulated day on which the first poll is debited, where noise is seeded
    (else the day is the clock's). `workers` is a speed knob.

    Raises ValueError for values out of range, for a mechanism or a trust model with another epsilon than `epsilon`, for
    simulated days where noise is not seeded, and for a plan that takes more of a device than its caps.
    """

    name: str
    seed: int
    epsilon: float
    minimum_batch: int
    mechanism: Callable[..., Mechanism]
    trust: Trust = field(default_factory=LocalTrust)
    delta: float = 1e-6
    caps: Caps = field(default_factory=Caps)
    ledger: str | None = None
    first_day: int = 0
    noise: str = "auto"
    tracker: Tracker = field(default_factory=NoTracker)
    out: str | None = None
    runs: str = "runs"
    workers: int = 1

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("minimum_batch", 1), ("first_day", 0), ("workers", 1)):
            check_at_least(name, getattr(self, name), least)
        check_delta(self.delta)
        self._check_noise()
        Token(use_case=self.name, round=0, day=self.first_day + self.last_day)
        local, randomizer = self.local(self.values), self.randomizer(self.values)
        if math.isinf(local.epsilon):
            raise ValueError(
                f"mechanism is {local.name}, whose tally would be the devices' true answers; for a run to compare "
                "with, use arms=[no_privacy] in the main job"
            )
        # Under central trust models too, where it is not in force: the statement compares with it.
        check_epsilon_agrees("mechanism", local.epsilon, self.epsilon)
        check_epsilon_agrees("trust", self.trust.cost(randomizer), self.epsilon)
        if self.trust.delta not in (0.0, self.delta):
            raise ValueError(
                f"trust.delta is {self.trust.delta:g}, but delta={self.delta:g}; expected the same: set delta only"
            )
        self.caps.budget.check_plan(
            micro_epsilon(self.trust.cost(randomizer, self.reports)),
            reports_per_day=self.reports_a_day,
            reports=self.reports,
        )

    def _check_noise(self) -> None:
        if self.noise not in NOISE:
            raise ValueError(f"noise is {self.noise!r}; expected one of {', '.join(NOISE)}")
        if self.system_noise and self.first_day:
            raise ValueError(
                f"first_day is {self.first_day}, but with noise={self.noise} a poll is debited on the clock's day; "
                "leave first_day out, or simulate with noise=seeded"
            )

    @property
    def brought(self) -> bool:
        """Whether devices hold data that somebody brought, and none that was made up."""
        return False

    @property
    def system_noise(self) -> bool:
        """Whether the noise comes from the operating system."""
        return self.noise == "system" or (self.noise == "auto" and self.brought)

    @property
    def simulated_day(self) -> int | None:
        """The day of the first poll where days are simulated; None: a poll is on the day of the clock."""
        return None if self.system_noise else self.first_day

    @property
    def values(self) -> int:
        """How many values a report is about, as far as it is known before anything is read."""
        return 2

    @property
    def reports_a_day(self) -> int:
        """The most reports that a device sends in a day."""
        return 1

    @property
    def reports(self) -> int:
        """The most reports that a device sends in the run."""
        return 1

    @property
    def takes(self) -> float:
        """What the run takes of a device that sends all of its reports, in epsilons, as a ledger counts it."""
        return self.reports * micro_epsilon(self.trust.cost(self.randomizer(self.values), self.reports)) / MICRO

    @property
    def least_reports(self) -> int:
        """The fewest reports of a poll that are certain to come from `minimum_batch` devices."""
        return self.minimum_batch * self.reports

    @property
    def exact(self) -> bool:
        """Whether tallies are drawn from their exact law, without a single report."""
        return False

    @property
    def neighbours(self) -> str:
        """Which change of the devices' data the claim protects, in words."""
        return NEIGHBOURS.of(Unit.DEVICE)

    @property
    def last_day(self) -> int:
        """The day of the last poll, counted from `first_day`."""
        return 0

    def check(self) -> None:
        """Whatever can fail before a run folder exists. Raises the parts' own errors."""
        self.tracker.check()

    def local(self, values: int) -> Mechanism:
        """The configured local randomizer for a number of values. Raises ValueError if it cannot be made."""
        makes = self.mechanism.func if isinstance(self.mechanism, partial) else self.mechanism
        sized = not dataclasses.is_dataclass(makes) or "domain_size" in {
            each.name for each in dataclasses.fields(makes)
        }
        try:
            return self.mechanism(**({"domain_size": values} if sized else {}))
        except TypeError as error:
            raise ValueError(f"mechanism cannot be made: {error}") from None

    def check_trust(self, trust: Trust, mechanism: Mechanism) -> None:
        """Raise ValueError if the job cannot decide on what this trust model collects with this mechanism."""

    def randomizer(self, values: int) -> Mechanism:
        """What the devices run, under the trust model."""
        return self.trust.mechanism(self.local, values, self.least_reports, self.reports)


def check_epsilon_agrees(part: str, epsilon: float, of_the_run: float) -> None:
    """Raise ValueError if a `part` of the configuration has another epsilon than the run, whose results speak of one.

    conf/ derives every part's epsilon from the run's, so they differ only where somebody set a part's by itself.
    """
    if epsilon != of_the_run:
        raise ValueError(
            f"{part}.epsilon is {epsilon:g}, but a report costs epsilon={of_the_run:g}; expected the same: "
            "set epsilon only"
        )


def check_at_least(name: str, value: object, least: int) -> None:
    """Raise ValueError unless the value is a whole number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number, {least} or more")
