"""The main job as one frozen description: refine a synthetic corpus by polling devices about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aggregate.by_density import ByDensity
from aggregate.round import Decision, Rules
from aggregate.selection import RandomSelector
from aggregate.survival import Survival
from aggregate.trust import LocalTrust
from device_poll.answering import AnswerRule
from device_poll.cohorts import Participation
from device_poll.devices import Devices
from embed.encoder import Encoder
from experiments.job import Job, check_at_least
from experiments.refine.evaluate import EvaluationRule
from privacy.no_privacy import NoPrivacy
from privacy.poll import Choice
from synth.generator import Generator

ARMS = ("no_privacy", "random_selection", "diversity")


@dataclass(frozen=True, kw_only=True)
class RefineJob(Job):
    """Refine a synthetic corpus over `rounds` polls.

    `decision` says what becomes of a poll; `candidates` is the slate size; `threshold` the standard errors above zero
    at which a candidate counts as resolved; `test_share` the share of the released set that becomes its test split;
    `arms` adds, for evaluation, runs without privacy (ceiling), with random selection (floor) and, of a decision by
    density, without votes (diversity); `watch` the id of a device whose report log is kept. Each further round is
    debited a day later. Raises ValueError as Job, for values out of range, and for a ledger file with devices whose ids
    are places in a list.
    """

    rounds: int
    decision: Decision
    candidates: int
    threshold: float
    test_share: float
    devices: Devices
    participation: Participation
    answer: AnswerRule
    generator: Generator
    encoder: Encoder
    judge: Encoder
    evaluation: EvaluationRule
    cache: str
    arms: Sequence[str] = ()
    watch: str | None = None

    def __post_init__(self) -> None:
        check_at_least("rounds", self.rounds, 1)
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share is {self.test_share:g}; expected a share in (0, 1)")
        for arm in self.arms:
            if arm not in ARMS:
                raise ValueError(f"arms has {arm!r}; expected some of {', '.join(ARMS)}")
            if arm == "diversity" and isinstance(self.decision, Survival):
                raise ValueError(
                    "arms has 'diversity', which is a choice from a pool; expected decision=density with it"
                )
        check_at_least("candidates", self.candidates, 1)
        local = self.local(self.values)
        if local.domain_size != self.values:
            raise ValueError(
                f"mechanism is {local.name}, which takes no numbered answers such as the {self.values} of a slate; "
                "choose another, such as mechanism=optimized_unary_encoding"
            )
        _ = self.rules
        super().__post_init__()
        if self.ledger is not None and (numbered := self.devices.numbered):
            raise ValueError(
                f"ledger is {self.ledger!r}, but with {' and '.join(numbered)} a device's id is a place in a list: of "
                "messages that were added or cut otherwise, a file would not know who has spent; drop ledger=, or set "
                f"{' and '.join(numbered.values())}"
            )

    @property
    def brought(self) -> bool:
        """Whether the devices' source reads texts that somebody brought."""
        return self.devices.brought

    @property
    def values(self) -> int:
        """The answers to a slate of full size."""
        return Choice(self.candidates).answers

    @property
    def last_day(self) -> int:
        """Each round is a day later. Cohorts are disjoint (device_poll/cohorts.py): one report a device."""
        return self.rounds - 1

    @property
    def rules(self) -> Rules:
        """The server's rules of the private run."""
        return Rules(
            mechanism=self.randomizer,
            decision=self.decision,
            generator=self.generator,
            encoder=self.encoder,
            candidates=self.candidates,
            minimum_batch=self.minimum_batch,
            use_case=self.name,
            trust=self.trust,
        )

    def check(self) -> None:
        """Whatever can fail before a run folder exists."""
        super().check()
        for part in (self.generator, self.encoder, self.judge, self.devices):
            part.check()
        self.decision.check_texts(self.rules)


def arm_rules(rules: Rules, arm: str) -> Rules:
    """The rules of an arm: the run's own, but for one part."""
    if arm == "no_privacy":
        return replace(rules, mechanism=lambda values: NoPrivacy(domain_size=values), trust=LocalTrust())
    if isinstance(rules.decision, ByDensity):
        return replace(rules, decision=replace(rules.decision, follows="nothing" if arm == "diversity" else "chance"))
    if isinstance(rules.decision, Survival):
        return replace(rules, decision=replace(rules.decision, selector=RandomSelector()))
    raise ValueError(f"arms has {arm!r}, which nobody plays for a {type(rules.decision).__name__}; drop it")
