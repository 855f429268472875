"""The true answer of a device, before privatization. Tolerances are five standard errors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from device_poll.answering import AnswerRule, _sample_items, answer
from device_poll.population import DeviceUnit, Population, PopulationError, device_codes
from embed.compact import compact

SLATE = compact(np.eye(8, dtype=np.float32))


def population(embeddings: NDArray[np.float32], sizes: list[int]) -> Population:
    return Population(
        embeddings=embeddings.astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        device_ids=tuple(f"device {i}" for i in range(len(sizes))),
        unit=DeviceUnit.USER,
    )


def sampled(sizes: list[int], rule: AnswerRule, *, seed: int = 0, round: int = 0) -> list[list[int]]:
    """For each device the age of its sampled items: 0 is its latest."""
    people = population(np.ones((sum(sizes), 1)), sizes)
    devices = np.arange(len(sizes))
    rows, owner = _sample_items(people, devices, rule, seed=seed, round=round)
    ages = people.offsets[owner + 1] - 1 - rows
    return [ages[owner == device].tolist() for device in devices]


@pytest.mark.parametrize("items", [1, 2, 4])
def test_only_recent_items_are_sampled_without_replacement(items: int) -> None:
    sizes = [1, 2, 3, 4, 5, 9, 30] * 50
    for size, ages in zip(sizes, sampled(sizes, AnswerRule(recent=4, items=items)), strict=True):
        assert len(ages) == len(set(ages)) == min(items, size)
        assert set(ages) <= set(range(min(4, size)))


def test_sampling_is_uniform_over_the_recent_items() -> None:
    n, recent, items = 20_000, 5, 2
    ages = np.array(sampled([8] * n, AnswerRule(recent=recent, items=items)))
    p = items / recent  # each recent item is in the sample with this probability
    counts = np.bincount(ages.ravel(), minlength=8)
    assert np.abs(counts[:recent] - n * p).max() < 5 * np.sqrt(n * p * (1 - p))
    assert counts[recent:].sum() == 0
    pairs = np.bincount(np.sort(ages, axis=1) @ [recent, 1], minlength=recent**2).reshape(recent, recent)
    q = 2 / (recent * (recent - 1))
    upper = pairs[np.triu_indices(recent, 1)]
    assert upper.sum() == n
    assert np.abs(upper - n * q).max() < 5 * np.sqrt(n * q * (1 - q))


def test_negative_control_the_uniformity_test_would_see_a_skew() -> None:
    n = 20_000
    skewed = np.random.default_rng(0).binomial(n, 0.2 * 1.1)  # 10% too often
    assert abs(skewed - n * 0.2) > 5 * np.sqrt(n * 0.2 * 0.8)


def test_samples_differ_between_rounds_and_seeds_and_repeat() -> None:
    rule = AnswerRule(recent=10, items=1)
    first = sampled([10] * 100, rule)
    assert sampled([10] * 100, rule) == first
    assert sampled([10] * 100, rule, round=1) != first
    assert sampled([10] * 100, rule, seed=1) != first


def test_the_nearest_candidate_and_none_below_the_threshold() -> None:
    half = np.sqrt(0.5)
    vectors = np.zeros((4, 8))
    vectors[0, 5] = 1.0  # cosine 1 with candidate 5
    vectors[1, [2, 6]] = half  # equally near to 2 and 6: the lower one
    vectors[2, :] = 1 / np.sqrt(8)  # cosine 0.35 with all
    vectors[3, 3] = -1.0  # cosine 0 with all others
    people = population(vectors, [1, 1, 1, 1])
    devices = np.array([3, 1, 0, 2])
    for none_below, expected in [
        (0.3, [8, 2, 5, 0]),
        (0.36, [8, 2, 5, 8]),
        (0.8, [8, 8, 5, 8]),
        (1.0, [8, 8, 5, 8]),
        (-1.0, [0, 2, 5, 0]),
    ]:
        answers = answer(people, devices, SLATE, AnswerRule(none_below=none_below), seed=0, round=0)
        assert answers.values.tolist() == expected
        np.testing.assert_allclose(answers.similarity, [0, half, 1, 1 / np.sqrt(8)], rtol=0, atol=1e-6)


def test_the_best_of_several_items_wins() -> None:
    vectors = np.zeros((3, 8))
    vectors[0, [0, 1, 2]] = [0.8, 0.36, 0.48]
    vectors[1, [4, 1]] = [0.96, 0.28]  # the best match of the three
    vectors[2, [7, 6]] = [0.8, 0.6]
    people, device = population(vectors, [3]), np.array([0])
    best = [answer(people, device, SLATE, AnswerRule(recent=3, items=3), seed=s, round=0) for s in range(20)]
    assert {int(a.values[0]) for a in best} == {4}
    codes = device_codes(people.embeddings[1:2]).astype(float)
    assert best[0].similarity[0] == pytest.approx(codes[0, 4] / np.linalg.norm(codes), abs=1e-12)
    # Negative control: a device that looks at one item answers by whichever it drew.
    one = {
        int(answer(people, device, SLATE, AnswerRule(recent=3, items=1), seed=s, round=0).values[0]) for s in range(40)
    }
    assert one == {0, 4, 7}


def test_equally_good_items_give_the_lowest_candidate() -> None:
    people = population(np.eye(8)[[6, 1, 4]], [3])
    answers = answer(people, np.array([0]), SLATE, AnswerRule(recent=3, items=3), seed=0, round=0)
    assert answers.values.tolist() == [1]


def test_many_devices_answer_as_each_would_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, size=300).tolist()
    vectors = rng.normal(size=(sum(sizes), 8))
    people = population(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), sizes)
    devices = rng.permutation(300)[:200]
    # All items of every device are looked at, so no sampling is left.
    answers = answer(people, devices, SLATE, AnswerRule(recent=5, items=5, none_below=0.8), seed=0, round=0)
    for device, value, similarity in zip(devices, answers.values, answers.similarity, strict=True):
        codes = device_codes(people.embeddings[people.offsets[device] : people.offsets[device + 1]]).astype(float)
        cosines = codes / np.linalg.norm(codes, axis=1, keepdims=True)  # the candidates are the axes
        assert similarity == pytest.approx(cosines.max(), abs=1e-9)
        assert value == (cosines.max(axis=0).argmax() if cosines.max() >= 0.8 else 8)
    assert 0 < (answers.values == 8).sum() < 200


def test_no_devices_no_answers() -> None:
    answers = answer(population(np.eye(8), [8]), np.array([], np.int64), SLATE, AnswerRule(), seed=0, round=0)
    assert len(answers.values) == len(answers.similarity) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"items": 0}, "answer.items is 0"),
        ({"items": 3, "recent": 2}, "answer.items is 3 and answer.recent 2"),
        ({"none_below": 1.5}, "answer.none_below is 1.5"),
    ],
)
def test_bad_rules(fields: dict[str, float], message: str) -> None:
    with pytest.raises(PopulationError, match=message):
        AnswerRule(**fields)
