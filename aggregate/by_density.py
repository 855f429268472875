"""A decision of a refinement: all votes so far become one density, and the texts that cover it are polled next.

    decision = ByDensity(pool=1500, written=300)       # or as the generator needs it: ByDensity()

No text that was written is lost. The pool starts with `pool` texts and grows by `written` after every poll, near where
the density is; the next slate, and in the end the released set, are chosen from all of it by facility location. Before
the first poll nothing is known of devices, so the first slate is what covers the pool itself: diversity without a vote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from aggregate.choice import Demand, cover
from aggregate.density import VoteDensity, fit_density
from aggregate.round import Decided, RoundState, Rules
from aggregate.selection import Selection
from aggregate.slate_poll import SlatePoll
from privacy.randomness import Stage, generator, seed_sequence
from synth.corpus import Corpus
from synth.generator import Generation, GenerationError, Progress

Floats = NDArray[np.float64]
Follows = Literal["votes", "nothing", "chance"]
SLATES = 5  # of texts that are written before the first poll


@dataclass(frozen=True, kw_only=True)
class ByDensity:
    """Chooses from a pool by the density of the votes.

    `pool` texts there are before the first poll; None: all that the generator has, and if it writes at least SLATES
    slates of them. `written` texts are written after each poll; None: a slate, or none if the generator does not write.
    At most `most_demand` places, drawn by the density, stand for the devices. `follows`: 'votes', or for comparison
    'nothing' (what covers the pool, whatever the votes) or 'chance' (texts of the pool at random). Raises ValueError
    for values out of range.
    """

    pool: int | None = None
    written: int | None = None
    most_demand: int = 5000
    follows: Follows = "votes"

    def __post_init__(self) -> None:
        for name, least in (("pool", 2), ("written", 0), ("most_demand", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"decision.{name} is {value}; expected {least} or more")
        if self.follows not in get_args(Follows):
            raise ValueError(f"decision.follows is {self.follows!r}; expected one of {', '.join(get_args(Follows))}")

    def check(self, rules: Rules) -> None:
        """Raise ValueError for a pool that is no larger than a slate: there would be nothing to choose."""
        if self.pool is not None and self.pool <= rules.candidates:
            raise ValueError(
                f"decision.pool is {self.pool} and candidates {rules.candidates}; expected a larger pool, five to ten "
                "times as large, to choose from"
            )

    def check_texts(self, rules: Rules) -> None:
        """Raise GenerationError if texts are to be written and the generator writes none, or all that it has is no more
        than a slate."""
        if rules.generator.writes:
            return
        if self._written(rules):
            rules.generator.check_parents(Corpus())
        if rules.generator.available <= rules.candidates:
            raise GenerationError(
                f"the pool has {rules.generator.available} texts and candidates is {rules.candidates}; expected a "
                "larger pool, five to ten times as large, to choose from; add texts or lower candidates"
            )

    def seeds(self, rules: Rules) -> int:
        """How many texts there are before the first poll."""
        if self.pool is not None:
            return self.pool
        least = SLATES * rules.candidates if rules.generator.writes else 0
        return max(least, rules.generator.available)

    def _written(self, rules: Rules) -> int:
        if self.written is not None:
            return self.written
        return rules.candidates if rules.generator.writes else 0

    def first(self, seeds: Corpus, rules: Rules, seed: int) -> RoundState:
        """The state before round 0."""
        if self._written(rules):
            rules.generator.check_parents(seeds)
        picks, _ = self._choose(seeds, None, rules, seed, 0)
        return RoundState(number=0, corpus=seeds.take(picks), pool=seeds)

    def decide(self, state: RoundState, answered: SlatePoll, rules: Rules, seed: int, progress: Progress) -> Decided:
        """Fit the density to all polls, write near it, choose."""
        number, polls = state.number, (*state.polls, answered)
        vectors = rules.encoder.encode(state.pool.texts)
        density = self._fitted(state.pool, vectors, polls, seed) if self.follows == "votes" else None
        shares = _base(state.pool) if density is None else density.over(vectors, _base(state.pool))
        children = Generation(Corpus(), 0, {})
        if wanted := self._written(rules):
            stream = seed_sequence(seed, number, Stage.VARY)
            children = rules.generator.vary(state.pool, shares, wanted, number + 1, stream, progress)
        pool = state.pool + children.corpus
        picks, mass = self._choose(pool, density, rules, seed, number + 1)
        corpus = pool.take(picks)
        place = {identity: i for i, identity in enumerate(state.corpus.ids)}
        stays = [
            (place[identity], weight) for identity, weight in zip(corpus.ids, mass, strict=True) if identity in place
        ]
        return Decided(
            following=RoundState(number=number + 1, corpus=corpus, pool=pool, polls=polls, density=density),
            selection=Selection(
                picks=np.array([at for at, _ in stays], dtype=np.int64),
                weights=np.array([weight for _, weight in stays]),
            ),
            attempted=children.attempted,
            drops=children.drops,
            next_weights=mass,
            told={"pool": len(pool), **self._told(state, answered, rules, seed, density)},
        )

    def _told(
        self, state: RoundState, answered: SlatePoll, rules: Rules, seed: int, density: VoteDensity | None
    ) -> Mapping[str, float]:
        """What the density said of this poll before it was asked: a check of it that costs no privacy."""
        told: dict[str, float] = {}
        if density is not None:
            told["density_places"] = 1 / float((density.shares**2).sum())
        if state.polls and density is not None:
            earlier = state.density
            if earlier is None:
                before = Corpus(tuple(example for example in state.pool if example.round < state.number))
                earlier = self._fitted(before, rules.encoder.encode(before.texts), state.polls, seed)
            expected, found = earlier.expected(answered.slate)[:-1], answered.estimate.counts[:-1]
            if np.ptp(expected) > 0 and np.ptp(found) > 0:
                correlation = float(np.corrcoef(expected, found)[0, 1])
                told["predicted_votes"] = correlation
                # Of Pearson's coefficient over so many candidates (Fisher 1915, on the scale of the coefficient).
                told["predicted_votes_stderr"] = (1 - correlation**2) / float(np.sqrt(max(len(found) - 3, 1)))
        return told

    def _fitted(
        self, pool: Corpus, vectors: NDArray[np.float32], polls: tuple[SlatePoll, ...], seed: int
    ) -> VoteDensity:
        return fit_density(vectors, _base(pool), polls, generator(seed, len(polls) - 1, Stage.SELECT))

    def _choose(
        self, pool: Corpus, density: VoteDensity | None, rules: Rules, seed: int, number: int
    ) -> tuple[NDArray[np.int64], Floats]:
        """Places in the pool, and the share of the density that each of them stands for."""
        if len(pool) < rules.candidates:
            raise ValueError(f"the pool has {len(pool)} texts; expected at least candidates={rules.candidates}")
        rng = generator(seed, number, Stage.CHOOSE)
        vectors = rules.encoder.encode(pool.texts)
        shares = _base(pool)
        if density is not None:
            shares = density.over(vectors, shares)
        if self.follows == "chance":
            picks = rng.permutation(len(pool))[: rules.candidates].astype(np.int64)
        else:
            demand = Demand.of(vectors, shares, rng, most=self.most_demand)
            picks = cover(vectors, demand, rules.candidates, rng)
        nearest = np.argmax(vectors @ vectors[picks].T, axis=1)
        mass: Floats = np.bincount(nearest, weights=shares, minlength=len(picks)).astype(np.float64)
        order = np.argsort(-mass, kind="stable")
        return picks[order], mass[order]


def _base(pool: Corpus) -> Floats:
    """The base measure: every family the same, split evenly over its members.

    So texts that are written where the density is do not make it denser by themselves.
    """
    roots = [example.root for example in pool]
    members = Counter(roots)
    return np.array([1 / (len(members) * members[root]) for root in roots])
