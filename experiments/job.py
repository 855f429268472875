"""The main job as one frozen description: what conf/ configures and what `experiments.run` carries out.

Every part checks its own values when it is made, so a wrong configuration fails before any work starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from aggregate.round import Rules
from aggregate.selection import RandomSelector, Selector
from aggregate.trust import LocalTrust, Trust
from device_poll.answering import AnswerRule
from device_poll.cohorts import Participation
from device_poll.devices import Devices
from embed.encoder import Encoder
from experiments.evaluate import EvaluationRule
from experiments.trackers.tracker import NoTracker, Tracker
from privacy.budget import LARGEST_BUDGET, Budget, Token, micro_budget, micro_epsilon
from privacy.mechanism import Mechanism
from privacy.no_privacy import NoPrivacy
from privacy.units import check_delta
from synth.generator import Generator

ARMS = ("no_privacy", "random_selection")


@dataclass(frozen=True, kw_only=True)
class Caps:
    """What a device may spend in its lifetime, over all runs and use cases, and in a day, in epsilons; None: no cap.

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
    """Refine a synthetic corpus over `rounds` polls.

    `mechanism` makes the local randomizer for a number of values; `candidates` is the slate size, `keep` the most
    winners of a round; `concentration` how strongly children follow votes (Rules); `threshold` the standard errors
    above zero at which a candidate counts as resolved; `minimum_batch` the fewest reports the server uses;
    `test_share` the share of the released set that becomes its test split; `arms` adds runs without privacy (ceiling)
    and with random selection (floor), for evaluation; `watch` the id of a device whose report log is kept; `workers` a
    speed knob. `trust` says who adds the noise; `delta` is that of every central guarantee; `caps` what a device may
    spend; `ledger` the file that all runs over these devices debit (None: a ledger of this run alone, in memory);
    `first_day` the day on which round 0 is debited, each further round a day later. Raises ValueError for values out of
    range, for a mechanism or a trust model with another epsilon than `epsilon`, and for a plan that takes more of a
    device than its caps.
    """

    name: str
    seed: int
    rounds: int
    candidates: int
    keep: int
    concentration: float
    threshold: float
    minimum_batch: int
    test_share: float
    devices: Devices
    participation: Participation
    answer: AnswerRule
    mechanism: Callable[..., Mechanism]
    selector: Selector
    generator: Generator
    encoder: Encoder
    judge: Encoder
    evaluation: EvaluationRule
    cache: str
    epsilon: float
    out: str | None = None
    runs: str = "runs"
    arms: Sequence[str] = ()
    watch: str | None = None
    workers: int = 1
    trust: Trust = field(default_factory=LocalTrust)
    delta: float = 1e-6
    caps: Caps = field(default_factory=Caps)
    ledger: str | None = None
    tracker: Tracker = field(default_factory=NoTracker)
    first_day: int = 0

    def __post_init__(self) -> None:
        _at_least("seed", self.seed, 0)
        _at_least("rounds", self.rounds, 1)
        _at_least("workers", self.workers, 1)
        _at_least("first_day", self.first_day, 0)
        Token(use_case=self.name, round=self.rounds - 1, day=self.first_day + self.rounds - 1)
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share is {self.test_share:g}; expected a share in (0, 1)")
        for arm in self.arms:
            if arm not in ARMS:
                raise ValueError(f"arms has {arm!r}; expected some of {', '.join(ARMS)}")
        check_delta(self.delta)
        mechanism = self.rules.mechanism(self.candidates + 1)
        local = self.local(self.candidates + 1)
        if isinstance(local, NoPrivacy):
            raise ValueError(
                "mechanism is no_privacy, whose tally would be the devices' true answers; for a run to compare with, "
                "use arms=[no_privacy]"
            )
        # Under central trust models too, where it is not in force: the statement compares with it.
        check_epsilon_agrees("mechanism", local.epsilon, self.epsilon)
        check_epsilon_agrees("trust", self.trust.cost(mechanism), self.epsilon)
        # Cohorts are disjoint (device_poll/cohorts.py): one report a device, all in one day at worst.
        self.caps.budget.check_plan(micro_epsilon(self.trust.cost(mechanism)), reports_per_day=1, reports=1)

    def local(self, values: int) -> Mechanism:
        """The configured local randomizer for a number of values."""
        return self.mechanism(domain_size=values)

    @property
    def rules(self) -> Rules:
        """The server's rules of the private run."""
        return Rules(
            mechanism=lambda values: self.trust.mechanism(self.local, values, self.minimum_batch),
            selector=self.selector,
            generator=self.generator,
            encoder=self.encoder,
            candidates=self.candidates,
            keep=self.keep,
            minimum_batch=self.minimum_batch,
            use_case=self.name,
            concentration=self.concentration,
            trust=self.trust,
        )


def arm_rules(rules: Rules, arm: str) -> Rules:
    """The rules of an arm: the run's own, but for one part."""
    if arm == "no_privacy":
        return replace(rules, mechanism=lambda values: NoPrivacy(domain_size=values), trust=LocalTrust())
    return replace(rules, selector=RandomSelector())


def check_epsilon_agrees(part: str, epsilon: float, of_the_run: float) -> None:
    """Raise ValueError if a `part` of the configuration has another epsilon than the run, whose results speak of one.

    conf/ derives every part's epsilon from the run's, so they differ only where somebody set a part's by itself.
    """
    if epsilon != of_the_run:
        raise ValueError(
            f"{part}.epsilon is {epsilon:g}, but a report costs epsilon={of_the_run:g}; expected the same: "
            "set epsilon only"
        )


def _at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number, {least} or more")
