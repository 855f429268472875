"""A decision of a refinement: the winners of a poll survive, and their children fill the next slate.

Private Evolution's step (Lin et al. 2023; Xie et al. 2024), with any selector. Every poll is used once, by the ranks of
its counts; a text that does not win is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregate.round import Decided, RoundState, Rules
from aggregate.selection import Selector
from aggregate.slate_poll import SlatePoll
from privacy.poll import Choice
from privacy.randomness import Stage, generator, seed_sequence
from synth.corpus import Corpus
from synth.generator import Progress


@dataclass(frozen=True)
class Survival:
    """`selector` picks at most `keep` winners (None: half a slate), which have children in proportion to their votes to
    the power of `concentration` (0: all the same, 1: as their votes). Raises ValueError for a power outside [0, 1].
    """

    selector: Selector
    keep: int | None = None
    concentration: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.concentration <= 1:
            raise ValueError(f"decision.concentration is {self.concentration:g}; expected a power in [0, 1]")

    def check(self, rules: Rules) -> None:
        """Raise ValueError if no child would be written."""
        if self.keep is not None and not 1 <= self.keep < rules.candidates:
            raise ValueError(
                f"decision.keep is {self.keep}; expected 1 to candidates - 1 = {rules.candidates - 1}, so that each "
                "round writes something new"
            )

    def check_texts(self, rules: Rules) -> None:
        """Raise GenerationError for a generator that cannot vary winners."""
        if not rules.generator.writes:
            rules.generator.check_parents(Corpus())

    def seeds(self, rules: Rules) -> int:
        """One slate."""
        return rules.candidates

    def first(self, seeds: Corpus, rules: Rules, seed: int) -> RoundState:
        """The seeds are the first slate, and all of them may become parents."""
        rules.generator.check_parents(seeds)
        return RoundState(number=0, corpus=seeds)

    def decide(self, state: RoundState, answered: SlatePoll, rules: Rules, seed: int, progress: Progress) -> Decided:
        """Select, vary."""
        number, (estimate, _) = state.number, Choice(len(state.corpus)).split(answered.estimate)
        most = rules.candidates // 2 if self.keep is None else self.keep
        selection = self.selector.pick(estimate, most, generator(seed, number, Stage.SELECT))
        winners = state.corpus.take(selection.picks)
        children = rules.generator.vary(
            winners,
            selection.weights**self.concentration,
            rules.candidates - len(winners),
            number + 1,
            seed_sequence(seed, number, Stage.VARY),
            progress,
        )
        return Decided(
            following=RoundState(number=number + 1, corpus=winners + children.corpus),
            selection=selection,
            attempted=children.attempted,
            drops=children.drops,
            next_weights=_family_weights(winners, selection.weights, children.corpus),
        )


def _family_weights(winners: Corpus, weights: NDArray[np.float64], children: Corpus) -> NDArray[np.float64]:
    """Each winner's votes, split evenly between it and its children; shares that sum to 1."""
    place = {identity: i for i, identity in enumerate(winners.ids)}
    owner = np.array([*range(len(winners)), *(place[child.parents[0]] for child in children)])
    members = np.bincount(owner, minlength=len(winners))
    result: NDArray[np.float64] = (weights / weights.sum() / members)[owner]
    return result
