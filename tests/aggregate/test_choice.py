"""Choosing texts that stand for a distribution, against a choice that looks at every text each time."""

from __future__ import annotations

import numpy as np
import pytest

import aggregate.choice
from aggregate.choice import Demand, cover, herd
from embed.compact import compact


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(rng: np.random.Generator, texts: int = 1500, dimension: int = 32) -> np.ndarray:
    centers = unit(rng.normal(size=(30, dimension)))
    return unit(centers[rng.integers(0, 30, texts)] + 0.2 * rng.normal(size=(texts, dimension)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def pool(rng) -> np.ndarray:
    return clustered(rng)


@pytest.fixture
def demand(rng, pool) -> Demand:
    return Demand(vectors=pool, weights=rng.random(len(pool)) ** 4)


def greedy(pool: np.ndarray, demand: Demand, k: int, start: tuple[int, ...] = ()) -> list[int]:
    """Without laziness, in whole numbers of Python's size."""
    codes = compact(np.concatenate([pool, demand.vectors])).codes.astype(np.int64)
    products = codes[: len(pool)] @ codes[len(pool) :].T
    weights = np.rint(demand.weights / demand.weights.max() * (2**15 - 1)).astype(np.int64)
    nearest, picks = np.full(len(demand.vectors), -(2**24)), list(start)
    for text in start:
        nearest = np.maximum(nearest, products[text])
    for _ in range(k):
        gains = np.maximum(products - nearest, 0) @ weights
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        nearest = np.maximum(nearest, products[picks[-1]])
    return picks[len(start) :]


def covered(pool: np.ndarray, demand: Demand, picks: np.ndarray) -> float:
    return float((demand.vectors @ pool[picks].T).max(axis=1) @ demand.weights / demand.weights.sum())


def test_the_lazy_choice_is_the_greedy_one(pool, demand, rng):
    assert cover(pool, demand, 60, rng).tolist() == greedy(pool, demand, 60)


def test_blocks_change_nothing(pool, demand, rng, monkeypatch):
    whole = cover(pool, demand, 40, rng)
    monkeypatch.setattr(aggregate.choice, "_BLOCK", 7)
    monkeypatch.setattr(aggregate.choice, "_LOOKED_AT", 3)
    assert np.array_equal(cover(pool, demand, 40, rng), whole)


def test_it_goes_on_from_what_is_chosen(pool, demand, rng):
    first = cover(pool, demand, 20, rng)
    assert np.array_equal(cover(pool, demand, 20, rng, start=first), cover(pool, demand, 40, rng)[20:])
    others = np.array([5, 9, 700])
    assert cover(pool, demand, 20, rng, start=others).tolist() == greedy(pool, demand, 20, (5, 9, 700))


def test_cover_covers_and_random_texts_do_not(pool, demand, rng):
    """Negative control: texts at random, and the heaviest ones, cover less."""
    chosen = covered(pool, demand, cover(pool, demand, 30, rng))
    at_random = [covered(pool, demand, rng.choice(len(pool), 30, replace=False)) for _ in range(20)]
    heaviest = covered(pool, demand, np.argsort(-demand.weights)[:30])
    assert chosen > max(*at_random, heaviest) + 3 * np.std(at_random)


def test_equals_are_drawn(rng):
    """The same text thrice: over draws each is chosen, and not always the first."""
    texts = unit(np.random.default_rng(0).normal(size=(3, 8)))
    pool = np.repeat(texts, 3, axis=0)
    demand = Demand(vectors=texts, weights=np.ones(3))
    firsts = [cover(pool, demand, 3, np.random.default_rng(seed)) for seed in range(300)]
    assert all(sorted(picks // 3) == [0, 1, 2] for picks in firsts)
    counts = np.bincount(np.concatenate(firsts) % 3, minlength=3)
    assert np.abs(counts - 300).max() < 4 * np.sqrt(900 * 2 / 9)


def test_nobody_is_chosen_twice_where_nothing_is_gained(rng):
    pool = np.repeat(unit(rng.normal(size=(1, 8))), 50, axis=0)
    demand = Demand(vectors=pool[:1], weights=np.ones(1))
    assert len(set(cover(pool, demand, 50, rng).tolist())) == 50


def test_herding_follows_the_mean(pool, demand):
    def distance(picks: np.ndarray) -> float:
        return float(np.linalg.norm(pool[picks].mean(axis=0) - demand.mean))

    rng = np.random.default_rng(0)
    herded = distance(herd(pool, demand.mean, 100))
    at_random = [
        distance(rng.choice(len(pool), 100, replace=False, p=demand.weights / demand.weights.sum())) for _ in range(20)
    ]
    assert herded < 0.2 * min(at_random)
    # It brings what is chosen nearer to the mean, and chooses none of it again.
    first = cover(pool, demand, 70, rng)
    more = herd(pool, demand.mean, 30, start=first)
    assert not set(first.tolist()) & set(more.tolist())
    assert distance(np.concatenate([first, more])) < 0.5 * distance(cover(pool, demand, 100, rng))


def test_herding_takes_the_best_next_text(pool, demand):
    picks = herd(pool, demand.mean, 10).tolist()
    for number in range(10):
        total = pool[picks[:number]].sum(axis=0, dtype=np.float64)
        distances = np.linalg.norm((total + pool) / (number + 1) - demand.mean, axis=1)
        distances[picks[:number]] = np.inf
        assert distances[picks[number]] <= distances.min() + 1e-6


def test_a_demand_of_few_places_is_all_of_them(pool, rng):
    weights = np.arange(len(pool), dtype=np.float64)
    demand = Demand.of(pool, weights, rng, most=len(pool))
    assert np.array_equal(demand.vectors, pool[1:]) and np.array_equal(demand.weights, weights[1:])
    assert len(Demand.of(pool, np.eye(len(pool))[3], rng, most=20).vectors) == 1
    with pytest.raises(ValueError, match="most is 0; expected 1 or more"):
        Demand.of(pool, weights, rng, most=0)


def test_a_demand_of_many_places_stands_for_the_whole(pool):
    """Each place comes as often as its weight says, within 1; the heaviest 100 would hold less than half."""
    weights = 1 / (10.0 + np.arange(len(pool)))
    share = weights / weights.sum()
    total = np.zeros(len(pool))
    for seed in range(200):
        demand = Demand.of(pool, weights, np.random.default_rng(seed), most=100)
        at = {row.tobytes(): place for place, row in enumerate(pool)}
        places = [at[row.tobytes()] for row in demand.vectors]
        assert demand.weights.sum() == 100
        assert (np.abs(demand.weights - 100 * share[places]) < 1).all()
        total[places] += demand.weights
    # A draw's count of a place is 0 or 1 more than it must be: of 200, a standard error of at most 1/2 sqrt(200).
    assert np.abs(total - 200 * 100 * share).max() < 4 * 0.5 * np.sqrt(200)
    assert share[:100].sum() < 0.5


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="weights are negative, all zero, or not finite"):
        Demand(vectors=np.eye(2, dtype=np.float32), weights=np.array(weights))
    with pytest.raises(ValueError, match=r"weights have shape \(2,\); expected one for each of 3"):
        Demand(vectors=np.eye(3, dtype=np.float32), weights=np.array(weights))


def test_more_than_there_are(pool, demand, rng):
    for choose in (
        lambda k, start: cover(pool, demand, k, rng, start=start),
        lambda k, start: herd(pool, demand.mean, k, start=start),
    ):
        with pytest.raises(ValueError, match="k is 1501; expected 1 to 1500"):
            choose(1501, None)
        with pytest.raises(ValueError, match="k is 0; expected 1 to 1500"):
            choose(0, None)
        with pytest.raises(ValueError, match="k is 1499; expected 1 to 1498"):
            choose(1499, np.array([1, 2]))
