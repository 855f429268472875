"""One round, as a pure function of frozen values: poll, estimate, decide.

No disk, no logger, no global random state: the loop around it (experiments/) stores what it returns. The server half
of the project ends here; it never sees a private item, only privatized reports (`Fleet`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aggregate.density import VoteDensity
from aggregate.selection import Selection
from aggregate.slate_poll import SlatePoll
from aggregate.trust import LocalTrust, Trust
from embed.compact import CompactEmbeddings, compact
from embed.encoder import Encoder
from privacy.mechanism import Estimate, Mechanism, Tally
from privacy.poll import Ask, Choice, Fleet
from privacy.randomness import NoiseSource, Stage
from synth.corpus import Corpus
from synth.generator import Generator, Progress


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What does not change over rounds.

    `mechanism` makes the mechanism for a number of answers (candidates and 'none of these'); `decision` says what
    becomes of a poll; `candidates` is the slate size; `minimum_batch` the fewest reports that are used at all; `trust`
    says who adds the noise, and turns reports into counts.
    """

    mechanism: Callable[[int], Mechanism]
    decision: Decision
    generator: Generator
    encoder: Encoder
    candidates: int
    minimum_batch: int
    use_case: str
    trust: Trust = field(default_factory=LocalTrust)

    def __post_init__(self) -> None:
        if self.candidates < 2:
            raise ValueError(f"candidates is {self.candidates}; expected 2 or more")
        if self.minimum_batch < 1:
            raise ValueError(f"minimum_batch is {self.minimum_batch}; expected 1 or more reports")
        self.decision.check(self)
        self.mechanism(Choice(self.candidates).answers)  # raises now if the slate is larger than it supports

    def ask(self, slate: CompactEmbeddings, round: int, rng: np.random.Generator) -> Ask:
        """The question of a round: which of these?"""
        mechanism = self.mechanism(Choice(len(slate)).answers)
        return self.trust.ask(
            use_case=self.use_case,
            round=round,
            mechanism=mechanism,
            needs=slate,
            minimum_batch=self.minimum_batch,
            rng=rng,
        )


@dataclass(frozen=True, kw_only=True)
class RoundState:
    """Before round `number`: the slate to poll about.

    A decision that needs them has all texts so far, `pool`, and what all polls so far measured, `polls`. `density` is
    what it made of these, None where it has to be made again: a run that is continued has it on no disk.
    """

    number: int
    corpus: Corpus
    pool: Corpus = field(default_factory=Corpus)
    polls: tuple[SlatePoll, ...] = ()
    density: VoteDensity | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """What a poll led to.

    `selection`: which candidates of the slate are in the next; `next_weights`: the share of devices that each member of
    the next slate stands for; `told`: further public numbers of the round.
    """

    following: RoundState
    selection: Selection
    attempted: int
    drops: Mapping[str, int]
    next_weights: NDArray[np.float64]
    told: Mapping[str, float] = field(default_factory=dict)


class Decision(Protocol):
    """What becomes of a poll. All randomness is drawn from the seed and the round's number."""

    def check(self, rules: Rules) -> None:
        """Raise ValueError for rules that do not fit it."""

    def check_texts(self, rules: Rules) -> None:
        """Raise GenerationError if the generator has too few texts, or cannot write those that are needed later.

        May read a file.
        """

    def seeds(self, rules: Rules) -> int:
        """How many texts there are before the first poll."""

    def first(self, seeds: Corpus, rules: Rules, seed: int) -> RoundState:
        """The state before round 0. Raises GenerationError if these texts could not be varied, before a poll."""

    def decide(self, state: RoundState, answered: SlatePoll, rules: Rules, seed: int, progress: Progress) -> Decided:
        """The state after the round. Raises GenerationError if new texts cannot be written."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundRecord:
    """What the server learned and did in one round.

    `estimate` has one entry per candidate; `none` is the estimated number of devices that answered 'none of these',
    with its standard error; `refused` is that of `Collected`; `selection`, `attempted`, `drops`, `next_weights` and
    `told` are those of `Decided`.
    """

    number: int
    embeddings: NDArray[np.float32]
    tally: Tally
    estimate: Estimate
    none: tuple[float, float]
    refused: int | None
    selection: Selection
    attempted: int
    drops: Mapping[str, int]
    bytes_down: int
    report_bits: int
    next_weights: NDArray[np.float64]
    told: Mapping[str, float]


def slate_of(encoder: Encoder, corpus: Corpus) -> tuple[NDArray[np.float32], CompactEmbeddings]:
    """The candidates' vectors and what the devices download of them."""
    vectors = encoder.encode(corpus.texts)
    return vectors, compact(vectors)


def play_round(
    state: RoundState, rules: Rules, fleet: Fleet, seed: int, noise: NoiseSource, progress: Progress
) -> tuple[RoundState, RoundRecord]:
    """Poll the state's corpus; return the state of the next round and the record of this one.

    What anybody may repeat, given the tally, is drawn from `seed`: the decision. The order in which reports
    are shuffled, the name of a batch of shares and a trusted server's noise are secrets, and come from `noise`. Raises
    BatchError if too few reports arrive and GenerationError if the variations cannot be written.
    """
    number, choice = state.number, Choice(len(state.corpus))
    vectors, slate = slate_of(rules.encoder, state.corpus)
    told = json.dumps(dict(rules.trust.parameters(rules.mechanism(choice.answers))), sort_keys=True)
    rng = noise.of(rules.trust.name, told, rules.use_case, slate.digest).generator(Stage.SHUFFLE, round=number)
    ask = rules.ask(slate, number, rng)
    batches, key = fleet.answer([ask]), ask.use_case
    collected = rules.trust.collect(batches, [ask], rules.minimum_batch, {key: rng})[key]
    estimate, none = choice.split(collected.estimate)

    answered = SlatePoll(slate=vectors, estimate=collected.estimate, adds_up=ask.mechanism.counts_add_up)
    decided = rules.decision.decide(state, answered, rules, seed, progress)
    record = RoundRecord(
        number=number,
        embeddings=vectors,
        tally=collected.tally,
        estimate=estimate,
        none=(float(none.counts[0]), float(none.stderr[0])),
        refused=collected.refused,
        selection=decided.selection,
        attempted=decided.attempted,
        drops=decided.drops,
        bytes_down=slate.nbytes,
        report_bits=ask.report_bits,
        next_weights=decided.next_weights,
        told=decided.told,
    )
    return decided.following, record
