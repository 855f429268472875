"""The vote density on populations whose truth is known and is no Gaussian process.

Devices hold items near texts and answer with the truly nearest candidate, which is not the model's own law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import spearmanr

from aggregate.density import VoteDensity, fit_density
from aggregate.slate_poll import SlatePoll
from privacy.mechanism import Estimate
from privacy.poll import Choice
from privacy.randomized_response import RandomizedResponse
from privacy.unary_encoding import OptimizedUnaryEncoding

TOPICS, TEXTS, DIMENSION, SLATE = 24, 360, 24, 90


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class World:
    """Texts of topics, and devices that hold items near them; `shares`: of the topics."""

    places: np.ndarray
    topics: np.ndarray
    centers: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, shares: np.ndarray, seed: int) -> World:
        rng = np.random.default_rng(seed)
        centers = unit(rng.normal(size=(TOPICS, DIMENSION)))
        topics = np.arange(TEXTS) % TOPICS
        return cls(unit(centers[topics] + 0.15 * rng.normal(size=(TEXTS, DIMENSION))), topics, centers, shares)

    @property
    def base(self) -> np.ndarray:
        return np.full(TEXTS, 1 / TEXTS)

    def answers(self, slate: np.ndarray, devices: int, rng: np.random.Generator, none_below: float = 0.3) -> np.ndarray:
        topics = rng.choice(TOPICS, size=devices, p=self.shares)
        items = unit(self.centers[topics] + 0.25 * rng.normal(size=(devices, DIMENSION)))
        cosines = items @ slate.T
        return np.where(cosines.max(axis=1) >= none_below, cosines.argmax(axis=1), len(slate))

    def poll(self, mechanism, devices: int, rng: np.random.Generator, shuffled: bool = False) -> SlatePoll:
        slate = self.places[rng.choice(TEXTS, SLATE, replace=False)]
        made = mechanism(epsilon=4.0, domain_size=SLATE + 1)
        counts = Choice(SLATE).counted(self.answers(slate, devices, rng))
        estimate = made.estimate(made.simulate_tally(counts, rng))
        if shuffled:
            order = np.r_[rng.permutation(SLATE), SLATE]
            estimate = Estimate(estimate.counts[order], estimate.stderr[order], estimate.reports)
        return SlatePoll(slate=slate, estimate=estimate, adds_up=made.counts_add_up)

    def fit(self, polls: list[SlatePoll]) -> VoteDensity:
        return fit_density(self.places, self.base, polls, np.random.default_rng(0), most_knots=200)

    def by_topic(self, density: VoteDensity) -> tuple[np.ndarray, np.ndarray]:
        found = [density.share_of(self.topics == topic) for topic in range(TOPICS)]
        return np.array([share for share, _ in found]), np.array([error for _, error in found])


EVEN = np.full(TOPICS, 1 / TOPICS)
ZIPF = (1 / np.arange(1, TOPICS + 1)) / (1 / np.arange(1, TOPICS + 1)).sum()
GIANT = np.where(np.arange(TOPICS) == 0, 0.5, 0.5 / (TOPICS - 1))
HALF = np.where(np.arange(TOPICS) % 2 == 0, 2 / TOPICS, 0.0)
TRUTHS = {"even": EVEN, "zipf": ZIPF, "giant": GIANT, "half of the topics": HALF}


def polls_of(
    world: World, number: int, devices: int, seed: int, mechanism=OptimizedUnaryEncoding, **more
) -> list[SlatePoll]:
    rng = np.random.default_rng(seed)
    return [world.poll(mechanism, devices, rng, **more) for _ in range(number)]


@pytest.mark.parametrize("mechanism", [OptimizedUnaryEncoding, RandomizedResponse])
def test_it_finds_topics_that_devices_hold(mechanism):
    world = World.of(ZIPF, 1)
    shares, _ = world.by_topic(world.fit(polls_of(world, 3, 3000, 2, mechanism)))
    alone, _ = world.by_topic(world.fit(polls_of(world, 1, 3000, 2, mechanism)))
    assert apart(shares, ZIPF) < 0.12
    assert apart(shares, ZIPF) < apart(alone, ZIPF) < apart(EVEN, ZIPF), "every poll adds"


def apart(shares: np.ndarray, others: np.ndarray) -> float:
    """Total variation distance."""
    return float(np.abs(shares - others).sum() / 2)


def test_where_devices_are_as_texts_are_it_is_flat():
    """The smallest amplitudes are left, so that a choice falls back to what the texts are alone. Negative control:
    other devices are not as the texts are."""
    flat, other = (world.fit(polls_of(world, 3, 600, 0)) for world in (World.of(EVEN, 1), World.of(ZIPF, 1)))
    mean, above = (density.weights @ [fit.amplitude for fit in density.fits] for density in (flat, other))
    assert mean < 0.5 < above
    world = World.of(EVEN, 1)
    assert apart(world.by_topic(flat)[0], EVEN) < 0.05
    assert apart(world.by_topic(other)[0], EVEN) > 0.2


def test_shuffled_votes_tell_nothing():
    world = World.of(ZIPF, 1)

    def likeness(seed: int, **more: bool) -> float:
        return float(np.corrcoef(world.by_topic(world.fit(polls_of(world, 2, 3000, seed, **more)))[0], ZIPF)[0, 1])

    found = [likeness(seed, shuffled=True) for seed in range(3)]
    assert abs(np.mean(found)) < 4 / np.sqrt(3 * TOPICS)
    assert likeness(0) > 0.9, "negative control"


@pytest.mark.parametrize("name", ["even", "zipf", "giant"])
def test_intervals_of_topics_hold_the_truth(name):
    """95 of 100, to 4 standard errors of the populations. Negative control: of half the length they do not."""
    covered, narrow = [], []
    for seed in range(8):
        world = World.of(TRUTHS[name], seed)
        shares, errors = world.by_topic(world.fit(polls_of(world, 3, 2000, seed)))
        scores = np.abs(shares - TRUTHS[name]) / errors
        covered.append(float((scores <= 1.96).mean()))
        narrow.append(float((scores <= 0.98).mean()))
    error = max(np.std(covered, ddof=1), np.sqrt(0.95 * 0.05 / TOPICS)) / np.sqrt(len(covered))
    assert np.mean(covered) > 0.95 - 4 * error
    if name != "even":  # of which the density knows more than it says
        assert np.mean(narrow) < 0.95 - 4 * error


def test_topics_that_nobody_holds_get_a_little():
    """The density is above 0 everywhere, so no interval holds an exact 0; what is left there is small."""
    world = World.of(HALF, 0)
    shares, _ = world.by_topic(world.fit(polls_of(world, 3, 2000, 0)))
    assert shares[HALF == 0].max() < 0.03
    assert shares[HALF > 0].min() > 0.05


def test_it_tells_what_the_next_poll_will_find():
    world = World.of(ZIPF, 1)
    density, rng = world.fit(polls_of(world, 3, 3000, 2)), np.random.default_rng(9)
    slate = world.places[rng.choice(TEXTS, SLATE, replace=False)]
    found = Choice(SLATE).counted(world.answers(slate, 20_000, rng)) / 20_000
    told = density.expected(slate)
    assert told.sum() == pytest.approx(1)
    assert spearmanr(told, found).statistic > 0.7
    even = world.fit(polls_of(world, 3, 3000, 2, shuffled=True))
    assert spearmanr(even.expected(slate), found).statistic < 0.5, "negative control"


def test_new_texts_have_the_density_of_where_they_are():
    world = World.of(GIANT, 3)
    density = world.fit(polls_of(world, 3, 3000, 4))
    assert np.allclose(density.over(world.places, world.base), density.shares)
    rng = np.random.default_rng(5)
    near = unit(world.centers[0] + 0.15 * rng.normal(size=(50, DIMENSION)))
    far = unit(world.centers[5] + 0.15 * rng.normal(size=(50, DIMENSION)))
    shares = density.over(np.concatenate([near, far]), np.full(100, 0.01))
    assert shares.sum() == pytest.approx(1) and shares[:50].sum() > 5 * shares[50:].sum()


def test_of_a_large_pool_a_part_is_fitted_and_all_is_scored():
    world = World.of(GIANT, 3)
    polls = polls_of(world, 3, 3000, 4)
    whole, part = (
        fit_density(world.places, world.base, polls, np.random.default_rng(0), most_places=most) for most in (5000, 200)
    )
    assert len(whole.shares) == TEXTS and len(part.shares) == 200
    every = part.over(world.places, world.base)
    by_topic = [np.bincount(world.topics, weights=shares, minlength=TOPICS) for shares in (every, whole.shares)]
    assert apart(*by_topic) < 0.15 < apart(by_topic[0], EVEN)


def test_refused():
    world = World.of(EVEN, 0)
    polls = polls_of(world, 1, 500, 0)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="there are 0 polls and 360 places; expected 1 or more, and 2 or more"):
        fit_density(world.places, world.base, [], rng)
    with pytest.raises(ValueError, match="there are 1 polls and 1 places"):
        fit_density(world.places[:1], np.ones(1), polls, rng)
    for base in (np.ones(TEXTS), np.ones(3) / 3, np.r_[0.0, np.full(TEXTS - 1, 1 / (TEXTS - 1))]):
        with pytest.raises(ValueError, match="base is not a share above 0 for each place"):
            fit_density(world.places, base, polls, rng)
    estimate = Estimate(np.ones(3), np.ones(3), 10)
    with pytest.raises(ValueError, match="a poll has 3 counts of 10 reports; expected one for each of 3 candidates"):
        SlatePoll(slate=world.places[:3], estimate=estimate)
    with pytest.raises(ValueError, match="of 0 reports"):
        SlatePoll(slate=world.places[:2], estimate=Estimate(np.ones(3), np.ones(3), 0))
    with pytest.raises(ValueError, match="a slate has 1 candidates; expected 2 or more, to compare"):
        SlatePoll(slate=world.places[:1], estimate=Estimate(np.ones(2), np.ones(2), 10))
    other = SlatePoll(slate=np.eye(2, dtype=np.float32), estimate=Estimate(np.ones(3), np.ones(3), 10))
    with pytest.raises(ValueError, match=f"a slate has vectors of 2 numbers and the places of {DIMENSION}; expected"):
        fit_density(world.places, world.base, [other], rng)
