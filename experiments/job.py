"""The main job as one frozen description: what conf/ configures and what `experiments.run` carries out.

Every part checks its own values when it is made, so a wrong configuration fails before any work starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aggregate.round import Rules
from aggregate.selection import RandomSelector, Selector
from device_poll.answering import AnswerRule
from device_poll.cohorts import Participation
from device_poll.devices import Devices
from embed.encoder import Encoder
from experiments.evaluate import EvaluationRule
from privacy.mechanism import Mechanism
from privacy.no_privacy import NoPrivacy
from synth.generator import Generator

ARMS = ("no_privacy", "random_selection")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Refine a synthetic corpus over `rounds` polls.

    `mechanism` makes the local randomizer for a number of values; `candidates` is the slate size, `keep` the most
    winners of a round; `concentration` how strongly children follow votes (Rules); `threshold` the standard errors
    above zero at which a candidate counts as resolved; `minimum_batch` the fewest reports the server uses;
    `test_share` the share of the released set that becomes its test split; `arms` adds runs without privacy (ceiling)
    and with random selection (floor), for evaluation; `watch` the id of a device whose report log is kept; `workers` a
    speed knob. Raises ValueError for values out of range.
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

    def __post_init__(self) -> None:
        _at_least("seed", self.seed, 0)
        _at_least("rounds", self.rounds, 1)
        _at_least("workers", self.workers, 1)
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share is {self.test_share:g}; expected a share in (0, 1)")
        for arm in self.arms:
            if arm not in ARMS:
                raise ValueError(f"arms has {arm!r}; expected some of {', '.join(ARMS)}")
        mechanism = self.rules.mechanism(self.candidates + 1)
        if isinstance(mechanism, NoPrivacy):
            raise ValueError(
                "mechanism is no_privacy, whose tally would be the devices' true answers; for a run to compare with, "
                "use arms=[no_privacy]"
            )

    @property
    def rules(self) -> Rules:
        """The server's rules of the private run."""
        return Rules(
            mechanism=lambda values: self.mechanism(domain_size=values),
            selector=self.selector,
            generator=self.generator,
            encoder=self.encoder,
            candidates=self.candidates,
            keep=self.keep,
            minimum_batch=self.minimum_batch,
            use_case=self.name,
            concentration=self.concentration,
        )


def arm_rules(rules: Rules, arm: str) -> Rules:
    """The rules of an arm: the run's own, but for one part."""
    if arm == "no_privacy":
        return replace(rules, mechanism=lambda values: NoPrivacy(domain_size=values))
    return replace(rules, selector=RandomSelector())


def _at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number, {least} or more")
