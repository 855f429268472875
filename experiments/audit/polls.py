"""The attack on a run, whatever it asks devices: its polls are played again with a canary, and only its noise is new.

    poll = CanaryPoll(key="emoji.en", mechanism=sketch, values=hashes, counts=counts, worlds=(a, b), asked=pair)
    audit_polls([poll], trust, minimum_batch=500, claimed=(4.0, 0.0), trials=1000, seed=0)

One device is the canary. In half of the plays its reports are about one data, in the other half about another:
neighbours by replacement. The claim is for any data of the others, so theirs is evenly spread: what an audit finds
rests on nothing private and may be shown. The attacker of the definition knows it, and all noise is drawn anew. A play
takes a run's own road: the fleet's accounts and its source of noise, shares where they are made, the front door, the
trust model's counts. What is observed of a poll are the estimates of two values, part of what a run may release; that
nothing else tells (how many reports, of which key) is for tests/attacks to show.
"""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aggregate.intake import check_minimum_batch
from aggregate.trust import Trust
from device_poll.accounts import Accounts
from device_poll.answering import Answers
from device_poll.fleet import SimulatedFleet
from device_poll.prompts import everybody
from privacy.audit import AuditResult, Map, audit_run
from privacy.budget import LARGEST_BUDGET, Budget
from privacy.ledger_stores import SimulatedLedger
from privacy.mechanism import Estimate, Mechanism, Tally
from privacy.poll import Choice
from privacy.randomness import NoiseSource

MANY = 20_000
"""With more reports of others than this, and than the tally has counts, their part of the tally is drawn."""
_BLOCK = 1 << 15  # reports that travel together

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """What a play asks about (privacy.poll.Needs): the two values that the score looks at, as the mechanism takes
    them. A mechanism's estimate of a value does not depend on which others are asked for.
    """

    asked: NDArray[Any]
    nbytes: int = 0

    @property
    def digest(self) -> str:
        """Of the two values."""
        return hashlib.sha256(np.ascontiguousarray(self.asked).data).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class CanaryPoll:
    """One poll in two worlds. All values are as the mechanism takes them, one entry each on the first axis.

    `counts` int64[d]: how many reports of the other devices are of each of the `values`; `worlds`: what the canary's
    reports are of in the first and in the second world, as many in both; `asked`: the two values whose estimates are
    observed, the first of which the canary's first world speaks for; `drawn`: whether the run itself drew tallies from
    their exact law; `fewest`: whether so few reports come as the claim is made for, and not as many as came.
    Raises ValueError for worlds with unequal numbers of reports, or other than two values.
    """

    key: str
    mechanism: Mechanism
    values: NDArray[Any] = field(repr=False)
    counts: NDArray[np.int64] = field(repr=False)
    worlds: tuple[NDArray[Any], NDArray[Any]] = field(repr=False)
    asked: NDArray[Any] = field(repr=False)
    drawn: bool = False
    fewest: bool = False

    def __post_init__(self) -> None:
        first, second = (len(world) for world in self.worlds)
        if first != second or not first or len(self.asked) != 2 or len(self.values) != len(self.counts):
            raise ValueError(
                f"the canary has {first} and {second} reports, and {len(self.asked)} values are observed; expected "
                "equally many in both worlds, one or more, and two values"
            )

    @property
    def others(self) -> int:
        """How many reports are not the canary's."""
        return int(self.counts.sum())

    @property
    def reports(self) -> int:
        """How many reports there are, the canary's among them."""
        return self.others + len(self.worlds[0])

    def draws(self, trust: Trust) -> bool:
        """Whether the others' part of the tally is drawn from its exact law."""
        many = self.others > max(MANY, self.mechanism.tally_cells)
        return trust.exact and (self.drawn or many)


def evenly(reports: int, values: int) -> NDArray[np.int64]:
    """So many reports spread over so many values, as evenly as can be: int64[values]."""
    return np.bincount(np.arange(reports) % values, minlength=values).astype(np.int64)


def audit_polls(
    polls: Sequence[CanaryPoll],
    trust: Trust,
    *,
    minimum_batch: int,
    claimed: tuple[float, float],
    trials: int,
    seed: int,
    number: int = 1,
    map: Map = builtins.map,
) -> AuditResult:
    """Play the polls `trials` times in each world; `claimed` is (epsilon, delta).

    `number`: which audit of the run it is, counted from 1. Each draws noise of its own, also with an equal seed: then
    its chance of error does not depend on what the ones before found (privacy.confidence.error_of_test).
    Raises ValueError as privacy.audit.audit_run, and BatchError for a poll with fewer than `minimum_batch` reports.
    """

    def release(with_canary: bool, trial: int) -> Floats:
        """The two estimates of every poll of one play."""
        rng = np.random.default_rng([seed, number, trial, int(with_canary)])
        world = 0 if with_canary else 1
        return np.concatenate([_play(poll, trust, minimum_batch, world, rng).counts for poll in polls])

    def score(observed: NDArray[Any]) -> Floats:
        """Reports for the canary's first value against those for its second."""
        return np.asarray((observed[:, 0::2] - observed[:, 1::2]).sum(axis=1), dtype=np.float64)

    epsilon, delta = claimed
    return audit_run(release, trials=trials, claimed_epsilon=epsilon, delta=delta, number=number, score=score, map=map)


def how_played(polls: Sequence[CanaryPoll], trust: Trust) -> str:
    """In words, for the statement: what was played, and whether the others' part was drawn."""
    told = "canary device replaced in the run's polls, observed through the released estimates"
    if any(poll.fewest for poll in polls):
        told += "; with the fewest reports that the claim is made for, since how many came is not told (nulls=never)"
    if any(poll.draws(trust) for poll in polls):
        return (
            f"{told}; the canary's reports made, the others' part of the tally drawn from its exact law, without the "
            "front door"
        )
    return f"{told}; report by report, debited, with noise of its own, through the front door"


def _play(poll: CanaryPoll, trust: Trust, minimum_batch: int, world: int, rng: np.random.Generator) -> Estimate:
    ask = trust.ask(
        use_case=poll.key,
        round=0,
        mechanism=poll.mechanism,
        needs=Pair(asked=poll.asked),
        minimum_batch=minimum_batch,
        rng=rng,
    )
    own = poll.worlds[world]
    if poll.draws(trust):
        tally = _with_reports(poll, own, poll.mechanism.simulate_held(poll.values, poll.counts, rng), rng)
        check_minimum_batch(tally.reports, poll.key, minimum_batch)
        return trust.conclude(ask, tally, rng).estimate
    fleet = _fleet(poll, own, NoiseSource(rng.bytes(32), simulated=True))
    return trust.collect(fleet.answer([ask]), [ask], minimum_batch, {poll.key: rng})[poll.key].estimate


def _with_reports(poll: CanaryPoll, own: NDArray[Any], tally: Tally, rng: np.random.Generator) -> Tally:
    """The tally with the canary's reports added."""
    return poll.mechanism.add_to(tally, poll.mechanism.privatize(own, rng))


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenAnswers:
    """Devices whose answers are known (device_poll.fleet.CohortAnswers): one a report, the canary's first."""

    values: NDArray[Any]
    domain_size: int

    block: ClassVar[int] = _BLOCK

    @property
    def digest(self) -> str:
        """Of the answers."""
        return hashlib.sha256(np.ascontiguousarray(self.values).data).hexdigest()

    def choice(self, needs: Pair) -> Choice:
        """All values of the mechanism."""
        return Choice(self.domain_size - 1)

    def of(self, needs: Pair, devices: NDArray[np.int64], round: int) -> Answers:
        """Those of these devices."""
        return Answers(values=self.values[devices], similarity=None)


def _fleet(poll: CanaryPoll, own: NDArray[Any], noise: NoiseSource) -> SimulatedFleet:
    """The devices of a play: the run's own road, with a ledger, and noise that is bound to what they answer."""
    values = np.concatenate([own, np.repeat(poll.values, poll.counts, axis=0)])
    agreed = np.ones(len(values), dtype=np.bool_)
    ledger = SimulatedLedger(devices=len(values), budget=Budget(lifetime=LARGEST_BUDGET, daily=LARGEST_BUDGET))
    ledger.enroll(np.arange(len(values)), agreed)
    return SimulatedFleet(
        answers=GivenAnswers(values=values, domain_size=poll.mechanism.domain_size),
        cohorts=everybody(agreed),
        noise=noise,
        # What a report costs, and whether enough can pay, is not what is audited: the front door refuses small batches.
        accounts=Accounts(ledger=ledger, run="audit", cost=lambda _: 1.0, minimum_batch=1),
    )
