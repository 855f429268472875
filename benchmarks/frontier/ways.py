"""Every way of polling and of choosing that the table compares, from one pool and one set of devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aggregate.choice import Demand, cover, herd
from aggregate.density import VoteDensity, fit_density
from aggregate.slate_poll import SlatePoll
from benchmarks.frontier.alternatives import deconvolved, shrunk, smoothed
from benchmarks.frontier.world import Picks, World
from privacy.central_noise import GaussianBaseline
from privacy.mechanism import Estimate, Tally
from privacy.unary_encoding import OptimizedUnaryEncoding
from synth.attributes import AttributeGrid

Shares = NDArray[np.float64]
Slates = Literal["chosen", "random"]
NextSlate = Callable[[Sequence[SlatePoll], Sequence[Picks], np.random.Generator], Picks]
HERDED = 0.2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How devices are polled: local noise of `epsilon` (infinite: none), or a trusted server's of `sigma` votes.

    `devices`: how many, 0 for all voters; more than there are draws them with replacement. `shuffled` candidates' votes
    are the control.
    """

    seed: int
    epsilon: float = 4.0
    devices: int = 0
    sigma: float | None = None
    shuffled: bool = False

    def estimate(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Estimate:
        """What the server makes of the true counts, after the noise."""
        reports = int(counts.sum())
        if self.sigma is not None:
            found = GaussianBaseline(sigma=self.sigma).estimate(Tally(counts, reports, {}), rng)
        elif np.isinf(self.epsilon):
            found = Estimate(counts.astype(np.float64), np.zeros(len(counts)), reports)
        else:
            mechanism = OptimizedUnaryEncoding(epsilon=self.epsilon, domain_size=len(counts))
            found = mechanism.estimate(mechanism.simulate_tally(counts, rng))
        if self.shuffled:
            places = np.append(rng.permutation(len(counts) - 1), len(counts) - 1)
            found = Estimate(found.counts[places], found.stderr[places], found.reports)
        return found


def polled(world: World, plan: Plan, next_slate: NextSlate) -> tuple[list[SlatePoll], list[Picks]]:
    """As many rounds as the world has, over disjoint cohorts."""
    rng = np.random.default_rng([plan.seed, 1])
    wanted = plan.devices or len(world.voters)
    enough = wanted <= len(world.voters)
    order = rng.permutation(world.voters)[:wanted] if enough else rng.choice(world.voters, wanted)
    polls: list[SlatePoll] = []
    slates: list[Picks] = []
    for cohort in np.array_split(order, world.rounds):
        slate = next_slate(polls, slates, rng)
        estimate = plan.estimate(world.votes(slate, cohort), rng)
        polls.append(SlatePoll(slate=world.texts[slate], estimate=estimate))
        slates.append(slate)
    return polls, slates


def density_of(world: World, polls: Sequence[SlatePoll]) -> VoteDensity:
    """Of the pool, with an even base."""
    return fit_density(world.texts, world.even, polls, np.random.default_rng(7))


def covering(world: World, shares: Shares, rng: np.random.Generator, herded: float = 0.0) -> Picks:
    """Texts that cover the shares, the last of them by herding."""
    demand = Demand.of(world.texts, shares, rng, most=5000)
    covers = cover(world.texts, demand, round((1 - herded) * world.keep), rng)
    if len(covers) == world.keep:
        return covers
    return np.concatenate([covers, herd(world.texts, demand.mean, world.keep - len(covers), start=covers)])


def by_density(world: World, slates: Slates) -> NextSlate:
    """The texts that cover the density so far, as decision=density polls them; or texts at random."""

    def next_slate(polls: Sequence[SlatePoll], _: Sequence[Picks], rng: np.random.Generator) -> Picks:
        if slates == "random":
            return rng.permutation(len(world.texts))[: world.slate].astype(np.int64)
        shares = density_of(world, polls).shares if polls else world.even
        return cover(world.texts, Demand.of(world.texts, shares, rng, most=5000), world.slate, rng)

    return next_slate


def survivors(world: World, headings: Sequence[str], winners: Callable[[SlatePoll, Picks], Picks]) -> NextSlate:
    """Loops without a density: half of a slate survives, and texts of the same headings fill the next."""
    named = np.array(headings)

    def next_slate(polls: Sequence[SlatePoll], slates: Sequence[Picks], rng: np.random.Generator) -> Picks:
        if not polls:
            return rng.permutation(len(world.texts))[: world.slate].astype(np.int64)
        stay = winners(polls[-1], slates[-1])
        fresh = np.setdiff1d(np.arange(len(world.texts)), np.concatenate([*slates, stay]))
        names, counts = np.unique(named[stay], return_counts=True)
        weights = np.array([dict(zip(names, counts, strict=True)).get(name, 0.01) for name in named[fresh]])
        children = rng.choice(fresh, world.slate - len(stay), replace=False, p=weights / weights.sum())
        return np.concatenate([stay, children]).astype(np.int64)

    return next_slate


def by_rank(poll: SlatePoll, slate: Picks) -> Picks:
    """The half with the most estimated votes: decision=survival, and with a trusted server's noise Aug-PE."""
    return slate[np.argsort(-poll.estimate.counts[:-1], kind="stable")[: len(slate) // 2]]


def by_threshold(world: World) -> Callable[[SlatePoll, Picks], Picks]:
    """GAPE-style: counts below sigma sqrt(2 ln(6 T m / beta)) are 0, and the half that covers the others survives."""

    def winners(poll: SlatePoll, slate: Picks) -> Picks:
        counts, stderr = poll.estimate.counts[:-1], poll.estimate.stderr[:-1]
        least = stderr * np.sqrt(2 * np.log(6 * world.rounds * len(slate) / 0.05))
        heavy = np.where(counts > least, counts, 0.0)
        if not heavy.any():
            return by_rank(poll, slate)
        demand = Demand(vectors=world.texts[slate], weights=heavy)
        return slate[cover(world.texts[slate], demand, len(slate) // 2, np.random.default_rng(0))]

    return winners


def survived(world: World, plan: Plan, next_slate: NextSlate) -> Picks:
    """What a loop without a density ends with."""
    polls, slates = polled(world, plan, next_slate)
    return next_slate(polls, slates, np.random.default_rng([plan.seed, 2]))[: world.keep]


def headings_of(world: World, grid: AttributeGrid) -> list[str]:
    """The heading of each text of the pool."""
    return [grid.heading(example.attributes) for example in world.corpus]


def play(world: World, plan: Plan, grid: AttributeGrid | None) -> dict[str, Picks]:
    """Every way of choosing, once."""
    rng = np.random.default_rng([plan.seed, 3])
    found = {"diversity only": covering(world, world.even, rng)}
    if grid is not None:
        found["rank"] = survived(world, plan, survivors(world, headings_of(world, grid), by_rank))
    for slates in ("chosen", "random"):
        polls, _ = polled(world, plan, by_density(world, slates))
        shares = density_of(world, polls).shares
        found[f"density, {slates} slates"] = covering(world, shares, rng)
        if slates == "chosen":
            found[f"density, {HERDED:.0%} herded"] = covering(world, shares, rng, HERDED)
            found["kernel smoothing"] = covering(world, smoothed(world.texts, polls), rng)
            found["deconvolution"] = covering(world, deconvolved(world.texts, polls), rng)
    if grid is not None:
        polls, slates_polled = polled(world, plan, by_density(world, "random"))
        shares = shrunk(world.corpus, headings_of(world, grid), polls, slates_polled)
        found["shrinkage, heading and topic"] = covering(world, shares, rng)
    found |= {
        "density, no privacy": _at_the_end(world, replace(plan, epsilon=np.inf), rng),
        # Slates at random are as good a control, and take a fifth of the time.
        "density of shuffled votes": _at_the_end(world, replace(plan, shuffled=True), rng, "random"),
        "density, an encoder of noise": _at_the_end(world.of_noise(), plan, rng, "random"),
    }
    return found


def _at_the_end(world: World, plan: Plan, rng: np.random.Generator, slates: Slates = "chosen") -> Picks:
    polls, _ = polled(world, plan, by_density(world, slates))
    return covering(world, density_of(world, polls).shares, rng)


def levels(world: World, plan: Plan, grid: AttributeGrid | None) -> dict[str, Picks]:
    """The density at this epsilon and so many devices, beside the loop that goes by rank."""
    found = {"density": _at_the_end(world, plan, np.random.default_rng([plan.seed, 3]))}
    if grid is not None:
        found["rank"] = survived(world, plan, survivors(world, headings_of(world, grid), by_rank))
    return found


def central(world: World, plan: Plan, sigma: float, headings: Sequence[str]) -> Mapping[str, Picks]:
    """At one central epsilon: local noise that is shuffled, and a trusted server's noise of `sigma` on each count."""
    rng, trusted = np.random.default_rng([plan.seed, 3]), replace(plan, sigma=sigma)
    return {
        "density, shuffled local noise": _at_the_end(world, plan, rng),
        "density, a server's Gaussian noise": _at_the_end(world, trusted, rng),
        "Aug-PE: rank, a server's Gaussian noise": survived(world, trusted, survivors(world, headings, by_rank)),
        "GAPE-style: threshold and k-median": survived(world, trusted, survivors(world, headings, by_threshold(world))),
    }
