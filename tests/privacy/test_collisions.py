"""Collisions of sketches: taken out where they are known, in the tails where they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm

from privacy.collision_tails import CollisionTail
from privacy.count_mean_sketch import CountMeanSketch
from privacy.hadamard_sketch import HadamardCountMeanSketch
from privacy.hashing import hash_strings

SKETCHES = [CountMeanSketch, HadamardCountMeanSketch]


def tail(**changes: Any) -> CollisionTail:
    return CollisionTail(**{"jump": 1.5, "rows": 256, "columns": 1024, "reports": 10**9, "success": 0.5} | changes)


# Tails


@pytest.mark.parametrize("jump", [0.0, 0.3, 1.5, 4.0])
@pytest.mark.parametrize("values", [1, 3, 8, 100])
def test_no_way_to_hold_the_squares_has_a_larger_tail(jump: float, values: int) -> None:
    """Against the exact law of so many equally frequent values, also of 3 and of 100, which are not tried."""
    errors = np.array([1.0, 2, 3, 4, 5, 6, 8])
    claimed = tail(jump=jump).at_least(errors)
    collisions = np.arange(200)
    shifts = jump / np.sqrt(values) * (collisions - values * 256 / 1024)
    exact = norm.sf(errors[:, None] - shifts) @ binom.pmf(collisions, values * 256, 1 / 1024)
    allowed = 1.1 if values == 3 else 1.001  # between two profiles that are tried, the tail may be a little larger
    assert (exact <= allowed * claimed).all()
    if values in (1, 8):
        assert (claimed <= 300 * exact).all(), "a bound, but no empty one"


def test_negative_control_a_normal_tail_of_the_same_variance_is_far_too_small() -> None:
    deviation = np.sqrt(1 + 4.0**2 * 256 / 1024)
    assert tail(jump=4.0).at_least(np.array([12.0]))[0] > 1000 * norm.sf(12 / deviation)


def test_without_unknown_values_it_is_the_tail_of_the_noise() -> None:
    errors = np.array([-1.0, 0, 2, 5])
    np.testing.assert_allclose(tail(jump=0.0).at_least(errors), norm.sf(errors), rtol=1e-9)
    few = tail(jump=0.0, reports=1000, success=0.004)  # 4 expected
    at = 4 + np.sqrt(4 * 0.996) * np.array([1.0, 3.0, 6.0])
    whole = np.ceil(at)
    found = few.at_least((whole - 4) / np.sqrt(4 * 0.996))
    np.testing.assert_allclose(found, binom.sf(whole - 1, 1000, 0.004), rtol=2e-3)


def test_many_errors_are_interpolated_to_the_same_tail_and_the_quantile_is_its_inverse() -> None:
    few, many = np.array([-3.0, 0.123, 2.718, 7.9, 9.5]), np.linspace(-9, 12, 5000)
    np.testing.assert_allclose(
        tail().at_least(np.concatenate([few, many]))[:5], tail().at_least(few), rtol=1e-3, atol=1e-300
    )
    for chance in (0.4, 0.025, 1e-6, 1e-10):
        assert tail().at_least(np.array([tail().quantile(chance)]))[0] == pytest.approx(chance, rel=1e-3)


# Joint estimates


def errors_of(sketch: Any, truth: np.ndarray, unlisted: np.ndarray, polls: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors and claimed standard errors, float64[polls, d], for one fixed hash family."""
    values = hash_strings([f"{i}" for i in range(len(truth))])
    others = hash_strings([f"other {i}" for i in range(len(unlisted))])
    rng, errors, stderr = np.random.default_rng(3), [], []
    for _ in range(polls):
        tally = sketch.simulate_tally(np.append(truth, unlisted), rng, np.append(values, others))
        found = sketch.estimate_jointly(tally, values)
        errors.append(found.counts - truth)
        stderr.append(found.stderr)
    return np.array(errors), np.array(stderr)


@pytest.mark.parametrize("sketch", SKETCHES)
def test_joint_estimates_are_unbiased_for_the_very_family(sketch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means over 300 polls within 5 of their standard errors, for all 60 values; claimed variances within 15%."""
    mechanism = sketch(epsilon=4.0, rows=64, columns=32, hash_seed=1)
    truth = np.zeros(60, dtype=np.int64)
    truth[:4] = [9000, 6000, 2500, 300]
    errors, stderr = errors_of(mechanism, truth, np.zeros(0, dtype=np.int64), 300)
    scores = np.abs(errors.mean(axis=0)) / (errors.std(axis=0, ddof=1) / np.sqrt(300))
    assert scores.max() < 5
    assert (errors**2 / stderr**2).mean() == pytest.approx(1, abs=0.15)
    # Negative control: each by itself, values that collide with the frequent ones are too large in every poll.
    monkeypatch.setattr(sketch, "estimate_jointly", sketch.estimate)
    errors, _ = errors_of(mechanism, truth, np.zeros(0, dtype=np.int64), 50)
    assert (np.abs(errors.mean(axis=0)) / (errors.std(axis=0, ddof=1) / np.sqrt(50))).max() > 20


def test_frequent_values_behind_a_more_frequent_one_are_found_once_it_is_taken_out() -> None:
    """With a value that 90% hold, the standard error of each by itself is too large for the second to stand out."""
    mechanism = HadamardCountMeanSketch(epsilon=4.0, rows=256, columns=1024, hash_seed=4)
    values = hash_strings([f"{i}" for i in range(300)])
    truth = np.zeros(300, dtype=np.int64)
    truth[:2] = 19_800_000, 150_000
    tally = mechanism.simulate_tally(truth, np.random.default_rng(0), values)
    alone, joint = mechanism.estimate(tally, values), mechanism.estimate_jointly(tally, values)
    model = mechanism.collisions
    assert model.heavy(alone).tolist() == [0] and model.heavy(joint).tolist() == [0, 1]
    assert joint.null_unknown[1] > joint.unknown, "the second was taken out, too"
    assert joint.stderr[5] < alone.stderr[5] / 5
    assert (np.abs(joint.counts - truth) < 5 * joint.stderr).all()


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_in_a_sketch_of_few_rows_a_value_that_is_not_told_from_a_frequent_one_is_no_discovery(rows: int) -> None:
    """Of 300 names, one in 16 has all cells in common with a name that 90% hold, if there is one row."""
    values, found = hash_strings([f"{i}" for i in range(300)]), []
    truth = np.zeros(300, dtype=np.int64)
    truth[0] = 9000
    for family in range(20):
        mechanism = CountMeanSketch(epsilon=4.0, rows=rows, columns=16, hash_seed=family)
        tally = mechanism.simulate_tally(truth, np.random.default_rng(family), values)
        estimate = mechanism.estimate_jointly(tally, values)
        assert np.isfinite(estimate.counts).all() and np.isfinite(estimate.stderr).all()
        found.append((estimate.p_values()[1:] < 1e-4).sum())
    assert sum(found) <= 5  # 5,980 p-values, 0.6 expected: 5 are 5.7 standard errors
